"""Semi-dense flow of keypoints by window matching through a pyramid, free or on epipolar lines.

Garrigues and Manzanera, "Fast semi dense epipolar flow estimation", WACV 2017, after the authors' library
matt-42/vpp, with five slips of its code mended: F is scaled level by level (with the offset of our pixel centres);
no epipole is used, so none needs scaling and one at infinity does no harm; the threshold of the epipolar filter is a
number; pixels are rounded, not cut towards zero.

Ours: rounds instead of raster sweeps (cell_search.py), 1 px steps on the line (sad_search.py), a last search from its
cell's flow for every keypoint, F estimated from the free matches where none is given, and the two filters.
"""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from egoflow.errors import ConfigError, ShapeError
from egoflow.geometry.cell_search import Search, cells_of
from egoflow.geometry.epipolar import epipolar_lines, estimate_fundamental, line_distance, scaled_fundamental
from egoflow.geometry.sad_search import LevelPair, halved

COMES_BACK_PX = 1.0
"""A match whose own match is further than this from the keypoint is dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How matches are searched: side of a window (odd), pyramid levels, side of a cell, most rounds of propagation."""

    window: int = 7
    levels: int = 4
    cell: int = 5
    rounds: int = 10

    def __post_init__(self) -> None:
        """Raise ConfigError for a setting out of range."""
        if self.window < 3 or self.window % 2 == 0 or self.levels < 1 or self.cell < 1 or self.rounds < 0:
            raise ConfigError(f"an odd window >= 3, levels >= 1, cell >= 1 and rounds >= 0 are expected, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """Keypoints of a ``xy_a`` [n, 2] (whole pixels), their matches ``xy_b`` [n, 2] and the SAD ``cost`` [n] left.

    A match that was not found (outside image b) has infinite cost.
    """

    xy_a: np.ndarray
    xy_b: np.ndarray
    cost: np.ndarray


def semi_dense_flow(image_a: np.ndarray, image_b: np.ndarray, *,
                    fundamental: np.ndarray | Literal["estimate"] | None = "estimate", settings: Settings | None = None,
                    epipolar_filter_px: float = 2.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the flow [2, H, W] float32 at the keypoints of a and ``valid`` bool [H, W], True at those found.

    Takes uint8 images, RGB [H, W, 3] or grey [H, W]. ``fundamental`` of the pair (a, b) puts matches on its lines;
    None searches freely; "estimate" finds it in the free matches, and searches freely where there is none. Dropped are
    keypoints whose free match is further than ``epipolar_filter_px`` from its line (what moves by itself, and what was
    mistaken), and matches that do not come back within 1 px. Raises ShapeError for other images or matrices.
    """
    settings = settings or Settings()
    gray_a, gray_b = _gray(image_a), _gray(image_b)
    if gray_a.shape != gray_b.shape:
        raise ShapeError(f"images of one size are expected, got {gray_a.shape} and {gray_b.shape}; resize one")
    found = match_keypoints(gray_a, gray_b, fast_keypoints(gray_a), settings=settings)
    usable = np.isfinite(found.cost)
    if isinstance(fundamental, str):
        fundamental = estimate_fundamental(found.xy_a[usable], found.xy_b[usable], seed=seed)
    if fundamental is not None:
        usable &= line_distance(_checked(fundamental), found.xy_a, found.xy_b) <= epipolar_filter_px
        found = match_keypoints(gray_a, gray_b, found.xy_a, fundamental=fundamental, settings=settings)
    usable &= comes_back(gray_a, gray_b, found, fundamental=fundamental, settings=settings)
    flow, valid = np.zeros((2, *gray_a.shape), np.float32), np.zeros(gray_a.shape, bool)
    x, y = found.xy_a[usable].T
    valid[y, x] = True
    flow[:, y, x] = (found.xy_b - found.xy_a)[usable].T
    return flow, valid


def fast_keypoints(gray: np.ndarray, *, block: int = 3, threshold: int = 5) -> np.ndarray:
    """Return the strongest FAST-9 corner of each ``block`` x ``block`` pixels as whole pixels [n, 2], row by row.

    The defaults are the densest detector of the paper's study.
    """
    corners = cv2.FastFeatureDetector.create(threshold, True, cv2.FastFeatureDetector_TYPE_9_16).detect(gray)
    if not corners:
        return np.zeros((0, 2), np.intp)
    xy = np.array([corner.pt for corner in corners]).astype(np.intp)
    strongest = np.argsort([-corner.response for corner in corners], kind="stable")
    blocks = (xy // block)[strongest] @ (1, gray.shape[1])
    return xy[strongest[np.unique(blocks, return_index=True)[1]]]


def match_keypoints(gray_a: np.ndarray, gray_b: np.ndarray, keypoints: np.ndarray, *,
                    fundamental: np.ndarray | None = None, settings: Settings | None = None) -> Matches:
    """Return the matches of ``keypoints`` [n, 2] (whole pixels of a) between two uint8 images [H, W].

    Each level searches one flow per cell, from twice the flow of the level above, and lets flows propagate between
    cells. With ``fundamental`` every match lies on its epipolar line. (Garrigues 2017, section 3)
    """
    settings = settings or Settings()
    pyramid = [(gray_a, gray_b)]
    while len(pyramid) < settings.levels:
        pyramid.append((halved(pyramid[-1][0]), halved(pyramid[-1][1])))
    levels = [_points(LevelPair.of(*images, window=settings.window), keypoints, step, fundamental)
              for step, images in enumerate(pyramid)]
    flow = np.zeros((len(keypoints), 2))
    for points in reversed(levels):
        owner, cell_of, neighbours = cells_of(points.xy, settings.cell)
        cells = points.only(owner)
        cell_flow, cost = cells.walk(np.arange(len(owner)), 2 * flow[owner])
        flow = cells.propagate(cell_flow, cost, neighbours, rounds=settings.rounds)[cell_of]
    xy_b, cost = levels[0].finish(flow)
    return Matches(xy_a=keypoints, xy_b=xy_b, cost=cost)


def _points(level: LevelPair, keypoints: np.ndarray, step: int, fundamental: np.ndarray | None) -> Search:
    """Return the keypoints [n, 2] of the full image, with their lines, in the pair halved ``step`` times."""
    xy = level_pixels(keypoints, step)
    lines = None if fundamental is None else epipolar_lines(scaled_fundamental(fundamental, 0.5**step), xy)
    return Search.of(level, xy, lines)


def level_pixels(keypoints: np.ndarray, level: int) -> np.ndarray:
    """Return the whole pixels [n, 2] nearest to ``keypoints`` [n, 2] in the image halved ``level`` times."""
    return np.rint((keypoints + 0.5) * 0.5**level - 0.5).astype(np.intp)


def comes_back(gray_a: np.ndarray, gray_b: np.ndarray, found: Matches, *, fundamental: np.ndarray | None,
               settings: Settings) -> np.ndarray:
    """Return bool [n]: True where the match of the match is the keypoint, within 1 px."""
    size = np.array(gray_b.shape[::-1])
    there = np.clip(np.rint(found.xy_b), 0, size - 1).astype(np.intp)
    back = match_keypoints(gray_b, gray_a, there, settings=settings,
                           fundamental=None if fundamental is None else fundamental.T)
    away = np.linalg.norm(found.xy_b - there + back.xy_b - found.xy_a, axis=1)
    return np.isfinite(found.cost) & np.isfinite(back.cost) & (away <= COMES_BACK_PX)


def _gray(image: np.ndarray) -> np.ndarray:
    """Return the luminance of an RGB or grey uint8 image."""
    if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if image.dtype != np.uint8 or image.ndim != 2:
        raise ShapeError(f"uint8 images [H, W, 3] or [H, W] are expected, got {image.dtype} {image.shape}")
    return image


def _checked(fundamental: np.ndarray) -> np.ndarray:
    """Return the matrix; ShapeError unless it is finite, 3x3 and not zero."""
    if fundamental.shape != (3, 3) or not np.isfinite(fundamental).all() or not fundamental.any():
        raise ShapeError(f"a finite 3x3 fundamental matrix is expected, got shape {fundamental.shape}")
    return fundamental
