"""The ray caster against closed forms and point membership, in float64."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from egoflow.geometry.camera import Camera
from egoflow.geometry.se3 import SE3, rotation_exp
from egoflow.worlds.raycast import cast, look, pixel_rays
from egoflow.worlds.scene import Kind, Scene, Solid, upright
from egoflow.worlds.solids import first_hit, interval, surface_height
from egoflow.worlds.surface import surface
from egoflow.worlds.textures import Texture
from egoflow.worlds.truth import Geometry

GREY = (Texture(low=(0.5, 0.5, 0.5), high=(0.5, 0.5, 0.5)),)
CAMERA = Camera.create(40.0, 40.0, 31.5, 23.5, height=48, width=64)
WAVES = torch.tensor([[0.21, 0.05, 0.3, 0.6], [0.04, 0.33, 1.1, 0.3]], dtype=torch.float64)


def inside(kind: Kind, p: Tensor, size: Tensor) -> Tensor:
    """Say which points [N, 3] are in the solid, from its definition alone."""
    q = p / size
    if kind == Kind.BOX:
        return (q.abs() < 1).all(-1)
    if kind == Kind.ELLIPSOID:
        return q.square().sum(-1) < 1
    return (q[:, 0] ** 2 + q[:, 2] ** 2 < 1) & (q[:, 1].abs() < 1)


def geometry(*solids: Solid, far_m: float = 1000.0) -> Geometry:
    """Cast the pixel centres of a camera at the origin."""
    scene, at = Scene(solids=solids, textures=GREY, far_m=far_m), SE3.identity(1, dtype=torch.float64)
    return Geometry.of(look(scene, CAMERA, [0.0], at, device=torch.device("cpu"), dtype=torch.float64))


def solid(kind: Kind, place: SE3, size: tuple[float, float, float], waves: Tensor | None = None) -> Solid:
    return Solid(kind=kind, body_from_solid=place, size=size, texture=0, waves=waves)


@pytest.mark.parametrize("kind", [Kind.BOX, Kind.ELLIPSOID, Kind.CYLINDER])
def test_intervals_end_where_points_leave_the_solid(kind: Kind) -> None:
    size = torch.tensor([1.3, 0.7, 2.1], dtype=torch.float64)
    origin = torch.randn(4000, 3, dtype=torch.float64) * 3
    direction = torch.randn(4000, 3, dtype=torch.float64)
    near, far = interval(kind, origin.unbind(-1), direction.unbind(-1), size.unbind(-1))
    hit = near <= far
    assert 200 < int(hit.sum()) < 3800
    for t, entering in ((near, True), (far, False)):
        before = inside(kind, (origin + (t - 1e-9)[:, None] * direction)[hit], size)
        after = inside(kind, (origin + (t + 1e-9)[:, None] * direction)[hit], size)
        assert torch.equal(after, torch.full_like(after, entering))
        assert torch.equal(before, torch.full_like(before, not entering))
    # Whoever misses has no point inside, however finely one looks.
    t = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    for o, d in zip(origin[~hit][:60], direction[~hit][:60], strict=True):
        assert not inside(kind, o + t[:, None] * d, size).any()


def test_the_ground_has_depth_f_h_over_v() -> None:
    height_m = 1.65
    g = geometry(solid(Kind.GROUND, upright(0, height_m, 0), (math.inf, 0, math.inf)))
    v = torch.arange(48, dtype=torch.float64) - 23.5
    expected = (40 * height_m / v.clamp_min(0.1))[:, None].expand(48, 64)
    below = (v > 0)[:, None].expand(48, 64)
    assert torch.equal(g.hits.solid[0, 0] >= 0, below)
    torch.testing.assert_close(g.hits.depth[0, 0][below], expected[below], rtol=1e-12, atol=0)


def test_a_tilted_plane_has_the_depth_of_its_equation() -> None:
    R = rotation_exp(torch.tensor([1.2, 0.2, -0.1], dtype=torch.float64))
    at = torch.tensor([0.3, 0.2, 9.0], dtype=torch.float64)
    g = geometry(solid(Kind.GROUND, SE3(R, at), (math.inf, 0, math.inf)))
    normal = R[:, 1]
    z = (normal @ at) / (CAMERA.to(torch.float64).rays()[0] @ normal)
    assert (g.hits.solid >= 0).all()
    torch.testing.assert_close(g.hits.depth[0, 0], z, rtol=1e-12, atol=0)


def test_a_sphere_has_the_depth_of_the_quadratic() -> None:
    centre, radius = torch.tensor([0.4, -0.3, 6.0], dtype=torch.float64), 1.7
    turn = rotation_exp(torch.tensor([0.5, 1.0, -0.3], dtype=torch.float64))
    g = geometry(solid(Kind.ELLIPSOID, SE3(turn, centre), (radius,) * 3))
    rays = CAMERA.to(torch.float64).rays()[0]
    a, b, c = rays.square().sum(-1), rays @ centre, centre @ centre - radius**2
    root = b * b - a * c
    assert torch.equal(g.hits.solid[0, 0] >= 0, root >= 0)
    expected = (b - root.clamp_min(0).sqrt()) / a
    hit = root > 1e-6
    torch.testing.assert_close(g.hits.depth[0, 0][hit], expected[hit], rtol=1e-9, atol=0)
    normals = torch.stack(g.at.normal, -1) @ turn.T
    points = (rays * expected[..., None])[g.hits.solid[0, 0] >= 0]
    torch.testing.assert_close(normals, (points - centre) / radius, rtol=0, atol=1e-7)


def test_a_box_shows_three_faces() -> None:
    # Looked at along its diagonal plane: the two visible sides are the planes x cos 45 -+ z sin 45 = half.
    g = geometry(solid(Kind.BOX, upright(0, 0, 10, math.pi / 4), (2.0, 5.0, 2.0)))
    x = (torch.arange(64, dtype=torch.float64) - 31.5) / 40
    # On the ray (x, z = 1): z (1 - |x|) / sqrt 2 = 10 / sqrt 2 - 2 at the near faces.
    expected = (10 - 2 * math.sqrt(2)) / (1 - x.abs())
    hit = expected * x.abs() < 2 * math.sqrt(2) - 1e-9
    row = g.hits.depth[0, 0, 24]
    torch.testing.assert_close(row[hit], expected[hit], rtol=1e-12, atol=0)
    assert torch.isinf(row[~hit]).all()


def test_an_upright_cylinder_is_a_disc_in_every_row() -> None:
    g = geometry(solid(Kind.CYLINDER, upright(0.5, 0, 8, 0.7), (1.5, 2.0, 1.5)))
    x = (torch.arange(64, dtype=torch.float64) - 31.5) / 40
    a, b, c = 1 + x * x, 8 + 0.5 * x, 64 + 0.25 - 1.5**2
    root = b * b - a * c
    expected = (b - root.clamp_min(0).sqrt()) / a
    for row in (20, 24, 28):
        hit = (root > 1e-6) & (expected * abs(row - 23.5) / 40 < 2.0)
        torch.testing.assert_close(g.hits.depth[0, 0, row][hit], expected[hit], rtol=1e-9, atol=0)
        assert torch.isinf(g.hits.depth[0, 0, row][root < -1e-6]).all()


def test_a_cylinder_from_above_shows_its_cap() -> None:
    down = rotation_exp(torch.tensor([math.pi / 2, 0, 0], dtype=torch.float64))
    g = geometry(solid(Kind.CYLINDER, SE3(down, torch.tensor([0, 0, 9.0], dtype=torch.float64)), (1.0, 2.0, 1.0)))
    cap = (CAMERA.to(torch.float64).rays()[0, ..., :2] * 7).norm(dim=-1) < 1
    assert torch.equal(g.hits.solid[0, 0] >= 0, cap)
    assert (g.hits.depth[0, 0][cap] - 7.0).abs().max() < 1e-12


def test_a_room_is_hit_from_within() -> None:
    g = geometry(solid(Kind.ROOM, upright(0, 0, 0), (4.0, 3.0, 10.0)))
    rays = CAMERA.to(torch.float64).rays()[0]
    expected = torch.stack((4 / rays[..., 0].abs(), 3 / rays[..., 1].abs(), 10 / rays[..., 2]), -1).amin(-1)
    torch.testing.assert_close(g.hits.depth[0, 0], expected, rtol=1e-12, atol=0)
    assert (torch.stack(g.at.normal, -1) * torch.stack(g.at.ray, -1)).sum(-1).max() < 0


def test_hills_are_hit_first_and_exactly() -> None:
    place = upright(0, 3.0, 0)
    g = geometry(solid(Kind.HILLS, place, (math.inf, 0.9, math.inf), WAVES), far_m=60.0)
    x, y, z = g.at.point
    torch.testing.assert_close(y, surface_height(x, z, WAVES), rtol=0, atol=1e-9)
    # Independently: no point of the ray before the hit is below the surface.
    hits = g.hits.depth[0, 0]
    rays = CAMERA.to(torch.float64).rays()[0]
    for share in np.linspace(0.02, 0.995, 60):
        p = rays * (hits * share)[..., None]
        above = p[..., 1] - 3.0 < surface_height(p[..., 0], p[..., 2], WAVES)
        assert above[torch.isfinite(hits)].all()
    assert torch.isfinite(hits[40:]).all()


def test_normals_of_hills_are_gradients() -> None:
    g = geometry(solid(Kind.HILLS, upright(0, 3.0, 0), (math.inf, 0.9, math.inf), WAVES), far_m=60.0)
    x, y, z = g.at.point
    nx, ny, nz = g.at.normal
    step = 1e-6
    for dx, dz in ((step, 0.0), (0.0, step)):
        rise = surface_height(x + dx, z + dz, WAVES) - y
        assert (nx * dx + ny * rise + nz * dz).abs().max() < 1e-10


def test_the_nearest_of_many_wins() -> None:
    random = np.random.default_rng(4)
    kinds = [Kind.BOX, Kind.ELLIPSOID, Kind.CYLINDER]
    solids = [solid(kinds[i % 3], SE3(rotation_exp(torch.from_numpy(random.normal(size=3))),
                                      torch.from_numpy(random.uniform([-5, -4, 2], [5, 4, 20]))),
                    tuple(random.uniform(0.3, 1.5, 3))) for i in range(40)]
    g = geometry(*solids)
    # Every ray against every solid, without rectangles or early exits.
    rays = CAMERA.to(torch.float64).rays()[0]
    depths = []
    for s in solids:
        solid_from_cam = s.body_from_solid.inverse()
        origin, direction = solid_from_cam.t.unbind(0), (rays @ solid_from_cam.R.T).unbind(-1)
        depths.append(first_hit(s.kind, origin, direction, torch.tensor(s.size, dtype=torch.float64).unbind(0), None))
    depth, index = torch.stack(depths).min(0)
    # A camera inside a solid does not see it.
    torch.testing.assert_close(g.hits.depth[0, 0], depth, rtol=1e-9, atol=0)
    assert torch.equal(g.hits.solid[0, 0].long(), torch.where(torch.isfinite(depth), index, -1))


def test_frames_and_bands_do_not_change_the_cast() -> None:
    s = solid(Kind.BOX, upright(0.4, 0, 6, 0.4), (1.0, 1.0, 1.0))
    scene = Scene(solids=(s, solid(Kind.GROUND, upright(0, 1.2, 0), (math.inf, 0, math.inf))), textures=GREY)
    cameras = SE3.stack([upright(x, 0, 0, x / 5) for x in (-1.0, 0.0, 1.0)])
    cpu, double = torch.device("cpu"), torch.float64
    batch = cast(look(scene, CAMERA, [0.0] * 3, cameras, device=cpu, dtype=double),
                 pixel_rays(CAMERA, samples=4, rows=(0, 48), device=cpu, dtype=double))
    for f in range(3):
        one = look(scene, CAMERA, [0.0], cameras[f:f + 1], device=cpu, dtype=double)
        rays = [pixel_rays(CAMERA, samples=4, rows=rows, device=cpu, dtype=double) for rows in ((0, 17), (17, 48))]
        hits = [cast(one, r) for r in rays]
        torch.testing.assert_close(torch.cat([h.depth for h in hits], 2)[0], batch.depth[f], rtol=1e-12, atol=0)
        assert all(bool((surface(one, r, h).depth > 0).all()) for r, h in zip(rays, hits, strict=True))
