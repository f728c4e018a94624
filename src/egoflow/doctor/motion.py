"""Findings of how the camera and the scene move, and the distance of frames to train with."""

from collections.abc import Sequence

import numpy as np

from egoflow.doctor.finding import Finding
from egoflow.doctor.pairs import GapReport, PairReport, longer_side
from egoflow.geometry.two_view import MIN_PARALLAX_PX, rotation_only

PARALLAX = 0.008
"""Upper quartile of what rotation leaves of the flow, as a share of the longer side, from which on depth is well seen.
"""
LEAST_PARALLAX = 0.0015
USABLE = 0.45
"""Share of the pixels that must be found again between two frames that are to teach."""
HALF = 0.5
"""Frames farther apart than those that are to teach tell what moves where so much of them is found again, and where so
many of the pairs are left."""
LOST = 0.15
"""Less than this share found again teaches nothing."""
MOST, NEARLY_ALL, LEAST_PAIRS = 0.6, 0.9, 3
"""Share of the pairs from which on a fault is that of the clip, or the camera still; pairs that can tell."""
MANY_MOVERS, MOSTLY_MOVERS = 0.15, 0.4
TURN_SHARE = 0.05
"""Share of the flow that a turn may leave unexplained: the error of long flows."""
PLAUSIBLE = np.geomspace(0.42, 1.6, 10)
"""Focal lengths, in longer sides of the image, at which a turn is tried where the camera is not known."""


def best_gap(gaps: Sequence[GapReport], *, frames: int) -> GapReport | None:
    """Return the nearest distance that shows enough parallax, else the one that shows most; None without pairs.

    Three frames so far apart must fit into the longest shot, of ``frames`` frames.
    """
    fitting = [gap for gap in gaps if 2 * gap.gap < frames and gap.pairs >= LEAST_PAIRS] or list(gaps[:1])
    # Before anything is found again there is no motion to read.
    seen = [gap for gap in fitting if gap.usable >= USABLE] or fitting[:1]
    enough = [gap for gap in seen if gap.parallax >= PARALLAX]
    return enough[0] if enough else max(seen, key=lambda gap: gap.parallax, default=None)


def is_still(gaps: Sequence[GapReport]) -> bool:
    """Say whether the image stands still at every distance that could be looked at, in nearly all pairs."""
    seen = [gap for gap in gaps if gap.usable >= USABLE]
    return bool(seen) and all(gap.share("still") >= NEARLY_ALL for gap in seen)


def motion_findings(pairs: Sequence[PairReport], gaps: Sequence[GapReport], gap: GapReport | None, *,
                    camera_known: bool) -> list[Finding]:
    """Return what is to be said of how the camera and the scene move."""
    if gap is None:
        return []
    if is_still(gaps):
        return [Finding(name="static", severity="fatal", text="the camera stands still: between frames up to "
                        f"{max(g.gap for g in gaps)} apart nothing but noise, light and other things move",
                        remedy="film while the camera moves; a still camera sees no parallax")]
    moving = [pair for pair in pairs if pair.gap == gap.gap and pair.geometry.fault not in ("matches", "still")]
    if not moving:
        return [Finding(name="texture", severity="fatal", text="too little in the images can be found again: of "
                        f"{gap.pairs} pairs of frames none shows a motion", remedy="film something with structure, in "
                        "light, with a clean lens")]
    findings = []
    turning = [pair for pair in moving if turns_only(pair, camera_known=camera_known)]
    if len(turning) >= MOST * len(moving):
        return [Finding(name="rotation", severity="fatal", text="the camera only turns: one rotation explains "
                        f"{len(turning)} of {len(moving)} pairs of frames, and a turn shows no depth",
                        remedy="move the camera sideways or forwards while filming")]
    planes = sum(pair.geometry.fault == "plane" for pair in moving)
    if planes >= MOST * len(moving):
        return [Finding(name="plane", severity="fatal", text=f"one plane explains {planes} of {len(moving)} pairs of "
                        "frames: its motion and its depth cannot be told apart",
                        remedy="film a scene with depth: things before and behind each other")]
    unexplained = [pair for pair in moving if pair.geometry.fault in ("rigid", "essential") and pair.usable >= USABLE]
    shares = [pair.movers for pair in moving if np.isfinite(pair.movers)]
    movers = float(np.median(shares)) if shares else 0.0
    if len(unexplained) >= 0.5 * len(moving) or movers >= MOSTLY_MOVERS:
        return [Finding(name="movers", severity="fatal", text="most of what is seen moves by itself: no one rigid "
                        f"motion explains {len(unexplained)} of {len(moving)} pairs of frames ({movers:.0%} of the "
                        "pixels off it elsewhere)", remedy="film a scene of which most stands still")]
    share, apart = most_movers(pairs, gaps, gap)
    if share >= MANY_MOVERS:
        findings.append(Finding(name="movers", severity="mend", text=f"about {share:.0%} of the pixels move by "
                                f"themselves, between frames {apart} apart", remedy="use a method that leaves them "
                                "out: joint"))
    return [*findings, *_parallax_findings(gap)]


def most_movers(pairs: Sequence[PairReport], gaps: Sequence[GapReport], chosen: GapReport) -> tuple[float, int]:
    """Return the largest share of movers over the chosen distance and those at which enough is found again, and where.

    What drifts slowly stays within the tolerance between neighbours, and leaves it as frames lie farther apart; what
    stands still does not.
    """
    found = [(0.0, 1)]
    most = 0
    for gap in gaps:
        seen = [pair for pair in pairs if pair.gap == gap.gap and np.isfinite(pair.movers)]
        most = max(most, len(seen))
        # Frames that lost sight of each other earlier are not compared: few pairs are those of one odd moment.
        told = len(seen) >= HALF * most and np.median([pair.usable for pair in seen] or [0.0]) >= HALF
        if seen and (told or gap == chosen):
            found.append((float(np.median([pair.movers for pair in seen])), gap.gap))
    return max(found)


def _parallax_findings(gap: GapReport) -> list[Finding]:
    """Return what is to be said of parallax and of the distance of frames."""
    findings = []
    if gap.usable < USABLE:
        findings.append(Finding(name="fast", severity="fatal" if gap.usable < LOST else "mend", text="the image "
                                f"moves too far between frames: {gap.usable:.0%} of a frame is found again in the next",
                                remedy="film slower, or at more frames a second"))
    elif gap.parallax < LEAST_PARALLAX:
        findings.append(Finding(name="parallax", severity="fatal", text="hardly any parallax: what rotation leaves of "
                                f"the flow is {gap.parallax:.2%} of the image's longer side, over {gap.gap} frames",
                                remedy="move the camera farther, or nearer to the scene"))
    elif gap.parallax < PARALLAX / 2:
        findings.append(Finding(name="parallax", severity="mend", text=f"little parallax: {gap.parallax:.2%} of the "
                                f"image's longer side over {gap.gap} frames", remedy="move the camera farther"))
    return findings


def turns_only(pair: PairReport, *, camera_known: bool) -> bool:
    """Say whether a rotation alone explains a pair, for the known camera or for some plausible one.

    What it leaves must be less than what counts as parallax, or than errors of a flow as long as this one.
    """
    side = longer_side(pair.camera)
    limit = max(MIN_PARALLAX_PX, min(TURN_SHARE * pair.geometry.motion_px, PARALLAX * side))
    if camera_known:
        return pair.geometry.parallax_px < limit
    centre = np.array([float(pair.camera.cx), float(pair.camera.cy)])
    for share in PLAUSIBLE:
        focal = share * side
        rays_a, rays_b = ((xy - centre) / focal for xy in (pair.xy_a, pair.xy_b))
        if len(rays_a) and np.quantile(rotation_only(rays_a, rays_b)[1], 0.75) * focal < limit:
            return True
    return False
