"""Bootstrap intervals against theory, and the table in its three forms."""

import json
import math

import numpy as np
import pytest

from egoflow.errors import ConfigError
from egoflow.evaluation.bootstrap import block_length, mean_interval, percentiles, resampled_totals
from egoflow.evaluation.table import Metric, Result, Row


def test_the_interval_of_a_mean_is_about_two_standard_errors() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    low, high = mean_interval(values, resamples=4000)
    error = values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.15 * error)


def test_it_covers_the_truth_about_as_often_as_it_says() -> None:
    draws = np.random.default_rng(1).exponential(1, (200, 60))
    inside = [low <= 1 <= high for low, high in (mean_interval(d, resamples=200, seed=i) for i, d in enumerate(draws))]
    assert 0.86 <= np.mean(inside) <= 0.99


def test_blocks_widen_the_interval_of_a_sluggish_series() -> None:
    noise = np.random.default_rng(2).normal(size=900)
    series = np.zeros(900)
    for i in range(1, 900):
        series[i] = 0.9 * series[i - 1] + noise[i]
    (a, b), (c, d) = (mean_interval(series, block=block) for block in (1, 30))
    # The standard error of an AR(1) mean is sqrt((1 + 0.9) / (1 - 0.9)) = 4.4 times that of independent values.
    assert 2.5 < (d - c) / (b - a) < 5.5


def test_intervals_are_seeded_and_degenerate_input_is_told() -> None:
    values = [1.0, 2.0, 4.0]
    assert mean_interval(values, seed=3) == mean_interval(values, seed=3)
    assert mean_interval(values, seed=3, resamples=20) != mean_interval(values, seed=4, resamples=20)
    assert mean_interval([5.0] * 10, block=3) == (5.0, 5.0)
    assert mean_interval(values, block=99) == pytest.approx((7 / 3, 7 / 3))
    assert mean_interval([1.0]) is None
    assert mean_interval([]) is None
    assert mean_interval([4.0, 4.0], transform=math.sqrt) == (2.0, 2.0)
    assert block_length(400) == 20
    assert block_length(0) == 1
    for options in ({"block": 0}, {"resamples": 0}, {"level": 1.0}):
        with pytest.raises(ConfigError):
            mean_interval(values, **options)


def test_resampled_totals_are_sums_of_drawn_rows() -> None:
    table = np.array([[1, 0, 0], [0, 10, 0], [0, 0, 100]])
    drawn = resampled_totals(table, resamples=300, seed=1)
    often = drawn / (1, 10, 100)
    assert np.array_equal(often, np.rint(often))
    assert (often.sum(1) == 3).all()
    assert often.mean(0) == pytest.approx([1, 1, 1], abs=0.2)
    assert np.array_equal(drawn, resampled_totals(table, resamples=300, seed=1))


def test_percentiles_leave_out_what_is_not_defined() -> None:
    assert percentiles(np.array([np.nan, 0.0, 1.0, np.nan]), level=0.5) == pytest.approx((0.25, 0.75))
    assert percentiles(np.full(3, np.nan)) is None


RESULT = Result(
    protocol={"align": "sim3", "crop": "garg"}, counts={"frames": 7}, extra={"more": [1.0, math.nan]},
    metrics=(Metric(key="ate", label="ATE", unit="m"), Metric(key="a1", label="a1", digits=2)),
    rows=(Row(name="prediction", values={"ate": 1.23456, "a1": None}, intervals={"ate": (1.0, 1.5)}),
          Row(name="straight line", values={"ate": math.inf, "a1": 0.5})))


def test_text_is_aligned_and_starts_with_the_protocol() -> None:
    assert RESULT.text() == (
        "align: sim3 | crop: garg | frames: 7\n\n"
        "                          ATE    a1\n"
        "                            m\n"
        "prediction              1.235     -\n"
        "  95 % interval  1.000..1.500\n"
        "straight line               -  0.50\n")


def test_markdown_has_units_in_its_heads() -> None:
    assert RESULT.markdown().splitlines()[2:5] == ["|  | ATE (m) | a1 |", "| --- | ---: | ---: |",
                                                   "| prediction | 1.235 | - |"]
    assert RESULT.markdown().startswith("align: sim3 | crop: garg | frames: 7\n")


def test_json_is_strict_and_flat_for_the_prediction() -> None:
    found = json.loads(json.dumps(RESULT.json(), allow_nan=False))
    assert found == {"ate": 1.23456, "a1": None, "frames": 7, "intervals": {"ate": [1.0, 1.5]},
                     "baselines": {"straight line": {"ate": None, "a1": 0.5}}, "units": {"ate": "m", "a1": ""},
                     "protocol": {"align": "sim3", "crop": "garg"}, "more": [1.0, None]}


def test_a_long_protocol_is_wrapped_between_words() -> None:
    long = Result(protocol={f"choice {i}": "x" * 20 for i in range(12)}, metrics=RESULT.metrics, rows=RESULT.rows)
    head = long.text().split("\n\n")[0].splitlines()
    assert len(head) > 1
    assert max(map(len, head)) <= 120
