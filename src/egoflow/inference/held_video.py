"""A video with a picture for every frame, whether it could be predicted or not."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from egoflow.data.video_writer import VideoWriter
from egoflow.types import FrameSource


class HeldVideo:
    """Write pictures at their positions; where one is missing the one before is held, at the start the first.

    Use it in a ``with`` block, and ``finish`` it with the number of all pictures. No file is made of no picture.
    Pictures of another size than the first are resized to it.
    """

    def __init__(self, path: Path, *, fps: float) -> None:
        self.path, self.fps = path, fps
        self._stack = ExitStack()
        self._video: VideoWriter | None = None
        self._picture: np.ndarray | None = None
        self._written = 0

    def __enter__(self) -> "HeldVideo":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._stack.__exit__(kind, value, trace)

    def show(self, picture: np.ndarray, *, position: int) -> None:
        """Show RGB uint8 [H, W, 3] at a position; positions increase."""
        if self._picture is not None and picture.shape != self._picture.shape:
            height, width = self._picture.shape[:2]
            picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        self._hold(position)
        self._picture = picture
        self._hold(position + 1)

    def finish(self, pictures: int) -> None:
        """Hold the last picture until the video has this many."""
        self._hold(pictures)

    def _hold(self, pictures: int) -> None:
        while self._picture is not None and self._written < pictures:
            if self._video is None:
                self._video = self._stack.enter_context(VideoWriter(self.path, fps=self.fps))
            self._video.write(self._picture)
            self._written += 1


def frames_per_s(source: FrameSource, frames: Sequence[int]) -> float:
    """Return the rate that a video of these frames of a source has."""
    steps_s = np.diff(np.asarray(source.time_s, np.float64)[list(frames)])
    return 1 / max(float(np.median(steps_s)), 1e-3) if len(steps_s) else 10.0
