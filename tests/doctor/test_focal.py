"""The focal length of turning cameras is found, and that of others is not claimed."""

import numpy as np
import pytest
import torch

from doctor.footage import hand_held
from egoflow.doctor.focal import estimate_focal
from egoflow.doctor.pairs import PairReport, sampled_pairs
from egoflow.geometry.camera import Camera
from egoflow.geometry.se3 import SE3, rotation_exp
from egoflow.geometry.two_view import PairGeometry

HEIGHT, WIDTH = 200, 300


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_turning_cameras_show_their_focal_length(seed: int) -> None:
    """Within 5 % of the truth, whatever camera is taken to begin with."""
    clip = hand_held(seed)
    true, start = float(clip.camera.fx), (0.7, 1.0, 1.4)[seed]
    taken = Camera.create(start * true, start * true, float(clip.camera.cx), float(clip.camera.cy),
                          height=clip.camera.height, width=clip.camera.width)
    found = estimate_focal(sampled_pairs(clip, [range(len(clip))], taken), taken, most_movers=1.0)
    assert found.observable, found.reason
    assert found.focal_px == pytest.approx(true, rel=0.05)
    assert found.low_px * 0.95 < true < found.high_px * 1.05
    assert found.low_px <= found.focal_px <= found.high_px


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_cameras_that_only_translate_do_not(seed: int) -> None:
    clip = hand_held(seed, turn_deg=0.0)
    found = estimate_focal(sampled_pairs(clip, [range(len(clip))], clip.camera), clip.camera)
    assert not found.observable
    assert found.reason
    assert found.json()["focal_px"] is None


def exact_pair(number: int, *, turn_rad: float, focal: float, asked: float, rolls: bool = False) -> PairReport:
    """Return exact matches of a camera of focal length ``focal`` that is taken to have ``asked``; ``rolls``: about its
    axis."""
    random = np.random.default_rng(number)
    points = torch.from_numpy(random.uniform((-4, -3, 4), (4, 3, 20), (500, 3)))
    turn = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64) if rolls else torch.from_numpy(random.normal(size=3))
    motion = SE3(rotation_exp(turn / turn.norm() * turn_rad), torch.from_numpy(random.normal(size=3) * 0.3))
    moved = motion.apply(points)
    centre = torch.tensor([(WIDTH - 1) / 2, (HEIGHT - 1) / 2], dtype=torch.float64)
    xy_a, xy_b = ((p[:, :2] / p[:, 2:] * focal + centre).numpy() for p in (points, moved))
    camera = Camera.create(asked, asked, float(centre[0]), float(centre[1]), height=HEIGHT, width=WIDTH)
    direction = (motion.t / motion.t.norm()).numpy()
    geometry = PairGeometry(flow_ab=np.zeros((HEIGHT, WIDTH, 2)), usable=np.ones((HEIGHT, WIDTH), bool),
                            rotation=motion.R.numpy(), direction=direction, weight=1.0, motion_px=5.0, parallax_px=3.0)
    return PairReport(a=number, b=number + 1, geometry=geometry, camera=camera, usable=1.0, movers=0.0,
                      texture=np.ones((HEIGHT, WIDTH), bool), unmoved=np.zeros((HEIGHT, WIDTH), bool), xy_a=xy_a,
                      xy_b=xy_b)


def test_exact_matches_give_the_focal_length() -> None:
    """Five degrees of turning: 1 % (the grid of focal lengths and its parabola)."""
    pairs = [exact_pair(k, turn_rad=0.087, focal=260.0, asked=180.0) for k in range(8)]
    found = estimate_focal(pairs, pairs[0].camera)
    assert found.observable
    assert found.focal_px == pytest.approx(260.0, rel=0.01)
    # At the size of larger frames it is as much larger.
    large = pairs[0].camera.resized(height=4 * HEIGHT, width=4 * WIDTH)
    assert estimate_focal(pairs, large).focal_px == pytest.approx(4 * found.focal_px)


def test_exact_translations_fit_every_focal_length() -> None:
    """The exact family of Gordon 2019: costs are flat, to the last digit that the search reaches."""
    pairs = [exact_pair(k, turn_rad=0.0, focal=260.0, asked=180.0) for k in range(8)]
    found = estimate_focal(pairs, pairs[0].camera)
    assert not found.observable
    assert found.costs.max() < 1e-6


def test_a_roll_is_no_turn() -> None:
    """The same under every focal length: twelve degrees of it show none."""
    pairs = [exact_pair(k, turn_rad=0.2, focal=260.0, asked=180.0, rolls=True) for k in range(8)]
    found = estimate_focal(pairs, pairs[0].camera)
    assert found.turn_deg < 0.1
    assert not found.observable
    assert "hardly turns" in found.reason


def test_five_pairs_are_too_few() -> None:
    pairs = [exact_pair(k, turn_rad=0.1, focal=260.0, asked=260.0) for k in range(5)]
    found = estimate_focal(pairs, pairs[0].camera)
    assert not found.observable
    assert "only 5 pairs" in found.reason
