"""Lidar scans and what they say of an image's depth."""

from pathlib import Path
from typing import Literal

import numpy as np

from egoflow.data.files import MAX_PIXELS, read_bytes
from egoflow.errors import DataError

DepthRule = Literal["published", "exact"]


def read_velodyne(path: str | Path) -> np.ndarray:
    """Return a velodyne scan [N, 4] float32 (x forward, y left, z up, reflectance)."""
    data = read_bytes(path, limit=16 * MAX_PIXELS)
    if len(data) % 16:
        raise DataError(f"{path}: truncated: {len(data)} bytes are no whole number of 16-byte points")
    return np.frombuffer(data, "<f4").reshape(-1, 4)


def lidar_depth(points: np.ndarray, image_from_velo: np.ndarray, *, height: int, width: int,
                rule: DepthRule = "published") -> tuple[np.ndarray, np.ndarray]:
    """Return sparse depth [height, width] float32 in metres and ``valid`` bool of a velodyne scan [N, 3 or 4].

    "published" is the rule of Eigen's evaluation: the value is the forward (x) velodyne coordinate, the pixel is
    round(x) - 1, round(y) - 1 (MATLAB's counting from one, half to even), points with x < 0 are dropped and of several
    returns in a pixel the nearest wins. "exact" stores z in the camera at the rounded pixel.
    ``image_from_velo`` [3, 4] projects homogeneous points.
    """
    xyz = points[:, :3].astype(np.float64)
    xyz = xyz[np.isfinite(xyz).all(axis=1) & (xyz[:, 0] >= 0)]
    projected = xyz @ image_from_velo[:, :3].T + image_from_velo[:, 3]
    front = projected[:, 2] > 0
    xyz, projected = xyz[front], projected[front]
    shift = 1 if rule == "published" else 0
    column, row = (np.rint(projected[:, i] / projected[:, 2]) - shift for i in (0, 1))
    value = xyz[:, 0] if rule == "published" else projected[:, 2]
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height) & (value > 0)
    depth = np.full(height * width, np.inf)
    index = (row[inside] * width + column[inside]).astype(np.int64)
    np.minimum.at(depth, index, value[inside])
    depth = depth.reshape(height, width)
    valid = np.isfinite(depth)
    return np.where(valid, depth, 0).astype(np.float32), valid
