"""What stands in a world: solids, their textures and motions, and the light.

Convention: the world's y points down, so the ground is the half-space y > 0 and the sky is at y < 0. Every solid has
its own axes; its texture lives in them, so that a mover carries its texture along.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import torch
from torch import Tensor

from egoflow.geometry.se3 import SE3
from egoflow.worlds.textures import Texture

Motion = Callable[[float], SE3]
"""world_from_body (unbatched, float64) at a time in seconds."""


class Kind(IntEnum):
    """The shapes, in their own axes, with ``size`` = half extents (a, b, c) in metres.

    GROUND: the half-space y > 0. BOX: |x| < a, |y| < b, |z| < c. ROOM: the same box seen from within. ELLIPSOID:
    (x/a)^2 + (y/b)^2 + (z/c)^2 < 1. CYLINDER: (x/a)^2 + (z/c)^2 < 1 and |y| < b. HILLS: y > h(x, z) of the waves.
    """

    GROUND = 0
    BOX = 1
    ROOM = 2
    ELLIPSOID = 3
    CYLINDER = 4
    HILLS = 5


UNBOUNDED = (Kind.GROUND, Kind.ROOM, Kind.HILLS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Solid:
    """One shape: where it stands in its body (float64), its size, the index of its texture and of its body.

    Body 0 is the world; body k moves by ``Scene.motions[k - 1]``. ``waves`` [K, 4] are the (kx, kz, phase, height_m)
    of HILLS, whose surface is y = sum of height sin(kx x + kz z + phase) and whose ``size`` b bounds |y|.
    """

    kind: Kind
    body_from_solid: SE3
    size: tuple[float, float, float]
    texture: int
    body: int = 0
    casts_shadow: bool = True
    waves: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """A sun at infinity (``to_sun``, a unit vector in the world), ambient light and the sky's two colours.

    ``floor_y`` is the lowest level on which shadows fall.
    """

    to_sun: tuple[float, float, float] = (0.45, -0.75, -0.48)
    sun: float = 0.66
    ambient: float = 0.60
    zenith: tuple[float, float, float] = (0.42, 0.60, 0.86)
    horizon: tuple[float, float, float] = (0.80, 0.87, 0.93)
    shadows: bool = True
    floor_y: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Solids, textures, the motions of bodies 1, 2, … and the light; what is farther than ``far_m`` is sky."""

    solids: tuple[Solid, ...]
    textures: tuple[Texture, ...]
    motions: tuple[Motion, ...] = ()
    light: Light = Light()
    far_m: float = 1000.0

    @cached_property
    def bodies(self) -> Tensor:
        """The body index [P] of every solid."""
        return torch.tensor([s.body for s in self.solids])

    @cached_property
    def sizes(self) -> Tensor:
        """The half extents [P, 3] in float64."""
        return torch.tensor([s.size for s in self.solids], dtype=torch.float64)

    @cached_property
    def body_from_solid(self) -> SE3:
        """Where every solid [P] stands in its body."""
        return SE3.stack([s.body_from_solid for s in self.solids])

    def world_from_solid(self, times_s: Sequence[float]) -> SE3:
        """Return where every solid stands, [F, P] in float64, at ``times_s`` (F of them)."""
        still = SE3.identity(dtype=torch.float64)
        frames = [SE3.stack([still, *(motion(float(t)) for motion in self.motions)]) for t in times_s]
        return SE3.stack(frames)[:, self.bodies] @ self.body_from_solid[None]


def upright(x: float, y: float, z: float, heading_rad: float = 0.0) -> SE3:
    """Return the float64 motion that turns about the vertical, then moves; heading 0 looks to +z, pi/2 to +x."""
    sine, cosine = math.sin(heading_rad), math.cos(heading_rad)
    R = torch.tensor([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]], dtype=torch.float64)
    return SE3(R, torch.tensor([x, y, z], dtype=torch.float64))
