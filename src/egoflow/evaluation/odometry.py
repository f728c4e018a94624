"""Score a trajectory against the truth: whole path first, then KITTI's segments, steps and snippets, with baselines."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from egoflow.errors import DataError
from egoflow.evaluation.alignment import Alignment, fit, from_first
from egoflow.evaluation.association import TOLERANCE_S, Association, Matching, associate
from egoflow.evaluation.baselines import baselines
from egoflow.evaluation.bootstrap import Interval, block_length, mean_interval
from egoflow.evaluation.path_errors import (
    SEGMENT_LENGTHS_M,
    SegmentErrors,
    path_length,
    position_errors,
    segment_errors,
    step_errors,
)
from egoflow.evaluation.snippets import SNIPPET_FRAMES, SnippetErrors, scale_spread, snippet_errors, turning_curve
from egoflow.evaluation.table import Metric, Result, Row
from egoflow.types import Trajectory

METRICS = (
    Metric(key="t_rel_percent", label="t_rel", unit="%"),
    Metric(key="r_rel_deg_per_100m", label="r_rel", unit="deg/100 m"),
    Metric(key="ate_rmse_m", label="ATE", unit="m"),
    Metric(key="rpe_m", label="RPE", unit="m", digits=4),
    Metric(key="rpe_deg", label="RPE rot", unit="deg", digits=4),
    Metric(key="direction_deg", label="direction", unit="deg"),
    Metric(key="backward_steps", label="backwards", unit="steps", digits=0),
    Metric(key="scale_spread", label="scale spread"),
    Metric(key="snippet_ate_mean_m", label="ATE-5 mean", unit="m", digits=4),
    Metric(key="snippet_ate_std_m", label="ATE-5 std", unit="m", digits=4),
    Metric(key="snippet_rotation_deg", label="rot-5", unit="deg", digits=4),
)


def evaluate_odometry(prediction: Trajectory, truth: Trajectory, *, align: Alignment = "sim3", by: Matching = "row",
                      tolerance_s: float = TOLERANCE_S, others: Mapping[str, Trajectory] | None = None,
                      resamples: int = 1000, seed: int = 0) -> Result:
    """Return the errors of ``prediction``, of the baselines and of ``others`` by one protocol.

    Lengths are in the unit of the truth, metres for the names to hold; what is not defined (segments of a path under
    100 m, snippets of fewer than 5 frames) is None. Raises DataError for paths that do not match or cannot be aligned.
    """
    _check(prediction, "prediction")
    _check(truth, "truth")
    match = associate(prediction, truth, by=by, tolerance_s=tolerance_s)
    matched = _rows(truth, match.truth_rows)
    first = _Scores(prediction, truth, match, align=align)
    rows = [Row(name="prediction", values=first.values(), intervals=first.intervals(resamples=resamples, seed=seed))]
    for name, other in (others or {}).items():
        _check(other, name)
        found = associate(other, truth, by=by, tolerance_s=tolerance_s)
        rows.append(_baseline_row(name, other, truth, found, align))
    ways = {} if _stands_still(matched) else baselines(matched)
    identity = Association(prediction_rows=torch.arange(len(match.truth_rows)), truth_rows=match.truth_rows, rule="")
    rows += [_baseline_row(name, way, truth, identity, align) for name, way in ways.items()]
    protocol = {"align": align, "association": match.rule, "origin": "first matched frame",
                "segments": "100-800 m, every 10th frame", "snippets": f"{SNIPPET_FRAMES} frames, sqrt / N",
                "intervals": f"block bootstrap, {resamples} resamples, seed {seed}"}
    return Result(protocol=protocol, metrics=METRICS, rows=tuple(rows), counts={"frames": len(match.truth_rows)},
                  extra=first.details())


class _Scores:
    """All errors of one trajectory, aligned once."""

    def __init__(self, prediction: Trajectory, truth: Trajectory, match: Association, *, align: Alignment) -> None:
        matched_truth = from_first(truth.world_from_cam[match.truth_rows])
        matched = from_first(prediction.world_from_cam[match.prediction_rows])
        self.similarity = fit(matched, matched_truth, align=align)
        aligned = self.similarity.apply(matched)
        self.position = position_errors(aligned, matched_truth)
        self.steps = step_errors(aligned, matched_truth)
        self.segments: SegmentErrors = segment_errors(aligned, truth.world_from_cam, truth_rows=match.truth_rows)
        self.snippets: SnippetErrors | None = snippet_errors(matched, matched_truth)
        self.length = float(path_length(matched_truth)[-1])

    def values(self) -> dict[str, float | None]:
        """Return the figures by key; None where not defined."""
        snippets, position = self.snippets, self.position
        return {
            "t_rel_percent": _mean(self.segments.translation, 100),
            "r_rel_deg_per_100m": _mean(self.segments.rotation_rad, math.degrees(100)),
            "ate_rmse_m": float(position.square().mean().sqrt()),
            "ate_mean_m": float(position.mean()),
            "ate_median_m": float(position.quantile(0.5)),
            "ate_min_m": float(position.min()),
            "ate_max_m": float(position.max()),
            "rpe_m": float(self.steps.translation.mean()),
            "rpe_deg": _mean(self.steps.rotation_rad, math.degrees(1)),
            "rpe_exact_deg": _mean(self.steps.rotation_exact_rad, math.degrees(1)),
            "direction_deg": math.degrees(float(self.steps.direction_rad.median()))
            if len(self.steps.direction_rad)
            else None,
            "backward_steps": float((self.steps.direction_rad > math.pi / 2).sum()),
            "scale_spread": None if snippets is None else scale_spread(snippets),
            "snippet_ate_mean_m": None if snippets is None else float(snippets.ate.mean()),
            "snippet_ate_std_m": None if snippets is None else float(snippets.ate.std(correction=0)),
            "snippet_rotation_deg": None if snippets is None else _mean(snippets.rotation_rad, math.degrees(1)),
            "snippet_backwards_share": None if snippets is None else float(snippets.backwards.double().mean()),
        }

    def intervals(self, *, resamples: int, seed: int) -> dict[str, Interval]:
        """Return 95 % intervals of the means by key, the alignment held fixed."""
        series: dict[str, Tensor] = {
            "t_rel_percent": self.segments.translation * 100,
            "r_rel_deg_per_100m": torch.rad2deg(self.segments.rotation_rad) * 100,
            "rpe_m": self.steps.translation,
            "rpe_deg": torch.rad2deg(self.steps.rotation_rad),
        }
        if self.snippets is not None:
            series |= {"snippet_ate_mean_m": self.snippets.ate,
                       "snippet_rotation_deg": torch.rad2deg(self.snippets.rotation_rad)}
        found = {key: mean_interval(value.numpy(), block=block_length(len(value)), resamples=resamples, seed=seed)
                 for key, value in series.items()}
        found["ate_rmse_m"] = mean_interval(self.position.square().numpy(), block=block_length(len(self.position)),
                                            resamples=resamples, seed=seed, transform=math.sqrt)
        return {key: interval for key, interval in found.items() if interval is not None}

    def details(self) -> dict[str, object]:
        """Return what the table has no room for: the scale, segments by length, and the turning curve."""
        by_length = {}
        for length_m in SEGMENT_LENGTHS_M:
            chosen = self.segments.length_m == length_m
            by_length[f"{length_m:.0f}"] = {"segments": int(chosen.sum()),
                                            "t_rel_percent": _mean(self.segments.translation[chosen], 100),
                                            "r_rel_deg_per_100m": _mean(self.segments.rotation_rad[chosen],
                                                                        math.degrees(100))}
        return {"alignment_scale": self.similarity.scale, "path_length_m": self.length,
                "segments_by_length_m": by_length,
                "turning": [] if self.snippets is None else turning_curve(self.snippets)}


def _baseline_row(name: str, way: Trajectory, truth: Trajectory, match: Association, align: Alignment) -> Row:
    """Return a baseline's figures; none where it does not move and cannot be aligned.

    A mean motion there and back does not, nor a two-view chain of pairs without parallax.
    """
    if align != "none" and _stands_still(way):
        return Row(name=name, values={})
    return Row(name=name, values=_Scores(way, truth, match, align=align).values())


def _mean(value: Tensor, factor: float) -> float | None:
    """Return the mean times ``factor``, or None of nothing."""
    return float(value.mean()) * factor if len(value) else None


def _rows(trajectory: Trajectory, rows: Tensor) -> Trajectory:
    """Return some frames of a trajectory."""
    return Trajectory(world_from_cam=trajectory.world_from_cam[rows], time_s=trajectory.time_s[rows],
                      scale=trajectory.scale)


def _stands_still(trajectory: Trajectory) -> bool:
    """Say whether a camera never moves, so that nothing can be aligned with it."""
    return float(path_length(trajectory.world_from_cam)[-1]) == 0


def _check(trajectory: Trajectory, name: str) -> None:
    """Raise DataError unless every number is finite and in float64."""
    path = trajectory.world_from_cam
    if path.t.dtype != torch.float64 or path.R.dtype != torch.float64:
        raise DataError(f"the {name} is in {path.t.dtype}; metrics need float64: use world_from_cam.to(torch.float64)")
    if path.t.dim() != 2 or len(path.t) != len(trajectory.time_s):
        raise DataError(f"the {name} must be one path [N] with N stamps, got {' x '.join(map(str, path.t.shape[:-1]))} "
                        f"frames and {len(trajectory.time_s)} stamps")
    bad = ~(torch.isfinite(path.t).all(-1) & torch.isfinite(path.R).all(-1).all(-1))
    if bool(bad.any()):
        raise DataError(f"the {name} holds NaN or infinity at frame {int(bad.nonzero()[0])}; every position must be "
                        f"finite")


