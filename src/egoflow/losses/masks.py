"""Which pixels a loss may use.

Every mask is bool [B, 1, H, W] on the grid of frame a, True = use, and carries no gradient. A NaN anywhere in what a
pixel depends on makes it False.
"""

import math

import torch
from torch import Tensor

from egoflow.geometry.flow import forward_backward_error, forward_splat, pixels_from_flow
from egoflow.geometry.pixels import inside_image, resize_flow, resize_map, sample


def in_view(flow_ab: Tensor) -> Tensor:
    """Return where a flow [B, 2, H, W] ends between the outermost pixel centres of frame b."""
    height, width = flow_ab.shape[-2:]
    return inside_image(pixels_from_flow(flow_ab.detach()), height=height, width=width)


def in_front(depth_a_in_b: Tensor) -> Tensor:
    """Return where points of frame a, at z-depth [B, 1, H, W] in frame b, lie in front of camera b."""
    return depth_a_in_b.detach() > 1e-6


@torch.no_grad()
def depth_test_visible(depth_a_in_b: Tensor, depth_b: Tensor, xy_b: Tensor, *, tolerance: float = 0.05) -> Tensor:
    """Return where nothing stands before a point in frame b: z' <= D_b(p_b) (1 + tolerance), in view and in front.

    Takes the points' z-depth in b [B, 1, H, W], the depth map of b [B, 1, h, w] and the pixels [B, H, W, 2] where the
    points land in it, as ``geometry.flow.reproject`` gives them. Both depths must share one scale.
    """
    depth_there, inside = sample(depth_b, xy_b)
    return (depth_a_in_b <= depth_there * (1 + tolerance)) & inside & in_front(depth_a_in_b)


@torch.no_grad()
def forward_backward_visible(flow_ab: Tensor, flow_ba: Tensor, *, alpha: float = 0.01, beta: float = 0.5) -> Tensor:
    """Return where following both flows [B, 2, H, W] leads back: |f + b|^2 <= alpha (|f|^2 + |b|^2) + beta.

    ``beta`` is in square pixels. (Sundaram 2010; Meister 2018, equation 2)
    """
    error, size, inside = forward_backward_error(flow_ab, flow_ba)
    return (error <= alpha * size + beta) & inside


@torch.no_grad()
def range_map_visible(flow_ba: Tensor, *, least: float = 0.5, coarser: int = 1) -> Tensor:
    """Return where at least that share of a pixel of frame b lands on a pixel of a along ``flow_ba`` [B, 2, H, W].

    What nothing lands on is hidden in b. Zooming in leaves holes that look like it; ``coarser`` = 4 counts on a grid
    four times coarser, which fills them. (Wang 2018; Jonschkowski 2020)
    """
    height, width = flow_ba.shape[-2:]
    small = resize_flow(flow_ba, height=-(-height // coarser), width=-(-width // coarser))
    _, landed = forward_splat(small[:, :1] * 0, small)
    return resize_map(landed, height=height, width=width) >= least


def away_from_border(flow_ab: Tensor, *, share: float = 0.1) -> Tensor:
    """Return False on a band along the image's edges, ``share`` of its height and width wide. (Meister 2018)

    The band is rounded up, but never takes the middle pixel.
    """
    height, width = flow_ab.shape[-2:]
    y, x = (torch.arange(size, device=flow_ab.device) for size in (height, width))
    rows, columns = ((place >= band) & (place < size - band) for place, size, band in (
        (p, s, min(math.ceil(share * s), (s - 1) // 2)) for p, s in ((y, height), (x, width))))
    return (rows[:, None] & columns).expand(flow_ab.shape[0], 1, height, width)


def cross_task_visible(rigid_flow_ab: Tensor, rigid_flow_ba: Tensor, flow_ab: Tensor, flow_ba: Tensor) -> Tensor:
    """Return where the camera's flow and the optical flow must agree: each in view and led back by its own way back.

    DF-Net's product of four masks. It has no test of rigidity: what moves by itself falls out of it only where the way
    back finds other depths. Combine it with ``in_front`` of ``rigid_flow``, which means nothing behind a camera.
    (Zou 2018)
    """
    return forward_backward_visible(rigid_flow_ab, rigid_flow_ba) & forward_backward_visible(flow_ab, flow_ba)


def eroded(value: Tensor, *, window: int = 3) -> Tensor:
    """Return the least value of a mask or weight [B, 1, H, W] in square windows; beyond the border there is nothing."""
    number = value.to(torch.promote_types(value.dtype, torch.float32))
    least = -torch.nn.functional.max_pool2d(-number, window, stride=1, padding=window // 2)
    return least.to(value.dtype)


def opened(mask: Tensor, *, window: int = 3) -> Tensor:
    """Return a mask without its parts that are thinner than ``window`` pixels: eroded, then grown again."""
    return ~eroded(~eroded(mask, window=window), window=window)
