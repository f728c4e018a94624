"""The robust cost of a motion: its derivatives against autograd, and which pixels it reads."""

import pytest
import torch
from torch import Tensor

from egoflow.geometry.camera import Camera
from egoflow.geometry.flow import rigid_flow
from egoflow.geometry.motion_cost import Matches, Residuals, gradient, hessian, matches_of, normal_matrix
from egoflow.geometry.se3 import SE3
from egoflow.geometry.solved_motion import solve_motion


def camera() -> Camera:
    return Camera.create(40, 45, 11.2, 7.3, height=16, width=24).to(torch.float64)


def scene() -> tuple[Tensor, Tensor, Tensor, SE3]:
    """Return depth, a noisy flow with a block of outliers, weights and the true motion, in float64."""
    depth = torch.rand(1, 1, 16, 24, dtype=torch.float64) * 20 + 4
    motion = SE3.exp(torch.tensor([[0.3, 0, -1, 0.02, 0.03, -0.01]], dtype=torch.float64))
    flow, _ = rigid_flow(depth, camera(), motion)
    flow = flow + 0.4 * torch.randn_like(flow)
    flow[:, :, 3:7, 4:12] += 3
    return depth, flow, torch.rand_like(depth), motion


def cost_of(matches: Matches, b_from_a: SE3, scale: Tensor) -> Tensor:
    """Return the cost of a twist: by autograd through the exponential, an oracle for all derivatives."""
    return Residuals.of(matches, b_from_a).cost(scale).sum() * scale.square().sum() / 2


@pytest.mark.parametrize("scale_px", [1.0, 3.0])
def test_the_gradient_is_the_costs(scale_px: float) -> None:
    depth, flow, weight, motion = scene()
    matches = matches_of(depth, flow, weight=weight, camera=camera(), most=5000)
    scale = torch.full((1,), scale_px, dtype=torch.float64)
    twist = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    aside = SE3.exp(torch.tensor([[0.1, 0.2, 0.1, 0.01, -0.02, 0.01]], dtype=torch.float64)) @ motion
    cost_of(matches, SE3.exp(twist[None]) @ aside, scale).backward()
    residuals = Residuals.of(matches, aside)
    found = gradient(residuals, residuals.influence(scale))
    assert twist.grad is not None
    assert torch.allclose(found[0], twist.grad, rtol=1e-10)


def test_the_normal_matrix_is_that_of_the_flows_jacobian() -> None:
    depth, flow, weight, motion = scene()
    residuals = Residuals.of(matches_of(depth, flow, weight=weight, camera=camera(), most=5000), motion)
    influence = residuals.influence(torch.ones(1).double())

    def moved(twist: Tensor) -> Tensor:
        return rigid_flow(depth, camera(), SE3.exp(twist[None]) @ motion)[0].flatten(1)

    jacobian = torch.autograd.functional.jacobian(moved, torch.zeros(6, dtype=torch.float64)).reshape(-1, 6)
    expected = jacobian.T @ (influence.repeat(1, 2).T * jacobian)
    assert torch.allclose(normal_matrix(residuals, influence)[0], expected, rtol=1e-10)


@pytest.mark.parametrize("scale_px", [1.0, 3.0])
def test_the_hessian_is_exact_at_a_minimum(scale_px: float) -> None:
    depth, flow, weight, motion = scene()
    solved = solve_motion(depth, flow, weight=weight, camera=camera(), start=motion, steps=200).b_from_a
    # The solver's scale is 1 px; in an image of three times the size that is 3 px, and the minimum is the same.
    grid = magnified(matches_of(depth, flow, weight=weight, camera=camera(), most=5000), scale_px)
    scale = torch.full((1,), scale_px, dtype=torch.float64)
    zero = torch.zeros(6, dtype=torch.float64)
    expected = torch.autograd.functional.hessian(
        lambda twist: cost_of(grid, SE3.exp(twist[None]) @ solved, scale), zero)
    found = hessian(Residuals.of(grid, solved), scale)[0]
    assert isinstance(expected, Tensor)
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-12
    # The Gauss-Newton matrix is another one: residuals of 0.4 px bend the cost.
    residuals = Residuals.of(grid, solved)
    rough = normal_matrix(residuals, residuals.influence(scale))[0]
    assert float((rough - expected).abs().max() / expected.abs().max()) > 0.1


def magnified(matches: Matches, factor: float) -> Matches:
    """Return the matches in pixels of an image ``factor`` times as large."""
    return Matches(points=matches.points, target=matches.target * factor, flow=matches.flow * factor,
                   weight=matches.weight, focal=matches.focal * factor)


@pytest.mark.parametrize(("height", "width", "most", "expected"), [
    (16, 24, 5000, 384), (16, 24, 384, 384), (16, 24, 383, 96), (16, 24, 1, 1), (1, 1, 5000, 1), (1, 500, 100, 100)])
def test_a_grid_of_at_most_so_many_pixels(height: int, width: int, most: int, expected: int) -> None:
    """The thinned pixels keep their place: the true motion leaves no residual on any grid."""
    shown = Camera.create(40, 45, (width - 1) / 2, (height - 1) / 2, height=height, width=width).to(torch.float64)
    depth = torch.rand(2, 1, height, width, dtype=torch.float64) + 4
    motion = SE3.exp(torch.randn(2, 6, dtype=torch.float64) * 0.05)
    flow, _ = rigid_flow(depth, shown.repeated(2), motion)
    matches = matches_of(depth, flow, weight=torch.ones_like(depth), camera=shown.repeated(2), most=most)
    assert matches.points.shape == (2, 3, expected)
    assert float(Residuals.of(matches, motion).pixels.abs().max()) < 1e-10


def test_what_cannot_be_used_has_no_weight() -> None:
    depth, flow = torch.ones(1, 1, 2, 3), torch.zeros(1, 2, 2, 3)
    depth[0, 0, 0] = torch.tensor([0.0, -1.0, torch.nan])
    depth[0, 0, 1, 0] = torch.inf
    flow[0, 1, 1, 1] = torch.nan
    small = Camera.create(3, 3, 1, 0.5, height=2, width=3)
    matches = matches_of(depth, flow, weight=torch.ones(1, 1, 2, 3, dtype=torch.bool), camera=small, most=10)
    assert matches.weight.tolist() == [[0, 0, 0, 0, 0, 1]]
    assert all(bool(v.isfinite().all()) for v in (matches.points, matches.target, matches.flow))


def test_a_point_behind_the_camera_costs_the_most_and_pulls_nothing() -> None:
    depth, flow = torch.ones(1, 1, 2, 3), torch.zeros(1, 2, 2, 3)
    small = Camera.create(3, 3, 1, 0.5, height=2, width=3)
    matches = matches_of(depth, flow, weight=torch.ones_like(depth), camera=small, most=10)
    behind = SE3(torch.eye(3)[None], torch.tensor([[0.0, 0.0, -2.0]]))
    residuals = Residuals.of(matches, behind)
    assert float(residuals.cost(torch.ones(1))) == 6
    assert not residuals.influence(torch.ones(1)).any()
    assert bool(residuals.pixels.isfinite().all())
