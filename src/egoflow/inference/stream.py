"""Predict a source frame by frame in constant memory."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from egoflow.config import Run
from egoflow.console import note
from egoflow.errors import CheckpointError, DataError
from egoflow.geometry.pixels import resize_image
from egoflow.geometry.se3 import SE3
from egoflow.geometry.shared_points import LengthRatio
from egoflow.inference.neighbour_views import NeighbourViews, shared_length
from egoflow.inference.own_motion import OwnMotion, own_motion_of
from egoflow.methods.base import Method
from egoflow.types import Clip, FrameSource, Prediction, Scale

_NAMED = 3
"""So many broken frames are named one by one; a truncated video has hundreds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FramePrediction:
    """What a method says of frame ``index``: ``inv_depth`` [h, w] float32 or None, and motions to its neighbours.

    ``next_from_this`` and ``previous_from_this`` (unbatched, float64) lead to the nearest frames that could be read;
    they are None at the ends of the source, or where the method has no motion. Of those of key frames, and of no
    others, the path is made. ``own_motion`` says what moves by itself, None for a method without depth, motion and
    flow both ways. ``neighbours`` are the indices of the frames before and after that these lead to, None where there
    is none. ``two_view`` is previous_from_this of unit length by two-view geometry, where that was asked, and
    ``length_ratio`` how much longer the step to the frame after is than that to the one before, by points seen in both.
    """

    index: int
    image: np.ndarray
    inv_depth: np.ndarray | None
    next_from_this: SE3 | None
    previous_from_this: SE3 | None
    scale: Scale = "relative"
    own_motion: OwnMotion | None = None
    key: bool = True
    neighbours: tuple[int | None, int | None] = (None, None)
    two_view: SE3 | None = None
    length_ratio: LengthRatio | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A frame as it is [H, W, 3], and as a tensor [3, h, w] in [0, 1] at working size."""

    index: int
    image: np.ndarray
    tensor: Tensor


def predicted_frames(run: Run, source: FrameSource) -> range:
    """Return the frames of ``source`` that a run predicts: every one, or ``run.data.gap`` apart, as it was trained."""
    return range(0, len(source), 1 if run.every_frame else run.data.gap)


def neighbours_apart(run: Run) -> int:
    """Return how many predicted frames a frame's neighbour is away: as many as lie between two frames of training."""
    return run.data.gap if run.every_frame else 1


def leads_to(gap: int) -> str:
    """Return in words which frame flow and scene flow lead to, with neighbours ``gap`` frames of the source apart."""
    return "the next frame" if gap == 1 else f"the frame {gap} on"


def predict_stream(method: Method, run: Run, source: FrameSource) -> Iterator[FramePrediction]:
    """Yield the prediction of every readable frame of ``source`` in order; only the frames of one clip are held.

    Frames are resized to the size that the run was trained at. At the ends the clip repeats the outermost frame; the
    motions to repeated frames are not used. A frame that cannot be read is named once and passed over: its neighbours
    then see each other. Raises DataError when there are too few frames, CheckpointError when the weights predict NaN.
    """
    indices, apart = predicted_frames(run, source), neighbours_apart(run)
    if len(indices) < min(apart + 1, method.clip_length):
        words = "" if run.data.gap == 1 else f", data.gap={run.data.gap} apart"
        raise DataError(f"{source.name}: one frame of {len(source)}{words}; camera motion needs at least 2")
    size = run.data.height, run.data.width
    device = next(method.parameters()).device
    before, after = method.target, method.clip_length - 1 - method.target
    views = None if method.motion_mode == "net" else NeighbourViews(source.camera)
    frames = readable_frames(source, indices, size=size)
    for number, (past, frame, coming) in enumerate(neighbourhoods(frames, before=before, after=after, apart=apart)):
        clip = clip_of(method, source, past, frame, coming)
        if views is not None:
            # The earlier neighbour first: its pair is the one that the frame before has asked for.
            near = [(-1, other) for other in past[-1:]] + [(1, other) for other in coming[:1]]
            clip = replace(clip, start={(method.target, method.target + step): views(
                frame.index, frame.image, other.index, other.image) for step, other in near})
        with torch.no_grad():
            prediction = method.predicted(clip.to(device)).to("cpu")
        said = _framed(clip, prediction, frame, previous=bool(past), following=bool(coming))
        if run.metres_per_unit is not None:
            said = in_metres(said, run.metres_per_unit)
        near = (past[-1].index if past else None, coming[0].index if coming else None)
        view, following = (clip.start.get((method.target, method.target + step)) if real else None
                           for step, real in ((-1, past), (1, coming)))
        key = number % apart == 0
        yield replace(said, key=key, neighbours=near, two_view=None if view is None else _in_float64(view.b_from_a),
                      length_ratio=shared_length(view, following, source.camera) if key else None)


def readable_frames(source: FrameSource, indices: range, *, size: tuple[int, int] | None) -> Iterator[Frame]:
    """Yield the frames that can be read, at the working ``size`` (None: as they are); name those that cannot."""
    broken: list[str] = []
    for index in indices:
        try:
            image = source.image(index)
        except DataError as error:
            broken.append(str(error))
            if len(broken) <= _NAMED:
                note(f"skipped: {error}")
            continue
        tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
        height, width = size or image.shape[:2]
        yield Frame(index=index, image=image, tensor=resize_image(tensor, height=height, width=width)[0])
    if len(broken) == len(indices):
        raise DataError(f"{source.name}: none of its {len(indices)} frames can be read; the first: {broken[0]}")
    if len(broken) > _NAMED:
        note(f"skipped: {len(broken) - _NAMED} more of the {len(indices)} frames of {source.name} cannot be read")


def neighbourhoods(frames: Iterator[Frame], *, before: int, after: int, apart: int = 1) -> Iterator[
        tuple[Sequence[Frame], Frame, Sequence[Frame]]]:
    """Yield every frame with up to ``before`` frames before it and up to ``after`` frames after it, ``apart`` apart."""
    past: deque[Frame] = deque(maxlen=before * apart)
    coming = deque(islice(frames, 1 + after * apart))
    while coming:
        frame = coming.popleft()
        yield list(past)[-apart::-apart][::-1], frame, list(coming)[apart - 1::apart]
        past.append(frame)
        coming.extend(islice(frames, 1))


def clip_of(method: Method, source: FrameSource, past: Sequence[Frame], frame: Frame, coming: Sequence[Frame]) -> Clip:
    """Return the clip around a frame; at the ends the outermost frame stands in for those that are not there."""
    before, after = method.target, method.clip_length - 1 - method.target
    frames = [*[(past or [frame])[0]] * (before - len(past)), *past, frame, *coming,
              *[(coming or [frame])[-1]] * (after - len(coming))]
    height, width = frame.tensor.shape[-2:]
    return Clip(images=torch.stack([f.tensor for f in frames])[None], target=method.target,
                camera=source.camera.resized(height=height, width=width),
                time_s=torch.tensor([[float(source.time_s[f.index]) for f in frames]], dtype=torch.float64),
                key=(f"{source.name}/{source.frame_name(frame.index)}",))


def _framed(clip: Clip, prediction: Prediction, frame: Frame, *, previous: bool, following: bool) -> FramePrediction:
    """Pick the target's depth and its motions to real neighbours out of a clip's prediction, and tell what moves."""
    target, key = clip.target, clip.key[0]

    def motion(step: int, real: bool) -> SE3 | None:
        found = prediction.motion.get((target, target + step)) if real else None
        if found is None:
            return None
        refuse_nan(found.t, key)
        return _in_float64(found)

    levels = prediction.inv_depth.get(target)
    if levels is not None:
        refuse_nan(levels[0], key)
    own_motion = own_motion_of(clip, prediction, previous=previous, following=following)
    if own_motion is not None:
        refuse_nan(torch.from_numpy(own_motion.flow), key)
    return FramePrediction(index=frame.index, image=frame.image, scale=prediction.scale,
                           next_from_this=motion(1, following), previous_from_this=motion(-1, previous),
                           own_motion=own_motion,
                           inv_depth=None if levels is None else levels[0][0, 0].float().numpy())


def _in_float64(motion: SE3) -> SE3:
    """Return the first motion of a batch in float64."""
    # By way of the logarithm: float32 rotations are off by 1e-7, which a long chain would add up.
    return SE3.exp(motion[0].to(torch.float64).log())


def in_metres(frame: FramePrediction, metres_per_unit: float) -> FramePrediction:
    """Return a prediction whose unit is the metre."""
    motions = {name: None if motion is None else motion.scaled(metres_per_unit) for name, motion in (
        ("next_from_this", frame.next_from_this), ("previous_from_this", frame.previous_from_this))}
    own = frame.own_motion
    return replace(frame, **motions, scale="metric",
                   inv_depth=None if frame.inv_depth is None else frame.inv_depth / np.float32(metres_per_unit),
                   own_motion=None if own is None else replace(
                       own, scene_flow=own.scene_flow * np.float32(metres_per_unit)))


def refuse_nan(value: Tensor, key: str) -> None:
    """Raise CheckpointError unless every number is finite."""
    if not bool(torch.isfinite(value).all()):
        raise CheckpointError(f"the run predicts NaN for {key}: its training diverged; use another checkpoint, or "
                              f"train again with a lower optim.lr")
