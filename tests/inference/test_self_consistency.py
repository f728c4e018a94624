"""What steps there and back and depths of neighbours say of each other: closed forms on a plane and on the drive."""

import math

import numpy as np
import pytest
import torch

from egoflow.geometry.camera import Camera
from egoflow.geometry.se3 import SE3
from egoflow.inference.self_consistency import SelfConsistency, depth_log_ratio
from egoflow.inference.stream import FramePrediction

CAMERA = Camera.create(20, 20, 11.5, 7.5, height=16, width=24)


def ahead(length: float, *, yaw_rad: float = 0.0) -> SE3:
    """Return next_from_this of a camera that goes forward and turns."""
    return SE3.exp(torch.tensor([0.0, 0.0, -length, 0.0, yaw_rad, 0.0], dtype=torch.float64))


def wall(depth: float) -> np.ndarray:
    """Return the inverse depth of a wall across the view."""
    return np.full((16, 24), 1 / depth, np.float32)


def frame(index: int, *, inv_depth: np.ndarray | None = None, to_next: SE3 | None = None,
          to_previous: SE3 | None = None) -> FramePrediction:
    return FramePrediction(index=index, image=np.zeros((16, 24, 3), np.uint8), inv_depth=inv_depth,
                           next_from_this=to_next, previous_from_this=to_previous)


def test_depths_of_one_scale_agree_and_of_two_differ_by_their_logarithm() -> None:
    """The wall at 10 is at 8 after a step of 2; said to be at 8.8 it is a tenth too far: -log 1.1."""
    assert depth_log_ratio(wall(10), wall(8), camera=CAMERA, b_from_a=ahead(2)) == pytest.approx(0, abs=1e-6)
    found = depth_log_ratio(wall(10), wall(8.8), camera=CAMERA, b_from_a=ahead(2))
    assert found == pytest.approx(-math.log(1.1), abs=1e-6)


def test_the_unit_of_all_lengths_does_not_matter_and_nothing_in_view_is_nan() -> None:
    one = depth_log_ratio(wall(10), wall(9), camera=CAMERA, b_from_a=ahead(2))
    other = depth_log_ratio(wall(30), wall(27), camera=CAMERA, b_from_a=ahead(6))
    assert one == pytest.approx(other, abs=1e-6)
    assert math.isnan(depth_log_ratio(wall(10), wall(10), camera=CAMERA, b_from_a=ahead(11)))


def test_a_perfect_stream_has_zeros() -> None:
    found = SelfConsistency(CAMERA)
    for i in range(5):
        found.add(frame(i, inv_depth=wall(20 - i), to_next=ahead(1), to_previous=ahead(-1)))
    figures = found.figures()
    assert all(value == pytest.approx(0, abs=1e-6) for value in figures.values())
    assert "self-consistency" in found.line()


def test_a_scale_that_drifts_shows_in_the_depths() -> None:
    """A camera at rest whose depths grow faster and faster."""
    found = SelfConsistency(CAMERA)
    for i in range(5):
        found.add(frame(i, inv_depth=wall(20 * math.exp(0.015 * i * i)), to_next=ahead(0), to_previous=ahead(0)))
    ratios = [-0.015 * ((i + 1) ** 2 - i * i) for i in range(4)]
    figures = found.figures()
    assert figures["depth_ratio_mean"] == pytest.approx(np.mean(ratios), abs=1e-6)
    assert figures["depth_ratio_spread"] == pytest.approx(np.std(ratios), abs=1e-6)


def test_steps_that_do_not_lead_back() -> None:
    """One forward; back it is 1.5 and a turn of 2 degrees: the first step turned, and 1.5 the other way, are left."""
    found = SelfConsistency(CAMERA)
    back = SE3(ahead(0, yaw_rad=math.radians(2)).R, torch.tensor([0, 0, 1.5], dtype=torch.float64))
    for i in range(3):
        found.add(frame(i, to_next=ahead(1), to_previous=back))
    left = math.hypot(math.sin(math.radians(2)), 1.5 - math.cos(math.radians(2)))
    assert found.figures() == {"return_deg": pytest.approx(2), "return_share": pytest.approx(left / 1.25),
                               "depth_ratio_mean": None, "depth_ratio_spread": None}
    assert found.line().startswith("self-consistency: a step there and back leaves 2.000 deg")


def test_nothing_is_said_without_motion() -> None:
    found = SelfConsistency(CAMERA)
    for i in range(3):
        found.add(frame(i, inv_depth=wall(5)))
    assert set(found.figures().values()) == {None}
    assert found.line() == ""
