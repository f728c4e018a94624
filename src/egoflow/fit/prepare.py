"""Footage made ready for training: shots apart, bars and bonnets cut off, writing painted over, still runs left out.

Every shot becomes a clip folder of its own at working size, which any command reads. The same footage gives the same
bytes, and a shot that is there already is not made again.
"""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from egoflow.console import track
from egoflow.data.cameras import write_camera
from egoflow.data.cleaned import Cleaned, enlarged, painted_over
from egoflow.data.files import new_folder, read_text, write_bytes
from egoflow.data.formats import write_image
from egoflow.data.open import continuous_runs
from egoflow.doctor.diagnosis import Diagnosis
from egoflow.doctor.survey import small_image
from egoflow.errors import ConfigError, DataError
from egoflow.geometry.camera import Camera
from egoflow.types import FrameSource

ROWS = 256
"""Prepared frames have at most so many rows: two-view geometry sees no more."""
LEAST_FRAMES = 12
"""A shot of fewer frames is left out."""
GAP = 10
"""So many numbers are left out where frames are missing: no clip of frames goes across (data/open.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Clip folders of a source, the ``window`` (top, left, height, width) of its frames that they show, and losses.

    ``shots`` are the source's frames of each clip that may be predicted: with the pauses, that are not trained on.
    """

    clips: tuple[Path, ...]
    shots: tuple[tuple[int, ...], ...]
    window: tuple[int, int, int, int]
    frames: int
    dropped: dict[str, int]


def prepare(source: FrameSource, diagnosis: Diagnosis, folder: Path) -> Prepared:
    """Write the shots of ``source`` below ``folder`` (000, 001, …); DataError where no shot is long enough."""
    window, dropped = diagnosis.survey.window(bonnet=diagnosis.bonnet), _dropped(diagnosis)
    clean = Cleaned(source, window=window)
    shots = [[i for i in shot if not any(i in frames for frames in dropped.values())]
             for shot in diagnosis.survey.shots]
    long = [shot for shot in shots if len(shot) >= LEAST_FRAMES]
    shown = [tuple(i for i in shot if i not in dropped["broken"] | dropped["repeated"])
             for shot, kept in zip(diagnosis.survey.shots, shots, strict=True) if len(kept) >= LEAST_FRAMES]
    if not long:
        raise DataError(f"{source.name}: no shot of {LEAST_FRAMES} frames is left after {_words(dropped)}; film longer")
    fixed = None if diagnosis.fixed is None or not diagnosis.fixed.any() else diagnosis.fixed
    clips = []
    for number, shot in enumerate(long):
        clip = folder / f"{number:03d}"
        about = {"source": source.name, "window": list(window), "rows": ROWS,
                 "fixed": None if fixed is None else hashlib.blake2b(fixed.tobytes(), digest_size=8).hexdigest(),
                 "frames": [source.frame_name(i) for i in shot]}
        if clip.exists():
            _refuse_other(clip, about)
        else:
            with new_folder(clip) as made:
                _write_shot(made, clean, shot, _numbers(source, shot, broken=dropped["broken"]),
                            _small_mask(fixed, source.camera, window), about)
        clips.append(clip)
    counts = {why: len(frames) for why, frames in dropped.items() if frames}
    short = sum(len(shot) for shot in shots) - sum(len(shot) for shot in long)
    return Prepared(clips=tuple(clips), shots=tuple(shown), window=window, frames=sum(map(len, long)),
                    dropped=counts | ({"in short shots": short} if short else {}))


def _refuse_other(clip: Path, about: dict[str, Any]) -> None:
    """Raise ConfigError where what lies in a folder was made of something else."""
    try:
        known = json.loads(read_text(clip / "prepared.json"))
    except ValueError:
        known = None
    if known != about:
        raise ConfigError(f"{clip}: holds other frames than those of {about['source']}; remove it, or give "
                          f"another folder")


def _dropped(diagnosis: Diagnosis) -> dict[str, set[int]]:
    """Return the frames that teach nothing, by the reason."""
    found = diagnosis.survey
    broken = set(found.broken)
    return {"broken": broken, "repeated": set(found.repeats) - broken, "still": set(found.still) - broken}


def _words(dropped: dict[str, set[int]]) -> str:
    """Return what was left out in words."""
    return ", ".join(f"{len(frames)} {why} frames" for why, frames in dropped.items() if frames) or "cutting it"


def _small_mask(fixed: np.ndarray | None, whole: Camera, window: tuple[int, int, int, int]) -> np.ndarray | None:
    """Return what is to be painted over, at the size of prepared frames; None where nothing is."""
    if fixed is None:
        return None
    top, left, height, width = window
    cut = enlarged(fixed, height=whole.height, width=whole.width)[top:top + height, left:left + width]
    rows, columns = _prepared_size(height, width)
    mask = cv2.resize(cut.astype(np.uint8), (columns, rows), interpolation=cv2.INTER_AREA) > 0
    return mask if mask.any() else None


def _prepared_size(height: int, width: int) -> tuple[int, int]:
    rows = min(ROWS, height)
    return rows, max(1, round(width * rows / height))


def _numbers(source: FrameSource, shot: Sequence[int], *, broken: Collection[int]) -> list[int]:
    """Return the numbers of a shot's frames: one after the other, but for a gap where frames are missing or broken.

    Repeated frames, which are left out, leave none.
    """
    begins = sorted({*(run.start for run in continuous_runs(source)), *(index + 1 for index in broken)})
    return [number + GAP * bisect_right(begins, index) - GAP for number, index in enumerate(shot)]


def _write_shot(folder: Path, clean: FrameSource, shot: Sequence[int], numbers: Sequence[int],
                mask: np.ndarray | None, about: dict[str, Any]) -> None:
    """Write the frames of one shot as a clip folder under ``numbers``, and in ``prepared.json`` what it is of."""
    rows, columns = _prepared_size(clean.camera.height, clean.camera.width)
    for number, index in zip(numbers, track(shot, label="preparing"), strict=True):
        image = small_image(clean.image(index), rows=rows)
        write_image(folder / "image" / f"{number:06d}.png", image if mask is None else painted_over(image, mask))
    write_camera(folder / "camera.json", clean.camera.resized(height=rows, width=columns))
    time_s = np.asarray(clean.time_s, np.float64)[list(shot)]
    write_bytes(folder / "timestamps.txt", ("\n".join(f"{t:.9f}" for t in time_s) + "\n").encode())
    write_bytes(folder / "prepared.json", (json.dumps(about, indent=1) + "\n").encode())
