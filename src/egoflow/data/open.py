"""One door to every kind of footage: what lies at a path decides how it is read."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from egoflow.data.files import frame_number
from egoflow.data.flow_frames import FlowFrames
from egoflow.data.flow_sets import find_shots
from egoflow.data.folders import IMAGE_SUFFIXES, ImageFolder, clip_folder, is_clip_folder
from egoflow.data.kitti import is_odometry_sequence, is_raw_drive, odometry_sequence, raw_drive
from egoflow.data.lens import Straightened, read_lens
from egoflow.data.video import VIDEO_SUFFIXES, VideoFile
from egoflow.errors import DataError
from egoflow.geometry.camera import Camera
from egoflow.types import FlowSource, FlowTruth, FrameSource, FrameTruth, Scale, assumed_fps

# A step that holds for nearly all neighbours is the numbering's own; any other step is a gap.
_REGULAR = 0.9
_LONG = 3.0


class FrameSlice:
    """Some frames of a source, in order, as a source of their own; the frames keep their names and times.

    ``joined`` says that what was left out between them leaves no gap: repeated frames, for instance.
    """

    def __init__(self, source: FrameSource, indices: Sequence[int], *, name: str | None = None, joined: bool = False
                 ) -> None:
        self.joined = joined
        # A slice of a slice is a slice of the first source, so that the jumps of both are seen.
        self.source: FrameSource = source.source if isinstance(source, FrameSlice) else source
        self.indices = [source.indices[i] for i in indices] if isinstance(source, FrameSlice) else list(indices)
        self.name = name or source.name
        self.camera: Camera = source.camera
        self.scale: Scale = source.scale
        self.time_s: np.ndarray = np.asarray(self.source.time_s)[self.indices]
        self.assumed_fps = assumed_fps(source)

    def __len__(self) -> int:
        return len(self.indices)

    def image(self, index: int) -> np.ndarray:
        """Return frame ``index`` of the slice as RGB uint8 [H, W, 3]."""
        return self.source.image(self.indices[index])

    def truth(self, index: int) -> FrameTruth:
        """Return what is known of frame ``index`` of the slice."""
        return self.source.truth(self.indices[index])

    def flow_truth(self, a: int, b: int) -> FlowTruth | None:
        """Return the flow between two frames of the slice, where the source knows it."""
        if not isinstance(self.source, FlowSource):
            return None
        return self.source.flow_truth(self.indices[a], self.indices[b])

    def frame_name(self, index: int) -> str:
        """Return the name that the frame has in its source."""
        return self.source.frame_name(self.indices[index])


def parse_frames(text: str, *, length: int, name: str) -> range:
    """Return the frame positions that a Python slice such as ``0:200`` or ``:-10:2`` selects; DataError otherwise."""
    words = text.strip().split(":")
    try:
        numbers = [int(word) if word.strip() else None for word in words]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 3) or (len(numbers) == 3 and (numbers[2] or 1) < 0) or 0 in numbers[2:]:
        raise DataError(f"frames '{text}': expected a slice such as 0:200, 100: or 0:200:2")
    selected = range(length)[slice(*numbers)]
    if not selected:
        raise DataError(f"frames '{text}' selects nothing of the {length} frames of {name}")
    return selected


def open_source(path: str | Path, *, camera: Camera | str | None = None, frames: str | None = None) -> FrameSource:
    """Open a video, a folder of images, a clip folder, a KITTI sequence or drive, or one shot of a flow data set.

    What holds several of them is refused (see ``open_shots``).

    ``camera`` is a Camera or ``camera.json``, ``fx,fy,cx,cy`` or ``fov=70``, for footage that brings no intrinsics (and
    wins over those it brings). ``frames`` is a Python slice over the frames by position. Raises DataError that names
    the path and says what was expected.
    """
    sources = open_shots(path, camera=camera, frames=frames)
    if len(sources) > 1:
        title, shots = find_shots(path)
        held, one = ((f"pairs or scenes of {title}", shots[0].file(0)) if shots else
                     ("clips", Path(path, sources[0].name)))
        raise DataError(f"{path}: holds {len(sources)} {held}; name one of them, for instance {one}")
    return sources[0]


def open_shots(path: str | Path, *, camera: Camera | str | None = None, frames: str | None = None) -> list[FrameSource]:
    """Open all pairs or scenes at or below ``path`` in a flow data set, all clip folders in a folder, or one source.

    ``camera`` and ``frames`` are those of every one of them.
    """
    sources = [_straightened(source, Path(path), camera) for source in _opened(Path(path), camera)]
    if frames is None:
        return sources
    return [FrameSlice(s, parse_frames(frames, length=len(s), name=s.name)) for s in sources]


def _straightened(source: FrameSource, path: Path, camera: Camera | str | None) -> FrameSource:
    """Return a source with the lens taken out that its camera file states, that given or that beside the frames."""
    file = None if isinstance(camera, Camera) else camera_file(path, source.name, camera)
    lens = None if file is None else read_lens(file)
    return source if lens is None else Straightened(source, lens)


def camera_file(path: Path, name: str, camera: str | None) -> Path | None:
    """Return the camera.json that is given for the source ``name`` of ``path``, or lies beside its frames, or None."""
    given = [Path(camera)] if camera is not None else [path / "camera.json", path / name / "camera.json"]
    return next((file for file in given if file.suffix == ".json" and file.is_file()), None)


def _opened(path: Path, camera: Camera | str | None) -> list[FrameSource]:
    """Open what lies at ``path``."""
    if path.is_file() and path.suffix.lower() not in IMAGE_SUFFIXES:
        return [VideoFile(path, camera)]
    if is_odometry_sequence(path):
        return [odometry_sequence(path, camera)]
    if is_raw_drive(path):
        return [raw_drive(path, camera)]
    if is_clip_folder(path):
        return [clip_folder(path, camera)]
    if shots := find_shots(path)[1]:
        sources = [FlowFrames(shot, camera) for shot in shots]
        # One stands for all: a camera that is missing or misfits is said on opening, not at the first clip.
        sources[0].check_camera()
        return [*sources]
    if path.is_dir() and (clips := sorted(f for f in path.iterdir() if is_clip_folder(f))):
        return [clip_folder(clip, camera) for clip in clips]
    return [_footage(path, camera)]


def _footage(path: Path, camera: Camera | str | None) -> FrameSource:
    """Open a folder of images or one that holds such a folder; DataError where there is neither."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.is_file():
        return VideoFile(path, camera)
    subfolder = next((path / n for n in ("image", "images") if (path / n).is_dir()), None)
    if subfolder is not None:
        return clip_folder(path, camera)
    _refuse_other_folders(path)
    return ImageFolder(path, camera)


def _refuse_other_folders(path: Path) -> None:
    """Name the remedy for a folder that holds videos, or only folders, in place of images."""
    inside = [p for p in path.iterdir() if not p.name.startswith(".")]
    videos = sorted(p.name for p in inside if p.suffix.lower() in VIDEO_SUFFIXES)
    if videos and len(videos) == len([p for p in inside if p.is_file()]):
        raise DataError(f"{path}: a folder of videos; name one of them, for instance {path / videos[0]}")


def is_straightened(source: FrameSource) -> bool:
    """Say whether a lens is taken out of a source's frames."""
    return isinstance(source.source if isinstance(source, FrameSlice) else source, Straightened)


def continuous_runs(source: FrameSource) -> list[range]:
    """Return the runs of frames without a gap between neighbours.

    A gap is a jump in the numbering of the frame names (a step other than the usual one; where no step is usual, more
    than three times the median), in the time stamps (more than three times the median step), or in a FrameSlice's
    positions.
    """
    if len(source) == 0:
        return []
    broken = _jumps(np.asarray(source.time_s, dtype=np.float64), regular=False)
    if not (isinstance(source, FrameSlice) and source.joined):
        broken |= _missing(source)
    edges = [0, *(int(i) + 1 for i in np.flatnonzero(broken)), len(source)]
    return [range(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)]


def _missing(source: FrameSource) -> np.ndarray:
    """Return bool [N - 1]: frames are missing before the next one, by their names or a FrameSlice's positions."""
    numbers = [frame_number(source.frame_name(i)) for i in range(len(source))]
    counted = [n for n in numbers if n is not None]
    broken = np.zeros(max(len(source) - 1, 0), dtype=bool)
    if len(counted) == len(numbers):
        broken |= _jumps(np.array(counted, dtype=np.float64), regular=True)
    if isinstance(source, FrameSlice):
        broken |= _jumps(np.array(source.indices, dtype=np.float64), regular=True)
    return broken


def _jumps(values: np.ndarray, *, regular: bool) -> np.ndarray:
    """Return bool [N - 1]: the step to the next value is longer than usual; none where the values do not increase."""
    steps = np.diff(values)
    if steps.size == 0 or (steps <= 0).any():
        return np.zeros(steps.shape, dtype=bool)
    usual = float(np.median(steps))
    if regular and (steps == usual).mean() >= _REGULAR:
        return steps > usual
    return steps > _LONG * usual
