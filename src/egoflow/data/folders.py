"""Folders of frames as FrameSources: plain images, and clips with what is known of them laid beside."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from PIL import Image

from egoflow.data.cameras import read_camera, resolve_camera
from egoflow.data.files import frame_number, natural_key, read_text
from egoflow.data.formats import read_depth_png, read_flo, read_image, read_mask
from egoflow.data.trajectories import read_trajectory
from egoflow.errors import DataError
from egoflow.geometry.camera import Camera
from egoflow.geometry.se3 import SE3
from egoflow.types import FlowTruth, FrameTruth, Scale

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
IMAGE_FOLDERS = ("image", "image_0", "image_2", "images")
CAMERA_FILES = ("camera.json", "intrinsics.txt")
_POSES = ("poses_kitti.txt", "poses.txt")
_DEPTHS = ("depth", "depth_lidar")
_TIMES = ("timestamps.txt", "times.txt")
# Of the formats read, these can carry the tag that a camera was held upright.
_TURNED = ("JPEG", "MPO", "TIFF", "WEBP")


def image_files(folder: str | Path) -> list[Path]:
    """Return the image files of a folder in natural order; hidden files are left out."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    files = [f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith(".")]
    return sorted(files, key=lambda f: natural_key(f.name))


def _image_size(path: Path) -> tuple[int, int] | None:
    """Return (height, width) from the header, upright, or None where it cannot be read."""
    try:
        with Image.open(path) as image:
            turned = image.format in _TURNED and image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return (image.width, image.height) if turned else (image.height, image.width)
    except Exception:  # noqa: BLE001 - a damaged frame is named when it is read, not when the folder is opened
        return None


def common_size(folder: Path, files: Sequence[Path]) -> tuple[int, int]:
    """Return the size that all readable frames share; DataError that names two files of different sizes."""
    sizes = [(size, file) for file in files if (size := _image_size(file)) is not None]
    if not sizes:
        raise DataError(f"{folder}: none of the {len(files)} images can be read")
    first, named = sizes[0]
    for size, file in sizes:
        if size != first:
            raise DataError(f"{folder}: frames of several sizes: {named.name} is {first[0]}x{first[1]}, {file.name} is "
                            f"{size[0]}x{size[1]}; put each shot in a folder of its own")
    return first


def _times_from_names(files: Sequence[Path], *, fps: float) -> tuple[np.ndarray, float | None]:
    """Return time stamps: names like 1305031102.1753 are seconds; increasing numbers count frames; else the order.

    ``fps`` is returned where it was made use of.
    """
    stems = [f.stem for f in files]
    if all(s.count(".") == 1 and s.replace(".", "").isdecimal() for s in stems):
        stamps = np.array([float(s) for s in stems])
        if (np.diff(stamps) > 0).all():
            return stamps, None
    numbers = [frame_number(s) for s in stems]
    counted = [n for n in numbers if n is not None]
    if len(counted) == len(stems) and (np.diff(counted) > 0).all():
        return (np.array(counted, dtype=np.float64) - counted[0]) / fps, fps
    return np.arange(len(files)) / fps, fps


class ImageFolder:
    """A folder of image files as a FrameSource, in natural order (frame2 before frame10).

    ``truth`` answers what is known of a frame, ``flow`` of a pair of frames. Without ``time_s`` [N] the times follow
    the names at ``fps``, without ``camera`` a camera.json or intrinsics.txt among the images is read. Damaged
    frames keep their place and raise DataError by name when they are read; frames of several sizes are refused.
    """

    def __init__(self, path: str | Path, camera: Camera | str | None = None, *, name: str | None = None,
                 time_s: np.ndarray | None = None, fps: float = 10.0, scale: Scale = "relative",
                 truth: Callable[[int], FrameTruth] | None = None,
                 flow: Callable[[int, int], FlowTruth | None] | None = None) -> None:
        self.path = Path(path)
        self.files = image_files(self.path)
        if len(self.files) < 2:
            raise DataError(f"{path}: expected a folder of at least 2 images, found {len(self.files)}")
        height, width = common_size(self.path, self.files)
        self.name = name or self.path.name
        self.scale: Scale = scale
        beside = _first(self.path, CAMERA_FILES)
        if camera is None and beside is not None:
            camera = read_camera(beside, height=height, width=width)
        self.camera = resolve_camera(camera, height=height, width=width, name=str(path), file=self.files[0])
        self.time_s, self.assumed_fps = _times_from_names(self.files, fps=fps) if time_s is None else (time_s, None)
        if len(self.time_s) != len(self.files):
            raise DataError(f"{path}: {len(self.time_s)} time stamps for {len(self.files)} images; one each is needed")
        self._truth, self._flow = truth, flow

    def __len__(self) -> int:
        return len(self.files)

    def frame_name(self, index: int) -> str:
        """Return the stem of the frame's file."""
        return self.files[index].stem

    def image(self, index: int) -> np.ndarray:
        """Return frame ``index`` as RGB uint8 [H, W, 3]; DataError that names a frame that cannot be read."""
        if not 0 <= index < len(self):
            raise DataError(f"{self.path}: no frame {index}; the folder has {len(self)}")
        image = read_image(self.files[index])
        if image.shape[:2] != (self.camera.height, self.camera.width):
            raise DataError(f"{self.files[index]}: {image.shape[0]}x{image.shape[1]} pixels, but the other frames are "
                            f"{self.camera.height}x{self.camera.width}")
        return image

    def truth(self, index: int) -> FrameTruth:
        """Return what is known of frame ``index``."""
        return FrameTruth() if self._truth is None else self._truth(index)

    def flow_truth(self, a: int, b: int) -> FlowTruth | None:
        """Return the flow from frame ``a`` to frame ``b``, or None where it is not known."""
        return None if self._flow is None else self._flow(a, b)


def read_timestamps(path: str | Path) -> np.ndarray:
    """Return time stamps [N] in seconds from the first, of a text file with one a line.

    A line is seconds, or a date and time of day (2011-09-26 13:02:25.961661696), either after an optional frame
    number. Raises DataError that names the line.
    """
    stamps: list[float] = []
    start: datetime | None = None
    for number, line in enumerate(read_text(path, limit=2**24).splitlines(), start=1):
        words = line.split("#")[0].split()
        if not words:
            continue
        try:
            if ":" in words[-1]:
                clock, _, fraction = words[-1].partition(".")
                moment = datetime.fromisoformat(f"{words[-2]} {clock}")
                start = start or moment
                stamps.append((moment - start).total_seconds() + float(f"0.{fraction or 0}"))
            else:
                stamps.append(float(words[-1]))
        except (ValueError, IndexError) as error:
            raise DataError(f"{path}: line {number} is no time stamp: expected seconds or a date and time") from error
        if not np.isfinite(stamps[-1]) or (len(stamps) > 1 and stamps[-1] <= stamps[-2]):
            raise DataError(f"{path}: line {number}: time stamps must be finite and increase")
    if not stamps:
        raise DataError(f"{path}: holds no time stamps")
    return np.array(stamps) - stamps[0]


def _first(folder: Path, names: Iterable[str]) -> Path | None:
    """Return the first of ``names`` that lies in ``folder``."""
    return next((folder / n for n in names if (folder / n).exists()), None)


def _by_number(folder: Path | None) -> dict[int | str, Path]:
    """Return the png files of a folder by the frame number in their name."""
    files = [] if folder is None or not folder.is_dir() else folder.glob("[!.]*.png")
    return {n if (n := frame_number(f.stem)) is not None else f.stem: f for f in files}


def truth_reader(names: Sequence[str], *, world_from_cam: SE3 | None = None, depth: Path | None = None,
                 static: Path | None = None) -> Callable[[int], FrameTruth]:
    """Return a function that reads a frame's truth: depth and static masks are matched by the number in the name."""
    depths, statics = _by_number(depth), _by_number(static)
    keys = [n if (n := frame_number(name)) is not None else name for name in names]

    def read(index: int) -> FrameTruth:
        depth_file, static_file = depths.get(keys[index]), statics.get(keys[index])
        value, valid = read_depth_png(depth_file) if depth_file else (None, None)
        return FrameTruth(depth=value, valid_depth=valid, static=read_mask(static_file) if static_file else None,
                          world_from_cam=None if world_from_cam is None else world_from_cam[index])
    return read


def flow_reader(folder: Path, names: Sequence[str]) -> Callable[[int, int], FlowTruth | None]:
    """Return a function that reads the flow of neighbouring frames from what ``egoflow render`` writes.

    ``flow/`` and ``flow_backward/`` hold the flow to the next frame and to the one before, ``visible/`` masks of what
    is seen in the next; None is returned for pairs without a file.
    """
    def read(a: int, b: int) -> FlowTruth | None:
        file = folder / ("flow" if b > a else "flow_backward") / f"{names[a]}.flo"
        if abs(b - a) != 1 or not file.exists():
            return None
        flow, valid = read_flo(file)
        mask = folder / "visible" / f"{names[a]}.png"
        visible = read_mask(mask) if b > a and mask.exists() else None
        if visible is not None and visible.shape != valid.shape:
            raise DataError(f"{mask}: {visible.shape[0]}x{visible.shape[1]} pixels, but the flow beside it has "
                            f"{valid.shape[0]}x{valid.shape[1]}")
        return FlowTruth(flow_ab=np.ascontiguousarray(flow.transpose(2, 0, 1)), valid=valid, visible=visible)
    return read


def read_poses(path: str | Path, *, frames: int) -> SE3:
    """Return world_from_cam [frames] of a KITTI file; DataError if it has another number of rows."""
    motion = read_trajectory(path, format="kitti").world_from_cam
    if len(motion.t) != frames:
        raise DataError(f"{path}: {len(motion.t)} rows for {frames} images; one each is needed")
    return motion


def is_clip_folder(path: Path) -> bool:
    """Say whether ``path`` holds frames in a subfolder with a camera file beside it."""
    return _first(path, IMAGE_FOLDERS) is not None and _first(path, CAMERA_FILES) is not None


def clip_folder(path: str | Path, camera: Camera | str | None = None) -> ImageFolder:
    """Open a clip in egoflow's own layout: frames in image/, image_0/ or image_2/, the rest beside them if known.

    ``camera.json`` or ``intrinsics.txt`` (3x3), ``poses_kitti.txt`` or ``poses.txt`` (one row a frame), ``depth/`` or
    ``depth_lidar/`` (16-bit PNG, metres * 256), ``static/`` masks, ``timestamps.txt``, ``times.txt`` or the times of
    ``trajectory_tum.txt``; ``flow/``, ``flow_backward/`` and ``visible/``. A ``camera`` given here wins over the file.
    """
    path = Path(path)
    images = _first(path, IMAGE_FOLDERS)
    if images is None:
        raise DataError(f"{path}: expected a subfolder {', '.join(IMAGE_FOLDERS)} of images")
    files = image_files(images)
    file, poses, depth = _first(path, CAMERA_FILES), _first(path, _POSES), _first(path, _DEPTHS)
    if camera is None and file is not None and files:
        height, width = common_size(images, files)
        camera = read_camera(file, height=height, width=width)
    truth = truth_reader([f.stem for f in files], depth=depth, static=_first(path, ("static",)),
                         world_from_cam=None if poses is None else read_poses(poses, frames=len(files)))
    # Poses alone do not say their unit; depth files are metres by their format.
    return ImageFolder(images, camera, name=path.name, time_s=_clip_times(path), truth=truth,
                       flow=flow_reader(path, [f.stem for f in files]),
                       scale="relative" if depth is None else "metric")


def _clip_times(path: Path) -> np.ndarray | None:
    """Return the time stamps that lie in a clip folder, or None."""
    times = _first(path, _TIMES)
    if times is not None:
        return read_timestamps(times)
    trajectory = path / "trajectory_tum.txt"
    return read_trajectory(trajectory, format="tum").time_s.numpy() if trajectory.exists() else None
