"""Optical flow without labels: UnFlow (Meister 2018), ARFlow (Liu 2020), UFlow (Jonschkowski 2020), SMURF (Stone 2021).

Image b, warped by the flow, must look like image a; flow is smooth where the image is; what is hidden in the other
frame does not count; a network is its own teacher on a harder view. Both directions are trained.

Differs from the papers: ``unflow`` trains PWC-Lite in place of FlowNetC stacks and leaves out the share of occluded
pixels, which through a mask of yes and no has no gradient; masks are such also where UFlow's range map is soft;
UFlow is PWC-Lite too, without level dropout, its crops are not enlarged back, its student is compared at full size and
its teacher sees altered images; UnFlow's images change scale together, not against each other; ARFlow's student sees
no other colours than its teacher and is compared by L1; SMURF's training on three frames is left out. ARFlow's factor
of 1024 is too: Adam does not see it. ``tiny`` is ours.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import pydantic
import torch
from torch import Tensor, nn

from egoflow.config import Amount, Augment, Count, DataConfig, Fraction, LoopConfig, OptimConfig, Run
from egoflow.data.appearance import Appearance, altered
from egoflow.data.transforms import crop
from egoflow.errors import ConfigError
from egoflow.geometry.flow import pixels_from_flow
from egoflow.geometry.pixels import resize_flow, resize_image, resize_mask, sample
from egoflow.losses.masks import in_view
from egoflow.losses.photometric import charbonnier_map, gradient_size, l1_map, least_map, transported_map
from egoflow.losses.reduce import fill_unused, masked_mean, multi_scale
from egoflow.losses.self_distillation import Distillation, clip_through_random_views, confidence, cut, viewed_flow
from egoflow.losses.unlabelled_flow import (
    Smoothness,
    Stage,
    image_error,
    not_occluded,
    on_level,
    return_error,
    roughness,
    stage_at,
)
from egoflow.methods.base import Method
from egoflow.networks.pwcnet import FINEST, levels_enlarged, pwc_lite, pwc_tiny
from egoflow.networks.raft import raft_basic
from egoflow.types import Clip, LossTerms, Pair, Prediction

TEACHER_SIGMA, STUDENT_SIGMA = 0.003, 0.03
"""How far a flow and its way back may miss, as shares of the image's diagonal, to be trusted. (Jonschkowski 2020)"""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The network, the comparison of images and the weights of the terms."""

    network: Literal["pwc", "pwc_tiny", "raft"] = "pwc"
    width: Fraction = 1.0
    """Share of the network's channels."""
    normalise: bool = False
    """Correlate features less their mean, by their deviation, as cosines (after UFlow)."""
    stages: Annotated[tuple[Stage, ...], pydantic.Field(min_length=1)] = (Stage(),)
    gradient_weighted: bool = False
    """Multiply errors by the image's gradient (the lecture's L_zh)."""
    minimum: Literal["none", "sources", "directions"] = "none"
    """The lecture's L_occ: the lesser error of two sources (three frames), or of both directions on one grid."""
    enlarged: Literal[1, 2, 4] = 4
    """Images are compared at each level's own size (UnFlow) or so many times that (4: ARFlow; full size first)."""
    level_weights: Annotated[tuple[Amount, ...], pydantic.Field(min_length=1)] = (1.0,)
    """From fine to coarse; what is left out is not compared. RAFT's refinements weigh 0.8 of the next one."""
    smoothness: Smoothness = "first"
    smooth_weight: Amount = 4.0
    smooth_size: Literal["own", "quarter", "normalised"] = "quarter"
    """Every level is smooth in its own pixels, or the full flow at a quarter of its size or as a share of its side."""
    edge: Amount = 150.0
    return_weight: Amount = 0.0
    """Of following a flow there and back (UnFlow)."""
    distillation: Distillation | None = None
    appearance: Appearance = field(default_factory=Appearance)
    """Changes of what the network sees in training; losses compare the images as they were."""
    crop: tuple[Count, Count] | None = None
    """Height and width of the random window that the network sees in training; warps reach beyond it (SMURF)."""


class SelfFlow(Method):
    """Flow between neighbouring frames, both ways, from unlabelled video."""

    supervised, needs_camera = False, False

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = config
        # Pairs, then the same pairs reversed: half of a batch is the way back of the other half.
        there: tuple[Pair, ...] = ((1, 0), (1, 2)) if config.minimum == "sources" else ((0, 1),)
        self.pairs = (*there, *((b, a) for a, b in there))
        self.clip_length, self.target = (3, 1) if config.minimum == "sources" else (2, 0)
        if config.network == "raft":
            self.network: nn.Module = raft_basic(width=config.width)
        else:
            make = pwc_lite if config.network == "pwc" else pwc_tiny
            self.network = make(width=config.width, normalise=config.normalise)
            if len(config.level_weights) > (most := len(self.network.reduce)):
                raise ConfigError(f"config.level_weights has {len(config.level_weights)} values, the network {most} "
                                  f"levels; give at most so many")

    def predict(self, clip: Clip) -> Prediction:
        """Predict the flow of every pair both ways, best first; in training from images that look different."""
        flows = self._flows(clip.images)
        batch = clip.images.shape[0]
        return Prediction(flow={pair: [level[i * batch:(i + 1) * batch] for level in flows]
                                for i, pair in enumerate(self.pairs)})

    def losses(self, clip: Clip, prediction: Prediction, progress: float) -> LossTerms:
        """Return the weighted terms of whole images; ``progress`` decides the stage."""
        return self._terms(clip, clip.images, (0, 0), prediction, progress)

    def forward(self, clip: Clip, progress: float, overall: float | None = None) -> tuple[LossTerms, Prediction]:
        """Return the terms of a training step, where so configured for a random window of the images."""
        if self.config.crop is None:
            return super().forward(clip, progress, overall)
        whole = clip.images.shape[-2:]
        height, width = (min(pair) for pair in zip(self.config.crop, whole, strict=True))
        # On every level that is compared the window begins at a whole pixel.
        step = self._cell(len(self.config.level_weights) - 1)
        top, left = (step * int(torch.randint(1 + most // step, ())) for most in (whole[0] - height, whole[1] - width))
        seen = crop(clip, top=top, left=left, height=height, width=width)
        prediction = self.predict(seen)
        return self._terms(seen, clip.images, (left, top), prediction, progress), prediction

    def _flows(self, images: Tensor) -> list[Tensor]:
        """Return the flows [P B, 2, h, w] of all pairs of images [B, N, 3, H, W], the best first."""
        seen = altered(images, self.config.appearance) if self.training else images
        return self.network(self._stacked(seen, 0), self._stacked(seen, 1))

    def _stacked(self, frames: Tensor, end: int) -> Tensor:
        """Return the first or second frame of every pair, [P B, …] of [B, N, …]."""
        return torch.cat([frames[:, pair[end]] for pair in self.pairs])

    def _terms(self, seen: Clip, images: Tensor, corner: tuple[int, int], prediction: Prediction,
               progress: float) -> LossTerms:
        """Return the terms of the clip that the network saw, a window of ``images`` with its first pixel at (x, y)."""
        config, stage = self.config, stage_at(self.config.stages, progress)
        flows = [torch.cat(levels) for levels in zip(*(prediction.flow[pair] for pair in self.pairs), strict=True)]
        levels, weights = self._levels(flows)
        cells = [self._cell(number) for number in range(len(levels))]
        visible = not_occluded(levels[0], _reversed(levels[0]), stage)
        masks = [resize_mask(visible, height=v.shape[-2], width=v.shape[-1]) for v in levels]
        target, source = self._stacked(seen.images, 0), self._stacked(images, 1)
        errors = [self._photometric(level, on_level(target, cell), on_level(source, cell),
                                    (corner[0] / cell, corner[1] / cell), mask, stage)
                  for level, mask, cell in zip(levels, masks, cells, strict=True)]
        rough = levels if config.smooth_size == "own" or config.network == "raft" else flows[:1]
        smooth = [self._roughness(level, target) for level in rough]
        terms = LossTerms({"loss/photometric": (1.0, multi_scale(errors, weights)),
                           "loss/smoothness": (config.smooth_weight, multi_scale(smooth, weights[:len(smooth)]))})
        if config.return_weight:
            back = [masked_mean(return_error(level, _reversed(level)), mask & in_view(level))
                    for level, mask in zip(levels, masks, strict=True)]
            terms["loss/return"] = (config.return_weight, multi_scale(back, weights))
        chosen = config.distillation
        if self.training and chosen is not None and (weight := chosen.weight_at(progress)) > 0:
            taught = self._distillation(chosen, seen.images, flows[0].detach(), visible)
            terms["loss/distillation"] = (weight, taught)
        return terms

    def _levels(self, flows: list[Tensor]) -> tuple[list[Tensor], list[float]]:
        """Return the flows that are compared, fine to coarse or last to first, and their weights."""
        if self.config.network == "raft":
            return flows, [0.8**age for age in range(len(flows))]
        weights = list(self.config.level_weights)
        return levels_enlarged(flows, self.config.enlarged)[:len(weights)], weights

    def _cell(self, level: int) -> int:
        """Return how many pixels of the images a pixel of a compared flow is wide."""
        return 1 if self.config.network == "raft" else 2**(FINEST + level) // self.config.enlarged

    def _photometric(self, flow: Tensor, target: Tensor, source: Tensor, corner: tuple[float, float], visible: Tensor,
                     stage: Stage) -> Tensor:
        """Return the mean error of rebuilding the target from the source at the size of the flow."""
        rebuilt, inside = sample(source, pixels_from_flow(flow) + flow.new_tensor(corner))
        use = inside & visible
        error = image_error(fill_unused(rebuilt, target, use), target, stage)
        if self.config.gradient_weighted:
            error = error * gradient_size(target)
        if self.config.minimum == "directions":
            back, use_back = transported_map(_reversed(error), _reversed(use), flow)
            error, use = least_map(error, back, use, use_back)
        elif self.config.minimum == "sources":
            # The first half of the pairs lies on the grid of the middle frame, one half of it for each source.
            first, second, *others = zip(error.chunk(4), use.chunk(4), strict=True)
            least = least_map(first[0], second[0], first[1], second[1])
            error, use = (torch.cat(parts) for parts in zip(least, least, *others, strict=True))
        return masked_mean(error, use)

    def _roughness(self, flow: Tensor, target: Tensor) -> Tensor:
        """Return the mean roughness of a flow at the size and in the unit of the configuration."""
        height, width = flow.shape[-2:]
        if self.config.smooth_size == "normalised":
            flow = flow / min(height, width)
        elif self.config.smooth_size == "quarter":
            height, width = -(-height // 4), -(-width // 4)
            flow = resize_flow(flow, height=height, width=width)
        image = resize_image(target, height=height, width=width)
        return masked_mean(roughness(flow, image, kind=self.config.smoothness, edge=self.config.edge))

    def _distillation(self, chosen: Distillation, images: Tensor, teacher: Tensor, visible: Tensor) -> Tensor:
        """Return how far the flow of a harder view is from the ``teacher`` [P B, 2, H, W] of this one."""
        if chosen.view == "affine":
            seen, view = clip_through_random_views(images)
            visible = resize_mask(visible, height=teacher.shape[-2], width=teacher.shape[-1])
            wanted, known = viewed_flow(teacher, visible & in_view(teacher), self._stacked(view, 0),
                                        self._stacked(view, 1))
            return masked_mean(l1_map(self._flows(seen)[0], wanted), known)
        students = self._flows(cut(images, margin=chosen.margin))
        levels, weights = self._levels(students) if self.config.network == "raft" else (students[:1], [1.0])
        last = students[0].detach()
        wanted, sure = (cut(v, margin=chosen.margin) for v in (
            teacher, confidence(teacher, _reversed(teacher), sigma=TEACHER_SIGMA)))
        # The student learns where the teacher is consistent and it is not.
        share = sure * (1 - confidence(last, _reversed(last), sigma=STUDENT_SIGMA))
        return multi_scale([masked_mean(charbonnier_map(v, wanted) * share) for v in levels], weights)


def _reversed(value: Tensor) -> Tensor:
    """Return, for every pair of a stacked batch, what the reversed pair has."""
    return torch.cat(value.chunk(2)[::-1])


UNFLOW_LOOK = Appearance(noise=0.04, contrast=0.3, brightness=0.02, colour=0.1, gamma=(0.7, 1.5))


def unflow_synthia() -> Run:
    """UnFlow's first stage on SYNTHIA: no occlusion, no way back; 500k steps, the rate halved each 100k after 100k."""
    return Run(method="selfflow", preset="unflow_synthia",
               config=Config(stages=(Stage(),), enlarged=1, level_weights=(12.7, 4.35, 3.9, 3.4, 1.1),
                             smoothness="diagonals", smooth_weight=3.0, smooth_size="own", appearance=UNFLOW_LOOK),
               data=DataConfig(height=512, width=768, augment=Augment(flip=True, scale_crop=0.1)),
               optim=OptimConfig(lr=1e-4, weight_decay=4e-4, batch_size=4, clip_norm=None, schedule="halving",
                                 halve_at=(0.4, 0.6, 0.8)),
               loop=LoopConfig(steps=500_000))


def unflow() -> Run:
    """UnFlow on KITTI raw, from the weights of ``unflow_synthia`` (EPE 3.78 published on KITTI 2012 with one net)."""
    base = unflow_synthia()
    return replace(base, preset="unflow",
                   config=replace(base.config, stages=(Stage(occlusion="forward_backward"),), return_weight=0.2),
                   data=replace(base.data, height=375, width=1242, crop=(320, 1152)),
                   optim=OptimConfig(lr=1e-5, weight_decay=4e-4, batch_size=4, clip_norm=None))


def arflow() -> Run:
    """ARFlow on Sintel (4.78 / 5.89 published on the test set).

    Its weight of smoothness is 50 of a mean that its code halves once more. The second half, which in the paper begins
    after 50 epochs, compares censuses and learns from transformed images.
    """
    stages = (Stage(error="ssim", occlusion="range_map", landed=0.2),
              Stage(begins=0.5, error="census_mean", window=3, occlusion="forward_backward"))
    return Run(method="selfflow", preset="arflow",
               config=Config(stages=stages, level_weights=(1.0, 1.0, 1.0, 1.0), smooth_weight=25.0, edge=10.0,
                             smooth_size="normalised", distillation=Distillation(view="affine", weight=0.01)),
               data=DataConfig(height=436, width=1024, crop=(384, 832), augment=Augment(flip=True)),
               optim=OptimConfig(lr=1e-4, weight_decay=1e-6, batch_size=4, clip_norm=None),
               loop=LoopConfig(steps=100_000))


def uflow() -> Run:
    """UFlow on KITTI (Fl-all 11.13 % published): 640x640, batch 1, a million steps."""
    stages = (Stage(error="census_ddflow", occlusion="forward_backward"),)
    return Run(method="selfflow", preset="uflow",
               config=Config(normalise=True, stages=stages, smoothness="second", smooth_weight=2.0,
                             distillation=Distillation(view="crop", weight=0.6, begins=0.5, ramp=0.1),
                             appearance=Appearance(contrast=0.2, brightness=0.1, colour=0.1)),
               data=DataConfig(height=640, width=640, augment=Augment(flip=True)),
               optim=OptimConfig(lr=1e-4, batch_size=1, clip_norm=None), loop=LoopConfig(steps=1_000_000))


def smurf() -> Run:
    """SMURF on KITTI (Fl-all 6.83 % published): RAFT, 75k steps; the paper lets the rate decay after 62.5k."""
    base = uflow()
    config = replace(base.config, network="raft", normalise=False, crop=(296, 696),
                     distillation=Distillation(view="crop", weight=0.3, begins=31_250 / 75_000, ramp=6_250 / 75_000),
                     appearance=Appearance(contrast=0.4, brightness=0.1, colour=0.2, gamma=(0.7, 1.5), erase=0.5))
    return replace(base, preset="smurf", config=config, data=replace(base.data, height=375, width=1242),
                   optim=replace(base.optim, lr=2e-4, clip_norm=1.0), loop=LoopConfig(steps=75_000))


def tiny() -> Run:
    """Minutes on a CPU at 96x128: compared by SSIM at half the size and three coarser ones, first order smoothness."""
    stages = (Stage(error="ssim"), Stage(begins=0.5, error="ssim", occlusion="forward_backward"))
    return Run(method="selfflow", preset="tiny",
               config=Config(network="pwc_tiny", normalise=True, stages=stages, enlarged=2,
                             level_weights=(1.0, 1.0, 1.0, 1.0), smooth_weight=0.5, edge=10.0),
               data=DataConfig(height=96, width=128, augment=Augment(flip=True)),
               optim=OptimConfig(lr=2e-3, batch_size=4, schedule="one_cycle", clip_norm=1.0),
               loop=LoopConfig(steps=3000, log_every=10, save_every=250))
