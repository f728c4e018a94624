"""The ground beneath a vehicle: nothing is seen below it (ours).

The inverse depth of a plane is affine in the pixel. Where the lower part of a picture is such a plane, every pixel
below its horizon has a farthest possible depth, that of the ground. What seems to be farther is not part of a static
scene, however well a photometric error likes it there: an object that moves along with the camera shows no parallax,
and so seems infinitely far.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from egoflow.geometry.pixels import pixel_grid
from egoflow.geometry.precision import full_precision

NEAR = 0.1
"""Relative difference up to which inverse depth counts as that of the plane."""
HORIZON_PX = 2.0
"""The horizon is taken to be so much lower than it was found."""
LEAST_SHARE = 0.5
"""Of the lowest quarter of the rows that must lie on the plane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """The plane's inverse depth [B, 1, H, W], below 0 above its horizon, and whether there is one, bool [B]."""

    inv_depth: Tensor
    found: Tensor

    def least(self, *, tolerance: float) -> Tensor:
        """Return ``1 - tolerance`` of the ground's inverse depth [B, 1, H, W]; 0 where nothing is known."""
        height = self.inv_depth.shape[-2]
        slope = (self.inv_depth[..., -1:, :] - self.inv_depth[..., :1, :]) / max(height - 1, 1)
        least = (1 - tolerance) * (self.inv_depth - HORIZON_PX * slope)
        return torch.where(self.found[:, None, None, None], least, torch.zeros_like(least)).clamp_min(0)


@torch.no_grad()
def ground_plane(inv_depth: Tensor, *, steps: int = 12) -> Ground:
    """Return the plane that inverse depth [B, 1, H, W] > 0 shows in the lower half of the picture.

    Begins under a level camera as high as half of the lowest rows say, then reweighs by relative error. There is no
    ground where less than ``LEAST_SHARE`` of the lowest quarter lies on the plane, or its horizon is not in the
    picture, as in a room's corner or below a drone.
    """
    with torch.autocast(inv_depth.device.type, enabled=False):
        return _plane(full_precision(inv_depth), steps=steps)


def _plane(value: Tensor, *, steps: int) -> Ground:
    """Return the plane of full-precision values."""
    batch, _, height, width = value.shape
    x, y = pixel_grid(height, width, device=value.device).reshape(-1, 2).unbind(-1)
    x, y = x.to(value.dtype), y.to(value.dtype)
    columns = torch.stack(((x + 0.5) / width - 0.5, (y + 0.5) / height - 0.5, torch.ones_like(x)), dim=1)
    lower, lowest = columns[:, 1] >= 0, columns[:, 1] >= 0.25
    flat = value.flatten(1)
    above = torch.where(lowest, flat / columns[:, 1], torch.full_like(flat, torch.nan)).nanmedian(1).values
    fitted = above[:, None] * columns[:, 1]
    # Near its horizon the plane is nearly 0, and whatever stands there would count for more than all of the road.
    floor = 0.25 * above[:, None]
    for step in range(steps):
        scale = NEAR * (3 if step < steps // 2 else 1)
        weight = lower * (fitted > 0) / (1 + (_off(flat, fitted) / scale).square()).square()
        fitted = _fit(flat, columns, weight / fitted.maximum(floor).square()) @ columns.mT
    on = (_off(flat, fitted).abs() < NEAR) & lowest
    plane = fitted.view(batch, 1, height, width)
    has_horizon = (plane[..., 0, :].amax((1, 2)) < 0) & (plane[..., -1, :].amin((1, 2)) > 0)
    return Ground(inv_depth=plane, found=has_horizon & (on.sum(1) >= LEAST_SHARE * lowest.sum().clamp_min(1)))


def _off(value: Tensor, fitted: Tensor) -> Tensor:
    """Return errors relative to the plane: the far ground counts as much as the near one, and a hole in it little."""
    return value / fitted.clamp_min(1e-6) - 1


def _fit(value: Tensor, columns: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted least-squares coefficients [B, 3] of values [B, N] over ``columns`` [N, 3]."""
    normal = torch.einsum("bn,ni,nj->bij", weight, columns, columns)
    right = torch.einsum("bn,ni->bi", weight * value, columns)
    little = 1e-6 * normal.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None].clamp_min(1e-12)
    eye = torch.eye(3, dtype=value.dtype, device=value.device)
    return torch.linalg.solve_ex(normal + little * eye, right.unsqueeze(-1))[0].squeeze(-1)
