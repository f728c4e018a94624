"""Predict footage into a folder: depth and motion of one source, flow of any number."""

from collections.abc import Sequence
from pathlib import Path

from egoflow.config import Run
from egoflow.console import progress
from egoflow.data.flow_files import FlowFormat
from egoflow.inference.flow_stream import flow_stream
from egoflow.inference.flow_writer import FlowWriter
from egoflow.inference.stream import predict_stream
from egoflow.inference.writer import PredictionWriter
from egoflow.methods.base import Method
from egoflow.types import FrameSource


def write_flow(folder: Path, method: Method, run: Run, sources: Sequence[FrameSource], *,
               size: tuple[int, int] | None = None, flow_format: FlowFormat = "flo", video: bool = True) -> int:
    """Write the flow of all pairs, computed at ``size`` (None: as the frames are); return their number."""
    with FlowWriter(folder, sources=sources, run=run, size=size, flow_format=flow_format, video=video) as writer, \
            progress(writer.pairs, label="predicting flow") as bar:
        for pair in flow_stream(method, run, sources, size=size):
            writer.add(pair)
            bar.advance()
        return writer.finish()


def write_depth(folder: Path, method: Method, run: Run, source: FrameSource, *, depth_format: str = "png",
                video: bool = True, two_view: bool = True, movers: bool = True, flows: bool = False,
                flow_format: FlowFormat = "flo") -> PredictionWriter:
    """Write depth and motion of one source, what ``PredictionWriter`` says; return the finished writer."""
    with PredictionWriter(folder, source=source, run=run, depth_format=depth_format, video=video, two_view=two_view,
                          movers=movers, flows=flows, flow_format=flow_format) as writer, \
            progress(len(writer.frames), label="predicting") as bar:
        for frame in predict_stream(method, run, source):
            writer.add(frame)
            bar.advance()
        writer.finish()
    return writer
