"""Findings of light and pixels: blur, exposure, repeated frames, bars, writing and bonnets."""

import numpy as np

from egoflow.doctor.finding import Finding
from egoflow.doctor.survey import Survey

MANY_REPEATS, MANY_JUMPS = 0.03, 0.02
"""Shares of the frames from which on repeats, or jumps of the exposure, are worth a word."""
BLURRED, BLURRIER = 0.6, 0.12
"""Blur of a whole clip that leaves little to match; blur above the clip's median that makes a frame a blurred one."""
MANY_BLURRED = 0.1


def light_findings(found: Survey, *, fixed: np.ndarray | None) -> list[Finding]:
    """Return what is to be said of light and pixels.

    ``fixed`` bool [h, w] is where structure is fixed to the image, None where the scene stands still: then nothing is
    told to be fixed or repeated.
    """
    findings = [*_exposure(found), *_blur(found)]
    return findings if fixed is None else [*_repeats(found), *_fixed(found, fixed), *findings]


def _repeats(found: Survey) -> list[Finding]:
    """Return the finding of frames that repeat the one before."""
    share = len(found.repeats) / max(found.count, 1)
    if share < MANY_REPEATS:
        return []
    return [Finding(name="repeats", severity="mend", text=f"{len(found.repeats)} of {found.count} frames repeat the "
                    f"one before ({share:.0%}): the clip was filmed at fewer frames a second than it says",
                    remedy="drop them: ffmpeg -i IN -vf mpdecimate -fps_mode vfr OUT")]


def _fixed(found: Survey, structure: np.ndarray) -> list[Finding]:
    """Return the findings of black bars and of structure that is fixed to the image."""
    findings = []
    bonnet, scale = found.fixed.bonnet(), found.scale()
    top, bottom, left, right = found.bars()
    _, _, height, width = found.window(bonnet=bonnet)
    # One for bars and bonnet: whoever gave two commands one after the other would have each of IN.
    crop = f"ffmpeg -i IN -vf crop={_even(width)}:{_even(height)}:{left}:{top}:exact=1 OUT"
    if top + bottom + left + right:
        findings.append(Finding(
            name="letterbox", severity="mend", text=f"plain bars that never change: {top} rows at the top, {bottom} at "
            f"the bottom, {left} columns at the left, {right} at the right",
            remedy=f"cut them off: {crop}; cx, cy less {left}, {top}"))
    if bonnet is not None:
        rows = found.height - round(bonnet * scale)
        findings.append(Finding(
            name="overlay", severity="mend", text=f"a bonnet, or another part of the vehicle, fills the lowest {rows} "
            "rows: it never moves",
            remedy="the crop of the bars cuts it off too" if findings else f"cut it off: {crop}"))
    if structure.any():
        y, x = np.nonzero(structure)
        box = [round(v * scale) for v in (x.min(), x.max() + 1, y.min(), y.max() + 1)]
        findings.append(Finding(
            name="overlay", severity="mend", text=f"writing, a logo or a part of the vehicle stays where it is ("
            f"{structure.mean():.1%} of the image, within columns {box[0]} to {box[1]}, rows {box[2]} to {box[3]})",
            remedy="cut it off with ffmpeg's crop, and say so in the camera's cx, cy"))
    return findings


def _even(size: int) -> int:
    """Return a size that ffmpeg's usual pixel format can have."""
    return size - size % 2


def _exposure(found: Survey) -> list[Finding]:
    """Return the finding of jumps of the exposure."""
    if len(found.jumps) < max(1, MANY_JUMPS * found.count):
        return []
    return [Finding(name="exposure", severity="mend", text=f"the exposure jumps before {len(found.jumps)} frames "
                    f"(first: {found.jumps[0]})", remedy="film with the exposure locked; colour jitter and SSIM "
                    "bear some of it in training")]


def is_blurred(found: Survey) -> bool:
    """Say whether the whole clip is blurred: far things hardly change then, and none can be told to be fixed."""
    known = found.blur[np.isfinite(found.blur)]
    return known.size > 0 and float(np.median(known)) > BLURRED


def _blur(found: Survey) -> list[Finding]:
    """Return the finding of blur, of the whole clip or of some frames."""
    known = found.blur[np.isfinite(found.blur)]
    if known.size == 0:
        return []
    usual = float(np.median(known))
    if is_blurred(found):
        return [Finding(name="blur", severity="mend", text=f"the images are blurred ({usual:.2f} of 1)",
                        remedy="film with more light, a shorter exposure or a clean lens")]
    share = float((known > usual + BLURRIER).mean())
    if share < MANY_BLURRED:
        return []
    return [Finding(name="blur", severity="mend", text=f"{share:.0%} of the frames are more blurred than the rest",
                    remedy="film with a shorter exposure, or move more evenly")]
