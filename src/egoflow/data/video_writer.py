"""Video files, written frame by frame with constant memory."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from av.error import FFmpegError

from egoflow.data.files import atomic
from egoflow.errors import DataError


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Turn FFmpeg's errors into the system's, which ``atomic`` explains: a full disk is not among its own classes."""
    try:
        yield
    except FFmpegError as error:
        raise OSError(error.errno, error.strerror) from error


class VideoWriter:
    """Write RGB frames one by one to a video file that appears whole or not at all.

    Use it in a ``with`` block. The first frame decides the size; H.264 where this build has it, else MPEG-4.
    """

    def __init__(self, path: str | Path, *, fps: float = 10.0) -> None:
        self.path, self.fps = Path(path), fps
        self._stack = ExitStack()
        self._container: Any = None
        self._stream: Any = None
        self._size = (0, 0)

    def __enter__(self) -> "VideoWriter":
        temporary = self._stack.enter_context(atomic(self.path))
        try:
            self._container = av.open(str(temporary), "w")
        except ValueError as error:
            self._stack.close()
            raise DataError(f"{self.path}: unknown video suffix; use .mp4") from error
        self._stack.push(self._finish)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._stack.__exit__(kind, value, trace)

    def _finish(self, kind: type[BaseException] | None, value: BaseException | None,
                trace: TracebackType | None) -> None:
        """Flush the encoder and close the file, before it is renamed or removed."""
        try:
            if kind is None and self._stream is None:
                raise DataError(f"{self.path}: no frame was given to write")
            if kind is None:
                with _disk_errors():
                    self._container.mux(self._stream.encode())
        finally:
            if self._stream is not None:
                with _disk_errors():
                    self._container.close()

    def write(self, image: np.ndarray) -> None:
        """Append RGB uint8 [H, W, 3] of the first frame's size."""
        if self._stream is None:
            self._stream = self._start(image.shape[0], image.shape[1])
        if image.shape != (*self._size, 3) or image.dtype != np.uint8:
            raise DataError(f"{self.path}: expected uint8 {(*self._size, 3)} as the first frame, got {image.dtype} "
                            f"{image.shape}")
        # 4:2:0 colour halves both sides, so they must be even.
        padded = np.pad(image, ((0, self._size[0] % 2), (0, self._size[1] % 2), (0, 0)), mode="edge")
        frame: Any = av.VideoFrame.from_ndarray(padded, format="rgb24")
        with _disk_errors():
            self._container.mux(self._stream.encode(frame))

    def _start(self, height: int, width: int) -> Any:
        """Choose the codec and the size, and return the stream."""
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        stream = self._container.add_stream(codec, rate=Fraction(self.fps).limit_denominator(1001))
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        if codec == "libx264":
            stream.options = {"crf": "18", "preset": "veryfast"}
        else:
            stream.bit_rate = max(2_000_000, height * width * 8)
        self._size = (height, width)
        return stream
