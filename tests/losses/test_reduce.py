"""Reducers: samples weigh the same, empty masks stay in the graph, and what stands under False is never read."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from egoflow.errors import ShapeError
from egoflow.losses.reduce import fill_unused, masked_mean, masked_sum_count, multi_scale

D = torch.float64


def masked(seed: int, batch: int = 4, channels: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    value = torch.randn(batch, channels, 3, 5, dtype=D, generator=rng)
    return value, torch.rand(batch, 1, 3, 5, generator=rng) < torch.rand(batch, 1, 1, 1, generator=rng)


@given(st.integers(0, 2**31 - 1), st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_mean_of_samples_means(seed: int, channels: int) -> None:
    value, use = masked(seed, channels=channels)
    expected = [v[:, u[0]].mean().item() if u.any() else 0.0 for v, u in zip(value, use, strict=True)]
    if channels == 1:
        assert masked_mean(value, use).item() == pytest.approx(sum(expected) / 4, abs=1e-14)
    halves = [masked_mean(v, u) for v, u in zip(value.split(2), use.split(2), strict=True)]
    assert (sum(halves) / 2).item() == pytest.approx(masked_mean(value, use).item(), abs=1e-14)


def test_several_channels_are_averaged_too() -> None:
    value = torch.tensor([[[[1.0, 5.0]], [[3.0, 7.0]]]])
    use = torch.tensor([[[[True, False]]]])
    assert masked_mean(value, use) == 2


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=50, deadline=None)
def test_nan_under_false_changes_nothing(seed: int) -> None:
    value, use = masked(seed)
    for poison in (torch.nan, torch.inf):
        clean, dirty = value.clone().requires_grad_(), torch.where(use, value, poison).requires_grad_()
        a, b = masked_mean(clean, use), masked_mean(dirty, use)
        a.backward()
        b.backward()
        assert torch.equal(a, b)
        assert torch.equal(clean.grad, dirty.grad)
        assert masked_sum_count(clean, use)[0] == masked_sum_count(dirty, use)[0]
        filled = fill_unused(dirty, torch.zeros_like(dirty), use)
        assert torch.isfinite(filled).all()
        dirty.grad = None
        filled.square().sum().backward()
        assert torch.isfinite(dirty.grad).all()


@pytest.mark.parametrize("shape", [(2, 1, 3, 4), (2, 1, 0, 4), (2, 1, 3, 0)])
def test_nothing_to_average_is_a_zero_in_the_graph(shape: tuple[int, ...]) -> None:
    value = torch.ones(shape, requires_grad=True)
    result = masked_mean(value * 2, torch.zeros(shape, dtype=torch.bool))
    result.backward()
    assert result == 0
    assert result.shape == ()
    assert torch.equal(value.grad, torch.zeros(shape))
    if value.numel() == 0:
        assert masked_mean(value) == 0


def test_sum_and_count_do_not_depend_on_batching() -> None:
    value, use = masked(3)
    total, count = masked_sum_count(value.float(), use)
    parts = [masked_sum_count(v, u) for v, u in zip(value.float().split(1), use.split(1), strict=True)]
    assert total.dtype == torch.float64
    assert count == sum(p[1] for p in parts) == use.sum()
    assert abs(total - sum(p[0] for p in parts)) < 1e-12
    assert masked_sum_count(torch.ones(2, 1, 3, 3))[1] == 18


def test_half_precision_is_summed_in_float32() -> None:
    value = torch.full((1, 1, 300, 300), 0.1, dtype=torch.float16)
    for use in (None, torch.ones(1, 1, 300, 300, dtype=torch.bool)):
        assert masked_mean(value, use).item() == pytest.approx(value[0, 0, 0, 0].item(), rel=1e-5)


def test_multi_scale() -> None:
    values = [torch.tensor(float(v), requires_grad=True) for v in (1, 2, 4)]
    assert multi_scale(values, (1, 0.5, 0.25)) == 3
    for wrong in ((values, (1, 2)), ([], [])):
        with pytest.raises(ShapeError):
            multi_scale(*wrong)


def test_masks_of_the_wrong_kind_are_refused() -> None:
    with pytest.raises(ShapeError, match="bool"):
        masked_mean(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2))
    with pytest.raises(ShapeError, match="grid"):
        masked_mean(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 3, dtype=torch.bool))


def test_gradcheck() -> None:
    value, use = masked(5)
    value.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: masked_mean(v, use), (value,))
    assert torch.autograd.gradcheck(lambda v: masked_sum_count(v, use)[0], (value,))
    assert torch.autograd.gradcheck(lambda v: multi_scale([masked_mean(v), v.sum()], (0.5, 2)), (value,))
