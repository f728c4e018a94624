"""What a method's depth puts beneath the ground (geometry/ground.py): no static scene is there (ours)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from egoflow.geometry.ground import Ground, ground_plane
from egoflow.geometry.se3 import SE3
from egoflow.losses.reduce import masked_mean
from egoflow.types import Clip, Pair, Prediction

BENEATH, RAISED = 0.3, 0.1
"""Inverse depth that is less than the ground's by the first share is no static scene, and drawn up to the second."""


def beneath(clip: Clip, prediction: Prediction, pairs: Sequence[Pair]) -> Tensor:
    """Return where the depth of the first frames of pairs lies beneath the ground, bool [P B, 1, H, W]."""
    inv_depth, ground = _seen(clip, prediction, pairs)
    return inv_depth < ground.least(tolerance=BENEATH)


def raised_term(clip: Clip, prediction: Prediction, pairs: Sequence[Pair]) -> Tensor:
    """Return how far depth lies beneath the ground, as the mean of a logarithm over all pixels."""
    inv_depth, ground = _seen(clip, prediction, pairs)
    sunk = inv_depth.detach() < ground.least(tolerance=BENEATH)
    ratio = torch.where(sunk, ground.least(tolerance=RAISED) / inv_depth, torch.ones_like(inv_depth))
    return masked_mean(ratio.log())


def _seen(clip: Clip, prediction: Prediction, pairs: Sequence[Pair]) -> tuple[Tensor, Ground]:
    """Return the inverse depth and the ground of the first frames of pairs, stacked."""
    inv_depth = torch.cat([prediction.inv_depth[a][0] for a, _ in pairs])
    motion = SE3.cat([prediction.motion[pair] for pair in pairs])
    return inv_depth, ground_plane(inv_depth, clip.camera.repeated(len(pairs)), motion)
