"""Rigid motions: group axioms up to and at zero and pi, closed forms, exact gradients at zero motion."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from egoflow.geometry.se3 import (
    SE3,
    chain,
    quaternion_xyzw_from_rotation,
    rotation_angle,
    rotation_exp,
    rotation_from_euler_xyz,
    rotation_from_quaternion_xyzw,
    rotation_log,
)

D = torch.float64
ANGLES = [0.0, 1e-9, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 9.9e-3, 1.01e-2, 0.099, 0.101, 1.0, 3.0, math.pi - 1e-3,
          math.pi - 1e-6]
SEED = st.integers(0, 2**31 - 1)
ANGLE = st.one_of(st.sampled_from(ANGLES), st.floats(0, math.pi - 1e-6))


def unit(seed: int) -> torch.Tensor:
    axis = torch.randn(3, dtype=D, generator=torch.Generator().manual_seed(seed))
    return axis / axis.norm()


def twist(seed: int, angle: float) -> torch.Tensor:
    return torch.cat((5 * unit(seed + 1), angle * unit(seed)))


def matrix(motion: SE3) -> torch.Tensor:
    bottom = torch.tensor([[0.0, 0, 0, 1]], dtype=D)
    return torch.cat((torch.cat((motion.R, motion.t[:, None]), dim=1), bottom))


def generator(tangent: torch.Tensor) -> torch.Tensor:
    v, (x, y, z) = tangent[:3], tangent[3:].tolist()
    hat = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=D)
    return torch.cat((torch.cat((hat, v[:, None]), dim=1), torch.zeros(1, 4, dtype=D)))


@given(SEED, ANGLE)
@settings(max_examples=60, deadline=None)
def test_exp_is_the_matrix_exponential(seed: int, angle: float) -> None:
    tangent = twist(seed, angle)
    expected = torch.from_numpy(expm(generator(tangent).numpy()))
    assert (matrix(SE3.exp(tangent)) - expected).abs().max() < 1e-13


@given(SEED, ANGLE)
@settings(max_examples=60, deadline=None)
def test_log_undoes_exp(seed: int, angle: float) -> None:
    tangent = twist(seed, angle)
    error = SE3.exp(tangent).log() - tangent
    # Relative in the rotation: a tiny turn must not be lost.
    assert error[3:].norm() <= 1e-11 * angle + 1e-100
    assert error[:3].norm() < 1e-11


@given(SEED, ANGLE, ANGLE, ANGLE)
@settings(max_examples=60, deadline=None)
def test_group_axioms(seed: int, first: float, second: float, third: float) -> None:
    a, b, c = (SE3.exp(twist(seed + 10 * i, angle)) for i, angle in enumerate((first, second, third)))
    one = SE3.identity(dtype=D)

    def near(x: SE3, y: SE3) -> bool:
        return bool((x.R - y.R).abs().max() < 1e-13) and bool((x.t - y.t).abs().max() < 1e-12)

    assert near((a @ b) @ c, a @ (b @ c))
    assert near(a @ one, a)
    assert near(one @ a, a)
    assert near(a @ a.inverse(), one)
    assert near((a @ b).inverse(), b.inverse() @ a.inverse())
    points = torch.randn(7, 3, dtype=D)
    assert ((a @ b).apply(points) - a.apply(b.apply(points))).abs().max() < 1e-12
    assert (a.R @ a.R.T - torch.eye(3, dtype=D)).abs().max() < 1e-14
    assert abs(torch.linalg.det(a.R) - 1) < 1e-14


@given(SEED, ANGLE)
@settings(max_examples=40, deadline=None)
def test_exp_of_negative_is_the_inverse(seed: int, angle: float) -> None:
    tangent = twist(seed, angle)
    difference = SE3.exp(-tangent).t - SE3.exp(tangent).inverse().t
    assert difference.abs().max() < 1e-12


def test_where_takes_one_or_the_other() -> None:
    yes, no = (SE3.exp(torch.stack([twist(seed, 0.3) for seed in seeds])) for seeds in ((0, 1), (2, 3)))
    chosen = SE3.where(torch.tensor([True, False]), yes, no)
    for i, expected in enumerate((yes[0], no[1])):
        assert torch.equal(chosen.R[i], expected.R)
        assert torch.equal(chosen.t[i], expected.t)


@pytest.mark.parametrize("axis", range(3))
def test_log_at_exactly_pi(axis: int) -> None:
    diagonal = -torch.ones(3, dtype=D)
    diagonal[axis] = 1
    rotation = torch.diag(diagonal)
    assert abs(rotation_angle(rotation) - math.pi) < 1e-15
    assert (rotation_exp(rotation_log(rotation)) - rotation).abs().max() < 1e-15


@given(SEED, ANGLE)
@settings(max_examples=40, deadline=None)
def test_angle(seed: int, angle: float) -> None:
    assert abs(rotation_angle(rotation_exp(angle * unit(seed))) - angle) <= 1e-12 * angle + 1e-100


def test_float32_keeps_tiny_rotations() -> None:
    omega = torch.tensor([1e-7, -2e-7, 3e-7])
    assert torch.allclose(rotation_log(rotation_exp(omega)), omega, rtol=1e-5, atol=0)


def test_gradients_at_zero_motion_are_exact() -> None:
    jacobian = torch.autograd.functional.jacobian(lambda v: SE3.exp(v).R, torch.zeros(6, dtype=D))
    expected = torch.zeros(3, 3, 6, dtype=D)
    # d R / d omega_k is the cross-product matrix of axis k; d R10 / d omega_z = 1.
    for k, (i, j) in enumerate(((2, 1), (0, 2), (1, 0))):
        expected[i, j, 3 + k], expected[j, i, 3 + k] = 1, -1
    assert torch.equal(jacobian, expected)
    moved = torch.autograd.functional.jacobian(lambda v: SE3.exp(v).t, torch.zeros(6, dtype=D))
    assert torch.equal(moved, torch.cat((torch.eye(3, dtype=D), torch.zeros(3, 3, dtype=D)), dim=1))
    euler = torch.autograd.functional.jacobian(lambda v: SE3.from_translation_euler(v).R, torch.zeros(6, dtype=D))
    assert torch.equal(euler, expected)
    there_and_back = torch.autograd.functional.jacobian(lambda v: SE3.exp(v).log(), torch.zeros(6, dtype=D))
    assert torch.equal(there_and_back, torch.eye(6, dtype=D))


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-5, 1e-3, 0.00999, 0.01001, 1.0, 3.0])
def test_gradcheck_exp_and_log(angle: float) -> None:
    tangent = twist(3, angle).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: SE3.exp(v).R, (tangent,))
    assert torch.autograd.gradcheck(lambda v: SE3.exp(v).t, (tangent,))
    assert torch.autograd.gradcheck(lambda v: SE3.exp(v).log(), (tangent,), atol=1e-4)


def test_gradcheck_compositions() -> None:
    a, b = torch.randn(2, 6, dtype=D, requires_grad=True), torch.randn(2, 6, dtype=D, requires_grad=True)
    points = torch.randn(2, 3, 3, dtype=D, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda u, v, p: (SE3.exp(u) @ SE3.from_translation_euler(v).inverse()).apply(p), (a, b, points))
    assert torch.autograd.gradcheck(lambda u: quaternion_xyzw_from_rotation(rotation_exp(u[:, 3:])), (a,))
    assert torch.autograd.gradcheck(lambda u: rotation_from_quaternion_xyzw(u[:, :4]), (a,))
    assert torch.autograd.gradcheck(lambda u: rotation_angle(rotation_exp(u[:, 3:])), (a,))


def test_euler_against_closed_form() -> None:
    a, b, c = 0.3, -0.7, 1.1
    cos, sin = math.cos, math.sin
    about_x = torch.tensor([[1, 0, 0], [0, cos(a), -sin(a)], [0, sin(a), cos(a)]], dtype=D)
    about_y = torch.tensor([[cos(b), 0, sin(b)], [0, 1, 0], [-sin(b), 0, cos(b)]], dtype=D)
    about_z = torch.tensor([[cos(c), -sin(c), 0], [sin(c), cos(c), 0], [0, 0, 1]], dtype=D)
    rotation = rotation_from_euler_xyz(torch.tensor([a, b, c], dtype=D))
    assert (rotation - about_x @ about_y @ about_z).abs().max() < 1e-15
    motion = SE3.from_translation_euler(torch.tensor([1.0, 2, 3, a, b, c], dtype=D))
    assert torch.equal(motion.t, torch.tensor([1.0, 2, 3], dtype=D))
    assert torch.equal(motion.R, rotation)


def test_quaternion_against_closed_form() -> None:
    axis = torch.tensor([2.0, -1, 2], dtype=D) / 3
    for angle in (1e-9, 0.5, 2.0, math.pi - 1e-9):
        expected = torch.cat((axis * math.sin(angle / 2), torch.tensor([math.cos(angle / 2)], dtype=D)))
        rotation = rotation_exp(axis * angle)
        assert (quaternion_xyzw_from_rotation(rotation) - expected).abs().max() < 1e-15
        assert (rotation_from_quaternion_xyzw(-3 * expected) - rotation).abs().max() < 1e-15
    quarter = rotation_from_quaternion_xyzw(torch.tensor([0, 0, 1.0, 1.0], dtype=D))
    assert torch.allclose(quarter, torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=D), atol=1e-15)


@given(SEED)
@settings(max_examples=40, deadline=None)
def test_quaternion_round_trip_in_every_branch(seed: int) -> None:
    quaternion = torch.randn(64, 4, dtype=D, generator=torch.Generator().manual_seed(seed))
    quaternion = quaternion / quaternion.norm(dim=1, keepdim=True)
    back = quaternion_xyzw_from_rotation(rotation_from_quaternion_xyzw(quaternion))
    assert (back[:, 3] >= 0).all()
    assert (1 - (back * quaternion).sum(1).abs()).max() < 1e-14


def test_points_broadcast_over_motions() -> None:
    motions = SE3.exp(torch.randn(4, 6, dtype=D))
    # One cloud seen from four cameras: the points' leading 1 is a batch, whatever their number.
    cloud = torch.randn(1, 8, 3, dtype=D)
    moved = motions.apply(cloud)
    assert moved.shape == (4, 8, 3)
    for i in range(4):
        assert torch.allclose(moved[i], cloud[0] @ motions.R[i].T + motions.t[i], atol=1e-14)
    grid = torch.randn(4, 2, 5, 3, dtype=D)
    assert torch.allclose(motions.apply(grid)[2, 1, 3], motions.R[2] @ grid[2, 1, 3] + motions.t[2], atol=1e-14)
    one = SE3.exp(torch.randn(6, dtype=D))
    assert torch.allclose(one.apply(grid)[2, 1, 3], one.R @ grid[2, 1, 3] + one.t, atol=1e-14)
    assert motions.apply(torch.zeros(4, 0, 3, dtype=D)).shape == (4, 0, 3)


def test_autocast_does_not_round_motions() -> None:
    tangent = torch.randn(3, 6)
    points = 30 * torch.randn(3, 5, 3)
    expected = (SE3.exp(tangent) @ SE3.from_translation_euler(tangent).inverse()).apply(points)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = (SE3.exp(tangent) @ SE3.from_translation_euler(tangent).inverse()).apply(points)
    assert torch.equal(found, expected)


def test_chain_of_steps() -> None:
    steps = SE3.exp(torch.randn(3, 6, dtype=D))
    path = chain(steps)
    assert torch.equal(path.R[0], torch.eye(3, dtype=D))
    # Going from frame 1 to frame 3 by the path is the product of steps 1 and 2.
    between = path[1].inverse() @ path[3]
    expected = steps[1] @ steps[2]
    assert (between.R - expected.R).abs().max() < 1e-14
    assert (between.t - expected.t).abs().max() < 1e-13


def test_index_stack_cat_scaled_detach() -> None:
    a, b = SE3.exp(torch.randn(2, 6, requires_grad=True)), SE3.exp(torch.randn(2, 6))
    assert torch.equal(SE3.stack([a, b])[1].t, b.t)
    assert torch.equal(SE3.cat([a, b]).R[2], b.R[0])
    assert torch.equal(a.scaled(2.0).t, 2 * a.t)
    assert torch.equal(a.scaled(torch.tensor([2.0, 3.0])).t[1], 3 * a.t[1])
    assert not a.detach().t.requires_grad
    assert a.to(torch.float64).R.dtype == torch.float64
