"""Pixels that stay as they are while the scene moves: black bars, a bonnet, a watermark or time stamp."""

from dataclasses import dataclass

import cv2
import numpy as np

STILL_GREY, PLAIN_GREY = 2.0, 3.0
"""Bars: rows or columns from the border on, whose grey changes by less than the first in time and the second along."""
BAR_STEP_GREY, BAR_ENDS = 4.0, 0.5
"""A bar ends where the next row differs by so many grey levels over this share of the width."""
BONNET_WIDTH, BONNET_LOW, BONNET_LEFT, BONNET_TOP = 0.4, 0.85, 0.6, 0.05
"""A bonnet's edge is this share of the width wide and reaches down to this share of the rows; the next share of them is
left above it, but for the last share of its columns."""
BONNET_MIDDLE = 0.4
"""It begins left of this share of the columns, and ends as far from the other side."""
FIXED, STEEP_GREY = 0.93, 6.0
"""Fixed structure: the mean gradient keeps this share of the mean size of gradients, and is at least so steep."""
CORNER = 0.1
"""Ratio of the eigenvalues of the structure tensor from which on a place is more than an edge."""
STILL_SHARE = 0.35
"""Share of the image's median flow that fixed structure may seem to move by: flow is drawn along by what is around."""
LEAST_SHARE = 2e-3
"""Share of the image below which fixed structure is a speck."""


@dataclass(slots=True)
class FixedPixels:
    """Sums over frames of one size, added one by one; few frames say nothing."""

    count: int
    grey: np.ndarray
    square: np.ndarray
    gradient: np.ndarray
    steepness: np.ndarray

    @staticmethod
    def empty() -> "FixedPixels":
        """Return sums of nothing."""
        none = np.zeros((0, 0))
        return FixedPixels(0, none, none, none, none)

    def add(self, grey: np.ndarray) -> None:
        """Add a grey uint8 frame [h, w]."""
        image = grey.astype(np.float64)
        gradient = np.stack([cv2.Sobel(image, cv2.CV_64F, *order, ksize=3) / 8 for order in ((1, 0), (0, 1))])
        size = np.hypot(*gradient)
        if self.count == 0:
            self.grey, self.square = image, image**2
            self.gradient, self.steepness = gradient, size
        else:
            self.grey, self.square = self.grey + image, self.square + image**2
            self.gradient, self.steepness = self.gradient + gradient, self.steepness + size
        self.count += 1

    def _deviation(self) -> np.ndarray:
        """Return the deviation in time of each pixel [h, w]."""
        mean = self.grey / self.count
        return np.sqrt(np.maximum(self.square / self.count - mean**2, 0))

    def bars(self) -> tuple[int, int, int, int]:
        """Return the widths of plain, still bars at the top, bottom, left and right, in pixels of the sums' size."""
        if self.count < 2:
            return 0, 0, 0, 0
        still, mean = self._deviation(), self.grey / self.count
        rows = (np.median(still, axis=1) < STILL_GREY) & (mean.std(axis=1) < PLAIN_GREY)
        columns = (np.median(still, axis=0) < STILL_GREY) & (mean.std(axis=0) < PLAIN_GREY)
        # A clip in which nothing moves and nothing is seen is no bar.
        if rows.all() or columns.all():
            return 0, 0, 0, 0
        sides = ((mean, rows), (mean[::-1], rows[::-1]), (mean.T, columns), (mean.T[::-1], columns[::-1]))
        top, bottom, left, right = (_bar(image, plain) for image, plain in sides)
        return top, bottom, left, right

    def structure(self, motion: np.ndarray, unmoved: np.ndarray) -> np.ndarray:
        """Return where structure is fixed to the image, bool [h, w]: writing, a logo; bars and a bonnet left out.

        The gradients of what moves cancel over time; those of what is fixed add up. So do those of an edge that slides
        along itself: a corner cannot, nor is the usual length of the flow, ``motion`` [H, W], next to none there. Of a
        slow camera's few gradients some add up by chance: what is fixed is also ``unmoved`` (bool [H, W]), as
        ``PairReport`` says.
        """
        if self.count < 2:
            return np.zeros(self.grey.shape, bool)
        stays = np.asarray(cv2.resize(unmoved.astype(np.uint8), self.grey.shape[::-1],
                                      interpolation=cv2.INTER_NEAREST_EXACT)) > 0
        fixed = self._edges() & ((self._corners() | self._still(motion)) & stays).astype(np.uint8)
        if (bonnet := self.bonnet()) is not None:
            fixed[bonnet:] = 0
        return _without_specks(cv2.morphologyEx(fixed, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)))

    def bonnet(self) -> int | None:
        """Return the first row of a part of the vehicle along the lower edge; None without any.

        Its inside may be smooth, or mirror what moves; its edge is fixed, long and low.
        """
        if self.count < 2:
            return None
        height, width = self.grey.shape
        edges = cv2.morphologyEx(self._edges(), cv2.MORPH_CLOSE, np.ones((3, 7), np.uint8))
        count, labels = cv2.connectedComponents(edges, connectivity=8)
        for part in range(1, count):
            y, x = np.nonzero(labels == part)
            lowest = np.array([y[x == column].max() for column in np.unique(x)])
            # The lines of a straight road stand still too, and end at the bonnet: its edge is what is lowest.
            first = int(np.quantile(lowest, BONNET_TOP))
            wide = len(lowest) >= BONNET_WIDTH * width
            # A kerb or a line along a straight road keeps to its side.
            wide &= x.min() < BONNET_MIDDLE * width and x.max() > (1 - BONNET_MIDDLE) * width
            if wide and y.max() >= BONNET_LOW * height and first >= BONNET_LEFT * height:
                return first
        return None

    def _edges(self) -> np.ndarray:
        """Return steep gradients that add up over time, as uint8 [h, w]; those of bars are left out."""
        total, steepness = np.hypot(*self.gradient), self.steepness
        fixed = ((total > FIXED * steepness) & (steepness > STEEP_GREY * self.count)).astype(np.uint8)
        top, bottom, left, right = self.bars()
        height, width = fixed.shape
        # The edge of a bar is fixed too.
        fixed[:top + 2 if top else 0] = 0
        fixed[height - bottom - 2 if bottom else height:] = 0
        fixed[:, :left + 2 if left else 0] = 0
        fixed[:, width - right - 2 if right else width:] = 0
        return fixed

    def _corners(self) -> np.ndarray:
        """Return where the mean frame changes in both directions, bool [h, w]."""
        values = cv2.cornerEigenValsAndVecs((self.grey / self.count).astype(np.float32), 5, 3)[..., :2]
        return values.min(axis=2) > CORNER * values.max(axis=2)

    def _still(self, motion: np.ndarray) -> np.ndarray:
        """Return where the usual flow [H, W] is next to none, bool [h, w]."""
        small = cv2.resize(motion.astype(np.float32), self.grey.shape[::-1], interpolation=cv2.INTER_LINEAR)
        return small < STILL_SHARE * np.median(small)


def _bar(mean: np.ndarray, plain: np.ndarray) -> int:
    """Return how many rows from the first on are plain; 0 where they do not end at once, over the whole width.

    A plain sky ends at a skyline, a bar in one row.
    """
    count = int(np.argmin(plain))
    if count == 0:
        return 0
    # The row at the border may hold parts of both where frames were made smaller.
    inside = mean[min(count + 1, len(mean) - 1)]
    return count if float((np.abs(inside - mean[count - 1]) > BAR_STEP_GREY).mean()) > BAR_ENDS else 0


def _without_specks(mask: np.ndarray) -> np.ndarray:
    """Return bool [h, w] without components of less than the least share of the image."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    large = [k for k in range(1, count) if stats[k, cv2.CC_STAT_AREA] >= max(4.0, LEAST_SHARE * mask.size)]
    return np.isin(labels, large)
