"""Hard shadows: which surface points see the sun.

Each solid darkens at most the screen rectangle of its box swept along the light down to the lowest floor; of that, only
the tiles whose depths it reaches are looked at.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from egoflow.worlds.raycast import EDGES, Hits, Rays, View, corners, directions, screen_bounds
from egoflow.worlds.scene import UNBOUNDED
from egoflow.worlds.solids import interval
from egoflow.worlds.tiles import depth_tiles, trimmed

_SWEPT_EDGES = torch.cat((EDGES, EDGES + 8, torch.stack((torch.arange(8), torch.arange(8) + 8), 1)))


def _swept(view: View) -> Tensor:
    """Return the corners [F, P, 16, 3] of each solid's box and of the same box moved along the light to the floor."""
    own = corners(view)
    light = view.scene.light
    toward = F.normalize(torch.tensor(light.to_sun, dtype=torch.float64), dim=0)
    world = view.world_from_cam.R[:, None, None] @ own[..., None]
    height = light.floor_y - (world[..., 1, 0] + view.world_from_cam.t[:, 1, None, None])
    reach = (height.amax(2).clamp_min(0) / max(-float(toward[1]), 0.05))[..., None, None]
    return torch.cat((own, own - reach * (view.world_from_cam.R.mT @ toward)[:, None, None]), dim=2)


def shadow_rectangles(view: View, rays: Rays, depth: Tensor) -> np.ndarray:
    """Return the rectangles [P, 4], in rows of the band, that each solid's shadow may touch; empty for no caster.

    ``depth`` [F, S, h, W] is infinite where no sun is to be asked for.
    """
    swept = _swept(view)
    bounds = screen_bounds(swept, _SWEPT_EDGES, view.camera).numpy()
    casts = np.array([s.casts_shadow and s.kind not in UNBOUNDED for s in view.scene.solids])
    reach = swept[..., 2].amin((0, 2)).numpy(), swept[..., 2].amax((0, 2)).numpy()
    return trimmed(np.where(casts[:, None], bounds, 0), reach, depth_tiles(depth), top=rays.top)


def in_sun(view: View, rays: Rays, hits: Hits, *, facing: Tensor) -> Tensor:
    """Return bool [F, S, h, W]: the point faces the sun (``facing``) and no other solid stands between."""
    lit = facing.clone()
    depth = torch.where(facing, hits.depth, torch.inf)
    for index, (r0, r1, c0, c1) in enumerate(shadow_rectangles(view, rays, depth).tolist()):
        if r0 >= r1 or c0 >= c1:
            continue
        origin, axes, size = view.solid(index)
        ray = directions(axes, rays.x[..., c0:c1], rays.y[:, r0:r1])
        z = hits.depth[..., r0:r1, c0:c1]
        point = (origin[0] + z * ray[0], origin[1] + z * ray[1], origin[2] + z * ray[2])
        sun = (view.axes[:, index] @ view.to_sun[..., None])[..., 0].T[:, :, None, None, None]
        near, far = interval(view.scene.solids[index].kind, point, (sun[0], sun[1], sun[2]), size)
        # A convex solid does not shade itself where it faces the sun.
        blocked = (near <= far) & (far > 0) & (hits.solid[..., r0:r1, c0:c1] != index)
        lit[..., r0:r1, c0:c1] &= ~blocked
    return lit
