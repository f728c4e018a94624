"""Where a ray meets a solid, in closed form.

Every solid but the hills is convex: a ray meets it in one interval [near, far] of its parameter. Rays are
``origin + t direction`` in the solid's own axes, given as three broadcasting components each; when directions have
z = 1 in the camera, t is the z-depth.
"""

import torch
from torch import Tensor

from egoflow.worlds.scene import Kind

Components = tuple[Tensor, Tensor, Tensor]
Vector = tuple[Tensor, ...]
_STEPS = 96


def interval(kind: Kind, origin: Components, direction: Components, size: Components) -> tuple[Tensor, Tensor]:
    """Return (near, far) of convex solids of half extents ``size``; the ray misses where ``near <= far`` is false."""
    if kind == Kind.GROUND:
        return _ground(origin[1], direction[1])
    if kind in (Kind.BOX, Kind.ROOM):
        return _slabs(origin, direction, size)
    o, d = (tuple(v / s for v, s in zip(vector, size, strict=True)) for vector in (origin, direction))
    if kind == Kind.ELLIPSOID:
        return _ball(o, d)
    near, far = _ball((o[0], o[2]), (d[0], d[2]))
    top, bottom = _slabs(origin[1:2], direction[1:2], size[1:2])
    return torch.maximum(near, top), torch.minimum(far, bottom)


def first_hit(kind: Kind, origin: Components, direction: Components, size: Components, waves: Tensor | None) -> Tensor:
    """Return the parameter of the first surface ahead, infinite where there is none."""
    if kind == Kind.HILLS:
        return _hills(origin, direction, size[1], waves if waves is not None else origin[0].new_zeros(0, 4))
    near, far = interval(kind, origin, direction, size)
    t = far if kind == Kind.ROOM else near
    return torch.where((near <= far) & (t > 0), t, torch.inf)


def _ground(height: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Return the interval below the plane y = 0 of rays from above it."""
    down = slope > 0
    near = torch.where(down, -height / torch.where(down, slope, 1.0), torch.inf)
    return near, torch.full_like(near, torch.inf)


def _slabs(origin: Vector, direction: Vector, size: Vector) -> tuple[Tensor, Tensor]:
    """Return the interval inside all slabs |x_k| < size_k (Kay and Kajiya 1986)."""
    near, far = _slab(origin[0], direction[0], size[0])
    for o, d, s in zip(origin[1:], direction[1:], size[1:], strict=True):
        low, high = _slab(o, d, s)
        near, far = torch.maximum(near, low), torch.minimum(far, high)
    return near, far


def _slab(origin: Tensor, direction: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Return the interval inside |x| < size; a parallel ray gives infinities of the right signs."""
    inverse = direction.reciprocal()
    one, other = (-size - origin) * inverse, (size - origin) * inverse
    return torch.minimum(one, other), torch.maximum(one, other)


def _ball(origin: Vector, direction: Vector) -> tuple[Tensor, Tensor]:
    """Return the interval inside the unit ball (or disc, for two components).

    The discriminant is taken at the point of closest approach, where it does not cancel (Haines 2019).
    """
    square = _dot(direction, direction)
    middle = -_dot(origin, direction) / square
    closest = tuple(o + middle * d for o, d in zip(origin, direction, strict=True))
    inside = 1 - _dot(closest, closest)
    half = (inside.clamp_min(0) / square).sqrt()
    return torch.where(inside >= 0, middle - half, torch.inf), torch.where(inside >= 0, middle + half, -torch.inf)


def _dot(a: Vector, b: Vector) -> Tensor:
    """Return the inner product of component tuples."""
    total = a[0] * b[0]
    for x, y in zip(a[1:], b[1:], strict=True):
        total = total + x * y
    return total


def surface_height(x: Tensor, z: Tensor, waves: Tensor) -> Tensor:
    """Return y of the hills at (x, z)."""
    total = torch.zeros_like(x)
    for kx, kz, phase, height in waves.tolist():
        total = total + height * torch.sin(kx * x + kz * z + phase)
    return total


def surface_slope(x: Tensor, z: Tensor, waves: Tensor) -> tuple[Tensor, Tensor]:
    """Return (dy/dx, dy/dz) of the hills at (x, z)."""
    slope_x, slope_z = torch.zeros_like(x), torch.zeros_like(x)
    for kx, kz, phase, height in waves.tolist():
        wave = height * torch.cos(kx * x + kz * z + phase)
        slope_x, slope_z = slope_x + kx * wave, slope_z + kz * wave
    return slope_x, slope_z


def _hills(origin: Components, direction: Components, amplitude: Tensor, waves: Tensor) -> Tensor:
    """Return the first crossing of the wavy surface: march through its slab, then halve, then Newton.

    A dip crossed and left within one of the 96 steps is missed; the surface found is exact.
    """
    shape = torch.broadcast_shapes(*(d.shape for d in direction))
    ox, oy, oz = (o.expand(shape) for o in torch.broadcast_tensors(*origin))
    dx, dy, dz = (d.expand(shape) for d in direction)

    def below(t: Tensor) -> Tensor:
        return oy + t * dy - surface_height(ox + t * dx, oz + t * dz, waves)

    near, far = _slabs((oy,), (dy,), (amplitude,))
    near, far = near.clamp(0, 1e4), far.clamp(0, 1e4)
    step = (far - near) / _STEPS
    low, high = near, torch.full_like(near, torch.inf)
    for index in range(1, _STEPS + 1):
        t = near + index * step
        crossed = (below(t) >= 0) & torch.isinf(high)
        high = torch.where(crossed, t, high)
        low = torch.where(torch.isinf(high), t, low)
    hit = torch.isfinite(high) & (far > near)
    high = torch.where(hit, high, low)
    for _ in range(30):
        middle = (low + high) / 2
        under = below(middle) >= 0
        low, high = torch.where(under, low, middle), torch.where(under, middle, high)
    for _ in range(2):
        slope_x, slope_z = surface_slope(ox + high * dx, oz + high * dz, waves)
        rate = dy - slope_x * dx - slope_z * dz
        high = high - below(high) / torch.where(rate.abs() < 1e-9, torch.inf, rate)
    return torch.where(hit, high, torch.inf)


def normal_of(kind: Tensor, point: Components, size: Components, slope: tuple[Tensor, Tensor]) -> Components:
    """Return outward normals (not of unit length) at surface points; all are [N], ``kind`` differs from point to point.

    A room's normals point inwards. ``slope`` is that of the hills, any value elsewhere.
    """
    x, y, z = (p / s for p, s in zip(point, size, strict=True))
    ax, ay, az = x.abs(), y.abs(), z.abs()
    box = (kind == Kind.BOX) | (kind == Kind.ROOM)
    cylinder, ball = kind == Kind.CYLINDER, kind == Kind.ELLIPSOID
    flat = (kind == Kind.GROUND) | (kind == Kind.HILLS)
    cap = cylinder & (ay * ay > x * x + z * z)
    on_x, on_y = box & (ax >= ay) & (ax >= az), box & (ay > ax) & (ay >= az)
    on_z, curved = box & ~on_x & ~on_y, ball | (cylinder & ~cap)
    zero, up = torch.zeros_like(x), -torch.ones_like(x)
    side = torch.where(kind == Kind.ROOM, up, -up)
    nx = torch.where(curved, x / size[0], torch.where(on_x, x.sign() * side, torch.where(flat, slope[0], zero)))
    ny = torch.where(ball, y / size[1], torch.where(on_y | cap, y.sign() * side, torch.where(flat, up, zero)))
    nz = torch.where(curved, z / size[2], torch.where(on_z, z.sign() * side, torch.where(flat, slope[1], zero)))
    return nx, ny, nz
