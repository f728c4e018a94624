"""The loss of a series of refinements: published weights, mean over all pixels, what does not count."""

import pytest
import torch

from egoflow.losses.reduce import masked_mean
from egoflow.losses.supervision import sequence_map


@pytest.mark.parametrize(("gamma", "expected"), [(0.8, 4.6564), (0.85, 5.7184)])
def test_twelve_refinements_one_pixel_off(gamma: float, expected: float) -> None:
    """Spec check: every refinement off by +1 in both channels, all valid: the sum of gamma^i."""
    truth = torch.randn(2, 2, 5, 7) * 9
    error = sequence_map([truth + 1] * 12, truth, torch.ones(2, 1, 5, 7, dtype=torch.bool), gamma=gamma)
    assert error.shape == (2, 1, 5, 7)
    torch.testing.assert_close(error, torch.full_like(error, expected), rtol=0, atol=1e-4)


def test_the_first_of_the_list_weighs_most() -> None:
    truth, valid = torch.zeros(1, 2, 3, 3), torch.ones(1, 1, 3, 3, dtype=torch.bool)
    flows = [torch.zeros(1, 2, 3, 3) for _ in range(3)]
    for age in range(3):
        moved = [flow + (2 if i == age else 0) for i, flow in enumerate(flows)]
        assert float(sequence_map(moved, truth, valid, gamma=0.5).mean()) == pytest.approx(2 * 0.5**age)


def test_the_mean_is_over_all_pixels_and_both_channels() -> None:
    """Off by 3 in x alone at one valid pixel of four: 3 / 2 / 4."""
    truth, valid = torch.zeros(1, 2, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    valid[..., 0, 0] = True
    off = truth + torch.tensor([3.0, 0.0]).view(1, 2, 1, 1)
    assert float(masked_mean(sequence_map([off], truth, valid))) == pytest.approx(3 / 8)


def test_flow_of_400_pixels_does_not_count() -> None:
    """The length counts, not each axis: (300, 300) is out, (399, 0) is in."""
    truth = torch.tensor([[400.0, 0], [300, 300], [399, 0], [0, -399]]).T.reshape(1, 2, 2, 2)
    error = sequence_map([torch.zeros(1, 2, 2, 2)], truth, torch.ones(1, 1, 2, 2, dtype=torch.bool))
    assert error.flatten().tolist() == pytest.approx([0, 0, 199.5, 199.5])


def test_what_stands_under_invalid_is_harmless() -> None:
    truth, valid = torch.randn(1, 2, 6, 8), torch.rand(1, 1, 6, 8) < 0.5
    flows = [torch.randn(1, 2, 6, 8, requires_grad=True) for _ in range(3)]
    results = []
    for filler in (0.0, torch.nan, torch.inf):
        loss = masked_mean(sequence_map(flows, torch.where(valid, truth, filler), valid))
        results.append((loss, *torch.autograd.grad(loss, flows)))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    assert all((gradient != 0).any() for gradient in results[0][1:])
    nothing = masked_mean(sequence_map(flows, truth * torch.nan, torch.zeros_like(valid)))
    assert nothing.item() == 0
    assert all((g == 0).all() for g in torch.autograd.grad(nothing, flows))
