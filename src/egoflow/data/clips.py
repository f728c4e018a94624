"""From sources to clips: windows that never cross a gap, splits that share no frame, and the training data set."""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from egoflow.config import Augment
from egoflow.data.affine import affine_settings
from egoflow.data.frame_cache import FrameCache
from egoflow.data.open import FrameSlice, continuous_runs
from egoflow.data.transforms import augmented
from egoflow.data.true_flow import TrueFlowCache
from egoflow.errors import ConfigError, DataError
from egoflow.geometry.camera import Camera
from egoflow.geometry.pixels import resize_mask
from egoflow.geometry.se3 import SE3
from egoflow.types import Clip, FrameSource, FrameTruth, Pair, Truth, TwoView

StartReader = Callable[[FrameSource, int, int], TwoView]
_SEED = 2**63 - 1
_log = logging.getLogger("egoflow")


def windows(source: FrameSource, *, length: int, gap: int = 1, stride: int = 1, target: int | None = None,
            exclude: Collection[int] = ()) -> list[tuple[int, ...]]:
    """Return the clips of ``length`` frames, ``gap`` apart, that start every ``stride`` frames and cross no gap.

    A window that holds a frame of ``exclude`` is left out; with ``target`` only that frame of the window counts, as in
    the published lists of static frames.
    """
    if min(length, gap, stride) < 1:
        raise ConfigError(f"length, gap and stride must be at least 1, got {length}, {gap}, {stride}")
    span = (length - 1) * gap
    found = [tuple(range(first, first + span + 1, gap)) for run in continuous_runs(source)
             for first in range(run.start, run.stop - span, stride)]
    return [w for w in found if not any(i in exclude for i in (w if target is None else (w[target],)))]


def split(source: FrameSource, *, validation: float = 0.1, margin: int = 5) -> tuple[FrameSlice, FrameSlice]:
    """Return (training, validation) parts of a source that share no frame.

    Validation frames are up to four contiguous blocks of at least 20, each the end of an equal part of the source;
    ``margin`` frames around each block are in neither. Windows of either part cross no block, because a slice's jumps
    count as gaps. Raises DataError when the source is too short.
    """
    length = len(source)
    held = round(length * validation)
    if held <= 0:
        return FrameSlice(source, range(length)), FrameSlice(source, ())
    blocks = max(1, min(4, held // 20))
    if length < 2 * (held + 2 * margin * blocks):
        raise DataError(f"{source.name}: {length} frames are too few to hold out {held} of them; give validation=0")
    role = np.zeros(length, dtype=int)
    for block in range(blocks):
        stop = (block + 1) * length // blocks
        first = stop - held // blocks
        role[max(first - margin, 0):stop + margin] = 2
        role[first:stop] = 1
    return tuple(FrameSlice(source, np.flatnonzero(role == r).tolist()) for r in (0, 1))  # type: ignore[return-value]


class ClipDataset(Dataset[Clip]):
    """Clips of ``length`` frames at a working size from any number of sources.

    ``dataset[index]`` is the clip as it is, ``dataset[index, seed]`` the augmented one: a pure function of both, so
    that a resumed run sees what it would have seen. Frames are read once and kept as uint8 up to ``cache_bytes``, true
    flow up to as much again. A frame that cannot be read is reported once by name; its clips are replaced by the
    nearest readable one, or refused. ``start(source, a, b)`` gives the two-view start of the pairs (target, s) and
    (s, target). Augmented clips are cut to a random window ``crop`` (height, width) where one is given.
    """

    def __init__(self, sources: Sequence[FrameSource], *, length: int, target: int, height: int, width: int,
                 gap: int = 1, stride: int = 1, augment: Augment | None = None, crop: tuple[int, int] | None = None,
                 on_broken: Literal["skip", "refuse"] = "skip", start: StartReader | None = None,
                 with_truth: bool = False, cache_bytes: int = 2**31,
                 exclude: Callable[[FrameSource], Collection[int]] | None = None) -> None:
        if not 0 <= target < length:
            raise ConfigError(f"target {target} is outside a clip of {length} frames")
        self.sources, self.length, self.target = list(sources), length, target
        self.height, self.width, self.crop = height, width, crop
        if crop is not None and (crop[0] > height or crop[1] > width):
            raise ConfigError(f"data.crop {crop[0]}x{crop[1]} is larger than the clips of {height}x{width}; give a "
                              "smaller one, or a larger data.height and data.width")
        if start is not None and augment is not None and (named := affine_settings(augment)):
            raise ConfigError(f"data.augment.{named[0]} moves pixels as no camera does, and the two-view start is "
                              "of a camera; leave it out, or set start=none")
        self.augment, self.on_broken, self.start, self.with_truth = augment, on_broken, start, with_truth
        self._windows = [(number, w) for number, source in enumerate(self.sources) for w in windows(
            source, length=length, gap=gap, stride=stride, target=target, exclude=exclude(source) if exclude else ())]
        if not self._windows:
            names = ", ".join(f"{s.name} ({len(s)} frames)" for s in self.sources) or "no source"
            raise DataError(f"no clip of {length} consecutive frames, {gap} apart, in {names}")
        self._frames = FrameCache(self.sources, height=height, width=width, most_bytes=cache_bytes)
        self._true_flow = TrueFlowCache(self.sources, height=height, width=width, most_bytes=cache_bytes)
        self._reported: set[str] = set()

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, key: int | tuple[int, int]) -> Clip:
        index, seed = key if isinstance(key, tuple) else (key, None)
        return self.item(index, seed=seed)

    def windows(self) -> list[tuple[FrameSource, tuple[int, ...]]]:
        """Return the source and the frames of every clip."""
        return [(self.sources[number], window) for number, window in self._windows]

    def report(self, error: DataError) -> None:
        """Say once that a frame cannot be read."""
        if str(error) not in self._reported:
            self._reported.add(str(error))
            _log.warning("skipped: %s", error)

    def item(self, index: int, *, seed: int | None = None) -> Clip:
        """Return clip ``index`` (batch of 1), augmented by ``seed`` if one is given.

        Raises DataError that names the broken frame where broken clips are refused or none can be read.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        clip = self._readable(index)
        if seed is None or (self.augment is None and self.crop is None):
            return clip
        generator = torch.Generator().manual_seed((seed * 1_000_003 + index) & _SEED)
        return augmented(clip, self.augment or Augment(), generator=generator, crop_to=self.crop)

    def _readable(self, index: int) -> Clip:
        """Return clip ``index`` or, where broken clips are skipped, the nearest that can be read (earlier first)."""
        for near in _outwards(index, len(self)):
            try:
                return self._clip(*self._windows[near])
            except DataError as error:
                if self.on_broken == "refuse":
                    raise
                self.report(error)
        raise DataError(f"none of the {len(self)} clips can be read; the first broken frame: {min(self._reported)}")

    def _clip(self, number: int, window: tuple[int, ...]) -> Clip:
        """Return the frames of one window as they are."""
        source = self.sources[number]
        images = torch.stack([self._frames.frame(number, i) for i in window])
        camera = source.camera.resized(height=self.height, width=self.width)
        truth = None
        if self.with_truth:
            truth = truth_of([source.truth(i) for i in window], height=self.height, width=self.width, name=source.name)
            truth = replace(truth, **self._true_flow.of(number, window, self._pairs()))
        time_s = torch.from_numpy(np.asarray(source.time_s, dtype=np.float64)[list(window)])
        return Clip(images=images[None].float() / 255, camera=camera, time_s=time_s[None], target=self.target,
                    truth=truth, start=self._start_of(source, window),
                    key=(f"{source.name}/{source.frame_name(window[self.target])}",))

    def _pairs(self) -> list[Pair]:
        """Return the pairs of the target with every other frame, both ways."""
        others = [i for i in range(self.length) if i != self.target]
        return [pair for s in others for pair in ((self.target, s), (s, self.target))]

    def _start_of(self, source: FrameSource, window: tuple[int, ...]) -> dict[Pair, TwoView]:
        """Return the two-view start of the pairs with the target, both ways."""
        if self.start is None:
            return {}
        return {(a, b): self.start(source, window[a], window[b]) for a, b in self._pairs()}


def _outwards(index: int, length: int) -> Iterator[int]:
    """Yield every position below ``length``, the nearest to ``index`` first and of two the earlier."""
    yield index
    for distance in range(1, length):
        yield from (near for near in (index - distance, index + distance) if 0 <= near < length)


def truth_of(frames: Sequence[FrameTruth], *, height: int, width: int, name: str) -> Truth:
    """Return the truth [1, N, …] of a clip's frames: depth at its own size, static masks on the image grid.

    Frames without depth are invalid everywhere; motion and masks are given only if every frame has them.
    """
    sizes = {f.depth.shape for f in frames if f.depth is not None}
    if len(sizes) > 1:
        raise DataError(f"{name}: depth maps of several sizes in one clip: {sorted(sizes)}")
    depth = valid = static = motion = None
    if sizes:
        empty = np.zeros(sizes.pop(), np.float32)
        depth = torch.from_numpy(np.stack([empty if f.depth is None else f.depth for f in frames]))[None, :, None]
        valid = torch.from_numpy(np.stack([empty > 0 if f.valid_depth is None else f.valid_depth for f in frames]))
        valid = valid[None, :, None]
    masks = [f.static for f in frames if f.static is not None]
    if len(masks) == len(frames):
        static = resize_mask(torch.from_numpy(np.stack(masks))[:, None], height=height, width=width)[None]
    motions = [f.world_from_cam for f in frames if f.world_from_cam is not None]
    if len(motions) == len(frames):
        stacked = SE3.stack(motions)
        motion = SE3(stacked.R[None], stacked.t[None])
    return Truth(depth=depth, valid_depth=valid, world_from_cam=motion, static=static)


def _joined(values: list[Any]) -> Any:
    """Join one field of several clips along the batch; what not all of them know is dropped."""
    first = values[0]
    if any(v is None for v in values):
        return None
    if isinstance(first, Tensor):
        return torch.cat(values)
    if isinstance(first, dict):
        return {k: _joined([v[k] for v in values]) for k in first if all(k in v for v in values)}
    if isinstance(first, SE3 | Camera):
        return type(first).cat(values)
    return type(first)(**{f.name: _joined([getattr(v, f.name) for v in values]) for f in fields(first)})


def _with_equal_depth(clips: list[Clip]) -> list[Clip]:
    """Give clips without depth truth an invalid map: lidar covers some frames of a drive, not all."""
    known = next((c.truth for c in clips if c.truth is not None and c.truth.depth is not None), None)
    if known is None or known.depth is None:
        return clips
    empty = {"depth": torch.zeros_like(known.depth), "valid_depth": torch.zeros_like(known.depth, dtype=torch.bool)}
    return [replace(c, truth=replace(c.truth, **empty)) if c.truth is not None and c.truth.depth is None else c
            for c in clips]


def collate(clips: list[Clip]) -> Clip:
    """Join clips of one size, length and target into a batch."""
    shapes = {(tuple(c.images.shape[1:]), c.target) for c in clips}
    if len(shapes) != 1:
        raise DataError(f"clips of several sizes, lengths or targets cannot share a batch: {sorted(shapes)}")
    clips = _with_equal_depth(clips)
    names = [f.name for f in fields(Clip) if f.name not in ("key", "target")]
    joined = {name: _joined([getattr(c, name) for c in clips]) for name in names}
    return replace(clips[0], **joined, key=tuple(k for c in clips for k in c.key))
