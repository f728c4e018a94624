"""The encoder of RAFT: an image to features at an eighth of its size. (Teed & Deng 2020, appendix A)

A stem of stride 2, three stages of two residual blocks (strides 1, 2, 2) and a linear layer. The basic network has
plain residual blocks, the small one bottlenecks. Convolutions keep their bias before a normalisation, as published:
batch normalisation is frozen after the first data set.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from egoflow.networks.blocks import BatchNorm

Norm = Literal["batch", "instance", "none"]
STRIDE = 8
"""Pixels of the image a cell of the features."""


def normalisation(norm: Norm, channels: int) -> nn.Module:
    """Return a normalisation of so many channels; that of instances has no parameters."""
    if norm == "batch":
        return BatchNorm(channels)
    return nn.InstanceNorm2d(channels) if norm == "instance" else nn.Identity()


def layer(inputs: int, outputs: int, *, kernel: int, stride: int = 1, norm: Norm, relu: bool = True) -> nn.Sequential:
    """Return convolution, normalisation and, unless told otherwise, ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2)
    return nn.Sequential(conv, normalisation(norm, outputs), *([nn.ReLU(inplace=True)] if relu else []))


class ResidualBlock(nn.Module):
    """Two 3x3 layers or, as a ``bottleneck``, 1x1, 3x3 and 1x1 with a quarter of the channels between; then ReLU."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, norm: Norm, bottleneck: bool) -> None:
        super().__init__()
        inner = outputs // 4
        self.body = nn.Sequential(
            layer(inputs, inner, kernel=1, norm=norm),
            layer(inner, inner, kernel=3, stride=stride, norm=norm),
            layer(inner, outputs, kernel=1, norm=norm),
        ) if bottleneck else nn.Sequential(
            layer(inputs, outputs, kernel=3, stride=stride, norm=norm),
            layer(outputs, outputs, kernel=3, norm=norm))
        self.shortcut = nn.Identity() if stride == 1 else layer(inputs, outputs, kernel=1, stride=stride, norm=norm,
                                                                relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, outputs, H / stride, W / stride] of [B, inputs, H, W]."""
        return F.relu(self.shortcut(x) + self.body(x))


class Encoder(nn.Module):
    """An image [B, 3, H, W] in [-1, 1], sizes multiples of 8, to features [B, outputs, H / 8, W / 8]."""

    def __init__(self, widths: tuple[int, int, int], outputs: int, *, norm: Norm, bottleneck: bool) -> None:
        super().__init__()
        self.outputs = outputs
        self.stem = layer(3, widths[0], kernel=7, stride=2, norm=norm)
        self.stages = nn.Sequential(*(
            nn.Sequential(ResidualBlock(inputs, width, stride=stride, norm=norm, bottleneck=bottleneck),
                          ResidualBlock(width, width, stride=1, norm=norm, bottleneck=bottleneck))
            for inputs, width, stride in zip((widths[0], *widths), widths, (1, 2, 2), strict=False)))
        self.head = nn.Conv2d(widths[-1], outputs, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        """Return the features."""
        return self.head(self.stages(self.stem(image)))
