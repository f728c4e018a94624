"""The footage of a fit: examined, refused where it cannot teach, made ready, and remembered for the next start."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from egoflow.config import DataConfig
from egoflow.console import note
from egoflow.data.cameras import write_camera
from egoflow.data.cleaned import Cleaned
from egoflow.data.files import new_folder, read_json, remove_leftovers, write_json
from egoflow.data.formats import read_mask, write_mask
from egoflow.data.open import FrameSlice
from egoflow.doctor.diagnosis import VERDICTS, Diagnosis, diagnose
from egoflow.errors import DataError
from egoflow.fit.prepare import Prepared, prepare
from egoflow.report.doctor_page import clip_section, write_page
from egoflow.training.session import open_known, open_sources
from egoflow.types import FrameSource

FILE = "footage.json"
LEARN = "learn"
"""The camera that is asked of the footage itself, whatever the clip brings."""
_STAND_IN = "fov=60"
"""Takes the place of a camera that is not to be read, so that its lens does not straighten what is examined: what is
learnt afterwards says nothing of a lens, and the same frames must be trained on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One shot that is learnt from: its prepared ``clip``, and where its frames lie in the footage as it was given.

    ``clip`` and ``mask`` (what is fixed to the image; "" for nothing) are files of the fit's folder. ``camera`` is how
    the source is opened ("" where it brings its own); ``facts`` is the place of its source in ``Footage.facts``.
    """

    clip: str
    mask: str
    path: str
    number: int
    camera: str
    slice: str
    frames: tuple[int, ...]
    window: tuple[int, int, int, int]
    facts: int

    def source(self, out: Path) -> FrameSource:
        """Open the shot's frames at their own size, cleaned as those that the fit in ``out`` was trained on."""
        data = DataConfig(paths=(self.path,), camera=self.camera or None, frames=self.slice or None)
        whole = open_sources(data)[self.number]
        fixed = read_mask(out / self.mask) if self.mask else None
        return FrameSlice(Cleaned(whole, window=self.window, fixed=fixed), self.frames, joined=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Footage:
    """The shots to learn from, the frame distance ``gap`` to learn with, and the doctor's facts.

    ``facts`` has what ``Diagnosis.json`` says of every source, with its ``camera``: where it comes from ("given",
    "footage", "assumed") and its focal length in pixels.
    """

    shots: tuple[Shot, ...]
    gap: int
    facts: tuple[dict[str, Any], ...]


def gather(paths: Sequence[str], *, camera: str | None, frames: str | None, out: Path) -> Footage:
    """Examine and prepare the clips at ``paths``, or return what was found of them before.

    ``out`` gets ``footage/`` (the doctor's page), ``prepared/`` and ``footage.json``. Raises DataError where no clip
    can teach depth; with others beside it a clip that cannot is named and left out.
    """
    if (out / FILE).exists():
        return read_footage(out)
    remove_leftovers(out)
    given = _STAND_IN if camera == LEARN else camera
    opened = [(path, number, source, is_known and camera != LEARN) for path in paths
              for sources, is_known in [open_known(DataConfig(paths=(path,), camera=given, frames=frames))]
              for number, source in enumerate(sources)]
    diagnoses = [diagnose(source, camera=source.camera if is_known else None) for _, _, source, is_known in opened]
    _write_page(out / "footage", [source for _, _, source, _ in opened], diagnoses)
    _refuse_useless(diagnoses)
    shots: list[Shot] = []
    gaps: list[tuple[int, int]] = []
    facts, useless = [], ""
    for place, ((path, number, source, is_known), diagnosis) in enumerate(zip(opened, diagnoses, strict=True)):
        words = (given or "") if is_known else diagnosis.suggested_camera()
        facts.append(diagnosis.json() | {"camera": _camera_facts(diagnosis, is_known, words)})
        if diagnosis.verdict == "cannot":
            note(f"{source.name}: left out: {diagnosis.findings[0].text}")
            continue
        if not is_known:
            source = open_sources(DataConfig(paths=(path,), camera=words, frames=frames))[number]
        try:
            ready = prepare(source, diagnosis, out / "prepared" / f"{place:02d}")
        except DataError as error:
            useless = str(error)
            note(f"{source.name}: left out: {error}")
            continue
        mask = ""
        if diagnosis.fixed is not None and diagnosis.fixed.any():
            mask = f"footage/fixed{place}.png"
            write_mask(out / mask, diagnosis.fixed)
        shots += [Shot(clip=str(clip.relative_to(out)), mask=mask, path=path, number=number, camera=words,
                       slice=frames or "", frames=shown, window=ready.window, facts=place)
                  for clip, shown in zip(ready.clips, ready.shots, strict=True)]
        gaps.append((prepared_gap(diagnosis, ready), ready.frames))
    if not shots:
        raise DataError(useless)
    gap = _common(gaps)
    footage = Footage(shots=tuple(_long_enough(shots, out, gap)), gap=gap, facts=tuple(facts))
    write_camera(out / "camera.json", footage.shots[0].source(out).camera)
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
        count = len(list((out / shot.clip / "image").iterdir()))
        if count > 2 * gap and len(shot.frames) > 2 * gap:
            kept.append(shot)
        else:
            note(f"{shot.path}: a shot of {count} frames is left out: with a frame distance of {gap} it is too short")
    if not kept:
        raise DataError(f"{shots[0].path}: no shot is long enough for a frame distance of {gap}; film longer, or give "
                        f"--set data.gap=1 to 'egoflow train'")
    return kept


def _common(gaps: list[tuple[int, int]]) -> int:
    """Return the gap that most frames ask for, of equal ones the smaller."""
    votes: dict[int, int] = {}
    for gap, frames in gaps:
        votes[gap] = votes.get(gap, 0) + frames
    return min(votes, key=lambda gap: (-votes[gap], gap))


def _refuse_useless(diagnoses: Sequence[Diagnosis]) -> None:
    """Raise DataError where no clip can teach depth, with the first one's reason."""
    if all(diagnosis.verdict == "cannot" for diagnosis in diagnoses):
        first, finding = diagnoses[0], diagnoses[0].findings[0]
        others = "" if len(diagnoses) == 1 else f", nor can the {len(diagnoses) - 1} others"
        raise DataError(f"{first.source}: {VERDICTS['cannot']}{others}: {finding.name}: {finding.text}"
                        + (f"; {finding.remedy}" if finding.remedy else ""))


def _camera_facts(diagnosis: Diagnosis, is_known: bool, words: str) -> dict[str, Any]:
    """Return where a camera comes from and what the footage says of it."""
    if is_known:
        return {"from": "given", "words": words}
    return {"from": "footage" if diagnosis.focal.observable else "assumed", "words": words}


def _write_page(folder: Path, sources: Sequence[FrameSource], diagnoses: Sequence[Diagnosis]) -> None:
    """Write the doctor's page, where it is not there yet."""
    if folder.exists():
        return
    with new_folder(folder) as made:
        write_page(made, [clip_section(made, source, diagnosis, prefix=f"clip{k}")
                          for k, (source, diagnosis) in enumerate(zip(sources, diagnoses, strict=True))])


def read_footage(out: Path) -> Footage:
    """Return what ``footage.json`` of a fit holds."""
    content = read_json(out / FILE)
    for shot in content["shots"]:
        shot |= {"frames": tuple(shot["frames"]), "window": tuple(shot["window"])}
    return Footage(shots=tuple(Shot(**shot) for shot in content["shots"]), gap=content["gap"],
                   facts=tuple(content["facts"]))
