"""The snippet error: the published rule, its blind spots, and the turning curve."""

import math

import pytest
import torch

from egoflow.errors import ConfigError
from egoflow.evaluation.snippets import scale_spread, snippet_errors, turning_curve
from egoflow.geometry.se3 import SE3, rotation_exp
from evaluation.paths import noisy, random_path, straight


def _shifted() -> tuple[SE3, SE3]:
    truth = straight(torch.arange(5, dtype=torch.float64))
    return SE3(truth.R, truth.t + torch.tensor([[0.0], [0.1], [0.1], [0.1], [0.1]], dtype=torch.float64)
               * torch.tensor([1.0, 0, 0], dtype=torch.float64)), truth


def test_the_root_is_divided_by_n() -> None:
    """Positions z = 0..4, prediction 0.1 to the side from the second frame on: 0.03997, not the RMSE's 0.0894."""
    prediction, truth = _shifted()
    error = float(snippet_errors(prediction, truth).ate)
    scale = 30 / 30.04
    by_hand = math.sqrt(sum((scale * z - z) ** 2 for z in range(5)) + 4 * (0.1 * scale) ** 2) / 5
    assert error == pytest.approx(by_hand, rel=1e-12)
    assert error == pytest.approx(0.03997, abs=5e-6)


@pytest.mark.parametrize("factor", [3.0, 0.01, -2.0])
def test_every_snippet_is_rescaled_so_scale_and_sign_are_not_seen(factor: float) -> None:
    prediction, truth = _shifted()
    found = snippet_errors(SE3(prediction.R, factor * prediction.t), truth)
    assert float(found.ate) == pytest.approx(0.03997, abs=5e-6)
    assert bool(found.backwards) is (factor < 0)


def test_snippets_do_not_see_where_the_world_is() -> None:
    truth = random_path(30, seed=1)
    prediction = noisy(truth, seed=2)
    moved = SE3.exp(torch.tensor([5, 6, 7, 1, 2, -1.0], dtype=torch.float64)) @ prediction.scaled(3.0)
    plain, other = snippet_errors(prediction, truth), snippet_errors(moved, truth)
    assert len(plain.ate) == 26
    assert other.ate.numpy() == pytest.approx(plain.ate.numpy())
    assert other.rotation_rad.numpy() == pytest.approx(plain.rotation_rad.numpy())


def test_one_snippet_agrees_with_plain_arithmetic() -> None:
    truth = random_path(9, seed=3)
    prediction = noisy(truth, seed=4)
    gt, p = ([(path[3].inverse() @ path[3 + k]).t for k in range(5)] for path in (truth, prediction))
    scale = sum(float(a @ b) for a, b in zip(gt, p, strict=True)) / sum(float(b @ b) for b in p)
    expected = math.sqrt(sum(float((scale * b - a).square().sum()) for a, b in zip(gt, p, strict=True))) / 5
    assert float(snippet_errors(prediction, truth).ate[3]) == pytest.approx(expected, rel=1e-12)


def test_the_rotation_error_is_the_mean_over_the_frames() -> None:
    """A prediction that turns 0.01 rad a frame too much is off by 0, 1, 2, 3 and 4 hundredths: 0.02 on average."""
    truth = straight(torch.arange(8, dtype=torch.float64))
    yaw = torch.zeros(8, 3, dtype=torch.float64)
    yaw[:, 1] = 0.01 * torch.arange(8)
    found = snippet_errors(SE3(rotation_exp(yaw), truth.t), truth)
    assert found.rotation_rad.numpy() == pytest.approx(0.02)


def test_a_prediction_without_motion_costs_the_whole_path() -> None:
    truth = straight(torch.arange(5, dtype=torch.float64))
    found = snippet_errors(straight(torch.zeros(5, dtype=torch.float64)), truth)
    assert float(found.ate) == pytest.approx(math.sqrt(30) / 5)


def test_four_frames_hold_no_snippet_and_one_frame_is_none() -> None:
    path = random_path(4, seed=1)
    assert snippet_errors(path, path) is None
    with pytest.raises(ConfigError, match="at least 2"):
        snippet_errors(path, path, frames=1)


def test_the_turning_curve_rises_for_a_straight_guess() -> None:
    truth = random_path(300, seed=5, turn=0.05)
    guess = straight(torch.arange(300, dtype=torch.float64))
    errors = snippet_errors(guess, truth)
    curve = turning_curve(errors, bins=6)
    assert sum(b["snippets"] for b in curve) == 296
    assert [b["lateral_from"] for b in curve] == sorted(b["lateral_from"] for b in curve)
    assert curve[-1]["ate_mean"] > 1.5 * curve[0]["ate_mean"]
    assert sum(b["ate_mean"] * b["snippets"] for b in curve) / 296 == pytest.approx(float(errors.ate.mean()))
    assert len(turning_curve(snippet_errors(guess[:6], truth[:6]), bins=6)) == 2
    with pytest.raises(ConfigError, match="at least 1 bin"):
        turning_curve(errors, bins=0)


def test_lateral_is_the_last_frame_to_the_right() -> None:
    turn = torch.zeros(5, 3, dtype=torch.float64)
    truth = SE3(rotation_exp(turn), torch.tensor([[0.2 * i, 0, i] for i in range(5)], dtype=torch.float64))
    assert float(snippet_errors(truth, truth).lateral) == pytest.approx(0.8)


# Does the path have one scale?

def _spread(prediction: SE3, truth: SE3) -> float | None:
    errors = snippet_errors(prediction, truth)
    assert errors is not None
    return scale_spread(errors)


def test_one_scale_has_no_spread_whatever_it_is() -> None:
    truth = random_path(30, seed=1)
    for factor in (1.0, 0.01, 40.0):
        assert _spread(truth.scaled(factor), truth) == pytest.approx(0, abs=1e-12)


def test_scale_spread_of_a_path_whose_second_half_is_too_long() -> None:
    """Steps of 1, then of 1.2: by hand, snippets of four steps of which the last k are long have a known ratio."""
    steps = torch.ones(100, dtype=torch.float64)
    long = torch.cat((steps[:50], 1.2 * steps[50:]))
    path, truth = (straight(torch.cat((torch.zeros(1, dtype=torch.float64), s.cumsum(0)))) for s in (long, steps))
    # 97 snippets: 47 before, 3 across, 47 after; positions 1..4 weigh as their squares, of which 30 is the sum.
    across = [1 + 0.2 * sum(z * max(z - short, 0) for z in range(1, 5)) / 30 for short in (3, 2, 1)]
    ratios = [1.0] * 47 + across + [1.2] * 47
    mean = sum(ratios) / 97
    by_hand = math.sqrt(sum((r - mean) ** 2 for r in ratios) / 97) / mean
    assert by_hand == pytest.approx(0.0899, abs=1e-4)
    assert _spread(path, truth) == pytest.approx(by_hand, rel=1e-12)
    # The snippet error sees but the three snippets across the middle, the spread every one.
    assert float(snippet_errors(path, truth).ate.median()) == pytest.approx(0, abs=1e-12)


def test_unit_speed_has_the_spread_of_the_true_speed() -> None:
    unit = straight(torch.arange(41, dtype=torch.float64))
    slow = straight(torch.cat((torch.arange(21), 20 + 0.5 * torch.arange(1, 21))).double())
    found = _spread(unit, slow)
    assert found is not None
    assert found == pytest.approx(0.5 / 1.5, abs=0.03)


def test_a_camera_at_rest_says_nothing_of_scale() -> None:
    """Half of the path stands still but for the noise of the truth, which a prediction need not share."""
    rest = 20 + 1e-3 * torch.rand(30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    truth = straight(torch.cat((torch.arange(61).double() / 3, rest)))
    moving, whole = straight(torch.arange(61).double()), torch.cat((torch.arange(61), torch.full((30,), 60))).double()
    assert _spread(moving, truth[:61]) == pytest.approx(0, abs=1e-12)
    found = _spread(straight(whole), truth)
    assert found is not None
    assert found < 0.05
    assert _spread(straight(torch.arange(91).double()), straight(torch.zeros(91).double())) is None


def test_a_path_that_goes_backwards_has_no_scale() -> None:
    truth = straight(torch.arange(20).double())
    assert _spread(truth.scaled(-1.0), truth) is None
    assert _spread(truth[:5], truth[:5]) is None
