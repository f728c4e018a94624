"""A convolution to one or two maps, as matrix products.

Networks end in such layers: depth, masks, flow. Libraries compute sixteen maps at a time, so that on a CPU these heads,
half a percent of the arithmetic of a step, took six percent of its time.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from egoflow.networks.exporting import exporting

KERNEL = 3
SHIFTS = [(i, j) for i in range(-1, KERNEL - 1) for j in range(-1, KERNEL - 1)]


class NarrowConv2d(nn.Conv2d):
    """A 3x3 convolution with zero padding to a few maps; parameters and results are those of ``nn.Conv2d``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, KERNEL, padding=KERNEL // 2)

    def forward(self, input: Tensor) -> Tensor:
        """Return [B, outputs, H, W] of [B, inputs, H, W]."""
        plain = input.device.type != "cpu" or not torch.is_grad_enabled() or torch.is_autocast_enabled("cpu")
        if plain or exporting():
            return super().forward(input)
        return _ToFew.apply(input, self.weight, self.bias)  # type: ignore[no-any-return]


def _gathered(products: Tensor, shape: torch.Size) -> Tensor:
    """Return the sum [K, B, H, W] over taps t of the maps products[K * 9, B * H * W], read at p + t."""
    batch, _, height, width = shape
    taps = products.view(-1, KERNEL, KERNEL, batch, height, width)
    total = products.new_zeros(len(taps), batch, height, width)
    for i, j in SHIFTS:
        to = total[..., max(0, -i):height - max(0, i), max(0, -j):width - max(0, j)]
        to += taps[:, i + 1, j + 1, :, max(0, i):height + min(0, i), max(0, j):width + min(0, j)]
    return total


def _shifted(maps: Tensor) -> Tensor:
    """Return [K * 9, B * H * W], the maps [B, K, H, W] read at p - t for each tap t; zero outside."""
    batch, count, height, width = maps.shape
    padded = F.pad(maps.transpose(0, 1), (1, 1, 1, 1))
    copies = [padded[:, :, 1 - i:1 - i + height, 1 - j:1 - j + width] for i, j in SHIFTS]
    return torch.stack(copies, dim=1).view(count * KERNEL**2, batch * height * width)


def _pixels(maps: Tensor) -> Tensor:
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def _maps(pixels: Tensor, shape: torch.Size) -> Tensor:
    return pixels.view(shape[0], *shape[2:], -1).permute(0, 3, 1, 2)


class _ToFew(torch.autograd.Function):
    """[B, C, H, W] to [B, K, H, W] with few K: one product per tap and output, then shifted and added."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # type: ignore[override]
        pixels, taps = _pixels(image), _pixels(weight)
        ctx.save_for_backward(pixels, taps)
        ctx.shape = image.shape
        return (_gathered(taps @ pixels.t(), image.shape) + bias.view(-1, 1, 1, 1)).transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        pixels, taps = ctx.saved_tensors
        copies = _shifted(gradient)
        to_weight = (copies @ pixels).view(-1, KERNEL, KERNEL, pixels.shape[1]).permute(0, 3, 1, 2)
        return _maps(copies.t() @ taps, ctx.shape), to_weight, gradient.sum(dim=(0, 2, 3))
