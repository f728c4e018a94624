"""Losses against a known flow.

What is unknown counts as no error, and may be NaN.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from egoflow.errors import DataError
from egoflow.geometry.precision import full_precision
from egoflow.types import Clip, Pair

LEVEL_WEIGHTS = (0.005, 0.01, 0.02, 0.08, 0.32)
"""FlowNet's weights from a quarter of the size down: errors are summed, and coarse maps have few pixels."""


def sequence_map(flows: Sequence[Tensor], flow_true: Tensor, valid: Tensor, *, gamma: float = 0.8,
                 largest: float = 400.0) -> Tensor:
    """Return the L1 error [B, 1, H, W] of a series of refinements [B, 2, H, W], the last first.

    The sum over refinements i of gamma^(N - 1 - i) times the mean over both channels; 0 where ``valid`` bool
    [B, 1, H, W] is False or the true flow is ``largest`` pixels or longer. As published the mean over such a map
    divides by all pixels, not the valid ones: use ``masked_mean`` without a mask. (Teed & Deng 2020, equation 7)
    """
    use = valid & (flow_true.norm(dim=1, keepdim=True) < largest)
    # Filled before the difference: the gradient of |NaN| is NaN, whatever is selected afterwards.
    target = torch.where(use, flow_true, torch.zeros_like(flow_true))
    errors = [gamma**age * (flow - target).abs() for age, flow in enumerate(flows)]
    total = torch.stack(errors).sum(0).mean(1, keepdim=True)
    return torch.where(use, total, torch.zeros_like(total))


def multi_scale_error(flows: Sequence[Tensor], flow_true: Tensor, valid: Tensor, *, finest: int = 4,
                      weights: Sequence[float] = LEVEL_WEIGHTS, unit: float = 20.0, sparse: bool = False) -> Tensor:
    """Return the scalar sum of the lengths of errors over the pixels of weighted levels, averaged over samples.

    Takes flows [B, 2, h, w] from fine to coarse, each in pixels of its own size, the first with pixels ``finest`` times
    as wide as those of ``flow_true`` [B, 2, H, W]. They are compared as full-size flows, in ``unit`` pixels, with the
    truth of the cells that their pixels cover (see ``pooled_flow``). (Dosovitskiy 2015; FlowNet's code)
    """
    total = flows[0].new_zeros(())
    for level, (flow, weight) in enumerate(zip(flows, weights, strict=True)):
        cell = finest * 2**level
        target, known = pooled_flow(flow_true, valid, cell=cell, sparse=sparse)
        error = torch.linalg.vector_norm(full_precision(flow) * cell - target, dim=1, keepdim=True)
        total = total + weight / unit * torch.where(known, error, torch.zeros_like(error)).sum()
    return total / flow_true.shape[0]


def pooled_flow(flow: Tensor, valid: Tensor, *, cell: int, sparse: bool = False) -> tuple[Tensor, Tensor]:
    """Return a flow [B, 2, H, W] on cells of ``cell`` x ``cell`` pixels, lengths as they are, and where it is known.

    The mean over the pixels of a cell that are ``valid`` (bool [B, 1, H, W]) or, with ``sparse``, per axis the largest
    positive plus the largest negative value, as FlowNet's code does for lidar truth. Cells at the lower and right
    border may be smaller.
    """
    filled = torch.where(valid, flow, torch.zeros_like(flow))
    if sparse:
        largest, lowest = (F.max_pool2d(F.relu(sign * filled), cell, ceil_mode=True) for sign in (1, -1))
        return largest - lowest, F.max_pool2d(valid.to(flow.dtype), cell, ceil_mode=True) > 0
    height, width = flow.shape[-2:]
    border = (0, -width % cell, 0, -height % cell)
    total, share = (F.avg_pool2d(F.pad(v, border), cell) for v in (filled, valid.to(flow.dtype)))
    known = share > 0
    return total / torch.where(known, share, torch.ones_like(share)), known


def known_flow(clip: Clip, pair: Pair) -> tuple[Tensor, Tensor]:
    """Return the true flow [B, 2, H, W] of a clip and where it is known, bool [B, 1, H, W].

    Raises DataError that names the clip where nothing is known of the pair.
    """
    if clip.truth is None or pair not in clip.truth.flow:
        raise DataError(f"{', '.join(clip.key) or 'a clip'}: its true flow is not known, and this method learns from "
                        f"it; train on data with flow, such as world:chairs")
    flow = clip.truth.flow[pair]
    return flow, clip.truth.valid_flow.get(pair, flow.isfinite().all(1, keepdim=True))
