"""How a flow is judged by images alone: the choices of the published systems, by name.

Maps are [B, 1, H, W] on the grid of frame a, whose image is the target.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from egoflow.config import STRICT, Positive, Probability
from egoflow.geometry.flow import backward_warp
from egoflow.geometry.pixels import resize_image
from egoflow.losses.masks import away_from_border, forward_backward_visible, in_view, range_map_visible
from egoflow.losses.photometric import (
    census_distance,
    census_map,
    charbonnier_map,
    ddflow_robust,
    l1_map,
    ssim_l1_map,
)
from egoflow.losses.smoothness import first_order_map, second_order_diagonals, second_order_edge_aware

Smoothness = Literal["first", "second", "diagonals"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """How images are compared and which pixels count, from a moment of training on."""

    __pydantic_config__ = STRICT
    begins: Probability = 0.0
    error: Literal["l1", "charbonnier", "ssim", "census", "census_ddflow", "census_mean"] = "census"
    """``ssim`` is .85 SSIM + .15 L1 (ARFlow); a census has UnFlow's penalty, DDFlow's, or none (ARFlow)."""
    window: Literal[3, 5, 7, 9] = 7
    """Side of the census in pixels."""
    occlusion: Literal["none", "border", "forward_backward", "range_map", "coarse_range_map"] = "none"
    landed: Positive = 0.5
    """Share of a pixel that must land on one that counts (range maps)."""


def stage_at(stages: tuple[Stage, ...], progress: float) -> Stage:
    """Return the stage that began last at ``progress`` 0..1, or the first to come."""
    begun = [stage for stage in stages if stage.begins <= progress]
    return max(begun, key=lambda stage: stage.begins) if begun else min(stages, key=lambda stage: stage.begins)


def image_error(rebuilt: Tensor, target: Tensor, stage: Stage) -> Tensor:
    """Return how unlike the target [B, 3, H, W] an image warped onto it is."""
    match stage.error:
        case "l1":
            return l1_map(rebuilt, target)
        case "charbonnier":
            return charbonnier_map(rebuilt, target, alpha=0.45)
        case "ssim":
            return ssim_l1_map(rebuilt, target)
        case "census":
            return census_map(rebuilt, target, window=stage.window)
        case "census_ddflow":
            return ddflow_robust(census_distance(rebuilt, target, window=stage.window))
        case "census_mean":
            return census_distance(rebuilt, target, window=stage.window) / stage.window**2


@torch.no_grad()
def on_level(image: Tensor, cell: int) -> Tensor:
    """Return an image on the grid of a level whose pixels are ``cell`` wide though the sides may not divide.

    A resize to the level's size, rounded up, would stretch the picture, and the flow that fits it best with it.
    """
    if cell == 1:
        return image
    height, width = (-(-side // cell) for side in image.shape[-2:])
    right, down = width * cell - image.shape[-1], height * cell - image.shape[-2]
    whole = F.pad(image, (0, right, 0, down), mode="replicate")
    return resize_image(whole, height=height, width=width)


def not_occluded(flow_ab: Tensor, flow_ba: Tensor, stage: Stage) -> Tensor:
    """Return where a pixel of a is not found to be hidden in b.

    Of a pixel whose flow leaves the image nothing is found: the other image may show it beyond the crop (Stone 2021).
    """
    match stage.occlusion:
        case "none":
            return torch.ones_like(flow_ab[:, :1], dtype=torch.bool)
        case "border":
            return away_from_border(flow_ab)
        case "forward_backward":
            visible = forward_backward_visible(flow_ab, flow_ba)
        case "range_map":
            visible = range_map_visible(flow_ba, least=stage.landed)
        case "coarse_range_map":
            visible = range_map_visible(flow_ba, least=stage.landed, coarser=4)
    return visible | ~in_view(flow_ab)


def roughness(flow: Tensor, image: Tensor, *, kind: Smoothness, edge: float) -> Tensor:
    """Return how rough a flow [B, 2, H, W] is where the image of its size is not.

    ``first`` and ``second`` order are the mean of both axes, each weighted by exp(-edge |dI|) (Jonschkowski 2020);
    ``diagonals`` is of second order in four directions and blind to the image (Meister 2018).
    """
    match kind:
        case "first":
            return 0.5 * first_order_map(flow, image, edge=edge)
        case "second":
            return 0.5 * second_order_edge_aware(flow, image, edge=edge)
        case "diagonals":
            return second_order_diagonals(flow)


def return_error(flow_ab: Tensor, flow_ba: Tensor) -> Tensor:
    """Return the Charbonnier penalty of following a flow there and back. (Meister 2018, equation 5)"""
    there_and_back = flow_ab + backward_warp(flow_ba, flow_ab)[0]
    return charbonnier_map(there_and_back, torch.zeros_like(there_and_back), alpha=0.45)
