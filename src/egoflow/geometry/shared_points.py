"""Lengths of neighbouring steps of a camera tied through the points that both of them see (ours).

Two-view geometry gives every step a direction and no length. A point seen from three frames has one depth in the middle
one, so the depths that both steps imply for it, each in units of its own length, differ by the ratio of the lengths.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from egoflow.geometry.camera import Camera
from egoflow.geometry.flow import pixels_from_flow, reproject
from egoflow.geometry.se3 import SE3
from egoflow.geometry.triangulation import midpoint_depth

LEAST_SHARE, LEAST_PX = 0.02, 1.5
"""Share of the pixels, and their median parallax in pixels of each step, below which nothing is said. Points are not
chosen one by one: of a short step those would be kept that noise has made longer.
"""
_TOLD_PX = 0.25
"""Parallax of a single step below which its depth is noise."""
OWN_ERROR = 0.08
"""Deviation of the logarithm of lengths that are to be tied: how far a network's scale wanders along a path."""
SHARE_OF_SPREAD, LEAST_ERROR = 0.5, 0.01
"""A ratio is off by this share of the median deviation of its points (on real streets by 1.8 % at 4 %), and never by
less than the second: neighbouring points share their errors."""
_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class LengthRatio:
    """The logarithm of the length of the step to the next frame over that to the one before, and its points' spread.

    ``spread`` is the median deviation of single points from it.
    """

    log: float
    spread: float


def length_ratio(previous: tuple[Tensor, SE3], following: tuple[Tensor, SE3], usable: Tensor, camera: Camera
                 ) -> LengthRatio | None:
    """Return how much longer the step to the next frame is than that to the one before, by points seen in all three.

    Takes of both neighbours the flow [1, 2, h, w] from this frame and the motion (batch of 1, of any length), and where
    both flows are to be read, ``usable`` bool [1, 1, h, w]. ``camera`` is of any size of the image. None where too few
    points are seen in both.
    """
    camera = camera.resized(height=usable.shape[-2], width=usable.shape[-1])
    (before, known_before), (after, known_after) = (
        midpoint_depth(flow.double(), camera, motion, least_px=_TOLD_PX) for flow, motion in (previous, following))
    use = usable & known_before & known_after
    if float(use.double().mean()) < LEAST_SHARE or any(
            float(_parallax_px(*step, camera)[usable].median()) < LEAST_PX for step in (previous, following)):
        return None
    # The depth is in units of the step: a longer step gives a smaller one.
    logs = (before[use] / after[use]).log()
    middle = logs.median()
    return LengthRatio(log=float(middle), spread=float((logs - middle).abs().median()))


def _parallax_px(flow_ab: Tensor, b_from_a: SE3, camera: Camera) -> Tensor:
    """Return how far each pixel moves [1, 1, h, w] beyond what the rotation does."""
    ends = pixels_from_flow(flow_ab.double())
    turn = SE3(b_from_a.R.double(), torch.zeros_like(b_from_a.t.double()))
    turned, _, _ = reproject(torch.ones_like(flow_ab[:, :1].double()), camera, turn)
    return (ends - turned).norm(dim=-1).unsqueeze(1)


def tied_lengths(lengths: np.ndarray, ratios: Sequence[LengthRatio | None]) -> np.ndarray:
    """Return the lengths [N] of steps changed so that they also agree with the ratios [N - 1] of neighbouring ones.

    Robust least squares of logarithms: ``lengths`` are taken to be off by OWN_ERROR, each ratio by its spread's share;
    what is farther off counts for less. None among the ratios ties nothing. Lengths of 0 are left alone.
    """
    moving = lengths > 0
    known = np.array([ratio is not None for ratio in ratios], bool) & moving[1:] & moving[:-1]
    if not known.any():
        return lengths
    own = np.log(np.where(moving, lengths, 1.0))
    step = np.array([0.0 if ratio is None else ratio.log for ratio in ratios])
    error = np.array([1.0 if ratio is None else max(SHARE_OF_SPREAD * ratio.spread, LEAST_ERROR) for ratio in ratios])
    found, own_weight, tie_weight = own, np.ones(len(own)), np.ones(len(step))
    for _ in range(_ROUNDS):
        tie = known * tie_weight / error**2
        found = _solved(own_weight / OWN_ERROR**2, tie, own, step)
        # Cauchy's weights; a deviation twice that taken for granted counts for a fifth.
        own_weight = 1 / (1 + ((found - own) / OWN_ERROR) ** 2)
        tie_weight = 1 / (1 + ((np.diff(found) - step) / error) ** 2)
    return np.where(moving, np.exp(found), lengths)


def _solved(weight: np.ndarray, tie: np.ndarray, own: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Return the x [N] of least ``weight (x - own)^2`` and ``tie (x[k + 1] - x[k] - step)^2``: a tridiagonal system."""
    diagonal, right = weight.copy(), weight * own
    diagonal[:-1] += tie
    diagonal[1:] += tie
    right[:-1] -= tie * step
    right[1:] += tie * step
    # Thomas's algorithm; the system is positive definite.
    for k in range(1, len(diagonal)):
        share = tie[k - 1] / diagonal[k - 1]
        diagonal[k] -= share * tie[k - 1]
        right[k] += share * right[k - 1]
    found = right / diagonal
    for k in range(len(diagonal) - 2, -1, -1):
        found[k] = (right[k] + tie[k] * found[k + 1]) / diagonal[k]
    return found
