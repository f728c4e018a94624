"""Score scene flow: how far, and where to, each point moves by itself in space.

Convention (``geometry.flow.scene_flow``, the worlds' truth): on the pixel grid of frame a, in the axes of camera a, the
camera's motion removed. What stands still has 0, so the baseline "nothing moves" is the rigid scene under the true
camera motion. A figure is a (sum, count) of each pair until the table is made, as for flow.

Shares of the true length follow FlowNet3D (Liu 2019) and ZeroMSF (Liang 2025); of a point that stands still a share is
not defined, and its length in metres alone counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from egoflow.errors import ConfigError, DataError
from egoflow.evaluation.bootstrap import Interval, ratio_interval
from egoflow.evaluation.sums import Rows, Sums, means, merge_rows, ratio, sum_and_count
from egoflow.evaluation.table import Metric, Result, Row

Scaling = Literal["pair", "set", "none"]
UNKNOWN = 1e9
"""Scene flow that is not below this is unknown."""
STRICT, RELAXED, OUTLIER = (0.05, 0.05), (0.1, 0.1), (0.3, 0.1)
"""Lengths in metres, and shares of the true length."""
METRICS = (Metric(key="epe_m", label="EPE", unit="m", digits=4),
           Metric(key="strict_percent", label="strict", unit="%", digits=2),
           Metric(key="relaxed_percent", label="relaxed", unit="%", digits=2),
           Metric(key="outliers_percent", label="outliers", unit="%", digits=2),
           Metric(key="density_percent", label="density", unit="%", digits=1))
PREDICTION, NOTHING = "prediction", "nothing moves"


def scene_flow_sums(flow: np.ndarray, truth: np.ndarray) -> Sums:
    """Return every figure's sum and count over n points, of scene flow [3, n] against truth [3, n] in metres.

    ``strict`` and ``relaxed`` are the shares with an error below a length or below a share of the true length,
    ``outliers`` that above a length or above a share; all are strict inequalities.
    """
    flow, truth = flow.astype(np.float64), truth.astype(np.float64)
    error, length = np.linalg.norm(flow - truth, axis=0), np.linalg.norm(truth, axis=0)
    outlier = (error > OUTLIER[0]) | ((error > OUTLIER[1] * length) & (length > 0))
    return {"epe_m": sum_and_count(error), "outliers_percent": sum_and_count(100.0 * outlier),
            **{f"{name}_percent": sum_and_count(100.0 * ((error < metres) | (error < share * length)))
               for name, (metres, share) in (("strict", STRICT), ("relaxed", RELAXED))}}


@dataclass(slots=True)
class SceneFlowScores:
    """Figures of each pair, gathered in any order and any split; ``scale`` says what the factors were fitted to."""

    scale: Scaling = "pair"
    rows: Rows = field(default_factory=dict)
    factors: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.scale not in get_args(Scaling):
            raise ConfigError(f"unknown scaling '{self.scale}'; use one of {', '.join(get_args(Scaling))}")

    def add(self, name: str, flow: np.ndarray, truth: np.ndarray, *, factor: float = 1.0,
            valid: np.ndarray | None = None, valid_truth: np.ndarray | None = None,
            static: np.ndarray | None = None) -> None:
        """Score the pair ``name``: scene flow [3, H, W] times ``factor`` against ``truth`` [3, H, W] in metres.

        ``valid`` and ``valid_truth`` bool [H, W] exclude pixels, as do values that are not finite or not below 1e9;
        ``static`` bool [H, W] splits the figures by what moves. Raises DataError where shapes differ, the factor is not
        positive or the pair has been scored.
        """
        if name in self.factors:
            raise DataError(f"pair {name} was scored twice; names must differ")
        if truth.ndim != 3 or truth.shape[0] != 3 or flow.shape != truth.shape:
            raise DataError(f"{name}: scene flow and truth must be [3, H, W] of one size, got {flow.shape} and "
                            f"{truth.shape}")
        for key, value in {"valid": valid, "valid_truth": valid_truth, "static": static}.items():
            if value is not None and value.shape != truth.shape[1:]:
                raise DataError(f"{name}: {key} is {value.shape}, the scene flow {truth.shape[1:]}; they must agree")
        if not 0 < factor < float("inf"):
            raise DataError(f"{name}: the factor of the scale must be positive and finite, got {factor:g}")
        known, answered = _usable(truth, valid_truth), _usable(flow, valid)
        parts = {"": known} if static is None else {
            "": known, ", static": known & static, ", moving": known & ~static}
        for part, mask in parts.items():
            use = mask & answered
            self._keep(f"{PREDICTION}{part}", name, flow[:, use] * np.float64(factor), truth[:, use], mask)
            self._keep(f"{NOTHING}{part}", name, np.zeros((3, int(mask.sum()))), truth[:, mask], mask)
        self.factors[name] = float(factor)

    def _keep(self, row: str, name: str, flow: np.ndarray, truth: np.ndarray, known: np.ndarray) -> None:
        """Keep the figures of a row's points [3, n] out of all that are ``known``."""
        density = {"density_percent": (100.0 * flow.shape[1], int(known.sum()))}
        self.rows.setdefault(row, {})[name] = scene_flow_sums(flow, truth) | density

    def merge(self, other: "SceneFlowScores") -> None:
        """Take over the pairs of ``other``, which must be scaled alike and share no pair."""
        if other.scale != self.scale:
            raise ConfigError("scores of different scalings cannot be merged")
        merge_rows(self.rows, other.rows)
        self.factors |= other.factors

    def result(self, *, resamples: int = 1000, seed: int = 0) -> Result:
        """Return the table: prediction and "nothing moves", with their parts; the first row's intervals resample pairs.

        Raises DataError where no pixel was scored.
        """
        order, first = sorted(self.factors), self.rows.get(PREDICTION, {})
        if not any(sums["epe_m"][1] for sums in first.values()):
            raise DataError(f"no pixel can be scored in {len(order)} pairs: no true scene flow is known where the "
                            f"prediction answers")
        rows = []
        for name in sorted(self.rows, key=lambda row: row.startswith(NOTHING)):
            series = {m.key: _series(self.rows[name], m.key, order) for m in METRICS}
            rows.append(Row(name=name, values={key: ratio(*pairs) for key, pairs in series.items()},
                            intervals=_intervals(series, resamples=resamples, seed=seed) if name == PREDICTION else {}))
        factors = np.array([self.factors[name] for name in order])
        middle = float(np.median(factors))
        spread = float(np.std(factors / middle))
        words = {"scene flow": "own motion in the axes of camera a", "scale": _scale_words(self.scale, middle, spread),
                 "mean": "over the pixels of all pairs",
                 "strict": _limits(STRICT, "<"), "relaxed": _limits(RELAXED, "<"), "outliers": _limits(OUTLIER, ">"),
                 "scored": "known truth, where the row answers (density)",
                 "intervals": f"bootstrap over pairs, {resamples} resamples, seed {seed}"}
        return Result(protocol=words, metrics=METRICS, rows=tuple(rows), counts={"pairs": len(order)},
                      extra={"scale_factor_median": middle, "scale_factor_spread": spread,
                             "per_pair": {name: means(first[name]) for name in order}})


def _series(pairs: dict[str, Sums], key: str, order: Sequence[str]) -> tuple[list[float], list[int]]:
    """Return a figure's sums and counts by pair; a pair without this part counts nothing."""
    found = [pairs.get(name, {}).get(key, (0.0, 0)) for name in order]
    return [total for total, _ in found], [count for _, count in found]


def _intervals(series: dict[str, tuple[list[float], list[int]]], *, resamples: int, seed: int) -> dict[str, Interval]:
    """Return the intervals of a row's figures, where there are at least two pairs."""
    found = {key: ratio_interval(*pairs, resamples=resamples, seed=seed) for key, pairs in series.items()
             if key != "density_percent"}
    return {key: interval for key, interval in found.items() if interval is not None}


def _scale_words(scale: Scaling, middle: float, spread: float) -> str:
    """Return what the prediction was multiplied by."""
    if scale == "none":
        return "none"
    what = "median true / median predicted depth"
    return (f"one factor a pair ({what}), median {middle:.4g}, spread {spread:.1%}" if scale == "pair" else
            f"one factor for the set, {middle:.4g} (median over pairs of {what})")


def _limits(limits: tuple[float, float], sign: str) -> str:
    """Return a pair of limits in words."""
    return f"{sign} {limits[0]:g} m or {sign} {limits[1]:.0%} of the true length"


def _usable(flow: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """Return the pixels [H, W] of scene flow [3, H, W] that are known."""
    # NaN compares as unknown too.
    known = np.asarray((np.abs(flow) < UNKNOWN).all(axis=0))
    return known if valid is None else known & valid
