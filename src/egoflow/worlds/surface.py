"""From hits to surfaces: points and normals in the solids' axes, and how far a pixel reaches on them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from egoflow.worlds.raycast import Hits, Rays, View
from egoflow.worlds.scene import Kind
from egoflow.worlds.solids import Components, normal_of, surface_slope
from egoflow.worlds.textures import Patch


@dataclass(frozen=True, slots=True)
class Surface:
    """Hit points, flattened: ``index`` [N] into the rays [F, S, H, W], and what was hit there.

    ``ray``, ``point`` and ``normal`` (of unit length) are in the solid's axes, as three components [N].
    """

    index: Tensor
    frame: Tensor
    solid: Tensor
    depth: Tensor
    ray: Components
    point: Components
    normal: Components


def _table(view: View) -> Tensor:
    """Return what a hit needs of its solid as rows [16, F P]: rotation, origin, size and kind."""
    frames, count = view.origin.shape[:2]
    kinds = torch.tensor([float(s.kind) for s in view.scene.solids]).to(view.origin)
    parts = (view.axes.flatten(2), view.origin, view.size.expand(frames, count, 3),
             kinds.expand(frames, count)[..., None])
    return torch.cat(parts, -1).flatten(0, 1).T.contiguous()


def surface(view: View, rays: Rays, hits: Hits) -> Surface:
    """Return the surface points of all rays that hit something."""
    frames, samples, height, width = hits.depth.shape
    index = (hits.solid.flatten() >= 0).nonzero().squeeze(1)
    frame = index // (samples * height * width)
    solid = hits.solid.flatten()[index].long()
    depth = hits.depth.flatten()[index]
    which = frame * len(view.scene.solids) + solid
    rows = [row.index_select(0, which) for row in _table(view)]
    x = rays.x.expand(frames, samples, height, width).flatten()[index]
    y = rays.y.expand(frames, samples, height, width).flatten()[index]
    ray = (rows[0] * x + rows[1] * y + rows[2], rows[3] * x + rows[4] * y + rows[5],
           rows[6] * x + rows[7] * y + rows[8])
    point = (rows[9] + depth * ray[0], rows[10] + depth * ray[1], rows[11] + depth * ray[2])
    normal = normal_of(rows[15], point, (rows[12], rows[13], rows[14]), _slopes(view, solid, point))
    scale = torch.rsqrt(normal[0].square() + normal[1].square() + normal[2].square())
    return Surface(index, frame, solid, depth, ray, point, (normal[0] * scale, normal[1] * scale, normal[2] * scale))


def _slopes(view: View, solid: Tensor, point: Components) -> tuple[Tensor, Tensor]:
    """Return the slope of the hills at each point, 0 on every other solid."""
    slopes = torch.zeros_like(point[0]), torch.zeros_like(point[0])
    for number, shape in enumerate(view.scene.solids):
        if shape.kind == Kind.HILLS and shape.waves is not None:
            here = (solid == number).nonzero().squeeze(1)
            for total, part in zip(slopes, surface_slope(point[0][here], point[2][here], shape.waves), strict=True):
                total[here] = part
    return slopes


def footprint_patch(view: View, at: Surface, *, samples: int) -> Patch:
    """Return texture coordinates and footprints of surface points.

    Each point takes the two axes that its normal faces least (box mapping), counted from the solid's corner. The
    footprint is the exact derivative of the hit point by the pixel (Igehy 1999, equation 12 for z = 1 rays).
    """
    which = at.frame * len(view.scene.solids) + at.solid
    axes = view.axes.flatten(0, 1).flatten(1).T.contiguous()
    facing = at.normal[0] * at.ray[0] + at.normal[1] * at.ray[1] + at.normal[2] * at.ray[2]
    facing = torch.where(facing.abs() < 1e-3, 1e-3, facing)
    reach = []
    # With several samples a pixel each stands for a part of it; the rest of the band is kept free of aliasing.
    shrink = samples ** -0.25
    for column, focal in ((0, view.camera.fx), (1, view.camera.fy)):
        step = [axes[3 * k + column].index_select(0, which) for k in range(3)]
        along = (at.normal[0] * step[0] + at.normal[1] * step[1] + at.normal[2] * step[2]) / facing
        scale = at.depth * (shrink / float(focal))
        reach.append([(step[k] - at.ray[k] * along) * scale for k in range(3)])
    return _box_mapped(view, at, reach[0], reach[1])


def _box_mapped(view: View, at: Surface, dx: list[Tensor], dy: list[Tensor]) -> Patch:
    """Return the patch in the two axes that the normals face least."""
    ax, ay, az = (n.abs() for n in at.normal)
    on_x, on_y = (ax >= ay) & (ax >= az), (ay > ax) & (ay >= az)
    corner = torch.where(torch.isfinite(view.size), view.size, torch.zeros_like(view.size)).T.contiguous()
    coordinate = [p + corner[k].index_select(0, at.solid) for k, p in enumerate(at.point)]
    spread = [x.abs() + y.abs() for x, y in zip(dx, dy, strict=True)]
    # Equal solids differ by where on the texture they were cut out.
    shift = (at.solid.to(ax.dtype) * 0.618034) % 1 * 64 * (at.solid > 0)
    u = torch.where(on_x, coordinate[2], coordinate[0])
    v = torch.where(on_y, coordinate[2], coordinate[1])
    fu, fv = torch.where(on_x, spread[2], spread[0]), torch.where(on_y, spread[2], spread[1])
    return Patch(u, v, fu, fv, shift, torch.stack((at.point[0], at.point[2])), torch.stack((dx[0], dx[2])),
                 torch.stack((dy[0], dy[2])))
