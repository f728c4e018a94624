"""Band limits in closed form, and no shimmer when the camera moves by parts of a pixel."""

import math

import pytest
import torch

from egoflow.worlds.base import World, load_world
from egoflow.worlds.paths import constant
from egoflow.worlds.scene import Kind, Light, Scene, Solid, upright
from egoflow.worlds.textures import Texture, Tiles, band, fractal, noise, pulse


@pytest.mark.parametrize("duty", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("footprint", [0.01, 0.3, 1.0, 2.7])
def test_pulse_is_the_box_average(duty: float, footprint: float) -> None:
    x = torch.linspace(-3, 3, 301, dtype=torch.float64)
    taps = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000 - 0.5
    fine = x[:, None] + taps * footprint
    cell = fine - fine.floor()
    expected = ((cell >= (1 - duty) / 2) & (cell < (1 + duty) / 2)).double().mean(1)
    got = pulse(x, duty, torch.full_like(x, footprint))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-3)


def test_band_is_the_box_average() -> None:
    x = torch.tensor([0.0, 0.9, 1.0, 1.5, 3.0], dtype=torch.float64)
    got = band(x, 1.0, 2.0, torch.full_like(x, 0.4))
    torch.testing.assert_close(got, torch.tensor([0.0, 0.25, 0.5, 1.0, 0.0], dtype=torch.float64))


def test_noise_is_continuous_and_bounded() -> None:
    u = torch.linspace(-3, 3, 6001, dtype=torch.float64)
    value = noise(u, 0.37 * u)
    assert value.abs().max() <= 1
    assert (value[1:] - value[:-1]).abs().max() < 6e-3
    assert value.std() > 0.2


def test_wide_footprints_leave_no_detail() -> None:
    u, v = torch.rand(2, 5000, dtype=torch.float64) * 50
    thin, wide = torch.full_like(u, 0.001), torch.full_like(u, 3.0)
    assert 0.7 < fractal(u, v, thin, thin, roughness=0.8).std() < 1.3
    assert fractal(u, v, thin, wide, roughness=0.8).abs().max() == 0


def far_wall(shift_px: float) -> World:
    """A bricked, noisy wall so far that its bricks and fine grain are below a pixel, moved by parts of a pixel."""
    tiles = Tiles(colour=(0.9, 0.2, 0.1), width=0.5, height=0.25, duty=(0.8, 0.7), jitter=0.5, stagger=0.5)
    texture = Texture(low=(0.1, 0.1, 0.1), high=(0.9, 0.9, 0.9), cell=4.0, roughness=0.9, layers=(tiles,))
    wall = Solid(kind=Kind.BOX, body_from_solid=upright(0, 0, 60), size=(200.0, 200.0, 1.0), texture=0)
    scene = Scene(solids=(wall,), textures=(texture,), light=Light(shadows=False, sun=0.0, ambient=1.0))
    world = load_world("plane", seed=0, frames=1, height=64, width=96)
    metres = shift_px * 59 / float(world.camera.fx)
    return World("wall", scene=scene, path=constant((0.0,) * 6, start=upright(metres, metres, 0)), camera=world.camera,
                 frames=1, samples=1, seed=0)


def test_a_far_wall_does_not_shimmer() -> None:
    images = [far_wall(shift).colours([0]) for shift in (0.0, 0.5, 1.0)]
    contrast = images[0].std()
    assert contrast > 0.02
    # A whole pixel's shift gives the same picture one pixel on, to the least detail.
    assert (images[0][..., 1:, 1:] - images[2][..., :-1, :-1]).abs().mean() < 0.01 * contrast
    # Half a pixel is near the mean of the two: the texture holds nothing beyond the grid's band.
    middle = (images[0][..., 1:, 1:] + images[0][..., :-1, :-1] + images[0][..., 1:, :-1] + images[0][..., :-1, 1:]) / 4
    assert (images[1][..., :-1, :-1] - middle).abs().mean() < 0.12 * contrast


def test_textures_move_with_their_solid() -> None:
    world = load_world("drive", seed=2, frames=40, height=64, width=208, movers=1, shadows=False)
    # The car ahead stays ahead: its pixels, followed by the flow, keep their colour although the street does not.
    truth = world.pair_truth(20, 21)
    from egoflow.geometry.flow import backward_warp

    first, second = world.colours([20, 21]).split(1)
    warped, _ = backward_warp(second, truth.flow_ab)
    on_car = (truth.mover_id_a == 1) & truth.visible_ab
    assert int(on_car.sum()) > 80
    assert (warped - first).abs().mean(1, keepdim=True)[on_car].mean() < 0.04
    assert not math.isclose(float(truth.flow_ab.abs().mean()), 0.0)
