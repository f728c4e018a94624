"""Predict a source frame by frame in constant memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from egoflow.config import Run
from egoflow.geometry.pixels import resize_image
from egoflow.geometry.se3 import SE3, chain
from egoflow.methods.base import Method
from egoflow.types import Clip, FrameSource, Prediction, Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class FramePrediction:
    """What a method says of frame ``index``: ``inv_depth`` [h, w] float32 or None, and motions to its neighbours.

    ``next_from_this`` and ``previous_from_this`` (unbatched) are None at the ends of the source, or where the method has
    no motion.
    """

    index: int
    image: np.ndarray
    inv_depth: np.ndarray | None
    next_from_this: SE3 | None
    previous_from_this: SE3 | None


def predict_stream(method: Method, run: Run, source: FrameSource) -> Iterator[FramePrediction]:
    """Yield the prediction of every frame of ``source`` in order; only the frames of one clip are held.

    Frames are resized to the size that the run was trained at. At the ends the clip repeats the outermost frame; the
    motions to repeated frames are not used. With ``run.data.gap`` above 1, every gap-th frame is predicted.
    """
    height, width = run.data.height, run.data.width
    camera = source.camera.resized(height=height, width=width)
    device = next(method.parameters()).device
    indices = range(0, len(source), run.data.gap)
    window: dict[int, tuple[np.ndarray, Tensor]] = {}
    for position in range(len(indices)):
        wanted = [position + offset - method.target for offset in range(method.clip_length)]
        clamped = [min(max(w, 0), len(indices) - 1) for w in wanted]
        window = {p: window[p] if p in window else _read(source, indices[p], height, width) for p in sorted(set(clamped))}
        images = torch.stack([window[p][1] for p in clamped])[None]
        clip = Clip(images=images, camera=camera, time_s=_times(source, [indices[p] for p in clamped]),
                    target=method.target, key=(f"{source.name}/{source.frame_name(indices[position])}",))
        with torch.no_grad():
            prediction = method.predict(clip.to(device)).to("cpu")
        yield _framed(prediction, method.target, wanted, indices, position, window[position][0])


def _read(source: FrameSource, index: int, height: int, width: int) -> tuple[np.ndarray, Tensor]:
    """Return a frame as it is, and as a tensor [3, H, W] in [0, 1] at working size."""
    image = source.image(index)
    tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
    return image, resize_image(tensor, height=height, width=width)[0]


def _times(source: FrameSource, indices: list[int]) -> Tensor:
    return torch.tensor([[float(source.time_s[i]) for i in indices]], dtype=torch.float64)


def _framed(prediction: Prediction, target: int, wanted: list[int], indices: range, position: int,
            image: np.ndarray) -> FramePrediction:
    """Pick the target's depth and its motions to real neighbours out of a clip's prediction."""
    def motion(step: int) -> SE3 | None:
        other = target + step
        inside = 0 <= other < len(wanted) and 0 <= wanted[other] < len(indices)
        found = prediction.motion.get((target, other)) if inside else None
        return None if found is None else found[0].to(torch.float64)

    levels = prediction.inv_depth.get(target)
    return FramePrediction(index=indices[position], image=image, next_from_this=motion(1), previous_from_this=motion(-1),
                           inv_depth=None if levels is None else levels[0][0, 0].float().numpy())


class PathBuilder:
    """Chain frame-to-frame motions into a trajectory; the first frame is the world.

    Where both directions of a step were predicted (this frame to the next, and the next back to this), their mean on the
    group is used.
    """

    def __init__(self) -> None:
        self._steps: list[SE3] = []
        self._pending: SE3 | None = None

    def add(self, frame: FramePrediction) -> None:
        """Take the next frame's motions."""
        back = frame.previous_from_this
        if back is not None and self._pending is not None:
            forward = self._pending.inverse()
            self._steps.append(forward @ SE3.exp(0.5 * (forward.inverse() @ back).log()))
        elif back is not None or self._pending is not None:
            self._steps.append(back if back is not None else self._pending.inverse())  # type: ignore[union-attr]
        self._pending = frame.next_from_this

    def trajectory(self, time_s: np.ndarray) -> Trajectory | None:
        """Return the path with its time stamps; None when the method gave no motion."""
        if not self._steps:
            return None
        return Trajectory(world_from_cam=chain(SE3.stack(self._steps)), time_s=torch.from_numpy(np.asarray(time_s, np.float64)))
