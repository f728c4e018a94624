"""Exact ground truth of a rendered pair: what was hit at time a is followed, on its solid, to time b."""

from dataclasses import dataclass

import torch
from torch import Tensor

from egoflow.geometry.camera import Camera
from egoflow.geometry.flow import flow_from_pixels
from egoflow.geometry.se3 import SE3
from egoflow.types import Movable
from egoflow.worlds.raycast import Hits, View, cast, cast_points, pixel_rays
from egoflow.worlds.surface import Surface, surface

SKY_DEPTH_M = 1e6
"""Stands in depth maps where nothing was hit: so far that the flow there is that of the rotation alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairTruth(Movable):
    """All that is exactly known of frames (a, b), with batch dimension 1, at pixel centres, in metres and pixels.

    ``depth_a`` [1, 1, H, W] z-depth with ``valid_depth_a`` (False on sky); ``flow_ab`` [1, 2, H, W] with object motion;
    ``visible_ab`` (bool): the point is in view and unhidden in b; ``static_a``: it has no motion of its own;
    ``mover_id_a`` (int32): 0 for the static world, then the number of the body; ``scene_flow_ab`` [1, 3, H, W]: its own
    motion in the axes of camera a; ``normals_a`` [1, 3, H, W] towards the camera; ``b_from_a`` the camera's motion.
    The sky is at infinity: flow of the rotation alone, normal zero.
    """

    depth_a: Tensor
    depth_b: Tensor
    valid_depth_a: Tensor
    valid_depth_b: Tensor
    flow_ab: Tensor
    flow_ba: Tensor
    visible_ab: Tensor
    visible_ba: Tensor
    b_from_a: SE3
    static_a: Tensor
    mover_id_a: Tensor
    scene_flow_ab: Tensor
    normals_a: Tensor
    camera: Camera


@dataclass(frozen=True, slots=True)
class Geometry:
    """One frame's view in float64 with the hits and surface points of its pixel centres."""

    view: View
    hits: Hits
    at: Surface

    @staticmethod
    def of(view: View) -> "Geometry":
        """Cast the pixel centres of a view of one frame."""
        rays = pixel_rays(view.camera, samples=1, rows=(0, view.camera.height), device=view.origin.device,
                          dtype=view.origin.dtype)
        hits = cast(view, rays)
        return Geometry(view, hits, surface(view, rays, hits))

    def depth(self) -> Tensor:
        """Return the z-depth [1, 1, H, W] in float64."""
        return torch.where(self.hits.solid >= 0, self.hits.depth, SKY_DEPTH_M)

    def mover_id(self) -> Tensor:
        """Return the body [1, 1, H, W] of every pixel (int32), 0 for the static world and the sky."""
        bodies = self.view.scene.bodies.to(self.hits.solid.device, torch.int32)
        return torch.where(self.hits.solid >= 0, bodies[self.hits.solid.clamp_min(0).long()], 0)

    def moved(self, motion: SE3) -> Tensor:
        """Return the hit points [N, 3] mapped by their solids' motions ``motion`` [P] (frame_from_solid)."""
        points = torch.stack(self.at.point, -1)
        chosen = motion[self.at.solid]
        return (chosen.R @ points[..., None])[..., 0] + chosen.t

    def map_of(self, values: Tensor, fill: Tensor) -> Tensor:
        """Return the map [1, C, H, W] with ``values`` [N, C] at the hits and ``fill`` [H W, C] elsewhere."""
        height, width = self.hits.depth.shape[-2:]
        return fill.clone().index_copy_(0, self.at.index, values).T.reshape(1, -1, height, width)


def pair_truth(a: Geometry, b: Geometry) -> PairTruth:
    """Return all truth of a pair in float32; it is computed in float64."""
    b_from_a = b.view.world_from_cam.inverse() @ a.view.world_from_cam
    flow_ab, visible_ab = _flow(a, b, b_from_a)
    flow_ba, visible_ba = _flow(b, a, b_from_a.inverse())
    mover, device = a.mover_id(), a.hits.depth.device
    return PairTruth(depth_a=a.depth().float(), depth_b=b.depth().float(), valid_depth_a=a.hits.solid >= 0,
                     valid_depth_b=b.hits.solid >= 0, flow_ab=flow_ab.float(), flow_ba=flow_ba.float(),
                     visible_ab=visible_ab, visible_ba=visible_ba, b_from_a=b_from_a.to(device, torch.float32),
                     static_a=mover == 0, mover_id_a=mover, scene_flow_ab=_own_motion(a, b, b_from_a).float(),
                     normals_a=_normals(a).float(), camera=a.view.camera.to(device))


def _device_motion(view: View) -> SE3:
    """Return cam_from_solid [P] of a single view on its device."""
    return view.cam_from_solid[0].to(view.origin.device)


def _flow(a: Geometry, b: Geometry, b_from_a: SE3) -> tuple[Tensor, Tensor]:
    """Return the exact flow [1, 2, H, W] and visibility [1, 1, H, W] of the pixels of a in b."""
    camera = a.view.camera.to(a.hits.depth.dtype).to(a.hits.depth.device)
    rotated = camera.rays()[0].flatten(0, 1) @ b_from_a.R[0].T.to(a.hits.depth)
    points = a.map_of(a.moved(_device_motion(b.view)), rotated * SKY_DEPTH_M).permute(0, 2, 3, 1)
    xy, in_front = camera.project(points)
    x, y = xy.unbind(-1)
    inside = (x >= -1e-9) & (x <= camera.width - 1 + 1e-9) & (y >= -1e-9) & (y <= camera.height - 1 + 1e-9)
    z = torch.where(a.hits.solid[:, 0] >= 0, points[..., 2], torch.inf)
    nearest = cast_points(b.view, xy.flatten(0, 2), limit=z.flatten()).view_as(x)
    # In float64 the same surface is met again to 1e-12 of its depth; the sky is seen where nothing is met.
    unhidden = nearest >= z * (1 - 1e-7)
    return flow_from_pixels(xy), in_front & (inside & unhidden).unsqueeze(1)


def _own_motion(a: Geometry, b: Geometry, b_from_a: SE3) -> Tensor:
    """Return each point's motion besides the camera's [1, 3, H, W], in the axes of camera a."""
    a_from_b = b_from_a[0].inverse().to(a.hits.depth.device)
    moved = a_from_b.apply(a.moved(_device_motion(b.view))) - a.moved(_device_motion(a.view))
    bodies = a.view.scene.bodies.to(moved.device)
    moved = torch.where((bodies[a.at.solid] > 0)[:, None], moved, 0.0)
    return a.map_of(moved, moved.new_zeros(a.hits.depth.numel(), 3))


def _normals(a: Geometry) -> Tensor:
    """Return unit normals [1, 3, H, W] in the axes of camera a."""
    rotation = _device_motion(a.view).R[a.at.solid]
    values = (rotation @ torch.stack(a.at.normal, -1)[..., None])[..., 0]
    return a.map_of(values, values.new_zeros(a.hits.depth.numel(), 3))
