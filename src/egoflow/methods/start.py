"""The two-view start: classical geometry teaches depth and motion before photometric errors can (ours).

Photometric training from scratch has wrong-motion minima. Two-view geometry has none, but no dense depth and no scale.
For each pair the length of the classical translation is solved against the network's own depth (detached), then depth
follows the flow and the motion net follows the scaled classical motion; that weight fades while the photometric terms
ramp in. Optical flow follows the classical one too. Works for any method whose prediction holds inverse depth, motion
or flow of the pairs in ``clip.start``; once the start fades, depth is taught only where the method trusts a pair
(``Prediction.weight``), which an untrained method does for the wrong reasons.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from egoflow.geometry.camera import NEAREST, Camera
from egoflow.geometry.flow import pixels_from_flow, reproject, rigid_flow
from egoflow.geometry.pixels import resize_map
from egoflow.geometry.se3 import SE3, rotation_log
from egoflow.losses.reduce import masked_mean
from egoflow.types import Clip, LossTerms, Pair, Prediction, TwoView


@dataclass(frozen=True, slots=True, kw_only=True)
class StartSchedule:
    """Weights of the start over the progress 0..1 of training.

    ``flow`` weighs what depth and optical flow learn of the classical flow. Flow and motion weights stay whole until
    ``hold`` and fade to ``rest`` of themselves at ``end``; the method's own terms ramp from 0 to 1 over ``ramp``.
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


def with_start(terms: LossTerms, clip: Clip, prediction: Prediction, progress: float,
               schedule: StartSchedule) -> LossTerms:
    """Return the method's terms, ramped, beside the fading start terms."""
    own, guidance = schedule.own(progress), schedule.guidance(progress)
    result = LossTerms({name: (weight * own, value) for name, (weight, value) in terms.items()})
    with_depth = [pair for pair in clip.start if pair[0] in prediction.inv_depth
                  and (pair in prediction.motion or not prediction.motion)]
    targets: dict[Pair, SE3] = {}
    if with_depth:
        trusted = _trusted(clip, prediction) if progress >= schedule.hold else clip
        flow, motion = _taught_depth(trusted, prediction, with_depth)
        result["loss/start_flow"] = (schedule.flow * guidance, flow)
        batch = clip.images.shape[0]
        targets = {pair: motion[i * batch:(i + 1) * batch] for i, pair in enumerate(with_depth)}
    flowing = [pair for pair in clip.start if pair in prediction.flow]
    if flowing:
        result["loss/start_optical_flow"] = (schedule.flow * guidance, flow_distance(
            torch.cat([prediction.flow[pair][0] for pair in flowing]), stacked([clip.start[pair] for pair in flowing])))
    moving = [pair for pair in clip.start if pair in prediction.motion]
    if moving:
        view = stacked([clip.start[pair] for pair in moving])
        predicted = SE3.cat([prediction.motion[pair] for pair in moving])
        # Without depth nothing says how long a step is: the motion keeps its own length.
        target = SE3.cat([targets[pair] if pair in targets else clip.start[pair].b_from_a.scaled(
            prediction.motion[pair].t.detach().norm(dim=-1)) for pair in moving])
        result["loss/start_motion"] = (schedule.motion * guidance, motion_term(
            predicted, target, view, focal_px=clip.camera.fx.repeat(len(moving))))
    return result


def _trusted(clip: Clip, prediction: Prediction) -> Clip:
    """Return the clip with pairs usable only where the prediction trusts them: a mover's flow says nothing of depth."""
    return replace(clip, start={
        pair: replace(view, usable=view.usable & (prediction.weight[pair][0].detach() > 0.5))
        if pair in prediction.weight else view for pair, view in clip.start.items()})


def _taught_depth(clip: Clip, prediction: Prediction, pairs: list[Pair]) -> tuple[Tensor, SE3]:
    """Return the flow term over all levels, and the pairs' motions [P B] with their solved lengths."""
    # All pairs in one batch: half the calls, and the length is solved once.
    view, camera = stacked([clip.start[pair] for pair in pairs]), clip.camera.repeated(len(pairs))
    levels = [torch.cat([1 / resize_map(prediction.inv_depth[a][level], height=camera.height, width=camera.width)
                         for a, _ in pairs]) for level in range(len(prediction.inv_depth[pairs[0][0]]))]
    motion = scaled_motion(levels[0].detach(), camera, view)
    unit = motion.scaled(1 / log_mean(levels[0].detach(), view.usable))
    flows = [flow_term(depth / log_mean(depth, view.usable).view(-1, 1, 1, 1), camera, unit, view) for depth in levels]
    return torch.stack(flows).mean(), motion


def stacked(views: list[TwoView]) -> TwoView:
    """Return several pairs as one batch."""
    return TwoView(flow_ab=torch.cat([v.flow_ab for v in views]), usable=torch.cat([v.usable for v in views]),
                   b_from_a=SE3.cat([v.b_from_a for v in views]), weight=torch.cat([v.weight for v in views]))


@torch.no_grad()
def scaled_motion(depth: Tensor, camera: Camera, two_view: TwoView, *, steps: int = 8, stride: int = 2) -> SE3:
    """Return the two-view motion with the length [B] that best explains the flow by ``depth`` [B, 1, H, W].

    Robust one-dimensional Gauss-Newton on ``rigid_flow(depth, R, s t) - flow`` over every ``stride``-th row and column:
    weights 1 / (1 + |r|^2)^2, steps clamped to half of s, started from the ratio of the flow to that of a short step.
    """
    rotation, direction = two_view.b_from_a.R.to(depth.dtype), two_view.b_from_a.t.to(depth.dtype)
    still = SE3(rotation, torch.zeros_like(direction))
    # A point on the turned ray, and the pixel that it would have without translation: the rest is one dimension.
    xy, z, in_front = reproject(depth, camera, still)
    # A degenerate pair has no direction, and its flow is not read.
    use = _thinned(two_view.usable & in_front & (two_view.weight > 0).view(-1, 1, 1, 1), stride)
    x, y, z = _thinned(xy[..., 0], stride), _thinned(xy[..., 1], stride), _thinned(z[:, 0], stride)
    ends = pixels_from_flow(two_view.flow_ab)
    wanted_x, wanted_y = _thinned(ends[..., 0], stride) - x, _thinned(ends[..., 1], stride) - y
    step_x, step_y, step_z = _pixel_step(camera, direction)
    # x(s) = (x z + s step_x) / (z + s step_z), so that x(s) - x = s (step_x - x step_z) / (z + s step_z).
    across_x, across_y = step_x - x * step_z, step_y - y * step_z
    use = use.reshape(x.shape)
    across, wanted = (torch.where(use, (u * u + v * v).sqrt(), torch.zeros_like(u)) for u, v in (
        (across_x / z, across_y / z), (wanted_x, wanted_y)))
    length = ((wanted.flatten(1).sum(1) + 1e-9) / (across.flatten(1).sum(1) + 1e-9)).view(-1, 1, 1)
    for _ in range(steps):
        reach = z + length * step_z
        good = use & (reach > NEAREST)
        inverse = torch.where(good, 1 / reach, torch.zeros_like(z))
        residual_x, residual_y = wanted_x - length * across_x * inverse, wanted_y - length * across_y * inverse
        slope = z * inverse * inverse
        slope_x, slope_y = across_x * slope, across_y * slope
        weight = torch.where(good, 1 / (1 + residual_x.square() + residual_y.square()).square(), torch.zeros_like(z))
        change = (torch.where(good, weight * (slope_x * residual_x + slope_y * residual_y), weight).flatten(1).sum(1)
                  / (weight * (slope_x.square() + slope_y.square())).flatten(1).sum(1).clamp_min(1e-12)).view(-1, 1, 1)
        length = length + torch.minimum(torch.maximum(change, -length / 2), length / 2)
    return SE3(rotation, length.view(-1, 1) * direction)


def _thinned(value: Tensor, stride: int) -> Tensor:
    """Return every ``stride``-th row and column; all of a map too small for that."""
    return value if min(value.shape[-2:]) < 4 * stride else value[..., ::stride, ::stride]


def _pixel_step(camera: Camera, direction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``K t`` [B, 1, 1] of unit translations [B, 3]."""
    fx, fy, cx, cy = (v.to(direction.dtype).view(-1, 1, 1) for v in (camera.fx, camera.fy, camera.cx, camera.cy))
    tx, ty, tz = (v.view(-1, 1, 1) for v in direction.unbind(-1))
    return fx * tx + cx * tz, fy * ty + cy * tz, tz


def log_mean(depth: Tensor, use: Tensor) -> Tensor:
    """Return the geometric mean [B] of depth over used pixels.

    Dividing by it makes the flow term blind to the scale of depth. With the solved length held fixed the term would
    else pull depth away from where the length was solved, the next solution would follow, and scale would run off.
    """
    logs = torch.where(use, depth.log(), torch.zeros_like(depth))
    return (logs.flatten(1).sum(1) / use.flatten(1).sum(1).clamp_min(1)).exp()


def flow_term(depth: Tensor, camera: Camera, b_from_a: SE3, two_view: TwoView) -> Tensor:
    """Return the mean robust flow error ``min(|r| / (1 + .3 |f|), 2)`` over usable pixels of non-degenerate pairs."""
    flow, in_front = rigid_flow(depth, camera, b_from_a)
    sure = two_view.usable & in_front & (two_view.weight > 0).view(-1, 1, 1, 1)
    return flow_distance(flow, replace(two_view, usable=sure))


def flow_distance(flow_ab: Tensor, two_view: TwoView) -> Tensor:
    """Return the mean ``min(|r| / (1 + .3 |f|), 2)`` of a flow [B, 2, H, W] to the classical f over usable pixels."""
    use, ones = two_view.usable, torch.ones_like(flow_ab)
    residual = torch.where(use, flow_ab - two_view.flow_ab, ones)
    size = 1 + 0.3 * _length(torch.where(use, two_view.flow_ab, ones))
    return masked_mean((_length(residual) / size).clamp_max(2.0), use)


def _length(flow: Tensor) -> Tensor:
    """Return |flow| [B, 1, H, W], smooth at zero; by planes: many times faster than a norm over two channels."""
    return (flow[:, :1].square() + flow[:, 1:].square() + 1e-6).sqrt()


def motion_term(b_from_a: SE3, target: SE3, two_view: TwoView, *, focal_px: Tensor) -> Tensor:
    """Return the distance of a predicted motion to the scaled two-view motion, per pair, averaged over the batch.

    The rotation error is counted in pixels at the image centre (focal times radians), the translation error relative to
    the target's length; a degenerate pair teaches its rotation alone.
    """
    turn, shift = motion_distance(b_from_a, target.detach(), focal_px=focal_px)
    return (turn + torch.where(two_view.weight > 0, shift, torch.zeros_like(shift))).mean()


def motion_distance(b_from_a: SE3, target: SE3, *, focal_px: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far motions [B] are from others: the rotation in pixels at the image centre (focal times radians), and
    the translation relative to the target's length, at most 5.
    """
    # The product of SE3 keeps full precision under autocast; a bare one would be wrong by a tenth of a degree.
    turn = rotation_log((b_from_a @ target.inverse()).R).norm(dim=-1) * focal_px
    length = target.t.norm(dim=-1).clamp_min(1e-6)
    return turn, ((b_from_a.t - target.t).norm(dim=-1) / length).clamp_max(5.0)
