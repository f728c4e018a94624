"""Camera motion solved from depth and flow in place of the regressed one, for any method (ours; two-view start, 3).

``solved``: rotation and direction are those of the pair's two-view geometry, and the length of the translation is what
best explains the flow by the depth. Where two-view geometry is missing or gives no direction (one plane, few matches),
all six parameters are solved from what it does give. ``refined``: all six, from the network's motion.

With a depth that is not the truth, the six-parameter solution pays for wrong depth with rotation and direction, which
two-view geometry knows without any depth: on a rendered drive .101 against .008 degrees and 1.3 against 0.1 degrees,
with lengths as good (docs/methods.md). Where nothing can be solved, the network's motion stays.

The flow is the method's own where it predicts the pair, unless the clip brings a finer one. Gradients reach depth and
flow by the implicit function theorem; the network learns by ``distilled_term``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from egoflow.config import MotionMode
from egoflow.geometry.camera import Camera
from egoflow.geometry.motion_cost import Matches, Residuals, gradient, hessian, matches_of, normal_matrix
from egoflow.geometry.pixels import resize_map
from egoflow.geometry.se3 import SE3
from egoflow.geometry.solved_motion import INLIER_PX, MIN_PIXELS, MOST_PIXELS, solve_motion
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
    """Return the motion of every pair that ``prediction`` holds depth of a, and prediction or clip a flow, of.

    Only pairs whose motion is predicted; where no motion is at all, all pairs with depth and flow. None for ``net``.
    """
    wanted = prediction.motion or (prediction.flow | clip.start)
    pairs = [pair for pair in wanted if pair[0] in prediction.inv_depth and (pair in prediction.flow
                                                                             or pair in clip.start)]
    if mode == "net" or (mode == "refined" and not prediction.motion) or not pairs:
        return {}
    # Pairs whose flow the clip brings and those with the method's own may differ in size.
    groups = [[pair for pair in pairs if _is_own(clip, prediction, pair) == own] for own in (True, False)]
    return {pair: found for group in groups if group for pair, found in _solved(clip, prediction, mode, group).items()}


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
    """Say whether the method's own flow is read: where it has one that is no coarser than the clip's."""
    if pair not in prediction.flow:
        return False
    return pair not in clip.start or prediction.flow[pair][0].shape[-1] >= clip.start[pair].flow_ab.shape[-1]


def _solved(clip: Clip, prediction: Prediction, mode: MotionMode, pairs: list[Pair]) -> dict[Pair, Solved]:
    """Return the solved motions of pairs whose flows are of one size, all in one batch."""
    batch = clip.images.shape[0]
    flow, use = (torch.cat(maps) for maps in zip(*(_flow(clip, prediction, pair) for pair in pairs), strict=True))
    size = {"height": flow.shape[-2], "width": flow.shape[-1]}
    camera = clip.camera.resized(**size).repeated(len(pairs))
    depth = torch.cat([1 / resize_map(prediction.inv_depth[a][0], **size) for a, _ in pairs])
    net = SE3.cat([prediction.motion[pair] for pair in pairs]) if prediction.motion else None
    view = None
    if mode == "solved" and all(pair in clip.start for pair in pairs):
        view = replace(stacked([clip.start[pair] for pair in pairs]), flow_ab=flow.detach(), usable=use)
    if net is not None and mode == "refined":
        start = net
    elif view is not None:
        start = scaled_motion(depth.detach(), camera, view)
    else:
        start = SE3.identity(len(pairs) * batch, device=flow.device)
    motion, share = start, flow.new_zeros(len(pairs) * batch)
    if view is not None:
        motion, share = _with_length(depth, flow, use, camera=camera, start=start)
    if not bool((share > 0).all()):
        found = solve_motion(depth, flow, weight=use, camera=camera, start=start)
        explained = torch.where(found.degenerate, torch.zeros_like(share), found.inlier_share)
        motion, share = _chosen(share > 0, motion, found.b_from_a), torch.where(share > 0, share, explained)
    if net is not None:
        motion = _chosen(share > 0, motion, net.to(motion.t.dtype))
    return {pair: Solved(b_from_a=motion[i * batch:(i + 1) * batch], share=share[i * batch:(i + 1) * batch])
            for i, pair in enumerate(pairs)}


def _flow(clip: Clip, prediction: Prediction, pair: Pair) -> tuple[Tensor, Tensor]:
    """Return the flow [B, 2, h, w] of a pair and where it is to be read."""
    if not _is_own(clip, prediction, pair):
        return clip.start[pair].flow_ab, clip.start[pair].usable
    flow, back = prediction.flow[pair][0], prediction.flow.get((pair[1], pair[0]))
    # Of a flow without its way back nothing can be checked; the robust cost is left to find what is wrong.
    return flow, torch.ones_like(flow[:, :1], dtype=torch.bool) if back is None else forward_backward_visible(
        flow, back[0])


def _with_length(depth: Tensor, flow: Tensor, use: Tensor, *, camera: Camera, start: SE3) -> tuple[SE3, Tensor]:
    """Return ``start`` with the length of its translation solved, and the share [B] of the pixels that it explains.

    The share is 0 where the start has no direction or too few pixels can be used.
    """
    with torch.autocast(depth.device.type, enabled=False):
        matches = matches_of(depth, flow, weight=use, camera=camera, most=MOST_PIXELS)
        fixed, motion = matches.detach(), start
        length = start.t.norm(dim=-1, keepdim=True)
        along = start.t / torch.where(length > 0, length, torch.ones_like(length))
        with torch.no_grad():
            # The start was solved on another grid of pixels; a few steps lead to the minimum on this one.
            for _ in range(3):
                step = _length_step(fixed, motion, along)
                length = length + torch.minimum(torch.maximum(step, -length / 2), length / 2)
                motion = SE3(start.R, length * along)
            residuals = Residuals.of(fixed, motion)
            inlier = (fixed.weight > 0) & (residuals.square < INLIER_PX**2) & residuals.in_front
            count = (fixed.weight > 0).sum(-1)
            share = inlier.sum(-1) / count.clamp_min(1)
            share = torch.where((count >= MIN_PIXELS) & (length[:, 0] > 0), share, torch.zeros_like(share))
        step = _length_step(matches, motion, along)
        return SE3(motion.R, motion.t + along * (step - step.detach())), share


def _length_step(matches: Matches, motion: SE3, along: Tensor) -> Tensor:
    """Return the Newton step [B, 1] of the translation along unit vectors; its gradient is that of the solution.

    The curvature is the exact one, or where that is flat the Gauss-Newton one (as in geometry/solved_motion.py).
    """
    residuals = Residuals.of(matches, motion)
    scale = torch.full_like(along[:, 0], INLIER_PX)
    influence = residuals.influence(scale)
    slope = (gradient(residuals, influence)[:, :3] * along).sum(-1, keepdim=True)
    with torch.no_grad():
        exact, rough = ((along.unsqueeze(1) @ matrix[:, :3, :3] @ along.unsqueeze(2)).squeeze(-1)
                        for matrix in (hessian(residuals, scale), normal_matrix(residuals, influence)))
        curvature = torch.where(exact > 0.1 * rough, exact, rough)
    return -slope / torch.where(curvature > 0, curvature, torch.ones_like(curvature))


def _chosen(choice: Tensor, yes: SE3, no: SE3) -> SE3:
    """Return one motion or the other for each of [B]."""
    return SE3(torch.where(choice[:, None, None], yes.R, no.R), torch.where(choice[:, None], yes.t, no.t))
