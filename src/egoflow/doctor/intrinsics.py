"""Findings of the camera that is given for a clip, or is not."""

import math
from dataclasses import replace

import numpy as np
import torch

from egoflow.doctor.finding import Finding
from egoflow.doctor.focal import FocalEstimate
from egoflow.doctor.survey import Survey
from egoflow.geometry.camera import Camera

PHONE_FOV_DEG = 65
PLAUSIBLE_FOV_DEG, PLAUSIBLE_RATIO, PLAUSIBLE_CENTRE = (15, 150), 1.25, 0.15
Bars = tuple[int, int, int, int]
"""Widths of plain bars at the top, bottom, left and right, in pixels."""
WRONG_CAMERA = "wrong_camera"
"""The finding of a given camera that cannot be right."""
MISFIT = 1.1
"""A given focal length this many times outside the interval that the footage suggests is wrong."""


def phone_fov(width: int, height: int) -> int:
    """Return the horizontal field of view in degrees of a phone's main camera, held lying or upright."""
    along = math.tan(math.radians(PHONE_FOV_DEG) / 2)
    return round(math.degrees(2 * math.atan(along * min(1.0, width / height))))


def assumed_camera(found: Survey) -> str:
    """Return what --camera may be where nobody knows it: a phone's, which fills what bars leave of a frame."""
    top, bottom, left, right = bars = found.bars()
    height, width = found.height - top - bottom, found.width - left - right
    fov = phone_fov(width, height)
    if not any(bars):
        return f"fov={fov}"
    focal = f"{width / (2 * math.tan(math.radians(fov) / 2)):.1f}"
    x, y = _middle(bars, height=found.height, width=found.width)
    return f"{focal},{focal},{x:g},{y:g}"


def centred(camera: Camera, bars: Bars) -> Camera:
    """Return a stand-in camera with its axis in the middle of what ``bars`` leave of a frame."""
    if not any(bars):
        return camera
    x, y = _middle(bars, height=camera.height, width=camera.width)
    return replace(camera, cx=torch.full_like(camera.cx, x), cy=torch.full_like(camera.cy, y))


def _middle(bars: Bars, *, height: int, width: int) -> tuple[float, float]:
    """Return x and y of the middle of what bars leave of a frame."""
    top, bottom, left, right = bars
    return left + (width - left - right - 1) / 2, top + (height - top - bottom - 1) / 2


def has_square_pixels(camera: Camera) -> bool:
    """Say whether fx and fy are nearly one, as an estimated focal length takes them to be."""
    return 1 / PLAUSIBLE_RATIO <= float(camera.fx) / float(camera.fy) <= PLAUSIBLE_RATIO


def fits(camera: Camera, focal: FocalEstimate) -> bool:
    """Say whether a camera's focal length can be that of an estimate: within its interval and a little more."""
    return not focal.bounded or focal.low_px / MISFIT <= float(camera.fx) <= focal.high_px * MISFIT


def camera_findings(camera: Camera | None, focal: FocalEstimate, found: Survey) -> list[Finding]:
    """Return what is to be said of the intrinsics, given or not."""
    if camera is None:
        if focal.observable:
            text = (f"no camera is given; the footage suggests a focal length of {focal.focal_px:.0f} px "
                    f"({focal.low_px:.0f} to {focal.high_px:.0f})")
            return [Finding(name="no_camera", severity="note", text=text, remedy="calibrate, or take this one")]
        return [Finding(name="no_camera", severity="note", text="no camera is given, and the footage does not show it: "
                        + focal.reason, remedy="give --camera fov=DEGREES (a phone's main camera, held so: "
                        f"{assumed_camera(found)})")]
    fx, fy = float(camera.fx), float(camera.fy)
    fov = 2 * np.degrees(np.arctan(camera.width / (2 * fx)))
    odd = []
    if not PLAUSIBLE_FOV_DEG[0] <= fov <= PLAUSIBLE_FOV_DEG[1]:
        odd.append(f"a field of view of {fov:.0f} degrees")
    if not has_square_pixels(camera):
        odd.append(f"fx / fy = {fx / fy:.2f}")
    off = max(abs(float(camera.cx) / (camera.width - 1) - 0.5), abs(float(camera.cy) / (camera.height - 1) - 0.5))
    if off > PLAUSIBLE_CENTRE:
        odd.append(f"its axis meets the image at column {float(camera.cx):.0f}, row {float(camera.cy):.0f} of "
                   f"{camera.height}x{camera.width}")
    if odd:
        return [Finding(name=WRONG_CAMERA, severity="mend", text=f"the camera is not plausible: {', '.join(odd)}",
                        remedy="give the intrinsics in pixels of this clip's size")]
    if not fits(camera, focal):
        return [Finding(name=WRONG_CAMERA, severity="mend", text=f"the camera's focal length is {fx:.0f} px, but the "
                        f"footage turns as with {focal.focal_px:.0f} px ({focal.low_px:.0f} to {focal.high_px:.0f})",
                        remedy="check --camera: is it of this size of the images, and of this lens?")]
    return []
