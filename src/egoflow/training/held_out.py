"""What held-out clips say of a method in training: its own loss and, where truth is known, its errors."""

from collections.abc import Callable, Sequence

import torch

from egoflow.evaluation.depth import DepthProtocol, DepthScores
from egoflow.evaluation.flow import FlowScores
from egoflow.methods.base import Method
from egoflow.types import Clip, Prediction

Judge = Callable[[Method, Sequence[Clip], torch.device], dict[str, float]]
"""What is said of a method in training by clips held out; the first figure chooses the best checkpoint, the lower the
better."""


@torch.no_grad()
def held_out_figures(method: Method, clips: Sequence[Clip], device: torch.device) -> dict[str, float]:
    """Return the figures of at least one clip of batch 1, without the two-view start; the method stays in training.

    ``held_out/loss`` is the mean of the method's loss at the end of its schedule; ``held_out/epe_px`` the mean over the
    known flow, and ``held_out/abs_rel`` that of median-scaled depth below 80 m over images, both only where known.
    """
    method.eval()
    loss, flows, depths = 0.0, FlowScores(), DepthScores(DepthProtocol(crop="none"))
    for number, clip in enumerate(clips):
        moved = clip.to(device)
        said = method.predicted(moved)
        loss += float(method.losses(moved, said, 1.0).total)
        _add_flows(flows, clip, said, str(number))
        _add_depths(depths, clip, said, str(number))
    method.train()
    found = {"held_out/loss": loss / len(clips)}
    if flows.rows:
        found |= _named(flows.result(resamples=1).rows[0].values["epe_px"], "epe_px")
    if depths.names:
        found |= _named(depths.result(resamples=1).rows[0].values["abs_rel"], "abs_rel")
    return found


def _named(value: float | None, key: str) -> dict[str, float]:
    return {} if value is None else {f"held_out/{key}": value}


def _add_flows(scores: FlowScores, clip: Clip, said: Prediction, name: str) -> None:
    """Score every predicted pair whose true flow is known somewhere."""
    if clip.truth is None:
        return
    for pair, true in clip.truth.flow.items():
        valid = clip.truth.valid_flow[pair]
        if pair in said.flow and bool(valid.any()):
            scores.add(f"{name} {pair}", said.flow[pair][0][0].float().cpu().numpy(), true[0].numpy(),
                       valid_truth=valid[0, 0].numpy())


def _add_depths(scores: DepthScores, clip: Clip, said: Prediction, name: str) -> None:
    """Score the depth of every frame that has some, by the frames whose true depth is known."""
    if clip.truth is None or clip.truth.depth is None or clip.truth.valid_depth is None:
        return
    for frame, levels in said.inv_depth.items():
        depth = 1 / levels[0][0, 0].float().clamp_min(1e-6)
        scores.add(f"{name} {frame}", depth.cpu().numpy(), clip.truth.depth[0, frame, 0].numpy(),
                   valid_truth=clip.truth.valid_depth[0, frame, 0].numpy())
