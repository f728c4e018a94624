"""Epipolar geometry against projected points, closed forms and Monte Carlo."""

import numpy as np
import pytest
import torch

from egoflow.errors import DataError
from egoflow.geometry.camera import Camera
from egoflow.geometry.epipolar import (
    depth_from_expansion,
    derotated,
    epipolar_lines,
    epipoles,
    estimate_fundamental,
    focus_of_expansion,
    fundamental_matrix,
    homogeneous,
    line_distance,
    project_on_lines,
    scaled_fundamental,
)
from egoflow.geometry.se3 import SE3

CAMERA = Camera.create(300.0, 310.0, 255.3, 190.1, height=384, width=512)
MOTIONS = {"general": (0.3, -0.1, -0.6, 0.02, -0.05, 0.03), "forward": (0.0, 0.0, -0.5, 0.0, 0.0, 0.0),
           "sideways": (0.4, 0.0, 0.0, 0.0, 0.0, 0.0), "sideways, turned": (0.4, 0.1, 0.0, 0.0, 0.0, 0.3)}


def motion(name: str) -> SE3:
    return SE3.exp(torch.tensor(MOTIONS[name], dtype=torch.float64))


def pixels(camera: Camera, points: torch.Tensor) -> np.ndarray:
    xy, in_front = camera.to(torch.float64).project(points[None, None])
    assert bool(in_front.all())
    return xy[0, 0].numpy()


def scene_points(count: int = 200, *, seed: int = 0) -> torch.Tensor:
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.uniform((-4, -3, 4), (4, 3, 20), (count, 3)))


def matches(name: str, camera: Camera = CAMERA) -> tuple[np.ndarray, np.ndarray]:
    points = scene_points()
    return pixels(camera, points), pixels(camera, motion(name).apply(points))


@pytest.mark.parametrize("name", MOTIONS)
@pytest.mark.parametrize("halvings", range(5))
def test_projected_points_lie_on_their_lines_at_every_scale(name: str, halvings: int) -> None:
    scale = 0.5**halvings
    fundamental = scaled_fundamental(fundamental_matrix(CAMERA, motion(name)), scale)
    xy_a, xy_b = ((xy + 0.5) * scale - 0.5 for xy in matches(name))
    assert abs((homogeneous(xy_b) @ fundamental * homogeneous(xy_a)).sum(1)).max() < 1e-8
    assert line_distance(fundamental, xy_a, xy_b).max() < 1e-8


@pytest.mark.parametrize("halvings", range(5))
def test_scaling_the_matrix_is_scaling_the_camera(halvings: int) -> None:
    small = CAMERA.to(torch.float64).resized(height=384 >> halvings, width=512 >> halvings)
    scaled = scaled_fundamental(fundamental_matrix(CAMERA.to(torch.float64), motion("general")), 0.5**halvings)
    assert np.allclose(scaled, fundamental_matrix(small, motion("general")), atol=1e-12)


def test_without_the_offset_of_pixel_centres_the_lines_are_off() -> None:
    """The public code's slip 1, and the reason for the offset: diag(8, 8, 1) is off by parts of a pixel."""
    fundamental, scale = fundamental_matrix(CAMERA, motion("general")), np.diag([8.0, 8, 1])
    xy_a, xy_b = ((xy + 0.5) / 8 - 0.5 for xy in matches("general"))
    assert line_distance(scale @ fundamental @ scale, xy_a, xy_b).max() > 0.02
    assert line_distance(scaled_fundamental(fundamental, 1 / 8), xy_a, xy_b).max() < 1e-8


@pytest.mark.parametrize("name", MOTIONS)
def test_epipoles_are_null_vectors_and_scale_with_the_image(name: str) -> None:
    fundamental = fundamental_matrix(CAMERA, motion(name))
    e_a, e_b = epipoles(fundamental)
    assert abs(fundamental @ e_a).max() < 1e-12
    assert abs(fundamental.T @ e_b).max() < 1e-12
    sideways = name.startswith("sideways")
    assert (abs(e_b[2] / e_b[0]) < 1e-9) == sideways
    if not sideways:
        # The epipole in b is where a's centre is seen: at the projection of t.
        centre = motion(name).t
        at_b = e_b[:2] / e_b[2]
        sign = -1 if centre[2] < 0 else 1
        assert np.allclose(at_b, pixels(CAMERA, sign * centre[None])[0], atol=1e-6)
        _, small = epipoles(scaled_fundamental(fundamental, 0.25))
        assert np.allclose(small[:2] / small[2], (at_b + 0.5) / 4 - 0.5, atol=1e-6)


def test_projection_on_a_line_needs_no_epipole() -> None:
    fundamental = fundamental_matrix(CAMERA, motion("sideways"))
    xy = np.array([[10.0, 20], [300, 200]])
    lines = epipolar_lines(fundamental, xy)
    assert np.allclose(project_on_lines(lines, xy + (7, 3)), xy + (7, 0), atol=1e-9)
    assert np.allclose(project_on_lines(5 * lines, xy + (7, 3)), xy + (7, 0), atol=1e-9)
    diagonal = np.array([[1.0, -1, 0]])
    assert np.allclose(project_on_lines(diagonal, np.array([[4.0, 0]])), [[2, 2]])


def test_at_the_epipole_every_point_is_as_good() -> None:
    fundamental = fundamental_matrix(CAMERA, motion("general"))
    e_a, _ = epipoles(fundamental)
    lines = epipolar_lines(fundamental, (e_a[:2] / e_a[2])[None])
    assert np.allclose(project_on_lines(np.zeros((1, 3)), np.array([[3.0, 4]])), [[3, 4]])
    assert np.isfinite(lines).all()


def test_a_motion_without_translation_is_refused() -> None:
    with pytest.raises(DataError, match="no translation"):
        fundamental_matrix(CAMERA, SE3.identity(dtype=torch.float64))


def test_the_matrix_is_found_among_wrong_matches() -> None:
    xy_a, xy_b = matches("general")
    random = np.random.default_rng(1)
    xy_b = xy_b + random.normal(0, 0.1, xy_b.shape)
    wrong = np.arange(len(xy_b)) % 4 == 0
    xy_b[wrong] = random.uniform((0, 0), (512, 384), (wrong.sum(), 2))
    found = estimate_fundamental(xy_a, xy_b)
    assert found is not None
    assert line_distance(found, *matches("general"))[~wrong].max() < 0.5
    again = estimate_fundamental(xy_a, xy_b)
    assert again is not None
    assert np.array_equal(found, again)
    assert estimate_fundamental(xy_a[:14], xy_b[:14]) is None
    assert estimate_fundamental(xy_a, random.uniform((0, 0), (512, 384), xy_a.shape)) is None


@pytest.mark.parametrize("name", ["general", "forward"])
def test_derotated_flow_points_away_from_the_focus(name: str) -> None:
    b_from_a = motion(name)
    xy_a, xy_b = matches(name)
    still = derotated(xy_b, CAMERA, b_from_a)
    foe = focus_of_expansion(xy_a, still - xy_a)
    # The camera goes where t of a_from_b points.
    assert np.allclose(foe, pixels(CAMERA, b_from_a.inverse().t[None])[0], atol=1e-4)
    # Depth over how far the camera went along its own z axis at time a.
    depth = depth_from_expansion(xy_a, still, foe)
    assert np.allclose(depth * abs(float(b_from_a.inverse().t[2])), scene_points()[:, 2].numpy(), rtol=1e-4)


def test_the_focus_is_found_within_half_a_pixel_at_a_tenth_of_noise() -> None:
    worst = 0.0
    for seed in range(20):
        random = np.random.default_rng(seed)
        points = scene_points(500, seed=seed)
        xy_a = pixels(CAMERA, points)
        xy_b = pixels(CAMERA, points + torch.tensor([0.1, 0.05, -0.8], dtype=torch.float64))
        foe = focus_of_expansion(xy_a, xy_b - xy_a + random.normal(0, 0.1, xy_a.shape))
        true = pixels(CAMERA, torch.tensor([[-0.1, -0.05, 0.8]], dtype=torch.float64))[0]
        worst = max(worst, float(np.linalg.norm(foe - true)))
    assert worst < 0.5


def test_parallel_flow_meets_at_infinity_and_one_flow_says_nothing() -> None:
    xy = np.random.default_rng(0).uniform(0, 300, (40, 2))
    assert np.isinf(focus_of_expansion(xy, np.tile([3.0, 1.0], (40, 1)))).all()
    with pytest.raises(DataError, match="at least two"):
        focus_of_expansion(xy[:1], xy[:1])


def test_the_depth_ratio_of_the_lecture() -> None:
    """10 px from the focus, Z1 = 10, Tz = .5: x' = 10.526, ratios 20 (to view a) and 19 (to view b)."""
    near, far = np.array([[10.0, 0]]), np.array([[10 * 10 / 9.5, 0]])
    assert far[0, 0] == pytest.approx(10.526, abs=1e-3)
    assert depth_from_expansion(near, far, np.zeros(2))[0] == pytest.approx(20)
    assert np.linalg.norm(near) / np.linalg.norm(far - near) == pytest.approx(19)
    assert np.isinf(depth_from_expansion(near, near, np.zeros(2))).all()


@pytest.mark.parametrize(("depth", "forward", "radius"), [(10.0, 0.5, 100.0), (20.0, 0.5, 150.0), (10.0, 0.25, 200.0)])
def test_the_error_of_depth_grows_towards_the_focus(depth: float, forward: float, radius: float) -> None:
    """dZ / Z = sigma Z / (|Tz| r); exact to first order in Tz / Z and in the noise: 10 % covers both here."""
    random, sigma = np.random.default_rng(0), 0.1
    angle = random.uniform(0, 2 * np.pi, 20_000)
    xy_a = radius * np.stack((np.cos(angle), np.sin(angle)), 1)
    xy_b = xy_a * depth / (depth - forward) + random.normal(0, sigma, xy_a.shape)
    found = depth_from_expansion(xy_a, xy_b, np.zeros(2)) * forward
    expected = sigma * depth / (forward * radius)
    assert (found / depth - 1).std() == pytest.approx(expected, rel=0.1)
