"""A method that knows the truth of a rendered drive with movers, as a package of somebody's own would hold it."""

from dataclasses import dataclass
from functools import cache

import torch

from egoflow.config import STRICT, DataConfig, Run
from egoflow.geometry.pixels import resize_flow, resize_map
from egoflow.geometry.se3 import SE3
from egoflow.methods.base import Method
from egoflow.types import Clip, LossTerms, Prediction
from egoflow.worlds.base import World, load_world
from egoflow.worlds.truth import PairTruth

HEIGHT, WIDTH, FRAMES = 96, 320, 4


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which drive with 4 movers it knows, in a ``unit`` of its own, of clips of ``frames`` frames."""

    __pydantic_config__ = STRICT
    seed: int = 11
    unit: float = 1.0
    frames: int = 3
    flow: bool = True


@cache
def _drive(seed: int) -> World:
    world = load_world("drive", seed=seed, movers=4, frames=FRAMES, height=HEIGHT, width=WIDTH)
    assert isinstance(world, World)
    return world


@cache
def _pair_truth(seed: int, a: int, b: int) -> PairTruth:
    return _drive(seed).pair_truth(a, b)


class Knows(Method):
    """Predict the true depth of the target and its neighbours, and motion and flow between them."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config, self.clip_length, self.target = config, config.frames, (config.frames - 1) // 2
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def predict(self, clip: Clip) -> Prediction:
        """Look the answer up by the clip's time stamps, and bring it to the clip's size."""
        frames = [round(10 * t) for t in clip.time_s[0].tolist()]
        size, unit, here = {"height": clip.camera.height, "width": clip.camera.width}, self.config.unit, clip.target
        inv_depth, motion, flow = {}, {}, {}
        for there in (i for i in (here - 1, here, here + 1) if i in (here, *clip.sources)):
            pair = _pair_truth(self.config.seed, frames[here], frames[there])
            inv_depth[there] = [resize_map(1 / (unit * pair.depth_b), **size)]
            if there == here:
                continue
            motion[here, there] = SE3(pair.b_from_a.R, unit * pair.b_from_a.t)
            if self.config.flow:
                flow[here, there] = [resize_flow(pair.flow_ab, **size)]
                flow[there, here] = [resize_flow(pair.flow_ba, **size)]
        return Prediction(inv_depth=inv_depth, motion=motion, flow=flow)

    def losses(self, clip: Clip, prediction: Prediction, progress: float) -> LossTerms:
        """Return nothing: there is nothing to learn."""
        return LossTerms()


def tiny() -> Run:
    """Return the run of a method that was trained at 96x320."""
    return Run(method="inference.mover_stubs", config=Config(), data=DataConfig(height=HEIGHT, width=WIDTH))
