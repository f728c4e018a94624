"""From maps to numbers: the only places where a loss map is averaged.

Convention: a loss is a map [B, 1, H, W] until ``masked_mean``. Every sample weighs the same whatever its mask, so the
loss of a batch is the mean of its samples' losses and half a batch on each of two processes gives the same update. What
stands under False is never read, not even when it is NaN. Nothing here waits for the device.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from egoflow.errors import ShapeError
from egoflow.geometry.precision import full_precision


def masked_mean(value: Tensor, use: Tensor | None = None) -> Tensor:
    """Return the scalar mean over samples of each sample's mean over its used pixels.

    Takes ``value`` [B, C, H, W] and ``use`` bool [B, 1, H, W]. A sample without used pixels counts as 0 that stays in
    the graph, and so does an empty map. Half precision is summed in float32.
    """
    value = full_precision(value)
    if value.numel() == 0:
        return value.sum()
    if use is None:
        return value.mean()
    use = _matched(value, use)
    total = torch.where(use, value, torch.zeros_like(value)).flatten(1).sum(1)
    return (total / use.flatten(1).sum(1).clamp_min(1)).mean()


def weighted_mean(value: Tensor, weight: Tensor, use: Tensor) -> Tensor:
    """Return the scalar mean over samples of sum(weight value) / sum(weight) over each sample's used pixels.

    Takes ``value`` and ``weight`` in [0, 1] [B, 1, H, W] and ``use`` bool. The weight gets no gradient: else a network
    would learn to be weighed, not to be right. Weights that sum to less than one pixel count as one.
    """
    value, use = full_precision(value), _matched(value, use)
    weight = torch.where(use, weight.detach(), torch.zeros_like(value))
    total = (weight * torch.where(use, value, torch.zeros_like(value))).flatten(1).sum(1)
    return (total / weight.flatten(1).sum(1).clamp_min(1)).mean()


def masked_sum_count(value: Tensor, use: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the float64 sum and the count of used values, so that metrics do not depend on how they were batched.

    Takes ``value`` [B, C, H, W] and ``use`` bool [B, 1, H, W].
    """
    value = value.double()
    use = torch.ones_like(value, dtype=torch.bool) if use is None else _matched(value, use)
    return torch.where(use, value, torch.zeros_like(value)).sum(), use.sum()


def multi_scale(values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return the weighted sum of one scalar per scale.

    Raises ShapeError when there are no values or not one weight for each.
    """
    if len(values) != len(weights) or not values:
        raise ShapeError(f"multi_scale needs one weight per value, got {len(values)} values and {len(weights)} weights")
    return torch.stack([weight * value for value, weight in zip(values, weights, strict=True)]).sum()


def fill_unused(value: Tensor, other: Tensor, use: Tensor) -> Tensor:
    """Return ``value`` [B, C, H, W] with ``other`` where ``use`` bool [B, 1, H, W] is False.

    A loss with a window (SSIM, census) needs this before it: a masked pixel would else reach its neighbours. Filled
    with what it is compared to, a masked pixel agrees, and passes no gradient.
    """
    return torch.where(use, value, other)


def _matched(value: Tensor, use: Tensor) -> Tensor:
    """Return the mask in the shape of the value; refuse weights and masks of another grid."""
    if use.dtype != torch.bool:
        raise ShapeError(f"a mask must be bool with True = use, got {use.dtype}; multiply weights into the map instead")
    if use.shape[0] != value.shape[0] or use.shape[2:] != value.shape[2:]:
        raise ShapeError(f"a mask {tuple(use.shape)} is not on the grid of its map {tuple(value.shape)}")
    return use.expand_as(value)
