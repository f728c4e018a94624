"""Tiles of the screen with the depths they hold: what reaches none of a tile's depths need not be looked at there."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_TILE = 8


def depth_tiles(depth: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the greatest finite depth of every tile of [F, S, h, W], over frames and samples."""
    near = depth.amin((0, 1))[None]
    far = torch.where(torch.isfinite(depth), depth, -torch.inf).amax((0, 1))[None]
    near, far = -F.max_pool2d(-near, _TILE, ceil_mode=True)[0], F.max_pool2d(far, _TILE, ceil_mode=True)[0]
    return near.cpu().numpy(), far.cpu().numpy()


def point_tiles(xy: Tensor, limit: Tensor, *, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return 0 and the greatest ``limit`` [N] of the points ``xy`` [N, 2] of every tile; none elsewhere."""
    rows, columns = -(-height // _TILE), -(-width // _TILE)
    x, y = xy.add(0.5).unbind(-1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    tile = (y[inside] / _TILE).long() * columns + (x[inside] / _TILE).long()
    far = limit.new_full((rows * columns,), -torch.inf).scatter_reduce_(0, tile, limit[inside], "amax")
    far = far.view(rows, columns).cpu().numpy()
    return np.zeros_like(far), far


def trimmed(bounds: np.ndarray, reach: tuple[np.ndarray, np.ndarray], tiles: tuple[np.ndarray, np.ndarray], *,
            top: int = 0) -> np.ndarray:
    """Cut rectangles [P, 4] to the tiles whose depths meet ``reach`` (least, greatest, each [P]); empty ones are 0.

    Rectangles are (first row, last row + 1, first column, last column + 1); ``top`` is the row of the first tile, which
    the result is counted from.
    """
    r0, r1, c0, c1 = bounds.T
    r0, r1 = r0 - top, r1 - top
    near, far = tiles
    rows, columns = np.arange(near.shape[0]) * _TILE, np.arange(near.shape[1]) * _TILE
    in_rows = (rows + _TILE > r0[:, None]) & (rows < r1[:, None])
    in_columns = (columns + _TILE > c0[:, None]) & (columns < c1[:, None])
    touched = in_rows[:, :, None] & in_columns[:, None, :]
    touched &= (near <= reach[1][:, None, None]) & (far >= reach[0][:, None, None])
    cut = [*_span(touched.any(2), r0, r1), *_span(touched.any(1), c0, c1)]
    return np.where(touched.any((1, 2))[:, None], np.stack(cut, -1), 0)


def _span(line: np.ndarray, first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the part of [first, last) that the True tiles of ``line`` [P, n] span."""
    start, end = line.argmax(1) * _TILE, (line.shape[1] - line[:, ::-1].argmax(1)) * _TILE
    return np.maximum(start, first), np.minimum(end, last)
