"""The windowed correlation against its definition, its gradient, and shifts that it must find."""

import pytest
import torch
from torch import Tensor

from egoflow.networks.correlation import TILE, windowed_correlation

SIZES = [(1, 1), (1, 9), (7, 5), (6, TILE), (5, TILE + 1), (9, 2 * TILE + 3)]


def by_definition(a: Tensor, b: Tensor, radius: int, stride: int) -> Tensor:
    """Return the sum written out, one displacement and one pixel at a time."""
    batch, _, height, width = a.shape
    window = range(-radius, radius + 1)
    cost = a.new_zeros(batch, len(window) ** 2, height, width)
    for channel, (dy, dx) in enumerate((dy, dx) for dy in window for dx in window):
        for y in range(height):
            for x in range(width):
                v, u = y + stride * dy, x + stride * dx
                if 0 <= v < height and 0 <= u < width:
                    cost[:, channel, y, x] = (a[:, :, y, x] * b[:, :, v, u]).mean(1)
    return cost


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize(("radius", "stride"), [(0, 1), (1, 1), (2, 1), (1, 2), (2, 3)])
def test_it_is_the_mean_of_products_and_zero_outside(size: tuple[int, int], radius: int, stride: int) -> None:
    a, b = torch.randn(2, 2, 3, *size, dtype=torch.float64)
    cost = windowed_correlation(a, b, radius=radius, stride=stride)
    torch.testing.assert_close(cost, by_definition(a, b, radius, stride), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("radius", "stride"), [(0, 1), (2, 1), (1, 2)])
def test_the_form_for_export_says_the_same(monkeypatch: pytest.MonkeyPatch, radius: int, stride: int) -> None:
    a, b = torch.randn(2, 2, 3, 5, 7, dtype=torch.float64)
    cost = windowed_correlation(a, b, radius=radius, stride=stride)
    monkeypatch.setattr("egoflow.networks.correlation.exporting", lambda: True)
    torch.testing.assert_close(windowed_correlation(a, b, radius=radius, stride=stride), cost, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("size", "stride"), [((3, 4), 1), ((3, 5), 2), ((2, TILE + 2), 1)])
def test_its_gradient(size: tuple[int, int], stride: int) -> None:
    a, b = torch.randn(2, 1, 2, *size, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: windowed_correlation(a, b, radius=1, stride=stride), (a, b))


def test_the_centre_channel_of_flownet_c_is_the_square_and_a_shift_moves_the_maximum() -> None:
    feature = torch.randn(1, 32, 30, 40)
    cost = windowed_correlation(feature, feature, radius=10, stride=2)
    assert cost.shape == (1, 441, 30, 40)
    torch.testing.assert_close(cost[:, 220], feature.square().mean(1))
    assert (cost.argmax(1) == 220).float().mean() > 0.99
    right = torch.roll(feature, 2, dims=3)
    moved = windowed_correlation(feature, right, radius=10, stride=2)[..., :-2]
    torch.testing.assert_close(moved[:, 221], feature.square().mean(1)[..., :-2])
    down = windowed_correlation(feature, torch.roll(feature, 4, dims=2), radius=10, stride=2)[..., :-4, :]
    torch.testing.assert_close(down[:, 220 + 2 * 21], feature.square().mean(1)[:, :-4])
    # The displacement (-20, -20) leaves the image from its upper left corner.
    assert (cost[:, 0, :20] == 0).all()
    assert (cost[:, 0, 20:, 20:] != 0).all()


def test_memory_layout_and_half_precision_change_nothing() -> None:
    a, b = torch.randn(2, 2, 8, 10, 20)
    cost = windowed_correlation(a, b, radius=2)
    channels_last = windowed_correlation(*(v.to(memory_format=torch.channels_last) for v in (a, b)), radius=2)
    torch.testing.assert_close(channels_last, cost)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(windowed_correlation(a, b, radius=2), cost)
        assert windowed_correlation(a.bfloat16(), b.bfloat16(), radius=2).dtype == torch.float32
