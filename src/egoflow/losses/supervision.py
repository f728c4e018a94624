"""Losses against a known flow.

What is unknown counts as no error, and may be NaN.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


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
