"""Which frame of a prediction belongs to which frame of the truth."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from egoflow.errors import ConfigError, DataError
from egoflow.types import Trajectory

Matching = Literal["row", "frame", "time"]
TOLERANCE_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Association:
    """Matched rows: ``prediction_rows[i]`` belongs to ``truth_rows[i]`` (both [M] long); ``rule`` says it in words."""

    prediction_rows: Tensor
    truth_rows: Tensor
    rule: str


def associate(prediction: Trajectory, truth: Trajectory, *, by: Matching = "row",
              tolerance_s: float = TOLERANCE_S) -> Association:
    """Match the frames of two trajectories.

    ``row`` pairs the i-th with the i-th and drops what the longer one has at its end. ``frame`` pairs equal frame
    numbers, which ``time_s`` holds for KITTI files. ``time`` pairs mutually nearest stamps at most ``tolerance_s``
    apart. Raises DataError when fewer than two frames match.
    """
    if by not in get_args(Matching):
        raise ConfigError(f"unknown association '{by}'; use one of {', '.join(get_args(Matching))}")
    count, total = len(prediction.time_s), len(truth.time_s)
    if by == "row":
        rows = torch.arange(min(count, total))
        found = Association(prediction_rows=rows, truth_rows=rows, rule=_prefix_rule(count, total))
    else:
        # Frame numbers are whole: half a microsecond allows for nothing but rounding.
        limit = tolerance_s if by == "time" else 5e-7
        rows, partners = _mutually_nearest(prediction.time_s, truth.time_s, limit)
        name = f"nearest time within {tolerance_s:g} s" if by == "time" else "frame number"
        found = Association(prediction_rows=rows, truth_rows=partners,
                            rule=f"{name}, {len(rows)} of {count} predicted and of {total} true frames")
    if len(found.truth_rows) < 2:
        raise DataError(_too_few(prediction, truth, len(found.truth_rows), by, tolerance_s))
    return found


def _prefix_rule(count: int, total: int) -> str:
    """Say how rows were paired, and what of the longer trajectory was left out."""
    if count == total:
        return "row"
    longer, shorter = ("truth", "prediction") if total > count else ("prediction", "truth")
    return f"row, the first {min(count, total)} (the {longer} has {abs(total - count)} rows more than the {shorter})"


def _mutually_nearest(a: Tensor, b: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """Return the rows of ``a`` and of ``b`` whose stamps are each other's nearest, at most ``limit`` apart."""
    if len(a) == 0 or len(b) == 0:
        return torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long)
    b_of_a, a_of_b = _nearest(a, b), _nearest(b, a)
    rows = torch.arange(len(a))
    # A margin of a few rounding units keeps stamps that are exactly ``limit`` apart.
    close = (a - b[b_of_a]).abs() <= limit + 1e-15 * b.abs().max()
    rows = rows[close & (a_of_b[b_of_a] == rows)]
    return rows, b_of_a[rows]


def _nearest(a: Tensor, b: Tensor) -> Tensor:
    """Return for each stamp of ``a`` the row of the nearest in ``b`` (in any order); ties take the earlier."""
    ordered, order = torch.sort(b, stable=True)
    right = torch.searchsorted(ordered, a.contiguous()).clamp(max=len(b) - 1)
    left = (right - 1).clamp(min=0)
    return order[torch.where((a - ordered[left]).abs() <= (ordered[right] - a).abs(), left, right)]


def _too_few(prediction: Trajectory, truth: Trajectory, found: int, by: Matching, tolerance_s: float) -> str:
    """Say that at least two frames must match, and what both sides hold."""
    if min(len(prediction.time_s), len(truth.time_s)) < 2:
        return (f"an odometry evaluation needs at least 2 frames, the prediction has {len(prediction.time_s)} and the "
                f"truth {len(truth.time_s)}")
    # Paths of two rows each always match by row.
    spans = [f"{float(t.time_s.min()):.6f}..{float(t.time_s.max()):.6f}" for t in (prediction, truth)]
    what = f"stamps within {tolerance_s:g} s of each other" if by == "time" else "equal frame numbers"
    return (f"only {found} frames of prediction and truth have {what}, at least 2 are needed: the prediction covers "
            f"{spans[0]}, the truth {spans[1]}; are the files of the same sequence and the stamps in seconds?")
