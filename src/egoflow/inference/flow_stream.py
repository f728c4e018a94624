"""Predict the flow of pairs of neighbouring frames, both ways, in constant memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from egoflow.config import Run
from egoflow.console import note
from egoflow.data.open import continuous_runs
from egoflow.errors import DataError
from egoflow.geometry.pixels import resize_flow
from egoflow.inference.stream import (
    clip_of,
    neighbourhoods,
    neighbours_apart,
    predicted_frames,
    readable_frames,
    refuse_nan,
)
from egoflow.methods.base import Method, both_flows
from egoflow.types import FrameSource, Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowPrediction:
    """What a method says of the frames ``a`` and ``b`` of a source.

    ``image`` uint8 [H, W, 3] is frame a; ``flow_ab`` (on the grid of a) and ``flow_ba`` (on that of b), float32
    [1, 2, H, W], are in pixels of its size.
    """

    source: FrameSource
    a: int
    b: int
    image: np.ndarray
    flow_ab: Tensor
    flow_ba: Tensor


def flow_pairs(run: Run, source: FrameSource) -> list[Pair]:
    """Return the pairs of a source that a run predicts: frames ``run.data.gap`` apart with no jump between them."""
    number = {index: k for k, frames in enumerate(continuous_runs(source)) for index in frames}
    frames = predicted_frames(run, source)
    return [(a, b) for a, b in zip(frames, frames[neighbours_apart(run):], strict=False) if number[a] == number[b]]


def flow_stream(method: Method, run: Run, sources: Sequence[FrameSource], *,
                size: tuple[int, int] | None = None) -> Iterator[FlowPrediction]:
    """Yield the flow of every pair of readable neighbours in order; only the frames of one clip are held.

    The method sees frames of ``size`` (height, width), or as they are; its flow is brought back to the frames' own
    size. A frame that cannot be read is named once and its two pairs are left out, as are pairs across a jump: a flow
    named after frame a always leads to the next. Of several sources one that cannot be used is named and passed over.
    Raises ConfigError for a method without flow, DataError when there is no pair, CheckpointError when the weights
    predict NaN.
    """
    found = False
    for source in sources:
        try:
            for prediction in _of_one(method, run, source, size=size):
                found = True
                yield prediction
        except DataError as error:
            if len(sources) == 1:
                raise
            note(f"skipped: {error}")
    if not found:
        names = sources[0].name if len(sources) == 1 else f"{len(sources)} sources"
        raise DataError(f"{names}: no two neighbouring frames, data.gap={run.data.gap} apart, can be read; flow needs "
                        f"a pair")


def _of_one(method: Method, run: Run, source: FrameSource, *, size: tuple[int, int] | None) -> Iterator[FlowPrediction]:
    """Yield the flow of the pairs of one source."""
    frames, pairs, apart = predicted_frames(run, source), set(flow_pairs(run, source)), neighbours_apart(run)
    wanted = max(len(frames) - apart, 0)
    if jumps := wanted - len(pairs):
        note(f"{source.name}: {jumps} of {wanted} pairs lie across a jump in names or time stamps; left out")
    device = next(method.parameters()).device
    before, after = method.target, method.clip_length - 1 - method.target
    readable = readable_frames(source, frames, size=size)
    for past, frame, coming in neighbourhoods(readable, before=before, after=after, apart=apart):
        # A method that looks at no later frame has no flow: both_flows says so.
        if after and (not coming or (frame.index, coming[0].index) not in pairs):
            continue
        clip = clip_of(method, source, past, frame, coming)
        with torch.no_grad():
            both = both_flows(method, clip.to(device))
        height, width = frame.image.shape[:2]
        for flow in both:
            refuse_nan(flow, clip.key[0])
        flow_ab, flow_ba = (resize_flow(flow.float().cpu(), height=height, width=width) for flow in both)
        yield FlowPrediction(source=source, a=frame.index, b=coming[0].index, image=frame.image, flow_ab=flow_ab,
                             flow_ba=flow_ba)
