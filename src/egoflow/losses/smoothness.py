"""How rough a map is: the prior where images say nothing.

Every function takes a map [B, C, H, W] of any size (depth, inverse depth or flow: the caller chooses); a derivative
that does not fit in it is empty or 0 and stays in the graph.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from egoflow.losses.reduce import masked_mean


def second_order_maps(value: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return |d_xx|, |d_xy|, |d_yx|, |d_yy| of ``value``, each of its own size. (Zhou 2017, released code)

    The mixed derivatives are one number, computed once.
    """
    dx = _difference(value, -1)
    dxy = _difference(dx, -2).abs()
    return _difference(dx, -1).abs(), dxy, dxy, _difference(_difference(value, -2), -2).abs()


def second_order(value: Tensor) -> Tensor:
    """Return SfMLearner's scalar smoothness: the sum of the means of the four second differences."""
    dxx, dxy, _, dyy = (masked_mean(m) for m in second_order_maps(value))
    return dxx + 2 * dxy + dyy


def first_order_map(value: Tensor, image: Tensor | None = None, *, edge: float = 10.0) -> Tensor:
    """Return |d_x| + |d_y| [B, 1, H, W] to the right and lower neighbour, 0 where there is none.

    With ``image`` [B, 3, H, W] each difference is weighted by exp(-edge |dI|) between the same pixels, so that
    depth may break where colour does. (Heise 2013; Godard 2017)
    """
    total = torch.zeros_like(value[:, :1])
    for dim in (-1, -2):
        rough = _difference(value, dim).abs().mean(1, keepdim=True)
        if image is not None:
            rough = rough * _edge_weight(_difference(image, dim), edge)
        total = total + _placed(rough, dim, value.shape[dim])
    return total


def second_order_edge_aware(value: Tensor, image: Tensor, *, edge: float = 10.0) -> Tensor:
    """Return |d_xx| + |d_yy| [B, 1, H, W] about each pixel, weighted by exp(-edge |dI|); 0 on the border.

    dI is taken between the outer two pixels of each difference. (Jonschkowski 2020)
    """
    total = torch.zeros_like(value[:, :1])
    for dim in (-1, -2):
        size = value.shape[dim]
        inner = max(size - 2, 0)
        rough = _difference(_difference(value, dim), dim).abs().mean(1, keepdim=True)
        across = image.narrow(dim, size - inner, inner) - image.narrow(dim, 0, inner)
        total = total + _placed(rough * _edge_weight(across, edge), dim, size)
    return total


def second_order_diagonals(value: Tensor, *, epsilon: float = 1e-3, alpha: float = 0.45) -> Tensor:
    """Return the rounded second differences (d^2 + epsilon^2)^alpha [B, 1, H, W] about each pixel; 0 on the border.

    The mean over four directions (across, down, both diagonals) and the sum over channels. (Meister 2018, equation 4)
    """
    height, width = value.shape[-2:]
    if min(height, width) < 3:
        return value[:, :1] * 0

    def around(dx: int, dy: int) -> Tensor:
        return value[..., 1 + dy:height - 1 + dy, 1 + dx:width - 1 + dx]

    rough = [(around(dx, dy) + around(-dx, -dy) - 2 * around(0, 0)).square().add(epsilon**2).pow(alpha)
             for dx, dy in ((1, 0), (0, 1), (1, 1), (1, -1))]
    return F.pad(torch.stack(rough).mean(0).sum(1, keepdim=True), (1,) * 4)


LAPLACIAN = ((-1, -2, -1), (-2, 12, -2), (-1, -2, -1))
SOBEL = ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1))


def laplacian_map(value: Tensor, image: Tensor | None = None) -> Tensor:
    """Return the absolute Laplacian |[-1 -2 -1; -2 12 -2; -1 -2 -1] / 12| of ``value`` [B, 1, H, W]; 0 on the border.

    With ``image`` [B, C, H, W] divided by its textureness, the mean over channels of |Sobel_x| + |Sobel_y|, plus 0.1:
    depth may break where the picture does. (the training script that Lu 2019 shares with Pinard's networks)
    """
    if min(value.shape[-2:]) < 3:
        return value * 0
    rough = _filtered(value, LAPLACIAN).abs() / 12
    if image is not None:
        texture = _filtered(image, SOBEL).abs() + _filtered(image, tuple(zip(*SOBEL, strict=True))).abs()
        rough = rough / (texture.mean(1, keepdim=True) + 0.1)
    return F.pad(rough, (1,) * 4)


def mean_normalised(value: Tensor) -> Tensor:
    """Return ``value`` divided by its mean over each sample's pixels, so that shrinking it does not make it smooth.

    ``value`` is positive. (Wang 2018, Learning depth from monocular videos using direct methods)
    """
    return value / value.mean(dim=(-2, -1), keepdim=True).clamp_min(1e-7)


def _difference(value: Tensor, dim: int) -> Tensor:
    """Return forward differences along ``dim``; empty when there is one pixel or none."""
    inner = max(value.shape[dim] - 1, 0)
    return value.narrow(dim, value.shape[dim] - inner, inner) - value.narrow(dim, 0, inner)


def _placed(inner: Tensor, dim: int, size: int) -> Tensor:
    """Return a difference map with zeros around it up to ``size``; one missing pixel is added at the end."""
    missing = size - inner.shape[dim]
    before, after = missing // 2, missing - missing // 2
    return F.pad(inner, (before, after) if dim == -1 else (0, 0, before, after))


def _filtered(value: Tensor, kernel: tuple[tuple[float, ...], ...]) -> Tensor:
    """Return a map of at least 3x3 pixels under a 3x3 kernel, without its border."""
    height, width = value.shape[-2:]
    terms = [weight * value[..., i:height - 2 + i, j:width - 2 + j]
             for i, row in enumerate(kernel) for j, weight in enumerate(row) if weight]
    return torch.stack(terms).sum(0)


def _edge_weight(difference: Tensor, edge: float) -> Tensor:
    return torch.exp(-edge * difference.abs().mean(1, keepdim=True))
