"""Depth that two views of known motion imply: where the rays of a match come closest.

Convention: a pair (a, b) lives on the pixel grid of a; depth is z in the axes of camera a, in units of the translation.
"""

import torch
from torch import Tensor

from egoflow.geometry.camera import NEAREST, Camera
from egoflow.geometry.flow import pixels_from_flow
from egoflow.geometry.pixels import inside_image
from egoflow.geometry.precision import full_precision
from egoflow.geometry.se3 import SE3


def midpoint_depth(flow_ab: Tensor, camera: Camera, b_from_a: SE3, *, least_px: float = 0.5) -> tuple[Tensor, Tensor]:
    """Return the z-depth [B, 1, H, W] of the point midway between both rays of a match, and where it is determined.

    Takes a flow [B, 2, H, W] and motions [B]. It is determined (bool [B, 1, H, W]) in view of b, in front of both
    cameras, and where the rays, without the camera's turn, differ by ``least_px`` pixels: near the focus of expansion
    they do not. (Hartley & Sturm 1997, section 5.3)
    """
    with torch.autocast(flow_ab.device.type, enabled=False):
        ends = pixels_from_flow(full_precision(flow_ab))
        rays_a = camera.rays(dtype=ends.dtype)
        fx, fy, cx, cy = (v.to(ends.dtype)[:, None, None] for v in (camera.fx, camera.fy, camera.cx, camera.cy))
        x, y = (ends[..., 0] - cx) / fx, (ends[..., 1] - cy) / fy
        rays_b = torch.stack((x, y, torch.ones_like(x)), dim=-1)
        motion = b_from_a.to(ends.dtype)
        turned = SE3(motion.R, torch.zeros_like(motion.t)).apply(rays_a)
        shift = motion.t[:, None, None].expand_as(turned)
        # By cross products: in the determinant of the normal equations a small parallax would cancel.
        across = torch.linalg.cross(turned, rays_b)
        square = across.square().sum(-1)
        parallax = square.detach() / (turned.square().sum(-1) * rays_b.square().sum(-1)).detach()
        apart = parallax > (least_px / torch.maximum(fx, fy)) ** 2
        safe = torch.where(apart, square, torch.ones_like(square))
        along_a = (torch.linalg.cross(rays_b, shift) * across).sum(-1) / safe
        along_b = (torch.linalg.cross(turned, shift) * across).sum(-1) / safe
        # The ends of the common perpendicular in b; its middle, seen from a.
        middle = 0.5 * (along_a[..., None] * turned + along_b[..., None] * rays_b - shift)
        depth = (middle * motion.R[:, None, None, :, 2]).sum(-1).unsqueeze(1)
        front = (along_a > NEAREST) & (along_b > NEAREST) & apart
        seen = inside_image(ends.detach(), height=camera.height, width=camera.width)
        return depth, front.unsqueeze(1) & seen & (depth.detach() > NEAREST)
