"""Clouds and meshes from true depth lie on the true surface."""

import numpy as np
import pytest
import torch

from egoflow.geometry.camera import Camera
from egoflow.geometry.se3 import SE3, rotation_exp
from egoflow.inference.cloud import DISAGREE, CloudBuilder, disagreement, kept_pixels
from egoflow.inference.fusion import Volume

CAMERA = Camera.create(90.0, 92.0, 63.5, 47.0, height=96, width=128)
RADIUS, CENTRE = 1.0, np.array([0.0, 0.0, 4.0])


def rays() -> np.ndarray:
    """Return the ray of each pixel on the plane z = 1, [96, 128, 3]."""
    return CAMERA.rays(dtype=torch.float64)[0].numpy()


def looking(angle: float) -> SE3:
    """Return world_from_cam of a camera that looks at the sphere's centre from ``angle`` radians around it."""
    turn = SE3(rotation_exp(torch.tensor([0.0, angle, 0.0], dtype=torch.float64)), torch.zeros(3, dtype=torch.float64))
    to_centre = SE3(torch.eye(3, dtype=torch.float64), torch.from_numpy(CENTRE))
    return to_centre @ turn @ to_centre.inverse()


def sphere_depth() -> tuple[np.ndarray, np.ndarray]:
    """Return z-depth of the sphere from any of the cameras, and where it is hit."""
    d = rays()
    a, b, c = (d**2).sum(2), d @ CENTRE, float(CENTRE @ CENTRE) - RADIUS**2
    inside = b**2 - a * c
    return np.where(inside > 0, (b - np.sqrt(np.maximum(inside, 0))) / a, np.nan), inside > 0


def test_the_mesh_of_a_sphere_is_within_half_a_voxel() -> None:
    volume = Volume.around(CENTRE - 1.2, CENTRE + 1.2, most=48)
    depth, hit = sphere_depth()
    image = np.full((96, 128, 3), (200, 100, 50), np.uint8)
    for angle in np.linspace(0, 2 * np.pi, 12, endpoint=False):
        volume.add(depth, hit, image, CAMERA, looking(float(angle)))
    points, colours, faces = volume.mesh()
    assert len(points) > 1000
    distance = np.abs(np.linalg.norm(points - CENTRE, axis=1) - RADIUS)
    assert np.quantile(distance, 0.99) < 0.5 * volume.voxel
    assert (np.abs(colours.astype(int) - [200, 100, 50]) <= 1).all()
    # Triangles look outwards, to where the cameras were.
    corners = points[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    outwards = ((corners.mean(1) - CENTRE) * normals).sum(1) > 0
    assert outwards.mean() > 0.99


def test_the_mesh_of_a_plane_is_within_half_a_voxel() -> None:
    normal, offset = np.array([0.2, -0.1, 1.0]), 3.0
    depth = offset / (rays() @ normal)
    volume = Volume.around(np.array([-1.0, -1.0, 2.0]), np.array([1.0, 1.0, 4.0]), most=40)
    volume.add(depth, np.ones_like(depth, bool), np.zeros((96, 128, 3), np.uint8), CAMERA,
               SE3.identity(dtype=torch.float64))
    points, _, faces = volume.mesh()
    assert len(faces) > 500
    assert np.abs(points @ normal - offset).max() / np.linalg.norm(normal) < 0.5 * volume.voxel


def test_what_no_camera_saw_has_no_surface() -> None:
    volume = Volume.around(np.zeros(3), np.ones(3), most=8)
    points, _, faces = volume.mesh()
    assert len(points) == len(faces) == 0


def test_edges_and_far_points_are_left_out() -> None:
    depth = np.full((20, 30), 2.0)
    depth[:, 15:] = 8.0
    everywhere = np.ones_like(depth, bool)
    kept = kept_pixels(depth, everywhere, far=1.0)
    assert not kept[:, 14:16].any()
    assert kept[:, :14].all()
    assert kept[:, 16:].all()
    assert not kept_pixels(depth, everywhere, far=0.4)[:, 16:].any()
    assert not kept_pixels(depth, ~everywhere).any()


def test_hidden_points_disagree() -> None:
    depth = np.full((96, 128), 4.0)
    points = rays() * depth[..., None]
    still = SE3.identity(dtype=torch.float64)
    assert (disagreement(points, depth, CAMERA, still) < 1e-9).all()
    other = depth.copy()
    other[30:60, 40:80] = 2.0
    agreed = disagreement(points, other, CAMERA, still) < DISAGREE
    assert not agreed[30:60, 40:80].any()
    assert agreed.sum() == agreed.size - 30 * 40
    # Nothing speaks against what leaves the view.
    away = SE3(torch.eye(3, dtype=torch.float64), torch.tensor([100.0, 0.0, 0.0], dtype=torch.float64))
    assert np.isnan(disagreement(points, other, CAMERA, away)).all()


@pytest.mark.parametrize("batches", [1, 7])
def test_cells_hold_the_mean_of_their_points(batches: int) -> None:
    random = np.random.default_rng(1)
    points, colours = random.uniform(-1, 1, (700, 3)), random.integers(0, 256, (700, 3)).astype(np.uint8)
    builder = CloudBuilder(cell=0.5)
    for part, tint in zip(np.array_split(points, batches), np.array_split(colours, batches), strict=True):
        builder.add(part, tint)
    builder.add(np.zeros((0, 3)), np.zeros((0, 3), np.uint8))
    found, shades = builder.cloud()
    assert len(found) == 64
    cell = (np.floor(points / 0.5) == np.floor(found[0] / 0.5)).all(1)
    np.testing.assert_allclose(found[0], points[cell].mean(0))
    np.testing.assert_allclose(shades[0], colours[cell].mean(0), atol=0.51)
    assert len(builder.cloud(least=20)[0]) < 64
