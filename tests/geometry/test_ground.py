"""The ground plane against closed forms and rendered drives."""

import pytest
import torch
from torch import Tensor

from egoflow.data.clips import ClipDataset
from egoflow.geometry.camera import Camera
from egoflow.geometry.ground import Ground
from egoflow.geometry.ground import ground_plane as ground_of
from egoflow.geometry.se3 import SE3
from egoflow.worlds.base import load_world

HEIGHT, WIDTH, FOCAL, EYE = 64, 192, 111.0, 1.65


def camera(*, height: int = HEIGHT, width: int = WIDTH) -> Camera:
    return Camera.create(FOCAL, FOCAL, (width - 1) / 2, (height - 1) / 2, height=height, width=width)


def heading(horizon: float = 31.5, *, count: int = 1) -> SE3:
    """Return a step ahead along a road whose horizon is that row."""
    down = (horizon - (HEIGHT - 1) / 2) / FOCAL
    return SE3(torch.eye(3).expand(count, 3, 3), -torch.tensor([[0.0, down, 1.0]]).expand(count, 3))


def ground_plane(value: Tensor, motion: SE3 | None = None) -> Ground:
    count, _, height, width = value.shape
    motion = motion or heading(count=count)
    return ground_of(value, camera(height=height, width=width).repeated(count), motion)


def road(*, horizon: float = 31.5, roll: float = 0.0) -> Tensor:
    """Return the inverse depth of a road seen from ``EYE`` metres, and of a wall 40 m away above its horizon."""
    rows, columns = torch.arange(HEIGHT, dtype=torch.float64), torch.arange(WIDTH, dtype=torch.float64)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    plane = (y - horizon + roll * (x - WIDTH / 2)) / (FOCAL * EYE)
    return plane.clamp_min(1 / 40)[None, None]


@pytest.mark.parametrize(("horizon", "roll"), [(31.5, 0.0), (24.0, 0.03), (38.0, -0.05)])
def test_a_road_is_found_to_the_last_digits(horizon: float, roll: float) -> None:
    value = road(horizon=horizon, roll=roll)
    ground = ground_plane(value, heading(horizon))
    assert bool(ground.found)
    on_road = value > 1 / 40
    assert float((ground.inv_depth - value)[on_road].abs().max() / value.max()) < 1e-3
    assert not bool((value < ground.least(tolerance=0.01)).any())


def test_scale_of_depth_is_free() -> None:
    value = road()
    one, other = ground_plane(value), ground_plane(7 * value)
    torch.testing.assert_close(7 * one.inv_depth, other.inv_depth)


def test_a_hole_in_the_road_is_beneath_it() -> None:
    value = road()
    hole = torch.zeros_like(value, dtype=torch.bool)
    hole[..., 38:52, 80:112] = True
    pierced = torch.where(hole, torch.full_like(value, 0.01), value)
    beneath = pierced < ground_plane(pierced).least(tolerance=0.3)
    assert torch.equal(beneath, hole)


def test_what_stands_on_the_road_hides_it_and_is_not_beneath() -> None:
    value = road()
    value[..., 20:58, 20:60] = 1 / 5
    ground = ground_plane(value)
    assert bool(ground.found)
    assert not bool((value < ground.least(tolerance=0.3)).any())


@pytest.mark.parametrize("scene", ["wall", "floor", "noise"])
def test_where_no_ground_with_a_horizon_is_seen_nothing_is_beneath(scene: str) -> None:
    generator = torch.Generator().manual_seed(0)
    scenes = {"wall": torch.full((1, 1, HEIGHT, WIDTH), 0.2, dtype=torch.float64),
              "floor": road(horizon=-30.0),
              "noise": torch.rand(1, 1, HEIGHT, WIDTH, generator=generator, dtype=torch.float64) + 0.01}
    ground = ground_plane(scenes[scene])
    assert not bool(ground.found)
    assert not bool((ground.least(tolerance=0.0) > 0).any())


def test_autocast_changes_nothing() -> None:
    value = road().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ground = ground_plane(value)
    assert torch.equal(ground.inv_depth, ground_plane(value).inv_depth)


def test_each_of_a_batch_has_its_own_ground() -> None:
    both = torch.cat((road(), torch.full((1, 1, HEIGHT, WIDTH), 0.2, dtype=torch.float64)))
    assert ground_plane(both).found.tolist() == [True, False]


def test_only_what_is_driven_along_is_ground() -> None:
    aside = SE3(torch.eye(3)[None], torch.tensor([[1.0, 0.0, 0.1]]))
    still = SE3.identity(1)
    climbing = heading(31.5 + 0.1 * HEIGHT)
    turning = SE3(torch.eye(3)[None], torch.tensor([[0.2, 0.0, -1.0]]))
    assert [bool(ground_plane(road(), way).found) for way in (aside, still, climbing, turning)] == [
        False, False, False, True]


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (7, 5)])
def test_tiny_pictures_give_numbers(size: tuple[int, int]) -> None:
    ground = ground_plane(torch.full((2, 1, *size), 0.5))
    assert bool(torch.isfinite(ground.least(tolerance=0.3)).all())


def test_a_drive_has_ground_and_a_car_that_seems_infinitely_far_is_beneath_it() -> None:
    """Measured on twelve frames: no static pixel beneath, .60 to .91 of the movers (the rest is above the horizon)."""
    clips = ClipDataset([load_world("drive", seed=51, frames=30, height=HEIGHT, width=WIDTH, movers=4)], length=1,
                        target=0, height=HEIGHT, width=WIDTH, with_truth=True)
    truth = clips[20].truth
    assert truth is not None
    assert truth.depth is not None
    assert truth.static is not None
    static = truth.static[:, 0]
    inv_depth = torch.where(truth.depth[:, 0] < 100, 1 / truth.depth[:, 0], torch.full_like(truth.depth[:, 0], 0.01))
    pierced = torch.where(static, inv_depth, torch.full_like(inv_depth, 0.01))
    for value, share in ((inv_depth, 0.0), (pierced, 0.6)):
        ground = ground_of(value, clips[20].camera, heading())
        beneath = value < ground.least(tolerance=0.3)
        assert bool(ground.found)
        assert float((beneath & static).sum()) == 0
        assert float((beneath & ~static).sum() / (~static).sum()) >= share
