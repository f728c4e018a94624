"""Flow metrics against figures worked out by hand; means of the protocols; confidence; any split of the pairs."""

import math

import numpy as np
import pytest

from egoflow.errors import ConfigError, DataError
from egoflow.evaluation.bootstrap import mean_interval, ratio_interval
from egoflow.evaluation.flow import FlowScores, angular_error, flow_sums, sparsification


def _flow(x: float | np.ndarray, y: float | np.ndarray = 0.0, *, size: tuple[int, int] = (4, 6)) -> np.ndarray:
    return np.stack([np.broadcast_to(np.asarray(v, np.float64), size) for v in (x, y)])


def _figures(flow: np.ndarray, truth: np.ndarray, protocol: str = "plain", **maps: np.ndarray) -> dict:
    scores = FlowScores(protocol)
    scores.add("a", flow, truth, **maps)
    return dict(scores.result(resamples=1).rows[0].values)


def _random_pair(seed: int, *, scale: float = 8.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    size = (6 + seed % 3, 9)
    return random.normal(0, scale, (2, *size)), random.normal(0, scale, (2, *size))


def test_a_constant_error_vector() -> None:
    truth = _flow(np.linspace(-20, 20, 24).reshape(4, 6), 7.0)
    found = _figures(truth + _flow(3.0, -4.0), truth)
    assert found["epe_px"] == pytest.approx(5.0, rel=1e-12)
    assert (found["over_3px_percent"], found["over_5px_percent"]) == (100, 0)
    assert (found["fl_all_percent"], found["density_percent"]) == (100, 100)
    assert found["epe_noc_px"] is None
    assert found["sparsification_px"] is None


@pytest.mark.parametrize(("length", "error", "outlier"), [
    (10, 3.0, False), (10, 3.001, True), (100, 3.001, False), (100, 5.0, False), (100, 5.001, True), (0, 2.9, False),
    (0, 3.001, True), (60, 3.0, False), (60, 3.001, True), (59, 2.99, False)])
def test_fl_needs_both_conditions_strictly(length: float, error: float, outlier: bool) -> None:
    found = _figures(_flow(length, error), _flow(length))
    assert found["fl_all_percent"] == (100 if outlier else 0)
    assert found["over_3px_percent"] == (100 if error > 3 else 0)


def test_thresholds_are_strict() -> None:
    truth = _flow(0.0)
    for px in (0.5, 1, 2, 3, 5):
        key = f"over_{px:g}px_percent".replace(".", "_")
        assert _figures(_flow(px), truth)[key] == 0
        assert _figures(_flow(px * 1.0001), truth)[key] == 100


def test_speeds_belong_to_the_bin_that_begins_with_them() -> None:
    truth = _flow(np.array([[0.0, 9.999, 10.0, 39.999, 40.0, 500.0]]), size=(1, 6))
    found = _figures(truth + _flow(0.0, np.array([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]), size=(1, 6)), truth)
    assert [found[f"epe_{k}_px"] for k in ("s0_10", "s10_40", "s40")] == pytest.approx([1.5, 3.5, 5.5], rel=1e-12)
    assert _figures(_flow(1.0), _flow(0.0))["epe_s40_px"] is None


def test_visible_and_occluded_parts() -> None:
    visible = np.zeros((4, 6), bool)
    visible[:, :2] = True
    error = np.where(visible, 1.0, 4.0)
    found = _figures(_flow(error), _flow(0.0), visible=visible)
    assert (found["epe_noc_px"], found["epe_occ_px"], found["epe_px"]) == pytest.approx((1, 4, 3))
    assert (found["fl_noc_percent"], found["over_3px_noc_percent"]) == (0, 0)
    assert found["fl_all_percent"] == pytest.approx(200 / 3)


def test_the_angle_is_between_flows_in_space_and_time() -> None:
    flows = np.array([[1.0, 0, 1, 3, 0], [0.0, 0, 0, 4, 0]])
    truths = np.array([[0.0, 0, 1, -3, 0], [0.0, 0, 0, -4, 1e-9]])
    # (3, 4, 1) against (-3, -4, 1): cosine (1 - 25) / 26. The last angle is below what arccos can tell from 0.
    expected = [45, 0, 0, math.degrees(math.acos(-24 / 26)), math.degrees(1e-9)]
    assert angular_error(flows, truths) == pytest.approx(expected, rel=1e-9)


def test_invalid_pixels_may_hold_anything() -> None:
    random = np.random.default_rng(3)
    flow, truth = _flow(random.normal(0, 9, (4, 6)), 1.0), _flow(random.normal(0, 9, (4, 6)), 2.0)
    keep_flow, keep_truth, visible = random.random((3, 4, 6)) < 0.7
    maps = {"visible": visible, "confidence": random.random((4, 6))}
    clean = _figures(flow, truth, valid=keep_flow, valid_truth=keep_truth, **maps)
    for rubbish in (np.nan, np.inf, -np.inf, 1e10):
        spoilt = (np.where(keep_flow, flow, rubbish), np.where(keep_truth, truth, rubbish))
        assert _figures(*spoilt, valid=keep_flow, valid_truth=keep_truth, **maps) == clean
        assert _figures(*spoilt, **maps) == clean
    assert clean["density_percent"] == pytest.approx(100 * (keep_flow & keep_truth).sum() / keep_truth.sum())


def test_means_of_the_protocols() -> None:
    """A pair of 24 pixels with errors of 1 px, one of 6 with errors of 11: 3 px over all pixels, 6 px over pairs."""
    expected = {"plain": (3.0, 20.0), "sintel": (3.0, 20.0), "kitti2012": (6.0, 50.0), "middlebury": (6.0, 50.0),
                "kitti2015": (6.0, 20.0)}
    for protocol, figures in expected.items():
        scores = FlowScores(protocol)
        scores.add("large", _flow(1.0), _flow(0.0))
        scores.add("small", _flow(11.0, size=(2, 3)), _flow(0.0, size=(2, 3)))
        result = scores.result(resamples=1)
        found = result.rows[0].values
        assert (found["epe_px"], found["fl_all_percent"]) == pytest.approx(figures), protocol
        assert result.counts == {"pairs": 2}
        assert result.extra["per_pair"]["small"]["epe_px"] == 11
        assert protocol in result.text()


def test_a_pair_without_fast_motion_does_not_weigh_in_its_bin() -> None:
    scores = FlowScores("kitti2012")
    scores.add("slow", _flow(1.0), _flow(0.0))
    scores.add("fast", _flow(52.0), _flow(50.0))
    assert scores.result(resamples=1).rows[0].values["epe_s40_px"] == pytest.approx(2.0)


def test_columns_follow_the_protocol_and_what_is_known() -> None:
    def columns(protocol: str, **maps: np.ndarray) -> list[str]:
        scores = FlowScores(protocol)
        scores.add("a", _flow(1.0), _flow(0.0), **maps)
        return [metric.label for metric in scores.result(resamples=1).metrics]

    half = np.arange(24).reshape(4, 6) < 12
    assert columns("plain") == ["EPE", "Fl-all", ">1 px", ">3 px", ">5 px", "AE"]
    assert columns("plain", visible=half)[6:] == ["EPE noc", "EPE occ"]
    assert columns("plain", valid=half)[6:] == ["density"]
    assert columns("kitti2012") == [">3 px noc", ">3 px", "EPE noc", "EPE"]
    assert columns("kitti2015", confidence=np.ones((4, 6)))[4:] == ["AUC", "oracle", "random"]
    assert columns("sintel", visible=half) == ["EPE", "EPE noc", "EPE occ", "s0-10", "s10-40", "s40+"]
    assert columns("middlebury") == ["AE", "EPE", ">0.5 px", ">1 px", ">2 px"]


def test_any_split_and_order_of_the_pairs_gives_the_same_figures() -> None:
    pairs = [(f"{i:03d}", *_random_pair(i)) for i in range(12)]
    for protocol in ("plain", "kitti2012", "kitti2015"):
        whole = FlowScores(protocol)
        for pair in pairs:
            whole.add(*pair)
        halves = FlowScores(protocol), FlowScores(protocol)
        for i in np.random.default_rng(0).permutation(12):
            halves[int(i % 5 == 0)].add(*pairs[i])
        halves[1].merge(halves[0])
        assert halves[1].result(resamples=50).json() == whole.result(resamples=50).json()


def test_four_errors_sorted_by_confidence() -> None:
    error = np.array([4.0, 1.0, 3.0, 2.0])
    oracle = (1 + 1.5 + 2 + 2.5) / 4
    assert sparsification(error, -error) == pytest.approx((oracle, oracle, 2.5))
    assert sparsification(error, error)[0] == pytest.approx((4 + 3.5 + 3 + 2.5) / 4)
    assert sparsification(error, np.array([9, 7, 8, 8]))[0] == pytest.approx((4 + 3.25 + 3 + 2.5) / 4)
    assert sparsification(error, np.ones(4))[0] == pytest.approx(2.5)
    assert sparsification(error, np.array([0, 3, np.nan, 2]))[0] == pytest.approx((1 + 1.5 + 7 / 3 + 2.5) / 4)
    assert sparsification(error, np.array([0, 255, 1, 2], np.uint8))[0] == pytest.approx(oracle)


def test_a_useful_confidence_lies_between_oracle_and_chance() -> None:
    """Errors uniform in [0, 1]: the oracle's curve is s / 2, so its area tends to 1/4; chance has 1/2."""
    error = np.random.default_rng(0).random(20_000)
    hint = np.round(error + np.random.default_rng(1).normal(0, 0.2, 20_000), 1)
    found, oracle, chance = sparsification(error, -hint)
    assert oracle < found < chance
    assert (oracle, chance) == pytest.approx((0.25, 0.5), abs=5e-3)
    blind = sparsification(error, np.random.default_rng(2).random(20_000))[0]
    assert blind == pytest.approx(chance, abs=0.01)
    assert sparsification(error, hint)[0] > chance


def test_confidence_counts_once_a_pair() -> None:
    scores = FlowScores()
    for name, width in (("a", 4), ("b", 400)):
        error = np.tile([0.0, 2.0], width // 2)[None]
        scores.add(name, _flow(error, size=error.shape), _flow(0.0, size=error.shape), confidence=-error)
    found = scores.result(resamples=1)
    per_pair = found.extra["per_pair"]
    mean = (per_pair["a"]["sparsification_px"] + per_pair["b"]["sparsification_px"]) / 2
    assert per_pair["a"]["sparsification_px"] == pytest.approx((0 + 0 + 2 / 3 + 1) / 4)
    assert found.rows[0].values["sparsification_px"] == pytest.approx(mean)
    assert found.rows[0].values["sparsification_random_px"] == pytest.approx(1.0)


def test_rows_stand_in_their_order_with_intervals_of_the_first() -> None:
    scores = FlowScores()
    for i in range(8):
        flow, truth = _random_pair(i)
        scores.add(f"{i}", flow, truth)
        scores.add(f"{i}", np.zeros_like(truth), truth, row="zero")
    result = scores.result(resamples=200)
    assert [row.name for row in result.rows] == ["prediction", "zero"]
    low, high = result.rows[0].intervals["epe_px"]
    assert low < result.rows[0].values["epe_px"] < high
    assert not result.rows[1].intervals
    assert scores.result(resamples=200, seed=1).rows[0].intervals["epe_px"] != (low, high)
    lengths = np.concatenate([np.hypot(*_random_pair(i)[1]).ravel() for i in range(8)])
    assert result.json()["baselines"]["zero"]["epe_px"] == pytest.approx(lengths.mean())


def test_intervals_of_a_ratio() -> None:
    values = np.random.default_rng(0).random(9)
    weighted = ratio_interval(list(3 * values), [3] * 9, resamples=300, seed=4)
    plain = mean_interval(list(values), resamples=300, seed=4)
    assert weighted == pytest.approx(plain)
    assert ratio_interval([1.0, 0.0], [2, 0]) is None
    assert ratio_interval([2.0, 6.0, 0.0], [1, 3, 0]) == (2.0, 2.0)


def test_one_pixel_and_no_pixel() -> None:
    assert flow_sums(np.zeros((2, 0)), np.zeros((2, 0)), confidence=np.zeros(0))["epe_px"] == (0.0, 0)
    assert _figures(_flow(1.0, size=(1, 1)), _flow(0.0, size=(1, 1)))["epe_px"] == 1
    scores = FlowScores()
    scores.add("empty", _flow(1.0), _flow(np.nan))
    with pytest.raises(DataError, match="no pixel can be scored in 1 pairs"):
        scores.result()
    scores.add("full", _flow(1.0), _flow(0.0))
    assert scores.result(resamples=1).rows[0].values["epe_px"] == 1


def test_mistakes_are_one_line() -> None:
    scores, other = FlowScores(), FlowScores()
    for each in (scores, other):
        each.add("a", _flow(1.0), _flow(0.0))
    for action, message in (
            (lambda: scores.add("a", _flow(1.0), _flow(0.0)), "scored twice"), (lambda: scores.merge(other), "twice"),
            (lambda: scores.add("b", _flow(1.0, size=(3, 3)), _flow(0.0)), "of one size"),
            (lambda: scores.add("b", np.zeros((4, 6, 2)), np.zeros((4, 6, 2))), r"must be \[2, H, W\]"),
            (lambda: scores.add("b", _flow(1.0), _flow(0.0), visible=np.ones((2, 2), bool)), "visible is"),
            (FlowScores().result, "no pixel")):
        with pytest.raises(DataError, match=message) as caught:
            action()
        assert "\n" not in str(caught.value)
    scores.add("c", _flow(1.0), _flow(0.0), row="zero")
    with pytest.raises(DataError, match="'zero' was not scored on the same pairs"):
        scores.result()
    with pytest.raises(ConfigError, match="unknown protocol 'kitti'"):
        FlowScores("kitti")
    with pytest.raises(ConfigError, match="different protocols"):
        scores.merge(FlowScores("sintel"))
