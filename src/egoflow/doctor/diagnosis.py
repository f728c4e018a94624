"""A clip examined: what was measured, what is the matter, and the verdict.

``cannot`` teach depth: a finding that no setting mends; ``usable``: with the remedies that are named; else ``good``.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from egoflow.doctor.finding import Finding
from egoflow.doctor.focal import FocalEstimate, asked_pairs, estimate_focal
from egoflow.doctor.intrinsics import assumed_camera, camera_findings, centred, fits, has_square_pixels
from egoflow.doctor.light import is_blurred, light_findings
from egoflow.doctor.motion import MANY_MOVERS, best_gap, is_still, motion_findings
from egoflow.doctor.pairs import (
    GapReport,
    PairReport,
    by_gap,
    sampled_pairs,
    usual_motion,
    usually_unmoved,
    with_camera,
)
from egoflow.doctor.survey import Survey, survey
from egoflow.geometry.camera import Camera
from egoflow.types import FrameSource

Verdict = Literal["good", "usable", "cannot"]
VERDICTS = {"good": "good", "usable": "usable, with what stands below", "cannot": "cannot teach depth"}
"""Each verdict in words."""
FEW, LEAST_FRAMES, LEAST_SIDE = 20, 3, 32
STILL_SHARE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """All that is known of a clip; ``gap`` is the frame distance to train with, ``size`` (height, width) for it."""

    source: str
    survey: Survey
    gaps: tuple[GapReport, ...]
    pairs: tuple[PairReport, ...]
    focal: FocalEstimate
    camera: Camera
    """The one that the pairs were looked at with: a stand-in where none is known."""
    camera_known: bool
    findings: tuple[Finding, ...]
    gap: int
    size: tuple[int, int]
    fixed: np.ndarray | None
    """Where structure is fixed to the image, bool at the size of the pass; None where the scene stands still."""
    bonnet: int | None
    """First row of a part of the vehicle along the lower edge, in rows of the pass."""

    @property
    def verdict(self) -> Verdict:
        """Return the verdict: the worst finding decides."""
        kinds = {finding.severity for finding in self.findings}
        return "cannot" if "fatal" in kinds else "usable" if "mend" in kinds else "good"

    def names(self) -> list[str]:
        """Return the names of what is the matter, notes left out."""
        return [finding.name for finding in self.findings if finding.severity != "note"]

    def shot(self) -> range:
        """Return the frames of the longest shot."""
        return max(self.survey.shots, key=len)

    def suggested_camera(self) -> str:
        """Return what --camera may be where nobody knows it: what the footage suggests, else a phone's."""
        if not self.focal.observable:
            return assumed_camera(self.survey)
        focal = f"{self.focal.focal_px:.1f}"
        return f"{focal},{focal},{float(self.camera.cx):g},{float(self.camera.cy):g}"

    def contradicts_camera(self) -> bool:
        """Say whether the footage shows another focal length than the camera that is given, of square pixels."""
        return (self.camera_known and self.focal.observable and has_square_pixels(self.camera)
                and not fits(self.camera, self.focal))

    def json(self) -> dict[str, Any]:
        """Return everything but the pixels as plain data."""
        found, used = self.survey, next((g for g in self.gaps if g.gap == self.gap), None)
        blur = found.blur[np.isfinite(found.blur)]
        movers = [p.movers for p in self.pairs if p.gap == self.gap and np.isfinite(p.movers)]
        return {
            "source": self.source, "verdict": self.verdict, "frames": found.count, "height": found.height,
            "width": found.width, "frames_per_s": _rounded(found.frames_per_s), "gap": self.gap,
            "size": list(self.size), "findings": [asdict(finding) for finding in self.findings],
            "broken": list(found.broken), "repeats": list(found.repeats), "still": list(found.still),
            "cuts": list(found.cuts),
            "exposure_jumps": list(found.jumps), "blur": _rounded(float(np.median(blur))) if blur.size else None,
            "bars": list(found.bars()), "still_share": _rounded(used.share("still")) if used else None,
            "motion": _rounded(used.motion) if used else None, "parallax": _rounded(used.parallax) if used else None,
            "found_again": _rounded(used.usable) if used else None,
            "movers": _rounded(float(np.median(movers))) if movers else None,
            "fixed_share": None if self.fixed is None else _rounded(float(self.fixed.mean())),
            "focal": self.focal.json()}


def diagnose(source: FrameSource, *, camera: Camera | None, runs: Sequence[range] | None = None) -> Diagnosis:
    """Examine a clip; ``camera`` is what is known of its intrinsics, None where nothing is.

    ``source.camera`` stands in where nothing is known. ``runs`` are the stretches of frames without a gap in names or
    times (``continuous_runs`` of egoflow.data.open), None for all in one. Raises nothing of its own: what cannot be
    read is a finding.
    """
    found = survey(source)
    runs = found.shots if runs is None else unbroken(found.shots, runs)
    whole = camera if camera is not None else centred(source.camera, found.bars())
    pairs, focal = _pairs(source, found, runs, whole, known=camera is not None)
    gaps = tuple(by_gap(pairs))
    longest = max(map(len, runs))
    gap = best_gap(gaps, frames=longest)
    fixed = None if gap is None or is_still(gaps) else _fixed(found, pairs, gap.gap)
    findings = [*length_findings(found, longest=longest), *light_findings(found, fixed=fixed)]
    findings += motion_findings(pairs, gaps, gap, camera_known=camera is not None or focal.observable)
    if any(finding.name == "plane" for finding in findings):
        focal = replace(focal, observable=False, bounded=False, reason="of one plane no two-view geometry can be told")
    findings += camera_findings(camera, focal, found)
    order = {"fatal": 0, "mend": 1, "note": 2}
    return Diagnosis(source=source.name, survey=found, gaps=gaps, pairs=tuple(pairs), focal=focal,
                     camera=whole, camera_known=camera is not None, gap=gap.gap if gap else 1,
                     size=training_size(found.height, found.width),
                     fixed=fixed, bonnet=None if fixed is None else found.fixed.bonnet(),
                     findings=tuple(sorted(findings, key=lambda finding: order[finding.severity])))


def _fixed(found: Survey, pairs: list[PairReport], gap: int) -> np.ndarray | None:
    """Return where structure is fixed to the image, bool at the size of the pass; None where no pair moves."""
    motion, unmoved = usual_motion(pairs, gap=gap), usually_unmoved(pairs, gap=gap)
    if motion is None or unmoved is None:
        return None
    structure = found.fixed.structure(motion, unmoved)
    return np.zeros_like(structure) if is_blurred(found) else structure


def unbroken(shots: Sequence[range], runs: Sequence[range]) -> list[range]:
    """Return the stretches without a cut and without a gap in names or time: training takes no clip across either."""
    return [range(max(shot.start, run.start), min(shot.stop, run.stop)) for shot in shots for run in runs
            if max(shot.start, run.start) < min(shot.stop, run.stop)]


def _pairs(source: FrameSource, found: Survey, runs: Sequence[range], whole: Camera, *, known: bool
           ) -> tuple[list[PairReport], FocalEstimate]:
    """Return reports of pairs and the focal length that they suggest; ``whole`` is a stand-in where none is known.

    Where the camera is not known, or is not the one that they suggest, pairs are judged by that: under a wrong one a
    turn looks like things that move. Where as much moves under the one suggested, it is no better, and nothing is said.
    """
    pairs = sampled_pairs(source, runs, whole, bars=found.bars())
    focal = estimate_focal(pairs, whole)
    if not focal.bounded and len(asked_pairs(pairs, most_movers=1.0)) > focal.pairs:
        every = estimate_focal(pairs, whole, most_movers=1.0)
        focal = every if every.bounded else focal
    if fits(whole, focal) if known else not focal.observable:
        return pairs, focal
    seen = Camera.create(focal.focal_px, focal.focal_px, float(whole.cx), float(whole.cy), height=whole.height,
                         width=whole.width)
    judged = [with_camera(pair, seen) for pair in pairs]
    moving = [pair.movers for pair in judged if np.isfinite(pair.movers)]
    if moving and float(np.median(moving)) >= MANY_MOVERS:
        return pairs, replace(focal, observable=False, bounded=False, reason="too much of what is seen moves by itself")
    return judged, focal


def training_size(height: int, width: int, *, pixels: int = 64 * 192) -> tuple[int, int]:
    """Return the (height, width) to train at: the clip's shape, about so many ``pixels`` (a CPU's), multiples of 32.

    A clip that is smaller than that is enlarged no more than the multiples ask.
    """
    ratio, area = width / height, min(pixels, height * width)
    rows = max(32, round((area / ratio) ** 0.5 / 32) * 32)
    return rows, max(32, round(rows * ratio / 32) * 32)


def length_findings(found: Survey, *, longest: int) -> list[Finding]:
    """Return what is to be said of the frames' size and number, ``longest`` in a row, of broken ones and of cuts."""
    findings = []
    readable = found.count - len(found.broken)
    if min(found.height, found.width) < LEAST_SIDE:
        findings.append(Finding(name="size", severity="fatal", text=f"frames of {found.height}x{found.width} show too "
                                "little", remedy=f"give frames of at least {LEAST_SIDE} pixels a side"))
    if readable < LEAST_FRAMES:
        findings.append(Finding(name="short", severity="fatal", text=f"only {readable} readable frames",
                                remedy="film at least a few seconds"))
    elif longest < LEAST_FRAMES:
        findings.append(Finding(name="short", severity="fatal", text=f"no {LEAST_FRAMES} frames follow one another: "
                                "there is a cut, or a gap in their names or times, wherever one looks",
                                remedy="give the frames without gaps"))
    elif readable < FEW:
        findings.append(Finding(name="short", severity="mend", text=f"only {readable} readable frames: a network will "
                                "learn them by heart", remedy="film at least a few seconds"))
    if found.broken:
        findings.append(Finding(name="broken", severity="note", remedy="they are passed over",
                                text=f"{len(found.broken)} of {found.count} frames cannot be read"))
    if found.cuts:
        shot = max(found.shots, key=len)
        where = ", ".join(map(str, found.cuts[:8])) + (", …" if len(found.cuts) > 8 else "")
        findings.append(Finding(name="cut", severity="mend",
                                text=f"{len(found.shots)} shots: cuts before frame {where}",
                                remedy=f"train on one shot; the longest has {len(shot)} frames"))
    if len(found.still) >= STILL_SHARE * found.count:
        findings.append(Finding(name="pauses", severity="note", text=f"the image stands still in {len(found.still)} of "
                                f"{found.count} frames", remedy="they teach nothing; leave them out with --frames"))
    return findings


def _rounded(value: float) -> float | None:
    """Return a figure to four decimals, None where it is not finite."""
    return round(value, 4) if np.isfinite(value) else None
