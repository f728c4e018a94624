"""Methods that know the truth and sources made of numbers, to test inference without a trained network."""

import weakref

import numpy as np
import torch

from egoflow.config import DataConfig, Run
from egoflow.errors import DataError
from egoflow.geometry.camera import Camera
from egoflow.geometry.se3 import SE3
from egoflow.methods.base import Method
from egoflow.types import Clip, FrameSource, FrameTruth, LossTerms, Prediction, Scale

HEIGHT, WIDTH = 16, 24


def run_of(source: FrameSource, *, gap: int = 1) -> Run:
    """Return a run at the size of a source."""
    data = DataConfig(height=source.camera.height, width=source.camera.width, gap=gap)
    return Run(method="stub", config=None, data=data)


class Oracle(Method):
    """Predict the true depth and motion of a source, found by the clip's time stamps; record what was asked."""

    def __init__(self, source: FrameSource, *, length: int = 3, target: int = 1) -> None:
        super().__init__(None)
        self.source, self.clip_length, self.target = source, length, target
        self.asked: list[list[int]] = []
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def predict(self, clip: Clip) -> Prediction:
        """Look the answer up; float32 like a network's."""
        frames = [int(np.abs(self.source.time_s - t).argmin()) for t in clip.time_s[0].tolist()]
        self.asked.append(frames)
        world_from_cam = [self.source.truth(i).world_from_cam for i in frames]
        this = frames[clip.target]
        motion = {(clip.target, s): (world_from_cam[s].inverse() @ world_from_cam[clip.target]) for s in clip.sources}
        stacked = {pair: SE3(m.R[None].float(), m.t[None].float()) for pair, m in motion.items()}
        depth = self.source.truth(this).depth
        levels = [torch.from_numpy(1 / depth)[None, None]]
        return Prediction(inv_depth={clip.target: levels}, motion=stacked)

    def losses(self, clip: Clip, prediction: Prediction, progress: float) -> LossTerms:
        """Return nothing: an oracle learns nothing."""
        return LossTerms()


class Numbers:
    """A source whose frame ``i`` is all of grey ``i % 256``; the camera goes forward and turns; some frames are broken.

    ``alive`` counts the pictures that somebody still holds.
    """

    scale: Scale = "metric"

    def __init__(self, length: int, *, broken: tuple[int, ...] = (), size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
        self.name, self.broken, self.size = "numbers", broken, size
        self.camera = Camera.create(20, 20, (size[1] - 1) / 2, (size[0] - 1) / 2, height=size[0], width=size[1])
        self.time_s = np.arange(length) * 0.1
        self.alive: weakref.WeakSet = weakref.WeakSet()
        self.most_alive, self.read = 0, []
        step = SE3.exp(torch.tensor([0.02, 0.0, 1.0, 0.0, 0.03, 0.0], dtype=torch.float64))
        path = [SE3.exp(torch.tensor([3.0, 1.0, 0.0, 0.1, 0.2, 0.3], dtype=torch.float64))]
        for _ in range(length - 1):
            path.append(path[-1] @ step)
        self.path = path

    def __len__(self) -> int:
        return len(self.time_s)

    def frame_name(self, index: int) -> str:
        """Return a name of three digits."""
        return f"{index:03d}"

    def image(self, index: int) -> np.ndarray:
        """Return the picture, watched."""
        self.read.append(index)
        if index in self.broken:
            raise DataError(f"numbers/{index:03d}: broken")
        image = np.full((*self.size, 3), index % 256, np.uint8).view(_Watched)
        self.alive.add(_Handle(image))
        self.most_alive = max(self.most_alive, len(self.alive))
        return image

    def truth(self, index: int) -> FrameTruth:
        """Return a depth of 2 + index / 100 everywhere, and the camera."""
        depth = np.full(self.size, 2 + index / 100, np.float32)
        return FrameTruth(depth=depth, valid_depth=depth > 0, world_from_cam=self.path[index])


class _Watched(np.ndarray):
    """An array that a handle can be tied to."""


class _Handle:
    """Lives as long as the array that it is tied to: arrays themselves cannot be members of a set."""

    def __init__(self, image: np.ndarray) -> None:
        image.handle = self


def without_truth(source: Numbers) -> Numbers:
    """Return the source, knowing nothing."""
    source.truth = lambda index: FrameTruth()  # type: ignore[method-assign]
    return source
