"""Pictures for people: paths from above, and depth beside its image and truth."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from egoflow.inference.colour import ColourScale

PALETTE = ((30, 30, 30), (214, 69, 65), (31, 119, 180), (44, 160, 44), (148, 103, 189), (255, 140, 0))


def path_figure(paths: Mapping[str, np.ndarray], *, size: int = 640) -> np.ndarray:
    """Draw camera paths from above as RGB uint8 [size, size, 3].

    Each path is [N, 3] in one unit and one world (x right, z up on the page); the first is drawn thickest. A scale bar
    says how long a round number of units is.
    """
    canvas = np.full((size, size, 3), 255, np.uint8)
    points = np.concatenate([p[:, [0, 2]] for p in paths.values()])
    low, high = points.min(0), points.max(0)
    span = max(float((high - low).max()), 1e-9)
    margin = 0.1 * size
    scale = (size - 2 * margin) / span
    centre = (low + high) / 2

    def pixel(p: np.ndarray) -> np.ndarray:
        xy = (p[:, [0, 2]] - centre) * scale
        return np.stack((size / 2 + xy[:, 0], size / 2 - xy[:, 1]), 1)

    for index, (name, path) in enumerate(paths.items()):
        colour = PALETTE[index % len(PALETTE)]
        line = np.round(pixel(path) * 16).astype(np.int32)
        cv2.polylines(canvas, [line], False, colour, 3 if index == 0 else 2, cv2.LINE_AA, shift=4)
        _text(canvas, name, (12, 24 + 20 * index), colour)
    bar = 10 ** np.floor(np.log10(span / 3))
    left, bottom = 12, size - 16
    cv2.line(canvas, (left, bottom), (left + round(bar * scale), bottom), (0, 0, 0), 2)
    _text(canvas, f"{bar:g}", (left + round(bar * scale) + 6, bottom + 5), (0, 0, 0))
    return canvas


def depth_figure(rows: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray | None]], *, titles: Sequence[str] = (
        "image", "inverse depth, predicted", "inverse depth, true")) -> np.ndarray:
    """Return rows of (image uint8 [H, W, 3], predicted depth [H, W], true depth or None) as one RGB picture.

    Depths share the colours within a row after scaling the prediction by the ratio of medians; unknown truth is grey.
    """
    drawn = []
    for image, prediction, truth in rows:
        known = np.isfinite(truth) & (truth > 0) if truth is not None else None
        factor = np.median(truth[known]) / np.median(prediction[known]) if known is not None and known.any() else 1.0  # type: ignore[index]
        colour = ColourScale(inertia=1.0)
        with np.errstate(divide="ignore"):
            true = None if truth is None else np.where(known, 1 / np.maximum(truth, 1e-9), np.nan)
        tiles = [image] + ([] if true is None else [colour(true)])
        tiles.insert(1, colour(1 / (factor * prediction)))
        drawn.append(np.concatenate(tiles, axis=1))
    picture = np.concatenate(drawn, axis=0)
    banner = np.full((24, picture.shape[1], 3), 255, np.uint8)
    columns = picture.shape[1] // rows[0][0].shape[1]
    for index, title in enumerate(titles[:columns]):
        _text(banner, title, (index * rows[0][0].shape[1] + 6, 17), (0, 0, 0))
    return np.concatenate((banner, picture), axis=0)


def _text(canvas: np.ndarray, text: str, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    """Write text with its base line at ``at`` (x, y)."""
    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
