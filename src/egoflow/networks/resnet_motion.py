"""The camera's motion between two frames from a residual network that sees both. (encoder: He 2016; head ours)"""

import torch
from torch import Tensor, nn

from egoflow.networks.blocks import convolution, initialise
from egoflow.networks.resnet import Depth, ResNetEncoder

WIDTH = 256
"""Features that the motion is read from."""


class ResNetMotionNet(nn.Module):
    """Camera motion from the target [B, 3, H, W] to sources [B, S, 3, H, W]: (tx, ty, tz, rx, ry, rz) [B, S, 6]."""

    def __init__(self, *, depth: Depth = 18) -> None:
        super().__init__()
        self.encoder = ResNetEncoder(depth=depth, frames=2)
        self.head = convolution(self.encoder.widths[-1], WIDTH)
        self.motion = nn.Conv2d(WIDTH, 6, 1)
        initialise(self.head)
        initialise(self.motion)

    def forward(self, target: Tensor, sources: Tensor) -> Tensor:
        """Return source_from_target vectors [B, S, 6], multiplied by 0.01, of RGB in [0, 1]; pairs are seen alone."""
        pairs = torch.cat((target[:, None].expand_as(sources), sources), dim=2).flatten(0, 1)
        pooled = self.head(self.encoder(pairs)[-1]).mean(dim=(2, 3), keepdim=True)
        # Motions are small numbers that geometry multiplies by hundreds of pixels: full precision from here.
        with torch.autocast(pooled.device.type, enabled=False):
            vector = self.motion(pooled.to(self.motion.weight.dtype))
        return 0.01 * vector.reshape(*sources.shape[:2], 6)
