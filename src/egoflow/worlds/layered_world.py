"""A scene of flat layers as a source of frames: flow both ways and occlusion, but no depth and no camera motion."""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from egoflow.geometry.camera import Camera
from egoflow.types import FlowTruth, FrameTruth, Scale
from egoflow.worlds.base import FRAME_TIME_S, as_uint8, checked_frame
from egoflow.worlds.layers import Scene, flow_truth, render


@final
class LayeredWorld:
    """Layers that move by the same planar motions from every frame to the next, at 10 Hz: a RenderedWorld.

    ``camera`` is a plausible one for methods that ask; the layers lie at no depth.
    """

    scale: Scale = "relative"

    def __init__(self, name: str, *, scene: Scene, height: int, width: int, frames: int, samples: int, seed: int,
                 options: dict[str, Any] | None = None) -> None:
        self.name, self.scene, self.samples, self.seed, self.options = name, scene, samples, seed, dict(options or {})
        self.camera = Camera.create(0.9 * width, 0.9 * width, (width - 1) / 2, (height - 1) / 2, height=height,
                                    width=width)
        self.time_s = np.arange(frames) * FRAME_TIME_S

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.time_s)

    def frame_name(self, index: int) -> str:
        """Return the stem of a frame's files: "000001"."""
        return f"{checked_frame(self, index):06d}"

    def image(self, index: int) -> np.ndarray:
        """Return frame ``index`` as RGB uint8 [H, W, 3]."""
        return as_uint8(self.colours([index])[0])

    def colours(self, indices: Sequence[int]) -> Tensor:
        """Return frames [F, 3, H, W] as float32 RGB in [0, 1]."""
        return torch.stack([render(self.scene, checked_frame(self, index), height=self.camera.height,
                                   width=self.camera.width, samples=self.samples) for index in indices])

    def truth(self, index: int) -> FrameTruth:
        """Return an empty FrameTruth: a flat scene has no depth and no camera motion."""
        checked_frame(self, index)
        return FrameTruth()

    def flow_truth(self, a: int, b: int) -> FlowTruth:
        """Return the exact flow of frames (a, b); it is known everywhere. Nothing is painted for it."""
        return flow_truth(self.scene, checked_frame(self, a), checked_frame(self, b), height=self.camera.height,
                          width=self.camera.width)
