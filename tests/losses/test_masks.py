"""Masks on a box that moves before a wall, whose occluded strip is known in closed form."""

import pytest
import torch

from egoflow.geometry.camera import Camera
from egoflow.geometry.flow import reproject, rigid_flow
from egoflow.geometry.se3 import SE3
from egoflow.losses.consistency import depth_difference_map
from egoflow.losses.masks import (
    depth_test_visible,
    forward_backward_visible,
    in_front,
    in_view,
    range_map_visible,
)

D = torch.float64
HEIGHT, WIDTH, SHIFT = 48, 64, 6
TOP, LEFT, SIZE = 14, 20, 20
"""The box covers rows 14..33 and columns 20..39 of frame a, 26..45 of frame b; the wall does not move."""


def box(left: int) -> torch.Tensor:
    mask = torch.zeros(1, 1, HEIGHT, WIDTH, dtype=torch.bool)
    mask[..., TOP:TOP + SIZE, left:left + SIZE] = True
    return mask


BOX_A, BOX_B = box(LEFT), box(LEFT + SHIFT)
OCCLUDED = BOX_B & ~BOX_A
"""On the grid of a: wall that the box hides in b, a strip of 6 columns."""


def flow_of(mask: torch.Tensor, shift: float) -> torch.Tensor:
    return torch.cat((mask * shift, mask * 0.0), dim=1).to(D)


FLOW_AB, FLOW_BA = flow_of(BOX_A, SHIFT), flow_of(BOX_B, -SHIFT)
DEPTH_A, DEPTH_B = (torch.where(m, 2.0, 8.0).to(D) for m in (BOX_A, BOX_B))


def iou(found: torch.Tensor, truth: torch.Tensor) -> float:
    return ((found & truth).sum() / (found | truth).sum()).item()


def landing() -> torch.Tensor:
    grid = torch.stack(torch.meshgrid(torch.arange(WIDTH), torch.arange(HEIGHT), indexing="xy"), dim=-1).to(D)
    return grid[None] + FLOW_AB.permute(0, 2, 3, 1)


def test_forward_backward_finds_the_strip() -> None:
    assert iou(~forward_backward_visible(FLOW_AB, FLOW_BA), OCCLUDED) > 0.99


def test_range_map_finds_the_strip() -> None:
    assert iou(~range_map_visible(FLOW_BA), OCCLUDED) > 0.99


def test_depth_test_finds_the_strip() -> None:
    visible = depth_test_visible(DEPTH_A, DEPTH_B, landing())
    assert iou(~visible, OCCLUDED) > 0.99


def test_depth_test_with_a_moving_camera() -> None:
    # The camera moves right, a near box uncovers and hides wall by f B (1/2 - 1/8) = 6 px.
    cam = Camera(**{k: torch.tensor([v], dtype=D) for k, v in (("fx", 32.0), ("fy", 32.0), ("cx", 31.5), ("cy", 23.5))},
                 height=HEIGHT, width=WIDTH)
    b_from_a = SE3.exp(torch.tensor([[0.5, 0, 0, 0, 0, 0]], dtype=D))
    xy, z, front = reproject(DEPTH_A, cam, b_from_a)
    # Everything moves right by 2 px (wall) or 8 px (box): on the grid of b the box starts at column 28.
    visible = depth_test_visible(z, torch.where(box(LEFT + 8), 2.0, 8.0).to(D), xy)
    hidden = box(LEFT + 6) & ~BOX_A
    assert front.all()
    assert iou(~visible & in_view(rigid_flow(DEPTH_A, cam, b_from_a)[0]), hidden) > 0.99


@pytest.mark.parametrize(("tolerance", "behind"), [(0.05, 1.05), (0.2, 1.2)])
def test_depth_test_tolerance(tolerance: float, behind: float) -> None:
    wall = torch.full((1, 1, HEIGHT, WIDTH), 4.0, dtype=D)
    still = landing() - FLOW_AB.permute(0, 2, 3, 1)
    assert depth_test_visible((behind - 1e-6) * wall, wall, still, tolerance=tolerance).all()
    assert not depth_test_visible((behind + 1e-6) * wall, wall, still, tolerance=tolerance).any()


def test_zero_flow_is_fully_covered_and_three_pixels_leave_three_columns() -> None:
    # selfsup_flow.md section 4: of zero flow 1 everywhere, of +3 px the first three columns 0.
    assert range_map_visible(torch.zeros(1, 2, 8, 9)).all()
    shift = torch.tensor([3.0, 0]).view(1, 2, 1, 1).expand(1, 2, 8, 9)
    assert range_map_visible(shift)[0, 0, 0].tolist() == [False] * 3 + [True] * 6
    assert in_view(shift)[0, 0, 0].tolist() == [True] * 6 + [False] * 3


def test_forward_backward_limit() -> None:
    # index.md section 5: at |f| = 10 both ways the limit is sqrt(.01 * 200 + .5) = 1.5811 px.
    flow = torch.tensor([10.0, 0], dtype=D).view(1, 2, 1, 1).expand(1, 2, 4, 40)

    def visible(miss: float) -> bool:
        # The miss is across, so that the sizes stay 10^2 + 10^2 + miss^2.
        back = torch.tensor([-10.0, miss], dtype=D).view(1, 2, 1, 1).expand(1, 2, 4, 40)
        return bool(forward_backward_visible(flow, back)[0, 0, 2, 5])

    limit = (2.5 / 0.99) ** 0.5
    assert visible(limit - 1e-6)
    assert not visible(limit + 1e-6)


def test_in_front() -> None:
    depth = torch.tensor([1.0, 0.0, -1.0, torch.nan]).view(1, 1, 1, 4)
    assert in_front(depth).flatten().tolist() == [True, False, False, False]


def test_every_mask_is_bool_without_gradient_and_false_on_nan() -> None:
    flow_ab, flow_ba, depth_a, depth_b = (v.clone() for v in (FLOW_AB, FLOW_BA, DEPTH_A, DEPTH_B))
    xy = landing()
    flow_ab[0, 0, 3, 3], depth_a[0, 0, 3, 3], xy[0, 3, 3, 1] = torch.nan, torch.nan, torch.nan
    for tensor in (flow_ab, flow_ba, depth_a, depth_b, xy):
        tensor.requires_grad_()
    masks = [in_view(flow_ab), in_front(depth_a), depth_test_visible(depth_a, depth_b, xy),
             forward_backward_visible(flow_ab, flow_ba)]
    for mask in masks:
        assert mask.dtype == torch.bool
        assert mask.shape == (1, 1, HEIGHT, WIDTH)
        assert not mask.requires_grad
        assert not mask[0, 0, 3, 3]
        assert mask[0, 0, 6, 6]


def test_nan_elsewhere_in_frame_b_hides_only_what_lands_there() -> None:
    depth_b, flow_ba = DEPTH_B.clone(), FLOW_BA.clone()
    depth_b[0, 0, 3, 3], flow_ba[0, :, 3, 3] = torch.nan, torch.nan
    expected = ~OCCLUDED
    for found in (depth_test_visible(DEPTH_A, depth_b, landing()), forward_backward_visible(FLOW_AB, flow_ba),
                  range_map_visible(flow_ba)):
        wrong = (found != expected).nonzero()
        # Bilinear neighbours at most; never a pixel that lands elsewhere.
        assert not found[0, 0, 3, 3]
        assert (wrong[:, 2:] - 3).abs().max() <= 1


def test_depth_difference() -> None:
    # sfm_future_work.md A2: the truth gives 0, a depth 1.1 times too large .0476.
    z = torch.full((1, 1, 4, 5), 3.0, dtype=D)
    grid = torch.stack(torch.meshgrid(torch.arange(5), torch.arange(4), indexing="xy"), dim=-1).to(D)[None]
    value, use = depth_difference_map(z, z, grid)
    assert use.all()
    assert value.max() == 0
    value, _ = depth_difference_map(z, 1.1 * z, grid)
    assert value.mean().item() == pytest.approx(0.1 / 2.1)
    assert value.mean().item() == pytest.approx(0.0476, abs=5e-5)


def test_depth_difference_under_nan_and_gradcheck() -> None:
    z = (torch.rand(1, 1, 4, 5, dtype=D) + 1)
    z[0, 0, 1, 1], z[0, 0, 2, 2] = torch.nan, -1.0
    z.requires_grad_()
    depth_b = (torch.rand(1, 1, 4, 5, dtype=D) + 3).requires_grad_()
    grid = torch.stack(torch.meshgrid(torch.arange(5), torch.arange(4), indexing="xy"), dim=-1).to(D)[None] * 0.7 + 0.1
    value, use = depth_difference_map(z, depth_b, grid)
    assert use.sum() == 18
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(z.grad).all()
    assert torch.isfinite(depth_b.grad).all()
    clean = (torch.rand(1, 1, 4, 5, dtype=D) + 1).requires_grad_()
    xy = grid.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b, c: depth_difference_map(a, b, c)[0], (clean, depth_b, xy))
