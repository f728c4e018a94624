"""Depth metrics against hand-computed tables; crops, caps, scaling and resizing as published."""

import math

import numpy as np
import pytest

from egoflow.errors import ConfigError, DataError
from egoflow.evaluation.depth import CONSTANT, DepthProtocol, DepthScores, crop_mask, depth_metrics, resize_depth

PLAIN = DepthProtocol(crop="none", cap_m=80.0, scale="none")


def _truth(seed: int = 0, *, height: int = 20, width: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).uniform(2, 60, (height, width))


def _scores(prediction: np.ndarray, truth: np.ndarray, protocol: DepthProtocol = PLAIN, **masks: object) -> dict:
    scores = DepthScores(protocol)
    scores.add("a", prediction, truth, **masks)
    return dict(scores.result(resamples=1).rows[0].values)


def test_four_pixels_by_hand() -> None:
    found = depth_metrics(np.array([1.2, 2, 5, 8]), np.array([1.0, 2, 4, 8]))
    expected = {"abs_rel": 0.45 / 4, "sq_rel": 0.29 / 4, "rmse": math.sqrt(1.04 / 4),
                "rmse_log": math.sqrt((math.log(1.2) ** 2 + math.log(1.25) ** 2) / 4), "a1": 0.75, "a2": 1, "a3": 1}
    assert found == pytest.approx(expected, rel=1e-12)


def test_thresholds_are_strict() -> None:
    truth = np.array([1.0, 4.0, 64.0])
    for power, expected in ((1, (0, 1, 1)), (2, (0, 0, 1)), (3, (0, 0, 0))):
        for prediction in (truth * 1.25**power, truth / 1.25**power):
            found = depth_metrics(prediction, truth)
            assert (found["a1"], found["a2"], found["a3"]) == pytest.approx(expected)


def test_a_fifth_too_deep() -> None:
    truth = _truth()
    found = _scores(1.2 * truth, truth)
    assert found == pytest.approx({"abs_rel": 0.2, "sq_rel": 0.04 * truth.mean(), "rmse_log": math.log(1.2), "a1": 1,
                                   "a2": 1, "a3": 1, "rmse": 0.2 * math.sqrt((truth**2).mean())})
    scaled = _scores(1.2 * truth, truth, DepthProtocol(crop="none", scale="median"))
    assert [scaled[k] for k in ("abs_rel", "sq_rel", "rmse", "rmse_log")] == pytest.approx([0] * 4, abs=1e-12)


@pytest.mark.parametrize(("crop", "rows", "columns"), [
    ("garg", (153, 371), (44, 1197)), ("eigen", (124, 342), (44, 1197)), ("none", (0, 375), (0, 1242))])
def test_crops_have_the_published_bounds(crop: str, rows: tuple[int, int], columns: tuple[int, int]) -> None:
    mask = crop_mask(375, 1242, crop=crop)
    y, x = np.nonzero(mask)
    assert (y.min(), y.max() + 1, x.min(), x.max() + 1) == (*rows, *columns)
    assert mask.sum() == (rows[1] - rows[0]) * (columns[1] - columns[0])


def test_only_truth_inside_crop_and_cap_counts() -> None:
    truth = _truth(height=100, width=200)
    prediction = 1.1 * truth
    spoilt = truth.copy()
    spoilt[~crop_mask(100, 200, crop="garg")] = 1.0
    spoilt[60, 60:65] = (np.nan, np.inf, 0, 80.0, 1e-3)
    spoilt[61, 61] = -5
    protocol = DepthProtocol(crop="garg", scale="none")
    assert _scores(prediction, spoilt, protocol)["abs_rel"] == pytest.approx(0.1)


def test_the_cap_removes_truth_and_clamps_predictions_after_scaling() -> None:
    truth = np.array([[10.0, 40.0, 60.0]])
    found = _scores(np.array([[2.0, 30.0, 1.0]]), truth, DepthProtocol(crop="none", cap_m=50, scale="median"))
    # 60 m is beyond the cap; the factor is 25 / 16, which takes 30 to 46.9 and 2 to 3.125.
    assert found["rmse"] == pytest.approx(math.sqrt((6.875**2 + 6.875**2) / 2))
    clamped = _scores(np.array([[100.0, 100.0, 1.0]]), truth, DepthProtocol(crop="none", cap_m=50, scale="none"))
    assert clamped["rmse"] == pytest.approx(math.sqrt((40**2 + 10**2) / 2))


def test_the_median_of_an_even_number_is_the_middle() -> None:
    scores = DepthScores(DepthProtocol(crop="none"))
    scores.add("a", np.array([[1.0, 2.0, 4.0, 9.0]]), np.array([[3.0, 5.0, 7.0, 30.0]]))
    assert scores.factors["a"] == pytest.approx(6 / 3)


def test_invalid_pixels_may_hold_anything() -> None:
    truth, prediction = _truth(1), _truth(2)
    keep_t, keep_p = np.random.default_rng(3).random((2, 20, 30)) < 0.7
    clean = _scores(prediction, truth, valid_prediction=keep_p, valid_truth=keep_t)
    for rubbish in (np.nan, np.inf, -1.0, 0.0, 1e30):
        dirty = _scores(np.where(keep_p, prediction, rubbish), np.where(keep_t, truth, rubbish),
                        valid_prediction=keep_p, valid_truth=keep_t)
        assert dirty == clean
    assert _scores(np.where(keep_p, prediction, 0), np.where(keep_t, truth, 0)) == clean


def test_holes_of_a_prediction_show_in_the_coverage() -> None:
    truth = _truth()
    prediction = truth.copy()
    prediction[:5] = 0
    scores = DepthScores(PLAIN)
    scores.add("a", prediction, truth)
    result = scores.result(resamples=1)
    assert result.extra["coverage"] == pytest.approx(0.75)
    assert result.protocol["coverage"].startswith("75.00%")


def test_depth_is_resized_as_depth_with_pixel_centres_on_integers() -> None:
    """A plane 2 + x / 4 of width 8, halved: output pixel i has its centre at x = 2 i + 0.5."""
    plane = np.tile(2 + np.arange(8) / 4, (4, 1))
    small, valid = resize_depth(plane, np.ones_like(plane, bool), height=2, width=4)
    assert small == pytest.approx(np.tile(2 + (2 * np.arange(4) + 0.5) / 4, (2, 1)))
    assert valid.all()
    large, _ = resize_depth(small, valid, height=4, width=8)
    assert large[:, 1:7] == pytest.approx(plane[:, 1:7])


def test_resizing_does_not_mix_holes_into_depth() -> None:
    depth = np.full((4, 8), 7.0)
    depth[:, :3] = np.nan
    for height, width in ((8, 16), (2, 4), (5, 9)):
        value, valid = resize_depth(depth, np.isfinite(depth), height=height, width=width)
        assert value[valid] == pytest.approx(7.0)
        assert 0.4 < valid.mean() < 0.8
    _, valid = resize_depth(depth, np.isfinite(depth), height=8, width=16)
    # Column i of the doubled map has its centre at i / 2 - 0.25: column 5 leans on a hole by three quarters.
    assert valid[0].tolist() == [False] * 6 + [True] * 10


def test_any_split_and_order_of_the_images_gives_the_same_figures() -> None:
    images = [(f"{i:03d}", _truth(i), _truth(i + 100)) for i in range(12)]
    protocol = DepthProtocol(crop="garg", scale="median", ranges_m=(0, 20, 80))
    whole = DepthScores(protocol)
    for image in images:
        whole.add(*image)
    halves = DepthScores(protocol), DepthScores(protocol)
    for i in np.random.default_rng(0).permutation(12):
        halves[int(i % 5 == 0)].add(*images[i])
    halves[1].merge(halves[0])
    assert halves[1].result(resamples=50).json() == whole.result(resamples=50).json()
    assert whole.result(resamples=50).counts == {"images": 12}


def test_images_weigh_the_same_whatever_truth_they_have() -> None:
    sparse = np.zeros((10, 10))
    sparse[0, 0] = 10
    scores = DepthScores(PLAIN)
    scores.add("dense", np.full((10, 10), 11.0), np.full((10, 10), 10.0))
    scores.add("sparse", np.full((10, 10), 13.0), sparse)
    assert scores.result(resamples=1).rows[0].values["abs_rel"] == pytest.approx(0.2)


def test_constant_depth_is_the_same_for_any_constant_under_median_scaling() -> None:
    truth = _truth()
    protocol = DepthProtocol(crop="none", scale="median")
    scores = DepthScores(protocol)
    scores.add("a", np.full_like(truth, 0.37), truth)
    prediction, constant = scores.result(resamples=1).rows
    assert constant.name == CONSTANT
    assert dict(prediction.values) == pytest.approx(dict(constant.values))
    assert constant.values["abs_rel"] == pytest.approx((np.abs(truth - np.median(truth)) / truth).mean())
    unscaled = DepthScores(PLAIN)
    unscaled.add("a", truth, truth)
    assert unscaled.result(resamples=1).rows[1].name == "constant depth (uses truth)"


def test_ranges_and_moving_parts_are_rows_of_their_own() -> None:
    truth = np.array([[5.0, 15.0, 15.0, 60.0]])
    static = np.array([[True, True, False, True]])
    scores = DepthScores(DepthProtocol(crop="none", scale="none", ranges_m=(0, 10, 20)))
    scores.add("a", truth * np.array([[1.1, 1.2, 1.4, 1.0]]), truth, static=static)
    rows = {row.name: row.values["abs_rel"] for row in scores.result(resamples=1).rows}
    assert rows["prediction"] == pytest.approx(0.7 / 4)
    assert rows["prediction, 0-10 m"] == pytest.approx(0.1)
    assert rows["prediction, 10-20 m"] == pytest.approx(0.3)
    assert rows["prediction, static"] == pytest.approx(0.1)
    assert rows["prediction, moving"] == pytest.approx(0.4)
    assert list(rows)[0] == "prediction"


def test_images_without_truth_are_counted_and_all_such_is_an_error() -> None:
    scores = DepthScores(PLAIN)
    assert not scores.add("a", _truth(), np.zeros((20, 30)))
    with pytest.raises(DataError, match="of 1 none has true depth"):
        scores.result()
    assert scores.add("b", _truth(), _truth())
    result = scores.result(resamples=1)
    assert result.counts == {"images": 1}
    assert "1 images without true depth" in result.protocol["skipped"]


def test_mistakes_are_one_line() -> None:
    truth = _truth()
    scores = DepthScores(PLAIN)
    scores.add("a", truth, truth)
    other = DepthScores(PLAIN)
    other.add("a", truth, truth)
    for action, message in ((lambda: scores.add("a", truth, truth), "scored twice"),
                            (lambda: scores.merge(other), "scored twice"),
                            (lambda: scores.add("b", np.zeros((20, 30)), truth), "no depth at any of the 600 pixels"),
                            (lambda: scores.add("c", truth[None], truth), "must be"),
                            (lambda: scores.add("d", truth, truth[0]), "must be")):
        with pytest.raises(DataError, match=message) as caught:
            action()
        assert "\n" not in str(caught.value)
    for options in ({"crop": "grag"}, {"scale": "mean"}, {"cap_m": 0.0}, {"cap_m": math.nan}, {"cap_m": math.inf},
                    {"ranges_m": (1.0,)}, {"ranges_m": (5.0, 2.0)}):
        with pytest.raises(ConfigError):
            DepthProtocol(**options)
    with pytest.raises(ConfigError, match="different protocols"):
        scores.merge(DepthScores(DepthProtocol()))
