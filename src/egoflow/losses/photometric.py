"""How unlike two images are, pixel by pixel.

Every function takes images [B, C, H, W] in [0, 1] on one grid and returns a map [B, 1, H, W]. In SSIM and census the
second image is the one that does not change (the target): what is computed from it alone can be had once and passed in
for all the reconstructions that are compared with it. Their windows read neighbours, so fill masked pixels first
(``reduce.fill_unused``).
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from egoflow.geometry.flow import backward_warp
from egoflow.geometry.precision import full_precision

SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2
"""The stabilisers of SSIM for values in [0, 1]. (Wang 2004)"""


def l1_map(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean over channels of |x - y|."""
    return (x - y).abs().mean(1, keepdim=True)


def charbonnier_map(x: Tensor, y: Tensor, *, epsilon: float = 1e-3, alpha: float = 0.5) -> Tensor:
    """Return the mean over channels of ((x - y)^2 + epsilon^2)^alpha; alpha = 0.5 is a rounded L1. (Sun 2014)"""
    return ((x - y).square() + epsilon**2).pow(alpha).mean(1, keepdim=True)


class SsimMoments(NamedTuple):
    """The target padded for the window, its local mean and its local mean square."""

    padded: Tensor
    mean: Tensor
    square: Tensor

    def repeated(self, times: int) -> "SsimMoments":
        """Return the moments tiled ``times`` times, as ``Tensor.repeat`` tiles a batch."""
        return SsimMoments(*(value.repeat(times, 1, 1, 1) for value in self))


def ssim_moments(y: Tensor, *, window: int = 3) -> SsimMoments:
    """Return what ``ssim_map`` needs of the image ``y`` [B, C, H, W] that many others are compared with."""
    padded = _padded(full_precision(y), window // 2)
    mean, square = _box_mean(torch.cat((padded, padded * padded), dim=1), window).chunk(2, dim=1)
    return SsimMoments(padded, mean, square)


def ssim_map(x: Tensor, y: Tensor, *, window: int = 3, moments: SsimMoments | None = None) -> Tensor:
    """Return the mean over channels of (1 - SSIM) / 2 in [0, 1], over square mean windows. (Wang 2004; Godard 2017)

    ``moments`` are those of ``y`` for the same window; the border is reflected.
    """
    padded_y, mean_y, square_y = moments or ssim_moments(y, window=window)
    padded = _padded(full_precision(x), window // 2)
    stacked = torch.cat((padded, padded * padded, padded * padded_y), dim=1)
    mean_x, square_x, product = _box_mean(stacked, window).chunk(3, dim=1)
    means = mean_x * mean_y
    squares = mean_x * mean_x + mean_y * mean_y
    numerator = (2 * means + SSIM_C1) * (2 * (product - means) + SSIM_C2)
    denominator = (squares + SSIM_C1) * (square_x + square_y - squares + SSIM_C2)
    return (0.5 - 0.5 * numerator / denominator).clamp(0, 1).mean(1, keepdim=True)


def ssim_l1_map(x: Tensor, y: Tensor, *, moments: SsimMoments | None = None) -> Tensor:
    """Return .85 (1 - SSIM) / 2 + .15 L1, the field's common photometric error; ``moments`` as in ``ssim_map``.

    (Godard 2017)
    """
    return 0.85 * ssim_map(x, y, moments=moments) + 0.15 * l1_map(x, y)


def census_transform(image: Tensor, *, window: int = 7) -> Tensor:
    """Return the soft ternary census [B, window^2 - 1, H, W]: each neighbour's grey difference d / sqrt(0.81 + d^2).

    Grey is 0..255 as in the published constants; the border is repeated. (Stein 2004; Meister 2018)
    """
    height, width = image.shape[-2:]
    radius = window // 2
    grey = 255 * _grey(full_precision(image))
    padded = F.pad(grey, (radius,) * 4, mode="replicate")
    neighbours = [padded[..., i:i + height, j:j + width] for i in range(window) for j in range(window)
                  if (i, j) != (radius, radius)]
    difference = torch.cat(neighbours, dim=1) - grey
    return difference * torch.rsqrt(0.81 + difference.square())


def census_distance(x: Tensor, y: Tensor, *, window: int = 7, transform: Tensor | None = None) -> Tensor:
    """Return the soft Hamming distance [B, 1, H, W] of two censuses: about the number of neighbours that differ.

    ``transform`` is ``census_transform(y)`` for the same window. (Meister 2018)
    """
    target = census_transform(y, window=window) if transform is None else transform
    square = (census_transform(x, window=window) - target).square()
    return (square / (0.1 + square)).sum(1, keepdim=True)


def census_map(x: Tensor, y: Tensor, *, window: int = 7, transform: Tensor | None = None) -> Tensor:
    """Return the census distance under UnFlow's penalty (d^2 + 1e-6)^0.45; equal images give .0019953."""
    return (census_distance(x, y, window=window, transform=transform).square() + 1e-6).pow(0.45)


def ddflow_robust(distance: Tensor) -> Tensor:
    """Return (|d| + 0.01)^0.4, the penalty of DDFlow and UFlow; .1585 at 0. (Liu 2019; Jonschkowski 2020)"""
    return (distance.abs() + 0.01).pow(0.4)


def gradient_size(image: Tensor) -> Tensor:
    """Return ||grad I|| [B, 1, H, W] by central differences, one-sided on the border, without gradient.

    The root of the mean over channels; 1 on a ramp that climbs 1 a pixel. An error times this is the lecture's L_zh:
    pixels without texture say nothing.
    """
    image = full_precision(image.detach())
    slopes = [torch.gradient(image, dim=dim)[0] for dim in (-1, -2) if image.shape[dim] > 1]
    return sum((s.square().mean(1, keepdim=True) for s in slopes), torch.zeros_like(image[:, :1])).sqrt()


def least_map(first: Tensor, second: Tensor, use_first: Tensor, use_second: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smaller of two error maps [B, 1, H, W] on ONE grid, and where at least one of them counts.

    The lecture's L_occ, for the errors of two sources against one target: what one frame hides another shows. It also
    lets a wrong motion through wherever one source happens to agree, so nothing uses it by default.
    """
    both = use_first & use_second
    only = torch.where(use_first, first, second)
    return torch.where(both, torch.minimum(first, second), only), use_first | use_second


def transported_map(error_b: Tensor, use_b: Tensor, flow_ab: Tensor) -> tuple[Tensor, Tensor]:
    """Bring an error map [B, 1, H, W] from the grid of b to that of a, and where all that it was read from counts.

    So the errors of both directions meet on one grid before their minimum is taken (``least_map``); the literal minimum
    by pixel index would compare different points of the scene. The flow gets no gradient from where it led.
    """
    flow = flow_ab.detach()
    error, inside = backward_warp(torch.where(use_b, error_b, torch.zeros_like(error_b)), flow)
    share, _ = backward_warp(use_b.to(error_b.dtype), flow)
    return error, inside & (share > 0.999)


class _BoxSum(torch.autograd.Function):
    """Sums over windows that lie inside the image, by slices: 5 to 7 times faster on a CPU than ``avg_pool2d``.

    A box filter is its own transpose, so the gradient is the same sum over a padded gradient.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, window: int) -> Tensor:
        ctx.window = window
        height, width = value.shape[-2] - window + 1, value.shape[-1] - window + 1
        rows = value[..., :height, :].clone()
        for i in range(1, window):
            rows += value[..., i:i + height, :]
        total = rows[..., :width].clone()
        for j in range(1, window):
            total += rows[..., j:j + width]
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return _BoxSum.apply(F.pad(grad_outputs[0], (ctx.window - 1,) * 4), ctx.window), None


def _box_mean(value: Tensor, window: int) -> Tensor:
    """Return the means over square windows of an already padded map."""
    return _BoxSum.apply(value, window) / window**2


def _padded(image: Tensor, radius: int) -> Tensor:
    # Reflection needs more pixels than it adds; repeating the border works for any size.
    mode = "reflect" if min(image.shape[-2:]) > radius else "replicate"
    return F.pad(image, (radius,) * 4, mode=mode)


def _grey(image: Tensor) -> Tensor:
    """Return luma [B, 1, H, W] of RGB (ITU-R BT.601), or the mean of any other number of channels."""
    if image.shape[1] != 3:
        return image.mean(1, keepdim=True)
    return (image * image.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
