"""What lies beside an exported model: what it was trained on, for which cameras, what it is worth, and what not."""

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from egoflow.config import Run
from egoflow.data.cameras import CAMERA_SOURCES, parse_camera, read_camera
from egoflow.data.files import read_json
from egoflow.errors import DataError
from egoflow.registry import load_method

FILE = "trained_on.json"
TOLERANCE = 1.15
"""A camera whose focal length is so many times that of training is none of its kind."""


def training_facts(run: Run) -> dict[str, Any]:
    """Return what a run is trained on, for a fit to keep as ``FILE``: hash of ``images``, ``focal_shares``."""
    return {"images": data_hash(run), "focal_shares": list(_focal_shares(run))}


def _kept(folder: Path) -> dict[str, Any]:
    """Return what a fit has kept in a run's folder, of which a checkpoint may be given; nothing where none has."""
    return read_json((folder if folder.is_dir() else folder.parent) / FILE)


def trained_cameras(run: Run, folder: Path) -> dict[str, Any]:
    """Return the range of horizontal fields of view in degrees that a run may be used at, and that of its training.

    ``folder`` is the run's: what a fit was trained on need not be there any more.
    """
    shares = _kept(folder).get("focal_shares") or list(_focal_shares(run))
    if not shares:
        return {"trained_fov_deg": None, "fov_deg": [1.0, 175.0]}
    low, high = min(shares), max(shares)
    return {"trained_fov_deg": [_fov(high), _fov(low)], "fov_deg": [_fov(high * TOLERANCE), _fov(low / TOLERANCE)]}


def _focal_shares(run: Run) -> Iterator[float]:
    """Yield the focal lengths of training as shares of the width."""
    words = run.data.camera or ""
    for path in (*(Path(path) / "camera.json" for path in run.data.paths), *([Path(words)] if words else [])):
        try:
            camera = read_camera(path)
        except DataError:
            continue
        yield float(camera.fx) / camera.width
    if words.startswith(("fov", "long_fov")):
        yield float(parse_camera(words, height=run.data.height, width=run.data.width).fx) / run.data.width
    elif words.count(",") == 3:
        # In pixels of footage whose size is not kept here; the axis lies in the middle of nearly every camera's frames.
        fx, _, cx, _ = map(float, words.split(","))
        yield fx / (2 * cx + 1)


def _fov(share: float) -> float:
    return round(2 * math.degrees(math.atan(1 / (2 * share))), 2)


def data_hash(run: Run) -> str:
    """Return a hash of the PNG frames that a run was trained on, which a fit leaves; "not hashed" of other footage."""
    digest, count = hashlib.blake2b(digest_size=16), 0
    for path in run.data.paths:
        for file in sorted((Path(path) / "image").glob("*.png")):
            digest.update(file.read_bytes())
            count += 1
    return f"{digest.hexdigest()} ({count} images)" if count else "not hashed"


def model_card(folder: Path, run: Run, manifest: dict[str, Any]) -> str:
    """Return the card as markdown; ``folder`` is the run's, whose figures it quotes where a fit has left some."""
    figures = read_json(folder / "metrics.json") if folder.is_dir() else {}
    trained = manifest["camera"]["trained_fov_deg"]
    usable = manifest["camera"]["fov_deg"]
    camera = ("not known" if trained is None else f"horizontal field of view {trained[0]:g} to {trained[1]:g} degrees; "
              f"not to be used beyond {usable[0]:g} to {usable[1]:g}"
              + "".join(f"; of {words}" for words in _camera_sources(figures)))
    scale = ("relative: one unknown factor for all depths and translations" if manifest["scale"] != "metric" else
             "metres" + _measured(folder, manifest["metres_per_unit"]))
    supervised = load_method(run.method).method_type.supervised
    lines = [f"# {manifest['what']} of {manifest['method']}", "",
             f"Trained by egoflow {'from true flow' if supervised else 'on unlabelled video, without any truth'}.", "",
             "| | |", "|---|---|",
             f"| file | `{manifest['file']}` ({manifest['format']}) |",
             f"| working size | {manifest['size'][0]}x{manifest['size'][1]}; any size runs, this one was trained |",
             f"| frames | {manifest['gap']} apart in training |", f"| camera | {camera} |", f"| scale | {scale} |",
             f"| training images | {_kept(folder).get('images') or data_hash(run)} |",
             f"| largest difference to torch | {_largest(manifest):.1e} |",
             f"| frames a second on the exporting CPU | {manifest['frames_per_s']['exported']:.1f} (torch "
             f"{manifest['frames_per_s']['torch']:.1f}) |", *_figures(figures), "",
             "## Inputs and outputs", "",
             *(f"- `{name}`: {text}" for name, text in (manifest["inputs"] | manifest["outputs"]).items()), "",
             "## Limits", "",
             "- It knows what its footage showed: other places, other cameras and other light are a guess.",
             "- What moves by itself has no depth of its own in training; its depth is that of things alike.",
             "- The motion that it gives is the network's. The trajectories of `egoflow predict` are solved from depth "
             "and two-view geometry, and better.", "- Not for uses in which a wrong distance can hurt anyone.", "",
             "## Licences", "",
             "egoflow is Apache-2.0. The weights come from the training images whose hash stands above: whoever owns "
             "them decides what may be done with the weights.", ""]
    return "\n".join(lines)


def _camera_sources(figures: dict[str, Any]) -> list[str]:
    """Return where the cameras of a fit come from, in words; a stated field of view alone would seem calibrated."""
    kinds = {shot["camera"]["from"] for shot in figures.get("shots", [])}
    return [words for kind, words in CAMERA_SOURCES.items() if kind in kinds]


def _measured(folder: Path, metres_per_unit: float) -> str:
    """Return how a fit's metres were measured, and the interval of their factor."""
    found = read_json((folder if folder.is_dir() else folder.parent) / "scale.json")
    if not found or found["metres_per_unit"] != metres_per_unit:
        return ""
    ends = "" if found["low"] is None else (f", {found['low'] / metres_per_unit - 1:+.1%} to "
                                            f"{found['high'] / metres_per_unit - 1:+.1%} (95 %)")
    return f", from {found['how']}{ends}"


def _largest(manifest: dict[str, Any]) -> float:
    return max(value for found in manifest["largest_difference"].values() for value in found.values())


def _figures(figures: dict[str, Any]) -> list[str]:
    """Return rows of what a fit says of itself."""
    left = figures.get("unexplained") or {}
    if left.get("chosen") is None:
        return []
    return ["| flow that depth leaves unexplained, between frames twice as far apart as in training | "
            f"{left['chosen']:.3f} (flat depth {left['flat_depth']:.3f}) |"]
