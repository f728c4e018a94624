"""The pictures of a report: for each frame the image, and what a prediction folder says of it, in one set of colours.

The colours of a layer span one range over the whole clip, so that a legend holds for every frame.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from egoflow.console import track
from egoflow.data.files import write_bytes
from egoflow.data.formats import read_flow, read_image
from egoflow.errors import DataError
from egoflow.inference.flow_colour import flow_colours
from egoflow.inference.mover_writer import laid_over
from egoflow.inference.stream import leads_to
from egoflow.inference.written_depth import read_inv_depth
from egoflow.types import FrameSource

WIDTH, QUALITY = 640, 85
"""Pictures are at most so wide; JPEG."""
MOST_FRAMES = 400
"""A report shows so many frames at most, evenly spread: it must open on a phone."""
_SAMPLED = 24
_RAMP_STOPS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One kind of picture: ``folder`` of its files, a ``label`` and a ``legend`` as the page's script reads them."""

    key: str
    label: str
    legend: dict[str, Any] | None

    def json(self) -> dict[str, Any]:
        """Return what the page's script is told."""
        return {"label": self.label, "folder": f"frames/{self.key}", "ending": "jpg", "legend": self.legend}


Painter = Callable[[str, np.ndarray], np.ndarray]
"""From a frame's name and its image at the report's size to a picture of that size."""


def shown_frames(prediction: Path, source: FrameSource, frames: Sequence[int]) -> list[int]:
    """Return the frames with depth or flow that a report shows."""
    known = [i for i in frames if any(_file(prediction, kind, source.frame_name(i)) for kind in ("depth", "flow"))]
    if len(known) <= MOST_FRAMES:
        return known
    return [known[int(k)] for k in np.linspace(0, len(known) - 1, MOST_FRAMES)]


def write_layers(folder: Path, prediction: Path, source: FrameSource, frames: Sequence[int]) -> list[Layer]:
    """Write ``folder/frames/KEY/NAME.jpg`` of every layer that the prediction folder has files for."""
    painters = _painters(prediction, [source.frame_name(i) for i in frames])
    for index in track(frames, label="report"):
        try:
            image = _fitted(source.image(index))
        except DataError:
            continue
        name = source.frame_name(index)
        for layer, paint in painters:
            picture = np.ascontiguousarray(paint(name, image)[..., ::-1])
            encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
            write_bytes(folder / "frames" / layer.key / f"{name}.jpg", encoded.tobytes())
    return [layer for layer, _ in painters]


def _painters(prediction: Path, names: list[str]) -> list[tuple[Layer, Painter]]:
    """Return the layers that there are files for, each with what paints it."""
    found: list[tuple[Layer, Painter]] = [(Layer(key="image", label="image", legend=None), lambda name, image: image)]
    if any(_file(prediction, "depth", name) for name in names):
        found.append(_depth_painter(prediction, names))
    if any(_file(prediction, "mover", name) for name in names):
        legend = {"words": "red: moves by itself, as far as can be told"}
        found.append((Layer(key="mover", label="what moves", legend=legend),
                      lambda name, image: _movers(prediction, name, image)))
    flows = [kind for kind in ("flow", "rigid_flow", "residual_flow") if any(_file(prediction, kind, n) for n in names)]
    if flows:
        largest = _largest(prediction, flows, names)
        found += [_flow_painter(prediction, kind, largest) for kind in flows]
    if any(_file(prediction, "confidence", name) for name in names):
        legend = {"words": "white: flow that leads back; black: flow that does not"}
        found.append((Layer(key="confidence", label="confidence of flow", legend=legend),
                      lambda name, image: _grey(prediction, "confidence", name, image)))
    return found


def _file(prediction: Path, kind: str, name: str) -> Path | None:
    """Return the file of a frame in a folder of the prediction, whatever its format, or None."""
    endings = (".png", ".npz", ".flo")
    return next((f for ending in endings if (f := prediction / kind / f"{name}{ending}").is_file()), None)


def _fitted(image: np.ndarray) -> np.ndarray:
    """Return an image of at most WIDTH columns."""
    if image.shape[1] <= WIDTH:
        return image
    rows = max(1, round(image.shape[0] * WIDTH / image.shape[1]))
    return cv2.resize(image, (WIDTH, rows), interpolation=cv2.INTER_AREA)


def _sampled(names: list[str]) -> list[str]:
    return [names[int(k)] for k in np.linspace(0, len(names) - 1, min(_SAMPLED, len(names)))]


def _depth_painter(prediction: Path, names: list[str]) -> tuple[Layer, Painter]:
    """Return inverse depth in one range over the clip, with depths at the ends of its legend."""
    known = [v for name in _sampled(names) if (v := read_inv_depth(prediction, name)) is not None]
    low, high = np.nanpercentile(np.concatenate([v[::4, ::4].ravel() for v in known]), (1, 99))
    high = max(high, low + 1e-9)
    about = json.loads((prediction / "prediction.json").read_text("utf-8"))
    unit = "m" if about.get("scale") == "metric" else "(relative)"
    steps = np.linspace(0, 255, _RAMP_STOPS).astype(np.uint8).reshape(-1, 1)
    ramp = cv2.applyColorMap(steps, cv2.COLORMAP_INFERNO)[:, 0, ::-1]
    legend = {"low": f"{1 / max(low, 1e-9):.3g}", "high": f"{1 / high:.3g} {unit}",
              "colours": [f"rgb({r},{g},{b})" for r, g, b in ramp.tolist()],
              "words": "depth; even steps of its inverse"}

    def paint(name: str, image: np.ndarray) -> np.ndarray:
        value = read_inv_depth(prediction, name)
        if value is None:
            return np.full_like(image, 128)
        value = cv2.resize(value, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        finite = np.isfinite(value)
        level = (np.where(finite, (value - low) / (high - low), 0).clip(0, 1) * 255).astype(np.uint8)
        picture = cv2.applyColorMap(level, cv2.COLORMAP_INFERNO)[..., ::-1]
        return np.where(finite[..., None], picture, 128).astype(np.uint8)

    return Layer(key="depth", label="depth", legend=legend), paint


def _movers(prediction: Path, name: str, image: np.ndarray) -> np.ndarray:
    """Return the image with what moves by itself in red."""
    file = _file(prediction, "mover", name)
    if file is None:
        return image
    return laid_over(image, cv2.resize(read_image(file)[..., 0], image.shape[1::-1]).astype(np.float32) / 255)


def _grey(prediction: Path, kind: str, name: str, image: np.ndarray) -> np.ndarray:
    """Return a grey map as a picture."""
    file = _file(prediction, kind, name)
    return np.full_like(image, 128) if file is None else cv2.resize(read_image(file), image.shape[1::-1])


def _largest(prediction: Path, kinds: list[str], names: list[str]) -> float:
    """Return the length of flow in pixels of the frames that has full colour in all flows: nearly the longest."""
    # Residual flow of a wrong depth would else set the range of all.
    kind = kinds[0]
    files = [file for name in _sampled(names) if (file := _file(prediction, kind, name)) is not None]
    lengths = [np.hypot(*np.moveaxis(flow, 2, 0))[valid][::7] for flow, valid in map(read_flow, files)]
    every = np.concatenate(lengths) if lengths else np.zeros(0)
    return float(np.percentile(every, 99)) or 1.0 if every.size else 1.0


def _flow_painter(prediction: Path, kind: str, largest: float) -> tuple[Layer, Painter]:
    """Return one of the flows in the colours of Middlebury's wheel."""
    label = {"flow": "optical flow", "rigid_flow": "flow of the camera", "residual_flow": "optical less camera's flow"}
    gap = json.loads((prediction / "prediction.json").read_text("utf-8")).get("gap", 1)
    angles = np.linspace(0, 2 * np.pi, 13)
    rim = flow_colours(np.stack((np.cos(angles), np.sin(angles)))[:, None], largest=1.0)[0]
    legend = {"wheel": [f"rgb({r},{g},{b})" for r, g, b in rim.tolist()],
              "words": f"direction on the rim; full colour: {largest:.3g} px to {leads_to(gap)}"}

    def paint(name: str, image: np.ndarray) -> np.ndarray:
        file = _file(prediction, kind, name)
        if file is None:
            return np.zeros_like(image)
        flow, valid = read_flow(file)
        # Made smaller first: colouring takes longer than all else of a report.
        size = image.shape[1::-1]
        small = cv2.resize(flow, size, interpolation=cv2.INTER_AREA)
        seen = cv2.resize(valid.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT) > 0
        return flow_colours(np.moveaxis(small, 2, 0), seen, largest=largest)

    return Layer(key=kind, label=label[kind], legend=legend), paint
