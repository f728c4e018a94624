"""The two-view start: classical geometry teaches depth and motion before photometric errors can (ours).

Photometric training from scratch has wrong-motion minima. Two-view geometry has none, but no dense depth and no scale.
For each pair the length of the classical translation is solved against the network's own depth (detached), then depth
follows the flow and the motion net follows the scaled classical motion; that weight fades while the photometric terms
ramp in. Works for any method whose prediction holds inverse depth or motion of the pairs in ``clip.start``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from egoflow.geometry.camera import Camera
from egoflow.geometry.flow import rigid_flow
from egoflow.geometry.pixels import resize_map
from egoflow.geometry.se3 import SE3, rotation_log
from egoflow.losses.reduce import masked_mean
from egoflow.types import Clip, LossTerms, Prediction, TwoView


@dataclass(frozen=True, slots=True, kw_only=True)
class StartSchedule:
    """Weights of the start over the progress 0..1 of training.

    Flow and motion weights stay whole until ``hold`` and fade to ``rest`` of themselves at ``end``; the method's own
    terms ramp from 0 to 1 over ``ramp``.
    """

    flow: float = 1.0
    motion: float = 1.0
    ramp: float = 0.3
    hold: float = 0.4
    end: float = 1.0
    rest: float = 0.3

    def guidance(self, progress: float) -> float:
        """Return the factor of the flow and motion terms."""
        fade = min(max((progress - self.hold) / max(self.end - self.hold, 1e-6), 0.0), 1.0)
        return 1 + (self.rest - 1) * fade

    def own(self, progress: float) -> float:
        """Return the factor of the method's own terms."""
        return min(progress / self.ramp, 1.0) if self.ramp > 0 else 1.0


def with_start(terms: LossTerms, clip: Clip, prediction: Prediction, progress: float, schedule: StartSchedule) -> LossTerms:
    """Return the method's terms, ramped, beside the fading start terms."""
    own, guidance = schedule.own(progress), schedule.guidance(progress)
    result = LossTerms({name: (weight * own, value) for name, (weight, value) in terms.items()})
    flows, motions = [], []
    for (a, b), two_view in clip.start.items():
        if a not in prediction.inv_depth:
            continue
        levels = [1 / resize_map(d, height=clip.camera.height, width=clip.camera.width) for d in prediction.inv_depth[a]]
        motion = scaled_motion(levels[0].detach(), clip.camera, two_view)
        unit = motion.scaled(1 / log_mean(levels[0].detach(), two_view.usable))
        flows.append(torch.stack([flow_term(depth / log_mean(depth, two_view.usable).view(-1, 1, 1, 1), clip.camera, unit,
                                            two_view) for depth in levels]).mean())
        if (a, b) in prediction.motion:
            motions.append(motion_term(prediction.motion[a, b], motion, two_view, focal_px=clip.camera.fx))
    if flows:
        result["loss/start_flow"] = (schedule.flow * guidance, torch.stack(flows).mean())
    if motions:
        result["loss/start_motion"] = (schedule.motion * guidance, torch.stack(motions).mean())
    return result


def scaled_motion(depth: Tensor, camera: Camera, two_view: TwoView, *, steps: int = 8) -> SE3:
    """Return the two-view motion with the length [B] that best explains the flow by ``depth`` [B, 1, H, W].

    Robust one-dimensional Gauss-Newton on ``rigid_flow(depth, R, s t) - flow``: weights 1 / (1 + |r|^2)^2, steps clamped
    to half of s, started from the ratio of flow to the flow of a unit step.
    """
    rotation, direction = two_view.b_from_a.R.to(depth.dtype), two_view.b_from_a.t.to(depth.dtype)
    use = two_view.usable
    turned, _ = rigid_flow(depth, camera, SE3(rotation, torch.zeros_like(direction)))
    wanted = torch.where(use, two_view.flow_ab - turned, torch.zeros_like(turned))
    small = 1e-3 * torch.where(use, depth, torch.zeros_like(depth)).flatten(1).amax(1).clamp_min(1e-6)
    unit, _ = rigid_flow(depth, camera, SE3(rotation, small[:, None] * direction))
    slope = torch.where(use, (unit - turned) / small.view(-1, 1, 1, 1), torch.zeros_like(turned))
    length = ((wanted.norm(dim=1).flatten(1).sum(1) + 1e-6) / (slope.norm(dim=1).flatten(1).sum(1) + 1e-6))
    for _ in range(steps):
        flow, in_front = rigid_flow(depth, camera, SE3(rotation, length[:, None] * direction))
        ahead, _ = rigid_flow(depth, camera, SE3(rotation, (1.01 * length)[:, None] * direction))
        good = use & in_front
        residual = torch.where(good, two_view.flow_ab - flow, torch.zeros_like(flow))
        slope = torch.where(good, (ahead - flow) / (0.01 * length).view(-1, 1, 1, 1), torch.zeros_like(flow))
        weight = 1 / (1 + residual.square().sum(1, keepdim=True)).square()
        step = (weight * slope * residual).flatten(1).sum(1) / ((weight * slope * slope).flatten(1).sum(1) + 1e-12)
        length = length + torch.minimum(torch.maximum(step, -length / 2), length / 2)
    return SE3(rotation, length[:, None] * direction)


def log_mean(depth: Tensor, use: Tensor) -> Tensor:
    """Return the geometric mean [B] of depth over used pixels.

    Dividing by it makes the flow term blind to the scale of depth. With the solved length held fixed the term would else
    pull depth away from where the length was solved, the next solution would follow, and scale would run off.
    """
    logs = torch.where(use, depth.log(), torch.zeros_like(depth))
    return (logs.flatten(1).sum(1) / use.flatten(1).sum(1).clamp_min(1)).exp()


def flow_term(depth: Tensor, camera: Camera, b_from_a: SE3, two_view: TwoView) -> Tensor:
    """Return the mean robust flow error ``min(|r| / (1 + .3 |f|), 2)`` over usable pixels of non-degenerate pairs."""
    flow, in_front = rigid_flow(depth, camera, b_from_a)
    use = two_view.usable & in_front & (two_view.weight > 0).view(-1, 1, 1, 1)
    residual = torch.where(use, flow - two_view.flow_ab, torch.ones_like(flow))
    relative = (residual.square().sum(1, keepdim=True) + 1e-6).sqrt() / (1 + 0.3 * two_view.flow_ab.norm(dim=1, keepdim=True))
    return masked_mean(relative.clamp_max(2.0), use)


def motion_term(b_from_a: SE3, target: SE3, two_view: TwoView, *, focal_px: Tensor) -> Tensor:
    """Return the distance of a predicted motion to the scaled two-view motion, per pair, averaged over the batch.

    The rotation error is counted in pixels at the image centre (focal times radians), the translation error relative to
    the target's length; a degenerate pair teaches its rotation alone.
    """
    target = target.detach()
    turn = rotation_log(b_from_a.R @ target.R.mT).norm(dim=-1) * focal_px
    length = target.t.norm(dim=-1).clamp_min(1e-6)
    shift = (b_from_a.t - target.t).norm(dim=-1) / length
    has_direction = two_view.weight > 0
    return (turn + torch.where(has_direction, shift.clamp_max(5.0), torch.zeros_like(shift))).mean()
