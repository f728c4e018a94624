"""The clips of a fit as the doctor sees them: examined one at a time, with the camera that each is to be read with."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from egoflow.config import DataConfig
from egoflow.console import note
from egoflow.data.files import new_folder
from egoflow.data.open import continuous_runs
from egoflow.doctor.diagnosis import VERDICTS, Diagnosis, diagnose
from egoflow.errors import DataError
from egoflow.report.doctor_page import clip_section, write_page
from egoflow.training.session import WORLD, open_known


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """Clip ``number`` of those at ``path``, as the doctor saw it; ``facts`` are its diagnosis as plain data."""

    path: str
    number: int
    is_known: bool
    facts: dict[str, Any]
    diagnosis: Diagnosis

    @property
    def shape(self) -> tuple[int, ...]:
        """Return height and width of the frames, and the widths of the bars around the picture."""
        found = self.diagnosis.survey
        return found.height, found.width, *found.bars()


def examine(paths: Sequence[str], *, camera: str | None, learn: bool, frames: str | None, folder: Path
            ) -> list[Examined]:
    """Examine clip by clip, and write the doctor's page into ``folder`` where it is not there yet.

    However many videos there are, one or two are open at a time. One that cannot be opened is named and left out,
    unless no other is left.
    """
    if missing := next((path for path in paths if not path.startswith(WORLD) and not Path(path).exists()), None):
        raise DataError(f"{missing}: no such file or folder")
    found: list[Examined] = []
    sections, wrong = [], ""
    with nullcontext() if folder.exists() else new_folder(folder) as page:
        for path in paths:
            try:
                sources, is_known = open_known(DataConfig(paths=(path,), camera=camera, frames=frames))
            except DataError as error:
                if len(paths) == 1:
                    raise
                note(f"left out: {error}")
                wrong = wrong or str(error)
                continue
            for number, source in enumerate(sources):
                known = is_known and not learn
                diagnosis = diagnose(source, camera=source.camera if known else None,
                                     runs=continuous_runs(source))
                if page is not None:
                    sections.append(clip_section(page, source, diagnosis, prefix=f"clip{len(found)}"))
                # The flow of its pairs is most of what a diagnosis holds, and is not asked for again.
                # A camera that is found is for this clip alone: its neighbours may be of another size.
                own = Path(path, source.name)
                alone = not known and len(sources) > 1 and own.exists()
                found.append(Examined(path=str(own) if alone else path, number=0 if alone else number, is_known=known,
                                      facts=diagnosis.json(),
                                      diagnosis=replace(diagnosis, pairs=())))
        if not found:
            raise DataError(f"none of the {len(paths)} sources can be opened; the first: {wrong}")
        if page is not None:
            write_page(page, sections)
    return found


def refuse_useless(clips: Sequence[Examined]) -> None:
    """Raise DataError where no clip can teach depth, with the first one's reason."""
    if all(clip.diagnosis.verdict == "cannot" for clip in clips):
        first = clips[0].diagnosis
        finding = first.findings[0]
        others = "" if len(clips) == 1 else f", nor can the {len(clips) - 1} others"
        raise DataError(f"{first.source}: {VERDICTS['cannot']}{others}: {finding.name}: {finding.text}"
                        + (f"; {finding.remedy}" if finding.remedy else ""))


def camera_facts(clip: Examined, examined: Sequence[Examined], *, given: str) -> dict[str, Any]:
    """Return where a clip's camera comes from, and the words for it.

    Where a clip does not show its focal length another one of its shape may: such clips are mostly of one camera.
    """
    if clip.is_known:
        return {"from": "given", "words": given}
    if clip.diagnosis.focal.observable:
        return {"from": "footage", "words": clip.diagnosis.suggested_camera()}
    others = [other.diagnosis for other in examined if not other.is_known and other.diagnosis.focal.observable
              and other.shape == clip.shape]
    if others:
        best = min(others, key=lambda other: other.focal.high_px / other.focal.low_px)
        return {"from": "another clip", "words": best.suggested_camera(), "clip": best.source}
    return {"from": "assumed", "words": clip.diagnosis.suggested_camera()}
