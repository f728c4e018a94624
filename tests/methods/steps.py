"""Three steps of a rendered street, and what the two-view start says of them."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from egoflow.geometry.camera import Camera
from egoflow.geometry.se3 import SE3
from egoflow.methods.start import StartSchedule, with_start
from egoflow.types import Clip, LossTerms, Prediction, TwoView
from egoflow.worlds.base import load_world
from egoflow.worlds.truth import PairTruth

HEIGHT, WIDTH = 48, 144
STEPS = [(0, 1), (4, 5), (8, 10)]


@cache
def truth_of(a: int, b: int) -> PairTruth:
    return load_world("drive", seed=3, frames=12, height=HEIGHT, width=WIDTH, movers=0, samples=1).pair_truth(a, b)


def batched(motion: SE3) -> SE3:
    return SE3(motion.R.reshape(-1, 3, 3), motion.t.reshape(-1, 3)).to(torch.float32)


def joined(make: Callable[[PairTruth], Tensor]) -> Tensor:
    return torch.cat([make(truth_of(*step)) for step in STEPS])


@cache
def world_batch() -> tuple[Tensor, TwoView, SE3]:
    """Return the depth [3, 1, H, W] of three steps (the sky at 100 m), their two-view geometry and true motion."""
    motion = SE3.cat([batched(truth_of(*step).b_from_a) for step in STEPS])
    depth = joined(lambda t: t.depth_a).clamp_max(100.0)
    usable = joined(lambda t: t.visible_ab & t.valid_depth_a & (t.depth_a < 100))
    unit = motion.scaled(1 / motion.t.norm(dim=-1))
    flow = joined(lambda t: t.flow_ab)
    return depth, TwoView(flow_ab=flow, usable=usable, b_from_a=unit, weight=torch.ones(3)), motion


def camera() -> Camera:
    return truth_of(0, 1).camera.repeated(3)


def world_clip(view: TwoView) -> Clip:
    """Return a clip of grey images; the start never looks at them."""
    count = view.weight.shape[0]
    return Clip(images=torch.full((count, 2, 3, HEIGHT, WIDTH), 0.5), camera=camera()[:count],
                time_s=torch.zeros(count, 2), target=0, start={(0, 1): view})


def started(depth: Tensor, view: TwoView, motion: SE3 | None = None, *, progress: float = 0.0) -> LossTerms:
    """Return the terms of the start for a prediction of ``depth`` and ``motion``."""
    prediction = Prediction(inv_depth={0: [1 / depth]}, motion={} if motion is None else {(0, 1): motion})
    return with_start(LossTerms(), world_clip(view), prediction, progress, StartSchedule())


def bent(depth: Tensor) -> Tensor:
    """Return depth that is wrong in shape, not in scale: 30 % too far at the left, too near at the right."""
    return depth * torch.exp(torch.linspace(0.3, -0.3, WIDTH))
