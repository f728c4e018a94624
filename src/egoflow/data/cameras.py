"""Camera files: the only place where a bare 3x3 matrix of intrinsics is read or written."""

import json
import math
import re
from pathlib import Path

import numpy as np

from egoflow.data.exif import exif_camera
from egoflow.data.files import MAX_PIXELS, read_text, write_bytes
from egoflow.errors import DataError
from egoflow.geometry.camera import Camera

CAMERA_SOURCES = {"given": "the camera that was given", "footage": "a focal length that the footage itself shows",
                  "another clip": "the focal length that another clip of this size shows",
                  "assumed": "an assumed field of view: the footage does not show it"}
"""Where a fit's camera comes from, in words."""
CAMERA_FORMS = "--camera camera.json | fx,fy,cx,cy | fov=70 | long_fov=65 | exif"
"""How a user states a camera, for messages."""
_JSON_FORM = '{"fx": 721.5, "fy": 721.5, "cx": 609.6, "cy": 172.9, "height": 375, "width": 1242}'


class UnknownCameraError(DataError):
    """Footage that brings no intrinsics, and none were given."""


def _number(path: str | Path, content: dict[str, object], key: str) -> float:
    """Return ``content[key]`` as a float; DataError that shows the expected form otherwise."""
    value = content.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{path}: '{key}' must be a number, found {value!r:.40}; expected {_JSON_FORM}")
    try:
        return float(value)
    except OverflowError as error:
        raise DataError(f"{path}: '{key}' is too large for a number") from error


def _size(path: str | Path, content: dict[str, object], key: str) -> int | None:
    """Return a size in pixels or None where the file states none."""
    if key not in content:
        return None
    value = _number(path, content, key)
    if value != value or not 1 <= value <= MAX_PIXELS or value != int(value):
        raise DataError(f"{path}: '{key}' must be a size in pixels, found {value:g}")
    return int(value)


def _from_json(path: str | Path, text: str, *, height: int | None, width: int | None) -> Camera:
    """Return the camera of a JSON text, resized to ``height`` x ``width`` where those are given."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON: {str(error)[:80]}; expected {_JSON_FORM}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a JSON object {_JSON_FORM}")
    fx, fy, cx, cy = (_number(path, content, k) for k in ("fx", "fy", "cx", "cy"))
    own_height, own_width = _size(path, content, "height") or height, _size(path, content, "width") or width
    if own_height is None or own_width is None:
        raise DataError(f"{path}: 'height' and 'width' are missing; expected {_JSON_FORM}")
    camera = Camera.create(fx, fy, cx, cy, height=own_height, width=own_width, name=str(path))
    return _fitted(path, camera, height=height or own_height, width=width or own_width)


def _fitted(path: str | Path, camera: Camera, *, height: int, width: int) -> Camera:
    """Resize the camera to the images if it states the same image at another size; DataError if the shapes differ."""
    if (camera.height, camera.width) == (height, width):
        return camera
    if abs(camera.width * height / camera.height - width) > max(1.0, 0.02 * width):
        raise DataError(f"{path}: the camera is for {camera.height}x{camera.width}, the images are {height}x{width}: "
                        "another shape; give the camera of the images as they are")
    return camera.resized(height=height, width=width)


def matrix_camera(matrix: np.ndarray, *, height: int, width: int, name: str) -> Camera:
    """Return the camera of a 3x3 (or 3x4) matrix in pixels; DataError that names ``name`` if it is none."""
    K = matrix[:3, :3]
    if not np.isfinite(K).all() or K[2, 2] == 0 or abs(K[1, 0]) + abs(K[2, 0]) + abs(K[2, 1]) > 1e-6:
        raise DataError(f"{name}: expected intrinsics [fx 0 cx; 0 fy cy; 0 0 1], found {K.tolist()}")
    K = K / K[2, 2]
    if abs(K[0, 1]) > 1e-3 * abs(K[0, 0]):
        raise DataError(f"{name}: the matrix has a skew of {K[0, 1]:g}; only pinhole cameras without skew are read")
    return Camera.create(float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]), height=height, width=width,
                         name=name)


def _from_matrix(path: str | Path, text: str, *, height: int | None, width: int | None) -> Camera:
    """Return the camera of a text of nine numbers."""
    try:
        numbers = [float(word) for word in re.sub(r"#.*|[,;\[\]]", " ", text).split()]
    except ValueError as error:
        raise DataError(f"{path}: expected a 3x3 matrix of intrinsics or {_JSON_FORM}") from error
    if len(numbers) != 9:
        raise DataError(f"{path}: expected the 9 numbers of a 3x3 matrix of intrinsics, found {len(numbers)}")
    if height is None or width is None:
        raise DataError(f"{path}: a 3x3 matrix does not say the image size; write it as {_JSON_FORM}")
    return matrix_camera(np.array(numbers).reshape(3, 3), height=height, width=width, name=str(path))


def read_camera(path: str | Path, *, height: int | None = None, width: int | None = None) -> Camera:
    """Return the camera (batch of 1) of a JSON file or of a text file with a 3x3 matrix in pixels.

    ``height`` and ``width`` are those of the images: a text file needs them; a JSON file of the same image at another
    size is resized. Raises DataError that names the file.
    """
    text = read_text(path)
    read = _from_json if text.lstrip().startswith(("{", "[{")) or Path(path).suffix == ".json" else _from_matrix
    return read(path, text, height=height, width=width)


def write_camera(path: str | Path, camera: Camera, *, source: str | None = None) -> None:
    """Write the first camera of the batch as JSON: pixels of the stated size, integer pixel centres.

    ``source`` says in words where its focal length comes from, where that is known.
    """
    numbers = {k: float(getattr(camera, k).reshape(-1)[0]) for k in ("fx", "fy", "cx", "cy")}
    content = {**numbers, "height": camera.height, "width": camera.width, "unit": "pixels",
               "pixel_centre": "integer: the first pixel's centre is (0, 0)"}
    content |= {} if source is None else {"source": source}
    write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())


def camera_from_fov(fov_deg: float, *, height: int, width: int, over_px: int | None = None, name: str = "fov"
                    ) -> Camera:
    """Return a camera of that field of view in degrees, with square pixels and a central axis.

    It spans ``over_px`` pixels (None: the width).
    """
    if not 1 <= fov_deg <= 175:
        raise DataError(f"{name}: the field of view must lie between 1 and 175 degrees, got {fov_deg:g}")
    focal_px = (over_px or width) / (2 * math.tan(math.radians(fov_deg) / 2))
    return Camera.create(focal_px, focal_px, (width - 1) / 2, (height - 1) / 2, height=height, width=width, name=name)


def parse_camera(text: str, *, height: int, width: int) -> Camera:
    """Return the camera that a user states for ``height`` x ``width`` images.

    ``text`` is a file (JSON or 3x3 text), four numbers ``fx,fy,cx,cy`` in pixels, ``fov=70``: the horizontal field of
    view in degrees, or ``long_fov=70``: that over the longer side, which is the same however the camera was held.
    Raises DataError that says which forms there are.
    """
    text = text.strip()
    if match := re.fullmatch(r"(long_)?fov\s*=\s*([-+.0-9eE]+)(?:deg)?", text):
        side = max(height, width) if match[1] else width
        try:
            return camera_from_fov(float(match[2]), height=height, width=width, over_px=side, name=text)
        except ValueError as error:
            raise DataError(f"camera '{text}': {match[2]} is no number; write fov=70") from error
    if "," in text and not Path(text).exists():
        try:
            fx, fy, cx, cy = (float(word) for word in text.split(","))
        except ValueError as error:
            raise DataError(f"camera '{text}': expected four numbers fx,fy,cx,cy in pixels, or {CAMERA_FORMS}"
                            ) from error
        return Camera.create(fx, fy, cx, cy, height=height, width=width, name=f"camera '{text}'")
    if not Path(text).is_file():
        raise DataError(f"camera '{text}': no such file; give {CAMERA_FORMS}")
    return read_camera(text, height=height, width=width)


def resolve_camera(camera: Camera | str | None, *, height: int, width: int, name: str,
                   file: Path | None = None) -> Camera:
    """Return the camera of ``height`` x ``width`` images from what the caller gave; DataError where nothing is known.

    ``camera`` is a Camera (resized if it states another size of the same image), a text as in ``parse_camera``, "exif"
    for what the tags of ``file`` (the video, or an image of the clip) tell, or None.
    """
    if camera == "exif":
        if file is None:
            raise DataError(f"{name}: --camera exif is for videos and folders of images; its camera is told otherwise")
        return exif_camera(file, height=height, width=width)
    if camera is None:
        raise UnknownCameraError(f"{name}: its camera is not known; give {CAMERA_FORMS} (a phone's main camera: "
                                 "long_fov=65)")
    if isinstance(camera, str):
        return parse_camera(camera, height=height, width=width)
    return _fitted(name, camera, height=height, width=width)
