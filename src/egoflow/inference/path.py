"""From motions between neighbouring frames to a whole trajectory with a row for every frame."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from egoflow.geometry.se3 import SE3, chain
from egoflow.geometry.shared_points import LengthRatio, tied_lengths
from egoflow.geometry.two_view import pair_geometry
from egoflow.inference.motions import Motions
from egoflow.inference.stream import FramePrediction
from egoflow.types import FrameSource, Trajectory


class PathBuilder:
    """Chain a method's frame-to-frame motions; the first frame is the world.

    Where both directions of a step were predicted (this frame to the next, and the next back to this), their mean on
    the group is used. The lengths of neighbouring steps are tied through points that both see, where that is known.
    """

    def __init__(self) -> None:
        self._frames: list[int] = []
        self._steps = Motions()
        self._ratios: list[LengthRatio | None] = []
        self._pending: SE3 | None = None
        self._after: list[FramePrediction] = []

    def add(self, frame: FramePrediction) -> None:
        """Take the next frame's motions; those of frames between key frames lead elsewhere."""
        if not frame.key:
            self._after.append(frame)
            return
        self._after = []
        self._frames.append(frame.index)
        self._ratios.append(frame.length_ratio)
        back = frame.previous_from_this
        if back is not None and self._pending is not None:
            forward = self._pending.inverse()
            self._steps.append(forward @ SE3.exp(0.5 * (forward.inverse() @ back).log()))
        elif back is not None or self._pending is not None:
            self._steps.append(back if back is not None else self._pending.inverse())  # type: ignore[union-attr]
        self._pending = frame.next_from_this

    def trajectory(self, wanted: Sequence[int], time_s: np.ndarray) -> Trajectory | None:
        """Return the path at the frames ``wanted`` of a source with ``time_s``; None when the method gave no motion.

        The frames after the last key frame are reached by their own motions from the neighbours before them.
        """
        path = chained(self._frames, self._tied(), wanted=wanted, time_s=time_s)
        if path is None:
            return None
        places, poses = {index: row for row, index in enumerate(wanted)}, path.world_from_cam
        R, t = poses.R.clone(), poses.t.clone()
        for frame in self._after:
            before, back = frame.neighbours[0], frame.previous_from_this
            if frame.index in places and before in places and back is not None:
                row = SE3(R[places[before]], t[places[before]]) @ back
                R[places[frame.index]], t[places[frame.index]] = row.R, row.t
        return replace(path, world_from_cam=SE3(R, t))

    def _tied(self) -> SE3:
        """Return the steps [N] with their lengths tied."""
        steps = self._steps.stacked()
        if len(self._steps) != len(self._frames) - 1 or len(self._steps) < 2:
            return steps
        lengths = steps.t.norm(dim=1)
        tied = torch.from_numpy(tied_lengths(lengths.numpy(), self._ratios[1:-1]))
        return SE3(steps.R, steps.t * torch.where(lengths > 0, tied / lengths, torch.ones_like(lengths))[:, None])


class TwoViewPath:
    """The trajectory that classical two-view geometry gives by itself: every frame one unit on, frame by frame.

    A pair without a direction (no motion, no parallax) adds its rotation alone.
    """

    def __init__(self, source: FrameSource, *, gap: int = 1) -> None:
        self._source, self._gap = source, gap
        self._last: np.ndarray | None = None
        self._waiting: tuple[int, np.ndarray, SE3 | None] | None = None
        self._frames: list[int] = []
        self._steps = Motions()

    def add(self, index: int, image: np.ndarray, *, key: bool = True, known: SE3 | None = None) -> None:
        """Take frame ``index``, RGB uint8 [H, W, 3]; of frames between key frames the very last alone is used.

        ``known`` is previous_from_this of unit length, where somebody has asked two-view geometry already.
        """
        self._waiting = None if key else (index, image, None)
        if key:
            self._step_to(index, image, known)

    def _step_to(self, index: int, image: np.ndarray, known: SE3 | None) -> None:
        if self._last is not None:
            if known is None:
                _, back = pair_geometry(self._last, image, self._source.camera)
                known = SE3(torch.from_numpy(back.rotation), torch.from_numpy(back.direction)).to(torch.float64)
            # Over a frame that could not be read the camera went two units.
            self._steps.append(known.scaled((index - self._frames[-1]) / self._gap))
        self._frames.append(index)
        self._last = image

    def trajectory(self, wanted: Sequence[int], time_s: np.ndarray) -> Trajectory | None:
        """Return the path at the frames ``wanted``, or None before the second frame."""
        if self._waiting is not None:
            self._step_to(*self._waiting)
            self._waiting = None
        return chained(self._frames, self._steps.stacked(), wanted=wanted, time_s=time_s)


def chained(frames: Sequence[int], steps: SE3, *, wanted: Sequence[int], time_s: np.ndarray) -> Trajectory | None:
    """Return the trajectory at the frames ``wanted`` of steps ``this_from_next`` [N - 1] between frames ``frames`` [N].

    ``time_s`` [N] are the time stamps of the source. A wanted frame that is not among ``frames`` gets a place between
    its neighbours by time, at the ends that of the nearest frame. None unless every step is there.
    """
    if len(steps.t) == 0 or len(steps.t) != len(frames) - 1:
        return None
    path = chain(steps)
    places = {index: row for row, index in enumerate(frames)}
    found = path[[places.get(index, 0) for index in wanted]]
    for row, index in enumerate(wanted):
        if index not in places:
            between = _between(frames, path, index, time_s)
            found.R[row], found.t[row] = between.R, between.t
    stamps = torch.from_numpy(np.asarray(time_s, np.float64)[list(wanted)])
    return Trajectory(world_from_cam=found, time_s=stamps)


def _between(frames: Sequence[int], path: SE3, index: int, time_s: np.ndarray) -> SE3:
    """Return the camera at frame ``index``: as chained, or interpolated on the group between its neighbours."""
    after = bisect_left(frames, index)
    if after == len(frames):
        return path[-1]
    if after == 0 or frames[after] == index:
        return path[after]
    begin, end = float(time_s[frames[after - 1]]), float(time_s[frames[after]])
    step = path[after - 1].inverse() @ path[after]
    return path[after - 1] @ SE3.exp((float(time_s[index]) - begin) / (end - begin) * step.log())
