"""Depth from the features of a residual network. (encoder: He 2016; decoder after Godard 2017, section 3.1)

The decoder doubles the size by repeating pixels, convolves, joins the encoder's features of that size and, from 1/4
size on, the coarser inverse depth, and convolves again. Inverse depth has the range of DispNet's: the two networks are
exchangeable.
"""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from egoflow.geometry.precision import full_precision
from egoflow.networks.blocks import cropped, initialise, joined
from egoflow.networks.narrow import NarrowConv2d
from egoflow.networks.resnet import Depth, ResNetEncoder

WIDTHS = (16, 32, 64, 128, 256, 512)
"""Fine to coarse: ``WIDTHS[s]`` is the width of the features that return to level s."""
SCALES = 4


def elu_convolution(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Return a convolution with ELU; stride 2 halves the size, rounding up."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2), nn.ELU(inplace=True))


class DepthDecoder(nn.Module):
    """Features at 1/2, 1/4, … size, of so many ``channels``, to inverse depth in (beta, alpha + beta)."""

    def __init__(self, channels: tuple[int, ...], *, alpha: float, beta: float) -> None:
        super().__init__()
        self.alpha, self.beta = alpha, beta
        self.up, self.fuse, self.head = (nn.ModuleList() for _ in range(3))
        widths = WIDTHS[:len(channels)]
        for level, width in enumerate(widths):
            coarser = widths[level + 1] if level + 1 < len(widths) else channels[-1]
            skip = channels[level - 1] if level else 0
            guess = 1 if level + 1 < SCALES else 0
            self.up.append(elu_convolution(coarser, width))
            self.fuse.append(elu_convolution(width + skip + guess, width))
        self.head.extend(NarrowConv2d(width, 1) for width in widths[:SCALES])
        initialise(self)

    def forward(self, features: list[Tensor], image: Tensor) -> list[Tensor]:
        """Return inverse depths [B, 1, ceil(H / 2^s), ceil(W / 2^s)], fine to coarse, at the size of ``image``."""
        sizes = [image.shape, *(f.shape for f in features)]
        x, found = features[-1], []
        for level in reversed(range(len(self.up))):
            parts = [self.up[level](_doubled(x, sizes[level]))]
            if level:
                parts.append(features[level - 1])
            if found:
                parts.append(_doubled(found[-1], sizes[level]).to(parts[0].dtype))
            x = self.fuse[level](joined(parts))
            if level < SCALES:
                found.append(self._inv_depth(self.head[level](x)))
        return found[::-1]

    def _inv_depth(self, logits: Tensor) -> Tensor:
        # Half precision would quantise depth: at 0.01 its steps are as large as the range that matters.
        return self.alpha * full_precision(logits).sigmoid() + self.beta


def _doubled(value: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return [B, C, H, W] with every pixel repeated, cropped to ``size``."""
    return cropped(F.interpolate(value, scale_factor=2, mode="nearest"), size)


class ResNetDepthNet(nn.Module):
    """An image to inverse depth at full, 1/2, 1/4 and 1/8 size, in (beta, alpha + beta)."""

    def __init__(self, *, depth: Depth = 18, alpha: float = 10.0, beta: float = 0.01) -> None:
        super().__init__()
        self.encoder = ResNetEncoder(depth=depth)
        self.decoder = DepthDecoder(self.encoder.widths, alpha=alpha, beta=beta)
        # Normalised features are large: Xavier's heads would start at the flat ends of the sigmoid.
        for head in self.decoder.head:
            nn.init.normal_(cast(nn.Conv2d, head).weight, std=1e-3)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return inverse depths [B, 1, ceil(H / 2^s), ceil(W / 2^s)], fine to coarse, of RGB [B, 3, H, W] in [0, 1]."""
        return self.decoder(self.encoder(image), image)
