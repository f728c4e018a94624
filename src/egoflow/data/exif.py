"""The camera that a picture's or a video's own tags tell: a focal length, with square pixels and a central axis.

A nominal focal length is within some per cent of the calibrated one for stills; video modes often cut the sensor down
or stabilise, and then the true field of view is narrower than the tag says.
"""

import math
from pathlib import Path
from typing import Any

from PIL import Image

from egoflow.errors import DataError
from egoflow.geometry.camera import Camera

_EXIF_IFD = 0x8769
_FOCAL_MM, _FOCAL_35MM, _PLANE_X, _PLANE_UNIT, _EXIF_SIDES = 0x920A, 0xA405, 0xA20E, 0xA210, (0xA002, 0xA003)
_MM_PER_UNIT = {2: 25.4, 3: 10.0, 4: 1.0}
_FILM_DIAGONAL_MM = math.hypot(36, 24)
"""The 35 mm equivalent keeps the angle over the diagonal. (CIPA DCG-001)"""
_VIDEO_KEYS = ("com.apple.quicktime.camera.focal_length.35mm_equivalent",)
"""Tags of a container that hold a 35 mm equivalent."""


def exif_camera(file: Path, *, height: int, width: int) -> Camera:
    """Return the camera of ``height`` x ``width`` frames that the tags of ``file`` tell; DataError where they do not.

    ``file`` is an image (EXIF) or a video (its container's tags).
    """
    tags = _image_tags(file)
    focal = _video_focal(file, height=height, width=width) if tags is None else _image_focal(
        tags, height=height, width=width)
    if focal is None:
        raise DataError(f"{file}: its tags tell no focal length; give --camera fov=DEGREES")
    return Camera.create(focal, focal, (width - 1) / 2, (height - 1) / 2, height=height, width=width, name=str(file))


def _image_tags(file: Path) -> dict[int, Any] | None:
    """Return the EXIF tags of an image file, none where it has none, and None for what is no image."""
    try:
        with Image.open(file) as image:
            return dict(image.getexif().get_ifd(_EXIF_IFD))
    except Exception:  # noqa: BLE001  Pillow raises many kinds for what is no image
        return None


def _image_focal(tags: dict[int, Any], *, height: int, width: int) -> float | None:
    """Return a focal length in pixels from EXIF tags, the exact one of the sensor where it is there."""
    focal_mm, per_unit = _number(tags.get(_FOCAL_MM)), _number(tags.get(_PLANE_X))
    taken = max((_number(tags.get(side)) or 0.0 for side in _EXIF_SIDES), default=0.0)
    unit = _MM_PER_UNIT.get(tags.get(_PLANE_UNIT, 2))
    if focal_mm and per_unit and taken and unit:
        # The tag is of the picture as it was taken; frames may be smaller, or stand upright.
        return focal_mm * per_unit / unit * max(height, width) / taken
    equivalent = _number(tags.get(_FOCAL_35MM))
    return equivalent / _FILM_DIAGONAL_MM * math.hypot(height, width) if equivalent else None


def _video_focal(file: Path, *, height: int, width: int) -> float | None:
    """Return a focal length in pixels from the tags of a video's container."""
    import av
    from av.error import FFmpegError

    try:
        with av.open(str(file), options={"protocol_whitelist": "file"}) as container:
            tags = {**container.metadata, **(container.streams.video[0].metadata if container.streams.video else {})}
    except (FFmpegError, OSError, ValueError):
        return None
    found = next((value for key in _VIDEO_KEYS if (value := _number(tags.get(key)))), None)
    return None if found is None else found / _FILM_DIAGONAL_MM * math.hypot(height, width)


def _number(value: Any) -> float | None:
    """Return a tag as a positive number, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and number > 0 else None
