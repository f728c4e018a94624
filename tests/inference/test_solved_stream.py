"""Solved motion in a stream: classical geometry of the full frames, whatever size the method works at."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from egoflow.config import DataConfig, MotionMode, Run
from egoflow.geometry.se3 import SE3, rotation_angle, rotation_exp
from egoflow.inference.neighbour_views import NeighbourViews
from egoflow.inference.path import PathBuilder
from egoflow.inference.stream import predict_stream
from egoflow.types import Clip, Prediction
from egoflow.worlds.base import load_world
from inference.stubs import Oracle

FRAMES = 4
WORLD = load_world("drive", seed=5, frames=FRAMES, height=96, width=288, movers=0, samples=1)
SMALL = Run(method="stub", config=None, data=DataConfig(height=24, width=72))


class HalfBlind(Oracle):
    """Know the depth at a quarter of the size, and of the motion nothing."""

    def predict(self, clip: Clip) -> Prediction:
        """Return the true depth and half a degree of rotation that is not there."""
        known = super().predict(clip)
        depth = 1 / known.inv_depth[clip.target][0]
        wrong = SE3(rotation_exp(torch.full((1, 3), 0.01)), torch.tensor([[0.3, 0.0, 0.0]]))
        return Prediction(inv_depth={clip.target: [1 / depth[..., ::4, ::4].clamp_max(80.0)]},
                          motion=dict.fromkeys(known.motion, wrong))


def steps(mode: MotionMode) -> list[tuple[SE3, SE3]]:
    """Return the predicted and the true motion of every frame to the next, and then to the one before."""
    method = HalfBlind(WORLD).eval().use_motion(mode)
    found = []
    for frame in predict_stream(method, SMALL, WORLD):
        here = WORLD.truth(frame.index).world_from_cam
        for other, motion in ((frame.index + 1, frame.next_from_this), (frame.index - 1, frame.previous_from_this)):
            assert (motion is None) == (not 0 <= other < FRAMES)
            if motion is not None:
                found.append((motion, WORLD.truth(other).world_from_cam.inverse() @ here))
    assert len(found) == 2 * (FRAMES - 1)
    return found


def turned_deg(mode: MotionMode) -> float:
    """Return the largest rotation error."""
    return max(float(torch.rad2deg(rotation_angle(motion.R.mT @ true.R.double()))) for motion, true in steps(mode))


def test_the_mode_net_is_what_the_network_says() -> None:
    for motion, _ in steps("net"):
        assert motion.t.tolist() == pytest.approx([0.3, 0.0, 0.0])


@pytest.mark.parametrize(("mode", "limit_deg"), [("solved", 0.05), ("refined", 0.15)])
def test_full_frames_give_the_motion_at_a_quarter_of_the_size(mode: MotionMode, limit_deg: float) -> None:
    """Flow at 24x72 would be a guess: the pictures themselves are read at 96x288."""
    assert turned_deg(mode) < limit_deg < turned_deg("net")
    for motion, true in steps(mode):
        assert float(motion.t.norm() / true.t.norm()) == pytest.approx(1, abs=0.1)
        assert float(motion.t @ true.t.double()) > 0


def test_every_pair_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    from egoflow.inference import neighbour_views

    real = neighbour_views.classical_views
    monkeypatch.setattr(neighbour_views, "classical_views", lambda *of: asked.append(1) or real(*of))
    views = NeighbourViews(WORLD.camera)
    images = [WORLD.image(i) for i in range(3)]
    forward = views(0, images[0], 1, images[1])
    back = views(1, images[1], 0, images[0])
    assert len(asked) == 1
    torch.testing.assert_close(back.b_from_a.R, forward.b_from_a.R.mT)
    views(1, images[1], 2, images[2])
    assert len(asked) == 2


def test_lengths_of_neighbouring_steps_are_tied_by_what_both_see() -> None:
    frames = list(predict_stream(HalfBlind(WORLD).eval().use_motion("solved"), SMALL, WORLD))
    places = [WORLD.truth(index).world_from_cam.t for index in range(FRAMES)]
    true = [float((b - a).norm()) for a, b in pairwise(places)]
    assert frames[0].length_ratio is None
    assert frames[-1].length_ratio is None
    for before, after, frame in zip(true[:-1], true[1:], frames[1:-1], strict=True):
        assert frame.length_ratio is not None
        assert frame.length_ratio.log == pytest.approx(math.log(after / before), abs=0.05)

    def off(ratio: bool) -> float:
        """Return how far lengths of the path are off, one factor apart, when every other step is 20 % too long."""
        path = PathBuilder()
        for k, frame in enumerate(frames):
            on, back = (None if step is None else step.scaled(1.2 if place % 2 else 1.0) for step, place in (
                (frame.next_from_this, k), (frame.previous_from_this, k - 1)))
            path.add(replace(frame, next_from_this=on, previous_from_this=back,
                             length_ratio=frame.length_ratio if ratio else None))
        found = path.trajectory(range(FRAMES), np.arange(FRAMES) * 0.1)
        assert found is not None
        steps = (found.world_from_cam.t[1:] - found.world_from_cam.t[:-1]).norm(dim=1)
        return float((steps / torch.tensor(true)).log().std())

    assert off(ratio=True) < 0.4 * off(ratio=False)
