"""Worlds by name: the same seed gives the same frames, options are checked, paths do what they promise."""

import math

import numpy as np
import pytest
import torch

from egoflow.errors import ConfigError
from egoflow.geometry.camera import Camera
from egoflow.geometry.se3 import rotation_angle
from egoflow.worlds import base
from egoflow.worlds.base import available_worlds, load_world
from egoflow.worlds.paths import Centreline, Waves

SMALL = {"height": 32, "width": 96}
WITH_DEPTH = [name for name in available_worlds() if name != "chairs"]


def test_worlds_are_found_by_their_files() -> None:
    assert available_worlds() == ["boxes", "chairs", "drive", "plane"]
    assert load_world("plane").seed == 0


@pytest.mark.parametrize("name", WITH_DEPTH)
def test_the_same_seed_gives_the_same_frames(name: str) -> None:
    one, same, other = (load_world(name, seed=seed, frames=3, **SMALL) for seed in (5, 5, 6))
    # Frames asked for in another order, alone or as a batch, are the same.
    batch = (same.colours([2, 1]) * 255).round()
    assert np.array_equal(one.image(1), same.image(1))
    assert np.array_equal(one.image(2), same.image(2))
    assert (batch[0].permute(1, 2, 0).numpy() - one.image(2).astype(np.float32)).__abs__().max() <= 1
    assert np.array_equal(one.truth(1).depth, same.truth(1).depth)
    assert not np.array_equal(one.image(1), other.image(1))


@pytest.mark.parametrize("name", WITH_DEPTH)
def test_a_world_is_a_frame_source(name: str) -> None:
    world = load_world(name, seed=1, frames=3, **SMALL)
    assert len(world) == len(world.time_s) == 3
    assert np.allclose(world.time_s, [0.0, 0.1, 0.2])
    assert (world.scale, world.frame_name(2)) == ("metric", "000002")
    assert isinstance(world.camera, Camera)
    image, truth = world.image(0), world.truth(0)
    assert (image.dtype, image.shape) == (np.uint8, (32, 96, 3))
    assert truth.depth.dtype == np.float32
    assert truth.depth.shape == truth.valid_depth.shape == truth.static.shape == (32, 96)
    assert (truth.depth[truth.valid_depth] > 0).all()
    assert truth.static.all()
    assert truth.world_from_cam.t.dtype == torch.float64
    torch.testing.assert_close(truth.world_from_cam.t, torch.zeros(3, dtype=torch.float64))
    pair = world.pair_truth(0, 2)
    expected = world.world_from_cam(2).inverse() @ world.world_from_cam(0)
    torch.testing.assert_close(pair.b_from_a.t[0].double(), expected.t, rtol=0, atol=1e-6)
    with pytest.raises(ConfigError, match="frames 0 to 2"):
        world.image(3)


@pytest.mark.parametrize(("name", "options", "message"), [
    ("driv", {}, "did you mean 'drive'"),
    ("../drive", {}, "worlds are: boxes, chairs, drive, plane"),
    ("drive", {"seed": 0, "mover": 2}, "did you mean 'movers'"),
    ("drive", {"seed": 0, "frames": 0}, "frames must be a whole number from 1"),
    ("drive", {"seed": -1}, "seed must be"),
    ("drive", {"seed": 0, "height": 4}, "height must be"),
    ("drive", {"seed": 0, "width": 96.5}, "width must be"),
    ("drive", {"seed": 0, "density": 0.0}, "density must be"),
    ("plane", {"seed": 0, "movers": 1}, "the worlds drive and boxes have movers"),
    ("boxes", {"seed": 0, "movers": 21}, "movers must be a whole number from 0 to 20"),
    ("boxes", {"seed": 0, "turn_deg": 40.0}, "turn_deg from 0 to 30"),
    ("plane", {"seed": 0, "samples": 0}, "samples must be"),
    ("plane", {"seed": 0, "device": "gpu"}, "device 'gpu' cannot be used"),
])
def test_wrong_options_are_one_line(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        load_world(name, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("seed", range(6))
def test_the_drive_turns_and_changes_speed(seed: int) -> None:
    world = load_world("drive", seed=seed, frames=200, **SMALL)
    path = world.trajectory().world_from_cam
    heading = torch.atan2(path.R[:, 0, 2], path.R[:, 2, 2]).rad2deg()
    assert 20 < heading.max() - heading.min() < 60
    steps = (path.t[1:] - path.t[:-1]).norm(dim=-1)
    assert 0.45 < steps.min() < 0.75
    assert 0.95 < steps.max() < 1.25
    # Forward motion, and no step that the eye would call a jerk.
    forward = (path.R[:-1].mT @ (path.t[1:] - path.t[:-1])[..., None])[:, 2, 0]
    assert (forward > 0.9 * steps).all()
    assert rotation_angle(path.R[:-1].mT @ path.R[1:]).rad2deg().max() < 1.5
    heights = [float(world.path(t).t[1]) for t in world.time_s]
    assert max(abs(height + 1.65) for height in heights) < 0.03
    assert max(heights) - min(heights) > 0.02


def test_nothing_stands_in_the_drivers_way() -> None:
    world = load_world("drive", seed=4, frames=60, movers=4, **SMALL)
    for index in range(0, 60, 6):
        truth = world.truth(index)
        ahead = truth.depth[10:20, 40:56]
        assert ahead.min() > 3.5


def test_boxes_keep_still_box_rules() -> None:
    for seed in range(5):
        world = load_world("boxes", seed=seed, frames=10, height=64, width=64)
        path = world.trajectory().world_from_cam
        assert torch.equal(path.R, torch.eye(3, dtype=torch.float64).expand(10, 3, 3))
        steps = path.t[1:] - path.t[:-1]
        torch.testing.assert_close(steps, steps[:1].expand(9, 3))
        assert math.isclose(float(steps[0].norm()), 0.1, rel_tol=1e-9)
        assert float(world.camera.fx) == 32
        for index in (0, 9):
            truth = world.truth(index)
            assert truth.valid_depth.all()
            assert truth.depth.min() > 0.5
            assert truth.depth.max() <= 100.001


def test_boxes_stay_closed_on_long_ways() -> None:
    world = load_world("boxes", seed=1, frames=2000, height=16, width=16)
    assert world.truth(1999).valid_depth.all()
    assert world.truth(1999).depth.max() <= 301


def test_boxes_warp_by_the_truth() -> None:
    from egoflow.geometry.flow import backward_warp

    world = load_world("boxes", seed=2, frames=4, height=64, width=64, samples=4)
    pair = world.pair_truth(0, 3)
    first, second = world.colours([0, 3]).split(1)
    warped, _ = backward_warp(second, pair.flow_ab)
    assert (warped - first).abs().mean(1, keepdim=True)[pair.visible_ab].mean() < 0.015


def test_waves_integrate() -> None:
    waves = Waves.random(np.random.default_rng(0), [2.0, 0.5], [0.07, 0.4], offset=8.0)
    t = np.linspace(0, 12, 24001)
    speed = np.array([waves.at(x) for x in t])
    assert math.isclose(waves.integral(12.0), float(np.trapezoid(speed, t)), rel_tol=1e-7)


def test_a_centreline_measures_its_length() -> None:
    line = Centreline.winding(np.random.default_rng(3), length_m=200.0)
    x, z, _ = np.array([line.at(s) for s in np.arange(0.0, 180.0, 0.5)]).T
    steps = np.hypot(np.diff(x), np.diff(z))
    assert np.abs(steps - 0.5).max() < 1e-4
    assert np.hypot(*line.at(0.0)[:2]) < 1e-6
    # To the right of a heading of +z is +x.
    x0, z0, heading = line.at(50.0)
    x1, z1, _ = line.at(50.0, 2.0)
    assert math.isclose(x1 - x0, 2 * math.cos(heading))
    assert math.isclose(z1 - z0, -2 * math.sin(heading))


def test_street_paint_finds_station_and_offset() -> None:
    world = load_world("drive", seed=7, frames=60, **SMALL)
    paint = world.scene.textures[0].paint
    line = paint.street
    asked = [(s, d) for s in np.arange(-10.0, 150.0, 7.3) for d in (-9.0, -1.7, 0.0, 4.0)]
    xz = torch.tensor([line.at(s, d)[:2] for s, d in asked], dtype=torch.float64).T
    station, offset, _, _ = paint.along(xz)
    expected = torch.tensor(asked, dtype=torch.float64)
    assert (station - expected[:, 0]).abs().max() < 0.02
    assert (offset - expected[:, 1]).abs().max() < 0.005


def test_few_frames_are_kept() -> None:
    world = load_world("boxes", seed=1, frames=12, height=16, width=16)
    for index in range(12):
        world.truth(index)
    assert len(world._kept) == base._KEPT


def test_more_samples_soften_edges_and_leave_the_truth() -> None:
    one, many = (load_world("boxes", seed=3, frames=1, height=48, width=48, samples=n) for n in (1, 16))
    assert np.array_equal(one.truth(0).depth, many.truth(0).depth)
    difference = (one.colours([0]) - many.colours([0])).abs().mean(1)
    assert difference.median() < 0.02
    assert difference.max() > 0.05
