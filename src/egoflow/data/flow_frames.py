"""Frames with true flow beside them, as the public flow data sets keep them."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from egoflow.data.cameras import resolve_camera
from egoflow.data.folders import common_size
from egoflow.data.formats import read_flow, read_image, read_mask
from egoflow.errors import DataError
from egoflow.geometry.camera import Camera
from egoflow.types import FlowTruth, FrameTruth, Pair, Scale

_FPS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowFiles:
    """Where the true flow of a pair lies: ``flow``, and what tells the hidden pixels, None where nothing does.

    ``occluded`` and ``invalid`` are masks, white = occluded, invalid (Sintel); ``unoccluded`` is the flow of visible
    pixels alone (KITTI's flow_noc).
    """

    flow: Path
    occluded: Path | None = None
    invalid: Path | None = None
    unoccluded: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A pair or scene of a flow data set: its ``frames`` in order, names of files in ``folder``.

    ``flow`` holds the flow files of pairs of frames, ``movers`` the masks of what moves by itself. ``held_out``: of the
    set's test or validation part, which is opened by its own name only.
    """

    name: str
    folder: Path
    frames: tuple[str, ...]
    flow: dict[Pair, FlowFiles] = field(default_factory=dict)
    movers: dict[int, Path] = field(default_factory=dict)
    held_out: bool = False

    def file(self, index: int) -> Path:
        """Return the file of frame ``index``; the first one names the shot."""
        return self.folder / self.frames[index]

    def is_at(self, path: Path) -> bool:
        """Say whether ``path`` is one of the frames, their folder or a folder above."""
        return self.folder.is_relative_to(path) or (path.parent == self.folder and path.name in self.frames)


class FlowFrames:
    """A Shot as a FrameSource that knows flow; every file is read when it is asked for, none on opening.

    Time stamps count the frames at 10 a second. Frames or flow of another size than the first frame, and files that
    are damaged, raise DataError by name.
    """

    def __init__(self, shot: Shot, camera: Camera | str | None) -> None:
        self.shot, self.name = shot, shot.name
        self.scale: Scale = "relative"
        self.time_s: np.ndarray = np.arange(len(shot.frames)) / _FPS
        self.assumed_fps: float | None = _FPS
        self._given = camera
        self._camera: Camera | None = None

    @property
    def camera(self) -> Camera:
        """Return the camera that was given, at the size of the first frame; DataError where none was or it misfits."""
        if self._camera is None:
            first = self.shot.file(0)
            height, width = common_size(first, [first])
            self._camera = resolve_camera(self._given, height=height, width=width, name=str(first))
        return self._camera

    def check_camera(self) -> None:
        """Raise DataError unless a camera was given that fits the first frame, which is opened for it."""
        _ = self.camera

    def __len__(self) -> int:
        return len(self.shot.frames)

    def frame_name(self, index: int) -> str:
        """Return the stem of the frame's file."""
        return self.shot.file(index).stem

    def image(self, index: int) -> np.ndarray:
        """Return frame ``index`` as RGB uint8 [H, W, 3]; DataError that names a frame that cannot be read."""
        if not 0 <= index < len(self):
            raise DataError(f"{self.name}: no frame {index}; there are {len(self)}")
        return self._of_size(self.shot.file(index), read_image(self.shot.file(index)))

    def truth(self, index: int) -> FrameTruth:
        """Return the mask of what has no motion of its own, where the set brings one (KITTI 2015)."""
        movers = self.shot.movers.get(index)
        return FrameTruth() if movers is None else FrameTruth(static=~self._mask(movers))

    def flow_truth(self, a: int, b: int) -> FlowTruth | None:
        """Return the flow from frame ``a`` to ``b``, or None where the set has none."""
        files = self.shot.flow.get((a, b))
        if files is None:
            return None
        flow, valid = self._flow(files.flow)
        if files.invalid is not None:
            valid &= ~self._mask(files.invalid)
        visible = None
        if files.unoccluded is not None:
            visible = self._flow(files.unoccluded)[1]
        elif files.occluded is not None:
            visible = ~self._mask(files.occluded)
        if visible is not None:
            visible &= valid & _in_view(flow)
        return FlowTruth(flow_ab=np.ascontiguousarray(flow.transpose(2, 0, 1)), valid=valid, visible=visible)

    def _flow(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Return (flow, valid) of a file of the frames' size."""
        flow, valid = read_flow(path)
        return self._of_size(path, flow), valid

    def _mask(self, path: Path) -> np.ndarray:
        """Return a mask of the frames' size."""
        return self._of_size(path, read_mask(path))

    def _of_size(self, path: Path, value: np.ndarray) -> np.ndarray:
        """Return ``value`` if it is of the first frame's size; DataError that names its file otherwise."""
        expected = (self.camera.height, self.camera.width)
        if value.shape[:2] != expected:
            raise DataError(f"{path}: {value.shape[0]}x{value.shape[1]} pixels, but {self.shot.frames[0]} has "
                            f"{expected[0]}x{expected[1]}")
        return value


def _in_view(flow_ab: np.ndarray) -> np.ndarray:
    """Return bool [H, W]: the end of a flow [H, W, 2] lies between the outermost pixel centres."""
    height, width = flow_ab.shape[:2]
    y, x = np.mgrid[:height, :width] + np.moveaxis(flow_ab, 2, 0)[::-1]
    return np.asarray((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1))
