"""Cast camera rays into a scene: object by object, each within its own rectangle of the screen.

The cost of a solid is its rectangle, not the image, so forty objects cost little more than the few that fill the
view. Rays have z = 1 in the camera, hence the ray parameter *is* the z-depth. Frames are batched: [F, S, H, W] for F
frames with S samples a pixel.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from egoflow.geometry.camera import Camera
from egoflow.geometry.se3 import SE3
from egoflow.worlds.scene import UNBOUNDED, Scene
from egoflow.worlds.solids import Components, first_hit
from egoflow.worlds.tiles import point_tiles, trimmed

_CORNERS = torch.tensor([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=torch.float64)
EDGES = torch.tensor([[i, j] for i in range(8) for j in range(i + 1, 8) if (i ^ j) in (1, 2, 4)])
_SWEPTEDGES = torch.cat((EDGES, EDGES + 8, torch.stack((torch.arange(8), torch.arange(8) + 8), 1)))
_NEAR_M = 0.02


@dataclass(frozen=True, slots=True)
class View:
    """A scene as F cameras see it: ``cam_from_solid`` [F, P] float64 and its inverse in the working precision."""

    scene: Scene
    camera: Camera
    cam_from_solid: SE3
    world_from_cam: SE3
    origin: Tensor
    axes: Tensor
    size: Tensor
    to_sun: Tensor

    def solid(self, index: int) -> tuple[Components, tuple[Tensor, ...], Components]:
        """Return one solid's ray origin (3), rotation rows (9), each [F, 1, 1, 1], and size (3, scalars)."""
        origin = self.origin[:, index].T[:, :, None, None, None]
        axes = self.axes[:, index].flatten(1).T[:, :, None, None, None]
        size = self.size[index]
        return (origin[0], origin[1], origin[2]), axes.unbind(0), (size[0], size[1], size[2])


@dataclass(frozen=True, slots=True)
class Rays:
    """Rays through pixels: normalised coordinates ``x`` [S, 1, W] and ``y`` [S, H, 1] of rows from ``top`` on."""

    x: Tensor
    y: Tensor
    top: int


@dataclass(frozen=True, slots=True)
class Hits:
    """The nearest surfaces: z-``depth`` [F, S, H, W] (infinite on sky) and index of the ``solid`` (-1 on sky)."""

    depth: Tensor
    solid: Tensor


def look(scene: Scene, camera: Camera, times_s: list[float], world_from_cam: SE3, *, device: torch.device,
         dtype: torch.dtype) -> View:
    """Return the scene from the cameras ``world_from_cam`` [F] (float64) at ``times_s`` (F)."""
    cam_from_world = world_from_cam.inverse()
    cam_from_solid = cam_from_world[:, None] @ scene.world_from_solid(times_s)
    solid_from_cam = cam_from_solid.inverse()
    to_sun = cam_from_world.R @ torch.tensor(scene.light.to_sun, dtype=torch.float64)
    return View(scene, camera, cam_from_solid, world_from_cam, solid_from_cam.t.to(device, dtype),
                solid_from_cam.R.to(device, dtype), scene.sizes.to(device, dtype),
                torch.nn.functional.normalize(to_sun, dim=-1).to(device, dtype))


def sample_offsets(samples: int) -> Tensor:
    """Return where in the pixel the colour samples lie [S, 2], in (-0.5, 0.5): a skewed grid or a Kronecker set."""
    side = round(samples ** 0.5)
    if samples == 1:
        return torch.zeros(1, 2, dtype=torch.float64)
    if side * side == samples:
        cell = (torch.arange(side, dtype=torch.float64) + 0.5) / side - 0.5
        skew = cell / side
        return torch.stack(((cell[None] + skew[:, None]).flatten(), (cell[:, None] - skew[None]).flatten()), -1)
    index = torch.arange(samples, dtype=torch.float64)[:, None]
    # The plastic number's powers spread any count of points evenly (Roberts 2018).
    return (0.5 + index * torch.tensor([0.7548776662466927, 0.5698402909980532], dtype=torch.float64)) % 1 - 0.5


def pixel_rays(camera: Camera, *, samples: int, rows: tuple[int, int], device: torch.device,
               dtype: torch.dtype) -> Rays:
    """Return the rays of pixel rows [rows[0], rows[1])."""
    offsets = sample_offsets(samples)
    fx, fy, cx, cy = (v.double().cpu() for v in (camera.fx, camera.fy, camera.cx, camera.cy))
    x = (torch.arange(camera.width) + offsets[:, :1] - cx) / fx
    y = (torch.arange(*rows) + offsets[:, 1:] - cy) / fy
    return Rays(x[:, None, :].to(device, dtype), y[:, :, None].to(device, dtype), rows[0])


def screen_bounds(points: Tensor, edges: Tensor, camera: Camera) -> Tensor:
    """Return pixel rectangles [P, 4] (first row, last row + 1, first column, last column + 1) of polyhedra.

    ``points`` [F, P, V, 3] in the camera; edges through the near plane are cut there. Frames share one rectangle.
    """
    a, b = points[:, :, edges[:, 0]], points[:, :, edges[:, 1]]
    za, zb = a[..., 2:], b[..., 2:]
    crosses = (za < _NEAR_M) != (zb < _NEAR_M)
    share = (_NEAR_M - za) / torch.where(crosses, zb - za, torch.ones_like(za))
    ends = torch.cat((points, a + share * (b - a)), dim=2)
    valid = torch.cat((points[..., 2] >= _NEAR_M, crosses[..., 0]), dim=2)
    z = torch.where(valid, ends[..., 2], torch.ones_like(ends[..., 2]))
    bounds = []
    for axis, focal, centre, limit in ((1, camera.fy, camera.cy, camera.height),
                                       (0, camera.fx, camera.cx, camera.width)):
        pixel = focal.double().cpu() * ends[..., axis] / z + centre.double().cpu()
        first = torch.where(valid, pixel, torch.inf).amin((0, 2)) + 0.499
        last = torch.where(valid, pixel, -torch.inf).amax((0, 2)) + 1.501
        bounds += [first.clamp(0, limit).floor().long(), last.clamp(0, limit).floor().long()]
    return torch.stack(bounds, -1)


def corners(view: View) -> Tensor:
    """Return the corners [F, P, 8, 3] of the solids' own boxes in the camera; unbounded solids get a point."""
    size = view.scene.sizes
    size = torch.where(torch.isfinite(size), size, torch.zeros_like(size))
    local = _CORNERS * size[:, None]
    motion = view.cam_from_solid
    return torch.einsum("fpij,pvj->fpvi", motion.R, local) + motion.t[:, :, None]


def rectangles(view: View) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Return each solid's pixel rectangle [P, 4], its least z-depth [P] and which are in view, nearest first.

    Unbounded solids come last: what stands before them is known by then.
    """
    boxes = corners(view)
    bounds = screen_bounds(boxes, EDGES, view.camera)
    unbounded = torch.tensor([s.kind in UNBOUNDED for s in view.scene.solids])
    bounds[unbounded] = torch.tensor([0, view.camera.height, 0, view.camera.width])
    nearest = boxes[..., 2].amin((0, 2)).clamp_min(0)
    order_by = torch.where(unbounded, torch.inf, nearest)
    nearest[unbounded] = 0
    seen = (bounds[:, 0] < bounds[:, 1]) & (bounds[:, 2] < bounds[:, 3])
    order = order_by.argsort(stable=True)
    return bounds.numpy(), nearest.numpy(), order[seen[order]].tolist()


def directions(axes: tuple[Tensor, ...], x: Tensor, y: Tensor) -> Components:
    """Return the rays (x, y, 1) in a solid's axes."""
    return (axes[0] * x + (axes[1] * y + axes[2]), axes[3] * x + (axes[4] * y + axes[5]),
            axes[6] * x + (axes[7] * y + axes[8]))


def cast(view: View, rays: Rays) -> Hits:
    """Return the nearest hit of every pixel ray."""
    rows, columns = rays.y.shape[1], rays.x.shape[2]
    shape = (view.origin.shape[0], rays.x.shape[0], rows, columns)
    depth = rays.x.new_full(shape, view.scene.far_m)
    solid = torch.full(shape, -1, dtype=torch.int32, device=depth.device)
    bounds, nearest, order = rectangles(view)
    on_cpu = depth.device.type == "cpu"
    for index in order:
        r0, r1 = (int(v) for v in (bounds[index, :2] - rays.top).clip(0, rows))
        c0, c1 = (int(v) for v in bounds[index, 2:])
        if r0 >= r1:
            continue
        best = depth[..., r0:r1, c0:c1]
        # Nearest first: most of a street stands hidden. (Asking costs a stall on a GPU, where hidden solids are cheap.)
        if on_cpu and float(best.amax()) < nearest[index]:
            continue
        shape_of = view.scene.solids[index]
        origin, axes, size = view.solid(index)
        direction = directions(axes, rays.x[..., c0:c1], rays.y[:, r0:r1])
        t = first_hit(shape_of.kind, origin, direction, size, shape_of.waves)
        solid[..., r0:r1, c0:c1].masked_fill_(t < best, index)
        best.copy_(torch.minimum(best, t))
    return Hits(depth.masked_fill_(solid < 0, torch.inf), solid)


def cast_points(view: View, xy: Tensor, *, limit: Tensor) -> Tensor:
    """Return the z-depth [N] of the nearest surface along the rays through pixels ``xy`` [N, 2] of a single view.

    Only surfaces nearer than ``limit`` [N] need to be found; of others the answer may be infinite. Rays outside the
    image find nothing.
    """
    camera = view.camera
    x = (xy[:, 0] - camera.cx.to(xy)) / camera.fx.to(xy)
    y = (xy[:, 1] - camera.cy.to(xy)) / camera.fy.to(xy)
    depth = torch.full_like(x, view.scene.far_m)
    bounds, nearest, order = rectangles(view)
    tiles = point_tiles(xy, limit, height=camera.height, width=camera.width)
    bounds = trimmed(bounds, (nearest, np.full_like(nearest, np.inf)), tiles)
    for index in order:
        # Pixel i holds the rays from i - 0.5 to i + 0.5.
        r0, r1, c0, c1 = (float(v) - 0.5 for v in bounds[index])
        if r0 >= r1 or c0 >= c1:
            continue
        chosen = ((xy[:, 0] > c0) & (xy[:, 0] < c1) & (xy[:, 1] > r0) & (xy[:, 1] < r1)).nonzero().squeeze(1)
        shape_of = view.scene.solids[index]
        origin, axes, size = view.solid(index)
        direction = directions(axes, x[chosen], y[chosen])
        t = first_hit(shape_of.kind, origin, direction, size, shape_of.waves).flatten()
        depth[chosen] = torch.minimum(depth[chosen], t)
    return torch.where(depth < view.scene.far_m, depth, torch.inf)
