"""Video files, read frame by frame with constant memory."""

import logging
import os
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.error import EOFError as EndOfFile
from av.error import FFmpegError

from egoflow.data.cameras import resolve_camera
from egoflow.errors import DataError
from egoflow.geometry.camera import Camera
from egoflow.types import FrameTruth, Scale

VIDEO_SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp",
    ".ogv", ".gif", ".h264", ".hevc", ".mjpeg"})
_KEPT_FRAMES = 16
# Decoding this far forward is cheaper than a seek, which lands on a key frame, commonly 250 frames apart.
_FORWARD = 48
_PROBED = 12
_COVER_PICTURE = 1024
_UNSTATED_FPS = 25
_ODD_RATIO, _MOST_RATIO = 0.01, 4.0
"""Pixels are taken as square where their sides differ by less, or by more than any camera's."""
# After a seek in an MPEG program stream the demuxer guesses stamps that belong to other frames.
_UNSEEKABLE = frozenset({".mpg", ".mpeg", ".vob", ".m2v"})
_log = logging.getLogger("egoflow")


def _open(path: Path) -> tuple[Any, Any]:
    """Open a local video and return (container, its first real video stream)."""
    try:
        # The white list keeps a crafted play list from opening the network.
        container = av.open(str(path), options={"protocol_whitelist": "file"})
    except (FFmpegError, OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable video ({getattr(error, 'strerror', None) or error})") from error
    # A sound file's cover picture counts as a video stream of one frame.
    streams = [s for s in container.streams.video if not int(getattr(s, "disposition", 0)) & _COVER_PICTURE]
    if not streams:
        container.close()
        raise DataError(f"{path}: holds no video stream")
    streams[0].thread_type = "AUTO"
    return container, streams[0]


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Yield the frames that decode, in order of display, from where the container stands; pass over broken packets."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, EndOfFile):
            return
        except FFmpegError:
            # A truncated file ends here: what the decoder still holds is let out by the empty packet below.
            packet = None
        try:
            yield from stream.decode(packet)
        except EndOfFile:
            return
        except FFmpegError:
            # The frame of a broken packet never appears; asking for it names it.
            pass
        if packet is None:
            return


def _packet_times(path: Path) -> list[int] | None:
    """Return the sorted time stamps of the packets that show a frame, or None where packets do not carry them."""
    container, stream = _open(path)
    times = []
    with container:
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, EndOfFile):
                break
            except FFmpegError as error:
                _log.warning("%s: ends early: %s", path, error.strerror)
                break
            if packet.size and not packet.is_discard:
                if packet.pts is None:
                    return None
                times.append(packet.pts)
    return sorted(set(times))


def _decoded_times(path: Path, *, most: int | None = None) -> tuple[list[int | None], list[Any]]:
    """Decode up to ``most`` frames and return their time stamps as found, and the first frame."""
    container, stream = _open(path)
    times: list[int | None] = []
    first: list[Any] = []
    with container:
        for frame in _decoded(container, stream):
            times.append(frame.pts)
            first = first or [frame]
            if most is not None and len(times) >= most:
                break
    return times, first


def _increasing(times: list[int | None]) -> list[int] | None:
    """Return ``times`` if every frame has one and they increase, else None."""
    known = [t for t in times if t is not None]
    return known if len(known) == len(times) and all(a < b for a, b in pairwise(known)) else None


def _agree(stamps: list[int], probed: list[int | None]) -> bool:
    """Say whether the first decoded frames carry the packets' stamps; a few broken packets may be missing."""
    known = _increasing(probed)
    if known is None or not set(known) <= set(stamps):
        return False
    return len(known) >= 0.75 * sum(stamp <= known[-1] for stamp in stamps)


def _pixel_ratio(path: Path) -> float:
    """Return how much wider than high the pixels of a video are: 4/3 in HDV's 1440x1080, 1 where it says nothing."""
    container, stream = _open(path)
    with container:
        ratio = float(stream.sample_aspect_ratio or 1)
    return ratio if abs(ratio - 1) > _ODD_RATIO and 1 / _MOST_RATIO < ratio < _MOST_RATIO else 1.0


def _upright(frame: Any, pixel_ratio: float) -> np.ndarray:
    """Return a decoded frame as RGB uint8, pixels made square, turned as the container asks (as phones do)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = frame.to_ndarray(format="rgb24")
    if pixel_ratio != 1:
        size = round(image.shape[1] * pixel_ratio), image.shape[0]
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR if pixel_ratio > 1 else cv2.INTER_AREA)
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


class VideoFile:
    """One video file as a FrameSource: frames by display order, its own time stamps, few in memory.

    Convention: frame ``i`` is the i-th time stamp of the file; pixels that are not square are made so. A frame whose
    packet is broken keeps its place and raises DataError by name when it is read. Where a container gives its frames no
    stamps (a raw H.264 stream), they are counted at its nominal rate, and reading backwards starts again from the
    first.
    """

    def __init__(self, path: str | Path, camera: Camera | str | None = None) -> None:
        self.path = Path(path)
        self.name = self.path.stem
        self.scale: Scale = "relative"
        if not self.path.is_file():
            raise DataError(f"{path}: no such file")
        probed, first = _decoded_times(self.path, most=_PROBED)
        if not probed:
            raise DataError(f"{path}: no frame of the video can be decoded")
        self._pixel_ratio = _pixel_ratio(self.path)
        height, width = _upright(first[0], self._pixel_ratio).shape[:2]
        self.assumed_fps: float | None = None
        self._stamps, self.time_s = self._index(probed, first[0])
        if len(self.time_s) < 2:
            raise DataError(f"{path}: the video has one frame; at least 2 are needed")
        self.camera = resolve_camera(camera, height=height, width=width, name=str(path), file=self.path)
        self._size = (height, width)
        self._seekable = self._stamps is not None and self.path.suffix.lower() not in _UNSEEKABLE
        self._position = {pts: i for i, pts in enumerate(self._stamps or [])}
        self._forget()

    def _index(self, probed: list[int | None], first: Any) -> tuple[list[int] | None, np.ndarray]:
        """Return the stamps of all frames, None where only counting tells them apart, and their times in seconds."""
        stamps = _packet_times(self.path)
        # Some containers stamp packets otherwise than frames (fields, packed B-frames): then only decoding tells.
        if stamps is None or not _agree(stamps, probed):
            decoded = _decoded_times(self.path)[0]
            stamps = _increasing(decoded)
            if stamps is None:
                container, stream = _open(self.path)
                with container:
                    self.assumed_fps = float(stream.average_rate or _UNSTATED_FPS)
                return None, np.arange(len(decoded)) / self.assumed_fps
        return stamps, (np.array(stamps, dtype=np.float64) - stamps[0]) * float(first.time_base)

    def _forget(self) -> None:
        """Drop the decoder, for instance one that another process opened."""
        self._container: Any = None
        self._stream: Any = None
        self._frames: Iterator[Any] = iter(())
        self._next, self._synchronised = 0, False
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for key in ("_container", "_stream", "_frames", "_kept"):
            del state[key]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def __len__(self) -> int:
        return len(self.time_s)

    def frame_name(self, index: int) -> str:
        """Return the frame's place in the file as its name."""
        return f"{index:06d}"

    def truth(self, index: int) -> FrameTruth:
        """Return nothing: a video brings no truth."""
        return FrameTruth()

    def image(self, index: int) -> np.ndarray:
        """Return frame ``index`` as RGB uint8 [H, W, 3]; DataError that names a frame that cannot be decoded."""
        if not 0 <= index < len(self):
            raise DataError(f"{self.path}: no frame {index}; the video has {len(self)}")
        # Two processes that share one open file would move each other's read position.
        if self._process != os.getpid():
            self._forget()
        if index not in self._kept:
            self._decode(index)
        if index not in self._kept:
            raise DataError(f"{self.path}: frame {index} (at {self.time_s[index]:.2f} s) cannot be decoded")
        return self._kept[index]

    def _decode(self, index: int) -> None:
        """Decode forward until frame ``index`` has been seen or passed, seeking first where that is shorter."""
        ahead = index - self._next
        if self._container is not None and ahead >= 0 and (ahead < _FORWARD or not self._seekable):
            self._advance(index)
            return
        if self._seekable and self._stamps is not None and index >= _FORWARD:
            self._seek(self._stamps[index])
            if self._advance(index):
                return
        # Some containers land behind the frame, or on none that can be decoded: read on from the start.
        self._reopen()
        self._advance(index)

    def _reopen(self) -> None:
        """Stand at the start of the file."""
        if self._container is not None:
            self._container.close()
        self._container, self._stream = _open(self.path)
        self._frames = _decoded(self._container, self._stream)
        self._next, self._synchronised = 0, True

    def _seek(self, stamp: int) -> None:
        """Stand at a key frame at or before ``stamp``, as far as the container knows."""
        if self._container is None:
            self._reopen()
        container: Any = self._container
        try:
            container.seek(stamp, stream=self._stream, backward=True)
        except FFmpegError:
            self._reopen()
            return
        self._frames = _decoded(self._container, self._stream)
        self._synchronised = False

    def _advance(self, index: int) -> bool:
        """Decode until ``index`` is passed; return False if that began behind it or without a key frame."""
        for frame in self._frames:
            place = self._next if self._stamps is None else self._position.get(frame.pts)
            if place is None:
                continue
            self._next = place + 1
            # After a seek, frames before the first key frame are decoded from references that are not there.
            self._synchronised = self._synchronised or (bool(frame.key_frame) and place <= index)
            if not self._synchronised:
                if place >= index:
                    return False
                continue
            if place >= index - _KEPT_FRAMES and not frame.is_corrupt:
                self._keep(place, frame)
            if place >= index:
                return True
        self._next = len(self)
        return self._synchronised

    def _keep(self, place: int, frame: Any) -> None:
        """Remember a decoded frame of the video's own size, and forget the oldest."""
        image = _upright(frame, self._pixel_ratio)
        if image.shape[:2] == self._size:
            self._kept[place] = image
            self._kept.move_to_end(place)
        while len(self._kept) > _KEPT_FRAMES:
            self._kept.popitem(last=False)
