"""Depth maps: alignment of unknown scales, and surface normals."""

import torch
import torch.nn.functional as F
from torch import Tensor

from egoflow.geometry.camera import Camera


def align_median(prediction: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Return the factor [B] = median(truth) / median(prediction) over ``valid`` (all [B, 1, H, W]); 1 where none is."""
    factors = []
    for p, t, v in zip(prediction, truth, valid, strict=True):
        factors.append(t[v].median() / p[v].median() if bool(v.any()) else p.new_ones(()))
    return torch.stack(factors)


def align_least_squares(prediction: Tensor, truth: Tensor, valid: Tensor, *, shift: bool = False) -> tuple[Tensor, Tensor]:
    """Return the factor [B] and offset [B] that minimise |factor * prediction + offset - truth|^2 over ``valid``.

    Without ``shift`` the offset is 0. Where fewer than two pixels are valid the answer is (1, 0).
    """
    p, t = (torch.where(valid, v, torch.zeros_like(v)).flatten(1).double() for v in (prediction, truth))
    n = valid.flatten(1).sum(1).double()
    if not shift:
        factor = (p * t).sum(1) / (p * p).sum(1).clamp_min(1e-12)
        factor = torch.where(n >= 1, factor, torch.ones_like(factor))
        return factor.to(prediction.dtype), torch.zeros_like(factor).to(prediction.dtype)
    determinant = n * (p * p).sum(1) - p.sum(1).square()
    good = (n >= 2) & (determinant > 1e-12)
    safe = torch.where(good, determinant, torch.ones_like(determinant))
    factor = (n * (p * t).sum(1) - p.sum(1) * t.sum(1)) / safe
    offset = (t.sum(1) - factor * p.sum(1)) / n.clamp_min(1)
    factor, offset = torch.where(good, factor, torch.ones_like(factor)), torch.where(good, offset, torch.zeros_like(offset))
    return factor.to(prediction.dtype), offset.to(prediction.dtype)


def normals(depth: Tensor, camera: Camera) -> Tensor:
    """Return unit surface normals [B, 3, H, W] that point towards the camera, from z-depth [B, 1, H, W].

    Central differences of the unprojected points; the border repeats its inner neighbour.
    """
    points = camera.unproject(depth).permute(0, 3, 1, 2)
    points = F.pad(points, (1, 1, 1, 1), mode="replicate")
    dx = points[:, :, 1:-1, 2:] - points[:, :, 1:-1, :-2]
    dy = points[:, :, 2:, 1:-1] - points[:, :, :-2, 1:-1]
    # x right, y down, z forward: dy x dx points to the viewer.
    return F.normalize(torch.cross(dy, dx, dim=1), dim=1)
