"""Score a trained method, and what it must beat, on clips with truth: by what ``egoflow predict`` gives, in memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from egoflow.config import Run
from egoflow.console import progress
from egoflow.evaluation.baselines import STRAIGHT, baselines
from egoflow.evaluation.clip_scores import ClipScores, resized
from egoflow.evaluation.depth import Crop
from egoflow.geometry.classical_flow import dis_flow, zero_flow
from egoflow.geometry.pixels import resize_flow
from egoflow.geometry.se3 import SE3
from egoflow.inference.flow_stream import flow_stream
from egoflow.inference.path import PathBuilder, TwoViewPath
from egoflow.inference.stream import FramePrediction, predict_stream, predicted_frames, readable_frames
from egoflow.methods.base import Method
from egoflow.types import FlowSource, FlowTruth, FrameSource, Trajectory

Values = dict[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is to be seen of a frame, at the size of its image: ``inv_depth`` [H, W], ``flow`` [2, H, W] to the next
    frame, ``probability`` [H, W] of moving; None where there is none.
    """

    inv_depth: np.ndarray | None = None
    flow: np.ndarray | None = None
    probability: np.ndarray | None = None


Looker = Callable[[int, int, Look], None]
"""Receives the number of a source, a frame's index and its look."""


def score_method(method: Method, run: Run, sources: Sequence[FrameSource], *, crop: Crop, look: Looker,
                 label: str) -> Values:
    """Return the figures of a method over the frames of ``sources`` that are as far apart as in training.

    Every frame is shown to ``look``.
    """
    run = replace(run, every_frame=False)
    scores = ClipScores(crop=crop)
    with progress(sum(len(predicted_frames(run, source)) for source in sources), label=label) as bar:
        for number, source in enumerate(sources):
            if method.needs_camera:
                _score_all(scores, method, run, source, number, look, bar)
            else:
                _score_flow(scores, method, run, source, number, look, bar)
    return scores.values()


def _score_all(scores: ClipScores, method: Method, run: Run, source: FrameSource, number: int, look: Looker,
               bar: progress) -> None:
    """Score depth, path, flow and movers of one clip."""
    path, before = PathBuilder(), None
    for frame in predict_stream(method, run, source):
        path.add(frame)
        height, width = frame.image.shape[:2]
        name, truth = _name(number, source, frame.index), source.truth(frame.index)
        inv_depth = None if frame.inv_depth is None else resized(frame.inv_depth, height, width)
        if inv_depth is not None:
            scores.add_depth(name, inv_depth, truth)
        own = frame.own_motion
        probability = None if own is None else resized(own.probability, height, width)
        if probability is not None:
            scores.add_movers(name, probability, static=truth.static)
        if before is not None:
            _add_flow(scores, source, number, before, frame.index)
        before = frame
        look(number, frame.index, Look(inv_depth=inv_depth, flow=_flow(frame), probability=probability))
        bar.advance()
    frames, time_s = predicted_frames(run, source), np.asarray(source.time_s, np.float64)
    said, true = path.trajectory(frames, time_s), true_path(source, frames)
    if said is not None and true is not None:
        scores.add_path(said, true)


def _flow(frame: FramePrediction) -> np.ndarray | None:
    """Return a frame's flow [2, H, W] to the next one in pixels of its image."""
    own = frame.own_motion
    if own is None or not own.to_next:
        return None
    height, width = frame.image.shape[:2]
    return resize_flow(torch.from_numpy(own.flow)[None], height=height, width=width)[0].numpy()


def _add_flow(scores: ClipScores, source: FrameSource, number: int, frame: FramePrediction, following: int) -> None:
    """Score the flow of a frame to the one that follows."""
    flow, truth = _flow(frame), true_flow(source, frame.index, following)
    if flow is not None and truth is not None:
        scores.add_flow(_name(number, source, frame.index), flow, truth, static=source.truth(frame.index).static)


def _score_flow(scores: ClipScores, method: Method, run: Run, source: FrameSource, number: int, look: Looker,
                bar: progress) -> None:
    """Score a method that knows flow alone."""
    for pair in flow_stream(method, run, [source], size=(run.data.height, run.data.width)):
        flow, truth = pair.flow_ab[0].numpy(), true_flow(source, pair.a, pair.b)
        if truth is not None:
            scores.add_flow(_name(number, source, pair.a), flow, truth, static=source.truth(pair.a).static)
        look(number, pair.a, Look(flow=flow))
        bar.advance()


def score_baselines(sources: Sequence[FrameSource], *, gap: int, crop: Crop) -> dict[str, Values]:
    """Return the figures of what knows nothing, or learns nothing, by name, on frames ``gap`` apart."""
    scores = {name: ClipScores(crop=crop) for name in (
        "constant depth", STRAIGHT, "two-view chain", "zero flow", "DIS flow", "everything moves")}
    with progress(sum(len(range(0, len(source), gap)) for source in sources), label="scoring baselines") as bar:
        for number, source in enumerate(sources):
            _add_baselines(scores, source, number, range(0, len(source), gap), bar)
    found = {name: row.values() for name, row in scores.items()}
    return {name: row for name, row in found.items() if any(figure is not None for figure in row.values())}


def _add_baselines(scores: dict[str, ClipScores], source: FrameSource, number: int, frames: range,
                   bar: progress) -> None:
    chain, last = TwoViewPath(source, gap=frames.step), None
    for frame in readable_frames(source, frames, size=None):
        index, image = frame.index, frame.image
        truth, name = source.truth(index), _name(number, source, index)
        ones = np.ones(image.shape[:2], np.float32)
        scores["constant depth"].add_depth(name, ones, truth)
        scores["everything moves"].add_movers(name, ones, static=truth.static)
        chain.add(index, image)
        if last is not None and (known := true_flow(source, last[0], index)) is not None:
            for row, flow in (("zero flow", zero_flow), ("DIS flow", dis_flow)):
                scores[row].add_flow(_name(number, source, last[0]), flow(last[1], image), known,
                                     static=source.truth(last[0]).static)
        last = index, image
        bar.advance()
    true = true_path(source, frames)
    if true is None:
        return
    scores[STRAIGHT].add_path(baselines(true)[STRAIGHT], true)
    classical = chain.trajectory(frames, np.asarray(source.time_s, np.float64))
    if classical is not None:
        scores["two-view chain"].add_path(classical, true)


def true_path(source: FrameSource, frames: range) -> Trajectory | None:
    """Return the true path at ``frames`` from the first of them on, or None where one is not known."""
    known = [source.truth(index).world_from_cam for index in frames]
    found = [motion.to(torch.float64) for motion in known if motion is not None]
    if len(found) < max(2, len(known)):
        return None
    path, time_s = SE3.stack(found), np.asarray(source.time_s, np.float64)[list(frames)]
    return Trajectory(world_from_cam=path[0].inverse() @ path, time_s=torch.from_numpy(time_s), scale=source.scale)


def true_flow(source: FrameSource, a: int, b: int) -> FlowTruth | None:
    """Return the true flow of two frames, where the source knows it."""
    return source.flow_truth(a, b) if isinstance(source, FlowSource) else None


def _name(number: int, source: FrameSource, index: int) -> str:
    return f"{number}/{source.frame_name(index)}"
