"""Depth, motion, flow and what moves by itself, learnt together: the recipe that egoflow recommends (ours).

Of the systems it is made of: both ways between the frames of a clip and one visibility mask, that of optical flow led
back, before there is any that of the start (DF-Net); what moves by itself told from the two flows and the two
photometric errors (CoopNet; moving.py); depth and motion learn from static pixels alone, and optical flow follows the
camera's there; depths of two frames must be one surface, so that a whole trajectory has one scale (Lu & Lu, Bian
2019). A motion is the exact inverse of the way back. The classical two-view start teaches depth, motion and flow
first, and once it fades no depth on what moves.

One photometric error everywhere (.85 SSIM + .15 L1): the difference of two errors means nothing otherwise. Never a
minimum over views or branches, and no auto-mask.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import pydantic
import torch
from torch import Tensor

from egoflow.config import Amount, Augment, DataConfig, LoopConfig, OptimConfig, Positive, Run, Share
from egoflow.geometry.flow import backward_warp
from egoflow.geometry.pixels import resize_image, resize_map, resize_mask
from egoflow.geometry.precision import full_precision
from egoflow.geometry.se3 import SE3
from egoflow.losses.consistency import cross_task_map, depth_difference_map, unit_scale
from egoflow.losses.masks import eroded, forward_backward_visible, in_view, opened
from egoflow.losses.photometric import ssim_l1_map
from egoflow.losses.reduce import fill_unused, masked_mean, multi_scale, weighted_mean
from egoflow.losses.smoothness import first_order_map, mean_normalised
from egoflow.methods.base import Method, Phase
from egoflow.methods.beneath import beneath, raised_term
from egoflow.methods.moving import explained, probabilities
from egoflow.methods.start import StartSchedule
from egoflow.methods.trio import networks
from egoflow.methods.views import Level, Rigid, both_ways, levels_of, mixed_ways, stacked_frames, unstacked
from egoflow.types import Clip, LossTerms, Pair, Prediction


@dataclass(frozen=True, kw_only=True)
class Config:
    """The networks and the weights of the terms."""

    frames: Annotated[int, pydantic.Field(ge=2)] = 3
    """Clip length; the middle frame is the target."""
    network: Literal["paper", "tiny"] = "paper"
    depth_smooth_weight: Amount = 2e-2
    flow_smooth_weight: Amount = 2e-2
    depth_weight: Amount = 0.2
    """Of the depths of two frames being one surface."""
    cross_weight: Amount = 2e-2
    """Of the camera's flow and optical flow agreeing on static pixels, per pixel of difference."""
    scale_weight: Amount = 2e-2
    """Of the batch's mean depth being 1: nothing else says what the common scale is, and it would wander off."""
    ground_weight: Amount = 1.0
    """Of nothing being farther than the ground, where there is one (geometry/ground.py); 0 switches it off."""
    movers: bool = True
    """Leave what moves by itself out of what teaches depth and motion."""
    alone: Share = 0.6
    """Share of the steps in which depth and motion learn alone, at three fifths of the cost."""
    ramp: Share = 0.3
    """Share of a phase in which the agreement of depths and of flows climbs from 0."""
    flow_rate: Positive = 1.0
    """Of the flow network's learning rate, in units of the others'."""
    warm_up: Share = 0.4
    """Share of the joint phase before anything is called moving or beneath the ground: wrong depth looks like both."""


class Joint(Method):
    """Depth, motion and flow that must agree on what is static; each network works alone afterwards."""

    flow_alone = True
    # Its masks are no network's: where nothing moves by itself they keep every pixel, and are right.
    harmless = frozenset({"mask at 1"})

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = config
        self.clip_length, self.target = config.frames, config.frames // 2
        self.sources = [i for i in range(config.frames) if i != self.target]
        self.pairs = both_ways(self.target, self.sources)
        self.rates = {"flow_net": config.flow_rate}
        # Whole until something may be called moving.
        self.start = StartSchedule(hold=config.alone + config.warm_up * (1 - config.alone))
        self.depth_net, self.motion_net, self.flow_net = networks(config.network)

    def phases(self) -> tuple[Phase, ...]:
        """Return depth and motion alone, then all; a share of 0 leaves the first out."""
        alone = self.config.alone
        first = (Phase(name="alone", share=alone, trains=("depth_net.", "motion_net.")),) if alone > 0 else ()
        return (*first, Phase(share=1 - alone))

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
        """Predict depth, motion and flow of the target and its sources, both ways; a motion back is the exact inverse.

        In training of the target and one source drawn at random, which costs half and learns as much from a step of
        twice the clips.
        """
        images, batch, pairs = clip.images, clip.images.shape[0], self._drawn() if self.training else self.pairs
        frames, there = sorted({i for pair in pairs for i in pair}), pairs[:len(pairs) // 2]
        ways = mixed_ways(self.motion, *stacked_frames(images, there), mix=self.training)
        motion = {pair: ways[i * batch:(i + 1) * batch] for i, pair in enumerate(there)}
        return Prediction(
            inv_depth=unstacked(self.depth(images[:, frames].transpose(0, 1).flatten(0, 1)), frames),
            motion=motion | {(b, a): way.inverse() for (a, b), way in motion.items()},
            flow=unstacked(self.flow(*stacked_frames(images, pairs)), pairs) if self.asks(self.flow_net) else {})

    def weighed(self, clip: Clip, prediction: Prediction, progress: float) -> Prediction:
        """Return a training step's prediction with which pixels are taken to be static; the two-view start reads it."""
        if not (self.training and self.config.movers and self._warm(prediction, progress)):
            return prediction
        return replace(prediction, weight=unstacked([self._static(clip, prediction)], self._held(prediction)))

    def _warm(self, prediction: Prediction, progress: float) -> bool:
        """Say whether depth is good enough to tell what moves and what lies beneath the ground."""
        return bool(prediction.flow) and progress >= self.config.warm_up

    def _drawn(self) -> tuple[Pair, ...]:
        """Return the target with one source drawn at random, and the reverse."""
        return both_ways(self.target, [self.sources[int(torch.randint(len(self.sources), ()))]])

    def _held(self, prediction: Prediction) -> tuple[Pair, ...]:
        """Return the pairs that a prediction holds, in the order of all pairs: each half is the other one reversed."""
        return tuple(pair for pair in self.pairs if pair in prediction.motion)

    def losses(self, clip: Clip, prediction: Prediction, progress: float) -> LossTerms:
        """Return the terms of depth and motion and, where flow is asked, of flow and of their agreement when static."""
        pairs = self._held(prediction)
        # Some networks have more levels of flow than of depth: those count that both have.
        levels = [level for level in levels_of(clip, prediction, pairs)
                  if level.rigid is not None and (level.flow_ab is not None or not prediction.flow)]
        visible = _visible(clip, levels[0], pairs)
        static = (torch.cat([prediction.weight[pair][0] for pair in pairs]) if prediction.weight
                  else torch.ones_like(visible, dtype=levels[0].image_a.dtype))
        climb = min(progress / self.config.ramp, 1.0) if self.config.ramp > 0 else 1.0
        terms = self._depth_terms(clip, prediction, [_depth_terms(level, visible, static) for level in levels], climb)
        if prediction.flow:
            terms |= self._flow_terms([_flow_terms(level, visible, static) for level in levels], climb)
            terms["loss/movers"] = (0.0, (1 - static).mean())
        if self.config.ground_weight > 0 and self._warm(prediction, progress):
            terms["loss/ground"] = (self.config.ground_weight, raised_term(clip, prediction, self._held(prediction)))
        return terms

    def _depth_terms(self, clip: Clip, prediction: Prediction, levels: list[dict[str, Tensor]],
                     climb: float) -> LossTerms:
        """Return the terms of depth and motion, given those of the levels."""
        images = torch.cat([clip.images[:, i] for i in prediction.inv_depth])
        inv_depths = zip(*prediction.inv_depth.values(), strict=True)
        rough = _halved([_roughness(images, torch.cat(level)) for level in inv_depths])
        terms = LossTerms({"loss/photometric_depth": (1.0, _summed(levels, "photometric")),
                           "loss/smoothness_depth": (self.config.depth_smooth_weight, rough),
                           "loss/depth_consistency": (climb * self.config.depth_weight, _summed(levels, "unlike"))})
        if self.training and self.config.scale_weight > 0:
            finest = torch.cat([levels[0] for levels in prediction.inv_depth.values()])
            terms["loss/scale"] = (self.config.scale_weight, unit_scale(finest))
        return terms

    def _flow_terms(self, levels: list[dict[str, Tensor]], climb: float) -> LossTerms:
        """Return the terms of flow and of both flows being one, given those of the levels."""
        return LossTerms({
            "loss/photometric_flow": (1.0, _summed(levels, "photometric")),
            "loss/smoothness_flow": (self.config.flow_smooth_weight, _halved([terms["rough"] for terms in levels])),
            "loss/cross_task": (climb * self.config.cross_weight, _summed(levels, "cross_task"))})

    @torch.no_grad()
    def _static(self, clip: Clip, prediction: Prediction) -> Tensor:
        """Return 1 where a pixel of the stacked pairs is taken to be static, else 0, [P B, 1, H, W]."""
        views = [explained(clip, prediction, pair) for pair in self._held(prediction)]
        moving = opened(torch.cat(probabilities(views)) >= 0.5)
        if self.config.ground_weight > 0:
            moving |= beneath(clip, prediction, self._held(prediction))
        # SSIM and the edges of classical flow reach over the border of what moves.
        return eroded((~moving).to(clip.images.dtype))


def _halved(values: list[Tensor]) -> Tensor:
    """Return the sum of the values of levels, fine to coarse, each counting half of the one before."""
    return multi_scale(values, [0.5**level for level in range(len(values))])


def _summed(levels: list[dict[str, Tensor]], name: str) -> Tensor:
    """Return the sum of a value over levels."""
    return torch.stack([terms[name] for terms in levels]).sum()


def _rigid(level: Level) -> Rigid:
    """Return what depth and motion say of a level."""
    assert level.rigid is not None
    return level.rigid


def _visible(clip: Clip, level: Level, pairs: Sequence[Pair]) -> Tensor:
    """Return where the finest level of pairs is seen in both frames: where flow is led back by the way back.

    Before there is optical flow, by the classical one of the start, and where that is off, everywhere: the camera's own
    flow would leave out what depth has not learnt yet.
    """
    if level.flow_ab is not None and level.flow_ba is not None:
        visible = forward_backward_visible(level.flow_ab, level.flow_ba)
        # Flow led back in less than a tenth of an image has learnt nothing, and never would, were nothing else seen.
        return visible | (visible.float().mean((1, 2, 3), keepdim=True) < 0.1)
    height, width = level.image_a.shape[-2:]
    if any(pair not in clip.start for pair in pairs):
        return torch.ones_like(level.image_a[:, :1], dtype=torch.bool)
    return torch.cat([resize_mask(clip.start[pair].usable, height=height, width=width) for pair in pairs])


def _seen_by_depth(level: Level, visible: Tensor) -> Tensor:
    """Return which visible pixels lie in view of both flows and in front of the second camera."""
    rigid = _rigid(level)
    seen = resize_mask(visible, height=level.image_a.shape[-2], width=level.image_a.shape[-1])
    both = seen & rigid.in_front & in_view(rigid.flow_ab)
    return both if level.flow_ab is None else both & in_view(level.flow_ab)


def _depth_terms(level: Level, visible: Tensor, static: Tensor) -> dict[str, Tensor]:
    """Return the values of depth and motion at one level; ``visible`` and ``static`` are of the finest."""
    rigid, use = _rigid(level), _seen_by_depth(level, visible)
    static = resize_map(static, height=use.shape[-2], width=use.shape[-1])
    difference, defined = depth_difference_map(rigid.depth_a_in_b, rigid.depth_b, rigid.xy_b)
    return {"photometric": weighted_mean(_error(level, rigid.flow_ab, use), static, use),
            "unlike": weighted_mean(difference, static, defined & use)}


def _flow_terms(level: Level, visible: Tensor, static: Tensor) -> dict[str, Tensor]:
    """Return the values of optical flow at one level, and of its agreement with the camera's where static.

    Flow follows the camera's, and not the other way: optical flow that is learnt in minutes is the more blurred.
    """
    flow, rigid, both = level.flow_ab, _rigid(level), _seen_by_depth(level, visible)
    assert flow is not None
    height, width = both.shape[-2:]
    use = resize_mask(visible, height=height, width=width) & in_view(flow)
    return {"photometric": masked_mean(_error(level, flow, use), use),
            "rough": masked_mean(first_order_map(flow, level.image_a)),
            "cross_task": weighted_mean(cross_task_map(rigid.flow_ab.detach(), flow, both),
                                        resize_map(static, height=height, width=width), both)}


def _error(level: Level, flow_ab: Tensor, use: Tensor) -> Tensor:
    """Return the photometric error map [P B, 1, H, W] of a flow of a level."""
    rebuilt = fill_unused(backward_warp(level.image_b, flow_ab)[0], level.image_a, use)
    return ssim_l1_map(rebuilt, level.image_a)


def _roughness(images: Tensor, inv_depth: Tensor) -> Tensor:
    """Return how rough the inverse depths [N B, 1, h, w] of images [N B, 3, H, W] are at one level."""
    image = resize_image(images, height=inv_depth.shape[-2], width=inv_depth.shape[-1])
    return masked_mean(first_order_map(mean_normalised(inv_depth), image))


def kitti() -> Run:
    """KITTI raw, 192x640, batch 4, rate 1e-4, with the two-view start (not trained yet)."""
    return Run(method="joint", preset="kitti", start="two_view", motion="solved", config=Config(),
               data=DataConfig(height=192, width=640, augment=Augment(flip=True, colour=0.2, scale_crop=0.15)),
               optim=OptimConfig(lr=1e-4, batch_size=4, schedule="halving", halve_at=(0.75,)),
               loop=LoopConfig(steps=100_000))


def cityscapes() -> Run:
    """The same on Cityscapes, frames twice as close; crop the car's bonnet off beforehand."""
    base = kitti()
    return replace(base, preset="cityscapes", data=replace(base.data, gap=2))


def quick() -> Run:
    """Half an hour on a GPU: the networks of ``kitti`` at 128x416, under a schedule that ends in time."""
    base = kitti()
    return replace(base, preset="quick", data=replace(base.data, height=128, width=416),
                   optim=OptimConfig(lr=4e-4, batch_size=8, schedule="one_cycle", clip_norm=1.0),
                   loop=LoopConfig(steps=4000, workers=2))


def tiny() -> Run:
    """Minutes on a CPU: small networks on three frames of 64x192.

    Depth falls back to flat at the rate that flow, learnt in the last two fifths of the steps, needs.
    """
    return Run(method="joint", preset="tiny", start="two_view", motion="solved",
               config=Config(network="tiny", flow_rate=3),
               data=DataConfig(height=64, width=192, augment=Augment(flip=True, colour=0.2, scale_crop=0.2)),
               optim=OptimConfig(lr=7e-4, muon=("depth_net",), batch_size=4, schedule="one_cycle", clip_norm=1.0),
               loop=LoopConfig(steps=1200, log_every=10, save_every=200))
