"""What stands along a street: houses, trees, lamp posts and cars, as solids with their textures."""

from dataclasses import dataclass, field

import numpy as np
import torch

from egoflow.geometry.se3 import SE3
from egoflow.worlds.scene import Kind, Motion, Solid, upright
from egoflow.worlds.textures import Colour, Texture, Tiles

_WALLS: tuple[Colour, ...] = ((0.72, 0.62, 0.50), (0.62, 0.36, 0.28), (0.70, 0.68, 0.62), (0.52, 0.50, 0.50),
                              (0.76, 0.70, 0.56), (0.58, 0.44, 0.36), (0.50, 0.56, 0.60))
_PAINTS: tuple[Colour, ...] = ((0.62, 0.10, 0.10), (0.12, 0.20, 0.42), (0.74, 0.74, 0.76), (0.16, 0.16, 0.18),
                               (0.45, 0.48, 0.52), (0.18, 0.36, 0.24), (0.80, 0.78, 0.70))
# Lays a cylinder's axis (y) along x.
_SIDEWAYS = SE3(torch.tensor([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64),
                torch.zeros(3, dtype=torch.float64))


def _shade(colour: Colour, factor: float) -> Colour:
    """Return a colour made darker or brighter."""
    red, green, blue = (min(1.0, c * factor) for c in colour)
    return red, green, blue


@dataclass
class Builder:
    """Collects solids, textures and motions; every ``place`` is body_from_prop, with the world as body 0."""

    random: np.random.Generator
    solids: list[Solid] = field(default_factory=list)
    textures: list[Texture] = field(default_factory=list)
    motions: list[Motion] = field(default_factory=list)

    def texture(self, texture: Texture) -> int:
        """Add a texture and return its index."""
        self.textures.append(texture)
        return len(self.textures) - 1

    def mover(self, motion: Motion) -> int:
        """Add a moving body and return its number."""
        self.motions.append(motion)
        return len(self.motions)

    def solid(self, kind: Kind, place: SE3, size: tuple[float, float, float], texture: int, *, body: int = 0,
              casts_shadow: bool = True) -> None:
        """Add a solid that stands at ``place`` in its body."""
        self.solids.append(Solid(kind=kind, body_from_solid=place, size=size, texture=texture, body=body,
                                 casts_shadow=casts_shadow))

    def house(self, place: SE3, *, front_m: float, depth_m: float) -> None:
        """Add a house whose origin is the middle of its plot: whole storeys of windows, a roof, at times a chimney."""
        random = self.random
        storey, wall = random.uniform(2.8, 3.3), self._any(_WALLS)
        height = storey * random.integers(2, 5)
        facade = self.texture(self._facade(wall, front_m / max(2, round(front_m / random.uniform(2.4, 3.4))), storey))
        body = place @ upright(0, -height / 2 + 0.5, 0)
        self.solid(Kind.BOX, body, (front_m / 2, height / 2 + 0.5, depth_m / 2), facade)
        roof = self.texture(Texture(low=(0.27, 0.16, 0.13), high=(0.52, 0.34, 0.28), cell=1.0, roughness=0.9))
        self.solid(Kind.BOX, place @ upright(0, -height - 0.2, 0), (front_m / 2 + 0.3, 0.2, depth_m / 2 + 0.3), roof)
        if random.uniform() < 0.4:
            chimney = upright(random.uniform(-0.3, 0.3) * front_m, -height - 1.1, 0)
            self.solid(Kind.CYLINDER, place @ chimney, (0.4, 0.8, 0.4), roof)

    def _any(self, colours: tuple[Colour, ...]) -> Colour:
        """Return one of the colours, a little darker or brighter."""
        return _shade(colours[int(self.random.integers(len(colours)))], self.random.uniform(0.85, 1.15))

    def _facade(self, wall: Colour, window_m: float, storey_m: float) -> Texture:
        """Return bricks with windows, one to a cell of ``window_m`` x ``storey_m``."""
        random = self.random
        panes = Tiles(colour=_shade((0.20, 0.24, 0.30), random.uniform(0.7, 1.5)), width=window_m, height=storey_m,
                      duty=(random.uniform(0.38, 0.62), random.uniform(0.4, 0.6)), jitter=0.75)
        bricks = Tiles(colour=wall, width=random.uniform(0.8, 1.3), height=random.uniform(0.35, 0.6),
                       duty=(0.9, 0.84), jitter=0.28, stagger=0.5)
        return Texture(low=_shade(wall, 0.55), high=_shade(wall, 1.15), cell=2.3, roughness=0.85,
                       layers=(bricks, panes))

    def tree(self, place: SE3) -> None:
        """Add a tree: a trunk under two or three overlapping crowns."""
        random = self.random
        trunk, height, green = random.uniform(0.12, 0.22), random.uniform(2.0, 3.2), random.uniform(0.75, 1.15)
        bark = self.texture(Texture(low=(0.18, 0.13, 0.09), high=(0.46, 0.37, 0.28), cell=0.5, roughness=0.9))
        leaf = self.texture(Texture(low=_shade((0.06, 0.13, 0.04), green), high=_shade((0.46, 0.58, 0.24), green),
                                    cell=0.9, roughness=0.95, contrast=1.15))
        self.solid(Kind.CYLINDER, place @ upright(0, -height / 2, 0), (trunk, height / 2, trunk), bark)
        for _ in range(random.integers(2, 4)):
            wide, tall, deep = random.uniform(0.9, 1.7), random.uniform(0.8, 1.4), random.uniform(0.9, 1.7)
            side, up, along = random.uniform(-0.7, 0.7), random.uniform(0.2, 1.5), random.uniform(-0.7, 0.7)
            crown = upright(side, -height - up, along, random.uniform(0, 3))
            self.solid(Kind.ELLIPSOID, place @ crown, (wide, tall, deep), leaf)

    def hedge(self, place: SE3, *, length_m: float, height_m: float) -> None:
        """Add a hedge along the street."""
        leaf = self.texture(Texture(low=(0.07, 0.14, 0.05), high=(0.36, 0.48, 0.20), cell=0.5 + 0.4 * height_m,
                                    roughness=0.95))
        size = 0.3 + 0.1 * height_m, height_m / 2, length_m / 2
        self.solid(Kind.BOX, place @ upright(0, -height_m / 2, 0), size, leaf)

    def lamp(self, place: SE3, *, arm_m: float) -> None:
        """Add a lamp post whose arm reaches ``arm_m`` to the right."""
        steel = self.texture(Texture(low=(0.20, 0.22, 0.22), high=(0.50, 0.52, 0.50), cell=0.5, roughness=0.9))
        self.solid(Kind.CYLINDER, place @ upright(0, -3.0, 0), (0.09, 3.0, 0.09), steel)
        self.solid(Kind.BOX, place @ upright(arm_m / 2, -6.0, 0), (abs(arm_m) / 2, 0.06, 0.08), steel)

    def car(self, place: SE3, *, body: int = 0) -> None:
        """Add a car that looks along +z, standing on the ground at the origin of ``place``."""
        random = self.random
        length, wide, paint = random.uniform(1.95, 2.35), random.uniform(0.84, 0.92), self._any(_PAINTS)
        doors = Tiles(colour=_shade(paint, 1.2), width=0.4 * length, height=0.62, duty=(0.94, 0.86), jitter=0.35)
        shell = self.texture(Texture(low=_shade(paint, 0.3), high=_shade(paint, 0.9), cell=0.8, roughness=0.9,
                                     layers=(doors,)))
        panes = Tiles(colour=(0.14, 0.17, 0.21), width=wide, height=0.62, duty=(0.86, 0.72), jitter=0.6)
        glass = self.texture(Texture(low=_shade(paint, 0.5), high=_shade(paint, 1.25), cell=0.6, roughness=0.9,
                                     layers=(panes,)))
        rubber = self.texture(Texture(low=(0.05, 0.05, 0.05), high=(0.34, 0.34, 0.34), cell=0.25, roughness=0.9))
        self.solid(Kind.BOX, place @ upright(0, -0.62, 0), (wide, 0.34, length), shell, body=body)
        self.solid(Kind.BOX, place @ upright(0, -1.22, -0.25), (wide * 0.86, 0.28, length * 0.52), glass, body=body)
        for along in (-0.62, 0.62):
            # One axle-long cylinder stands for both wheels.
            axle = place @ upright(0, -0.32, along * length) @ _SIDEWAYS
            self.solid(Kind.CYLINDER, axle, (0.32, wide + 0.02, 0.32), rubber, body=body, casts_shadow=False)
