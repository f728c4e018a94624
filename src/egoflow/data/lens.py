"""Lenses that bend straight lines: read from camera.json, and taken out of the frames when they are loaded.

``"distortion": [k1, k2, p1, p2, k3]`` is Brown's model as OpenCV orders it (2, 4, 5 or 8 numbers); with
``"model": "fisheye"`` four numbers are OpenCV's equidistant one. Frames keep their size and their fx, fy, cx, cy.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from egoflow.data.files import read_text
from egoflow.errors import DataError
from egoflow.geometry.camera import Camera
from egoflow.types import FrameSource, FrameTruth, Scale, assumed_fps

_ABSURD = 1e6
_COUNTS = {"radial": (2, 4, 5, 8), "fisheye": (4,)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lens:
    """Distortion coefficients of a model, "radial" or "fisheye"."""

    model: str
    coefficients: tuple[float, ...]

    def maps(self, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
        """Return where each pixel [H, W] of the straightened frame lies in the bent one, x and y."""
        k = np.array([[float(camera.fx), 0, float(camera.cx)], [0, float(camera.fy), float(camera.cy)], [0, 0, 1]])
        size = (camera.width, camera.height)
        # OpenCV takes no fewer than four numbers.
        bent = np.array([*self.coefficients, 0.0, 0.0] if len(self.coefficients) == 2 else self.coefficients)
        if self.model == "fisheye":
            return cv2.fisheye.initUndistortRectifyMap(k, bent, np.eye(3), k, size, cv2.CV_32FC1)  # type: ignore[return-value]
        return cv2.initUndistortRectifyMap(k, bent, np.eye(3), k, size, cv2.CV_32FC1)  # type: ignore[return-value]


def read_lens(path: str | Path) -> Lens | None:
    """Return the lens that a camera.json states, None where it states none; DataError for one that cannot be read."""
    text = read_text(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        # Who reads the intrinsics says what is wrong with the file.
        return None
    given = content.get("distortion") if isinstance(content, dict) else None
    if given is None:
        return None
    model = content.get("model", "radial")
    if not isinstance(model, str) or model not in _COUNTS:
        raise DataError(f"{path}: 'model' {model!r:.30} is not known; expected radial or fisheye")
    numbers = given if isinstance(given, list) else []
    real = all(isinstance(n, int | float) and not isinstance(n, bool) and abs(n) < _ABSURD for n in numbers)
    if len(numbers) not in _COUNTS[model] or not real:
        raise DataError(f"{path}: 'distortion' must be a list of {' or '.join(map(str, _COUNTS[model]))} numbers "
                        f"(k1, k2, p1, p2, k3), found {str(given)[:60]}")
    return Lens(model=model, coefficients=tuple(map(float, numbers))) if any(numbers) else None


class Straightened:
    """A source whose frames are straightened as they are read; what is known of single pixels is left out."""

    def __init__(self, source: FrameSource, lens: Lens) -> None:
        self._source, self._maps = source, lens.maps(source.camera)
        self.name = source.name
        self.time_s: np.ndarray = source.time_s
        self.scale: Scale = source.scale
        self.assumed_fps = assumed_fps(source)
        self.camera = source.camera

    def __len__(self) -> int:
        return len(self._source)

    def image(self, index: int) -> np.ndarray:
        """Return frame ``index`` straightened, RGB uint8 [H, W, 3]; what the lens did not see is black."""
        return cv2.remap(self._source.image(index), *self._maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)

    def truth(self, index: int) -> FrameTruth:
        """Return the frame's camera motion, where it is known."""
        return FrameTruth(world_from_cam=self._source.truth(index).world_from_cam)

    def frame_name(self, index: int) -> str:
        """Return the frame's name in its source."""
        return self._source.frame_name(index)
