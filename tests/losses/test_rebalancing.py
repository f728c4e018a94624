"""Weights of the branches: equal for equal progress, larger for who lags, in bounds, resumed to the bit."""

import pytest
import torch

from egoflow.losses.rebalancing import Progress


def after(*ratios: float) -> Progress:
    """Progress of branches whose losses fell to these shares of those at the end of warm-up."""
    start = torch.tensor([3.0, 0.2, 70.0, 1.0][:len(ratios)])
    return Progress(average=start * torch.tensor(ratios), start=start)


def test_equal_progress_weighs_one_whatever_the_unit() -> None:
    for ratio in (1.0, 0.3, 2.0):
        torch.testing.assert_close(after(ratio, ratio).weights(), torch.ones(2))
        torch.testing.assert_close(after(ratio, ratio, ratio).weights(), torch.ones(3))


def test_who_lags_weighs_more() -> None:
    # p = .4, .6: relative to their mean .8 and 1.2.
    torch.testing.assert_close(after(0.4, 0.6).weights(), torch.tensor([0.8, 1.2]))
    torch.testing.assert_close(after(0.4, 0.6).weights(gamma=0.0), torch.ones(2))
    # Squares of .8 and 1.2 are .64 and 1.44: normalised to the sum 2.
    torch.testing.assert_close(after(0.4, 0.6).weights(gamma=2.0), torch.tensor([0.64, 1.44]) * 2 / 2.08)
    assert after(0.2, 0.9, 0.5).weights().sum().item() == pytest.approx(3.0)


def test_weights_stay_in_bounds() -> None:
    torch.testing.assert_close(after(0.001, 1.0).weights()[0], torch.tensor(0.25))
    assert after(0.0, 0.0).weights().isfinite().all()
    assert after(1e-6, 1e-6, 1e-6, 1e3).weights(gamma=3.0).tolist() == [0.25, 0.25, 0.25, 4.0]


def test_before_the_end_of_warm_up_all_weigh_one() -> None:
    progress = Progress.unknown(2)
    assert progress.weights().tolist() == [1, 1]
    progress = progress.observed(torch.tensor([5.0, 1.0]))
    assert progress.weights().tolist() == [1, 1]
    # The first loss counts whole, later ones a hundredth.
    assert progress.average.tolist() == [5, 1]
    progress = progress.observed(torch.tensor([4.0, 2.0]))
    assert progress.average.tolist() == pytest.approx([4.99, 1.01])
    assert progress.warmed_up().weights().tolist() == [1, 1]


def test_halving_the_rate_of_a_branch_raises_its_weight() -> None:
    """coopnet.md check 6, on two learners that differ in nothing else."""
    def weights(rates: torch.Tensor) -> torch.Tensor:
        value, progress = torch.zeros(2), Progress.unknown(2)
        for step in range(60):
            progress = progress.observed((value - 1).square() + 0.01, keep=0.9)
            progress = progress.warmed_up() if step == 10 else progress
            value = value - rates * progress.weights() * 2 * (value - 1)
        return progress.weights()

    equal, halved = weights(torch.tensor([0.01, 0.01])), weights(torch.tensor([0.01, 0.005]))
    torch.testing.assert_close(equal, torch.ones(2))
    assert halved[1] > 1.1
    assert halved.sum().item() == pytest.approx(2.0)


def test_the_state_resumes_to_the_bit_without_gradient() -> None:
    losses = torch.rand(20, 2, requires_grad=True)

    def run(progress: Progress, steps: range) -> Progress:
        for step in steps:
            progress = progress.observed(losses[step])
            progress = progress.warmed_up() if step == 5 else progress
        return progress

    whole, half = run(Progress.unknown(2), range(20)), run(Progress.unknown(2), range(9))
    resumed = run(Progress(average=half.average.clone(), start=half.start.clone()), range(9, 20))
    assert torch.equal(whole.weights(), resumed.weights())
    assert not whole.weights().requires_grad
