"""What moves by itself, told from a prediction of depth, camera motion and optical flow (CoopNet's idea, our rule).

A pixel moves where optical flow disagrees with the camera's more than the frame's own distribution of disagreements
allows, and explains the images better (Delta of the two errors). What a frame shows is compared with each of its
neighbours, and the one that says most counts: one neighbour sees what the border or something nearer hides from the
other.

Both mixtures are fitted to each frame alone: a mask then does not depend on where its video begins. Measured on three
unseen drives with 4 movers in docs/methods.md#what-moves-by-itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from egoflow.geometry.depth import align_median
from egoflow.geometry.flow import backward_warp, pixels_from_flow, reproject, rigid_flow, scene_flow
from egoflow.geometry.pixels import resize_map, sample
from egoflow.geometry.precision import full_precision
from egoflow.losses.masks import forward_backward_visible, opened
from egoflow.losses.mixture import disagreement, evidence, fitted, moving_probability, seen_by_both
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
    flow_ab, flow_ba = (full_precision(prediction.flow[way][0]) for way in (pair, (b, a)))
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
def probabilities(views: Sequence[Explained]) -> list[Tensor]:
    """Return for each view the probability [B, 1, H, W] that a pixel moves by itself, 0 where it is not seen.

    The distributions behind it are those of all views together.
    """
    differences = [disagreement(view.flow_ab, view.rigid_flow_ab) for view in views]
    unlike = fitted(torch.cat(differences), torch.cat([view.use for view in views]))
    deltas = fitted(torch.cat([view.delta for view in views]), torch.cat([view.evident for view in views]))
    return [moving_probability(difference, view.delta, view.use, differences=unlike, deltas=deltas)
            for view, difference in zip(views, differences, strict=True)]


@torch.no_grad()
def movers(views: Sequence[Explained]) -> tuple[Tensor, Tensor]:
    """Return the probability [B, 1, H, W] that a pixel moves by itself, and bool where it is said to.

    Takes the same frames compared with each of their neighbours. Said to move is what is more likely than not, without
    specks. What no neighbour sees has probability 0.
    """
    probability = torch.stack(probabilities(views)).amax(0)
    return probability, opened(probability >= 0.5)


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
