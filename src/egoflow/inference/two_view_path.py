"""The trajectory that classical two-view geometry gives by itself: every step one unit long."""

import numpy as np
import torch

from egoflow.geometry.se3 import SE3, chain
from egoflow.geometry.two_view import pair_geometry
from egoflow.types import FrameSource, Trajectory


class TwoViewPath:
    """Chain the two-view motions of neighbouring frames at unit speed, frame by frame.

    A pair without a direction (no motion, no parallax) adds its rotation alone.
    """

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self._last: np.ndarray | None = None
        self._steps: list[SE3] = []

    def add(self, image: np.ndarray) -> None:
        """Take the next frame, RGB uint8 [H, W, 3]."""
        if self._last is not None:
            forward, _ = pair_geometry(self._last, image, self._source.camera)
            next_from_this = SE3(torch.from_numpy(forward.rotation), torch.from_numpy(forward.direction))
            self._steps.append(next_from_this.to(torch.float64).inverse())
        self._last = image

    def trajectory(self, time_s: torch.Tensor) -> Trajectory | None:
        """Return the path so far, or None before the second frame."""
        if not self._steps:
            return None
        return Trajectory(world_from_cam=chain(SE3.stack(self._steps)), time_s=time_s)
