"""Row depth: every row of the image has one depth, the same in all frames (a sample method, in one file).

What a camera that never tilts sees of a road, and all that thirty numbers can say; a floor that any network must beat.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from egoflow.config import DataConfig, LoopConfig, OptimConfig, Run
from egoflow.geometry.flow import backward_warp, rigid_flow
from egoflow.geometry.pixels import resize_map
from egoflow.geometry.se3 import SE3
from egoflow.losses.photometric import l1_map
from egoflow.losses.reduce import masked_mean
from egoflow.methods.base import Method
from egoflow.networks.tinynet import TinyMotionNet
from egoflow.types import Clip, LossTerms, Prediction


@dataclass(frozen=True, kw_only=True)
class Config:
    """How fine the rows are, and how much neighbours may differ."""

    rows: int = 30
    smooth_weight: float = 0.02
    speed: float = 10.0
    """How many times faster the rows learn than the network: one learning rate must do for both."""


class RowDepth(Method):
    """One inverse depth a row, and the camera's motion from a small network."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = config
        self.clip_length, self.target = 3, 1
        self.rows = nn.Parameter(torch.zeros(config.rows))
        self.motion_net = TinyMotionNet()

    def profile(self) -> Tensor:
        """Return the logarithm of the inverse depth [rows], from top to bottom."""
        return self.config.speed * self.rows - 2

    def predict(self, clip: Clip) -> Prediction:
        """Predict the depth of the middle frame and the motion to both neighbours."""
        batch, height, width = clip.images.shape[0], *clip.images.shape[-2:]
        rows = self.profile().exp().view(1, 1, -1, 1)
        inv_depth = resize_map(rows.expand(batch, 1, -1, 2), height=height, width=width)
        vectors = self.motion_net(clip.images[:, 1], clip.images[:, list(clip.sources)])
        motion = {(1, s): SE3.from_translation_euler(vectors[:, i]) for i, s in enumerate(clip.sources)}
        return Prediction(inv_depth={1: [inv_depth]}, motion=motion)

    def losses(self, clip: Clip, prediction: Prediction, progress: float) -> LossTerms:
        """Return the error of rebuilding the middle frame from its neighbours, and how rough the rows are."""
        depth, errors = 1 / prediction.inv_depth[1][0], []
        for (target, s), s_from_target in prediction.motion.items():
            flow, in_front = rigid_flow(depth, clip.camera, s_from_target)
            rebuilt, inside = backward_warp(clip.images[:, s], flow)
            errors.append(masked_mean(l1_map(rebuilt, clip.images[:, target]), inside & in_front))
        rough = self.profile().diff().square().mean()
        return LossTerms({"loss/photometric": (1.0, torch.stack(errors).mean()),
                          "loss/smoothness": (self.config.smooth_weight, rough)})


def tiny() -> Run:
    """Seconds on a CPU."""
    return Run(method="my_methods.row_depth", preset="tiny", start="two_view", config=Config(),
               data=DataConfig(height=48, width=144), optim=OptimConfig(lr=3e-3, clip_norm=1.0),
               loop=LoopConfig(steps=60, log_every=10, watchdog=False))
