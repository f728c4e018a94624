"""The doctor's page: every clip's verdict with the evidence as pictures, in one folder, without a script."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np

from egoflow.data.files import write_bytes
from egoflow.data.formats import write_image
from egoflow.doctor.diagnosis import VERDICTS, Diagnosis
from egoflow.doctor.pairs import PairReport
from egoflow.doctor.survey import small_image
from egoflow.errors import DataError
from egoflow.inference.flow_colour import flow_colours
from egoflow.report.charts import line_chart
from egoflow.types import FrameSource

SHOWN_FRAMES, ROWS = 6, 160
_RED = np.array((230, 40, 20), np.float32)
_SIGNS = {"fatal": "cannot be mended", "mend": "to mend", "note": "to know"}
STYLE = """
:root { color-scheme: light dark; --ink: #222; --pale: #666; --paper: #fff; --line: #1f77b4; --rule: #ddd }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ddd; --pale: #999; --paper: #161616; --line: #6ab0e6; --rule: #333 }
}
body { font: 15px/1.5 system-ui, sans-serif; margin: 1.5em auto; max-width: 1000px; padding: 0 1em; color: var(--ink);
       background: var(--paper) }
h2 { border-top: 1px solid var(--rule); padding-top: 1em; overflow-wrap: anywhere }
.verdict { font-weight: 600 } .good { color: #2a9d4a } .usable { color: #c98500 } .cannot { color: #d13c32 }
.remedy, figcaption, .about { color: var(--pale) } li { margin: .4em 0 }
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 6px }
img { width: 100%; display: block } figure { margin: 1em 0 0 } figcaption { font-size: 13px }
.chart { width: 100%; height: auto } .chart text { font: 11px system-ui, sans-serif; fill: var(--pale) }
.line { fill: none; stroke: var(--line); stroke-width: 1.5 } .mark { stroke: #d13c32; stroke-dasharray: 3 3 }
.band { fill: var(--line); opacity: .2 }
"""


def write_page(folder: Path, sections: Sequence[str]) -> None:
    """Write ``folder/index.html`` of the clips' sections."""
    head = ("<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' "
            f"content='width=device-width'><title>egoflow doctor</title><style>{STYLE}</style></head><body>"
            "<h1>What this footage can teach</h1>")
    write_bytes(folder / "index.html", ("\n".join([head, *sections]) + "</body></html>\n").encode())


def clip_section(folder: Path, source: FrameSource, diagnosis: Diagnosis, *, prefix: str) -> str:
    """Return one clip's part of a page as HTML; its pictures go into ``folder`` under names with ``prefix``."""
    about, verdict = diagnosis.json(), diagnosis.verdict
    findings = "".join(
        f"<li><b>{escape(finding.name)}</b> ({_SIGNS[finding.severity]}): {escape(finding.text)}"
        + (f"<br><span class='remedy'>{escape(finding.remedy)}</span>" if finding.remedy else "") + "</li>"
        for finding in diagnosis.findings)
    height, width = diagnosis.size
    rate = f" at {about['frames_per_s']:.3g} a second" if about["frames_per_s"] else ""
    return (f"<section><h2>{escape(diagnosis.source)}</h2><p class='verdict {verdict}'>{VERDICTS[verdict]}</p>"
            f"<p class='about'>{about['frames']} frames of {about['height']}x{about['width']}{rate}; to train at "
            f"{height}x{width} with data.gap={diagnosis.gap}</p><ul>{findings}</ul>"
            f"{_strip(folder, source, prefix)}{_charts(diagnosis)}{_motion(folder, source, diagnosis, prefix)}"
            f"{_fixed(folder, diagnosis, prefix)}</section>")


def _strip(folder: Path, source: FrameSource, prefix: str) -> str:
    """Return frames evenly spread over the clip; broken ones are left out."""
    cells = []
    for index in sorted({int(k) for k in np.linspace(0, len(source) - 1, SHOWN_FRAMES)}):
        try:
            image = small_image(source.image(index), rows=ROWS)
        except DataError:
            continue
        cells.append(_figure(folder, f"{prefix}-frame{index}.png", image, f"frame {index}"))
    return f"<div class='strip'>{''.join(cells)}</div>"


def _charts(diagnosis: Diagnosis) -> str:
    """Return what changes over the clip, and how the focal length was found."""
    found, focal = diagnosis.survey, diagnosis.focal
    frames = np.arange(found.count)
    charts = [line_chart(frames[1:], found.change, title="difference to the frame before (red: cuts)", unit="frame",
                         marks=found.cuts) if found.count > 1 else "",
              line_chart(frames, found.brightness, title="mean grey (red: exposure jumps)", unit="frame",
                         marks=found.jumps),
              line_chart(frames, found.blur, title="blur, 0 sharp to 1", unit="frame")]
    if np.isfinite(focal.costs).any():
        words = "observable" if focal.observable else f"not observable: {focal.reason}"
        charts.append(line_chart(focal.asked, focal.costs, title=f"epipolar error by focal length, {words}",
                                 unit="px", band=(focal.low_px, focal.high_px), marks=(focal.focal_px,), log_x=True))
    return "".join(f"<figure>{chart}</figure>" for chart in charts if chart)


def _motion(folder: Path, source: FrameSource, diagnosis: Diagnosis, prefix: str) -> str:
    """Return the flow of one pair in the middle, and what no rigid motion explains of it."""
    group = [pair for pair in diagnosis.pairs if pair.gap == diagnosis.gap]
    if not group:
        return ""
    pair = group[len(group) // 2]
    flow = np.moveaxis(pair.geometry.flow_ab, 2, 0)
    largest = float(np.percentile(np.hypot(*flow), 99)) or 1.0
    words = pair.geometry.reason or f"{pair.movers:.0%} of the matches are off the rigid motion"
    return ("<div class='strip' style='grid-template-columns: repeat(auto-fill, minmax(300px, 1fr))'>"
            + _figure(folder, f"{prefix}-flow.png", flow_colours(flow, largest=largest),
                      f"flow of frames {pair.a} to {pair.b}; full colour: {largest:.1f} of {flow.shape[2]} px")
            + _figure(folder, f"{prefix}-usable.png", _told(source, pair), f"red: not found again; {words}") + "</div>")


def _told(source: FrameSource, pair: PairReport) -> np.ndarray:
    """Return a pair's first frame with what is not found again in red."""
    height, width = pair.geometry.usable.shape
    image = cv2.resize(source.image(pair.a), (width, height), interpolation=cv2.INTER_AREA)
    return _laid_over(image, ~pair.geometry.usable)


def _fixed(folder: Path, diagnosis: Diagnosis, prefix: str) -> str:
    """Return the mean frame with fixed structure in red, where there is some."""
    fixed, where = diagnosis.survey.fixed, diagnosis.fixed
    if where is None or not where.any():
        return ""
    mean = np.repeat((fixed.grey / fixed.count)[..., None], 3, axis=2).astype(np.uint8)
    return _figure(folder, f"{prefix}-fixed.png", _laid_over(mean, where), "the mean frame; red: fixed")


def _laid_over(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return an image uint8 [H, W, 3] with a mask [H, W] in red."""
    return np.where(mask[..., None], 0.4 * image + 0.6 * _RED, image).astype(np.uint8)


def _figure(folder: Path, name: str, image: np.ndarray, caption: str) -> str:
    """Write a picture and return it as HTML."""
    write_image(folder / name, image)
    return f"<figure><img src='{name}' alt='{escape(caption)}'><figcaption>{escape(caption)}</figcaption></figure>"
