"""One pass over all frames of a clip: light, sharpness, repeated frames, cuts.

Everything is measured on small grey frames, of which few are in memory at a time. Noise and slow changes of light must
not look like motion: small frames are smoothed, and their mean and contrast are taken out before they are compared.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from egoflow.console import track
from egoflow.doctor.overlays import FixedPixels
from egoflow.doctor.pairs import same_light
from egoflow.errors import DataError
from egoflow.geometry.two_view import consistent, dense_flow
from egoflow.types import FrameSource, assumed_fps

ROWS = 128
SMOOTH_PX = 1.5
"""Deviation of the Gaussian that takes noise out of small frames: with grey noise of 8 levels a still camera's median
flow stays below .1 px."""
REPEATED = 0.25
"""A frame that differs from the last by less than this share of what the steps around it differ by repeats it."""
AT_ONCE = 0.5
"""Of the nearest steps before and after a repeated frame that are no repeats one is at least this share of the large
ones."""
STILL, STILL_RUN = 0.2, 8
"""A run of so many steps that change by less than this share of the clip's large changes is a pause."""
_LARGE = 0.8
"""Quantile of changes that counts as a large one: of three frames in a row that are the same, one step moves."""
SUDDEN = 1.5
"""A change of so many times that of its neighbours may be a cut; whether it is one, flow tells."""
CUT_USABLE, STEADY = 0.35, 2.0
"""A cut: less than this share of the pixels is found again, and that is less than half of what its neighbours find."""
EXPOSURE_STEP = 0.12
"""Change of log brightness from one frame to the next that is an exposure jump."""
_NEAR, _LEAST_CHANGE = 5, 0.05
_OVERLAY_FRAMES = 200
NEW = 0.1
"""Mean difference of normalised frames from which on a frame shows something new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What one pass says of ``count`` readable or broken frames; arrays of steps [N - 1] lead to the next frame.

    ``brightness`` (mean grey, 0 to 255), ``blur`` (0 sharp, 1 blurred) [N], NaN where a frame is broken; ``change`` is
    the mean difference of two normalised frames; ``repeats`` and ``cuts`` are the frames that repeat the one before,
    or begin another shot; ``still`` those of pauses, but the first of each; ``jumps`` those before which the exposure
    jumps.
    """

    count: int
    height: int
    width: int
    frames_per_s: float
    brightness: np.ndarray
    blur: np.ndarray
    change: np.ndarray
    repeats: tuple[int, ...]
    still: tuple[int, ...]
    cuts: tuple[int, ...]
    jumps: tuple[int, ...]
    broken: tuple[int, ...]
    fixed: FixedPixels
    shots: tuple[range, ...]

    def scale(self) -> float:
        """Return how many pixels of a frame a pixel of the pass is."""
        return self.height / max(self.fixed.grey.shape[0], 1)

    def bars(self) -> tuple[int, int, int, int]:
        """Return the widths of plain bars at the top, bottom, left and right in pixels of the frames.

        Where frames were made smaller for the pass, a row of the pass more: what is left of a bar is worse than a row
        of the scene that is missing.
        """
        scale = self.scale()
        more = 1 if scale > 1 else 0
        top, bottom, left, right = (round((n + more) * scale) if n else 0 for n in self.fixed.bars())
        return top, bottom, left, right

    def window(self, *, bonnet: int | None) -> tuple[int, int, int, int]:
        """Return (top, left, height, width) of the frames without bars, and without what begins at row ``bonnet``.

        The bonnet's row is one of the pass.
        """
        top, bottom, left, right = self.bars()
        last = self.height - bottom
        if bonnet is not None:
            last = min(last, round(bonnet * self.scale()))
        return top, left, last - top, self.width - left - right


def survey(source: FrameSource) -> Survey:
    """Read every frame of ``source`` once, in order, and return what the pass says."""
    count = len(source)
    brightness, blur, change = (np.full(n, np.nan) for n in (count, count, max(count - 1, 0)))
    fixed, often = FixedPixels.empty(), max(1, count // _OVERLAY_FRAMES)
    last = added = None
    broken = []
    for index in track(range(count), label=f"reading {source.name}"):
        try:
            grey = cv2.cvtColor(source.image(index), cv2.COLOR_RGB2GRAY)
        except DataError:
            broken.append(index)
            last = None
            continue
        brightness[index], blur[index] = float(grey.mean()), blurriness(grey)
        small = small_image(grey)
        level = normalised(small)
        # Of a pause one frame is enough: what stands still for a while is not fixed to the image.
        if index % often == 0 and (added is None or float(np.abs(level - added).mean()) > NEW):
            fixed.add(small)
            added = level
        if last is not None:
            change[index - 1] = float(np.abs(level - last).mean())
        last = level
    cuts = tuple(i + 1 for i in track(_sudden(change), label="cuts") if _is_cut(source, i))
    still = still_frames(change)
    steps = np.abs(np.diff(np.log(np.maximum(brightness, 1.0))))
    jumps = tuple(int(i) + 1 for i in np.flatnonzero(steps > EXPOSURE_STEP) if int(i) + 1 not in cuts
                  and _jumps(source, int(i)))
    edges = [0, *cuts, count]
    height, width = source.camera.height, source.camera.width
    return Survey(count=count, height=height, width=width, frames_per_s=_rate(source), brightness=brightness,
                  blur=blur, change=change, repeats=repeated_frames(change, still), still=still, cuts=cuts, jumps=jumps,
                  broken=tuple(broken), fixed=fixed,
                  shots=tuple(range(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)))


def small_image(image: np.ndarray, *, rows: int = ROWS) -> np.ndarray:
    """Return a uint8 image [H, W] or [H, W, 3] of at most ``rows`` rows, averaged down."""
    if image.shape[0] <= rows:
        return image
    width = max(1, round(image.shape[1] * rows / image.shape[0]))
    return cv2.resize(image, (width, rows), interpolation=cv2.INTER_AREA)


def normalised(grey: np.ndarray) -> np.ndarray:
    """Return a smoothed grey image as float32 of mean 0 and deviation 1."""
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), SMOOTH_PX)
    return (smooth - smooth.mean()) / max(float(smooth.std()), 1.0)


def blurriness(grey: np.ndarray) -> float:
    """Return how blurred a grey image is, 0 (sharp) to 1: what another blur leaves of its steps. (Crete 2007)"""
    image = small_image(grey, rows=2 * ROWS).astype(np.float32)
    found = []
    for axis, size in ((0, (1, 9)), (1, (9, 1))):
        step, again = (np.abs(np.diff(v, axis=axis)) for v in (image, cv2.blur(image, size)))
        found.append(1 - np.maximum(0, step - again).sum() / max(float(step.sum()), 1e-6))
    return float(max(found))


def _around(change: np.ndarray, index: int, *, quantile: float) -> float:
    """Return a quantile of the change of the steps around ``index``, itself left out; NaN without any."""
    near = np.concatenate((change[max(0, index - _NEAR):index], change[index + 1:index + 1 + _NEAR]))
    near = near[np.isfinite(near)]
    return float(np.quantile(near, quantile, method="higher")) if near.size else float("nan")


def repeated_frames(change: np.ndarray, still: tuple[int, ...]) -> tuple[int, ...]:
    """Return the frames that repeat the one before, judged by the large changes around; pauses are none.

    The change is gone at once or back at once: a camera that turns back slows down before and gathers speed after.
    """
    paused, large = set(still), [_around(change, i, quantile=_LARGE) for i in range(len(change))]
    small = [step < REPEATED * usual for step, usual in zip(change, large, strict=True)]

    def next_other(places: range) -> float:
        return next((float(change[k]) for k in places if not small[k] and np.isfinite(change[k])), 0.0)

    return tuple(i + 1 for i in range(len(change)) if small[i] and i + 1 not in paused
                 and max(next_other(range(i, -1, -1)), next_other(range(i, len(change)))) >= AT_ONCE * large[i])


def still_frames(change: np.ndarray) -> tuple[int, ...]:
    """Return the frames of long runs that hardly change from one to the next; the first of each run is left out."""
    known = change[np.isfinite(change)]
    if known.size == 0:
        return ()
    quiet = np.where(np.isfinite(change), change, np.inf) < STILL * float(np.quantile(known, _LARGE, method="higher"))
    frames: list[int] = []
    run: list[int] = []
    for index, still in enumerate([*quiet.tolist(), False]):
        if still:
            run.append(index + 1)
            continue
        frames += run if len(run) >= STILL_RUN else []
        run = []
    return tuple(frames)


def _sudden(change: np.ndarray) -> list[int]:
    """Return the steps whose change stands out of those around."""
    return [i for i in range(len(change)) if change[i] > SUDDEN * max(_around(change, i, quantile=0.5), _LEAST_CHANGE)]


def _is_cut(source: FrameSource, index: int) -> bool:
    """Say whether the frame after ``index`` shows another scene: little is found again, and more around it."""
    here = _step(source, index)
    if here is None or here.found >= CUT_USABLE:
        return False
    around = [step for i in (index - 1, index + 1) if 0 <= i < len(source) - 1 and (step := _step(source, i))]
    return bool(around) and max(step.found for step in around) > STEADY * here.found


def _jumps(source: FrameSource, index: int) -> bool:
    """Say whether the light changes from frame ``index`` to the next, and not only what is in view."""
    step = _step(source, index)
    return step is not None and abs(step.log_gain) > EXPOSURE_STEP


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """The share of a frame's pixels that are found again in the next, and the median log ratio of their brightness."""

    found: float
    log_gain: float


def _step(source: FrameSource, index: int) -> _Step | None:
    """Return what leads from a frame to the next; None where one of them is broken."""
    try:
        first, second = (cv2.GaussianBlur(small_image(cv2.cvtColor(source.image(i), cv2.COLOR_RGB2GRAY)), (0, 0),
                                          SMOOTH_PX) for i in (index, index + 1))
    except DataError:
        return None
    lit = same_light(second, first)
    there, back = dense_flow(first, lit), dense_flow(lit, first)
    height, width = first.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    rebuilt, level = (cv2.remap(image, x + there[..., 0], y + there[..., 1], cv2.INTER_LINEAR,
                                borderMode=cv2.BORDER_REPLICATE) for image in (second, normalised(lit)))
    # An unrelated frame is "found again" in places by chance; where the images then differ, it is not.
    found = consistent(there, back) & (np.abs(level - normalised(first)) < 0.5)
    gain = np.log((rebuilt[found] + 1.0) / (first[found] + 1.0)) if found.any() else np.zeros(1)
    return _Step(found=float(found.mean()), log_gain=float(np.median(gain)))


def _rate(source: FrameSource) -> float:
    """Return the frames a second, from the median step; NaN where nobody knows."""
    if assumed_fps(source) is not None:
        return float("nan")
    step = np.diff(np.asarray(source.time_s, np.float64))
    return float(1 / np.median(step)) if step.size and float(np.median(step)) > 0 else float("nan")
