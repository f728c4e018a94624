"""Occlusion and smoothness of the self-supervised systems, on a square that moves before a wall and in closed form."""

import pytest
import torch
from torch import Tensor

from egoflow.geometry.flow import forward_splat
from egoflow.losses.masks import away_from_border, range_map_visible
from egoflow.losses.smoothness import second_order_diagonals
from egoflow.losses.unlabelled_flow import Stage, not_occluded, return_error, roughness

D = torch.float64
HEIGHT, WIDTH, SIDE, SHIFT = 60, 80, 20, 6


def square(left: int) -> Tensor:
    mask = torch.zeros(1, 1, HEIGHT, WIDTH, dtype=torch.bool)
    mask[..., 20:20 + SIDE, left:left + SIDE] = True
    return mask


AT_A, AT_B = square(30), square(30 + SHIFT)
HIDDEN = AT_B & ~AT_A
FLOW_AB, FLOW_BA = (torch.cat((mask * shift, mask * 0.0), dim=1) for mask, shift in ((AT_A, 6.0), (AT_B, -6.0)))


def iou(found: Tensor, truth: Tensor) -> float:
    return ((found & truth).sum() / (found | truth).sum()).item()


@pytest.mark.parametrize("occlusion", ["forward_backward", "range_map"])
def test_the_hidden_strip_is_found(occlusion: str) -> None:
    visible = not_occluded(FLOW_AB, FLOW_BA, Stage(occlusion=occlusion))  # type: ignore[arg-type]
    assert HIDDEN.sum() == SHIFT * SIDE
    assert iou(~visible, HIDDEN) == 1.0


def test_the_coarse_range_map_finds_the_strip_roughly_and_fills_pinholes() -> None:
    assert iou(~not_occluded(FLOW_AB, FLOW_BA, Stage(occlusion="coarse_range_map")), HIDDEN) > 0.5
    # Zooming in by 1.5 leaves every third row and column with little.
    y, x = torch.meshgrid(torch.arange(48.0) - 23.5, torch.arange(64.0) - 31.5, indexing="ij")
    zoom = torch.stack((x, y))[None] * 0.5
    fine, coarse = (range_map_visible(zoom, coarser=factor)[..., 8:-8, 8:-8].float().mean() for factor in (1, 4))
    assert fine < 0.9
    assert range_map_visible(zoom, coarser=4, least=0.2)[..., 8:-8, 8:-8].all()
    assert range_map_visible(torch.zeros(1, 2, 7, 9), coarser=4).all()
    assert coarse == pytest.approx(fine, abs=0.5)


def test_what_leaves_the_image_is_not_found_hidden() -> None:
    """Beyond a crop the other image may go on; what is outside of it the warp's own mask knows."""
    away = torch.tensor([3.0, 0]).view(1, 2, 1, 1).expand(1, 2, 8, 20)
    for occlusion in ("forward_backward", "range_map", "none"):
        assert not_occluded(away, -away, Stage(occlusion=occlusion)).all()  # type: ignore[arg-type]


def test_the_share_that_must_land() -> None:
    # Half of every pixel's neighbour: each column gets 1, the first only the half that is its own.
    half = torch.tensor([0.5, 0]).view(1, 2, 1, 1).expand(1, 2, 4, 8)
    _, landed = forward_splat(half[:, :1] * 0, half)
    assert landed[0, 0, 0].tolist() == pytest.approx([0.5] + [1.0] * 7)
    assert not range_map_visible(half, least=0.75)[..., 0].any()
    assert range_map_visible(half, least=0.2).all()


def test_the_range_map_counts_every_pixel_that_stays() -> None:
    """The total is the number of pixels less the bilinear mass that leaves the frame."""
    assert torch.equal(forward_splat(torch.zeros(1, 1, 6, 9), torch.zeros(1, 2, 6, 9))[1], torch.ones(1, 1, 6, 9))
    flow = torch.tensor([3.25, 0], dtype=D).view(1, 2, 1, 1).expand(1, 2, 6, 9)
    _, landed = forward_splat(flow[:, :1] * 0, flow)
    assert landed.sum().item() == pytest.approx(6 * (9 - 3.25))
    assert landed[0, 0, 0].tolist() == pytest.approx([0, 0, 0, 0.75] + [1] * 5)


def test_border() -> None:
    found = away_from_border(torch.zeros(2, 2, 20, 31))
    assert found.shape == (2, 1, 20, 31)
    rows, columns = found[0, 0].any(1), found[0, 0].any(0)
    assert (rows.sum(), columns.sum()) == (20 - 2 * 2, 31 - 2 * 4)
    assert rows.tolist() == rows.flip(0).tolist()
    assert away_from_border(torch.zeros(1, 2, 1, 1)).all()
    assert torch.equal(not_occluded(FLOW_AB, FLOW_BA, Stage(occlusion="border")), away_from_border(FLOW_AB))


def test_masks_have_no_gradient() -> None:
    flow = FLOW_AB.clone().requires_grad_()
    for occlusion in ("none", "border", "forward_backward", "range_map", "coarse_range_map"):
        mask = not_occluded(flow, flow, Stage(occlusion=occlusion))  # type: ignore[arg-type]
        assert mask.dtype == torch.bool
        assert not mask.requires_grad


def test_second_differences_in_four_directions() -> None:
    y, x = torch.meshgrid(torch.arange(9.0, dtype=D), torch.arange(11.0, dtype=D), indexing="ij")
    least = (1e-6) ** 0.45

    def cost(value: Tensor) -> Tensor:
        return second_order_diagonals(value[None, None])[..., 1:-1, 1:-1]

    # Every plane is smooth; the rounded penalty of nothing is .0019953.
    assert torch.allclose(cost(3 * x - 2 * y + 1), torch.full((1, 1, 7, 9), least, dtype=D))
    # x^2 bends by 2 across and along both diagonals, not down; x y by 0, 0, 2 and -2.
    bent = (4 + 1e-6) ** 0.45
    assert torch.allclose(cost(x * x), torch.full((1, 1, 7, 9), (3 * bent + least) / 4, dtype=D))
    assert torch.allclose(cost(x * y), torch.full((1, 1, 7, 9), (2 * bent + 2 * least) / 4, dtype=D))
    both = second_order_diagonals(torch.stack((x * x, x * y))[None])
    assert both[0, 0, 4, 4] == pytest.approx((5 * bent + 3 * least) / 4)
    assert not both[0, 0, 0].any()
    assert not second_order_diagonals(torch.rand(1, 2, 2, 9)).any()


def test_roughness_is_the_mean_of_both_axes_and_may_break_at_edges() -> None:
    flow = torch.zeros(1, 2, 6, 8)
    flow[..., 4:] = 1.0
    flat = torch.full((1, 3, 6, 8), 0.5)
    edge = flat.clone()
    edge[..., 4:] = 1.0
    for kind in ("first", "second"):
        free = roughness(flow, flat, kind=kind, edge=10.0)  # type: ignore[arg-type]
        broken = roughness(flow, edge, kind=kind, edge=10.0)  # type: ignore[arg-type]
        assert free.max() == pytest.approx(0.5)
        assert broken.max() == pytest.approx(0.5 * 2.718281828 ** (-10 * 0.5), rel=1e-4)


def test_the_way_back() -> None:
    there = torch.tensor([2.0, 0], dtype=D).view(1, 2, 1, 1).expand(1, 2, 4, 12)
    assert return_error(there, -there).max().item() == pytest.approx((1e-6) ** 0.45)
    miss = return_error(there, -there + 1)
    assert miss.mean().item() == pytest.approx((1 + 1e-6) ** 0.45)
