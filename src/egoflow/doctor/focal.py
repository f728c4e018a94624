"""The focal length that footage itself suggests, with an interval, and whether it can be seen at all.

A wrong focal length bends the epipolar lines of turning cameras, and of those alone: of a camera that only translates
every focal length explains the flow as well (f to c f, translation (x, y, z) to (x/c, y/c, z), depth unchanged; Gordon
2019). So the Sampson error of many pairs is asked at many focal lengths, each with its own best motions, and pairs are
drawn again and again to see how far the best one wanders.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from egoflow.doctor.pairs import PairReport, longer_side
from egoflow.geometry.camera import Camera
from egoflow.geometry.two_view import on_unit_plane, refine

SHARES = np.geomspace(0.35, 3.0, 20)
"""Focal lengths that are asked, as shares of the longer side: fields of view from 110 to 19 degrees along it."""
LEAST_PAIRS, STEPS = 6, 5
FOUND = 0.6
"""Pairs of which less is found again are not asked: long flows are the wrong ones."""
NOISE_PX = 0.4
MOTION = 0.03
"""Median flow, as a share of the longer side, of the pairs that are asked."""
TURN_PX = 1.5
"""Less turning than this, in pixels at the centre of the image at working size, shows no focal length."""
MOST_MOVERS = 0.15
"""Pairs of which more is off the rigid motion are not asked: what moves by itself bends epipolar lines too."""
SPREAD = 1.5
"""Where the upper end of the interval is more than so many times the lower one, the focal length is not observable."""
_DRAWS = 400
LEVEL = 95


@dataclass(frozen=True, slots=True, kw_only=True)
class FocalEstimate:
    """A focal length in pixels of the frames with its 95 % interval; ``observable`` says whether it is to be believed.

    ``reason`` says why not. A wide interval that is ``bounded`` at both ends still tells what the focal length is not.
    ``costs`` [M] are the mean robust errors at the ``asked`` focal lengths.
    """

    focal_px: float
    low_px: float
    high_px: float
    observable: bool
    bounded: bool
    reason: str
    pairs: int
    turn_deg: float
    asked: np.ndarray
    costs: np.ndarray

    def json(self) -> dict[str, object]:
        """Return plain numbers; the focal length only where it can be believed."""
        seen = self.observable
        return {"observable": seen, "reason": self.reason, "pairs": self.pairs, "turn_deg": round(self.turn_deg, 3),
                "focal_px": round(self.focal_px, 1) if seen else None,
                "interval_px": [round(self.low_px, 1), round(self.high_px, 1)] if seen else None}


def estimate_focal(reports: Sequence[PairReport], camera: Camera, *, most_movers: float = MOST_MOVERS) -> FocalEstimate:
    """Return the focal length of square pixels that pairs of frames suggest, in pixels of the size of ``camera``.

    The axis is that of the camera. Pairs of which more than ``most_movers`` is off the rigid motion are not asked;
    under a wrong camera that may be all of them.
    """
    chosen, width = asked_pairs(reports, most_movers=most_movers), longer_side(camera)
    none = np.full(len(SHARES), np.nan)
    if len(chosen) < LEAST_PAIRS:
        return FocalEstimate(focal_px=math.nan, low_px=math.nan, high_px=math.nan, observable=False, bounded=False,
                             reason=f"only {len(chosen)} pairs of frames show a rigid motion with parallax",
                             pairs=len(chosen), turn_deg=0.0, asked=SHARES * width, costs=none)
    costs, turns = zip(*(_costs(report) for report in chosen), strict=True)
    costs, turns = np.stack(costs), np.stack(turns)
    best = _least(costs.mean(0))
    random = np.random.default_rng(0)
    draws = [_least(costs[random.integers(len(chosen), size=len(chosen))].mean(0)) for _ in range(_DRAWS)]
    low, high = np.percentile(draws, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    nearest = int(np.argmin(np.abs(SHARES - best)))
    turn_rad = float(np.median(turns[:, nearest]))
    reason = _unbounded(low, high, turn_px=turn_rad * best * longer_side(chosen[0].camera))
    wide = f"it may be anything from {low:.2f} to {high:.2f} of the longer side" if high > SPREAD * low else ""
    return FocalEstimate(focal_px=best * width, low_px=float(low) * width, high_px=float(high) * width,
                         observable=not (reason or wide), bounded=not reason, reason=reason or wide, pairs=len(chosen),
                         turn_deg=math.degrees(turn_rad), asked=SHARES * width,
                         costs=costs.mean(0))


def asked_pairs(reports: Sequence[PairReport], *, most_movers: float = MOST_MOVERS) -> list[PairReport]:
    """Return one pair of each first frame, of those that can be explained the one whose flow is nearest to MOTION.

    Short flows tell little, and of long ones the classical flow falls short where they differ from place to place.
    """
    best: dict[int, PairReport] = {}
    for report in reports:
        good = (report.geometry.fault == "" and report.usable > FOUND and len(report.xy_a) >= 200
                and report.movers <= most_movers)
        if good and (report.a not in best or _off(report) < _off(best[report.a])):
            best[report.a] = report
    return [best[a] for a in sorted(best)]


def _off(report: PairReport) -> float:
    """Return how far a pair's flow is from the length that is read best, as a ratio's logarithm."""
    return abs(math.log(max(report.geometry.motion_px, 1e-3) / (MOTION * longer_side(report.camera))))


def _costs(report: PairReport) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean robust error of a pair at every focal length asked, and the angle in radians its axis turns."""
    costs, turns = np.empty(len(SHARES)), np.empty(len(SHARES))
    side = longer_side(report.camera)
    own = float(report.camera.fx) / side
    first = int(np.argmin(np.abs(SHARES - own)))
    # Outwards from the focal length that the pair's motion is known at: each begins where its neighbour ended.
    for order in (range(first, len(SHARES)), range(first - 1, -1, -1)):
        rotation, direction = report.geometry.rotation, report.geometry.direction
        for k in order:
            focal = SHARES[k] * side
            camera = _with_focal(report.camera, focal)
            rays_a, rays_b = on_unit_plane(report.xy_a, camera), on_unit_plane(report.xy_b, camera)
            rotation, direction, distance = refine(rotation, direction, rays_a, rays_b, noise=NOISE_PX / focal,
                                                   steps=STEPS)
            error = (distance * focal / NOISE_PX) ** 2
            costs[k] = float((error / (1 + error)).mean())
            # A roll leaves the image centre where it is, and is the same under every focal length.
            turns[k] = float(np.linalg.norm(cv2.Rodrigues(rotation)[0][:2]))
    return costs, turns


def _with_focal(camera: Camera, focal_px: float) -> Camera:
    """Return a camera of square pixels with that focal length."""
    focal = torch.full_like(camera.fx, focal_px)
    return replace(camera, fx=focal, fy=focal)


def _least(costs: np.ndarray) -> float:
    """Return where costs are least, as a share of the longer side, by a parabola through the lowest three."""
    k = int(np.argmin(costs))
    if k in (0, len(costs) - 1):
        return float(SHARES[k])
    left, here, right = costs[k - 1:k + 2]
    bend = left - 2 * here + right
    shift = 0.5 * (left - right) / bend if bend > 0 else 0.0
    step = math.log(SHARES[1] / SHARES[0])
    return float(SHARES[k] * math.exp(shift * step))


def _unbounded(low: float, high: float, *, turn_px: float) -> str:
    """Return why nothing is known of a focal length, or nothing."""
    if turn_px < TURN_PX:
        return f"the camera hardly turns ({turn_px:.1f} px at the centre of the image): every focal length fits"
    if low <= SHARES[0] * 1.01 or high >= SHARES[-1] * 0.99:
        return "the best focal length lies at the end of what was asked"
    return ""
