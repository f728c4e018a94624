"""How many metres a unit of a prediction is, from one thing that is known of the world; with an interval.

Depth and motion learnt from one camera have no unit. A speed, the camera's height above the ground, a GPS track or a
distance in one picture gives it. The intervals say how far the prediction itself agrees with that one factor from
frame to frame; that what is known may be wrong they cannot say.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from egoflow.data.cameras import read_camera
from egoflow.data.files import read_json, read_text
from egoflow.data.trajectories import read_trajectory
from egoflow.errors import DataError
from egoflow.evaluation.alignment import umeyama
from egoflow.evaluation.bootstrap import block_length, mean_interval, percentiles, resampled_totals
from egoflow.geometry.ground import ground_plane
from egoflow.geometry.se3 import SE3
from egoflow.inference.written_depth import read_inv_depth
from egoflow.types import Trajectory

LEAST = 5
"""Frames that must speak for a factor, other than distances in pictures."""
EARTH_M = 6_378_137.0
FLATTENING = 1 / 298.257223563
"""Of the WGS 84 ellipsoid."""
ROWS = 96
_AROUND = 2
_DRAWS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricScale:
    """Metres a unit with a 95 % interval, ``how`` it was found in words, and from how many ``samples``."""

    metres_per_unit: float
    low: float
    high: float
    how: str
    samples: int


def from_speed(prediction: Path, speed_m_s: float, *, fps: float | None = None) -> MetricScale:
    """Return the scale of a path whose mean speed in m/s is known, pauses included.

    ``fps`` are the frames a second of footage that brings no time stamps; DataError without it there, or elsewhere.
    """
    path = read_trajectory(prediction / "trajectory_tum.txt", format="tum")
    steps = (path.world_from_cam.t[1:] - path.world_from_cam.t[:-1]).norm(dim=1).numpy()
    metres = speed_m_s * np.diff(_times(prediction, path, fps))
    if len(steps) < LEAST or steps.sum() <= 0:
        raise DataError(f"{prediction}: its path has {len(steps)} steps and length {steps.sum():.3g}: too little for a "
                        f"speed to tell its scale")
    # Whole stretches of the path are drawn: neighbouring steps err alike.
    block = block_length(len(steps))
    table = np.stack([np.add.reduceat(v, np.arange(0, len(v), block)) for v in (metres, steps)], axis=1)
    drawn = resampled_totals(table, resamples=_DRAWS)
    low, high = percentiles(drawn[:, 0] / np.maximum(drawn[:, 1], 1e-12)) or (math.nan, math.nan)
    return MetricScale(metres_per_unit=float(metres.sum() / steps.sum()), low=low, high=high, samples=len(steps),
                       how=f"a mean speed of {speed_m_s:g} m/s")


def from_camera_height(prediction: Path, height_m: float) -> MetricScale:
    """Return the scale at which the ground that the camera drives along lies ``height_m`` metres beneath it."""
    camera = read_camera(prediction / "camera.json")
    path = read_trajectory(prediction / "trajectory_kitti.txt", format="kitti").world_from_cam
    names, gap = _names(prediction), _apart(prediction)
    rows = min(ROWS, camera.height)
    small = camera.resized(height=rows, width=max(1, round(camera.width * rows / camera.height)))
    heights = []
    for place in range(len(names) - gap):
        inverse = read_inv_depth(prediction, names[place])
        if inverse is None:
            continue
        value = torch.from_numpy(np.nan_to_num(inverse, nan=1e-3))[None, None].float()
        value = torch.nn.functional.interpolate(value, (small.height, small.width), mode="area")
        motion = path[place + gap].inverse() @ path[place]
        ground = ground_plane(value, small, SE3(motion.R[None].float(), motion.t[None].float()))
        if bool(ground.found):
            heights.append(_height(ground.inv_depth[0, 0].double().numpy(), small))
    if len(heights) < LEAST:
        raise DataError(f"{prediction}: only {len(heights)} frames show a ground that the camera drives along; give "
                        f"--speed, --gps or --known-distance instead")
    logs = np.log(height_m / np.array(heights))
    low, high = mean_interval(logs, block=block_length(len(logs)), transform=math.exp) or (math.nan, math.nan)
    return MetricScale(metres_per_unit=float(np.exp(logs.mean())), low=low, high=high, samples=len(heights),
                       how=f"a camera {height_m:g} m above the ground")


def _height(inv_depth: np.ndarray, camera: object) -> float:
    """Return how far a plane lies from the camera, of its inverse depth [h, w], which is affine in the pixel."""
    fx, fy, cx, cy = (float(getattr(camera, name)) for name in ("fx", "fy", "cx", "cy"))
    across, down = float(inv_depth[0, 1] - inv_depth[0, 0]), float(inv_depth[1, 0] - inv_depth[0, 0])
    # 1 / z = n . (x', y', 1) / d on the plane n . p = d, with the pixel's ray (x', y', 1).
    normal = np.array((across * fx, down * fy, inv_depth[0, 0] + across * cx + down * cy))
    return 1 / float(np.linalg.norm(normal))


def from_gps(prediction: Path, track: Path, *, offset_s: float = 0.0, fps: float | None = None) -> MetricScale:
    """Return the scale that brings the path to a track: TUM rows in metres, or rows ``time lat lon [alt]`` in degrees.

    ``offset_s`` is added to the times of the clip, ``fps`` is that of ``from_speed``. Raises DataError where the track
    does not cover the clip.
    """
    path = read_trajectory(prediction / "trajectory_tum.txt", format="tum")
    time_s, places = _track(track)
    asked = _times(prediction, path, fps) + offset_s
    inside = (asked >= time_s[0]) & (asked <= time_s[-1])
    if inside.sum() < LEAST:
        raise DataError(f"{track}: covers {int(inside.sum())} frames of the clip, whose times run from {asked[0]:.3f} "
                        f"to {asked[-1]:.3f} s where the track's run from {time_s[0]:.3f} to {time_s[-1]:.3f}; give "
                        f"the difference with --gps-offset")
    true = np.stack([np.interp(asked[inside], time_s, places[:, k]) for k in range(3)], axis=1)
    said = path.world_from_cam.t.numpy()[inside]
    if np.ptp(said, axis=0).max() <= 0 or np.ptp(true, axis=0).max() <= 0:
        raise DataError(f"{track}: the path or the track stands still: there is no length to compare")

    def scale(rows: np.ndarray) -> float:
        return umeyama(torch.from_numpy(said[rows]), torch.from_numpy(true[rows]), with_scale=True).scale

    count, block = len(said), block_length(int(inside.sum()))
    random = np.random.default_rng(0)
    draws = []
    for _ in range(_DRAWS // 4):
        first = random.integers(max(count - block + 1, 1), size=math.ceil(count / block))
        rows = (first[:, None] + np.arange(block)).ravel().clip(0, count - 1)
        if np.ptp(said[rows], axis=0).max() > 0:
            draws.append(scale(rows))
    low, high = percentiles(np.array(draws)) or (math.nan, math.nan)
    return MetricScale(metres_per_unit=scale(np.arange(count)), low=low, high=high, samples=count,
                       how=f"the track {track.name}")


def _times(prediction: Path, path: Trajectory, fps: float | None) -> np.ndarray:
    """Return the times [N] of a path in seconds; of footage without time stamps, at ``fps``."""
    assumed, time_s = read_json(prediction / "prediction.json").get("assumed_fps"), path.time_s.numpy()
    if assumed is None and fps is not None:
        raise DataError(f"{prediction}: its footage brings time stamps; leave out --fps")
    if assumed is not None and fps is None:
        raise DataError(f"{prediction}: its footage brings no time stamps, so nobody knows how long a step took; give "
                        f"its frames a second: --fps 30")
    return time_s if assumed is None or fps is None else time_s * assumed / fps


def _track(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return increasing times [N] and places [N, 3] in metres of a track."""
    rows = [line.split("#")[0].replace(",", " ").split() for line in read_text(file, limit=2**26).splitlines()]
    try:
        table = np.array([[float(word) for word in row] for row in rows if row], np.float64)
    except ValueError:
        raise DataError(f"{file}: expected rows of numbers of one length: time lat lon [alt], or TUM's eight") from None
    if table.ndim != 2 or table.shape[1] not in (3, 4, 8) or len(table) < 2 or not np.isfinite(table).all():
        raise DataError(f"{file}: expected at least two rows time lat lon [alt], or TUM's eight numbers, found "
                        f"{table.shape[1] if table.ndim == 2 else 0} columns")
    time_s = table[:, 0]
    if (np.diff(time_s) <= 0).any():
        raise DataError(f"{file}: its times do not increase")
    return time_s, table[:, 1:4] if table.shape[1] == 8 else _in_metres(file, table[:, 1:])


def _in_metres(file: Path, table: np.ndarray) -> np.ndarray:
    """Return east, north and up in metres of rows lat lon [alt], on the plane that touches the earth at the first."""
    latitude, longitude = np.radians(table[:, 0]), np.radians(table[:, 1])
    if np.abs(table[:, 0]).max() > 90 or np.abs(table[:, 1]).max() > 360:
        raise DataError(f"{file}: latitude and longitude must be degrees, time lat lon [alt] a row")
    squared = FLATTENING * (2 - FLATTENING)
    bend = 1 - squared * math.sin(latitude[0]) ** 2
    north = EARTH_M * (1 - squared) / bend**1.5 * (latitude - latitude[0])
    turn = np.remainder(longitude - longitude[0] + math.pi, 2 * math.pi) - math.pi
    east = EARTH_M / math.sqrt(bend) * math.cos(latitude[0]) * turn
    up = table[:, 2] - table[0, 2] if table.shape[1] == 3 else np.zeros(len(table))
    return np.stack((east, north, up), axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDistance:
    """Two pixels (x, y) of the frame ``name`` whose points are ``metres`` apart."""

    name: str
    first: tuple[float, float]
    second: tuple[float, float]
    metres: float


def from_distances(prediction: Path, known: Sequence[KnownDistance]) -> MetricScale:
    """Return the scale of distances between points in pictures; the interval spans what the pixels around them say."""
    camera = read_camera(prediction / "camera.json")
    factors, ends = [], []
    for distance in known:
        inverse = read_inv_depth(prediction, distance.name)
        if inverse is None:
            raise DataError(f"{prediction}: has no depth of frame {distance.name}; its frames are called as the files "
                            f"in {prediction / 'depth'}")
        near, far = (_points(inverse, camera, xy, distance) for xy in (distance.first, distance.second))
        lengths = np.linalg.norm(near[:, None] - far[None], axis=2)
        middle = float(np.linalg.norm(near[len(near) // 2] - far[len(far) // 2]))
        if middle <= 0:
            raise DataError(f"frame {distance.name}: both pixels of the known distance are the same point")
        factors.append(distance.metres / middle)
        ends.append((distance.metres / float(np.percentile(lengths, 97.5)),
                     distance.metres / max(float(np.percentile(lengths, 2.5)), 1e-9)))
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    return MetricScale(metres_per_unit=float(np.exp(np.log(factors).mean())), low=low, high=high, samples=len(known),
                       how="a known distance" if len(known) == 1 else f"{len(known)} known distances")


def _points(inverse: np.ndarray, camera: object, xy: tuple[float, float], distance: KnownDistance) -> np.ndarray:
    """Return the points [25, 3] of the pixels around one, itself in the middle."""
    height, width = inverse.shape
    x, y = (round(v) for v in xy)
    if not (_AROUND <= x < width - _AROUND and _AROUND <= y < height - _AROUND):
        raise DataError(f"frame {distance.name}: pixel {xy[0]:g},{xy[1]:g} is outside the {height}x{width} image, or "
                        f"at its border")
    fx, fy, cx, cy = (float(getattr(camera, name)) for name in ("fx", "fy", "cx", "cy"))
    step = np.arange(-_AROUND, _AROUND + 1)
    grid_y, grid_x = np.meshgrid(y + step, x + step, indexing="ij")
    around = inverse[grid_y, grid_x]
    if not np.isfinite(around).all():
        raise DataError(f"frame {distance.name}: depth around pixel {xy[0]:g},{xy[1]:g} is not known, or too far")
    # The pixel's own ray with the depths around it: a neighbour may lie on another thing, but not beside this one.
    ray = np.array(((x - cx) / fx, (y - cy) / fy, 1.0))
    return ray / around.reshape(-1, 1)


def _names(prediction: Path) -> list[str]:
    """Return the names of the predicted frames, a row of the path each."""
    return list(read_json(prediction / "prediction.json")["names"])


def _apart(prediction: Path) -> int:
    about = read_json(prediction / "prediction.json")
    return about["gap"] if about.get("every_frame") else 1
