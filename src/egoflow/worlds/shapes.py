"""Flat shapes: polygons, ellipses, chairs, rings, window frames and wires, as unions of parts less their holes.

A shape answers for any point how far it lies from the nearest edge, negative inside. The sign is exact; the distance is
to first order, near the edge, which is where anti-aliasing needs it. Lengths are pixels of the first frame.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Bounds = tuple[float, float, float, float]
"""Least x, least y, greatest x, greatest y."""


@dataclass(frozen=True, slots=True)
class Block:
    """A box or an ellipse about (``x``, ``y``) with half sizes (``a``, ``b``), turned by ``turn_rad``."""

    x: float
    y: float
    a: float
    b: float
    turn_rad: float = 0.0
    rounded: bool = False

    def edge(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the signed distance to the edge."""
        x, y = x - self.x, y - self.y
        if self.turn_rad:
            cosine, sine = math.cos(self.turn_rad), math.sin(self.turn_rad)
            x, y = cosine * x + sine * y, cosine * y - sine * x
        if not self.rounded:
            return np.maximum(np.abs(x) - self.a, np.abs(y) - self.b)
        x, y = x / self.a, y / self.b
        level, tiny = np.sqrt(x * x + y * y), 1e-9
        slope = np.sqrt((x / self.a) ** 2 + (y / self.b) ** 2)
        # In the very middle both vanish: their ratio tends to no limit, and any length inside will do.
        return (level - 1) * (level + tiny) / (slope + tiny / min(self.a, self.b))

    @property
    def bounds(self) -> Bounds:
        """Return a rectangle that holds the block."""
        cosine, sine = abs(math.cos(self.turn_rad)), abs(math.sin(self.turn_rad))
        across, down = cosine * self.a + sine * self.b, sine * self.a + cosine * self.b
        return self.x - across, self.y - down, self.x + across, self.y + down


@dataclass(frozen=True, slots=True)
class Star:
    """A polygon of which every corner [K, 2] is seen from the origin, in the order of their angles from -pi."""

    corners: np.ndarray

    def edge(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the signed distance to the line of the edge that lies in the point's direction."""
        along = np.roll(self.corners, -1, 0) - self.corners
        normal = np.stack((along[:, 1], -along[:, 0]), -1) / np.hypot(along[:, :1], along[:, 1:])
        lines = np.concatenate((normal, (normal * self.corners).sum(1, keepdims=True)), 1)
        # Before the first corner and after the last stands the edge between the two.
        lines = np.concatenate((lines[-1:], lines)).astype(x.dtype)
        sector = np.searchsorted(np.arctan2(*self.corners.T[::-1]).astype(x.dtype), np.arctan2(y, x))
        return lines[sector, 0] * x + lines[sector, 1] * y - lines[sector, 2]

    @property
    def bounds(self) -> Bounds:
        """Return the rectangle that holds the polygon."""
        (x0, y0), (x1, y1) = self.corners.min(0), self.corners.max(0)
        return float(x0), float(y0), float(x1), float(y1)


@dataclass(frozen=True, slots=True)
class Shape:
    """The union of ``parts`` less the union of ``holes``."""

    parts: tuple[Block | Star, ...]
    holes: tuple[Block, ...] = ()

    def edge(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the signed distance of points to the nearest edge, negative inside."""
        distance = self.parts[0].edge(x, y)
        for part in self.parts[1:]:
            distance = np.minimum(distance, part.edge(x, y))
        for hole in self.holes:
            distance = np.maximum(distance, -hole.edge(x, y))
        return distance

    @property
    def bounds(self) -> Bounds:
        """Return a rectangle that holds the shape."""
        x0, y0, x1, y1 = zip(*(part.bounds for part in self.parts), strict=True)
        return min(x0), min(y0), max(x1), max(y1)


Maker = Callable[[np.random.Generator, float], Shape]
"""Draws a shape that spans about so many pixels, with its middle near the origin."""


def polygon(random: np.random.Generator, span: float) -> Shape:
    """Return a polygon of 3 to 10 corners, convex or not."""
    count = int(random.integers(3, 11))
    # Never half a turn between two corners, or the origin would see one of them through the other's edge.
    angles = (np.arange(count) + random.uniform(-0.2, 0.2, count) + 0.5) * (2 * math.pi / count) - math.pi
    radii = span / 2 * random.uniform(0.45, 1.0, count)
    return Shape((Star(np.stack((radii * np.cos(angles), radii * np.sin(angles)), -1)),))


def ellipse(random: np.random.Generator, span: float) -> Shape:
    """Return an ellipse, from a disc to one three times as long as wide."""
    return Shape((Block(0.0, 0.0, span / 2, span / 2 * random.uniform(0.33, 1.0), rounded=True),))


def chair(random: np.random.Generator, span: float) -> Shape:
    """Return a chair seen from the front: a back with a window, a seat, two pairs of legs."""
    half = span / 2
    wide, seat = random.uniform(0.35, 0.65), random.uniform(-0.05, 0.2)
    thick, leg = random.uniform(0.06, 0.14), max(half * random.uniform(0.03, 0.09), 0.5)
    rear, narrow = random.uniform(0.6, 0.9), random.uniform(0.7, 0.95)

    def box(x: float, top: float, bottom: float, a: float) -> Block:
        return Block(half * x, half * (top + bottom) / 2, a, half * (bottom - top) / 2)

    parts = [box(0.0, seat - thick, seat + thick, half * wide), box(0.0, -1.0, seat, half * wide * narrow)]
    for side in (-1, 1):
        parts += [box(side * (wide - 0.05), seat, 1.0, leg), box(side * 0.5 * wide, seat, rear, leg)]
    border = random.uniform(0.25, 0.6)
    window = box(0.0, -1.0 + 0.3 * border, seat - thick - 0.3 * border, half * wide * narrow * (1 - border))
    return Shape(tuple(parts), (window,))


def ring(random: np.random.Generator, span: float) -> Shape:
    """Return an ellipse with a large hole off its middle."""
    a, b = span / 2, span / 2 * random.uniform(0.6, 1.0)
    share = random.uniform(0.6, 0.8)
    x, y = random.uniform(-0.4, 0.4, 2) * (1 - share)
    return Shape((Block(0.0, 0.0, a, b, rounded=True),), (Block(x * a, y * b, share * a, share * b, rounded=True),))


def lattice(random: np.random.Generator, span: float) -> Shape:
    """Return a window frame with one to three rows and columns of panes."""
    a, b = span / 2, span / 2 * random.uniform(0.5, 1.0)
    columns, rows = (int(n) for n in random.integers(1, 4, 2))
    open_share = random.uniform(0.65, 0.85)
    panes = tuple(Block(a * ((2 * i + 1) / columns - 1), b * ((2 * j + 1) / rows - 1), a / columns * open_share,
                        b / rows * open_share) for i in range(columns) for j in range(rows))
    return Shape((Block(0.0, 0.0, a, b),), panes)


def wire(random: np.random.Generator, span: float) -> Shape:
    """Return a bent wire or a fan of legs of three to five straight pieces, each 1 to 3 pixels thick at any span."""
    half, count = span / 2, int(random.integers(3, 6))
    fan = random.uniform() < 0.5
    corner = np.zeros(2) if fan else random.uniform(-half, half, 2)
    pieces = []
    for _ in range(count):
        end, thick = random.uniform(-half, half, 2), random.uniform(1.0, 3.0)
        (x, y), (dx, dy) = (corner + end) / 2, end - corner
        pieces.append(Block(x, y, math.hypot(dx, dy) / 2, thick / 2, turn_rad=math.atan2(dy, dx)))
        corner = corner if fan else end
    return Shape(tuple(pieces))
