"""Motion solved from depth and flow: rendered truth, movers, what has no direction, and gradients of the solution."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from egoflow.geometry.camera import Camera
from egoflow.geometry.flow import rigid_flow
from egoflow.geometry.motion_cost import Residuals, gradient, hessian, matches_of, normal_matrix
from egoflow.geometry.se3 import SE3, rotation_angle, rotation_exp
from egoflow.geometry.solved_motion import MIN_PIXELS, SolvedMotion, solve_motion
from egoflow.geometry.two_view import pair_geometry
from egoflow.methods.start import scaled_motion
from egoflow.types import TwoView
from egoflow.worlds.base import World, load_world
from egoflow.worlds.truth import PairTruth

PAIRS = [(3, 0, 1), (3, 8, 10), (4, 5, 6)]
"""Seed of the drive and frames: steps of one and of two frames."""


@cache
def drive(seed: int, movers: int = 0) -> World:
    world = load_world("drive", seed=seed, frames=12, height=96, width=288, movers=movers)
    assert isinstance(world, World)
    return world


@cache
def pair(seed: int, a: int, b: int, movers: int = 0) -> tuple[PairTruth, Tensor, SE3]:
    """Return the truth of a pair, its usable pixels and its motion [1]."""
    truth = drive(seed, movers).pair_truth(a, b)
    motion = SE3(truth.b_from_a.R.reshape(1, 3, 3), truth.b_from_a.t.reshape(1, 3))
    return truth, truth.visible_ab & truth.valid_depth_a, motion


def solved(truth: PairTruth, use: Tensor, start: SE3 | None = None) -> SolvedMotion:
    return solve_motion(truth.depth_a, truth.flow_ab, weight=use, camera=truth.camera, start=start or SE3.identity(1))


def errors_deg(found: SE3, true: SE3) -> tuple[float, float]:
    """Return the angles between two rotations and between two directions, in float64."""
    turn = torch.rad2deg(rotation_angle(found.R.double() @ true.R.double().mT))
    d, t = found.t.double(), true.t.double()
    aside = torch.atan2(torch.linalg.cross(d, t).norm(dim=-1), (d * t).sum(-1))
    return float(turn), float(torch.rad2deg(aside))


@pytest.mark.parametrize(("seed", "a", "b"), PAIRS)
def test_true_depth_and_flow_give_the_true_motion(seed: int, a: int, b: int) -> None:
    """Check 1; measured in float32: 3e-6 and 3e-5 degrees, 1e-6 of the length."""
    truth, use, motion = pair(seed, a, b)
    found = solved(truth, use)
    turn, aside = errors_deg(found.b_from_a, motion)
    assert turn < 1e-4
    assert aside < 1e-2
    assert float((found.b_from_a.t - motion.t).abs().max()) < 1e-5
    assert float((found.b_from_a.R - motion.R).abs().max()) < 1e-5
    assert found.reasons == ("",)
    assert not found.degenerate.any()
    assert float(found.inlier_share) == 1


@pytest.mark.parametrize("omega", [(0.0, 0.0, 0.0), (0.02, -0.025, 0.015), (-0.03, 0.01, 0.02)])
def test_far_starts_come_to_the_same(omega: tuple[float, float, float]) -> None:
    """Two degrees are 6 px here: without the falling scale every pixel would be an outlier."""
    truth, use, motion = pair(3, 8, 10)
    flow = truth.flow_ab + 0.3 * torch.randn_like(truth.flow_ab)
    off = SE3(rotation_exp(torch.tensor([omega])), torch.zeros(1, 3))
    best, *others = (solve_motion(truth.depth_a, flow, weight=use, camera=truth.camera, start=start).b_from_a
                     for start in (motion, off, off @ motion))
    for found in others:
        assert float((found.R - best.R).abs().max()) < 1e-6
        assert float((found.t - best.t).abs().max()) < 1e-5


@pytest.mark.parametrize("factor", [1e-3, 0.3, 250.0])
def test_a_common_scale_of_depth_changes_the_length_alone(factor: float) -> None:
    """Check 2, with movers and noise, so that the damping and the refusals count."""
    truth, use, _ = pair(4, 5, 6, 4)
    flow = truth.flow_ab + 0.3 * torch.randn_like(truth.flow_ab)
    one, other = (solve_motion(depth, flow, weight=use, camera=truth.camera, start=SE3.identity(1))
                  for depth in (truth.depth_a, factor * truth.depth_a))
    assert torch.allclose(other.b_from_a.R, one.b_from_a.R, atol=1e-6)
    assert torch.allclose(other.b_from_a.t, factor * one.b_from_a.t, rtol=1e-4)
    assert other.reasons == one.reasons == ("",)


def with_foreign_window(truth: PairTruth, use: Tensor, motion: SE3) -> tuple[Tensor, Tensor]:
    """Return the flow with something moving on 30 % of the used pixels, and which they are."""
    own = SE3(motion.R, motion.t + torch.tensor([[0.6, 0.05, 0.3]]))
    moved, _ = rigid_flow(truth.depth_a, truth.camera, own)
    window = torch.zeros_like(use)
    window[..., 30:80, 60:190] = True
    right = 189
    while int((window & use).sum()) > 0.3 * int(use.sum()):
        window[..., right], right = False, right - 1
    return torch.where(window, moved, truth.flow_ab), window


@pytest.mark.parametrize("start", ["identity", "truth"])
@pytest.mark.parametrize(("seed", "a", "b"), PAIRS)
def test_movers_on_a_third_of_the_picture(seed: int, a: int, b: int, start: str) -> None:
    """Check 3: rotation within .05 degrees, and what the motion does not explain are the movers."""
    truth, use, motion = pair(seed, a, b)
    flow, window = with_foreign_window(truth, use, motion)
    first = motion if start == "truth" else SE3.identity(1)
    found = solve_motion(truth.depth_a, flow, weight=use, camera=truth.camera, start=first)
    assert errors_deg(found.b_from_a, motion)[0] < 0.05
    assert 0.65 < float(found.inlier_share) < 0.85
    assert overlap(truth, flow, found.b_from_a, window & use, use) > 0.8


def overlap(truth: PairTruth, flow: Tensor, b_from_a: SE3, movers: Tensor, use: Tensor) -> float:
    """Return the IoU of movers with the used pixels that are left over by more than 1 px."""
    left = (rigid_flow(truth.depth_a, truth.camera, b_from_a)[0] - flow).norm(dim=1, keepdim=True)
    residual = (left > 1) & use
    return float((residual & movers).sum() / (residual | movers).sum())


@pytest.mark.parametrize(("seed", "a"), [(4, 5), (5, 3)])
def test_moving_cars_of_a_drive(seed: int, a: int) -> None:
    """Measured: .0015 and .0021 degrees."""
    truth, use, motion = pair(seed, a, a + 1, 4)
    movers = ~truth.static_a & use
    assert float(movers.sum() / use.sum()) > 0.05
    found = solved(truth, use)
    assert errors_deg(found.b_from_a, motion)[0] < 0.01
    assert overlap(truth, truth.flow_ab, found.b_from_a, movers, use) > 0.8


@pytest.mark.parametrize("noise_px", [0.0, 0.3])
@pytest.mark.parametrize(("omega", "reason"), [
    ((0.0, 0.0, 0.0), "no motion"), ((0.0, 0.01, 0.0), "pure rotation"), ((0.005, -0.03, 0.01), "pure rotation")])
def test_what_has_no_direction_is_flagged(omega: tuple[float, float, float], reason: str, noise_px: float) -> None:
    """Check 4: no translation comes back, and the rotation does."""
    truth, _, _ = pair(3, 0, 1)
    turned = SE3(rotation_exp(torch.tensor([omega])), torch.zeros(1, 3))
    flow, in_front = rigid_flow(truth.depth_a, truth.camera, turned)
    if omega == (0, 0, 0):
        noise_px = noise_px / 10  # Three tenths of a pixel of noise are not "no flow".
    found = solve_motion(truth.depth_a, flow + noise_px * torch.randn_like(flow), weight=in_front, camera=truth.camera,
                         start=SE3.exp(torch.tensor([[0.0, 0, -0.1, 0, 0, 0]])))
    assert found.degenerate.all()
    assert reason in found.reasons[0]
    assert not found.b_from_a.t.any()
    assert float(torch.rad2deg(rotation_angle(found.b_from_a.R @ turned.R.mT))) < 0.02


def test_frames_that_do_not_move_are_flagged_with_the_classical_flow_too() -> None:
    world, (truth, _, _) = drive(3), pair(3, 0, 1)
    noise = np.random.default_rng(0).normal(0, 4, world.image(0).shape)
    still = np.clip(world.image(0) + noise, 0, 255).astype(np.uint8)
    classical, _ = pair_geometry(world.image(0), still, world.camera)
    found = solve_motion(truth.depth_a, torch.from_numpy(classical.flow_ab).permute(2, 0, 1)[None],
                         weight=torch.from_numpy(classical.usable)[None, None] & truth.valid_depth_a,
                         camera=world.camera, start=SE3.identity(1))
    assert found.degenerate.all()
    assert not found.b_from_a.t.any()


def test_a_narrow_view_of_a_wall_does_not_tell_a_shift_from_a_turn() -> None:
    """Of a step of 0.5 sideways, a flow of 75 px, a rotation imitates all but 0.01 px."""
    camera = Camera.create(1500, 1500, 31.5, 23.5, height=48, width=64)
    depth = torch.full((1, 1, 48, 64), 10.0)
    motion = SE3(torch.eye(3)[None], torch.tensor([[0.0, 0.0, -0.5]]))
    flow, _ = rigid_flow(depth, camera, motion)
    assert float(flow.norm(dim=1).mean()) > 1
    found = solve_motion(depth, flow, weight=torch.ones_like(depth), camera=camera, start=SE3.identity(1))
    assert "ill-conditioned" in found.reasons[0]
    assert not found.b_from_a.t.any()


def test_too_few_pixels_are_flagged_and_keep_the_starts_rotation() -> None:
    truth, use, motion = pair(3, 0, 1)
    few = use & (use.flatten().cumsum(0) < MIN_PIXELS).view_as(use)
    for weight in (few, torch.zeros_like(few)):
        found = solve_motion(truth.depth_a, truth.flow_ab, weight=weight, camera=truth.camera, start=motion, most=10**6)
        assert found.reasons == ("too few usable pixels",)
        assert torch.equal(found.b_from_a.R, motion.R)
        assert not found.b_from_a.t.any()
        assert bool(found.normal.isfinite().all())


@pytest.mark.parametrize("noise_px", [0.0, 0.3])
@pytest.mark.parametrize(("seed", "a", "b"), PAIRS)
def test_the_length_agrees_with_the_one_solved_alone(seed: int, a: int, b: int, noise_px: float) -> None:
    """Check 5, with the true rotation and direction for the one-dimensional solution."""
    truth, use, motion = pair(seed, a, b)
    length = motion.t.norm(dim=-1)
    flow = truth.flow_ab + noise_px * torch.randn_like(truth.flow_ab)
    view = TwoView(flow_ab=flow, usable=use, b_from_a=motion.scaled(1 / length), weight=torch.ones(1))
    alone = scaled_motion(truth.depth_a, truth.camera, view).t.norm(dim=-1)
    whole = solve_motion(truth.depth_a, flow, weight=use, camera=truth.camera, start=SE3.identity(1)).b_from_a.t.norm()
    assert float(whole / alone) == pytest.approx(1, abs=0.01)


def small_camera() -> Camera:
    return Camera.create(40, 45, 11.2, 7.3, height=16, width=24).to(torch.float64)


def small_scene() -> tuple[dict[str, Tensor], SE3]:
    """Return depth, noisy flow with a block of outliers, weights and focal length in float64, and the true motion."""
    depth = torch.rand(1, 1, 16, 24, dtype=torch.float64) * 20 + 4
    motion = SE3.exp(torch.tensor([[0.3, 0, -1, 0.02, 0.03, -0.01]], dtype=torch.float64))
    flow, _ = rigid_flow(depth, small_camera(), motion)
    flow = flow + 0.4 * torch.randn_like(flow)
    flow[:, :, 3:7, 4:12] += 3
    return {"depth": depth, "flow": flow, "weight": torch.rand_like(depth), "fx": small_camera().fx}, motion


def figure(inputs: dict[str, Tensor], start: SE3, weights: Tensor, steps: int = 50) -> Tensor:
    """Return a scalar of all twelve numbers of the solution."""
    camera = Camera(fx=inputs["fx"], fy=small_camera().fy, cx=small_camera().cx, cy=small_camera().cy, height=16,
                    width=24)
    found = solve_motion(inputs["depth"], inputs["flow"], weight=inputs["weight"], camera=camera, start=start,
                         steps=steps)
    assert not found.degenerate.any()
    return (torch.cat((found.b_from_a.R.flatten(1), found.b_from_a.t), dim=-1) * weights).sum()


@pytest.mark.parametrize("name", ["depth", "flow", "weight", "fx"])
def test_the_implicit_gradient_is_that_of_finite_differences(name: str) -> None:
    """Check 6 asks for 1e-3 in float64; measured: 1e-7."""
    inputs, motion = small_scene()
    weights = torch.randn(1, 12, dtype=torch.float64)
    live = inputs | {name: inputs[name].clone().requires_grad_()}
    figure(live, motion, weights).backward()
    found = live[name].grad
    assert found is not None
    for _ in range(3):
        change = 0.1 * torch.randn_like(inputs[name])
        ahead, behind = (float(figure(inputs | {name: inputs[name] + sign * 1e-4 * change}, motion, weights))
                         for sign in (1, -1))
        assert float((found * change).sum()) == pytest.approx((ahead - behind) / 2e-4, rel=1e-5)


def test_ten_steps_give_the_gradient_of_the_minimum() -> None:
    inputs, motion = small_scene()
    weights = torch.randn(1, 12, dtype=torch.float64)
    gradients = []
    for steps in (10, 50):
        live = inputs | {"flow": inputs["flow"].clone().requires_grad_()}
        figure(live, motion, weights, steps).backward()
        gradients.append(live["flow"].grad)
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-3, atol=1e-3 * float(gradients[1].abs().max()))


def test_a_flat_cost_takes_the_gauss_newton_matrix() -> None:
    """Away from the minimum the cost bends downwards, and a step by its Hessian would lead uphill."""
    inputs, motion = small_scene()
    away = SE3.exp(torch.tensor([[0.0, 0, 0, 0.03, 0.0, 0.0]], dtype=torch.float64)) @ motion
    live = inputs | {"flow": inputs["flow"].clone().requires_grad_()}
    weights = torch.zeros(1, 12, dtype=torch.float64)
    weights[:, 9:] = 1
    figure(live, away, weights, steps=0).backward()
    flow = inputs["flow"].clone().requires_grad_()
    matches = matches_of(inputs["depth"], flow, weight=inputs["weight"], camera=small_camera(), most=5000)
    residuals, one = Residuals.of(matches, away), torch.ones(1, dtype=torch.float64)
    assert float(torch.linalg.eigvalsh(hessian(residuals, one).detach())[0, 0]) < 0
    step = -torch.linalg.solve(normal_matrix(residuals, residuals.influence(one)).detach(),
                               gradient(residuals, residuals.influence(one)))
    (expected,) = torch.autograd.grad((SE3.exp(step - step.detach()) @ away).t.sum(), flow)
    assert live["flow"].grad is not None
    assert torch.allclose(live["flow"].grad, expected, rtol=1e-6, atol=1e-12)


def test_nothing_is_read_where_there_is_no_weight() -> None:
    truth, use, _ = pair(3, 0, 1)
    hole = torch.tensor(torch.nan)
    results = []
    for depth, flow in ((truth.depth_a, truth.flow_ab),
                        (torch.where(use, truth.depth_a, hole), torch.where(use, truth.flow_ab, hole))):
        depth, flow = depth.clone().requires_grad_(), flow.clone().requires_grad_()
        found = solve_motion(depth, flow, weight=use, camera=truth.camera, start=SE3.identity(1))
        (found.b_from_a.t.sum() + found.b_from_a.R.sum()).backward()
        results.append((found.b_from_a.R, found.b_from_a.t, found.inlier_share, found.normal, depth.grad, flow.grad))
    for clean, poisoned in zip(*results, strict=True):
        assert clean is not None
        assert poisoned is not None
        assert torch.equal(clean, poisoned)


def test_a_batch_is_its_pairs_one_by_one() -> None:
    """Good pairs, a far start, a pure rotation and an empty mask do not touch each other."""
    rows = [(*pair(*p)[:2], SE3.identity(1)) for p in PAIRS]
    depth = torch.cat([truth.depth_a for truth, _, _ in rows] * 2).double()
    flow = torch.cat([truth.flow_ab for truth, _, _ in rows] * 2).double()
    use = torch.cat([use for _, use, _ in rows] * 2)
    turn = SE3(rotation_exp(torch.tensor([[0.0, 0.02, 0.0]], dtype=torch.float64)), torch.zeros(1, 3).double())
    start = SE3.cat([SE3.identity(5, dtype=torch.float64), turn])
    camera = rows[0][0].camera.repeated(6)
    flow[3] = rigid_flow(depth[3:4], camera[3:4], turn)[0][0]
    use[4] = False
    batch = solve_motion(depth, flow, weight=use, camera=camera, start=start)
    assert batch.degenerate.tolist() == [False, False, False, True, True, False]
    for i in range(6):
        part = slice(i, i + 1)
        one = solve_motion(depth[part], flow[part], weight=use[part], camera=camera[part], start=start[part])
        assert torch.allclose(one.b_from_a.R, batch.b_from_a.R[part], atol=1e-9)
        assert torch.allclose(one.b_from_a.t, batch.b_from_a.t[part], atol=1e-9)
        assert torch.allclose(one.normal, batch.normal[part])
        assert one.reasons == batch.reasons[part]
        assert torch.equal(one.inlier_share, batch.inlier_share[part])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 70), (9, 7), (16, 24)])
@pytest.mark.parametrize("kind", ["noise", "zero", "empty", "behind", "far"])
def test_never_nan(height: int, width: int, kind: str) -> None:
    camera = Camera.create(30, 30, (width - 1) / 2, (height - 1) / 2, height=height, width=width).repeated(2)
    depth = (torch.rand(2, 1, height, width) + (1e6 if kind == "far" else 1)).requires_grad_()
    flow = (torch.randn(2, 2, height, width) * (0 if kind == "zero" else 20)).requires_grad_()
    weight = torch.full((2, 1, height, width), 0.0 if kind == "empty" else 1.0, requires_grad=True)
    start = SE3.exp(torch.tensor([[0.0, 0, -100 if kind == "behind" else 0, 0, 0, 0]] * 2))
    found = solve_motion(depth, flow, weight=weight, camera=camera, start=start)
    (found.b_from_a.R.sum() + found.b_from_a.t.sum()).backward()
    for value in (found.b_from_a.R, found.b_from_a.t, found.inlier_share, found.normal, depth.grad, flow.grad,
                  weight.grad):
        assert value is None or bool(value.isfinite().all())
    if kind in ("zero", "empty", "behind") or height * width < MIN_PIXELS:
        assert found.degenerate.all()
        assert not found.b_from_a.t.any()


def test_half_precision_around_it_changes_nothing() -> None:
    truth, use, _ = pair(3, 0, 1)
    plain = solved(truth, use)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = solved(truth, use)
    assert torch.equal(plain.b_from_a.R, inside.b_from_a.R)
    assert torch.equal(plain.b_from_a.t, inside.b_from_a.t)


@pytest.mark.parametrize("seed", [17, 75, 98])
def test_a_step_that_makes_it_worse_is_refused(seed: int) -> None:
    """Points so near that plain Gauss-Newton overshoots: taking every step ends at 1.25 to 1.56 times the cost."""
    torch.manual_seed(seed)
    camera, one = Camera.create(20, 20, 11.5, 7.5, height=16, width=24), torch.ones(1)
    depth = torch.exp(torch.rand(1, 1, 16, 24) * 6 - 3)
    motion = SE3.exp(torch.randn(1, 6) * torch.tensor([0.05] * 3 + [0.1] * 3))
    flow, in_front = rigid_flow(depth, camera, motion)
    flow = flow + 0.5 * torch.randn_like(flow)
    start = SE3.exp(torch.randn(1, 6) * torch.tensor([0.05] * 3 + [0.3] * 3))
    matches = matches_of(depth, flow, weight=in_front, camera=camera, most=5000)
    from_far, from_near = (float(Residuals.of(matches, solve_motion(
        depth, flow, weight=in_front, camera=camera, start=first).b_from_a).cost(one)) for first in (start, motion))
    assert from_far < 1.1 * from_near
