"""Score optical flow: end-point and angular errors, outliers, visible and occluded parts, speeds, confidence.

A figure is a (sum, count) of each pair until the table is made, so any order and any split of the pairs gives the same.
The protocols differ in which figures stand in the table and in what is averaged first; see ``describe_protocol``.
"""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from egoflow.errors import ConfigError, DataError
from egoflow.evaluation.bootstrap import Interval, ratio_interval
from egoflow.evaluation.sums import Rows, Sums, means, merge_rows, ratio, sum_and_count
from egoflow.evaluation.table import Metric, Result, Row

ProtocolName = Literal["plain", "kitti2012", "kitti2015", "sintel", "middlebury"]
UNKNOWN = 1e9
"""Flow that is not below this is unknown (Middlebury)."""
FL_PX, FL_SHARE = 3.0, 0.05
THRESHOLDS_PX = (0.5, 1, 2, 3, 5)
SPEEDS_PX = {"s0_10": (0, 10), "s10_40": (10, 40), "s40": (40, math.inf)}
"""Lengths of the true flow, the lower end included. (Butler 2012)"""

_METRICS = {metric.key: metric for metric in (
    Metric(key="epe_px", label="EPE", unit="px"), Metric(key="epe_noc_px", label="EPE noc", unit="px"),
    Metric(key="epe_occ_px", label="EPE occ", unit="px"), Metric(key="angular_deg", label="AE", unit="deg", digits=2),
    Metric(key="fl_all_percent", label="Fl-all", unit="%", digits=2),
    Metric(key="fl_noc_percent", label="Fl-noc", unit="%", digits=2),
    *(Metric(key=f"over_{px:g}px_percent".replace(".", "_"), label=f">{px:g} px", unit="%", digits=2)
      for px in THRESHOLDS_PX),
    Metric(key="over_3px_noc_percent", label=">3 px noc", unit="%", digits=2),
    Metric(key="epe_s0_10_px", label="s0-10", unit="px"), Metric(key="epe_s10_40_px", label="s10-40", unit="px"),
    Metric(key="epe_s40_px", label="s40+", unit="px"),
    Metric(key="density_percent", label="density", unit="%", digits=1),
    Metric(key="sparsification_px", label="AUC", unit="px"),
    Metric(key="sparsification_oracle_px", label="oracle", unit="px"),
    Metric(key="sparsification_random_px", label="random", unit="px"))}
_VISIBILITY = ("epe_noc_px", "epe_occ_px")
_CONFIDENCE = ("sparsification_px", "sparsification_oracle_px", "sparsification_random_px")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """What a protocol shows, which figures weigh every pair the same, and how that is said."""

    columns: tuple[str, ...]
    per_pair: frozenset[str]
    mean: str


_ALL = frozenset(_METRICS)
_RULES: dict[str, _Rule] = {
    "plain": _Rule(columns=("epe_px", "fl_all_percent", "over_1px_percent", "over_3px_percent", "over_5px_percent",
                            "angular_deg"), per_pair=frozenset(), mean="over the pixels of all pairs"),
    "kitti2012": _Rule(columns=("over_3px_noc_percent", "over_3px_percent", "epe_noc_px", "epe_px"), per_pair=_ALL,
                       mean="per pair, then over pairs"),
    "kitti2015": _Rule(columns=("fl_noc_percent", "fl_all_percent", "epe_noc_px", "epe_px"),
                       per_pair=frozenset(key for key in _ALL if key.endswith("_px")),
                       mean="shares over the pixels of all pairs; EPE per pair, then over pairs"),
    "sintel": _Rule(columns=("epe_px", "epe_noc_px", "epe_occ_px", "epe_s0_10_px", "epe_s10_40_px", "epe_s40_px"),
                    per_pair=frozenset(), mean="over the pixels of all pairs"),
    "middlebury": _Rule(columns=("angular_deg", "epe_px", "over_0_5px_percent", "over_1px_percent",
                                 "over_2px_percent"), per_pair=_ALL, mean="per pair, then over pairs"),
}


def describe_protocol(name: str) -> dict[str, str]:
    """Return a protocol's choices in words, for the table; raises ConfigError for an unknown name."""
    if name not in _RULES:
        raise ConfigError(f"unknown protocol '{name}'; use one of {', '.join(get_args(ProtocolName))}")
    words = {"protocol": name, "mean": _RULES[name].mean, "scored": "known true flow, where the row answers (density)"}
    outlier = {"Fl": f"error > {FL_PX:g} px and > {FL_SHARE:.0%} of the true length"}
    return words | (outlier if "fl_all_percent" in _RULES[name].columns else {})


def angular_error(flow: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the angles [n] in degrees between (u, v, 1) of two flows [2, n]. (Barron 1994, section 4.2)"""
    (u, v), (p, q) = flow, truth
    # The sine and the cosine together: arccos alone loses half the digits of a small angle.
    cross = np.sqrt((v - q) ** 2 + (p - u) ** 2 + (u * q - v * p) ** 2)
    return np.degrees(np.arctan2(cross, u * p + v * q + 1))


def sparsification(error: np.ndarray, confidence: np.ndarray) -> tuple[float, float, float]:
    """Return the areas under the sparsification curves of errors [n]: by ``confidence`` [n], by the oracle, at random.

    The curve is the mean error of the most confident share of the pixels against that share, from 0 to 1: the area is
    in the unit of the error, less is better. Equal confidences share their errors, so a constant one is as good as
    chance. The oracle knows the error itself. Confidence that is NaN counts as the least.
    """
    doubt = -np.nan_to_num(confidence.astype(np.float64), nan=-np.inf)
    _, group, size = np.unique(doubt, return_inverse=True, return_counts=True)
    shared = (np.bincount(group, weights=error) / size)[group]
    count = np.arange(1, len(error) + 1)
    by_confidence, by_error = (np.cumsum(ranked) / count for ranked in (
        shared[np.argsort(group, kind="stable")], np.sort(error)))
    return float(by_confidence.mean()), float(by_error.mean()), float(error.mean())


def flow_sums(flow: np.ndarray, truth: np.ndarray, *, visible: np.ndarray | None = None,
              confidence: np.ndarray | None = None) -> Sums:
    """Return every figure's sum and count over n pixels, of flow [2, n] against truth [2, n] in pixels.

    ``visible`` bool [n] splits into visible (noc) and occluded (occ) pixels; ``confidence`` [n] adds the areas of
    ``sparsification``, which count once.
    """
    flow, truth = flow.astype(np.float64), truth.astype(np.float64)
    error, length = np.hypot(*(flow - truth)), np.hypot(*truth)
    outlier = (error > FL_PX) & (error > FL_SHARE * length)
    sums = {"epe_px": sum_and_count(error), "fl_all_percent": sum_and_count(100.0 * outlier),
            "angular_deg": sum_and_count(angular_error(flow, truth))}
    for px in THRESHOLDS_PX:
        sums[f"over_{px:g}px_percent".replace(".", "_")] = sum_and_count(100.0 * (error > px))
    for name, (low, high) in SPEEDS_PX.items():
        sums[f"epe_{name}_px"] = sum_and_count(error[(length >= low) & (length < high)])
    if visible is not None:
        sums |= {"epe_noc_px": sum_and_count(error[visible]), "epe_occ_px": sum_and_count(error[~visible]),
                 "fl_noc_percent": sum_and_count(100.0 * outlier[visible]),
                 "over_3px_noc_percent": sum_and_count(100.0 * (error > 3)[visible])}
    if confidence is not None and len(error):
        sums |= {key: (area, 1) for key, area in zip(_CONFIDENCE, sparsification(error, confidence), strict=True)}
    return sums


@dataclass(slots=True)
class FlowScores:
    """Figures of each pair, gathered in any order and any split, for one or several predictors (rows)."""

    protocol: ProtocolName = "plain"
    rows: Rows = field(default_factory=dict)

    def __post_init__(self) -> None:
        describe_protocol(self.protocol)

    def add(self, name: str, flow: np.ndarray, truth: np.ndarray, *, row: str = "prediction",
            valid: np.ndarray | None = None, valid_truth: np.ndarray | None = None, visible: np.ndarray | None = None,
            confidence: np.ndarray | None = None) -> None:
        """Score the pair ``name``: flow [2, H, W] against ``truth`` [2, H, W], in pixels.

        ``valid`` and ``valid_truth`` bool [H, W] exclude pixels, as do flows that are not finite or not below 1e9;
        ``visible`` bool [H, W] and ``confidence`` [H, W] (more is surer) as in ``flow_sums``. Raises DataError where
        shapes differ or the pair has been scored.
        """
        if name in self.rows.get(row, {}):
            raise DataError(f"pair {name} was scored twice; names must differ")
        if truth.ndim != 3 or truth.shape[0] != 2 or flow.shape != truth.shape:
            raise DataError(f"{name}: flow and truth must be [2, H, W] of one size, got {flow.shape} and {truth.shape}")
        maps = {"valid": valid, "valid_truth": valid_truth, "visible": visible, "confidence": confidence}
        for key, value in maps.items():
            if value is not None and value.shape != truth.shape[1:]:
                raise DataError(f"{name}: {key} is {value.shape}, the flow {truth.shape[1:]}; they must agree")
        known = _usable(truth, valid_truth)
        use = known & _usable(flow, valid)
        sums = flow_sums(flow[:, use], truth[:, use], visible=None if visible is None else visible[use],
                         confidence=None if confidence is None else confidence[use])
        self.rows.setdefault(row, {})[name] = sums | {"density_percent": (100.0 * int(use.sum()), int(known.sum()))}

    def merge(self, other: "FlowScores") -> None:
        """Take over the pairs of ``other``, which must follow the same protocol and share no pair of a row."""
        if other.protocol != self.protocol:
            raise ConfigError("scores of different protocols cannot be merged")
        merge_rows(self.rows, other.rows)

    def result(self, *, resamples: int = 1000, seed: int = 0) -> Result:
        """Return the table, a row for each predictor; the intervals of the first resample pairs.

        Raises DataError where no pixel was scored or rows have different pairs.
        """
        first = next(iter(self.rows.values()), {})
        if not any(sums["epe_px"][1] for sums in first.values()):
            raise DataError(f"no pixel can be scored in {len(first)} pairs: no true flow is known where the prediction "
                            f"answers")
        if uneven := [row for row, pairs in self.rows.items() if pairs.keys() != first.keys()]:
            raise DataError(f"'{uneven[0]}' was not scored on the same pairs as the first row")
        order = sorted(first)
        rows = [Row(name=row, values={key: self._value(row, key, order) for key in _METRICS},
                    intervals=self._intervals(row, order, resamples=resamples, seed=seed) if pairs is first else {})
                for row, pairs in self.rows.items()]
        words = {**describe_protocol(self.protocol),
                 "intervals": f"bootstrap over pairs, {resamples} resamples, seed {seed}"}
        return Result(protocol=words, metrics=self._columns(rows), rows=tuple(rows), counts={"pairs": len(order)},
                      extra={"per_pair": {name: means(first[name]) for name in order}})

    def _series(self, row: str, key: str, order: list[str]) -> tuple[list[float], list[int]]:
        """Return a figure's sums and counts by pair, as the protocol weighs them."""
        found = [self.rows[row][name].get(key, (0.0, 0)) for name in order]
        if key in _RULES[self.protocol].per_pair:
            found = [(total / count, 1) if count else (0.0, 0) for total, count in found]
        return [total for total, _ in found], [count for _, count in found]

    def _value(self, row: str, key: str, order: list[str]) -> float | None:
        """Return a figure over all pairs, None where nothing was counted."""
        return ratio(*self._series(row, key, order))

    def _intervals(self, row: str, order: list[str], *, resamples: int, seed: int) -> dict[str, Interval]:
        """Return the intervals of a row's figures, where there are at least two pairs."""
        found = {key: ratio_interval(*self._series(row, key, order), resamples=resamples, seed=seed)
                 for key in _METRICS if key != "density_percent"}
        return {key: interval for key, interval in found.items() if interval is not None}

    def _columns(self, rows: list[Row]) -> tuple[Metric, ...]:
        """Return the protocol's columns, with what is known beyond them: occlusion, holes, confidence."""
        keys = list(_RULES[self.protocol].columns)
        more = (*_VISIBILITY, *_CONFIDENCE) if self.protocol == "plain" else _CONFIDENCE
        keys += [key for key in more if any(row.values[key] is not None for row in rows)]
        if any((row.values["density_percent"] or 0.0) < 100 for row in rows):
            keys.append("density_percent")
        return tuple(_METRICS[key] for key in keys)


def _usable(flow: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """Return the pixels [H, W] of flow [2, H, W] that are known."""
    # NaN compares as unknown too.
    known = np.asarray((np.abs(flow) < UNKNOWN).all(axis=0))
    return known if valid is None else known & valid
