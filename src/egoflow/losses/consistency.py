"""How far two answers about one scene disagree: depths of two frames, both flows, motions around a loop.

Each map is [B, 1, H, W] on the grid of frame a. DF-Net's forward-backward term for flow is
``unlabelled_flow.return_error``.

Differs from DF-Net's code: depths are compared in one frame unless ``direct`` is asked for, means are over used pixels
(``masked_mean``), and levels hold flow in pixels of their own grid, where that code's coarse flows are 2^s too long.
"""

from typing import Literal

import torch
from torch import Tensor

from egoflow.geometry.camera import Camera
from egoflow.geometry.pixels import sample
from egoflow.geometry.precision import full_precision
from egoflow.geometry.se3 import SE3
from egoflow.geometry.triangulation import midpoint_depth
from egoflow.losses.masks import in_front

DepthComparison = Literal["transformed", "direct"]
STILL = 1e-12
"""Square size below which a motion counts as none: it keeps the cycles of no motion at 0."""


def cross_task_map(rigid_flow_ab: Tensor, flow_ab: Tensor, use: Tensor) -> Tensor:
    """Return |du| + |dv| between the camera's flow and the optical flow [B, 2, H, W], and 0 where ``use`` is False.

    In pixels of their own size; gradients reach both. ``masks.cross_task_visible`` says where they must agree. The flow
    of depth and motion does not change with their common scale, so neither does this. (Zou 2018)
    """
    # Zeros before the difference: the gradient of |NaN| is NaN, whatever is selected afterwards.
    rigid, flow = (torch.where(use, full_precision(v), torch.zeros_like(v)) for v in (rigid_flow_ab, flow_ab))
    return (rigid - flow).abs().sum(1, keepdim=True)


def with_teacher(rigid_flow_ab: Tensor, flow_ab: Tensor, error_rigid: Tensor, error_flow: Tensor, *,
                 temperature: Tensor | float) -> tuple[Tensor, Tensor]:
    """Return both flows [B, 2, H, W], at each pixel one of them detached: the teacher, from whom the other learns.

    The camera's flow teaches with probability softmax((-e_r, -e_f) / temperature), drawn by torch's generator from the
    photometric errors [B, 1, H, W]; the scale of the mixture is a good temperature. (ours, after Hariat 2023)
    """
    probability = torch.sigmoid((error_flow - error_rigid).detach() / temperature)
    rigid_teaches = torch.rand_like(probability) < probability
    return (torch.where(rigid_teaches, rigid_flow_ab.detach(), rigid_flow_ab),
            torch.where(rigid_teaches, flow_ab, flow_ab.detach()))


def depth_consistency_map(depth_a: Tensor, depth_a_in_b: Tensor, depth_b: Tensor, xy_b: Tensor, *,
                          mode: DepthComparison = "transformed") -> tuple[Tensor, Tensor]:
    """Return how unlike the depths of two frames are, and bool where that is defined, both [B, 1, H, W].

    Takes the depth maps of a and b, and z-depth and pixels of the points of a in b as ``geometry.flow.reproject`` gives
    them. ``transformed`` compares z' with D_b(p_b), relative to their sum (Bian 2019); ``direct`` is DF-Net's
    |D_b(p_b) - D_a(p)| in units of depth, which the truth does not bring to 0 when the camera moves along z.
    """
    if mode == "transformed":
        return depth_difference_map(depth_a_in_b, depth_b, xy_b)
    here, there, use = _compared(depth_a, depth_b, xy_b)
    return (there - here).abs(), use & in_front(depth_a_in_b)


def depth_difference_map(depth_a_in_b: Tensor, depth_b: Tensor, xy_b: Tensor) -> tuple[Tensor, Tensor]:
    """Return |z' - D_b(p_b)| / (z' + D_b(p_b)) in [0, 1), [B, 1, H, W], and bool where it is defined. (Bian 2019)

    Takes the z-depth in b [B, 1, H, W] of the points of a, the depth map of b and the pixels [B, H, W, 2] where the
    points land in it, as ``geometry.flow.reproject`` gives them. A depth 1.1 times too large gives .0476.
    """
    z, there, use = _compared(depth_a_in_b, depth_b, xy_b)
    return (z - there).abs() / (z + there), use


def depth_weight(difference: Tensor, use: Tensor) -> Tensor:
    """Return Bian's weight 1 - D_diff [B, 1, H, W] of photometric errors, without gradient; 0 where not ``use``.

    Above a difference of .3 the depth that was sampled is mostly a mean of two surfaces.
    """
    return torch.where(use, 1 - difference.detach(), torch.zeros_like(difference))


def triangulated_depth_map(depth_a: Tensor, flow_ab: Tensor, camera: Camera, b_from_a: SE3) -> tuple[Tensor, Tensor]:
    """Return |log D_a - log D| with D triangulated from flow and motion, [B, 1, H, W], and bool where D is determined.

    The depth that visual odometry implies, against that of a single view. (Lu & Lu 2019; the log form is ours)
    """
    implied, determined = midpoint_depth(flow_ab, camera, b_from_a)
    use = determined & in_front(depth_a)
    depth, implied = (torch.where(use, full_precision(v), torch.ones_like(v)) for v in (depth_a, implied))
    return (depth.log() - implied.log()).abs(), use


def motion_cycle(b_from_a: SE3, a_from_b: SE3) -> tuple[Tensor, Tensor]:
    """Return how far a motion and the one back [B] miss the identity: of rotation and of translation, each [B].

    |R R' - I|^2 / (|R - I|^2 + |R' - I|^2) and |R' t + t'|^2 / (|t|^2 + |t'|^2): relative to the motion, so that no
    motion at all is no way out. (Gordon 2019)
    """
    eye = torch.eye(3, dtype=b_from_a.R.dtype, device=b_from_a.R.device)
    loop = a_from_b @ b_from_a

    def turn(rotation: Tensor) -> Tensor:
        return (rotation - eye).square().sum((-2, -1))

    def length(translation: Tensor) -> Tensor:
        return translation.square().sum(-1)

    rotation = turn(loop.R) / (turn(b_from_a.R) + turn(a_from_b.R) + STILL)
    return rotation, length(loop.t) / (length(b_from_a.t) + length(a_from_b.t) + STILL)


def motion_triplet(c_from_b: SE3, b_from_a: SE3, c_from_a: SE3) -> tuple[Tensor, Tensor]:
    """Return how far two steps [B] miss the motion over both: of rotation and of translation, each [B].

    Relative to the motion as in ``motion_cycle``; it ties the scale of one step to that of the next.
    """
    return motion_cycle(c_from_b @ b_from_a, c_from_a.inverse())


def unit_scale(inv_depth: Tensor) -> Tensor:
    """Return the squared logarithm of the geometric mean of all inverse depths of a batch [B, 1, H, W].

    An anchor for the common scale, which no other term knows: it would wander until it meets a bound of the network.
    Of the batch, not of each image, so that no image is told its scale. (ours)
    """
    return inv_depth.log().mean().square()


def _compared(depth: Tensor, depth_b: Tensor, xy_b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a depth on the grid of a, that of b at ``xy_b``, and bool where both are positive and in view."""
    there, inside = sample(depth_b, xy_b)
    use = inside & in_front(depth) & in_front(there)
    # Ones under False, so that neither value nor gradient can be NaN there.
    depth, there = (v.where(use, v.new_ones(())) for v in (depth, there))
    return depth, there, use
