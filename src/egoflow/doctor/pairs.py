"""How far the scene moves between frames: pairs of a clip at growing distances, and what motion explains them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from egoflow.console import track
from egoflow.errors import DataError
from egoflow.geometry.camera import Camera
from egoflow.geometry.two_view import (
    PairGeometry,
    consistent,
    dense_flow,
    geometry_from_flow,
    matches,
    on_unit_plane,
    sampson,
    textured,
    working_gray,
)
from egoflow.types import FrameSource

GAPS = (1, 2, 4, 8, 16)
"""Distances in frames that are tried."""
ANCHORS = 16
"""So many frames, evenly spread over the shots, are compared with those after them."""
SMOOTH_PX = 1.0
NOISE_GREY = 2.0
"""Grey levels by which images of one thing differ."""
LOST = 0.3
"""Share of the pixels found again below which no frame farther away is compared."""
BESIDE_BAR = 6
"""Pixels of working size beside a bar that are no part of what is compared."""
OFF_PX, OFF_SHARE = 1.5, 0.1
"""A pixel moves by itself where it is so far off the line on which a rigid motion keeps it, in pixels and as a share of
its flow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairReport:
    """Frames ``a`` and ``b`` of a clip: their geometry at working size, and what of it is seen.

    ``usable`` is the share of pixels whose flow leads back, ``movers`` that of the textured ones among them which no
    rigid motion explains (NaN where none is known). Matches ``xy_a``, ``xy_b`` [n, 2] are in pixels of ``camera``; they
    are taken where there is ``texture``, bool [h, w]. ``unmoved`` bool [h, w]: frame b as it is looks no less like
    frame a than it does along the flow.
    """

    a: int
    b: int
    geometry: PairGeometry
    camera: Camera
    usable: float
    movers: float
    texture: np.ndarray
    unmoved: np.ndarray
    xy_a: np.ndarray
    xy_b: np.ndarray

    @property
    def gap(self) -> int:
        """Return the distance in frames."""
        return self.b - self.a


def sampled_pairs(source: FrameSource, shots: Sequence[range], camera: Camera, *,
                  bars: tuple[int, int, int, int] = (0, 0, 0, 0)) -> list[PairReport]:
    """Return reports of evenly spread frames and those GAPS after them in the shot; broken frames are passed over.

    Plain ``bars`` at the top, bottom, left and right, in pixels of the frames, are no part of what is compared.
    """
    long = [shot for shot in shots if len(shot) > 1]
    frames = [i for shot in long for i in shot[:-1]]
    anchors = sorted({frames[int(k)] for k in np.linspace(0, len(frames) - 1, min(ANCHORS, len(frames)))}
                     if frames else set())
    found = []
    for a in track(anchors, label=f"motion of {source.name}"):
        last = next(shot[-1] for shot in long if a in shot)
        images: dict[int, np.ndarray] = {}
        for b in (a + gap for gap in GAPS if a + gap <= last):
            try:
                for index in (a, b):
                    images.setdefault(index, source.image(index))
            except DataError:
                continue
            found.append(pair_report(a, b, images[a], images[b], camera, bars=bars))
            if found[-1].usable < LOST:
                # What is hardly found again is not found farther away.
                break
    return found


def pair_report(a: int, b: int, image_a: np.ndarray, image_b: np.ndarray, camera: Camera, *,
                bars: tuple[int, int, int, int] = (0, 0, 0, 0)) -> PairReport:
    """Return the report of two RGB uint8 images [H, W, 3] with ``bars`` around them."""
    grey_a = cv2.GaussianBlur(working_gray(image_a), (0, 0), SMOOTH_PX)
    grey_b = same_light(cv2.GaussianBlur(working_gray(image_b), (0, 0), SMOOTH_PX), grey_a)
    flow_ab, flow_ba = dense_flow(grey_a, grey_b), dense_flow(grey_b, grey_a)
    picture = within(bars, camera, *grey_a.shape)
    usable, texture = consistent(flow_ab, flow_ba) & picture, textured(grey_a)
    small = camera.resized(height=grey_a.shape[0], width=grey_a.shape[1])
    geometry = geometry_from_flow(flow_ab, usable, small, texture=texture)
    xy_a, xy_b = matches(flow_ab, usable & texture)
    return PairReport(a=a, b=b, geometry=geometry, camera=small, usable=float(usable.sum() / max(picture.sum(), 1)),
                      movers=_movers(geometry, small, xy_a, xy_b), texture=texture,
                      unmoved=unmoved_pixels(grey_a, grey_b, flow_ab), xy_a=xy_a, xy_b=xy_b)


def within(bars: tuple[int, int, int, int], camera: Camera, height: int, width: int) -> np.ndarray:
    """Return the pixels of a frame of working size between its bars, bool [height, width]; all where it has none.

    Flow is smooth, and takes the border of a bar along: a few pixels more are left out.
    """
    top, bottom, left, right = (round(n * height / camera.height) + BESIDE_BAR if n else 0 for n in bars)
    found = np.zeros((height, width), bool)
    found[top:height - bottom, left:width - right] = True
    return found


def same_light(grey: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return a grey uint8 image with the mean and contrast of another one of the same scene."""
    gain = float(other.std()) / max(float(grey.std()), 1.0)
    shifted = (grey.astype(np.float32) - grey.mean()) * min(max(gain, 0.25), 4.0) + other.mean()
    return np.rint(shifted.clip(0, 255)).astype(np.uint8)


def unmoved_pixels(grey_a: np.ndarray, grey_b: np.ndarray, flow_ab: np.ndarray) -> np.ndarray:
    """Return where uint8 image b fits image a as well without the flow [h, w, 2] as with it, bool [h, w]."""
    height, width = grey_a.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    along = cv2.remap(grey_b, x + flow_ab[..., 0], y + flow_ab[..., 1], cv2.INTER_LINEAR,
                      borderMode=cv2.BORDER_REPLICATE)
    as_it_is, moved = (cv2.absdiff(grey_a, image).astype(np.float32) for image in (grey_b, along))
    return as_it_is <= moved + NOISE_GREY


def _movers(geometry: PairGeometry, camera: Camera, xy_a: np.ndarray, xy_b: np.ndarray) -> float:
    """Return the share of matches [n, 2] that the rigid motion does not explain."""
    if geometry.fault:
        return float("nan")
    focal = float(camera.fx + camera.fy) / 2
    rays = [np.concatenate((on_unit_plane(xy, camera), np.ones((len(xy), 1))), 1) for xy in (xy_a, xy_b)]
    off = np.abs(sampson(geometry.rotation, geometry.direction, *rays)) * focal
    length = np.linalg.norm(xy_b - xy_a, axis=1)
    return float((off > np.maximum(OFF_PX, OFF_SHARE * length)).mean())


def usually_unmoved(reports: Sequence[PairReport], *, gap: int) -> np.ndarray | None:
    """Return where the images of most pairs of one distance that do not stand still are unmoved, bool [h, w]."""
    found = [report.unmoved for report in reports if report.gap == gap and report.geometry.fault != "still"]
    return np.mean(found, axis=0) > 0.5 if found else None


def usual_motion(reports: Sequence[PairReport], *, gap: int) -> np.ndarray | None:
    """Return the median length [h, w] of the flow of pairs of one distance, still ones left out; None without any."""
    lengths = [np.linalg.norm(report.geometry.flow_ab, axis=2) for report in reports
               if report.gap == gap and report.geometry.fault != "still"]
    return np.median(lengths, axis=0) if lengths else None


@dataclass(frozen=True, slots=True, kw_only=True)
class GapReport:
    """All pairs of one distance: how many have which fault, and of those that do not stand still the medians of how far
    the image moves and of its parallax, as shares of the longer side; of all, the median share that is found again.
    """

    gap: int
    pairs: int
    motion: float
    parallax: float
    usable: float
    faults: dict[str, int]

    def share(self, *faults: str) -> float:
        """Return the share of pairs that have one of these faults."""
        return sum(self.faults.get(fault, 0) for fault in faults) / self.pairs


def by_gap(reports: Sequence[PairReport]) -> list[GapReport]:
    """Return what pairs of each distance say together, nearest first."""
    found = []
    for gap in sorted({report.gap for report in reports}):
        group = [report for report in reports if report.gap == gap]
        moving = [report for report in group if report.geometry.fault != "still"] or group
        side = longer_side(group[0].camera)
        faults: dict[str, int] = {}
        for report in group:
            faults[report.geometry.fault] = faults.get(report.geometry.fault, 0) + 1
        found.append(GapReport(gap=gap, pairs=len(group), faults=faults,
                               motion=float(np.median([r.geometry.motion_px for r in moving])) / side,
                               parallax=float(np.median([r.geometry.parallax_px for r in moving])) / side,
                               usable=float(np.median([r.usable for r in group]))))
    return found


def longer_side(camera: Camera) -> int:
    """Return the longer side of a camera's images in pixels."""
    return max(camera.height, camera.width)


def with_camera(report: PairReport, camera: Camera) -> PairReport:
    """Return a report with the geometry that another camera (of the frames' native size) gives to the same flow."""
    small = camera.resized(height=report.camera.height, width=report.camera.width)
    geometry = geometry_from_flow(report.geometry.flow_ab, report.geometry.usable, small, texture=report.texture)
    return replace(report, geometry=geometry, camera=small, movers=_movers(geometry, small, report.xy_a, report.xy_b))
