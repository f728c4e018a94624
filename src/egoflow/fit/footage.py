"""The footage of a fit: examined, refused where it cannot teach, made ready, and remembered for the next start."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from zlib import crc32

from egoflow.config import DataConfig
from egoflow.console import note
from egoflow.data.cameras import CAMERA_SOURCES, write_camera
from egoflow.data.cleaned import Cleaned
from egoflow.data.files import needed_json, remove_leftovers, write_json
from egoflow.data.formats import read_mask, write_mask
from egoflow.data.open import FrameSlice, continuous_runs, open_source
from egoflow.doctor.diagnosis import Diagnosis
from egoflow.doctor.intrinsics import WRONG_CAMERA
from egoflow.errors import DataError, WriteError
from egoflow.fit.examine import camera_facts, examine, refuse_useless
from egoflow.fit.prepare import Prepared, prepare
from egoflow.training.session import STAND_IN_CAMERA, open_sources
from egoflow.types import FrameSource

FILE = "footage.json"
LEARN = "learn"
"""The camera that is asked of the footage itself, whatever the clip brings."""


@lru_cache(maxsize=1)
def _opened(path: str, camera: str, frames: str) -> list[FrameSource]:
    """Open what lies at a path; of a folder of many clips each is asked for one after the other."""
    return open_sources(DataConfig(paths=(path,), camera=camera or None, frames=frames or None))


def seen_of(source: FrameSource, frames: Sequence[int]) -> str:
    """Return what tells a clip from another one that took its name: length, size, camera, and a picture's checksum.

    The picture is the middle one of ``frames``, those of a shot, all of which could be read.
    """
    camera = source.camera
    middle = frames[len(frames) // 2]
    # A clip that has become shorter differs by its length.
    picture = crc32(source.image(middle).tobytes()) if middle < len(source) else 0
    focal, axis = (f"{float(x):.6g}, {float(y):.6g}" for x, y in ((camera.fx, camera.fy), (camera.cx, camera.cy)))
    return (f"{len(source)} frames of {camera.height}x{camera.width}, focal lengths {focal} px, axis at {axis}, "
            f"middle frame {picture:08x}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One shot that is learnt from: its prepared ``clip``, and where its frames lie in the footage as it was given.

    ``clip`` and ``mask`` (what is fixed to the image; "" for nothing) are files of the fit's folder. ``camera`` is how
    the source is opened ("" where it brings its own); ``seen`` is what ``seen_of`` said of it then; ``facts`` is its
    place in ``Footage.facts``.
    """

    clip: str
    mask: str
    path: str
    number: int
    camera: str
    slice: str
    seen: str
    frames: tuple[int, ...]
    window: tuple[int, int, int, int]
    facts: int

    def source(self, out: Path) -> FrameSource:
        """Open the shot's frames at their own size, cleaned as those that the fit in ``out`` was trained on.

        Raises DataError where the footage is not what it was.
        """
        sources = _opened(self.path, self.camera, self.slice)
        now = seen_of(sources[self.number], self.frames) if self.number < len(sources) else f"{len(sources)} clips"
        if now != self.seen:
            raise DataError(f"{self.path}: is no longer the footage that {out} was begun with: {now}, not {self.seen}; "
                            f"put it back, or fit it anew into another folder")
        whole = sources[self.number]
        fixed = read_mask(out / self.mask) if self.mask else None
        return FrameSlice(Cleaned(whole, window=self.window, fixed=fixed), self.frames, joined=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Footage:
    """The shots to learn from, the frame distance ``gap`` to learn with, and the doctor's facts.

    ``facts`` has what ``Diagnosis.json`` says of every source, with its ``camera``: where it comes from ("given",
    "footage", "another clip", "assumed") and the words for it.
    """

    shots: tuple[Shot, ...]
    gap: int
    facts: tuple[dict[str, Any], ...]


def gather(paths: Sequence[str], *, camera: str | None, frames: str | None, gap: int | None, out: Path) -> Footage:
    """Examine and prepare the clips at ``paths``, or return what was found of them before.

    ``gap`` is the frame distance to learn with, None for that which most frames ask for.

    ``out`` gets ``footage/`` (the doctor's page), ``prepared/`` and ``footage.json``. Raises DataError where no clip
    can teach depth; with others beside it one that cannot, or cannot be opened, is named and left out.
    """
    if (out / FILE).exists():
        return read_footage(out)
    remove_leftovers(out)
    # A stand-in, so that no lens straightens what is examined: what is learnt afterwards says nothing of a lens, and
    # the same frames must be trained on.
    given = STAND_IN_CAMERA if camera == LEARN else camera
    examined = examine(paths, camera=given, learn=camera == LEARN, frames=frames, folder=out / "footage")
    refuse_useless(examined)
    shots: list[Shot] = []
    gaps: list[tuple[int, int]] = []
    facts, useless = [], ""
    for place, clip in enumerate(examined):
        path, number, diagnosis = clip.path, clip.number, clip.diagnosis
        about = camera_facts(clip, examined, given=given or "")
        words = about["words"]
        facts.append(clip.facts | {"camera": about})
        if diagnosis.verdict == "cannot":
            note(f"{diagnosis.source}: left out: {diagnosis.findings[0].text}")
            continue
        for finding in diagnosis.findings:
            if finding.name == WRONG_CAMERA:
                note(f"{diagnosis.source}: {finding.text}; {finding.remedy}")
        source = _opened(path, words, frames or "")[number]
        try:
            ready = prepare(source, diagnosis, out / "prepared" / f"{place:02d}")
        except WriteError:
            # Left out now, the clip would stay left out once there is space again.
            raise
        except DataError as error:
            useless = str(error)
            note(f"{source.name}: left out: {error}")
            continue
        mask = ""
        if diagnosis.fixed is not None and diagnosis.fixed.any():
            mask = f"footage/fixed{place}.png"
            write_mask(out / mask, diagnosis.fixed)
        shots += [Shot(clip=str(folder.relative_to(out)), mask=mask, path=path, number=number, camera=words,
                       slice=frames or "", seen=seen_of(source, shown), frames=shown, window=ready.window, facts=place)
                  for folder, shown in zip(ready.clips, ready.shots, strict=True)]
        gaps.append((prepared_gap(diagnosis, ready), ready.frames))
    if not shots:
        raise DataError(useless)
    gap = gap or _common(gaps)
    footage = Footage(shots=tuple(_long_enough(shots, out, gap)), gap=gap, facts=tuple(facts))
    write_camera(out / "camera.json", footage.shots[0].source(out).camera,
                 source=CAMERA_SOURCES[facts[footage.shots[0].facts]["camera"]["from"]])
    write_json(out / FILE, asdict(footage))
    return footage


def prepared_gap(diagnosis: Diagnosis, ready: Prepared) -> int:
    """Return the frame distance to train with among prepared frames, from which repeated ones are gone."""
    repeated = ready.dropped.get("repeated", 0)
    return max(1, round(diagnosis.gap * ready.frames / (ready.frames + repeated)))


def _long_enough(shots: Sequence[Shot], out: Path, gap: int) -> list[Shot]:
    """Return the shots that hold a clip of three prepared frames ``gap`` apart; name the others."""
    kept = []
    for shot in shots:
        if holds_clip(open_source(out / shot.clip), gap=gap) and len(shot.frames) > 2 * gap:
            kept.append(shot)
        else:
            note(f"{shot.path}: a shot is left out: too few of its {len(shot.frames)} frames follow one another for a "
                 f"frame distance of {gap}")
    if not kept:
        raise DataError(f"{shots[0].path}: no shot is long enough for a frame distance of {gap}; film longer, or give "
                        f"--set data.gap=1")
    return kept


def holds_clip(source: FrameSource, *, gap: int, frames: int = 3) -> bool:
    """Say whether a source holds ``frames`` frames ``gap`` apart: no clip goes across a pause that was taken out."""
    return max(map(len, continuous_runs(source))) > (frames - 1) * gap


def _common(gaps: list[tuple[int, int]]) -> int:
    """Return the gap that most frames ask for, of equal ones the smaller."""
    votes: dict[int, int] = {}
    for gap, frames in gaps:
        votes[gap] = votes.get(gap, 0) + frames
    return min(votes, key=lambda gap: (-votes[gap], gap))


def read_footage(out: Path) -> Footage:
    """Return what ``footage.json`` of a fit holds."""
    with needed_json(out / FILE) as content:
        for shot in content["shots"]:
            shot |= {"frames": tuple(shot["frames"]), "window": tuple(shot["window"])}
        return Footage(shots=tuple(Shot(**shot) for shot in content["shots"]), gap=content["gap"],
                       facts=tuple(content["facts"]))
