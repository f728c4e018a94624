"""The hybrid loss: closed forms, gradient that stays where it belongs, and nobody who starves."""

import pytest
import torch
from torch import Tensor

from egoflow.geometry.camera import Camera
from egoflow.geometry.flow import backward_warp, rigid_flow
from egoflow.geometry.se3 import SE3
from egoflow.losses.hybrid import flow_branch, hybrid_error, pair_branch
from egoflow.losses.masks import eroded
from egoflow.losses.mixture import evidence, fitted
from egoflow.losses.photometric import l1_map, least_map, ssim_map
from egoflow.losses.rebalancing import Progress
from egoflow.losses.reduce import masked_mean

D = torch.float64


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=D).view(1, 1, 1, -1)


def test_closed_forms() -> None:
    error_rigid, error_flow, q = row(1, 2, 3, torch.nan), row(0.5, 1, 1, torch.nan), row(1, 1, 0, torch.nan)
    use = torch.tensor([True, True, True, False]).view(1, 1, 1, 4)
    assert pair_branch(error_rigid, q, use).item() == pytest.approx(1.5)
    assert flow_branch(error_flow, q, use).item() == pytest.approx(2.5 / 3)
    assert flow_branch(error_flow, q, use, movers=2.0).item() == pytest.approx((0.5 + 1 + 3) / 3)
    assert hybrid_error(error_rigid, error_flow, q)[use].tolist() == [1, 2, 1]
    # One static pixel in two samples of two: each sample weighs the same.
    error, weight = (torch.cat((v, v.flip(-1))) for v in (row(2, 8), row(1, 0)))
    assert pair_branch(error, weight, torch.ones_like(error, dtype=torch.bool)).item() == pytest.approx(2.0)


def test_nothing_static_is_a_zero_in_the_graph() -> None:
    error = torch.rand(2, 1, 3, 4, requires_grad=True)
    for weight, use in ((0.0, True), (1.0, False)):
        value = pair_branch(error, torch.full_like(error, weight), torch.full_like(error, use, dtype=torch.bool))
        value.backward()
        assert value == 0
        assert error.grad is not None
        assert not error.grad.any()


def scene() -> tuple[Tensor, Tensor, Camera, SE3]:
    """Two images of random texture, and a camera that moves."""
    values = (("fx", 30.0), ("fy", 30.0), ("cx", 15.5), ("cy", 11.5))
    cam = Camera(**{k: torch.tensor([v], dtype=D) for k, v in values}, height=24, width=32)
    image_a, image_b = torch.rand(2, 1, 3, 24, 32, dtype=D)
    return image_a, image_b, cam, SE3.exp(torch.tensor([[0.2, 0.05, -0.1, 0, 0, 0]], dtype=D))


@pytest.mark.parametrize("kind", ["l1", "ssim"])
def test_movers_teach_flow_and_never_depth(kind: str) -> None:
    """coopnet.md check 5, exact: also through windows, where q is eroded by their size."""
    image_a, image_b, cam, b_from_a = scene()
    depth = (4 + torch.rand(1, 1, 24, 32, dtype=D)).requires_grad_()
    flow = torch.full((1, 2, 24, 32), 0.7, dtype=D, requires_grad=True)
    q = torch.ones(1, 1, 24, 32, dtype=D)
    q[..., 6:14, 9:20] = 0
    compare = l1_map if kind == "l1" else ssim_map
    rigid, _ = rigid_flow(depth, cam, b_from_a)
    (by_depth, inside), (by_flow, _) = backward_warp(image_b, rigid), backward_warp(image_b, flow)
    error_rigid, error_flow = compare(by_depth, image_a), compare(by_flow, image_a)
    weight = q if kind == "l1" else eroded(q, window=3)
    (pair_branch(error_rigid, weight, inside) + flow_branch(error_flow, weight, inside)).backward()
    assert depth.grad is not None
    assert flow.grad is not None
    moves = q == 0
    assert not depth.grad[moves].any()
    # One pixel more is dark around movers under a window, no more.
    taught = depth.grad != 0
    assert taught[(eroded(q, window=3) > 0) & inside].float().mean() > 0.99
    assert (flow.grad.abs().sum(1, keepdim=True)[moves & inside] > 0).float().mean() > 0.99


def test_weights_have_no_gradient() -> None:
    error_rigid, error_flow, q = (torch.rand(1, 1, 4, 5, dtype=D, requires_grad=True) for _ in range(3))
    use = torch.rand(1, 1, 4, 5) < 0.8
    hybrid = masked_mean(hybrid_error(error_rigid, error_flow, q), use)
    (pair_branch(error_rigid, q, use) + flow_branch(error_flow, q, use, movers=1.0) + hybrid).backward()
    assert q.grad is None
    fixed = q.detach()
    assert torch.autograd.gradcheck(lambda r: pair_branch(r, fixed, use), (error_rigid,))
    assert torch.autograd.gradcheck(lambda f: flow_branch(f, fixed, use, movers=0.5), (error_flow,))


def test_nan_beside_what_counts_changes_nothing_even_through_erosion() -> None:
    error_rigid, error_flow = torch.rand(2, 1, 1, 12, 16, dtype=D)
    use = torch.rand(1, 1, 12, 16) < 0.7
    poisoned = torch.where(use, error_rigid, torch.nan).requires_grad_()
    found = fitted(poisoned - error_flow, evidence(poisoned, error_flow, use))
    assert found.pixels > 100
    weight = eroded(found.static_weight(poisoned - error_flow))
    value = pair_branch(poisoned, weight, use)
    value.backward()
    assert value.isfinite()
    assert poisoned.grad is not None
    assert poisoned.grad.isfinite().all()


def cooperation(kind: str, *, start: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Two scalar learners of the value 1, each with its own noise: their values and shares, both [steps, 2].

    A learner's share is its part of the weight of all pixels, in what teaches them.
    """
    learners = torch.tensor(start, requires_grad=True)
    noise, use = torch.distributions.Laplace(0.0, 0.02), torch.ones(1, 1, 20, 25, dtype=torch.bool)
    progress, values, shares = Progress.unknown(2), [], []
    for step in range(160):
        error_rigid, error_flow = ((learner - 1 - noise.sample(use.shape)).abs() for learner in learners)
        if kind == "minimum":
            least, _ = least_map(error_rigid, error_flow, use, use)
            loss, first = masked_mean(least, use), (error_rigid < error_flow).float().mean()
            share = torch.stack((first, 1 - first))
        else:
            delta = error_rigid - error_flow
            q = fitted(delta, evidence(error_rigid, error_flow, use)).static_weight(delta)
            losses = torch.stack((pair_branch(error_rigid, q, use), flow_branch(error_flow, q, use)))
            progress = progress.observed(losses.detach(), keep=0.9)
            progress = progress.warmed_up() if step == 0 else progress
            loss = (progress.weights() * losses).sum()
            share = progress.weights() * torch.stack((q.mean(), q.new_ones(())))
        values.append(learners.detach().clone())
        shares.append(share / share.sum())
        gradient, = torch.autograd.grad(loss, learners)
        with torch.no_grad():
            learners -= 0.02 * gradient
    return torch.stack(values), torch.stack(shares)


@pytest.mark.parametrize("start", [(0.0, 0.6), (0.6, 0.0)], ids=["flow ahead", "depth ahead"])
def test_the_minimum_starves_the_worse_and_the_hybrid_does_not(start: tuple[float, float]) -> None:
    """coopnet.md check 4."""
    worse = int(start[1] < start[0])
    values, shares = cooperation("minimum", start=start)
    assert shares[1:, worse].max() < 0.1
    assert abs(values[-1, 1 - worse] - 1) < 0.05
    assert values[-1, worse] < 0.1
    values, shares = cooperation("hybrid", start=start)
    assert (values[-1] - 1).abs().max() < 0.05
    for learner in range(2):
        learning = (values[:, learner] - 1).abs() > 0.05
        assert shares[learning, learner].min() > 0.3
