"""Depth and visual odometry that agree: recurrent motion and depth consistency (Lu & Lu, ICIP 2019).

A recurrent network gives the motion of every step of a clip, another the depth of every frame. Moved into the next
frame, the depth of one must be the depth of the other: then all frames share one scale, and the steps can be chained
into a path. Pairs are compared both ways; the motion back is the exact inverse, that over several steps their product.

Differs from the paper: its text gives no form of the consistency, so it is the normalised one of Bian 2019
(SC-SfMLearner), whose 1 - D_diff also weighs the photometric error (``consistency="triangulated"`` compares depth with
what motion and classical flow imply, nearer to the paper's words). The layers of its motion network are unknown
(networks/recurrent_posenet.py). The training script of the same context predicts explainability masks, which ours has
not: the weight takes their place. The script passes no image to its texture-aware smoothness, so the divisor is off;
averages are over the pixels that count. The memory begins afresh with each clip. The preset ``tiny`` is ours: small
networks, SSIM beside L1, edge-aware smoothness, two-view start.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import pydantic
import torch
from torch import Tensor, nn

from egoflow.config import Amount, Augment, DataConfig, LoopConfig, OptimConfig, Run, Share
from egoflow.errors import ConfigError
from egoflow.geometry.pixels import image_pyramid, sample
from egoflow.geometry.precision import full_precision
from egoflow.geometry.se3 import SE3
from egoflow.losses.consistency import depth_difference_map, depth_weight, triangulated_depth_map
from egoflow.losses.photometric import l1_map, ssim_map
from egoflow.losses.reduce import fill_unused, masked_mean
from egoflow.losses.smoothness import first_order_map, laplacian_map, mean_normalised
from egoflow.methods.base import Method
from egoflow.methods.views import Level, both_ways, levels_of, unstacked
from egoflow.networks.dispnet import DispNet
from egoflow.networks.recurrent_posenet import RecurrentMotionNet
from egoflow.networks.tiny_recurrent import TinyRecurrentMotionNet
from egoflow.networks.tinynet import TinyDepthNet
from egoflow.types import Clip, LossTerms, Pair, Prediction

UNRELIABLE = 0.3
"""A difference above it is mostly a depth that was read across an edge, or in front of what it belongs to."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The networks, the form of the consistency and the weights of the terms."""

    frames: Annotated[int, pydantic.Field(ge=2)] = 3
    """Clip length; the middle frame is the target. 5 for a longer memory."""
    network: Literal["paper", "tiny"] = "paper"
    ssim_weight: Share = 0.0
    """Share of SSIM in the photometric error; the script has none."""
    consistency: Literal["transformed", "triangulated"] = "transformed"
    """``triangulated`` needs the two-view start, for its flow; held-out clips have none and are compared as
    ``transformed``."""
    consistency_weight: Amount = 0.5
    begins: Share = 0.025
    ramp: Share = 0.01
    """Share of the steps without consistency, and of those in which its weight climbs."""
    smoothness: Literal["laplacian", "edge_aware"] = "laplacian"
    smooth_weight: Amount = 0.1
    """At full size; a quarter of it a level (``edge_aware``: half of it)."""
    texture: bool = False
    """Divide the Laplacian of depth by the texture of the image."""


class SCDepth(Method):
    """Single-view depth and recurrent motion whose scale is one over the clip; each network works alone afterwards."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = config
        self.clip_length, self.target = config.frames, config.frames // 2
        self.pairs = pairs_of(config.frames, self.target)
        if config.network == "paper":
            self.depth_net: nn.Module = DispNet()
            self.motion_net: nn.Module = RecurrentMotionNet()
        else:
            self.depth_net, self.motion_net = TinyDepthNet(), TinyRecurrentMotionNet()

    def depth(self, images: Tensor) -> list[Tensor]:
        """Return inverse depths of images [B, 3, H, W], four levels from fine to coarse."""
        return self.depth_net(images)

    def motion(self, images: Tensor) -> SE3:
        """Return next_from_this [B, N - 1] of frames [B, N, 3, H, W] in order, from an empty memory.

        ``motion_net`` itself also takes and returns the memory.
        """
        return SE3.from_translation_euler(full_precision(self.motion_net(images)[0]))

    def motion_between(self, image_a: Tensor, image_b: Tensor) -> SE3:
        """Return b_from_a [B] of images [B, 3, H, W], from an empty memory."""
        return self.motion(torch.stack((image_a, image_b), dim=1))[:, 0]

    def predict(self, clip: Clip) -> Prediction:
        """Predict depth of all frames, and motion of neighbours and of the target and every source, both ways."""
        images = clip.images
        levels = self.depth(images.transpose(0, 1).flatten(0, 1))
        return Prediction(inv_depth=unstacked(levels, range(images.shape[1])),
                          motion=chained(self.motion(images), self.pairs))

    def losses(self, clip: Clip, prediction: Prediction, progress: float) -> LossTerms:
        """Return photometric, consistency and smoothness terms, summed over levels and, as in the script, sources."""
        levels = levels_of(clip, prediction, self.pairs)
        photometric, unlike = zip(*map(self._compared, levels), strict=True)
        sources = self.config.frames - 1
        consistency = sources * torch.stack(unlike).sum()
        if self.config.consistency == "triangulated" and self.training:
            consistency = _triangulated(clip, prediction)
        return LossTerms({"loss/photometric": (1.0, sources * torch.stack(photometric).sum()),
                          "loss/consistency": (self.config.consistency_weight * self._climb(progress), consistency),
                          "loss/smoothness": (self.config.smooth_weight, self._roughness(clip, prediction))})

    def _climb(self, progress: float) -> float:
        """Return the factor of the consistency: none at first, when constant depth would be the easiest answer."""
        past = progress - self.config.begins
        return float(past >= 0) if self.config.ramp == 0 else min(max(past / self.config.ramp, 0.0), 1.0)

    def _compared(self, level: Level) -> tuple[Tensor, Tensor]:
        """Return the weighed photometric error and the difference of depths of one level, means over all pairs."""
        rigid = level.rigid
        assert rigid is not None
        difference, use = depth_difference_map(rigid.depth_a_in_b, rigid.depth_b, rigid.xy_b)
        use = use & rigid.in_front
        rebuilt = fill_unused(sample(level.image_b, rigid.xy_b)[0], level.image_a, use)
        error, share = l1_map(rebuilt, level.image_a), self.config.ssim_weight
        if share > 0:
            error = (1 - share) * error + share * ssim_map(rebuilt, level.image_a)
        reliable = use & (difference.detach() <= UNRELIABLE)
        return masked_mean(depth_weight(difference, use) * error, use), masked_mean(difference, reliable)

    def _roughness(self, clip: Clip, prediction: Prediction) -> Tensor:
        """Return how rough the depths of all frames are, summed over levels."""
        inv_depths = [torch.cat(level) for level in zip(*prediction.inv_depth.values(), strict=True)]
        images = image_pyramid(clip.images.transpose(0, 1).flatten(0, 1), levels=len(inv_depths))
        total = []
        for level, (inv_depth, image) in enumerate(zip(inv_depths, images, strict=True)):
            if self.config.smoothness == "edge_aware":
                rough = first_order_map(mean_normalised(inv_depth), image) / 2**level
            else:
                rough = laplacian_map(mean_normalised(1 / inv_depth), image if self.config.texture else None) / 4**level
            total.append(masked_mean(rough))
        return torch.stack(total).sum()


def pairs_of(frames: int, target: int) -> tuple[Pair, ...]:
    """Return the pairs of the target with every source and those of other neighbours, then the same reversed."""
    here = [pair for pair in both_ways(target, [i for i in range(frames) if i != target]) if pair[0] == target]
    here += [(i, i + 1) for i in range(frames - 1) if target not in (i, i + 1)]
    return (*here, *((b, a) for a, b in here))


def chained(steps: SE3, pairs: tuple[Pair, ...]) -> dict[Pair, SE3]:
    """Return b_from_a [B] of every pair (a, b) from the steps next_from_this [B, N - 1]."""
    found = {}
    for a, b in pairs:
        first, last = sorted((a, b))
        total = steps[:, first]
        for i in range(first + 1, last):
            total = steps[:, i] @ total
        found[a, b] = total if a < b else total.inverse()
    return found


def _triangulated(clip: Clip, prediction: Prediction) -> Tensor:
    """Return how far depth is from what motion and the start's flow imply, summed over the pairs of the start."""
    pairs = [pair for pair in clip.start if pair in prediction.motion]
    if not pairs:
        raise ConfigError("config.consistency=triangulated needs the flow of the two-view start; set start=two_view")
    total = []
    for pair in pairs:
        view = clip.start[pair]
        difference, determined = triangulated_depth_map(1 / prediction.inv_depth[pair[0]][0], view.flow_ab, clip.camera,
                                                        prediction.motion[pair])
        total.append(masked_mean(difference, determined & view.usable & (view.weight > 0).view(-1, 1, 1, 1)))
    return torch.stack(total).sum()


def kitti() -> Run:
    """KITTI raw: three frames of 128x416, batch 4, rate 2e-4; the paper's results are not known to us."""
    return Run(method="scdepth", preset="kitti", config=Config(),
               data=DataConfig(height=128, width=416, augment=Augment(flip=True, scale_crop=0.15)),
               optim=OptimConfig(lr=2e-4, batch_size=4), loop=LoopConfig(steps=200_000))


def cityscapes() -> Run:
    """The same on Cityscapes, every second frame; crop the car's bonnet off beforehand."""
    base = kitti()
    return replace(base, preset="cityscapes", data=replace(base.data, gap=2))


def tiny() -> Run:
    """Minutes on a CPU: small networks on 64x192 with the two-view start."""
    config = Config(network="tiny", ssim_weight=0.5, begins=0.4, ramp=0.2, smoothness="edge_aware", smooth_weight=2e-2)
    return Run(method="scdepth", preset="tiny", start="two_view", config=config,
               data=DataConfig(height=64, width=192, augment=Augment(flip=True, colour=0.2, scale_crop=0.2)),
               optim=OptimConfig(lr=2e-3, batch_size=4, schedule="one_cycle", clip_norm=1.0),
               loop=LoopConfig(steps=900, log_every=10, save_every=300))
