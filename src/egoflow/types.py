"""What flows between the parts: clips in, predictions and loss terms out."""

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from egoflow.errors import ShapeError
from egoflow.geometry.camera import Camera
from egoflow.geometry.se3 import SE3

Pair = tuple[int, int]
"""(a, b): on the pixel grid of frame a, pointing to frame b."""

Scale = Literal["relative", "metric"]


def _moved(value: Any, *args: Any, **kwargs: Any) -> Any:
    """Move every tensor inside ``value`` as ``Tensor.to``."""
    if isinstance(value, dict):
        return {k: _moved(v, *args, **kwargs) for k, v in value.items()}
    if isinstance(value, list):
        return [_moved(v, *args, **kwargs) for v in value]
    return value.to(*args, **kwargs) if hasattr(value, "to") else value


def _sliced(value: Any, index: slice) -> Any:
    """Slice the batch dimension of every tensor inside ``value``."""
    if isinstance(value, dict):
        return {k: _sliced(v, index) for k, v in value.items()}
    if isinstance(value, list):
        return [_sliced(v, index) for v in value]
    if isinstance(value, Movable):
        return value[index]
    return value[index] if isinstance(value, Tensor | SE3 | Camera | tuple) else value


class Movable:
    """A dataclass of batched tensors that can be moved to a device and sliced as one."""

    __slots__ = ()

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Return a copy with every tensor moved as ``Tensor.to``."""
        return replace(self, **{f.name: _moved(getattr(self, f.name), *args, **kwargs) for f in fields(self)})  # type: ignore[type-var]

    def __getitem__(self, index: slice) -> Any:
        """Return the samples ``index`` (a slice) of the batch."""
        return replace(self, **{f.name: _sliced(getattr(self, f.name), index) for f in fields(self)})  # type: ignore[type-var]


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth(Movable):
    """Ground truth of a clip, for metrics and supervised methods only; what is unknown is None or absent.

    ``depth`` [B, N, 1, h, w] and ``valid_depth`` (bool) may have their own size; ``world_from_cam`` is [B, N].
    Flow [B, 2, H, W] and its ``valid_flow`` (it is known) and ``visible`` (it is not occluded in the other frame), bool
    [B, 1, H, W], are keyed by pair, on the image grid; ``static`` [B, N, 1, H, W].
    """

    depth: Tensor | None = None
    valid_depth: Tensor | None = None
    world_from_cam: SE3 | None = None
    flow: dict[Pair, Tensor] = field(default_factory=dict)
    valid_flow: dict[Pair, Tensor] = field(default_factory=dict)
    visible: dict[Pair, Tensor] = field(default_factory=dict)
    static: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoView(Movable):
    """What classical two-view geometry says of a pair, without labels (see geometry/two_view.py).

    ``flow_ab`` [B, 2, h, w] in pixels of its own size, in training that of the images, ``usable`` bool [B, 1, h, w],
    ``b_from_a`` with a unit translation, ``weight`` [B]: the inlier share, 0 for a degenerate pair.
    """

    flow_ab: Tensor
    usable: Tensor
    b_from_a: SE3
    weight: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip(Movable):
    """A batch of short videos; the only input of a method.

    ``images`` [B, N, 3, H, W] RGB in [0, 1]; ``camera`` of that size, batched; ``time_s`` [B, N]; ``target`` the index
    of the reference frame; ``key`` names every sample in logs and errors; ``start`` holds the two-view start of pairs.
    """

    images: Tensor
    camera: Camera
    time_s: Tensor
    target: int
    truth: Truth | None = None
    key: tuple[str, ...] = ()
    start: dict[Pair, TwoView] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = tuple(self.images.shape)
        where = f" for {self.key[0]}" if self.key else ""
        if len(shape) != 5 or shape[2] != 3 or shape[1] < 1:
            raise ShapeError(f"Clip.images must be [B, N, 3, H, W], got {shape}{where}")
        if (self.camera.height, self.camera.width) != shape[3:]:
            raise ShapeError(f"Clip.camera is for {self.camera.height}x{self.camera.width}, the images are "
                             f"{shape[3]}x{shape[4]}{where}; resize the camera with the images")
        if not 0 <= self.target < shape[1]:
            raise ShapeError(f"Clip.target {self.target} is outside the {shape[1]} frames{where}")

    @property
    def sources(self) -> tuple[int, ...]:
        """Return the indices of all frames but the target."""
        return tuple(i for i in range(self.images.shape[1]) if i != self.target)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction(Movable):
    """What a method says of a clip; what is absent is an empty dict, and keys say the grid.

    ``inv_depth`` per frame is a list from fine to coarse; ``flow`` per pair a list of guesses [B, 2, h, w], the best,
    at full size, first, each in pixels of its own size (levels of a pyramid, or refinements, last to first);
    ``motion`` maps (a, b) to b_from_a;
    ``weight`` [B, 1, H, W] lists (fine to coarse) in [0, 1] say how far a pair's reconstruction is to be trusted.
    """

    inv_depth: dict[int, list[Tensor]] = field(default_factory=dict)
    motion: dict[Pair, SE3] = field(default_factory=dict)
    flow: dict[Pair, list[Tensor]] = field(default_factory=dict)
    weight: dict[Pair, list[Tensor]] = field(default_factory=dict)
    object_motion: dict[Pair, Tensor] = field(default_factory=dict)
    camera: Camera | None = None
    scale: Scale = "relative"


class LossTerms(dict[str, tuple[float, Tensor]]):
    """Named terms ``name -> (weight, scalar)``; ``total`` is their weighted sum."""

    @property
    def total(self) -> Tensor:
        """Return the weighted sum of all terms."""
        if not self:
            raise ShapeError("a method returned no loss term; losses() must name at least one")
        return torch.stack([weight * value for weight, value in self.values()]).sum()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """A camera path: ``world_from_cam`` [N] in float64, ``time_s`` [N] float64, and what its unit of length is."""

    world_from_cam: SE3
    time_s: Tensor
    scale: Scale = "relative"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTruth:
    """Ground truth of one frame of a source: ``depth`` [h, w] float32 with ``valid_depth`` bool, the frame's
    ``world_from_cam`` (unbatched, float64) and ``static`` bool [H, W]; what is unknown is None.
    """

    depth: np.ndarray | None = None
    valid_depth: np.ndarray | None = None
    world_from_cam: SE3 | None = None
    static: np.ndarray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowTruth:
    """True flow of a pair of frames (a, b) of a source, at their native size.

    ``flow_ab`` float32 [2, H, W] in pixels; ``valid`` bool [H, W]: the flow is known; ``visible`` bool [H, W]: the
    point is in view and unhidden in b, None where the data does not say.
    """

    flow_ab: np.ndarray
    valid: np.ndarray
    visible: np.ndarray | None = None


class FrameSource(Protocol):
    """One continuous shot, frame by frame: a video file, a folder, a data-set drive or a rendered world."""

    name: str
    """Names the source in logs and errors: "kitti/2011_09_26_drive_0001"."""
    time_s: np.ndarray
    """Time stamps [N] in seconds, strictly increasing."""
    scale: Scale
    """Unit of the truth's lengths."""

    @property
    def camera(self) -> Camera:
        """Return the camera (batch of 1) of the frames at their native size."""
        ...

    def __len__(self) -> int:
        """Return the number of frames."""
        ...

    def image(self, index: int) -> np.ndarray:
        """Return frame ``index`` as RGB uint8 [H, W, 3]; raise DataError that names a frame that cannot be read."""
        ...

    def truth(self, index: int) -> FrameTruth:
        """Return what is known of frame ``index``."""
        ...

    def frame_name(self, index: int) -> str:
        """Return the stem that predictions and truth of this frame are matched by: "000042"."""
        ...


def assumed_fps(source: FrameSource) -> float | None:
    """Return the frames a second that a source's times were made from because it brings no time stamps, else None."""
    return getattr(source, "assumed_fps", None)


@runtime_checkable
class FlowSource(Protocol):
    """A source of frames that may know the true flow between some of them."""

    def flow_truth(self, a: int, b: int) -> FlowTruth | None:
        """Return the flow from frame ``a`` to frame ``b``, or None where it is not known."""
        ...
