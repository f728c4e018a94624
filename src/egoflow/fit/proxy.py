"""How good is depth, asked of frames that nobody knows the truth of: does it explain how the images move?

On pairs of frames twice as far apart as training's own, which no loss on clips of three frames sees, classical flow
says how far each pixel went, and two-view geometry the camera's rotation and direction. Depth that is right up to one
factor explains the rest with one number, the length of the step. What it leaves unexplained, in units of the flow,
falls and rises with the error of depth.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from egoflow.config import Run
from egoflow.data.clips import ClipDataset
from egoflow.data.two_view_cache import TwoViewCache
from egoflow.errors import DataError
from egoflow.methods.base import Method
from egoflow.methods.start import flow_term, scaled_motion
from egoflow.registry import load_method
from egoflow.types import Clip, FrameSource

CLIPS, FARTHER = 16, 2
KEY, GAP = "held_out/unexplained", "held_out/gap"
"""What the log calls the figure, and the frame distance of the training that it is asked of."""


def held_out_clips(run: Run, sources: Sequence[FrameSource], *, cache: Path | None = None) -> list[Clip]:
    """Return clips, evenly spread, whose frames are ``FARTHER`` times as far apart as those that a run trains on.

    None where no shot is long enough.
    """
    method = load_method(run.method).method_type(run.config)
    start = TwoViewCache(height=run.data.height, width=run.data.width, folder=cache)
    try:
        dataset = ClipDataset(sources, length=method.clip_length, target=method.target, height=run.data.height,
                              width=run.data.width, gap=FARTHER * run.data.gap, start=start)
    except DataError:
        return []
    count = min(len(dataset), CLIPS)
    return [dataset[(2 * i + 1) * len(dataset) // (2 * count)] for i in range(count)]


def judged(method: Method, clips: Sequence[Clip], device: torch.device, *, gap: int) -> dict[str, float]:
    """Return ``unexplained_flow`` and the training's ``gap`` by their names in the log; nothing where none is known."""
    value = unexplained_flow(method, clips, device=device)
    return {KEY: value, GAP: gap} if value == value else {}


def last_will_do(last: float, best: float, *, flat: float) -> bool:
    """Say whether the last checkpoint is chosen: its score is nearer to the lowest of its phase than to flat depth's.

    Closer scores say little of which has the better depth (benchmarks/proxy.py), and a schedule ends where it is best.
    """
    return last <= (best + flat) / 2


def unexplained_flow(method: Method, clips: Sequence[Clip], *, device: torch.device) -> float:
    """Return the mean of ``unexplained_by_pair``; NaN where no clip has a pair whose motion is known."""
    return _mean(unexplained_by_pair(method, clips, device=device))


@torch.no_grad()
def unexplained_by_pair(method: Method, clips: Sequence[Clip], *, device: torch.device) -> list[float]:
    """Return ``min(|r| / (1 + .3 |f|), 2)`` of every pair of held-out clips of batch 1 that bring a two-view start.

    ``r`` is what the flow of depth and the pair's solved motion leaves of the classical flow ``f``. The method is left
    in the mode that it was in.
    """
    training = method.training
    method.eval()
    found: list[float] = []
    for clip in clips:
        moved = clip.to(device)
        found += _of_clip(moved, _depths(method, moved))
    method.train(training)
    return found


@torch.no_grad()
def unexplained_by_flat_depth(clips: Sequence[Clip]) -> float:
    """Return what a depth that is the same everywhere leaves unexplained, by the measure of ``unexplained_flow``."""
    return _mean([value for clip in clips for value in _of_clip(
        clip, {frame: torch.ones_like(clip.images[:, frame, :1]) for frame in range(clip.images.shape[1])})])


def _depths(method: Method, clip: Clip) -> dict[int, Tensor]:
    """Return the depth of every frame that a pair begins at, of the depth network alone where the method has one."""
    if not hasattr(method, "depth"):
        return {frame: 1 / levels[0].float() for frame, levels in method.predict(clip).inv_depth.items()}
    frames = sorted({a for a, _ in clip.start})
    found = method.depth(clip.images[0, frames])[0].float()  # type: ignore[operator]
    return {frame: 1 / found[i:i + 1] for i, frame in enumerate(frames)}


def _of_clip(clip: Clip, depths: Mapping[int, Tensor]) -> list[float]:
    """Return the figure of every pair of a clip that has a direction and a depth."""
    return [float(flow_term(depths[a], clip.camera, scaled_motion(depths[a], clip.camera, view), view))
            for (a, _), view in clip.start.items() if a in depths and float(view.weight) > 0]


def _mean(values: list[float]) -> float:
    return float(torch.tensor(values).mean()) if values else float("nan")
