"""Band-limited procedural textures.

A texture is a sum of noise octaves, each faded out before its cells grow smaller than a pixel, with up to two layers
of tiles (windows, bricks, stripes, checks) whose coverage is integrated over the pixel in closed form. Nothing finer
than a pixel reaches the image, so a moving camera sees no shimmer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

Colour = tuple[float, float, float]
_PERIOD = 256
_OCTAVES = 6
_LACUNARITY = 2.17  # Not an integer, so the periods of the octaves' tables never meet.


class Patch(NamedTuple):
    """Points to be painted: texture coordinates and the pixel's footprint along them, all [N], in metres.

    ``u``, ``v`` are coordinates on the surface; ``fu``, ``fv`` how far one pixel reaches along them; ``shift`` moves
    the noise so that equal solids differ. ``xz`` [2, N] are the first and third coordinates in the solid's axes and
    ``dx``, ``dy`` [2, N] their change to the next pixel in x and y.
    """

    u: Tensor
    v: Tensor
    fu: Tensor
    fv: Tensor
    shift: Tensor
    xz: Tensor
    dx: Tensor
    dy: Tensor

    def take(self, index: Tensor) -> "Patch":
        """Return the points of ``index``."""
        return Patch(*(value[..., index] for value in self))


Paint = Callable[[Patch], Tensor]
"""Colours [3, N] of a patch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """A layer of tiles ``width`` x ``height`` metres, of which the middle ``duty`` shares are painted.

    ``jitter`` varies the brightness from tile to tile, ``stagger`` shifts every next row by that share of a tile, and
    ``checker`` paints the two opposite corners of a cell instead of its middle.
    """

    colour: Colour
    width: float
    height: float
    duty: tuple[float, float] = (0.5, 0.5)
    jitter: float = 0.3
    stagger: float = 0.0
    checker: bool = False

    def row(self) -> list[float]:
        """Return the layer as numbers, for the table of all textures."""
        return [*self.colour, self.width, self.height, *self.duty, self.jitter, self.stagger, float(self.checker), 1.0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Texture:
    """Noise between two colours whose coarsest cells are ``cell`` metres, under up to two layers of tiles.

    ``roughness`` is each octave's strength relative to the one before; ``contrast`` 0 gives one plain colour. ``paint``
    replaces all of it.
    """

    low: Colour
    high: Colour
    cell: float = 2.0
    roughness: float = 0.75
    contrast: float = 1.0
    layers: tuple[Tiles, ...] = ()
    paint: Paint | None = None

    def row(self) -> list[float]:
        """Return the texture as numbers, for the table of all textures."""
        layers = [layer.row() for layer in self.layers] + [[0.0] * 3 + [1.0] * 2 + [0.0] * 6] * (2 - len(self.layers))
        return [*self.low, *self.high, self.cell, self.roughness, self.contrast, *layers[0], *layers[1]]


@lru_cache(maxsize=8)
def _lattice(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the four corner values [256 * 256, 4] in [-1, 1] of every lattice cell."""
    value = torch.from_numpy(np.random.default_rng(20170425).uniform(-1, 1, (_PERIOD, _PERIOD)))
    right, below = value.roll(-1, 1), value.roll(-1, 0)
    return torch.stack((value, right, below, below.roll(-1, 1)), -1).flatten(0, 1).to(device, dtype).contiguous()


def _cell(u: Tensor, v: Tensor) -> Tensor:
    """Return the lattice index of the cells with corner (u, v), both whole numbers."""
    return ((v.to(torch.int32) & (_PERIOD - 1)) << 8) | (u.to(torch.int32) & (_PERIOD - 1))


def _ease(x: Tensor) -> Tensor:
    """Return the quintic step of Perlin 2002, smooth to the second derivative."""
    return x * x * x * (x * (x * 6 - 15) + 10)


def noise(u: Tensor, v: Tensor) -> Tensor:
    """Return smooth value noise [N] in [-1, 1] with cells of unit size."""
    floor_u, floor_v = u.floor(), v.floor()
    corner = _lattice(u.device, u.dtype).index_select(0, _cell(floor_u, floor_v))
    x, y = _ease(u - floor_u), _ease(v - floor_v)
    top = torch.lerp(corner[:, 0], corner[:, 1], x)
    return torch.lerp(top, torch.lerp(corner[:, 2], corner[:, 3], x), y)


def band_limit(footprint: Tensor) -> Tensor:
    """Return the weight of unit cells seen by pixels ``footprint`` cells wide: 1 above 3 pixels a cell, 0 below 1.4."""
    return _ease(((0.71 - footprint) * (1 / 0.38)).clamp(0, 1))


def fractal(u: Tensor, v: Tensor, fu: Tensor, fv: Tensor, *, roughness: Tensor | float) -> Tensor:
    """Return fractal noise [N] of about unit deviation, without the octaves that the footprint cannot show."""
    total = torch.zeros_like(u)
    strength = torch.as_tensor(roughness, dtype=u.dtype, device=u.device)
    amplitude, power, scale = torch.ones_like(strength), torch.zeros_like(strength), 1.0
    for octave in range(_OCTAVES):
        weight = band_limit(fu * scale) * band_limit(fv * scale)
        seen = (weight > 0.01).nonzero().squeeze(1)
        if seen.numel():
            value = noise(u[seen] * scale + 31.7 * octave, v[seen] * scale + 57.3 * octave)
            share = amplitude[seen] if amplitude.dim() else amplitude
            total[seen] += value * weight[seen] * share
        power = power + amplitude * amplitude
        amplitude, scale = amplitude * strength, scale * _LACUNARITY
    # 0.45 is the deviation of one octave of interpolated uniform values.
    return total / (0.45 * power.sqrt())


def pulse(x: Tensor, duty: Tensor | float, footprint: Tensor) -> Tensor:
    """Return the share of [x - f/2, x + f/2] inside the middle ``duty`` of the unit cells, in closed form."""
    width = footprint.clamp_min(1e-3)
    start = x - (1 - duty) / 2
    start = start - start.floor()
    return (_ramp(start + width / 2, duty) - _ramp(start - width / 2, duty)) / width


def _ramp(x: Tensor, duty: Tensor | float) -> Tensor:
    """Return the integral from 0 to x of the pulse train that is 1 on [0, duty] of every unit cell."""
    whole = x.floor()
    return whole * duty + torch.minimum(x - whole, torch.as_tensor(duty, dtype=x.dtype, device=x.device))


def band(x: Tensor, low: float, high: float, footprint: Tensor) -> Tensor:
    """Return the share of [x - f/2, x + f/2] inside [low, high], in closed form."""
    width = footprint.clamp_min(1e-3)
    return (((x - low) / width + 0.5).clamp(0, 1) - ((x - high) / width + 0.5).clamp(0, 1)).clamp(0, 1)


def table(textures: tuple[Texture, ...], *, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the numbers of all textures [31, T]."""
    return torch.tensor([t.row() for t in textures], dtype=dtype, device=device).T.contiguous()


def _tiled(colour: Tensor, patch: Patch, rows: Tensor, grain: Tensor) -> Tensor:
    """Return ``colour`` [3, N] under one layer of tiles, ``rows`` [11, N]."""
    du, dv, jitter, stagger, checker = rows[5:10]
    u, v, fu, fv = patch.u / rows[3], patch.v / rows[4], patch.fu / rows[3], patch.fv / rows[4]
    u = u + stagger * v.floor()
    across, down = pulse(u, du, fu), pulse(v, dv, fv)
    covered = torch.where(checker > 0, across * down + (1 - across) * (1 - down), across * down)
    chance = _lattice(u.device, u.dtype)[:, 0].index_select(0, _cell(u.floor(), v.floor()))
    shade = 1 + jitter * chance * band_limit(torch.maximum(fu, fv) * 0.5) + 0.16 * grain
    return torch.lerp(colour, rows[:3] * shade, covered)


def paint(textures: tuple[Texture, ...], which: Tensor, patch: Patch) -> Tensor:
    """Return the colours [3, N] in about [0, 1] of a patch whose points have the textures ``which`` [N]."""
    numbers = table(textures, device=which.device, dtype=patch.u.dtype)
    colour = patch.u.new_empty(3, which.numel())
    own = torch.tensor([t.paint is not None for t in textures], device=which.device)[which]
    rest = (~own).nonzero().squeeze(1)
    colour[:, rest] = _plain(numbers, which[rest], patch.take(rest))
    for index, texture in enumerate(textures):
        if texture.paint is not None:
            here = (which == index).nonzero().squeeze(1)
            colour[:, here] = texture.paint(patch.take(here))
    return colour


def _plain(numbers: Tensor, which: Tensor, patch: Patch) -> Tensor:
    """Return the colours [3, N] of textures without a painter of their own."""
    cell, roughness, contrast = (numbers[k].index_select(0, which) for k in (6, 7, 8))
    grain = contrast * fractal(patch.u / cell + patch.shift, patch.v / cell, patch.fu / cell, patch.fv / cell,
                               roughness=roughness)
    mix = (0.5 + 0.38 * grain).clamp(0, 1)
    colour = torch.lerp(numbers[0:3].index_select(1, which), numbers[3:6].index_select(1, which), mix)
    for first in (9, 20):
        tiled = (numbers[first + 10] > 0)[which].nonzero().squeeze(1)
        if tiled.numel():
            rows = numbers[first:first + 11].index_select(1, which[tiled])
            colour[:, tiled] = _tiled(colour[:, tiled], patch.take(tiled), rows, grain[tiled])
    return colour
