"""A method of flow that is known beforehand, as a package of somebody's own would hold it."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from egoflow.config import STRICT, DataConfig, Run
from egoflow.methods.base import Method
from egoflow.types import Clip, FlowSource, LossTerms, Prediction

HEIGHT, WIDTH = 16, 24


@dataclass(frozen=True, kw_only=True)
class Config:
    """The flow (x, y) in pixels of the clip, and what else is predicted."""

    __pydantic_config__ = STRICT
    x: float = 3.0
    y: float = -1.0
    length: int = 2
    target: int = 0
    both: bool = True
    """Predict the way back too."""
    depth: bool = False


class Shift(Method):
    """Predict that everything moves by one vector a frame, backwards in time by its opposite; record what was asked.

    With ``source`` the true flow of that source, found by the clip's time stamps, is predicted instead.
    """

    needs_camera = False

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config, self.clip_length, self.target = config, config.length, config.target
        self.needs_camera = config.depth
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.asked: list[list[int]] = []
        self.sizes: set[tuple[int, int]] = set()
        self.source: FlowSource | None = None

    def predict(self, clip: Clip) -> Prediction:
        """Answer for the target and the frame after it; a coarser guess stands behind the best."""
        self.asked.append([round(10 * t) for t in clip.time_s[0].tolist()])
        self.sizes.add((clip.camera.height, clip.camera.width))
        here, there = clip.target, clip.target + 1
        pairs = [(here, there), (there, here)] if self.config.both else [(here, there)]
        flow = {(a, b): [self._flow(clip, a, b), torch.zeros(1, 2, 2, 2)] for a, b in pairs}
        depth = {here: [torch.full_like(clip.images[:, here, :1], 0.5)]} if self.config.depth else {}
        return Prediction(flow=flow, inv_depth=depth)

    def _flow(self, clip: Clip, a: int, b: int) -> Tensor:
        first, second = self.asked[-1][a], self.asked[-1][b]
        if self.source is not None:
            truth = self.source.flow_truth(first, second)
            assert truth is not None
            return torch.from_numpy(truth.flow_ab)[None]
        way = float(np.sign(second - first))
        flow = clip.images.new_tensor([self.config.x, self.config.y]).view(1, 2, 1, 1) * way
        return flow.expand(1, 2, *clip.images.shape[-2:]).clone()

    def losses(self, clip: Clip, prediction: Prediction, progress: float) -> LossTerms:
        """Return nothing: there is nothing to learn."""
        return LossTerms()


def tiny() -> Run:
    """Return the run of a method that was trained at 16x24."""
    return Run(method="inference.flow_stubs", config=Config(), data=DataConfig(height=HEIGHT, width=WIDTH))
