"""Photometric maps against direct definitions and published check values."""

import math

import kornia
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from egoflow.losses.photometric import (
    census_distance,
    census_map,
    census_transform,
    charbonnier_map,
    l1_map,
    ssim_map,
    ssim_moments,
)
from egoflow.losses.reduce import fill_unused, masked_mean

D = torch.float64
SIZES = [(1, 1), (1, 9), (2, 3), (7, 5), (16, 23)]


def pair(height: int, width: int, seed: int = 0, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    x, y = (torch.rand(batch, 3, height, width, dtype=D, generator=rng) for _ in range(2))
    return x, y


def texture() -> torch.Tensor:
    """A smooth random grey texture around 0.5."""
    noise = torch.rand(1, 1, 80, 80, dtype=D, generator=torch.Generator().manual_seed(4))
    blurred = kornia.filters.gaussian_blur2d(noise, (15, 15), (2.0, 2.0))
    blurred = (blurred - blurred.mean()) / blurred.std() * 0.12 + 0.45
    return blurred.expand(1, 3, 80, 80)[..., 8:-8, 8:-8]


def test_l1_and_charbonnier() -> None:
    x, y = torch.zeros(1, 2, 1, 1, dtype=D), torch.tensor([0.3, -0.1], dtype=D).view(1, 2, 1, 1)
    assert l1_map(x, y).item() == pytest.approx(0.2)
    assert charbonnier_map(x, x).item() == pytest.approx(1e-3)
    expected = (math.sqrt(0.09 + 1e-6) + math.sqrt(0.01 + 1e-6)) / 2
    assert charbonnier_map(x, y).item() == pytest.approx(expected, rel=1e-12)
    assert charbonnier_map(x, x, alpha=0.45).item() == pytest.approx(0.0019953, abs=5e-8)


def ssim_by_definition(x: torch.Tensor, y: torch.Tensor, window: int) -> torch.Tensor:
    """Loop over windows of a reflected image and take each one's mean, variance and covariance."""
    radius = window // 2
    height, width = x.shape[-2:]
    x, y = (torch.nn.functional.pad(v, (radius,) * 4, mode="reflect") for v in (x, y))
    out = torch.empty(x.shape[0], 1, height, width, dtype=D)
    for i in range(height):
        for j in range(width):
            a, b = (v[:, :, i:i + window, j:j + window].flatten(2) for v in (x, y))
            ma, mb = a.mean(2), b.mean(2)
            va, vb = a.var(2, unbiased=False), b.var(2, unbiased=False)
            cov = ((a - ma[..., None]) * (b - mb[..., None])).mean(2)
            value = (2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
            out[:, 0, i, j] = ((1 - value) / 2).mean(1)
    return out


@pytest.mark.parametrize("window", [3, 5, 7])
def test_ssim_is_its_definition(window: int) -> None:
    x, y = pair(8, 11)
    assert (ssim_map(x, y, window=window) - ssim_by_definition(x, y, window)).abs().max() < 1e-12
    near = (0.95 * y + 0.05 * x).float()
    error = ssim_map(near, y.float(), window=window) - ssim_by_definition(near.double(), y, window)
    assert error.abs().max() < 2e-5


def test_ssim_of_a_constant_target_is_computed_once() -> None:
    x, y = pair(9, 12)
    moments = ssim_moments(y)
    assert torch.equal(ssim_map(x, y, moments=moments), ssim_map(x, y))
    both = ssim_map(torch.cat((x, 1 - x)), torch.cat((y, y)), moments=moments.repeated(2))
    assert torch.equal(both, torch.cat((ssim_map(x, y), ssim_map(1 - x, y))))


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=20, deadline=None)
def test_ssim_laws(seed: int) -> None:
    x, y = pair(5, 6, seed)
    assert ssim_map(x, x).abs().max() < 1e-12
    assert (ssim_map(x, y) - ssim_map(y, x)).abs().max() < 1e-12
    assert ssim_map(x, y).min() >= 0
    assert ssim_map(x, y).max() <= 1
    # Opposite patterns are as unlike as can be.
    assert ssim_map(0.5 + (x - x.mean()), 0.5 - (x - x.mean())).mean() > 0.5


def test_ssim_of_opposite_stripes_is_nearly_one() -> None:
    x = (torch.arange(12) % 2).to(D).expand(1, 3, 12, 12)
    assert ssim_map(x, 1 - x).min() > 0.85


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_any_size(height: int, width: int) -> None:
    x, y = pair(height, width)
    x.requires_grad_()
    for loss in (l1_map, charbonnier_map, ssim_map, census_map):
        value = loss(x, y)
        assert value.shape == (2, 1, height, width)
        assert loss(y, y).max() < 2e-3
        (grad,) = torch.autograd.grad(value.sum(), x)
        assert torch.isfinite(grad).all()


def test_half_precision_does_not_spoil_variances() -> None:
    x, y = (0.5 + 0.02 * v for v in pair(8, 8))
    x16, y16 = x.bfloat16(), y.bfloat16()
    assert (ssim_map(x16, y16) - ssim_map(x16.double(), y16.double())).abs().max() < 1e-4


def test_census_check_value() -> None:
    # selfsup_flow.md section 10, check 1: (1e-6)^.45.
    _, y = pair(12, 12)
    assert census_map(y, y).mean().item() == pytest.approx(0.0019953, abs=5e-8)
    assert census_map(y, 1 - y).min() > 1


def test_census_ignores_light_and_sees_displacement() -> None:
    # selfsup_flow.md section 10, check 2: its texture differs, its order and its zeros hold.
    y = texture()
    noisy = y + 2 / 255 * torch.randn(1, 1, 64, 64, dtype=D)
    shifted, other = y.roll(1, dims=-1), y.roll(23, dims=-2).roll(29, dims=-1)
    costs = [census_distance(v, y)[..., 4:-4, 4:-4].mean().item()
             for v in (y, y + 20 / 255, 1.05 * y, 1.2 * y, noisy, shifted, other)]
    assert costs[0] == 0
    assert costs[1] < 1e-12
    assert costs[2] < 0.05
    assert costs[3] < 0.5
    assert costs == sorted(costs)
    assert costs[5] > 10 * costs[3]
    assert 10 < costs[6] < 48
    # L1 has it the wrong way round.
    assert l1_map(y + 20 / 255, y).mean() > l1_map(shifted, y).mean()


def test_census_transform_of_a_step() -> None:
    # One grey level of difference d = 1 gives 1 / sqrt(1.81).
    image = torch.zeros(1, 1, 3, 3, dtype=D)
    image[0, 0, 1, 2] = 1 / 255
    code = census_transform(image, window=3)
    assert code.shape == (1, 8, 3, 3)
    assert code[0, :, 1, 1].tolist() == pytest.approx([0, 0, 0, 0, 1 / math.sqrt(1.81), 0, 0, 0])
    blank = torch.zeros(1, 1, 3, 3, dtype=D)
    expected = (1 / 1.81) / (0.1 + 1 / 1.81)
    assert census_distance(image, blank, window=3)[0, 0, 1, 1].item() == pytest.approx(expected)


def test_census_of_a_constant_target_is_computed_once() -> None:
    x, y = pair(9, 12)
    assert torch.equal(census_map(x, y, transform=census_transform(y)), census_map(x, y))


@pytest.mark.parametrize("loss", [l1_map, charbonnier_map, ssim_map, census_map])
def test_nan_under_false_changes_nothing(loss: object) -> None:
    x, y = pair(8, 9)
    use = torch.rand(2, 1, 8, 9) < 0.7
    results = []
    for bad in (0.3, torch.nan, torch.inf):
        dirty = torch.where(use, x, torch.full_like(x, bad)).requires_grad_()
        value = masked_mean(loss(fill_unused(dirty, y, use), y), use)  # type: ignore[operator]
        value.backward()
        assert torch.isfinite(dirty.grad).all()
        assert not dirty.grad[~use.expand_as(dirty)].any()
        results.append((value, dirty.grad))
    for value, grad in results[1:]:
        assert torch.equal(value, results[0][0])
        assert torch.equal(grad, results[0][1])


@pytest.mark.parametrize("size", [(4, 5), (1, 3)])
def test_gradcheck(size: tuple[int, int]) -> None:
    x, y = pair(*size, batch=1)
    x.requires_grad_()
    y.requires_grad_()
    for loss in (l1_map, charbonnier_map, ssim_map):
        assert torch.autograd.gradcheck(loss, (x, y))
    assert torch.autograd.gradcheck(lambda a, b: ssim_map(a, b, window=5), (x, y))
    # Grey levels run over 0..255, so a census is steep: a step of 1e-6 is .0003 of a level.
    assert torch.autograd.gradcheck(lambda a, b: census_map(a, b, window=3), (x, y), eps=1e-7, atol=1e-3, rtol=1e-3)
    assert torch.autograd.gradgradcheck(ssim_map, (x, y), atol=1e-3)
