"""Figures of motion masks against counts by hand and a loop over thresholds; baselines; any split of the images."""

import json
import math

import numpy as np
import pytest

from egoflow.errors import ConfigError, DataError
from egoflow.evaluation.motion_masks import MotionScores, average_precision, mask_figures

KEYS = ("mover_iou", "mover_recall", "false_alarms", "mover_precision", "mover_f1", "static_iou", "mean_iou")


def _figures(probability: np.ndarray, moving: np.ndarray, *, threshold: float = 0.5, **maps: np.ndarray) -> dict:
    scores = MotionScores(threshold)
    scores.add("a", probability, moving, **maps)
    return dict(scores.result(resamples=1).rows[0].values)


def _random_image(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a probability in steps of 1/10 that knows something of what moves."""
    random = np.random.default_rng(seed)
    moving = random.random((6 + seed % 3, 9)) < 0.05 * seed
    return np.clip(np.round(random.normal(0.35 + 0.3 * moving, 0.2), 1), 0, 1), moving


def test_a_mask_by_hand() -> None:
    """Ten pixels: two hits, one missed, three false alarms, four rightly still."""
    said = np.array([[1, 1, 0, 1, 1, 1, 0, 0, 0, 0]], bool)
    moving = np.array([[1, 1, 1, 0, 0, 0, 0, 0, 0, 0]], bool)
    found = _figures(said, moving)
    assert [found[key] for key in KEYS] == pytest.approx(
        [2 / 6, 2 / 3, 3 / 7, 2 / 5, 4 / 8, 4 / 8, (2 / 6 + 4 / 8) / 2])
    assert found["mover_f1"] == pytest.approx(2 / (1 / found["mover_recall"] + 1 / found["mover_precision"]))
    perfect = _figures(moving, moving)
    assert [perfect[key] for key in KEYS] == [1, 1, 0, 1, 1, 1, 1]
    assert perfect["average_precision"] == 1


@pytest.mark.parametrize(("threshold", "value", "moves"), [
    (0.5, 127, False), (0.5, 128, True), (1.0, 254, False), (1.0, 255, True), (1e-6, 0, False), (1e-6, 1, True),
    (0.2, 51, True), (0.2, 50, False)])
def test_the_threshold_belongs_to_what_moves(threshold: float, value: int, moves: bool) -> None:
    found = _figures(np.full((2, 3), value / 255), np.ones((2, 3), bool), threshold=threshold)
    assert found["mover_recall"] == moves


def test_what_is_not_defined_is_none() -> None:
    none = np.zeros((3, 4), bool)
    still = _figures(none, none)
    assert [still[key] for key in KEYS] == [None, None, 0, None, None, 1, None]
    assert still["average_precision"] is None
    alarm = _figures(~none, none)
    assert [alarm[key] for key in KEYS] == [0, None, 1, 0, 0, 0, 0]


def test_the_baselines() -> None:
    """"Everything moves" has the share of movers as IoU and precision; a value that says nothing, as AP."""
    scores = MotionScores()
    scores.add("a", *_random_image(4))
    scores.add("b", *_random_image(5))
    result = scores.result(resamples=10)
    assert [row.name for row in result.rows] == ["prediction", "nothing moves", "everything moves"]
    moving = np.concatenate([_random_image(seed)[1].ravel() for seed in (4, 5)])
    share = moving.mean()
    nothing, everything = (dict(row.values) for row in result.rows[1:])
    assert [nothing[key] for key in KEYS] == pytest.approx([0, 0, 0, None, 0, 1 - share, (1 - share) / 2])
    assert [everything[key] for key in KEYS] == pytest.approx(
        [share, 1, 1, share, 2 * share / (1 + share), 0, share / 2])
    assert nothing["average_precision"] == everything["average_precision"] == pytest.approx(share)
    assert result.extra["moving_share"] == pytest.approx(share)
    assert result.rows[0].values["average_precision"] > share


def test_average_precision_is_the_area_over_all_thresholds() -> None:
    probability, moving = _random_image(6)
    area, recall_before = 0.0, 0.0
    for level in range(255, -1, -1):
        said = np.rint(probability * 255) >= level
        if said.any():
            recall = (said & moving).sum() / moving.sum()
            area += (recall - recall_before) * (said & moving).sum() / said.sum()
            recall_before = recall
    assert _figures(probability, moving)["average_precision"] == pytest.approx(area, rel=1e-12)
    # Ranks 1 and 3 of 4 move: precision 1 at half of the recall, 2/3 at the rest.
    four = _figures(np.array([[0.9, 0.7, 0.6, 0.1]]), np.array([[True, False, True, False]]))
    assert four["average_precision"] == pytest.approx((1 + 2 / 3) / 2)


def test_average_precision_is_a_column_of_probabilities_alone() -> None:
    probability, moving = _random_image(6)
    for value, columns in ((probability, 8), (probability > 0.5, 7)):
        scores = MotionScores()
        scores.add("a", value, moving)
        assert len(scores.result(resamples=1).metrics) == columns


def test_invalid_pixels_may_hold_anything() -> None:
    probability, moving = _random_image(6)
    valid = np.random.default_rng(0).random(moving.shape) < 0.7
    clean = _figures(probability, moving, valid=valid)
    for rubbish in (np.nan, np.inf, -5.0):
        assert _figures(np.where(valid, probability, rubbish), moving, valid=valid) == clean
    assert clean == _figures(probability[valid][None], moving[valid][None])
    assert clean != _figures(probability, moving)


def test_any_split_and_order_of_the_images_gives_the_same_figures() -> None:
    images = [(f"{i:03d}", *_random_image(i)) for i in range(12)]
    whole, halves = MotionScores(), (MotionScores(), MotionScores())
    for image in images:
        whole.add(*image)
    for i in np.random.default_rng(0).permutation(12):
        halves[int(i % 5 == 0)].add(*images[i])
    halves[1].merge(halves[0])
    assert halves[1].result(resamples=50).json() == whole.result(resamples=50).json()
    # Figures are of all pixels together: of one image that holds them all.
    pixels = [np.concatenate([image[k].ravel() for image in images])[None] for k in (1, 2)]
    assert _figures(*pixels) == whole.result(resamples=1).rows[0].values


def test_images_without_movers_are_counted_and_named() -> None:
    scores = MotionScores()
    for i in range(7):
        scores.add(f"{i:03d}", np.zeros((2, 2)), np.full((2, 2), i == 3))
    result = scores.result(resamples=5)
    assert result.protocol["without movers"] == "6 of 7 images (000, 001, 002, …)"
    assert result.extra["without_movers"] == [f"{i:03d}" for i in (0, 1, 2, 4, 5, 6)]
    json.dumps(result.json(), allow_nan=False)
    assert result.json()["per_image"]["000"]["mover_recall"] is None


def test_intervals_hold_the_figures_and_shrink_to_equal_images() -> None:
    scores = MotionScores()
    for seed in range(3, 23):
        scores.add(str(seed), *_random_image(seed % 12 + 3))
    row = scores.result(resamples=200).rows[0]
    for key in (*KEYS, "average_precision"):
        low, high = row.intervals[key]
        assert low < row.values[key] < high
    same = MotionScores()
    for name in "abc":
        same.add(name, *_random_image(6))
    row = same.result(resamples=20).rows[0]
    assert all(row.intervals[key] == pytest.approx((row.values[key],) * 2) for key in KEYS)


def test_counts_may_have_any_leading_dimensions() -> None:
    counts = np.random.default_rng(0).integers(0, 9, (3, 4, 2, 256))
    found = mask_figures(counts, threshold=0.3)
    for i in range(3):
        for k in range(4):
            one = mask_figures(counts[i, k], threshold=0.3)
            assert all(found[key][i, k] == one[key] for key in one)
    assert average_precision(counts).shape == (3, 4)


def test_mistakes_are_told() -> None:
    for threshold in (0.0, -1.0, 1.01, math.nan):
        with pytest.raises(ConfigError, match="threshold"):
            MotionScores(threshold)
    scores, mask = MotionScores(), np.zeros((2, 3), bool)
    scores.add("a", mask, mask)
    with pytest.raises(DataError, match="a was scored twice"):
        scores.add("a", mask, mask)
    for value, message in ((np.full((2, 3), 1.1), "between 0 and 1"), (np.full((2, 3), np.nan), "between 0 and 1"),
                           (np.zeros((3, 2)), "of one size"), (np.zeros((1, 2, 3)), "of one size")):
        with pytest.raises(DataError, match=message):
            scores.add("b", value, mask)
    with pytest.raises(DataError, match="a was scored twice"):
        MotionScores(images=dict(scores.images)).merge(scores)
    with pytest.raises(ConfigError, match="different thresholds"):
        MotionScores(0.4).merge(scores)
    hidden = MotionScores()
    hidden.add("hidden", mask, mask, valid=mask)
    with pytest.raises(DataError, match="no pixel can be scored in 1 images"):
        hidden.result()
    with pytest.raises(DataError, match="no pixel can be scored in 0 images"):
        MotionScores().result()
