"""Local search by the sum of absolute differences (SAD) of windows, for all points of an image at once.

A search starts at a predicted match and walks down the SAD: free, to the best of the 8 pixels around; on a line, by
steps of one pixel along it, sampled bilinearly, so the match never leaves the line. A parabola through the last costs
gives the part of a pixel.

Against the released code (matt-42/vpp): all points walk together, so there is neither an early stop of a SAD nor a
table of neighbours already visited: both save time per point and change no result. Steps on the line are 1 px, not
1.5, because samples are not cut to whole pixels.
"""

from dataclasses import dataclass

import cv2
import numpy as np

STEPS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelPair:
    """Two grey images of one pyramid level as float32 [height + 2 window, width + 2 window], borders mirrored."""

    a: np.ndarray
    b: np.ndarray
    window: int
    height: int
    width: int

    @staticmethod
    def of(image_a: np.ndarray, image_b: np.ndarray, *, window: int) -> "LevelPair":
        """Return the level of two grey images [h, w]; ``window`` is the odd side of the windows compared."""
        a, b = (cv2.copyMakeBorder(image, window, window, window, window, cv2.BORDER_REFLECT_101).astype(np.float32)
                for image in (image_a, image_b))
        return LevelPair(a=a, b=b, window=window, height=image_a.shape[0], width=image_a.shape[1])

    def windows_a(self, xy_a: np.ndarray) -> np.ndarray:
        """Return the windows [window, window, n] of image a around whole pixels ``xy_a`` [n, 2]."""
        return self._cut(self.a, xy_a, self.window)

    def around(self, windows: np.ndarray, xy_b: np.ndarray) -> np.ndarray:
        """Return the SAD [9, n] at the 3x3 whole pixels around ``xy_b`` [n, 2], row by row; infinite outside."""
        side = self.window
        patch = self._cut(self.b, xy_b, side + 2)
        costs = np.stack([np.abs(patch[y:y + side, x:x + side] - windows).sum((0, 1))
                          for y in range(3) for x in range(3)])
        at = xy_b[None] + AROUND[:, None]
        return np.where(self._inside(at), costs, np.inf)

    def at(self, windows: np.ndarray, xy_b: np.ndarray) -> np.ndarray:
        """Return the SAD [n] at points ``xy_b`` [n, 2], sampled bilinearly; infinite outside the image."""
        inside = self._inside(xy_b)
        xy = np.where(inside[:, None], xy_b, 0.0)
        corner = np.floor(xy)
        x, y = (xy - corner).T.astype(np.float32)
        patch = self._cut(self.b, corner, self.window + 1, before=self.window // 2)
        rows = patch[:, :-1] + x * (patch[:, 1:] - patch[:, :-1])
        samples = rows[:-1] + y * (rows[1:] - rows[:-1])
        return np.where(inside, np.abs(samples - windows).sum((0, 1)), np.inf)

    def _inside(self, xy: np.ndarray) -> np.ndarray:
        """Return which points [..., 2] lie between the outermost pixel centres."""
        x, y = xy[..., 0], xy[..., 1]
        return (x >= 0) & (x <= self.width - 1) & (y >= 0) & (y <= self.height - 1)

    def _cut(self, padded: np.ndarray, xy: np.ndarray, side: int, *, before: int | None = None) -> np.ndarray:
        """Return windows [side, side, n] that begin ``before`` (half of them by default) left of and above ``xy``."""
        stride, first = padded.shape[1], self.window - (side // 2 if before is None else before)
        x, y = xy.T.astype(np.intp)
        reach = np.arange(side)
        offsets = (reach[:, None] * stride + reach)[..., None]
        return padded.ravel().take((y + first) * stride + x + first + offsets)


AROUND = np.array([[x, y] for y in (-1, 0, 1) for x in (-1, 0, 1)])
"""The pixels of a 3x3 neighbourhood in the order of ``LevelPair.around``; the fifth is the middle."""


def halved(image: np.ndarray) -> np.ndarray:
    """Return an image [h, w] at half size, [ceil(h/2), ceil(w/2)]: means of 2x2 pixels, a missing row repeated."""
    even = cv2.copyMakeBorder(image, 0, image.shape[0] % 2, 0, image.shape[1] % 2, cv2.BORDER_REPLICATE)
    return cv2.resize(even, (even.shape[1] // 2, even.shape[0] // 2), interpolation=cv2.INTER_AREA)


def local_search(level: LevelPair, windows: np.ndarray, start: np.ndarray, *,
                 along: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Walk from ``start`` [n, 2] down the SAD, at most 5 steps, and return points [n, 2] and costs [n].

    Free where ``along`` is None (``start`` must hold whole pixels); else along unit vectors ``along`` [n, 2].
    A start outside the image stays there, at infinite cost.
    """
    xy, cost = start.copy(), level.at(windows, start)
    moving = np.flatnonzero(np.isfinite(cost))
    for _ in range(STEPS):
        if not len(moving):
            break
        points, costs = _steps(level, windows[..., moving], xy[moving], None if along is None else along[moving])
        best, column = costs.argmin(0), np.arange(len(moving))
        better = costs[best, column] < cost[moving]
        moving, best, column = moving[better], best[better], column[better]
        xy[moving], cost[moving] = points[best, column], costs[best, column]
    return xy, cost


def _steps(level: LevelPair, windows: np.ndarray, xy: np.ndarray, along: np.ndarray | None) -> tuple[
        np.ndarray, np.ndarray]:
    """Return the points [k, n, 2] one step away and their SAD [k, n]."""
    if along is None:
        return xy[None] + AROUND[:, None], level.around(windows, xy)
    points = np.stack((xy - along, xy + along))
    return points, np.stack([level.at(windows, there) for there in points])


def part_of_pixel(level: LevelPair, windows: np.ndarray, xy: np.ndarray, cost: np.ndarray, *,
                  along: np.ndarray | None = None) -> np.ndarray:
    """Return points [n, 2] moved to the lowest point of parabolas through the SAD one pixel before and behind.

    Along x and y where ``along`` is None, else along it. By at most half a pixel, and not at all at a minimum of 0
    (nothing can match better) or beside the image's border.
    """
    axes = np.eye(2)[:, None].repeat(len(xy), 1) if along is None else along[None]
    moved = xy.copy()
    for axis in axes:
        before, behind = level.at(windows, xy - axis), level.at(windows, xy + axis)
        usable = np.isfinite(before) & np.isfinite(behind) & (cost > 0) & (before + behind > 2 * cost)
        before, behind, middle = (np.where(usable, c, d) for c, d in ((before, 1.0), (behind, 1.0), (cost, 0.0)))
        moved += axis * np.clip(0.5 * (before - behind) / (before - 2 * middle + behind), -0.5, 0.5)[:, None]
    return moved
