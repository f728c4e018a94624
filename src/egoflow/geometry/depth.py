"""Depth maps: alignment of unknown scales, and surface normals."""

import torch
import torch.nn.functional as F
from torch import Tensor

from egoflow.geometry.camera import Camera


def align_median(prediction: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Return the factor [B] = median(truth) / median(prediction) over ``valid`` (all [B, 1, H, W]); 1 where none is.

    The median of an even number of values is the mean of the middle two, as numpy and the published protocols have it.
    """
    factors = []
    for p, t, v in zip(prediction, truth, valid, strict=True):
        factors.append(_median(t[v]) / _median(p[v]) if bool(v.any()) else p.new_ones(()))
    return torch.stack(factors)


def _median(values: Tensor) -> Tensor:
    # torch.median takes the lower of the middle two; torch.quantile refuses more than 16 million values.
    ordered, count = values.sort().values, values.numel()
    return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2


def align_least_squares(prediction: Tensor, truth: Tensor, valid: Tensor, *,
                        shift: bool = False) -> tuple[Tensor, Tensor]:
    """Return the factor [B] and offset [B] that minimise |factor * prediction + offset - truth|^2 over ``valid``.

    Without ``shift`` the offset is 0. Where the factor is not determined it is 1: no valid pixel or, with ``shift``, a
    constant prediction.
    """
    p, t = (torch.where(valid, v, torch.zeros_like(v)).flatten(1).double() for v in (prediction, truth))
    count = valid.flatten(1).sum(1).clamp_min(1).double()
    size = (p * p).sum(1)
    mean_p, mean_t = (p.sum(1) / count, t.sum(1) / count) if shift else (torch.zeros_like(count),) * 2
    # Centred before squaring: the textbook determinant of a constant prediction is rounding noise, not zero.
    p = torch.where(valid.flatten(1), p - mean_p[:, None], torch.zeros_like(p))
    spread = (p * p).sum(1)
    good = spread > 1e-12 * size
    factor = (p * t).sum(1) / torch.where(good, spread, torch.ones_like(spread))
    factor = torch.where(good, factor, torch.ones_like(factor))
    return factor.to(prediction.dtype), (mean_t - factor * mean_p).to(prediction.dtype)


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
