"""DF-Net: depth, motion and flow that must agree where the scene is rigid (Zou, Luo & Huang, ECCV 2018).

Depth and camera motion give a flow; a flow network gives another. Each rebuilds the target on its own; where both are
in view and led back by their own way back, they must be the same flow. Flow is trained first, then depth and motion,
then all together: from nothing, the cross-task term finds a wrong common answer.

Follows the released code (clips of five frames, census without SSIM, depth and motion at half the size) except: means
are over the pixels that count, where that code divides by all, and over pairs; depths are compared in one frame
(``depth_comparison="direct"`` is the code's form); flow is in pixels of its own level, where the code's coarse flows
are 2^s too long. The preset ``tiny`` is ours: small networks at one size, SSIM beside L1, and with the two-view start
all networks from the first step on, the cross-task weight climbing.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import pydantic
import torch
from torch import Tensor, nn

from egoflow.config import Amount, Augment, DataConfig, LoopConfig, OptimConfig, Run, Share
from egoflow.geometry.flow import backward_warp
from egoflow.geometry.pixels import resize_image, resize_map
from egoflow.geometry.precision import full_precision
from egoflow.geometry.se3 import SE3
from egoflow.losses.consistency import DepthComparison, cross_task_map, depth_consistency_map
from egoflow.losses.masks import cross_task_visible, forward_backward_visible
from egoflow.losses.photometric import census_map, ssim_l1_map
from egoflow.losses.reduce import fill_unused, masked_mean, multi_scale
from egoflow.losses.smoothness import first_order_map, mean_normalised, second_order_diagonals
from egoflow.losses.unlabelled_flow import return_error
from egoflow.methods.base import Method, Phase
from egoflow.methods.trio import networks
from egoflow.methods.views import Level, Rigid, both_ways, levels_of, stacked_frames, unstacked
from egoflow.networks.dfnet_depth import DFNetDepth
from egoflow.networks.flownet2 import FlowNet, own_levels
from egoflow.networks.posenet import PoseExpNet
from egoflow.types import Clip, LossTerms, Pair, Prediction

LEVEL_WEIGHTS = (12.7, 4.35, 3.9, 3.4, 1.1)
"""UnFlow's, and DF-Net's code's."""
FLOW_WINDOWS, DEPTH_WINDOWS = (7, 5, 5, 3, 3), (5, 5, 3, 3)
"""Sides of the census at every level."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The networks, the comparison of images and the weights of the terms."""

    frames: Annotated[int, pydantic.Field(ge=2)] = 5
    """Clip length; the middle frame is the target. The paper has 2, the released code 5."""
    network: Literal["paper", "tiny"] = "paper"
    error: Literal["census", "ssim"] = "census"
    """``ssim`` is .85 SSIM + .15 L1."""
    level_weights: Annotated[tuple[Amount, ...], pydantic.Field(min_length=5, max_length=5)] = LEVEL_WEIGHTS
    """From fine to coarse, of all terms but the smoothness and the agreement of depth."""
    depth_smooth_weight: Amount = 3.0
    normalised: bool = False
    """Divide inverse depth by its mean before it is asked to be smooth (in the code that "breaks training")."""
    flow_smooth_weight: Amount = 3.0
    return_weight: Amount = 0.2
    """Of following a flow there and back."""
    depth_weight: Amount = 0.2
    """Of the depths of both frames agreeing."""
    depth_comparison: DepthComparison = "transformed"
    cross_weight: Amount = 0.5
    """Of the camera's flow and optical flow agreeing."""
    flow_share: Share = 0.3
    depth_share: Share = 0.3
    """Shares of the steps for flow alone, then for depth and motion alone."""
    ramp: Share = 0.1
    """Share of the joint phase in which the cross-task weight climbs from 0."""


class DFNet(Method):
    """Depth, motion and flow with cross-task consistency; each network works alone afterwards."""

    flow_alone = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = config
        self.clip_length, self.target = config.frames, (config.frames - 1) // 2
        self.pairs = both_ways(self.target, [i for i in range(config.frames) if i != self.target])
        if config.network == "paper":
            self.depth_net: nn.Module = DFNetDepth()
            self.motion_net: nn.Module = PoseExpNet(sources=config.frames - 1, both_ways=True)
            self.flow_net: nn.Module = FlowNet("c")
        else:
            self.depth_net, self.motion_net, self.flow_net = networks("tiny")
        self.shrink = 2 if config.network == "paper" else 1
        """Depth and motion see images so many times smaller, and all flows are compared from there down."""

    def phases(self) -> tuple[Phase, ...]:
        """Return flow alone, depth and motion alone, then all; a share of 0 leaves a phase out."""
        flow, depth = self.config.flow_share, self.config.depth_share
        apart = (Phase(name="flow", share=flow, trains=("flow_net.",)),
                 Phase(name="depth", share=depth, trains=("depth_net.", "motion_net.")))
        return (*(phase for phase in apart if phase.share > 0), Phase(name="joint", share=1 - flow - depth))

    def depth(self, images: Tensor) -> list[Tensor]:
        """Return inverse depths of images [B, 3, H, W] at full size, half of it and so on."""
        levels = self.depth_net(self._seen(images))
        height, width = images.shape[-2:]
        return levels if self.shrink == 1 else [resize_map(levels[0], height=height, width=width), *levels]

    def motion(self, images: Tensor, pairs: tuple[Pair, ...]) -> dict[Pair, SE3]:
        """Return b_from_a [B] of pairs of the frames [B, N, 3, H, W], which hold the target and its sources."""
        seen = self._seen(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        if self.config.network == "paper":
            sources = [i for i in range(images.shape[1]) if i != self.target]
            vectors = self.motion_net(seen[:, self.target], seen[:, sources])[0].unflatten(2, (2, 6)).transpose(1, 2)
            found = dict(zip(self.pairs, vectors.flatten(1, 2).unbind(1), strict=True))
        else:
            first, second = stacked_frames(seen, pairs)
            found = dict(zip(pairs, self.motion_net(first, second[:, None])[:, 0].chunk(len(pairs)), strict=True))
        return {pair: SE3.from_translation_euler(full_precision(found[pair])) for pair in pairs}

    def motion_between(self, image_a: Tensor, image_b: Tensor) -> SE3:
        """Return b_from_a [B] of images [B, 3, H, W]: b stands for every source."""
        frames = [image_a if i == self.target else image_b for i in range(self.config.frames)]
        pair = self.target, self.target + 1
        return self.motion(torch.stack(frames, dim=1), (pair,))[pair]

    def flow(self, image_a: Tensor, image_b: Tensor) -> list[Tensor]:
        """Return the flow from a to b at full size, then every level, of images [B, 3, H, W]."""
        flows = self.flow_net(image_a, image_b)
        return own_levels(flows, image_a) if self.config.network == "paper" else flows

    def predict(self, clip: Clip) -> Prediction:
        """Predict depth of all frames, motion and flow of the target and its sources, both ways.

        In training a network that is frozen for now is not asked.
        """
        images = clip.images
        inv_depth: dict[int, list[Tensor]] = {}
        motion: dict[Pair, SE3] = {}
        flow: dict[Pair, list[Tensor]] = {}
        if self.asks(self.depth_net):
            inv_depth = unstacked(self.depth(images.transpose(0, 1).flatten(0, 1)), range(images.shape[1]))
            motion = self.motion(images, self.pairs)
        if self.asks(self.flow_net):
            flow = unstacked(self.flow(*stacked_frames(images, self.pairs)), self.pairs)
        return Prediction(inv_depth=inv_depth, motion=motion, flow=flow)

    def losses(self, clip: Clip, prediction: Prediction, progress: float) -> LossTerms:
        """Return the terms of the networks that are trained, and the cross-task term where all are."""
        levels = levels_of(clip, prediction, self.pairs, shrink=self.shrink)
        terms = LossTerms()
        rigid = [level for level in levels if level.rigid is not None]
        flow = [level for level in levels if level.flow_ab is not None]
        if rigid:
            terms |= self._rigid_terms(clip, prediction, rigid)
        if flow:
            terms |= self._flow_terms(flow)
        if rigid and flow:
            climb = min(progress / self.config.ramp, 1.0) if self.config.ramp > 0 else 1.0
            cross = [_cross_task(level) for level in levels if level.rigid is not None and level.flow_ab is not None]
            terms["loss/cross_task"] = (climb * self.config.cross_weight, self._weighted(cross))
        return terms

    def _rigid_terms(self, clip: Clip, prediction: Prediction, levels: list[Level]) -> LossTerms:
        """Return how badly depth and motion rebuild the images, how rough depth is and how unlike both depths are."""
        photometric, unlike = [], []
        for level, window in zip(levels, DEPTH_WINDOWS, strict=False):
            rigid = level.rigid
            assert rigid is not None
            use = forward_backward_visible(rigid.flow_ab, rigid.flow_ba) & rigid.in_front
            photometric.append(self._photometric(level, rigid.flow_ab, use, window))
            difference, defined = depth_consistency_map(rigid.depth_a, rigid.depth_a_in_b, rigid.depth_b, rigid.xy_b,
                                                        mode=self.config.depth_comparison)
            unlike.append(masked_mean(difference, defined & use))
        depths = list(zip(*prediction.inv_depth.values(), strict=True))[-len(levels):]
        smooth = [self._depth_roughness(clip, inv_depths) for inv_depths in depths]
        return LossTerms({"loss/photometric_depth": (1.0, self._weighted(photometric)),
                          "loss/smoothness_depth": (self.config.depth_smooth_weight, torch.stack(smooth).sum()),
                          "loss/depth_consistency": (self.config.depth_weight, torch.stack(unlike).sum())})

    def _flow_terms(self, levels: list[Level]) -> LossTerms:
        """Return how badly flow rebuilds the images, how rough it is and how far from home it leads and back."""
        photometric, smooth, back = [], [], []
        for level, window in zip(levels, FLOW_WINDOWS, strict=False):
            flow, flow_back = level.flow_ab, level.flow_ba
            assert flow is not None
            assert flow_back is not None
            use = forward_backward_visible(flow, flow_back)
            photometric.append(self._photometric(level, flow, use, window))
            smooth.append(masked_mean(second_order_diagonals(flow)))
            back.append(masked_mean(return_error(flow, flow_back), use))
        return LossTerms({"loss/photometric_flow": (1.0, self._weighted(photometric)),
                          "loss/smoothness_flow": (self.config.flow_smooth_weight, self._weighted(smooth)),
                          "loss/return": (self.config.return_weight, self._weighted(back))})

    def _photometric(self, level: Level, flow_ab: Tensor, use: Tensor, window: int) -> Tensor:
        """Return the mean error of rebuilding the images of a level."""
        rebuilt = fill_unused(backward_warp(level.image_b, flow_ab)[0], level.image_a, use)
        if self.config.error == "census":
            return masked_mean(census_map(rebuilt, level.image_a, window=window), use)
        return masked_mean(ssim_l1_map(rebuilt, level.image_a), use)

    def _depth_roughness(self, clip: Clip, inv_depths: tuple[Tensor, ...]) -> Tensor:
        """Return how rough the inverse depths [B, 1, h, w] of all frames are at one level."""
        value = torch.cat(inv_depths)
        images = clip.images.transpose(0, 1).flatten(0, 1)
        image = resize_image(images, height=value.shape[-2], width=value.shape[-1])
        value = mean_normalised(value) if self.config.normalised else value
        return masked_mean(first_order_map(value, image, edge=1.0))

    def _seen(self, images: Tensor) -> Tensor:
        """Return images [B, 3, H, W] as the depth and motion networks see them."""
        if self.shrink == 1:
            return images
        height, width = (-(-side // self.shrink) for side in images.shape[-2:])
        return resize_image(images, height=height, width=width)

    def _weighted(self, values: list[Tensor]) -> Tensor:
        """Return the weighted sum of the values of levels, fine to coarse."""
        return multi_scale(values, self.config.level_weights[:len(values)])


def _cross_task(level: Level) -> Tensor:
    """Return the mean difference of both flows where both can be believed."""
    rigid, flow, back = level.rigid, level.flow_ab, level.flow_ba
    assert isinstance(rigid, Rigid)
    assert flow is not None
    assert back is not None
    use = cross_task_visible(rigid.flow_ab, rigid.flow_ba, flow, back) & rigid.in_front
    return masked_mean(cross_task_map(rigid.flow_ab, flow, use), use)


def kitti() -> Run:
    """KITTI raw, five frames of 320x1152, batch 4, rate 1e-4 (abs_rel 0.146, KITTI 2015 EPE 7.45 by the released code).

    The released run is 100k joint steps from networks that were trained alone before; here all is one run, and the rate
    halves with the joint phase's first fifth.
    """
    return Run(method="dfnet", preset="kitti", config=Config(),
               data=DataConfig(height=320, width=1152, augment=Augment(flip=True, scale_crop=0.15)),
               optim=OptimConfig(lr=1e-4, batch_size=4, clip_norm=10.0, schedule="halving", halve_at=(0.2,)),
               loop=LoopConfig(steps=250_000))


def cityscapes() -> Run:
    """The same on Cityscapes, whose frames are twice as close; crop the car's bonnet off beforehand."""
    base = kitti()
    return replace(base, preset="cityscapes", data=replace(base.data, gap=2))


def tiny() -> Run:
    """Minutes on a CPU: small networks on three frames of 64x192 with the two-view start."""
    config = Config(frames=3, network="tiny", error="ssim", level_weights=(1.0,) * 5, normalised=True,
                    depth_smooth_weight=2e-2, flow_smooth_weight=2e-2, return_weight=2e-2, cross_weight=2e-2,
                    flow_share=0.0, depth_share=0.0, ramp=0.5)
    return Run(method="dfnet", preset="tiny", start="two_view", config=config,
               data=DataConfig(height=64, width=192, augment=Augment(flip=True, colour=0.2, scale_crop=0.2)),
               optim=OptimConfig(lr=2e-3, batch_size=4, schedule="one_cycle", clip_norm=1.0),
               loop=LoopConfig(steps=900, log_every=10, save_every=300))
