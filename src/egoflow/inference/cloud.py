"""A cloud of points from depth maps and a path: only what is no edge, is seen alike from the next frame, and is static.

Depth maps are smooth across the borders of things, and pixels there float between both; they are left out. A point that
the next frame sees elsewhere was hidden or wrong. Points of one small cell become their mean, so that a long video
gives no endless file.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np
import torch

from egoflow.geometry.camera import Camera
from egoflow.geometry.se3 import SE3

EDGE = 0.08
"""A pixel whose neighbours' inverse depths differ by more than this share is on an edge."""
DISAGREE = 0.06
"""|z' - D| / (z' + D) between two frames above which a point is dropped."""
FAR = 0.9
"""Quantile of depth beyond which points of a frame are left out: far depth is poor."""
PLAIN = 1e-4
"""Larger eigenvalue of the structure tensor below which there is nothing that could be found again."""


def unprojected(depth: np.ndarray, camera: Camera) -> np.ndarray:
    """Return the points [h, w, 3] (float64) of a depth map [h, w] in the axes of its camera, which is of its size."""
    return camera.unproject(torch.from_numpy(depth.astype(np.float64))[None, None])[0].numpy()


def kept_pixels(depth: np.ndarray, known: np.ndarray, *, far: float = FAR) -> np.ndarray:
    """Return which ``known`` pixels of a depth map [h, w] are no edge and not far away, bool [h, w]."""
    if not known.any():
        return known
    inverse = 1 / np.maximum(depth, 1e-9)
    low, high = inverse.copy(), inverse.copy()
    for axis in (0, 1):
        for shift in (1, -1):
            other = np.roll(inverse, shift, axis)
            # What comes round from the other side is no neighbour.
            border = [slice(None), slice(None)]
            border[axis] = slice(0, 1) if shift == 1 else slice(-1, None)
            other[tuple(border)] = inverse[tuple(border)]
            low, high = np.minimum(low, other), np.maximum(high, other)
    smooth = high - low < EDGE * inverse
    return known & smooth & (depth <= np.quantile(depth[known], far))


def plain_and_far(image: np.ndarray, depth: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the pixels, bool [h, w], of an RGB image [h, w, 3] without any structure and beyond the median depth.

    Sky, above all: no two frames can say how far it is. A plain road is near, and its borders say where it lies.
    """
    if not known.any() or min(depth.shape) < 8:
        return np.zeros(depth.shape, bool)
    steps = cv2.cornerEigenValsAndVecs(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), blockSize=7, ksize=3)[..., :2]
    return (steps.max(axis=2) < PLAIN) & (depth > np.median(depth[known]))


def disagreement(points: np.ndarray, other_depth: np.ndarray, camera: Camera, other_from_this: SE3) -> np.ndarray:
    """Return ``|z' - D| / (z' + D)`` [h, w] of the points of a frame in another one, NaN where they leave its view.

    z' is the depth of a point in the other camera, D what its depth map [h, w] says at the nearest pixel. (Bian 2019)
    """
    height, width = other_depth.shape
    moved = torch.from_numpy(points) @ other_from_this.R.T + other_from_this.t
    xy, in_front = (value[0].numpy() for value in camera.project(moved[None]))
    x, y = np.rint(np.moveaxis(xy, 2, 0)).astype(np.int64)
    inside = in_front[0] & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    z = np.where(in_front[0], moved[..., 2].numpy(), 1.0)
    there = other_depth[y.clip(0, height - 1), x.clip(0, width - 1)]
    return np.where(inside, np.abs(z - there) / (z + there), np.nan)


@dataclass(slots=True)
class CloudBuilder:
    """Receive points and hold the mean of each cell of ``cell`` units; memory grows with the scene, 64 bytes a cell."""

    cell: float
    _keys: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    _sums: np.ndarray = field(default_factory=lambda: np.zeros((0, 7)))
    _waiting: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    def add(self, points: np.ndarray, colours: np.ndarray) -> None:
        """Add points [n, 3] in world axes with RGB uint8 colours [n, 3]."""
        if len(points) == 0:
            return
        rows = np.concatenate((points, colours.astype(np.float64), np.ones((len(points), 1))), axis=1)
        self._waiting.append((_cell_numbers(points / self.cell), rows))
        # Merged once as many wait as cells are held: every point is sorted a few times, not once a frame.
        if sum(len(keys) for keys, _ in self._waiting) > max(len(self._keys), 200_000):
            self._merge()

    def _merge(self) -> None:
        """Sum what waits into the cells."""
        keys, rows = (np.concatenate(parts) for parts in zip((self._keys, self._sums), *self._waiting, strict=True))
        every, index = np.unique(keys, return_inverse=True)
        columns = [np.bincount(index, weights=rows[:, k], minlength=len(every)) for k in range(7)]
        sums = np.stack(columns, axis=1)
        self._keys, self._sums, self._waiting = every, sums, []

    def cloud(self, *, least: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Return the points [N, 3] and colours uint8 [N, 3] of the cells that ``least`` points fell into."""
        self._merge()
        kept = self._sums[self._sums[:, 6] >= least]
        mean = kept[:, :6] / np.maximum(kept[:, 6:], 1)
        return mean[:, :3], np.rint(mean[:, 3:]).astype(np.uint8)


def _cell_numbers(places: np.ndarray) -> np.ndarray:
    """Return one number [n] (int64) for the cell that each place [n, 3] lies in, a unit each; they sort as x, y, z do.

    What lies beyond 2^20 cells from the origin along an axis counts as in the last cell there.
    """
    # One number and not three: numpy sorts rows by comparing them byte by byte, which took half of a cloud's time.
    x, y, z = np.moveaxis(np.floor(places).clip(-(2**20), 2**20 - 1).astype(np.int64) + 2**20, 1, 0)
    return (x << 42) | (y << 21) | z
