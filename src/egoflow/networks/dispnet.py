"""The depth network of SfMLearner. (Zhou 2017, figure 4; Mayer 2016)

Layers and widths are those of the released code: 31,596,900 parameters. Deviations: up-convolutions are cropped to
their skip connection, so that every size from 1 x 1 works (the released code resizes); all four scales are returned in
training and at test time. The paper's batch normalisation is an option that, as in the released models, is off.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from egoflow.geometry.precision import full_precision
from egoflow.networks.blocks import convolution, cropped, initialise, joined, normalised, up_convolution
from egoflow.networks.narrow import NarrowConv2d

ENCODER_WIDTHS = (32, 64, 128, 256, 512, 512, 512)
ENCODER_KERNELS = (7, 5, 3, 3, 3, 3, 3)
DECODER_WIDTHS = (16, 32, 64, 128, 256, 512, 512)
"""Fine to coarse: ``DECODER_WIDTHS[s]`` is the width of the features that return to level s."""
SCALES = 4


class DispNet(nn.Module):
    """An image to inverse depth at full, 1/2, 1/4 and 1/8 size, in (beta, alpha + beta)."""

    def __init__(self, *, alpha: float = 10.0, beta: float = 0.01, batch_norm: bool = False) -> None:
        super().__init__()
        self.alpha, self.beta = alpha, beta
        self.encoder, self.up, self.fuse, self.head = (nn.ModuleList() for _ in range(4))
        previous = 3
        for width, kernel in zip(ENCODER_WIDTHS, ENCODER_KERNELS, strict=True):
            self.encoder.append(nn.Sequential(
                convolution(previous, width, kernel=kernel, stride=2, batch_norm=batch_norm),
                convolution(width, width, kernel=kernel, batch_norm=batch_norm)))
            previous = width
        for level, width in enumerate(DECODER_WIDTHS):
            coarser = DECODER_WIDTHS[level + 1] if level + 1 < len(DECODER_WIDTHS) else ENCODER_WIDTHS[-1]
            skip = ENCODER_WIDTHS[level - 1] if level else 0
            guess = 1 if level + 1 < SCALES else 0
            self.up.append(up_convolution(coarser, width, kernel=3, batch_norm=batch_norm))
            self.fuse.append(convolution(width + skip + guess, width, batch_norm=batch_norm))
        self.head.extend(NarrowConv2d(width, 1) for width in DECODER_WIDTHS[:SCALES])
        initialise(self)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return inverse depths [B, 1, ceil(H / 2^s), ceil(W / 2^s)], fine to coarse, of RGB [B, 3, H, W] in [0, 1]."""
        skips = [normalised(image)]
        for down in self.encoder:
            skips.append(down(skips[-1]))
        features, found = skips.pop(), []
        for level in reversed(range(len(self.up))):
            size = skips[level].shape
            parts = [cropped(self.up[level](features), size)]
            if level:
                parts.append(skips[level])
            if found:
                coarse = F.interpolate(found[-1], scale_factor=2, mode="bilinear", align_corners=False)
                parts.append(cropped(coarse, size).to(parts[0].dtype))
            features = self.fuse[level](joined(parts))
            if level < SCALES:
                found.append(self._inv_depth(self.head[level](features)))
        return found[::-1]

    def _inv_depth(self, logits: Tensor) -> Tensor:
        # Half precision would quantise depth: at 0.01 its steps are as large as the range that matters.
        return self.alpha * full_precision(logits).sigmoid() + self.beta
