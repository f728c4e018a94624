"""Pictures for people: paths from above, depth beside its image and truth, flow beside its truth and errors."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from egoflow.inference.colour import ColourScale
from egoflow.inference.flow_colour import ERROR_EDGES_PX, error_colours, error_legend, flow_colours, flow_legend

PALETTE = ((40, 40, 40), (214, 69, 65), (31, 119, 180), (44, 160, 44), (148, 103, 189), (255, 140, 0))
_GRID, _INK, _PALE = (228, 228, 228), (0, 0, 0), (110, 110, 110)
_TILE = 320
"""Pictures narrower than this are enlarged, or their titles would not fit above them."""
_GAP = 6
_WHEEL = 81
_LINE = 22


def path_figure(paths: Mapping[str, np.ndarray], *, size: int = 720, unit: str = "units") -> np.ndarray:
    """Draw camera paths from above as RGB uint8 [size, size, 3].

    Each path is [N, 3] in one unit and one world (x to the right, z up the page); the first is drawn widest, below the
    others. Rings mark where each begins, dots where it ends; the grid's step stands below.
    """
    points = np.concatenate([path[:, [0, 2]] for path in paths.values()])
    low, high = points.min(0), points.max(0)
    legend = _LINE * (len(paths) + 1) + 16
    span = max(float((high - low).max()), 1e-9)
    scale = (size - legend - 3 * _LINE) / span
    centre, middle = (low + high) / 2, np.array([size / 2, (size + legend - _LINE) / 2])
    canvas = np.full((size, size, 3), 255, np.uint8)
    step = _round_step(span / 4)
    _grid(canvas, step * scale, middle + (centre * [-1, 1]) * scale, top=legend)
    for index, path in enumerate(paths.values()):
        xy = middle + (path[:, [0, 2]] - centre) * [scale, -scale]
        _path(canvas, xy, PALETTE[index % len(PALETTE)], width=6 if index == 0 else 2)
    _text(canvas, "camera paths from above", (12, 20), _INK)
    for index, name in enumerate(paths):
        y = 20 + _LINE * (index + 1)
        cv2.line(canvas, (14, y - 5), (44, y - 5), PALETTE[index % len(PALETTE)], 6 if index == 0 else 2, cv2.LINE_AA)
        _text(canvas, name, (54, y), _INK)
    _text(canvas, f"grid: {step:g} {unit}    ring: begin, dot: end", (12, size - 10), _PALE)
    return canvas


def _round_step(value: float) -> float:
    """Return the largest of 1, 2 and 5 times a power of ten that is not above ``value``."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(power * max(m for m in (1, 2, 5) if m * power <= value * (1 + 1e-9)))


def _grid(canvas: np.ndarray, step_px: float, origin: np.ndarray, *, top: int) -> None:
    """Draw lines ``step_px`` apart through ``origin`` (x, y) below the row ``top``."""
    size = canvas.shape[0]
    for x in np.arange(origin[0] % step_px, size, step_px):
        cv2.line(canvas, (round(x), top), (round(x), size - _LINE - 8), _GRID, 1)
    for y in np.arange(origin[1] % step_px, size - _LINE - 8, step_px):
        if y >= top:
            cv2.line(canvas, (0, round(y)), (size - 1, round(y)), _GRID, 1)


def _path(canvas: np.ndarray, xy: np.ndarray, colour: tuple[int, int, int], *, width: int) -> None:
    """Draw one path of points [N, 2] with its begin and end."""
    fixed = np.round(xy * 16).astype(np.int32)
    cv2.polylines(canvas, [fixed], False, colour, width, cv2.LINE_AA, shift=4)
    begin, end = (tuple(int(v) for v in fixed[i]) for i in (0, -1))
    cv2.circle(canvas, begin, (4 + width) * 16, colour, 2, cv2.LINE_AA, shift=4)
    cv2.circle(canvas, end, (3 + width // 2) * 16, colour, -1, cv2.LINE_AA, shift=4)


def depth_figure(rows: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray | None]], *, titles: Sequence[str] = (
        "image", "predicted inverse depth", "true inverse depth")) -> np.ndarray:
    """Return rows of (image uint8 [H, W, 3], predicted depth [H, W], true depth or None) as one RGB picture.

    Depths of a row share their colours after the prediction is scaled by the ratio of medians; unknown truth is grey.
    """
    factor = max(1, -(-_TILE // rows[0][0].shape[1]))
    tiles = [[np.kron(tile, np.ones((factor, factor, 1), np.uint8)) for tile in _row(*row)] for row in rows]
    drawn = [np.concatenate([_margin(tile) for tile in row], axis=1) for row in tiles]
    width = drawn[0].shape[1]
    head, foot = (np.full((_LINE + 4, width, 3), 255, np.uint8) for _ in range(2))
    column = width // len(tiles[0])
    for index, title in enumerate(titles[:len(tiles[0])]):
        _text(head, title, (index * column + _GAP // 2, 18), _INK)
    _colour_bar(foot, (column + _GAP // 2, 8), length=min(column // 2, 200))
    if len(tiles[0]) > 2:
        _text(foot, "grey: unknown (sky)", (2 * column + _GAP // 2, 18), _PALE)
    return np.concatenate([head, *drawn, foot], axis=0)


def flow_figure(truth: np.ndarray, valid: np.ndarray, flows: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return a row (truth, flow, error) for each named flow as one RGB picture, with the legend of its colours below.

    ``truth`` [2, H, W] with ``valid`` bool [H, W]; ``flows`` name -> the same. All flows share their colours: nearly
    the longest true one has full colour, longer ones are darker. Unknown pixels are black.
    """
    largest = float(np.percentile(np.hypot(*truth)[valid], 99)) or 1.0 if valid.any() else 1.0
    factor = max(1, -(-_TILE // truth.shape[2]))
    rows = []
    for name, (flow, answers) in flows.items():
        both = valid & answers
        mean = np.hypot(*(flow - truth))[both].mean() if both.any() else np.nan
        tiles = (flow_colours(truth, valid, largest=largest), flow_colours(flow, answers, largest=largest),
                 error_colours(flow, truth, both))
        drawn = [_margin(np.kron(tile, np.ones((factor, factor, 1), np.uint8))) for tile in tiles]
        head = np.full((_LINE + 4, 3 * drawn[0].shape[1], 3), 255, np.uint8)
        for index, title in enumerate(("truth", name, f"error, mean {mean:.3g} px")):
            _text(head, title, (index * drawn[0].shape[1] + _GAP // 2, 18), _INK)
        rows += [head, np.concatenate(drawn, axis=1)]
    return np.concatenate([*rows, _flow_legends(rows[0].shape[1], largest=largest)], axis=0)


def _flow_legends(width: int, *, largest: float) -> np.ndarray:
    """Return the wheel of directions and the scale of errors side by side, ``width`` pixels wide."""
    wheel, bar = flow_legend(_WHEEL), error_legend(min(2 * width // 5, 400), 12)
    canvas = np.full((_WHEEL + 2 * _GAP, width, 3), 255, np.uint8)
    canvas[_GAP:_GAP + _WHEEL, _GAP:_GAP + _WHEEL] = wheel
    _text(canvas, f"rim: {largest:.3g} px", (_WHEEL + 3 * _GAP, _WHEEL // 2), _PALE)
    _text(canvas, "black: unknown", (_WHEEL + 3 * _GAP, _WHEEL // 2 + _LINE), _PALE)
    x, y = 2 * width // 3 - bar.shape[1] // 3, 2 * _GAP
    canvas[y:y + bar.shape[0], x:x + bar.shape[1]] = bar
    step = bar.shape[1] / (len(ERROR_EDGES_PX) + 1)
    for place, edge in enumerate(ERROR_EDGES_PX, start=1):
        if place % 2:
            _text(canvas, f"{edge:.2g}", (round(x + place * step) - 8, y + bar.shape[0] + 16), _PALE)
    _text(canvas, "px; blue: within 3 px or 5 %", (x, y + bar.shape[0] + 16 + _LINE), _PALE)
    return canvas


def _row(image: np.ndarray, prediction: np.ndarray, truth: np.ndarray | None) -> list[np.ndarray]:
    """Return the tiles of one frame in the colours of its truth, where there is one."""
    colour = ColourScale(inertia=1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        if truth is None:
            return [image, colour(1 / prediction)]
        known = np.isfinite(truth) & (truth > 0)
        use = known & np.isfinite(prediction)
        factor = np.median(truth[use]) / np.median(prediction[use]) if use.any() else 1.0
        true = colour(np.where(known, 1 / truth, np.nan))
        return [image, colour(1 / (factor * prediction)), true]


def _margin(tile: np.ndarray) -> np.ndarray:
    """Return the tile with white around it."""
    return cv2.copyMakeBorder(tile, _GAP // 2, _GAP // 2, _GAP // 2, _GAP // 2, cv2.BORDER_CONSTANT,
                              value=(255, 255, 255))


def _colour_bar(canvas: np.ndarray, at: tuple[int, int], *, length: int) -> None:
    """Draw the colours from far to near, with these words at their ends, from ``at`` (x, y)."""
    x, y = at
    _text(canvas, "far", (x, y + 10), _PALE)
    ramp = np.broadcast_to(np.linspace(0, 1, length)[None], (10, length))
    canvas[y:y + 10, x + 30:x + 30 + length] = ColourScale()(ramp)
    _text(canvas, "near", (x + 36 + length, y + 10), _PALE)


def _text(canvas: np.ndarray, text: str, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    """Write text with its base line at ``at`` (x, y)."""
    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.48, colour, 1, cv2.LINE_AA)
