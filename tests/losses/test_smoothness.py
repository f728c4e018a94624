"""Smoothness: zero on what each order calls smooth, closed forms elsewhere, any size."""

import math

import pytest
import torch

from egoflow.geometry.pixels import pixel_grid
from egoflow.losses.reduce import masked_mean
from egoflow.losses.smoothness import (
    LAPLACIAN,
    first_order_map,
    laplacian_map,
    mean_normalised,
    second_order,
    second_order_edge_aware,
    second_order_maps,
)

D = torch.float64
SIZES = [(1, 1), (1, 2), (2, 1), (2, 2), (1, 9), (3, 3), (7, 5)]


def polynomial(height: int, width: int, xx: float, xy: float, yy: float) -> torch.Tensor:
    u, v = pixel_grid(height, width, dtype=D).unbind(-1)
    return (1 + 0.3 * u - 0.2 * v + xx * u * u + xy * u * v + yy * v * v)[None, None]


def test_second_differences_of_a_quadratic() -> None:
    # d_xx = 2 xx, d_xy = xy, d_yy = 2 yy everywhere.
    maps = second_order_maps(polynomial(6, 8, 0.5, -0.7, 0.25))
    assert [tuple(m.shape[-2:]) for m in maps] == [(6, 6), (5, 7), (5, 7), (4, 8)]
    for found, expected in zip(maps, (1.0, 0.7, 0.7, 0.5), strict=True):
        assert (found - expected).abs().max() < 1e-12
    assert second_order(polynomial(6, 8, 0.5, -0.7, 0.25)).item() == pytest.approx(1.0 + 0.7 + 0.7 + 0.5)


def test_second_order_is_the_sum_of_means() -> None:
    value = torch.rand(3, 1, 6, 9, dtype=D)
    assert second_order(value).item() == pytest.approx(sum(m.mean().item() for m in second_order_maps(value)))


def test_planes_are_smooth_to_the_second_order_only() -> None:
    plane, image = polynomial(6, 8, 0, 0, 0), torch.full((1, 3, 6, 8), 0.5, dtype=D)
    assert second_order(plane) < 1e-12
    assert second_order_edge_aware(plane, image).max() < 1e-12
    rough = first_order_map(plane)[0, 0]
    assert (rough[:-1, :-1] - 0.5).abs().max() < 1e-12
    assert (rough[-1, :-1] - 0.3).abs().max() < 1e-12
    assert (rough[:-1, -1] - 0.2).abs().max() < 1e-12
    assert rough[-1, -1] == 0


def test_image_edges_forgive() -> None:
    value, image = torch.zeros(1, 1, 4, 6, dtype=D), torch.zeros(1, 3, 4, 6, dtype=D)
    value[..., 3:], image[..., 3:] = 1.0, 0.2
    rough = first_order_map(value, image, edge=10)
    assert rough[0, 0, 1].tolist() == pytest.approx([0, 0, math.exp(-2), 0, 0, 0])
    assert first_order_map(value, torch.zeros_like(image)).max() == 1
    second = second_order_edge_aware(value, image, edge=10)
    assert second[0, 0, 1].tolist() == pytest.approx([0, 0, math.exp(-2), math.exp(-2), 0, 0])
    upright = second_order_edge_aware(value.mT, image.mT, edge=10)
    assert torch.equal(upright, second.mT)


def test_mean_normalised() -> None:
    value = torch.rand(2, 1, 4, 5, dtype=D) + 0.1
    found = mean_normalised(value)
    assert torch.allclose(found.mean((2, 3)), torch.ones(2, 1, dtype=D))
    assert torch.allclose(mean_normalised(value * 7), found)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("channels", [1, 2])
def test_any_size(height: int, width: int, channels: int) -> None:
    value = torch.rand(2, channels, height, width, dtype=D, requires_grad=True)
    image = torch.rand(2, 3, height, width, dtype=D)
    for result in (second_order(value), first_order_map(value).sum(), first_order_map(value, image).sum(),
                   second_order_edge_aware(value, image).sum(), masked_mean(mean_normalised(value))):
        (grad,) = torch.autograd.grad(result, value)
        assert torch.isfinite(result)
        assert torch.isfinite(grad).all()
    assert first_order_map(value, image).shape == (2, 1, height, width)
    assert second_order_edge_aware(value, image).shape == (2, 1, height, width)
    if max(height, width) == 1:
        assert second_order(value) == 0
        assert first_order_map(value, image).sum() == 0


def test_gradcheck() -> None:
    value = (torch.rand(2, 2, 4, 5, dtype=D) + 0.1).requires_grad_()
    image = torch.rand(2, 3, 4, 5, dtype=D, requires_grad=True)
    assert torch.autograd.gradcheck(second_order_maps, (value,))
    assert torch.autograd.gradcheck(second_order, (value,))
    assert torch.autograd.gradcheck(first_order_map, (value, image))
    assert torch.autograd.gradcheck(second_order_edge_aware, (value, image))
    assert torch.autograd.gradcheck(mean_normalised, (value,))


def test_laplacian_of_a_plane_and_of_an_impulse() -> None:
    """lu19_vo_depth.md, check 4: linear depth costs nothing, the kernel sums to 0."""
    assert sum(map(sum, LAPLACIAN)) == 0
    assert laplacian_map(polynomial(6, 8, 0, 0, 0)).max() < 1e-12
    impulse = torch.zeros(1, 1, 5, 5, dtype=D)
    impulse[..., 2, 2] = 12
    expected = torch.zeros(5, 5, dtype=D)
    expected[1:4, 1:4] = torch.tensor(LAPLACIAN, dtype=D).abs()
    assert torch.equal(laplacian_map(impulse)[0, 0], expected)
    # x^2: (1 + 2 + 1) / 12 of the second difference 2 along a row; likewise y^2.
    assert (laplacian_map(polynomial(6, 8, 1, 0, 0))[..., 1:-1, 1:-1] - 8 / 12).abs().max() < 1e-12
    assert (laplacian_map(polynomial(6, 8, 0.5, 0, 1))[..., 1:-1, 1:-1] - 1).abs().max() < 1e-12


def test_texture_forgives_the_laplacian() -> None:
    value = torch.rand(2, 1, 6, 8, dtype=D)
    plain = laplacian_map(value)
    ramp = (0.05 * pixel_grid(6, 8, dtype=D)[..., 0] - 0.1 * pixel_grid(6, 8, dtype=D)[..., 1]).expand(2, 3, 6, 8)
    # Sobel is 8 times the slope.
    assert (laplacian_map(value, ramp) - plain / (8 * 0.15 + 0.1)).abs().max() < 1e-12
    assert (laplacian_map(value, torch.zeros(2, 3, 6, 8, dtype=D)) - 10 * plain).abs().max() < 1e-12


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_laplacian_of_any_size(height: int, width: int) -> None:
    value = torch.rand(2, 1, height, width, dtype=D, requires_grad=True)
    found = laplacian_map(value, torch.rand(2, 3, height, width, dtype=D))
    assert found.shape == value.shape
    assert bool((found.detach() > 0).any()) == (min(height, width) >= 3)
    masked_mean(found).backward()
    assert value.grad is not None
    assert value.grad.isfinite().all()
