"""Consistency between depth, motion and flow: 0 at the truth, the spec's figures off it, gradients where they belong.

The same of depth differences and of the single masks stands in test_masks.py.
"""

import math

import pytest
import torch
from torch import Tensor

from egoflow.geometry.camera import Camera
from egoflow.geometry.flow import reproject, rigid_flow
from egoflow.geometry.pixels import resize_flow
from egoflow.geometry.se3 import SE3
from egoflow.losses.consistency import (
    cross_task_map,
    depth_consistency_map,
    depth_difference_map,
    depth_weight,
    motion_cycle,
    motion_triplet,
    triangulated_depth_map,
    unit_scale,
    with_teacher,
)
from egoflow.losses.masks import cross_task_visible, in_view
from egoflow.losses.reduce import masked_mean

D = torch.float64
HEIGHT, WIDTH = 32, 48


def camera(height: int = HEIGHT, width: int = WIDTH, dtype: torch.dtype = D) -> Camera:
    values = (("fx", 40.0), ("fy", 40.0), ("cx", width / 2 - 0.5), ("cy", height / 2 - 0.5))
    return Camera(**{k: torch.tensor([v], dtype=dtype) for k, v in values}, height=height, width=width)


def motion(*tangent: float, dtype: torch.dtype = D) -> SE3:
    return SE3.exp(torch.tensor([tangent], dtype=dtype))


def flow_of(x: float, y: float = 0.0) -> Tensor:
    return torch.tensor([x, y], dtype=D).view(1, 2, 1, 1).expand(1, 2, HEIGHT, WIDTH).clone()


def plane_depth(normal: Tensor, offset: Tensor) -> Tensor:
    """Depth of the plane ``normal . p = offset``."""
    return (offset / (camera().rays() * normal).sum(-1)).unsqueeze(1)


def slanted_views(b_from_a: SE3) -> tuple[Tensor, Tensor]:
    """Depth maps of one slanted plane in both frames, in closed form."""
    normal, offset = torch.tensor([0.02, -0.03, 1.0], dtype=D), torch.tensor(6.0, dtype=D)
    turned = b_from_a.R[0] @ normal
    return plane_depth(normal, offset), plane_depth(turned, offset + turned @ b_from_a.t[0])


AHEAD = motion(0.02, 0.01, -0.2, 0.003, -0.004, 0.002)


# In float32 a pixel at x = 47 is known to 4e-6.
@pytest.mark.parametrize(("dtype", "tolerance"), [(D, 1e-10), (torch.float32, 3e-5)])
@pytest.mark.parametrize("factor", [0.01, 0.7, 250.0])
def test_a_common_scale_of_depth_and_translation_leaves_the_flow(factor: float, dtype: torch.dtype,
                                                                 tolerance: float) -> None:
    depth = 4 + 8 * torch.rand(1, 1, HEIGHT, WIDTH, dtype=dtype)
    b_from_a, cam = motion(0.3, -0.1, -0.5, 0.02, 0.03, -0.01, dtype=dtype), camera(dtype=dtype)
    flow, _ = rigid_flow(depth, cam, b_from_a)
    scaled, _ = rigid_flow(factor * depth, cam, b_from_a.scaled(factor))
    assert flow.abs().max() > 3
    assert (scaled - flow).abs().max() < tolerance


def test_a_common_scale_leaves_depth_consistency() -> None:
    depth_a = 4 + torch.rand(1, 1, HEIGHT, WIDTH, dtype=D)
    depth_b = 4 + torch.rand(1, 1, HEIGHT, WIDTH, dtype=D)

    def difference(factor: float) -> tuple[Tensor, Tensor]:
        xy, z, _ = reproject(factor * depth_a, camera(), AHEAD.scaled(factor))
        return depth_difference_map(z, factor * depth_b, xy)

    (one, use), (many, _) = difference(1.0), difference(7.0)
    assert one[use].mean() > 0.01
    assert (one - many).abs().max() < 1e-12


def test_the_truth_is_consistent_in_one_frame_and_not_compared_directly() -> None:
    depth_a, depth_b = slanted_views(AHEAD)
    xy, z, _ = reproject(depth_a, camera(), AHEAD)
    transformed, use = depth_consistency_map(depth_a, z, depth_b, xy)
    assert use.float().mean() > 0.8
    assert transformed[use].max() < 1e-5
    direct, use = depth_consistency_map(depth_a, z, depth_b, xy, mode="direct")
    assert direct[use].mean().item() == pytest.approx(0.2, abs=0.02)
    # On a plane that faces the camera the offset is |t_z| to the last digit.
    facing = torch.full((1, 1, HEIGHT, WIDTH), 6.0, dtype=D)
    xy, z, _ = reproject(facing, camera(), motion(0, 0, -0.2, 0, 0, 0))
    direct, use = depth_consistency_map(facing, z, facing - 0.2, xy, mode="direct")
    assert (direct[use] - 0.2).abs().max() < 1e-12
    assert not depth_consistency_map(facing, -z, facing, xy, mode="direct")[1].any()


def test_the_weight_of_depth_consistency() -> None:
    difference = torch.tensor([0.0, 0.0476, 0.3, torch.nan], dtype=D, requires_grad=True).view(1, 1, 1, 4)
    weight = depth_weight(difference, difference.isfinite())
    assert not weight.requires_grad
    assert weight.flatten().tolist() == pytest.approx([1, 0.9524, 0.7, 0])


@pytest.mark.parametrize("broken", ["rigid_there", "rigid_back", "flow_there", "flow_back", "none"])
def test_each_of_four_flows_can_veto(broken: str) -> None:
    names = ("rigid_there", "rigid_back", "flow_there", "flow_back")
    flows = {name: flow_of(4.0 if "there" in name else -4.0) for name in names}
    if broken != "none":
        flows[broken][:, 1, 10, 10] += 3.0
    found = cross_task_visible(*flows.values())
    # The way back is read where the way there ends, four pixels to the right.
    x = 10 if "there" in broken else 6
    assert found.dtype == torch.bool
    assert bool(found[0, 0, 10, x]) == (broken == "none")
    expected = in_view(flow_of(4.0))
    expected[0, 0, 10, x] = broken == "none"
    assert torch.equal(found, expected)


def test_both_flows_leaving_the_view_are_not_compared() -> None:
    inside, outside = flow_of(0.0), flow_of(0.0)
    outside[:, 0, 5, 5] = 100.0
    for flows in ((outside, inside, inside, inside), (inside, inside, outside, inside)):
        assert cross_task_visible(*flows).logical_not().nonzero()[:, 2:].tolist() == [[5, 5]]


@pytest.mark.parametrize("level", range(4))
def test_a_constant_flow_agrees_with_the_cameras_on_every_level(level: int) -> None:
    """dfnet.md section 9: coarse flows are in pixels of their own grid, or they would be 2^s too long."""
    # f t / z = 40 * 1 / 5 = 8 px to the right.
    sideways = motion(1.0, 0, 0, 0, 0, 0)
    height, width = HEIGHT >> level, WIDTH >> level
    small = resize_flow(flow_of(8.0), height=height, width=width)
    assert torch.equal(small, torch.tensor([8 / 2**level, 0], dtype=D).view(1, 2, 1, 1).expand_as(small))
    cam = camera().resized(height=height, width=width)
    depth = torch.full((1, 1, height, width), 5.0, dtype=D)
    rigid, _ = rigid_flow(depth, cam, sideways)
    back, _ = rigid_flow(depth, cam, sideways.inverse())
    use = cross_task_visible(rigid, back, small, -small)
    assert use.float().mean() > 0.5
    assert cross_task_map(rigid, small, use).max() < 1e-9
    assert masked_mean(cross_task_map(rigid, 2**level * small, use), use).item() == pytest.approx(8 - 8 / 2**level)


def test_the_cross_task_gradient_finds_depth_over_translation() -> None:
    truth, b_from_a, cam = 5.0, motion(0.3, 0.1, -0.2, 0.01, 0.02, 0), camera(8, 12)
    flow, _ = rigid_flow(torch.full((1, 1, 8, 12), truth, dtype=D), cam, b_from_a)
    logarithm = torch.tensor(math.log(3.0), dtype=D, requires_grad=True)
    optimizer = torch.optim.Adam([logarithm], lr=0.02)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.98)
    for _ in range(200):
        optimizer.zero_grad()
        rigid, front = rigid_flow(logarithm.exp().expand(1, 1, 8, 12), cam, b_from_a)
        masked_mean(cross_task_map(rigid, flow, front), front).backward()
        optimizer.step()
        schedule.step()
    assert logarithm.exp().item() == pytest.approx(truth, rel=0.01)


def test_cross_task_teaches_both_and_reads_nothing_under_false() -> None:
    rigid, flow = flow_of(3.0, -1.0), flow_of(1.0, 0.5)
    rigid[:, :, 4, 4], flow[:, :, 7, 7] = torch.nan, torch.nan
    use = ~(rigid.isnan() | flow.isnan()).any(1, keepdim=True)
    rigid, flow = rigid.requires_grad_(), flow.requires_grad_()
    value = cross_task_map(rigid, flow, use)
    assert torch.equal(value, torch.where(use, 3.5, 0.0).to(D))
    masked_mean(value, use).backward()
    assert rigid.grad is not None
    assert flow.grad is not None
    assert torch.equal(rigid.grad, -flow.grad)
    assert rigid.grad.isfinite().all()
    assert torch.equal(rigid.grad[:, :1] != 0, use)


def test_at_each_pixel_one_flow_teaches_the_other() -> None:
    """coopnet.md 4.3: the side with the lower error is the teacher, drawn from a softmax."""
    rigid, flow = flow_of(3.0).requires_grad_(), flow_of(1.0).requires_grad_()
    everywhere = torch.ones(1, 1, HEIGHT, WIDTH, dtype=torch.bool)
    # e_f - e_r = T ln 3: the camera's flow teaches three times of four.
    error_flow, error_rigid = (torch.full((1, 1, HEIGHT, WIDTH), v, dtype=D) for v in (0.1 * math.log(3), 0.0))
    share = []
    for _ in range(10):
        first, second = with_teacher(rigid, flow, error_rigid, error_flow, temperature=0.1)
        assert torch.equal(first, rigid)
        assert torch.equal(second, flow)
        rigid.grad = flow.grad = None
        cross_task_map(first, second, everywhere).sum().backward()
        assert rigid.grad is not None
        assert flow.grad is not None
        assert torch.equal(rigid.grad[:, :1] != 0, flow.grad[:, :1] == 0)
        share.append((flow.grad[:, 0] != 0).double().mean())
    # 15,360 draws: one deviation is .0035.
    assert torch.stack(share).mean().item() == pytest.approx(0.75, abs=0.014)


def test_triangulated_depth_is_the_single_views_at_the_truth() -> None:
    depth, b_from_a = 4 + 4 * torch.rand(1, 1, HEIGHT, WIDTH, dtype=D), motion(0.5, 0.1, -0.3, 0.01, -0.02, 0.01)
    flow, _ = rigid_flow(depth, camera(), b_from_a)
    value, use = triangulated_depth_map(depth, flow, camera(), b_from_a)
    assert use.float().mean() > 0.8
    assert value[use].max() < 1e-6
    # In log space a factor costs the same up and down.
    for factor in (1.25, 0.8):
        value, use = triangulated_depth_map(factor * depth, flow, camera(), b_from_a)
        assert (value[use] - math.log(1.25)).abs().max() < 1e-6
    # The depth that odometry implies is as long as its translation.
    value, use = triangulated_depth_map(2 * depth, flow, camera(), b_from_a.scaled(2.0))
    assert value[use].max() < 1e-6


def test_triangulated_depth_under_nan_and_gradcheck() -> None:
    depth, tangent = 4 + torch.rand(1, 1, 6, 7, dtype=D), torch.tensor([[0.5, 0.1, -0.3, 0.01, -0.02, 0.01]], dtype=D)
    cam = camera(6, 7)
    flow, _ = rigid_flow(depth, cam, SE3.exp(tangent))
    wrong = (1.1 * depth).requires_grad_()
    assert torch.autograd.gradcheck(lambda d, f, v: triangulated_depth_map(d, f, cam, SE3.exp(v))[0],
                                    (wrong, flow.requires_grad_(), tangent.requires_grad_()), atol=1e-4)
    holes, broken = wrong.detach().clone(), flow.detach().clone()
    holes[..., 2, 2], broken[..., 3, 3] = torch.nan, torch.nan
    holes, broken = holes.requires_grad_(), broken.requires_grad_()
    value, use = triangulated_depth_map(holes, broken, cam, SE3.exp(tangent))
    assert not use[0, 0, 2, 2]
    assert not use[0, 0, 3, 3]
    masked_mean(value, use).backward()
    assert holes.grad is not None
    assert broken.grad is not None
    assert holes.grad[use].isfinite().all()
    assert holes.grad[use].abs().max() > 0


@pytest.mark.parametrize("size", [1e-4, 1e-2, 1.0])
def test_motions_there_and_back_and_over_two_steps_cost_nothing(size: float) -> None:
    """sfm_future_work.md A3 and A4, in the float32 of training."""
    first, second = (SE3.exp(size * torch.randn(5, 6)) for _ in range(2))
    for found in (*motion_cycle(first, first.inverse()), *motion_triplet(second, first, second @ first)):
        assert found.shape == (5,)
        assert found.max() < 1e-6


def test_cycles_are_relative_to_the_motion() -> None:
    turned = motion(0, 0, 0, 0, math.radians(5), 0)
    rotation, translation = motion_cycle(turned, SE3.identity(1, dtype=D))
    assert rotation.item() == pytest.approx(1.0, abs=1e-6)
    assert translation.item() == 0
    # Forgetting the way back costs 1 however short the way, and twice the way costs .2.
    for length in (1e-3, 1.0, 50.0):
        there = motion(length, 0, 0, 0, 0, 0)
        assert motion_cycle(there, SE3.identity(1, dtype=D))[1].item() == pytest.approx(1.0, abs=1e-5)
        assert motion_cycle(there, there.inverse().scaled(2.0))[1].item() == pytest.approx(0.2, abs=1e-5)
        # (1.5 - 1)^2 / (1.5^2 + 1): the second step in another unit of length than the pair over both.
        half = there.scaled(0.5)
        assert motion_triplet(there, half, there)[1].item() == pytest.approx(0.25 / 3.25, abs=1e-5)


def test_cycles_have_gradients_and_none_at_rest() -> None:
    first, second, third = (0.3 * torch.randn(2, 6, dtype=D, requires_grad=True) for _ in range(3))
    inputs = tuple(v.detach().requires_grad_() for v in (first, second, third))
    assert torch.autograd.gradcheck(lambda a, b, _: motion_cycle(SE3.exp(a), SE3.exp(b)), inputs)
    assert torch.autograd.gradcheck(lambda a, b, c: motion_triplet(SE3.exp(a), SE3.exp(b), SE3.exp(c)), inputs)
    rest = torch.zeros(1, 6, dtype=D, requires_grad=True)
    sum(motion_cycle(SE3.exp(rest), SE3.exp(rest))).sum().backward()  # type: ignore[union-attr]
    assert rest.grad is not None
    assert not rest.grad.any()


def test_the_anchor_of_scale_knows_the_batch_and_no_single_image() -> None:
    near, far = torch.full((1, 1, 2, 3), 4.0), torch.full((1, 1, 2, 3), 0.25)
    assert float(unit_scale(torch.cat((near, far)))) == pytest.approx(0, abs=1e-12)
    assert float(unit_scale(torch.cat((near, near)))) == pytest.approx(math.log(4) ** 2)

