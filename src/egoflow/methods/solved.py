"""Camera motion solved from depth and flow in place of the regressed one, for any method (ours; two-view start, 3).

All six parameters are solved by ``solve_motion``: for ``refined`` from the network's motion, for ``solved`` from the
pair's two-view geometry (or from rest). ``solved`` then keeps of the solution its length alone, where two-view geometry
gives rotation and direction. For a depth that is not the truth is paid for with rotation and direction, which two-view
geometry knows without any depth (.10 against .008 degrees and 1.3 against 0.1 degrees on a rendered drive, .054 against
.036 degrees on a real one: docs/methods.md). Where nothing can be solved, the network's motion stays.

The flow is the classical one where the clip brings it, else the method's own: what is learnt in minutes is no match for
it. Gradients reach depth and flow by the implicit function theorem; the network learns by ``distilled_term``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from egoflow.config import MotionMode
from egoflow.geometry.camera import Camera
from egoflow.geometry.pixels import resize_map
from egoflow.geometry.precision import full_precision
from egoflow.geometry.se3 import SE3
from egoflow.geometry.solved_motion import solve_motion
from egoflow.geometry.two_view import PairGeometry, pair_geometry
from egoflow.losses.masks import forward_backward_visible
from egoflow.methods.start import motion_distance, scaled_motion, stacked
from egoflow.types import Clip, Pair, Prediction, TwoView


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """The motion ``b_from_a`` [B] of a pair and how far it can be believed.

    ``share`` [B] is the share of the usable pixels that it explains to 1 pixel, 0 where nothing could be solved and
    the network's motion stands, or without one a rotation alone.
    """

    b_from_a: SE3
    share: Tensor


def classical_views(image_a: np.ndarray, image_b: np.ndarray, camera: Camera) -> tuple[TwoView, TwoView]:
    """Return the two-view geometry of (a, b) and of (b, a) from RGB uint8 images [H, W, 3], batch of 1.

    The flow keeps the size that it was computed at.
    """
    first, second = (_batched(found) for found in pair_geometry(image_a, image_b, camera))
    return first, second


def _batched(found: PairGeometry) -> TwoView:
    """Return a pair's geometry as a batch of 1."""
    flow, usable = torch.from_numpy(found.flow_ab).permute(2, 0, 1)[None], torch.from_numpy(found.usable)[None, None]
    rotation, direction = (torch.from_numpy(v)[None].float() for v in (found.rotation, found.direction))
    return TwoView(flow_ab=flow.float(), usable=usable, b_from_a=SE3(rotation, direction),
                   weight=torch.tensor([found.weight], dtype=torch.float32))


def with_classical_views(clip: Clip, pairs: Sequence[Pair]) -> Clip:
    """Return the clip with the two-view geometry of pairs of its images."""
    images = (clip.images.detach().float().cpu() * 255).round().to(torch.uint8).permute(0, 1, 3, 4, 2).numpy()
    start: dict[Pair, TwoView] = {}
    for a, b in pairs:
        if (a, b) not in start:
            both = zip(*(classical_views(sample[a], sample[b], clip.camera[i:i + 1].to("cpu"))
                         for i, sample in enumerate(images)), strict=True)
            start[a, b], start[b, a] = (stacked(list(views)).to(clip.images.device) for views in both)
    return replace(clip, start=start)


def solved_motions(clip: Clip, prediction: Prediction, mode: MotionMode) -> dict[Pair, Solved]:
    """Return by pair (a, b) what depth of a and a flow say of the motions that ``prediction`` holds.

    Where it holds none at all, ``solved`` gives those of every pair with depth and flow. Nothing for ``net``.
    """
    wanted = prediction.motion or ({} if mode == "refined" else prediction.flow | clip.start)
    groups: dict[tuple[bool, bool], list[Pair]] = {}
    for pair in wanted:
        own, started = _is_own(clip, prediction, pair), pair in clip.start
        if mode != "net" and pair[0] in prediction.inv_depth and (own or started):
            # Flows of the method and of the clip may differ in size, and not all pairs have a two-view geometry.
            groups.setdefault((own, started), []).append(pair)
    return {pair: found for group in groups.values() for pair, found in _solved(clip, prediction, mode, group).items()}


def with_motions(prediction: Prediction, solved: dict[Pair, Solved]) -> Prediction:
    """Return the prediction with its motions replaced by the solved ones."""
    return replace(prediction, motion=prediction.motion | {pair: found.b_from_a for pair, found in solved.items()})


def distilled_term(prediction: Prediction, solved: dict[Pair, Solved], *, focal_px: Tensor) -> Tensor:
    """Return the distance of the network's motions to the solved ones (detached), weighted by their shares.

    Rotation in pixels at the image centre plus translation relative to the target's length, as the two-view start has
    it. ``focal_px`` [B].
    """
    pairs = [pair for pair in solved if pair in prediction.motion]
    target = SE3.cat([solved[pair].b_from_a for pair in pairs]).detach()
    share = torch.cat([solved[pair].share for pair in pairs])
    turn, shift = motion_distance(SE3.cat([prediction.motion[pair] for pair in pairs]), target,
                                  focal_px=focal_px.repeat(len(pairs)))
    return torch.where(share > 0, share * (turn + shift), torch.zeros_like(share)).mean()


def _is_own(clip: Clip, prediction: Prediction, pair: Pair) -> bool:
    """Say whether the method's own flow is read: where the clip brings none."""
    return pair in prediction.flow and pair not in clip.start


def _solved(clip: Clip, prediction: Prediction, mode: MotionMode, pairs: list[Pair]) -> dict[Pair, Solved]:
    """Return the motions of pairs as one batch: flows of one size, all with or all without two-view geometry."""
    batch = clip.images.shape[0]
    flow, use = (torch.cat(maps) for maps in zip(*(_flow(clip, prediction, pair) for pair in pairs), strict=True))
    size = {"height": flow.shape[-2], "width": flow.shape[-1]}
    camera = clip.camera.resized(**size).repeated(len(pairs))
    depth = torch.cat([1 / resize_map(full_precision(prediction.inv_depth[a][0]), **size) for a, _ in pairs])
    net = SE3.cat([prediction.motion[pair] for pair in pairs]) if prediction.motion else None
    view = None
    if mode == "solved" and pairs[0] in clip.start:
        view = replace(stacked([clip.start[pair] for pair in pairs]), flow_ab=flow.detach(), usable=use)
    start = net if net is not None and mode == "refined" else SE3.identity(len(depth), device=depth.device)
    found = solve_motion(depth, flow, weight=use, camera=camera,
                         start=start if view is None else scaled_motion(depth.detach(), camera, view))
    motion, share = found.b_from_a, found.inlier_share.masked_fill(found.degenerate, 0)
    if view is not None:
        classical = SE3(view.b_from_a.R, view.b_from_a.t * motion.t.norm(dim=-1, keepdim=True))
        motion = SE3.where((view.weight > 0) & (share > 0), classical, motion)
    if net is not None:
        motion = SE3.where(share > 0, motion, net)
    return {pair: Solved(b_from_a=motion[i * batch:(i + 1) * batch], share=share[i * batch:(i + 1) * batch])
            for i, pair in enumerate(pairs)}


def _flow(clip: Clip, prediction: Prediction, pair: Pair) -> tuple[Tensor, Tensor]:
    """Return the flow [B, 2, h, w] of a pair and where it is to be read."""
    if not _is_own(clip, prediction, pair):
        return clip.start[pair].flow_ab, clip.start[pair].usable
    flow, back = full_precision(prediction.flow[pair][0]), prediction.flow.get((pair[1], pair[0]))
    if back is None:
        # Without its way back nothing of a flow can be checked: the robust cost is left to find what is wrong.
        return flow, torch.ones_like(flow[:, :1], dtype=torch.bool)
    return flow, forward_backward_visible(flow, full_precision(back[0]))
