"""CoopNet: depth, motion and flow that divide the pixels between them (Hariat, Manzanera & Filliat, WACV 2023).

Depth and camera motion rebuild an image, optical flow rebuilds it too. Delta = e_r - e_f, the difference of their
photometric errors, tells what moves by itself: a mixture over it gives each pixel's probability q of being static.
Depth and motion learn from static pixels alone, where the camera's flow must also be the optical flow; flow learns from
all. Who has progressed less weighs more.

The paper's formulas are not published in readable form and no code exists: the mixture, the weights and the schedule
are ours (losses/mixture.py, hybrid.py, rebalancing.py), as are the networks' exact layers, for which the paper leaves
the choice. No auto-mask: during the warm-up everything counts as static, in ``tiny`` after the two-view start. The
naive cooperation that the paper argues against, the lesser error of both branches at each pixel, is
``cooperation="minimum"``.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import pydantic
import torch
import torch.nn.functional as F
from torch import Tensor

from egoflow.config import Amount, Augment, DataConfig, LoopConfig, OptimConfig, Run, Share
from egoflow.geometry.flow import backward_warp
from egoflow.geometry.precision import full_precision
from egoflow.geometry.se3 import SE3
from egoflow.losses.consistency import cross_task_map, unit_scale, with_teacher
from egoflow.losses.hybrid import flow_branch, hybrid_error, pair_branch
from egoflow.losses.masks import eroded, in_view
from egoflow.losses.mixture import Mixture, evidence, fitted, seen_by_both
from egoflow.losses.photometric import least_map, ssim_l1_map, ssim_moments
from egoflow.losses.rebalancing import Progress
from egoflow.losses.reduce import fill_unused, masked_mean
from egoflow.losses.smoothness import first_order_map, mean_normalised, second_order_diagonals
from egoflow.losses.unlabelled_flow import return_error
from egoflow.methods.base import Method, Phase
from egoflow.methods.trio import networks
from egoflow.methods.views import Level, both_ways, levels_of, stacked_frames, unstacked
from egoflow.types import Clip, LossTerms, Prediction

EVIDENCE = 2e-3
"""Least error of one branch at a pixel whose Delta says something."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The networks, how the branches cooperate and the weights of the terms."""

    frames: Annotated[int, pydantic.Field(ge=2)] = 3
    """Clip length; the middle frame is the target."""
    network: Literal["paper", "tiny"] = "paper"
    cooperation: Literal["hybrid", "minimum", "none"] = "hybrid"
    """``minimum`` and ``none`` (everything counts as static) are there to compare with."""
    depth_smooth_weight: Amount = 1e-3
    flow_smooth_weight: Amount = 2e-2
    """Both halved per level."""
    return_weight: Amount = 2e-2
    """Of following a flow there and back."""
    cross_weight: Amount = 0.1
    """Of the camera's flow and optical flow being one where the scene is static, per pixel of difference."""
    scale_weight: Amount = 0.0
    """Of the geometric mean of a training batch's depths being 1: nothing else says what the common scale is."""
    movers_weight: Amount = 0.0
    """How much more a pixel that moves by itself counts for flow."""
    rebalance: Amount = 1.0
    """Power of the ratio by which the branch that lags weighs more; 0: no rebalancing."""
    keep: Share = 0.99
    """Of the mixture and of the branches' mean losses from step to step; less where a run is short."""
    warm_up: Share = 0.2
    """Share of all steps in which depth and motion, and flow, learn without each other."""
    ramp: Share = 0.1
    """Share of all steps after that in which the weight of ``cross_weight`` climbs."""
    refinement: Share = 0.1
    """Share of all steps, the last ones, in which flow is fixed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Branches:
    """What both branches make of the stacked pairs at one level: flows, errors by ONE operator, where both count."""

    image: Tensor
    depth: Tensor
    rigid_flow: Tensor
    flow: Tensor
    flow_back: Tensor
    error_rigid: Tensor
    error_flow: Tensor
    use: Tensor


class CoopNet(Method):
    """Depth, motion and flow that cooperate pixel by pixel; each network works alone afterwards."""

    flow_alone = True
    mixture: Tensor
    loss_average: Tensor
    loss_start: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = config
        self.clip_length, self.target = config.frames, config.frames // 2
        self.pairs = both_ways(self.target, [i for i in range(config.frames) if i != self.target])
        self.depth_net, self.motion_net, self.flow_net = networks(config.network)
        # What training has learnt of the errors is saved with the weights: a resumed run knows it to the bit.
        self.register_buffer("mixture", Mixture.unknown().to_tensor())
        progress = Progress.unknown(2)
        self.register_buffer("loss_average", progress.average)
        self.register_buffer("loss_start", progress.start)

    def phases(self) -> tuple[Phase, ...]:
        """Return joint training, which begins with the warm-up, and the refinement with flow fixed."""
        last = self.config.refinement
        refinement = Phase(name="refinement", share=last, trains=("depth_net.", "motion_net."))
        return (Phase(share=1 - last), *((refinement,) if last > 0 else ()))

    def depth(self, images: Tensor) -> list[Tensor]:
        """Return inverse depths of images [B, 3, H, W], four levels from fine to coarse."""
        return self.depth_net(images)

    def motion(self, image_a: Tensor, image_b: Tensor) -> SE3:
        """Return b_from_a [B] of images [B, 3, H, W]."""
        return SE3.from_translation_euler(full_precision(self.motion_net(image_a, image_b[:, None])[:, 0]))

    def motion_between(self, image_a: Tensor, image_b: Tensor) -> SE3:
        """Return b_from_a [B] of images [B, 3, H, W]."""
        return self.motion(image_a, image_b)

    def flow(self, image_a: Tensor, image_b: Tensor) -> list[Tensor]:
        """Return the flow from a to b at full size, then every level, of images [B, 3, H, W]."""
        return self.flow_net(image_a, image_b)

    def predict(self, clip: Clip) -> Prediction:
        """Predict depth of all frames, motion and flow of the target and its sources, both ways."""
        images, batch = clip.images, clip.images.shape[0]
        first, second = stacked_frames(images, self.pairs)
        motion = self.motion(first, second)
        return Prediction(
            inv_depth=unstacked(self.depth(images.transpose(0, 1).flatten(0, 1)), range(images.shape[1])),
            motion={pair: motion[i * batch:(i + 1) * batch] for i, pair in enumerate(self.pairs)},
            flow=unstacked(self.flow(first, second), self.pairs))

    def losses(self, clip: Clip, prediction: Prediction, progress: float) -> LossTerms:
        """Return the terms of both branches and of their agreement, and two of weight 0 to watch.

        These are ``hybrid``, the error of each pixel by the branch that should explain it, and ``movers``, the share
        of pixels that move by themselves.
        """
        joint, climb = self._stage(progress)
        levels = [b for level in levels_of(clip, prediction, self.pairs) if (b := _branches(level))]
        finest = levels[0]
        mixture = self._mixture(finest) if joint else Mixture.unknown(device=self.mixture.device)
        q = mixture.static_weight(finest.error_rigid - finest.error_flow)
        static = q if self.config.cooperation == "hybrid" else torch.ones_like(q)
        terms = [self._level_terms(b, static, mixture, coarseness=2**s) for s, b in enumerate(levels)]
        value = {name: torch.stack([term[name] for term in terms]).sum() for name in terms[0]}
        branches = torch.stack((value["photometric_depth"], value["photometric_flow"]))
        share_depth, share_flow = self._shares(branches.detach(), joint=joint)
        if joint and self.config.cooperation == "minimum":
            found = LossTerms({"loss/photometric": (1.0, value["photometric_least"])})
        else:
            found = LossTerms({"loss/photometric_depth": (1.0, share_depth * value["photometric_depth"]),
                               "loss/photometric_flow": (1.0, share_flow * value["photometric_flow"])})
        found |= {
            "loss/smoothness_depth": (self.config.depth_smooth_weight, share_depth * value["smoothness_depth"]),
            "loss/smoothness_flow": (self.config.flow_smooth_weight, share_flow * value["smoothness_flow"]),
            "loss/return": (self.config.return_weight, share_flow * value["return"]),
            "loss/cross_task": (climb * self.config.cross_weight, value["cross_task"]),
            "loss/hybrid": (0.0, masked_mean(hybrid_error(finest.error_rigid, finest.error_flow, q), finest.use)),
            "loss/movers": (0.0, masked_mean(1 - q, finest.use))}
        if self.training and self.config.scale_weight > 0:
            inv_depth = torch.cat([level[0] for level in prediction.inv_depth.values()])
            found["loss/scale"] = (self.config.scale_weight, unit_scale(inv_depth))
        return found

    def _level_terms(self, branches: _Branches, static: Tensor, mixture: Mixture, *,
                     coarseness: int) -> dict[str, Tensor]:
        """Return the values of one level's terms; ``static`` is q at the finest."""
        use = branches.use
        height, width = use.shape[-2:]
        q = F.adaptive_avg_pool2d(static, (height, width))
        rigid_flow, flow = branches.rigid_flow, branches.flow
        if self.training:
            rigid_flow, flow = with_teacher(rigid_flow, flow, branches.error_rigid, branches.error_flow,
                                            temperature=mixture.scale)
        least, _ = least_map(branches.error_rigid, branches.error_flow, use, use)
        rough_depth = first_order_map(mean_normalised(1 / branches.depth), branches.image)
        return {
            # An error of SSIM reaches a pixel further than its own: q counts where all of the window is static.
            "photometric_depth": pair_branch(branches.error_rigid, eroded(q), use),
            "photometric_flow": flow_branch(branches.error_flow, q, use, movers=self.config.movers_weight),
            "photometric_least": masked_mean(least, use),
            "smoothness_depth": masked_mean(rough_depth) / coarseness,
            "smoothness_flow": masked_mean(second_order_diagonals(branches.flow)) / coarseness,
            "return": masked_mean(return_error(branches.flow, branches.flow_back), use),
            "cross_task": masked_mean(q * cross_task_map(rigid_flow, flow, use), use)}

    def _stage(self, progress: float) -> tuple[bool, float]:
        """Return whether the branches cooperate yet, and the factor of the weight of their agreement."""
        if not any(p.requires_grad for p in self.flow_net.parameters()):
            return True, 1.0
        done = progress * (1 - self.config.refinement) - self.config.warm_up
        climb = min(max(done, 0.0) / self.config.ramp, 1.0) if self.config.ramp > 0 else 1.0
        return done >= 0, climb if done >= 0 else 0.0

    def _mixture(self, finest: _Branches) -> Mixture:
        """Return the distribution of Delta, in training after a look at this step's."""
        mixture = Mixture.from_tensor(self.mixture)
        if self.training:
            use = evidence(finest.error_rigid, finest.error_flow, finest.use, least=EVIDENCE)
            mixture = mixture.smoothed(fitted(finest.error_rigid - finest.error_flow, use), keep=self.config.keep)
            self.mixture.copy_(mixture.to_tensor())
        return mixture

    def _shares(self, losses: Tensor, *, joint: bool) -> Tensor:
        """Return the factors [2] of the branches by their progress until this step; 1 where nothing is trained."""
        known = Progress(average=self.loss_average, start=self.loss_start)
        if not self.training:
            return torch.ones_like(losses)
        shares = known.weights(gamma=0.0 if self.config.cooperation == "minimum" else self.config.rebalance)
        after = known.observed(losses, keep=self.config.keep)
        if joint:
            # The switch is where no start is known yet; a resumed run finds it in the buffer.
            self.loss_start.copy_(torch.where(known.start > 0, known.start, after.warmed_up().start))
        self.loss_average.copy_(after.average)
        return shares


def _branches(level: Level) -> _Branches | None:
    """Return what both branches make of a level, or None where one of them has no such level.

    Hidden pixels do not count. An untrained flow is led back nowhere and would hide everything, with no loss left to
    learn from: where more than half of a sample would go, all that is in view counts.
    """
    rigid, flow, back = level.rigid, level.flow_ab, level.flow_ba
    if rigid is None or flow is None or back is None:
        return None
    seen, inside = seen_by_both(rigid.flow_ab, flow, back), in_view(rigid.flow_ab) & in_view(flow)
    enough = 2 * seen.sum((1, 2, 3), keepdim=True) >= inside.sum((1, 2, 3), keepdim=True)
    use, moments = torch.where(enough, seen, inside) & rigid.in_front, ssim_moments(level.image_a)

    def error(flow_ab: Tensor) -> Tensor:
        rebuilt = fill_unused(backward_warp(level.image_b, flow_ab)[0], level.image_a, use)
        return ssim_l1_map(rebuilt, level.image_a, moments=moments)

    return _Branches(image=level.image_a, depth=rigid.depth_a, rigid_flow=rigid.flow_ab, flow=flow, flow_back=back,
                     error_rigid=error(rigid.flow_ab), error_flow=error(flow), use=use)


def kitti() -> Run:
    """KITTI raw, 192x640, batch 4, rate 1e-4 (published: abs_rel 0.125, RMSE 4.824; t_err 8.42 / 7.29 % on 09 / 10).

    The size is the field's usual one; the rate halves at three quarters of each phase.
    """
    return Run(method="coopnet", preset="kitti", config=Config(),
               data=DataConfig(height=192, width=640, augment=Augment(flip=True, colour=0.2)),
               optim=OptimConfig(lr=1e-4, batch_size=4, schedule="halving", halve_at=(0.75,)),
               loop=LoopConfig(steps=200_000))


def cityscapes() -> Run:
    """The same on Cityscapes (abs_rel 0.121 published), frames twice as close; crop the car's bonnet off beforehand."""
    base = kitti()
    return replace(base, preset="cityscapes", data=replace(base.data, gap=2))


def tiny() -> Run:
    """Minutes on a CPU: small networks on three frames of 64x192 with the two-view start."""
    config = Config(network="tiny", depth_smooth_weight=2e-2, cross_weight=2e-2, scale_weight=2e-2, keep=0.9,
                    warm_up=0.3)
    return Run(method="coopnet", preset="tiny", start="two_view", config=config,
               data=DataConfig(height=64, width=192, augment=Augment(flip=True, colour=0.2, scale_crop=0.2)),
               optim=OptimConfig(lr=2e-3, batch_size=4, schedule="one_cycle", clip_norm=1.0),
               loop=LoopConfig(steps=900, log_every=10, save_every=300))
