"""Line charts as SVG that follow the page's colours: for pages that must work without a script."""

from collections.abc import Sequence
from html import escape

import numpy as np

WIDTH, HEIGHT = 640, 120
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 8, 18, 18
"""Margins; the left one holds the longest label that most charts have, -1.23e-05, at the pages' 11 px."""


def line_chart(x: np.ndarray, y: np.ndarray, *, title: str, unit: str = "", marks: Sequence[float] = (),
               band: tuple[float, float] | None = None, log_x: bool = False) -> str:
    """Return an SVG of y over x (NaN breaks the line), with dashed ``marks`` and a shaded ``band`` on the x axis."""
    known = np.isfinite(y)
    if not known.any():
        return ""
    place = np.log(x) if log_x else np.asarray(x, np.float64)
    left, right = float(place[0]), float(place[-1])
    low, high = float(np.nanmin(y)), float(np.nanmax(y))
    high = high if high > low else low + 1

    def across(value: float) -> float:
        value = float(np.log(value)) if log_x else value
        return _LEFT + (value - left) / max(right - left, 1e-9) * (WIDTH - _LEFT - _RIGHT)

    def up(value: float) -> float:
        return HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM)

    points, runs = [], []
    for at, value in zip(x, y, strict=True):
        if np.isfinite(value):
            points.append(f"{across(float(at)):.1f},{up(float(value)):.1f}")
        elif points:
            runs, points = [*runs, points], []
    lines = "".join(f"<polyline class='line' points='{' '.join(run)}'/>" for run in [*runs, points] if run)
    shade = "" if band is None else (f"<rect class='band' x='{across(band[0]):.1f}' y='{_TOP}' height='"
                                     f"{HEIGHT - _TOP - _BOTTOM}' width='{across(band[1]) - across(band[0]):.1f}'/>")
    dashes = "".join(f"<line class='mark' x1='{across(m):.1f}' x2='{across(m):.1f}' y1='{_TOP}' "
                     f"y2='{HEIGHT - _BOTTOM}'/>" for m in marks)
    # As many digits as tell both ends apart.
    digits = next((n for n in (3, 4, 5) if f"{high:.{n}g}" != f"{low:.{n}g}"), 6)
    return (f"<svg class='chart' viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{escape(title)}'>"
            f"<text x='{_LEFT}' y='12'>{escape(title)}</text>{shade}{dashes}{lines}"
            f"<text x='{_LEFT - 4}' y='{_TOP + 8}' text-anchor='end'>{high:.{digits}g}</text>"
            f"<text x='{_LEFT - 4}' y='{HEIGHT - _BOTTOM}' text-anchor='end'>{low:.{digits}g}</text>"
            f"<text x='{_LEFT}' y='{HEIGHT - 4}'>{x[0]:.4g}</text>"
            f"<text x='{WIDTH - _RIGHT}' y='{HEIGHT - 4}' text-anchor='end'>{x[-1]:.4g} {escape(unit)}</text></svg>")
