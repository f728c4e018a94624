"""Frames at working size, decoded once and kept in memory as uint8."""

from collections.abc import Sequence

import numpy as np
import torch

from egoflow.errors import DataError
from egoflow.geometry.pixels import resize_image
from egoflow.types import FrameSource


class FrameCache:
    """Frames of several sources as uint8 [3, height, width], kept until ``most_bytes`` are used.

    A frame that failed once fails again with the same message, without another attempt.
    """

    def __init__(self, sources: Sequence[FrameSource], *, height: int, width: int, most_bytes: int) -> None:
        self.sources, self.height, self.width = sources, height, width
        self._room = most_bytes // (3 * height * width)
        self._kept: dict[tuple[int, int], torch.Tensor] = {}
        self._broken: dict[tuple[int, int], str] = {}

    def frame(self, source: int, index: int) -> torch.Tensor:
        """Return frame ``index`` of a source; DataError that names it if it cannot be read."""
        key = (source, index)
        if key in self._broken:
            raise DataError(self._broken[key])
        if key in self._kept:
            return self._kept[key]
        try:
            image = self.sources[source].image(index)
        except DataError as error:
            self._broken[key] = str(error)
            raise
        small = self._resized(image)
        if len(self._kept) < self._room:
            self._kept[key] = small
        return small

    def _resized(self, image: np.ndarray) -> torch.Tensor:
        """Return an RGB image [H, W, 3] at working size, rounded back to uint8."""
        tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
        if image.shape[:2] != (self.height, self.width):
            tensor = resize_image(tensor.float(), height=self.height, width=self.width).round_().clamp_(0, 255).byte()
        return tensor[0].contiguous()
