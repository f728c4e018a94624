"""Footage without what is fixed to its image: bars cut off, writing painted over."""

import cv2
import numpy as np

from egoflow.errors import DataError
from egoflow.geometry.camera import Camera
from egoflow.types import FrameSource, FrameTruth, Scale, assumed_fps

_GROWN = 2
"""Pixels of the mask's own size by which it is grown."""
_RADIUS = 3


class Cleaned:
    """A window of a source's frames in which ``fixed`` pixels are painted over from what is around them.

    The window is (top, left, height, width) in pixels; ``fixed`` bool [h, w] is of the whole frames, at any size.
    The camera goes along. Truth outside the window is cut off, and where pixels were painted over it is unknown.
    """

    def __init__(self, source: FrameSource, *, window: tuple[int, int, int, int], fixed: np.ndarray | None = None
                 ) -> None:
        top, left, height, width = window
        whole = source.camera
        if top < 0 or left < 0 or height < 8 or width < 8 or top + height > whole.height or left + width > whole.width:
            raise DataError(f"{source.name}: the window {height}x{width} at ({left}, {top}) is no part of the "
                            f"{whole.height}x{whole.width} frames")
        self._source, self._window = source, window
        self.name = source.name
        self.time_s: np.ndarray = source.time_s
        self.scale: Scale = source.scale
        self.assumed_fps = assumed_fps(source)
        self.camera: Camera = whole.cropped(top=top, left=left, height=height, width=width)
        self._fixed = None if fixed is None or not fixed.any() else self._cut(
            enlarged(fixed, height=whole.height, width=whole.width))
        if self._fixed is not None and not self._fixed.any():
            self._fixed = None

    def __len__(self) -> int:
        return len(self._source)

    def frame_name(self, index: int) -> str:
        """Return the frame's name in its source."""
        return self._source.frame_name(index)

    def image(self, index: int) -> np.ndarray:
        """Return frame ``index`` as RGB uint8 [height, width, 3]."""
        image = np.ascontiguousarray(self._cut(self._source.image(index)))
        return image if self._fixed is None else painted_over(image, self._fixed)

    def truth(self, index: int) -> FrameTruth:
        """Return what is known of the window."""
        known = self._source.truth(index)
        # Depth at another size than the frames' cannot be cut to the pixel.
        same = known.depth is not None and known.depth.shape == (self._source.camera.height, self._source.camera.width)
        depth = self._cut(known.depth) if same and known.depth is not None else None
        valid = self._cut(known.valid_depth) if same and known.valid_depth is not None else None
        if valid is not None and self._fixed is not None:
            valid = valid & ~self._fixed
        return FrameTruth(depth=depth, valid_depth=valid, world_from_cam=known.world_from_cam,
                          static=None if known.static is None else self._cut(known.static))

    def _cut(self, value: np.ndarray) -> np.ndarray:
        top, left, height, width = self._window
        return value[top:top + height, left:left + width]


def enlarged(fixed: np.ndarray, *, height: int, width: int) -> np.ndarray:
    """Return a mask [h, w] at the size of the frames, grown by a little: writing has soft edges."""
    grown = cv2.dilate(fixed.astype(np.uint8), np.ones((2 * _GROWN + 1, 2 * _GROWN + 1), np.uint8))
    return cv2.resize(grown, (width, height), interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)


def painted_over(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return an image uint8 [H, W, 3] whose pixels under ``mask`` [H, W] are filled in from around. (Telea 2004)"""
    return cv2.inpaint(np.ascontiguousarray(image), mask.astype(np.uint8), _RADIUS, cv2.INPAINT_TELEA)
