"""The page of a comparison: its tables, and what every method makes of the same few frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

import numpy as np

from egoflow.data.files import write_bytes
from egoflow.data.formats import write_image
from egoflow.inference.colour import ColourScale
from egoflow.inference.flow_colour import flow_colours
from egoflow.inference.stream import leads_to
from egoflow.report.compare_table import Table
from egoflow.report.scoring import Look, true_flow
from egoflow.types import FlowTruth, FrameSource

SHOWN = 3
"""So many frames of every set of test clips are shown."""
KINDS = ("inv_depth", "flow", "movers")
_HEADS = ("inverse depth", "flow to {}", "what moves by itself")
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1500px; padding: 0 1em; color: #222 }
h2 { margin-top: 2.5em; border-top: 1px solid #ddd; padding-top: 1em }
p.protocol { color: #666; font-size: 13px }
table { border-collapse: collapse } .scroll { overflow-x: auto }
.figures td, .figures th { padding: .25em .7em; text-align: right; border-bottom: 1px solid #e4e4e4 }
.figures { font-size: 14px } .figures td { white-space: nowrap } .figures small { color: #777 }
.pictures { width: 100%; table-layout: fixed } .pictures th:first-child { width: 9em }
.figures td:first-child { text-align: left }
.pictures td, .pictures th { padding: 3px; text-align: left; font: 13px system-ui, sans-serif; vertical-align: top }
.pictures img { width: 100%; display: block; image-rendering: pixelated }
.none { color: #999 }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A frame that is shown: frame ``index`` of source ``number`` of a test, ``name`` the stem of its pictures.

    Its flow leads to frame ``index + gap``.
    """

    number: int
    index: int
    gap: int
    name: str
    title: str


def chosen_frames(test: str, sources: Sequence[FrameSource], *, gap: int) -> list[Shown]:
    """Return the frames that are shown of a test, evenly spread over those of its clips that are scored."""
    # The last frames of a clip have no flow to a later one.
    every = [(number, index) for number, source in enumerate(sources)
             for index in range(0, max(1, len(source) - gap), gap)]
    count = min(SHOWN, len(every))
    picked = [every[(2 * k + 1) * len(every) // (2 * count)] for k in range(count)]
    names = [(sources[number].name, sources[number].frame_name(index)) for number, index in picked]
    return [Shown(number=number, index=index, gap=gap, name=f"{test}-{number}-{frame}", title=f"{clip}, frame {frame}")
            for (number, index), (clip, frame) in zip(picked, names, strict=True)]


def write_truth(folder: Path, shown: Shown, source: FrameSource) -> None:
    """Write the image of a frame and what is truly known of it."""
    truth, image = source.truth(shown.index), source.image(shown.index)
    write_image(folder / f"{shown.name}-image.png", image)
    inverse = None
    if truth.depth is not None and truth.valid_depth is not None:
        with np.errstate(divide="ignore"):
            inverse = np.where(truth.valid_depth, 1 / truth.depth, np.nan)
    known = _true_flow(source, shown)
    movers = None if truth.static is None else (~truth.static).astype(np.float32)
    look = Look(inv_depth=inverse, flow=None if known is None else np.where(known.valid, known.flow_ab, np.nan),
                probability=movers)
    write_look(folder, shown, source, look)


def write_look(folder: Path, shown: Shown, source: FrameSource, look: Look) -> None:
    """Write the pictures of a frame; its flow has the colours of the true one where that is known."""
    pictures = {"inv_depth": None if look.inv_depth is None else ColourScale()(look.inv_depth),
                "flow": None if look.flow is None else
                flow_colours(look.flow, largest=_largest(source, shown, look.flow)),
                "movers": None if look.probability is None else _grey(look.probability)}
    for kind, picture in pictures.items():
        if picture is not None:
            write_image(folder / f"{shown.name}-{kind}.png", picture)


def _true_flow(source: FrameSource, shown: Shown) -> FlowTruth | None:
    """Return the flow of a frame, None where it is not known or the clip ends before."""
    after = shown.index + shown.gap
    return true_flow(source, shown.index, after) if after < len(source) else None


def _largest(source: FrameSource, shown: Shown, flow: np.ndarray) -> float | None:
    """Return how long a flow has full colour: nearly the longest of the true flow, else of this one."""
    truth = _true_flow(source, shown)
    length = np.hypot(*flow) if truth is None else np.hypot(*truth.flow_ab)[truth.valid]
    return float(np.nanpercentile(length, 99)) or None if length.size else None


def _grey(probability: np.ndarray) -> np.ndarray:
    """Return a probability [H, W] as RGB uint8 [H, W, 3], white = moves."""
    return np.repeat((probability.clip(0, 1) * 255).round().astype(np.uint8)[..., None], 3, axis=2)


def write_page(out: Path, *, title: str, tables: Sequence[Table], shown: dict[str, list[Shown]],
               pictures: dict[str, Path]) -> None:
    """Write ``out/index.html``; ``pictures`` are the folders (below ``out``) of each method's pictures by its name.

    Pictures stay files beside the page; a test's table stands above its frames, the truth above the methods.
    """
    parts = [f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{escape(title)}</title>"
             f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>"]
    for table in tables:
        parts.append(_figures(table))
        parts += [_frame(out, frame, pictures) for frame in shown.get(table.name, [])]
    parts.append("<p class='protocol'>Inverse depth: bright is near, each picture in its own range; grey is unknown. "
                 "Flow: the hue is the direction (right is red, down yellow, left blue), white stands still. "
                 "What moves: white.</p></body></html>\n")
    write_bytes(out / "index.html", "\n".join(parts).encode())


def _figures(table: Table) -> str:
    """Return a table of figures as HTML."""
    heads, *rows = table.cells()
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
    # The spread below its mean keeps the table narrow.
    cells = [[escape(cell).replace(" ± ", "<br><small>± ") for cell in row] for row in rows]
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in cells)
    remarks = "".join(f"<p>{escape(remark)}</p>" for remark in table.remarks())
    return (f"<h2>{escape(table.name)}</h2><p class='protocol'>{escape(table.protocol())}</p><div class='scroll'>"
            f"<table class='figures'><tr>{head}</tr>{body}</table></div>{remarks}")


def _frame(out: Path, frame: Shown, pictures: dict[str, Path]) -> str:
    """Return the pictures of one frame: a row for the truth, then one for each method."""
    truth = out / "pictures"
    rows = [f"<tr><td>truth</td>{_cell(out, truth / f'{frame.name}-image.png')}"
            + "".join(_cell(out, truth / f"{frame.name}-{kind}.png") for kind in KINDS) + "</tr>"]
    rows += [f"<tr><td>{escape(name)}</td><td></td>"
             + "".join(_cell(out, folder / f"{frame.name}-{kind}.png") for kind in KINDS) + "</tr>"
             for name, folder in pictures.items()]
    heads = "".join(f"<th>{head}</th>" for head in ("", "image", *_HEADS)).format(leads_to(frame.gap))
    return f"<h3>{escape(frame.title)}</h3><table class='pictures'><tr>{heads}</tr>{''.join(rows)}</table>"


def _cell(out: Path, picture: Path) -> str:
    if not picture.exists():
        return "<td class='none'>none</td>"
    # A path in HTML has slashes on every system.
    return f"<td><img src='{quote(picture.relative_to(out).as_posix())}' alt='{escape(picture.stem)}'></td>"
