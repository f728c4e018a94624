"""Each pixel explained by the branch that should explain it: CoopNet's hybrid loss (Hariat, Manzanera & Filliat 2023).

Takes two photometric error maps [B, 1, H, W] of ONE operator on one grid, ``error_rigid`` of depth and camera motion
and ``error_flow``, the static weight q of ``mixture.Mixture.static_weight`` and their common mask. q carries no
gradient. The naive cooperation to compare with is ``photometric.least_map`` of the two: whoever is better takes nearly
all pixels, so the other never learns (rich-get-richer).

An error with a window (SSIM, census) brings gradient to pixels half a window outside of those that count; give the pair
branch ``masks.eroded(q, window)`` to keep movers exactly out of depth. The weights are ours: the paper's are not known.
"""

import torch
from torch import Tensor

from egoflow.losses.reduce import masked_mean, weighted_mean


def pair_branch(error_rigid: Tensor, static_weight: Tensor, use: Tensor) -> Tensor:
    """Return sum(q e_r) / sum(q), the scalar that teaches depth and motion through static pixels alone."""
    return weighted_mean(error_rigid, static_weight, use)


def flow_branch(error_flow: Tensor, static_weight: Tensor, use: Tensor, *, movers: float = 0.0) -> Tensor:
    """Return the mean of (1 + ``movers`` (1 - q)) e_f: flow learns everywhere, by choice more on what moves."""
    weight = 1 + movers * (1 - torch.where(use, static_weight.detach(), torch.zeros_like(static_weight)))
    return masked_mean(weight * torch.where(use, error_flow, torch.zeros_like(error_flow)), use)


def hybrid_error(error_rigid: Tensor, error_flow: Tensor, static_weight: Tensor) -> Tensor:
    """Return q e_r + (1 - q) e_f [B, 1, H, W], the reconstruction error to watch and to choose a checkpoint by."""
    weight = static_weight.detach()
    return weight * error_rigid + (1 - weight) * error_flow
