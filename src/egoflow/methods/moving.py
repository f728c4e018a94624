"""What moves by itself, told from a prediction of depth, camera motion and optical flow (CoopNet, at inference).

A pixel moves where optical flow explains the images much better than depth and camera motion do (Delta of the two
errors, judged by the frame's own mixture) and where both flows differ. What a frame shows is compared with each of its
neighbours, and the mean of those that see a pixel counts: one neighbour sees what the border or something nearer hides
from the other.

The mixture is fitted to each frame alone. On 33 frames of three drives with 4 movers (128x416, true and DIS flow, true
depth and depth 10 % off) the IoU of fitted, smoothed (.5 to .95 kept) and fixed mixtures differs by at most .007; the
simplest has no state, and a frame's mask then does not depend on where its video begins.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from egoflow.geometry.depth import align_median
from egoflow.geometry.flow import backward_warp, pixels_from_flow, reproject, rigid_flow, scene_flow
from egoflow.geometry.pixels import resize_map, sample
from egoflow.losses.masks import forward_backward_visible
from egoflow.losses.mixture import evidence, fitted, moving_mask, moving_probability, seen_by_both
from egoflow.losses.photometric import gradient_size, ssim_l1_map
from egoflow.losses.reduce import fill_unused
from egoflow.losses.smoothness import second_order_edge_aware
from egoflow.types import Clip, Pair, Prediction

LEAST_ERROR, LEAST_TEXTURE = 2e-3, 0.02
"""Where both errors and the picture's slope are smaller, any two flows explain the images: no evidence."""
FAR = 0.1
"""Inverse depth below this share of the frame's mean is sky: a relative limit, for depth has any unit."""
EDGE = 0.1
"""An inverse depth that bends by more than this share of itself is an edge; planes have none, however slanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """How both flows explain a pair (a, b), all on the grid of a.

    ``flow_ab`` and ``rigid_flow_ab`` [B, 2, H, W]; ``delta`` [B, 1, H, W]: how much worse the camera's flow rebuilds
    the image; bool ``use``: delta means something; ``evident``: it says something.
    """

    flow_ab: Tensor
    rigid_flow_ab: Tensor
    delta: Tensor
    use: Tensor
    evident: Tensor


def can_tell(prediction: Prediction, pair: Pair) -> bool:
    """Return whether a prediction holds what is needed to tell what moves: depth, motion, and flow both ways."""
    a, b = pair
    return a in prediction.inv_depth and pair in prediction.motion and {pair, (b, a)} <= prediction.flow.keys()


@torch.no_grad()
def explained(clip: Clip, prediction: Prediction, pair: Pair) -> Explained:
    """Return how depth and motion, and how flow, explain the pair (a, b) of a clip, by .85 SSIM + .15 L1.

    ``can_tell`` says whether the prediction holds enough. (Hariat 2023)
    """
    a, b = pair
    image_a, image_b = clip.images[:, a], clip.images[:, b]
    flow_ab, flow_ba = prediction.flow[pair][0], prediction.flow[b, a][0]
    rigid_flow_ab, in_front = rigid_flow(1 / _inv_depth(clip, prediction, a), clip.camera, prediction.motion[pair])
    use = seen_by_both(rigid_flow_ab, flow_ab, flow_ba) & in_front

    def error(flow: Tensor) -> Tensor:
        rebuilt = fill_unused(backward_warp(image_b, flow)[0], image_a, use)
        return ssim_l1_map(rebuilt, image_a)

    error_rigid, error_flow = error(rigid_flow_ab), error(flow_ab)
    evident = evidence(error_rigid, error_flow, use, least=LEAST_ERROR)
    # Texture without an error says that the scene stands: before a camera that stands too, errors lie on movers alone.
    evident = evident | use & (gradient_size(image_a) > LEAST_TEXTURE)
    return Explained(flow_ab=flow_ab, rigid_flow_ab=rigid_flow_ab, delta=error_rigid - error_flow, use=use,
                     evident=evident)


@torch.no_grad()
def movers(views: Sequence[Explained]) -> tuple[Tensor, Tensor]:
    """Return the probability [B, 1, H, W] that a pixel moves by itself, and bool where it is said to.

    Takes the same frames compared with each of their neighbours. Said to move is what is more likely than not, and what
    both hard cues find against a neighbour (``mixture.moving_mask``). What no neighbour sees has probability 0.
    """
    mixture = fitted(torch.cat([view.delta for view in views]), torch.cat([view.evident for view in views]))
    total, seen, found = (torch.zeros_like(views[0].delta) for _ in range(3))
    for view in views:
        cues = view.flow_ab, view.rigid_flow_ab, view.delta, mixture, view.use
        total, seen, found = total + moving_probability(*cues), seen + view.use, found + moving_mask(*cues)
    probability = total / seen.clamp_min(1)
    return probability, (probability >= 0.5) & (found > 0)


@torch.no_grad()
def movers_scene_flow(clip: Clip, prediction: Prediction, pair: Pair, moving: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far each point moves by itself [B, 3, H, W] from a to b, and ``valid`` bool [B, 1, H, W].

    In the axes of camera a and the unit of its depth; 0 where ``moving`` bool [B, 1, H, W] is False. Valid where the
    flow is led back and both of its ends lie on a surface: no sky, no edge, over which a sampled depth mixes two
    surfaces. The depth of b is first brought to the scale of a by the median over static pixels, since networks need
    not keep it. Nothing is valid where the depth of b is not predicted.
    """
    a, b = pair
    flow_ab, flow_ba, b_from_a = prediction.flow[pair][0], prediction.flow[b, a][0], prediction.motion[pair]
    if b not in prediction.inv_depth:
        return flow_ab.new_zeros(moving.shape[0], 3, *moving.shape[2:]), torch.zeros_like(moving)
    inv_depth_a, inv_depth_b = (_inv_depth(clip, prediction, frame) for frame in (a, b))
    xy_b = pixels_from_flow(flow_ab)
    on_surface_b, _ = sample(_on_surface(inv_depth_b).to(flow_ab.dtype), xy_b, mode="nearest")
    known = _on_surface(inv_depth_a) & (on_surface_b > 0) & forward_backward_visible(flow_ab, flow_ba)
    _, depth_a_in_b, in_front = reproject(1 / inv_depth_a, clip.camera, b_from_a)
    there, _ = sample(1 / inv_depth_b, xy_b)
    factor = align_median(there, depth_a_in_b, known & in_front & ~moving)
    motion, valid = scene_flow(1 / inv_depth_a, factor.view(-1, 1, 1, 1) / inv_depth_b, flow_ab, clip.camera, b_from_a)
    valid = valid & known
    return torch.where(valid & moving, motion, torch.zeros_like(motion)), valid


def _inv_depth(clip: Clip, prediction: Prediction, frame: int) -> Tensor:
    """Return the finest inverse depth [B, 1, H, W] of a frame at the size of the images."""
    height, width = clip.images.shape[-2:]
    return resize_map(prediction.inv_depth[frame][0].float(), height=height, width=width)


def _on_surface(inv_depth: Tensor) -> Tensor:
    """Return bool [B, 1, H, W] where an inverse depth is neither that of the sky nor at an edge."""
    near = inv_depth > FAR * inv_depth.mean((2, 3), keepdim=True)
    # Without a picture and its edges these are the plain second differences.
    bend = second_order_edge_aware(inv_depth, inv_depth, edge=0.0)
    return near & (bend <= EDGE * inv_depth)
