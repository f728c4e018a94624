"""Flows from geometry, and what a flow can do: warp, splat, check itself.

Convention: a pair (a, b) lives on the pixel grid of a and points to b: ``x_b = x_a + flow_ab(x_a)``, in pixels of the
flow's own size, channel 0 = x.
"""

import torch
from torch import Tensor

from egoflow.geometry.camera import NEAREST, Camera
from egoflow.geometry.pixels import pixel_grid, sample
from egoflow.geometry.precision import full_precision
from egoflow.geometry.se3 import SE3


def reproject(depth_a: Tensor, camera: Camera, b_from_a: SE3) -> tuple[Tensor, Tensor, Tensor]:
    """Move each pixel of frame a into frame b.

    Takes z-depth [B, 1, H, W] and motions [B]. Returns pixels in b [B, H, W, 2], z-depth in b [B, 1, H, W] and
    ``in_front`` bool [B, 1, H, W]. (Zhou 2017, section 3.2)
    """
    with torch.autocast(depth_a.device.type, enabled=False):
        depth = full_precision(depth_a).squeeze(1)
        turn, shift = _pixel_motion(camera.to(depth.dtype), b_from_a.to(depth.dtype))
        y = torch.arange(camera.height, device=depth.device, dtype=depth.dtype)[:, None]
        x = torch.arange(camera.width, device=depth.device, dtype=depth.dtype)
        u, v, z = ((turn[:, i, 0, None, None] * x + (turn[:, i, 1, None, None] * y + turn[:, i, 2, None, None])) * depth
                   + shift[:, i, None, None] for i in range(3))
        in_front = z > NEAREST
        inv_z = 1 / torch.where(in_front, z, torch.ones_like(z))
        # Planes in memory, pairs to the eye: whoever works on xy next runs over contiguous numbers.
        xy = torch.stack((u * inv_z, v * inv_z), dim=1).permute(0, 2, 3, 1)
        return xy, z.unsqueeze(1), in_front.unsqueeze(1)


def _pixel_motion(camera: Camera, b_from_a: SE3) -> tuple[Tensor, Tensor]:
    """Return ``K R K^-1`` [B, 3, 3] and ``K t`` [B, 3]: the motion of homogeneous pixels, in closed form.

    Both folded into nine and three numbers, a pixel costs three multiplications less per axis and no point is made.
    """
    fx, fy, cx, cy = (v[:, None] for v in (camera.fx, camera.fy, camera.cx, camera.cy))
    r0, r1, r2 = b_from_a.R.unbind(-2)
    t0, t1, t2 = b_from_a.t.unsqueeze(-1).unbind(-2)
    rows = torch.stack((fx * r0 + cx * r2, fy * r1 + cy * r2, r2.expand_as(fx * r0)), dim=-2)
    left, middle, right = rows.unbind(-1)
    left, middle = left / fx, middle / fy
    turn = torch.stack((left, middle, right - cx * left - cy * middle), dim=-1)
    return turn, torch.cat((fx * t0 + cx * t2, fy * t1 + cy * t2, t2.expand_as(fx * t0)), dim=-1)


def rigid_flow(depth_a: Tensor, camera: Camera, b_from_a: SE3) -> tuple[Tensor, Tensor]:
    """Return the flow [B, 2, H, W] that depth and camera motion imply, and ``in_front`` bool [B, 1, H, W]."""
    xy, _, in_front = reproject(depth_a, camera, b_from_a)
    return flow_from_pixels(xy), in_front


def flow_from_pixels(xy: Tensor) -> Tensor:
    """Return the flow [B, 2, H, W] that ends at pixels ``xy`` [B, H, W, 2]."""
    grid = pixel_grid(xy.shape[1], xy.shape[2], device=xy.device, dtype=xy.dtype)
    return (xy - grid).permute(0, 3, 1, 2)


def pixels_from_flow(flow_ab: Tensor) -> Tensor:
    """Return the end points [B, H, W, 2] of a flow [B, 2, H, W]."""
    grid = pixel_grid(flow_ab.shape[2], flow_ab.shape[3], device=flow_ab.device, dtype=flow_ab.dtype)
    return flow_ab.permute(0, 2, 3, 1) + grid


def backward_warp(image_b: Tensor, flow_ab: Tensor) -> tuple[Tensor, Tensor]:
    """Return image b [B, C, H, W] on the grid of a, and ``inside`` bool [B, 1, H, W]."""
    return sample(image_b, pixels_from_flow(flow_ab))


def scene_flow(depth_a: Tensor, depth_b: Tensor, flow_ab: Tensor, camera: Camera,
               b_from_a: SE3) -> tuple[Tensor, Tensor]:
    """Return each point's own 3-D motion [B, 3, H, W] in the axes of camera a, and ``valid`` bool [B, 1, H, W].

    The camera's motion is removed: the static scene has zero. Units are those of depth; where one of the depths is not
    positive or the flow leaves the image the motion is not valid.
    """
    xy = pixels_from_flow(flow_ab)
    depth_b_on_a, inside = sample(depth_b, xy)
    fx, fy, cx, cy = (v.to(xy.dtype)[:, None, None] for v in (camera.fx, camera.fy, camera.cx, camera.cy))
    z = depth_b_on_a.squeeze(1)
    points_b = torch.stack(((xy[..., 0] - cx) / fx * z, (xy[..., 1] - cy) / fy * z, z), dim=-1)
    motion = b_from_a.inverse().apply(points_b) - camera.unproject(depth_a)
    return motion.permute(0, 3, 1, 2), inside & (depth_a > 0) & (depth_b_on_a > 0)


def forward_splat(value_a: Tensor, flow_ab: Tensor) -> tuple[Tensor, Tensor]:
    """Push values [B, C, H, W] along a flow onto the grid of b with bilinear weights.

    Returns the weighted mean [B, C, H, W] (zero where nothing lands) and the summed weight [B, 1, H, W]: below 1/2 the
    pixel of b is uncovered, well above 1 it is covered more than once (the range map of Wang 2018).
    """
    batch, channels, height, width = value_a.shape
    x, y = pixels_from_flow(flow_ab).unbind(-1)
    x0, y0 = x.floor(), y.floor()
    total = value_a.new_zeros(batch, channels + 1, height * width)
    payload = torch.cat((value_a, torch.ones_like(value_a[:, :1])), dim=1).flatten(2)
    for dx in (0, 1):
        for dy in (0, 1):
            xi, yi = x0 + dx, y0 + dy
            weight = (1 - (x - xi).abs()) * (1 - (y - yi).abs())
            inside = (xi >= 0) & (xi < width) & (yi >= 0) & (yi < height) & torch.isfinite(x) & torch.isfinite(y)
            # In integers: float32 cannot count the pixels of an image beyond 16 million.
            xi, yi = (torch.where(inside, v, torch.zeros_like(v)).long() for v in (xi, yi))
            index = (yi * width + xi).flatten(1)
            share = torch.where(inside, weight, torch.zeros_like(weight)).flatten(1)
            total = total.scatter_add(2, index[:, None].expand(-1, channels + 1, -1), payload * share[:, None])
    weight = total[:, channels:]
    value = total[:, :channels] / weight.clamp_min(1e-6)
    return value.unflatten(2, (height, width)), weight.unflatten(2, (height, width))


def forward_backward_error(flow_ab: Tensor, flow_ba: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Follow a flow there and back.

    Returns the squared return error |f + b(x + f)|^2, the squared size |f|^2 + |b(x + f)|^2 (both [B, 1, H, W], on the
    grid of a, square pixels) and ``inside`` bool [B, 1, H, W]. (Sundaram 2010; Meister 2018, equation 2)
    """
    flow_ba_on_a, inside = backward_warp(flow_ba, flow_ab)
    error = (flow_ab + flow_ba_on_a).square().sum(1, keepdim=True)
    size = flow_ab.square().sum(1, keepdim=True) + flow_ba_on_a.square().sum(1, keepdim=True)
    return error, size, inside
