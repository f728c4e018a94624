"""The ground beneath a vehicle: nothing is seen below it (ours).

The inverse depth of a plane is affine in the pixel. Where the lower part of a picture is such a plane, every pixel
below its horizon has a farthest possible depth, that of the ground. What seems to be farther is not part of a static
scene, however well a photometric error likes it there: an object that moves along with the camera shows no parallax,
and so seems infinitely far.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from egoflow.geometry.camera import Camera
from egoflow.geometry.pixels import pixel_grid
from egoflow.geometry.precision import full_precision
from egoflow.geometry.se3 import SE3

NEAR = 0.1
"""Relative difference up to which inverse depth counts as that of the plane."""
HORIZON_PX = 2.0
"""The horizon is taken to be so much lower than it was found."""
LEAST_SHARE = 0.5
"""Of the lowest quarter of the rows that must lie on the plane."""
LEVEL = 0.06
"""Largest distance of the epipole from the horizon, in shares of the picture's height."""


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
def ground_plane(inv_depth: Tensor, camera: Camera, b_from_a: SE3, *, steps: int = 12) -> Ground:
    """Return the plane that inverse depth [B, 1, H, W] > 0 of frames a shows in the lower half of the picture.

    Begins under a level camera as high as half of the lowest rows say, then reweighs by relative error. There is no
    ground where less than ``LEAST_SHARE`` of the lowest quarter lies on the plane, or where the camera does not drive
    along it: the epipole of the motions b_from_a [B] must lie within ``LEVEL`` of the picture's height of the plane's
    horizon. In a room's corner, below a drone, or before a depth map that is not trained yet it does not.
    """
    with torch.autocast(inv_depth.device.type, enabled=False):
        value = full_precision(inv_depth)
        plane = _plane(value, steps=steps)
        height, width = value.shape[-2:]
        fitted = _drawn(plane, height=height, width=width)
        lowest = _columns(height, width, like=value)[:, 1] >= 0.25
        on = (_off(value.flatten(1), fitted.flatten(1)).abs() < NEAR) & lowest
        found = (on.sum(1) >= LEAST_SHARE * lowest.sum().clamp_min(1)) & _driven_along(plane, camera, b_from_a)
        return Ground(inv_depth=fitted, found=found)


def _plane(value: Tensor, *, steps: int) -> Tensor:
    """Return the plane [B, 3] of inverse depth over ``_columns``, of every other row and column of the lower half."""
    height, width = value.shape[-2:]
    columns = _columns(height, width, like=value).view(height, width, 3)[height // 2::2, ::2].flatten(0, 1)
    lowest = columns[:, 1] >= 0.25
    flat = value[..., height // 2::2, ::2].flatten(1)
    above = torch.where(lowest, flat / columns[:, 1], torch.full_like(flat, torch.nan)).nanmedian(1).values
    plane = above[:, None] * torch.tensor([0.0, 1.0, 0.0], dtype=value.dtype, device=value.device)
    # Near its horizon the plane is nearly 0, and whatever stands there would count for more than all of the road.
    floor = 0.25 * above[:, None]
    for step in range(steps):
        scale = NEAR * (3 if step < steps // 2 else 1)
        fitted = plane @ columns.mT
        weight = (fitted > 0) / (1 + (_off(flat, fitted) / scale).square()).square()
        plane = _fit(flat, columns, weight / fitted.maximum(floor).square())
    return plane


def _columns(height: int, width: int, *, like: Tensor) -> Tensor:
    """Return x and y [H W, 3] of the pixels, in shares of the picture from its middle, and 1."""
    x, y = pixel_grid(height, width, device=like.device).reshape(-1, 2).to(like.dtype).unbind(-1)
    return torch.stack(((x + 0.5) / width - 0.5, (y + 0.5) / height - 0.5, torch.ones_like(x)), dim=1)


def _drawn(plane: Tensor, *, height: int, width: int) -> Tensor:
    """Return the inverse depth [B, 1, H, W] of planes [B, 3]."""
    return (plane @ _columns(height, width, like=plane).mT).view(-1, 1, height, width)


def _driven_along(plane: Tensor, camera: Camera, b_from_a: SE3) -> Tensor:
    """Return bool [B] where the camera drives ahead or back along the plane: its epipole lies on the horizon."""
    tx, ty, tz = b_from_a.t.to(plane.dtype).unbind(-1)
    ahead = tz.abs() > 0.7 * b_from_a.t.norm(dim=-1)
    depth = torch.where(ahead, tz, torch.ones_like(tz))
    x, y = camera.fx * tx / depth + camera.cx, camera.fy * ty / depth + camera.cy
    across, down, level = plane.unbind(-1)
    there = across * ((x + 0.5) / camera.width - 0.5) + down * ((y + 0.5) / camera.height - 0.5) + level
    return ahead & (down > 0) & (there.abs() < LEVEL * down)


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
