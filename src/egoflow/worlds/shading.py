"""Colour: texture, sun, shadow and sky, averaged over the samples of a pixel."""

import torch
from torch import Tensor

from egoflow.worlds import textures
from egoflow.worlds.raycast import Hits, Rays, View, cast, pixel_rays
from egoflow.worlds.shadows import in_sun
from egoflow.worlds.surface import Surface, footprint_patch, surface

_MOST_RAYS = 1 << 18  # What one band of rows may hold: temporaries stay within the processor's caches.


def render(view: View, *, samples: int) -> Tensor:
    """Return the images [F, 3, H, W] in [0, 1] of a view, ``samples`` colour samples a pixel."""
    height, width = view.camera.height, view.camera.width
    rows = max(1, _MOST_RAYS // (view.origin.shape[0] * samples * width))
    bands = []
    for top in range(0, height, rows):
        rays = pixel_rays(view.camera, samples=samples, rows=(top, min(top + rows, height)),
                          device=view.origin.device, dtype=view.origin.dtype)
        bands.append(_band(view, rays, samples))
    return torch.cat(bands, dim=2)


def _band(view: View, rays: Rays, samples: int) -> Tensor:
    """Return the colours [F, 3, h, W] of a band of rows."""
    hits = cast(view, rays)
    at = surface(view, rays, hits)
    patch = footprint_patch(view, at, samples=samples)
    kinds = torch.tensor([s.texture for s in view.scene.solids], device=at.solid.device)
    colour = textures.paint(view.scene.textures, kinds[at.solid], patch)
    colour *= _light(view, rays, hits, at)
    image = _sky(view, rays, hits.depth.shape)
    image.view(3, -1).index_copy_(1, at.index, colour)
    return image.mean(2).transpose(0, 1).clamp(0, 1)


def _light(view: View, rays: Rays, hits: Hits, at: Surface) -> Tensor:
    """Return the light [N] on each surface point: sun by Lambert's law, and ambient light from above."""
    up = (view.world_from_cam.R.mT @ torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)).to(view.axes)
    direct, upward = _toward(view, at, view.to_sun).clamp_min(0), _toward(view, at, up)
    light = view.scene.light
    if light.shadows:
        facing = torch.zeros_like(hits.solid, dtype=torch.bool)
        facing.view(-1)[at.index] = direct > 0
        direct = direct * in_sun(view, rays, hits, facing=facing).view(-1)[at.index]
    return light.ambient * (0.9 + 0.25 * upward) + light.sun * direct


def _toward(view: View, at: Surface, direction: Tensor) -> Tensor:
    """Return the cosine [N] between each normal and a ``direction`` [F, 3] in the cameras' axes."""
    local = (view.axes @ direction[:, None, :, None])[..., 0].flatten(0, 1).T.contiguous()
    which = at.frame * len(view.scene.solids) + at.solid
    x, y, z = (n * local[k].index_select(0, which) for k, n in enumerate(at.normal))
    return x + y + z


def _sky(view: View, rays: Rays, shape: torch.Size) -> Tensor:
    """Return a smooth sky [3, F, S, h, W]: the horizon's colour below, the zenith's above."""
    world = view.world_from_cam.R.to(view.axes)[:, :, :, None, None, None]
    rise = -(world[:, 1, 0] * rays.x + world[:, 1, 1] * rays.y + world[:, 1, 2])
    share = (1.6 * rise / (rays.x.square() + rays.y.square() + 1).sqrt()).clamp(0, 1).expand(shape)
    low, high = (rays.x.new_tensor(c).view(3, 1, 1, 1, 1) for c in (view.scene.light.horizon, view.scene.light.zenith))
    return torch.lerp(low, high, share)
