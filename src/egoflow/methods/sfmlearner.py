"""SfMLearner: depth and ego-motion from video by view synthesis (Zhou, Brown, Snavely, Lowe, CVPR 2017).

The target frame is rebuilt from each neighbour through its depth and the camera's motion; the photometric error trains
both networks, an explainability mask discounts what cannot be rebuilt.

Differs from the paper: pixels that leave the image or fall behind the camera do not count (the released code compares
them with grey); mirrored clips carry their camera exactly. The released model has no batch normalisation, nor has ours
by default. The preset ``tiny`` is ours: small networks, SSIM beside L1, first-order edge-aware smoothness, two-view
start.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import pydantic
import torch
from torch import Tensor, nn

from egoflow.config import Augment, DataConfig, LoopConfig, OptimConfig, Run
from egoflow.errors import ConfigError
from egoflow.geometry.camera import Camera
from egoflow.geometry.flow import reproject
from egoflow.geometry.pixels import image_pyramid, resize_mask, sample
from egoflow.geometry.precision import full_precision
from egoflow.geometry.se3 import SE3
from egoflow.losses.explainability import explainability_map
from egoflow.losses.photometric import l1_map, ssim_map, ssim_moments
from egoflow.losses.reduce import fill_unused, masked_mean
from egoflow.losses.smoothness import first_order_map, mean_normalised, second_order
from egoflow.methods.base import Method
from egoflow.networks.dispnet import DispNet
from egoflow.networks.posenet import PoseExpNet
from egoflow.networks.tinynet import TinyDepthNet, TinyMotionNet
from egoflow.types import Clip, LossTerms, Prediction

Smoothness = Literal["second_order_depth", "second_order_inv_depth", "edge_aware"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Networks and loss weights of SfMLearner."""

    frames: Annotated[int, pydantic.Field(ge=2)] = 3
    """Clip length: 3 for depth, 5 for odometry; the middle frame is the target."""
    network: Literal["paper", "tiny"] = "paper"
    batch_norm: bool = False
    masks: bool = True
    """Predict explainability masks (needs ``explain_weight`` > 0 or they collapse to 0)."""
    explain_weight: float = 0.2
    smoothness: Smoothness = "second_order_depth"
    smooth_weight: float = 0.5
    """Weight at full size, halved per level."""
    ssim_weight: float = 0.0
    """Share of SSIM in the photometric error; the paper has none."""


class SfMLearner(Method):
    """Single-view depth and multi-view motion, trained by view synthesis."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = config
        self.clip_length, self.target = config.frames, config.frames // 2
        if config.network == "paper":
            self.depth_net: nn.Module = DispNet(batch_norm=config.batch_norm)
            self.motion_net: nn.Module = PoseExpNet(sources=config.frames - 1, masks=config.masks,
                                                    batch_norm=config.batch_norm)
        elif config.masks or config.batch_norm:
            raise ConfigError("the tiny networks have neither masks nor batch normalisation; set config.masks=false "
                              "config.batch_norm=false, or config.network=paper")
        else:
            self.depth_net, self.motion_net = TinyDepthNet(), TinyMotionNet()

    def depth(self, images: Tensor) -> list[Tensor]:
        """Return inverse depths of images [B, 3, H, W], four levels from fine to coarse."""
        return self.depth_net(images)

    def motion(self, target: Tensor, sources: Tensor) -> tuple[SE3, list[Tensor]]:
        """Return source_from_target [B, S] of sources [B, S, 3, H, W], and explainability logits per level, if any."""
        output = self.motion_net(target, sources)
        vectors, logits = output if isinstance(output, tuple) else (output, [])
        return SE3.from_translation_euler(full_precision(vectors)), logits

    def motion_between(self, image_a: Tensor, image_b: Tensor) -> SE3:
        """Return b_from_a [B] of images [B, 3, H, W]: b stands for every source."""
        return self.motion(image_a, image_b[:, None].repeat(1, self.config.frames - 1, 1, 1, 1))[0][:, -1]

    def predict(self, clip: Clip) -> Prediction:
        """Predict depth of the target, motion to every source and, if configured, explainability masks."""
        images, t, sources = clip.images, clip.target, clip.sources
        motion, logits = self.motion(images[:, t], images[:, list(sources)])
        return Prediction(
            inv_depth={t: self.depth(images[:, t])},
            motion={(t, s): motion[:, i] for i, s in enumerate(sources)},
            weight={(t, s): [torch.sigmoid(full_precision(level[:, i:i + 1])) for level in logits]
                    for i, s in enumerate(sources)} if logits else {})

    def losses(self, clip: Clip, prediction: Prediction, progress: float) -> LossTerms:
        """Return photometric, smoothness and explainability terms of four levels, summed (Zhou 2017, equations 1-4)."""
        levels = prediction.inv_depth[clip.target]
        pyramid = image_pyramid(clip.images.flatten(0, 1), levels=len(levels))
        frames = [image.unflatten(0, clip.images.shape[:2]) for image in pyramid]
        photometric = torch.stack([self._photometric(clip, prediction, level, frames[level])
                                   for level in range(len(levels))]).sum()
        smooth = torch.stack([self._smoothness(inv_depth, frames[level][:, clip.target]) / 2**level
                              for level, inv_depth in enumerate(levels)]).sum()
        terms = LossTerms({"loss/photometric": (1.0, photometric),
                           "loss/smoothness": (self.config.smooth_weight, smooth)})
        if prediction.weight:
            masks = [explainability_map(w) for levels_ in prediction.weight.values() for w in levels_]
            terms["loss/explainability"] = (self.config.explain_weight,
                                            torch.stack([masked_mean(m) for m in masks]).sum())
        return terms

    def _photometric(self, clip: Clip, prediction: Prediction, level: int, frames: Tensor) -> Tensor:
        """Return the error of rebuilding the target from every source at one level, summed over sources."""
        height, width = frames.shape[-2:]
        pairs = list(prediction.motion)
        # All sources in one batch: one unprojection, one sampling, one comparison.
        camera = clip.camera.resized(height=height, width=width).repeated(len(pairs))
        depth = (1 / prediction.inv_depth[clip.target][level]).repeat(len(pairs), 1, 1, 1)
        motion = SE3.cat([prediction.motion[pair] for pair in pairs])
        target = frames[:, clip.target]
        xy, _, in_front = reproject(depth, camera, motion)
        rebuilt, inside = sample(torch.cat([frames[:, s] for _, s in pairs]), xy)
        use = inside & in_front & self._usable(clip, pairs, camera)
        error = self._error(rebuilt, target, use)
        if prediction.weight:
            error = error * torch.cat([prediction.weight[pair][level] for pair in pairs])
        # masked_mean averages over the stacked batch; the paper sums over sources.
        return masked_mean(error, use) * len(pairs)

    def _usable(self, clip: Clip, pairs: list[tuple[int, int]], camera: Camera) -> Tensor:
        """Return the pixels that the two-view start found visible in both frames; all where there is no start."""
        if any(pair not in clip.start for pair in pairs):
            return clip.images.new_ones((), dtype=torch.bool)
        return torch.cat([resize_mask(clip.start[pair].usable, height=camera.height, width=camera.width)
                          for pair in pairs])

    def _error(self, rebuilt: Tensor, target: Tensor, use: Tensor) -> Tensor:
        """Return the photometric error map [S B, 1, h, w] of the stacked sources against the target [B, 3, h, w]."""
        copies = rebuilt.shape[0] // target.shape[0]
        repeated = target.repeat(copies, 1, 1, 1)
        error = l1_map(rebuilt, repeated)
        share = self.config.ssim_weight
        if share == 0:
            return error
        # SSIM looks at windows: a pixel that does not count must not speak through its neighbours.
        seen = fill_unused(rebuilt, repeated, use)
        return (1 - share) * error + share * ssim_map(seen, repeated, moments=ssim_moments(target).repeated(copies))

    def _smoothness(self, inv_depth: Tensor, image: Tensor) -> Tensor:
        """Return the smoothness of one level."""
        if self.config.smoothness == "edge_aware":
            return masked_mean(first_order_map(mean_normalised(inv_depth), image))
        value = 1 / inv_depth if self.config.smoothness == "second_order_depth" else inv_depth
        return second_order(value)


def kitti() -> Run:
    """Depth on KITTI raw as in the paper: 3 frames, 128x416, batch 4, 150k steps (abs_rel 0.208 published)."""
    return Run(method="sfmlearner", preset="kitti", config=Config(),
               data=DataConfig(height=128, width=416, augment=Augment(scale_crop=0.15)),
               optim=OptimConfig(lr=2e-4, batch_size=4), loop=LoopConfig(steps=150_000))


def kitti_odometry() -> Run:
    """Motion on KITTI odometry 00-08: 5 frames (snippet ATE 0.021 / 0.020 published on 09 / 10)."""
    base = kitti()
    return replace(base, preset="kitti_odometry", config=Config(frames=5))


def cityscapes() -> Run:
    """Pre-training on Cityscapes: every second frame; crop the car's bonnet (the lower quarter) off beforehand, as the
    paper does (abs_rel 0.267 published, 0.198 after fine-tuning on KITTI).
    """
    base = kitti()
    return replace(base, preset="cityscapes", data=replace(base.data, gap=2))


def tiny() -> Run:
    """Minutes on a CPU: small networks at 64x192 with the two-view start."""
    return Run(method="sfmlearner", preset="tiny", start="two_view",
               config=Config(network="tiny", masks=False, smoothness="edge_aware", smooth_weight=2e-2, ssim_weight=0.5),
               data=DataConfig(height=64, width=192, augment=Augment(flip=True, colour=0.2, scale_crop=0.2)),
               optim=OptimConfig(lr=2e-3, batch_size=6, schedule="one_cycle", clip_norm=1.0),
               loop=LoopConfig(steps=600, log_every=10, save_every=200))
