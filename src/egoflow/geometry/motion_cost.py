"""How badly a rigid motion explains a flow: the robust cost over matches, its gradient, normal matrix and Hessian.

With the squared residual ``s = |rigid_flow - flow|^2`` of a pixel, its weight w and a scale c in pixels the cost is
``sum w s / (2 (1 + s / c^2))`` (Geman & McClure 1985). Derivatives are by a twist (v, omega) that multiplies the motion
from the left, so that they need the moved points alone.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from egoflow.geometry.camera import NEAREST, Camera
from egoflow.geometry.flow import pixels_from_flow
from egoflow.geometry.precision import full_precision
from egoflow.geometry.se3 import SE3


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """Points of frame a and where the flow says they are seen in b.

    ``points`` [B, 3, n]; ``target`` [B, 2, n] in pixels from the principal point; ``flow`` [B, 2, n] in pixels;
    ``weight`` [B, n], 0 where a pixel is not used; ``focal`` [B, 2, 1] in pixels. All are finite.
    """

    points: Tensor
    target: Tensor
    flow: Tensor
    weight: Tensor
    focal: Tensor

    def detach(self) -> "Matches":
        """Return the matches cut from the graph."""
        return Matches(points=self.points.detach(), target=self.target.detach(), flow=self.flow.detach(),
                       weight=self.weight.detach(), focal=self.focal.detach())


def matches_of(depth_a: Tensor, flow_ab: Tensor, *, weight: Tensor, camera: Camera, most: int) -> Matches:
    """Return the matches of at most ``most`` pixels on a regular grid; shapes as in ``solve_motion``.

    A pixel whose depth is not positive and finite, or whose flow is not finite, has weight 0.
    """
    stride = _stride(camera.height, camera.width, most)
    flow = full_precision(flow_ab[..., ::stride, ::stride])
    depth, weight = (full_precision(v[..., ::stride, ::stride]).to(flow) for v in (depth_a, weight))
    use = (weight > 0) & (depth > 0) & depth.isfinite() & flow.isfinite().all(1, keepdim=True)
    depth = torch.where(use, depth, torch.ones_like(depth))
    flow = torch.where(use, flow, torch.zeros_like(flow))
    weight = torch.where(use, weight, torch.zeros_like(weight))
    # Pixel i of the grid is pixel i * stride of the image: a camera whose numbers are all divided by the stride.
    fx, fy, cx, cy = (v.to(flow) for v in (camera.fx, camera.fy, camera.cx, camera.cy))
    grid = Camera(fx=fx / stride, fy=fy / stride, cx=cx / stride, cy=cy / stride, height=flow.shape[2],
                  width=flow.shape[3])
    centre = torch.stack((cx, cy), dim=-1)[:, :, None]
    target = stride * pixels_from_flow(flow / stride).flatten(1, 2).mT - centre
    return Matches(points=grid.unproject(depth).flatten(1, 2).mT.contiguous(), target=target, flow=flow.flatten(2),
                   weight=weight.flatten(1), focal=torch.stack((fx, fy), dim=-1)[:, :, None])


def _stride(height: int, width: int, most: int) -> int:
    """Return the smallest stride that leaves at most ``most`` pixels."""
    stride = 1
    while -(-height // stride) * -(-width // stride) > max(most, 1):
        stride += 1
    return stride


@dataclass(frozen=True, slots=True, kw_only=True)
class Residuals:
    """What a motion leaves of the flow of ``matches``.

    ``moved`` [B, 3, n]: the points in frame b, (1, 1, 1) for one behind the camera; ``pixels`` [B, 2, n]: rigid flow
    minus flow; ``square`` [B, n]: their squared length; ``in_front`` bool [B, n].
    """

    matches: Matches
    moved: Tensor
    pixels: Tensor
    square: Tensor
    in_front: Tensor

    @staticmethod
    def of(matches: Matches, b_from_a: SE3) -> "Residuals":
        """Move the points and compare where they are seen with where the flow says."""
        moved = b_from_a.R @ matches.points + b_from_a.t.unsqueeze(-1)
        in_front = moved[:, 2] > NEAREST
        moved = torch.where(in_front.unsqueeze(1), moved, torch.ones_like(moved))
        pixels = matches.focal * moved[:, :2] / moved[:, 2:] - matches.target
        return Residuals(matches=matches, moved=moved, pixels=pixels, square=pixels.square().sum(1), in_front=in_front)

    def cost(self, scale: Tensor) -> Tensor:
        """Return the robust cost [B] at ``scale`` [B] in pixels, in units of the most that one pixel can cost.

        A point behind the camera costs as much as one at infinity: pushing it there never pays.
        """
        share = self.square / (self.square + scale.square().unsqueeze(-1))
        return (self.matches.weight * torch.where(self.in_front, share, torch.ones_like(share))).sum(-1)

    def influence(self, scale: Tensor) -> Tensor:
        """Return the weight [B, n] of each pixel in the normal equations: ``w / (1 + s / c^2)^2``."""
        influence = self.matches.weight / (1 + self.square / scale.square().unsqueeze(-1)).square()
        return torch.where(self.in_front, influence, torch.zeros_like(influence))


def pull(residuals: Residuals) -> Tensor:
    """Return the derivative [B, 3, n] of each pixel's ``s / 2`` by its moved point."""
    inverse = 1 / residuals.moved[:, 2:]
    across = residuals.matches.focal * residuals.pixels * inverse
    return torch.cat((across, -(across * residuals.moved[:, :2]).sum(1, keepdim=True) * inverse), dim=1)


def gradient(residuals: Residuals, influence: Tensor) -> Tensor:
    """Return the derivative [B, 6] of the cost by a left twist (v, omega)."""
    weighted = pull(residuals) * influence.unsqueeze(1)
    # The sum of moved x pull is the skew part of the moment: far cheaper than a product per pixel.
    moment = weighted @ residuals.moved.mT
    turn = torch.stack((moment[:, 2, 1] - moment[:, 1, 2], moment[:, 0, 2] - moment[:, 2, 0],
                        moment[:, 1, 0] - moment[:, 0, 1]), dim=-1)
    return torch.cat((weighted.sum(-1), turn), dim=-1)


def normal_matrix(residuals: Residuals, influence: Tensor) -> Tensor:
    """Return the Gauss-Newton approximation [B, 6, 6] of the cost's second derivative by a left twist (v, omega)."""
    inverse = 1 / residuals.moved[:, 2]
    x, y = residuals.moved[:, 0] * inverse, residuals.moved[:, 1] * inverse
    zero = torch.zeros_like(x)
    # The derivatives of both pixel coordinates by one entry of the twist after the other.
    rows = (inverse, zero, zero, inverse, -x * inverse, -y * inverse,
            -x * y, -(1 + y * y), 1 + x * x, x * y, -y, x)
    per_pixel = residuals.matches.focal * influence.sqrt().unsqueeze(1)
    slopes = (torch.stack(rows, dim=1).unflatten(1, (6, 2)) * per_pixel.unsqueeze(1)).flatten(2)
    return slopes @ slopes.mT


def hessian(residuals: Residuals, scale: Tensor) -> Tensor:
    """Return the exact second derivative [B, 6, 6] of the cost by a left twist, where its gradient is zero.

    With h the derivative of a pixel's s / 2 by the twist and k that of its point's z, a pixel adds to the Gauss-Newton
    term what the robust cost loses, ``-4 / c^2 w (1 + s / c^2)^-3 h h^T``, and the curvature of the projection,
    ``-w (1 + s / c^2)^-2 (h k^T + k h^T) / z``. That of the rotation is, over all pixels, ``M - trace(M)`` with M the
    moment of their pulls about the camera.
    """
    influence, by_point = residuals.influence(scale), pull(residuals)
    by_twist = torch.cat((by_point, torch.linalg.cross(residuals.moved, by_point, dim=1)), dim=1)
    x, y, z = residuals.moved.unbind(1)
    zero = torch.zeros_like(x)
    forward = torch.stack((zero, zero, torch.ones_like(x), y, -x, zero), dim=1)
    lost = -4 * influence / (scale.square().unsqueeze(-1) + residuals.square)
    bent = -(by_twist * (influence / z).unsqueeze(1)) @ forward.mT
    moment = (by_point * influence.unsqueeze(1)) @ residuals.moved.mT
    moment = (moment + moment.mT) / 2
    trace = moment.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
    turning = moment - trace * torch.eye(3, dtype=moment.dtype, device=moment.device)
    return (normal_matrix(residuals, influence) + (by_twist * lost.unsqueeze(1)) @ by_twist.mT + bent + bent.mT
            + F.pad(turning, (3, 0, 3, 0)))
