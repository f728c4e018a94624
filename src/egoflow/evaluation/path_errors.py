"""Errors of a predicted path against the true one: positions, steps, and KITTI's segments of 100 to 800 m.

Paths are ``world_from_cam`` [N] in float64, matched row by row and, where wanted, aligned. Rotations may carry the
rounding of text files: relative motions are taken with the matrix inverse, as the published tools do, because with the
transpose their noise of 1e-7 changes a mean step rotation of 0.06 degrees by a hundredth.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from egoflow.geometry.se3 import SE3, rotation_angle

SEGMENT_LENGTHS_M = (100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 700.0, 800.0)
SEGMENT_STEP = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class StepErrors:
    """Errors of consecutive steps [N - 1]: ``translation`` in the unit of the truth, rotation angles in radians.

    ``rotation_rad`` is the published rule, arccos of the trace; ``rotation_exact_rad`` does not mind rounding.
    ``direction_rad`` [K] is the angle between the predicted and the true translation of the steps that truly move.
    """

    translation: Tensor
    rotation_rad: Tensor
    rotation_exact_rad: Tensor
    direction_rad: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentErrors:
    """Errors of K segments: ``first`` true row, ``length_m``, ``translation`` per metre, ``rotation_rad`` per metre."""

    first: Tensor
    length_m: Tensor
    translation: Tensor
    rotation_rad: Tensor


def relative(path: SE3, a: Tensor, b: Tensor) -> SE3:
    """Return cam_a_from_cam_b [K] of a path for rows ``a`` and ``b`` [K]."""
    return _solve(path[a], path[b])


def _solve(world_from_a: SE3, world_from_b: SE3) -> SE3:
    """Return ``world_from_a^-1 @ world_from_b`` by the true inverse of a matrix that is nearly a rotation."""
    rotation = torch.linalg.solve(world_from_a.R, world_from_b.R)
    translation = torch.linalg.solve(world_from_a.R, (world_from_b.t - world_from_a.t).unsqueeze(-1)).squeeze(-1)
    return SE3(rotation, translation)


def trace_angle(rotation: Tensor) -> Tensor:
    """Return angles [...] in radians by arccos of the trace, clipped: the rule of the KITTI development kit."""
    trace = rotation.diagonal(dim1=-2, dim2=-1).sum(-1)
    return ((trace - 1) / 2).clamp(-1, 1).acos()


def position_errors(prediction: SE3, truth: SE3) -> Tensor:
    """Return the distances [N] between matched positions."""
    return (prediction.t - truth.t).norm(dim=-1)


def step_errors(prediction: SE3, truth: SE3) -> StepErrors:
    """Return the errors of the motion between consecutive matched frames. (kitti-odom-eval's RPE)"""
    rows = torch.arange(len(truth.t) - 1)
    true_step, step = relative(truth, rows, rows + 1), relative(prediction, rows, rows + 1)
    error = _solve(true_step, step)
    return StepErrors(translation=error.t.norm(dim=-1), rotation_rad=trace_angle(error.R),
                      rotation_exact_rad=rotation_angle(error.R), direction_rad=_direction_errors(step.t, true_step.t))


def _direction_errors(step: Tensor, true_step: Tensor) -> Tensor:
    """Return the angles [K] between translations [N, 3] where the true one is no mere jitter.

    A still camera has no direction: steps under a tenth of the median true step do not count. A predicted step of no
    length is as wrong as a right angle.
    """
    length = true_step.norm(dim=-1)
    moving = (length > 0) & (length >= 0.1 * length.median()) if len(length) else length > 0
    step, true_step = step[moving], true_step[moving]
    # atan2 is exact near 0 and pi, where arccos is not.
    return torch.atan2(torch.linalg.cross(step, true_step).norm(dim=-1), (step * true_step).sum(-1)).where(
        step.norm(dim=-1) > 0, torch.full_like(step[:, 0], torch.pi / 2))


def path_length(path: SE3) -> Tensor:
    """Return the distance travelled [N] up to each frame."""
    steps = (path.t[1:] - path.t[:-1]).norm(dim=-1)
    return torch.cat((steps.new_zeros(1), steps.cumsum(0)))


def segments(truth: SE3) -> tuple[Tensor, Tensor, Tensor]:
    """Return first rows, last rows and lengths in metres [K] of KITTI's segments of a whole true path.

    Every tenth frame starts up to eight segments; each ends at the first frame that is more than its length further
    along the path. (KITTI development kit, evaluate_odometry)
    """
    travelled = path_length(truth)
    first = torch.arange(0, len(travelled), SEGMENT_STEP).repeat_interleave(len(SEGMENT_LENGTHS_M))
    length_m = torch.tensor(SEGMENT_LENGTHS_M, dtype=torch.float64).repeat(len(first) // len(SEGMENT_LENGTHS_M))
    last = torch.searchsorted(travelled, travelled[first] + length_m, right=True)
    reached = last < len(travelled)
    return first[reached], last[reached], length_m[reached]


def segment_errors(prediction: SE3, truth: SE3, *, truth_rows: Tensor) -> SegmentErrors:
    """Return the errors over KITTI's segments of the whole ``truth`` [N].

    ``prediction`` [M] belongs to ``truth_rows`` [M]; segments whose ends have no prediction are left out. K may be 0.
    """
    first, last, length_m = segments(truth)
    row_of = torch.full((len(truth.t),), -1, dtype=torch.long)
    row_of[truth_rows] = torch.arange(len(truth_rows))
    known = (row_of[first] >= 0) & (row_of[last] >= 0)
    first, last, length_m = first[known], last[known], length_m[known]
    error = _solve(relative(prediction, row_of[first], row_of[last]), relative(truth, first, last))
    return SegmentErrors(first=first, length_m=length_m, translation=error.t.norm(dim=-1) / length_m,
                         rotation_rad=trace_angle(error.R) / length_m)
