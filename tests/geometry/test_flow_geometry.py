"""Flows from geometry: closed forms, warps, splats and the return trip."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from egoflow.geometry.camera import Camera
from egoflow.geometry.flow import (
    backward_warp,
    flow_from_pixels,
    forward_backward_error,
    forward_splat,
    pixels_from_flow,
    reproject,
    rigid_flow,
    scene_flow,
)
from egoflow.geometry.pixels import pixel_grid
from egoflow.geometry.se3 import SE3, rotation_exp

D = torch.float64


def camera(height: int = 12, width: int = 16, focal: float = 20.0) -> Camera:
    fx, fy, cx, cy = (torch.tensor([v], dtype=D) for v in (focal, focal + 1, width / 2, height / 2))
    return Camera(fx=fx, fy=fy, cx=cx, cy=cy, height=height, width=width)


def motion(*tangent: float) -> SE3:
    return SE3.exp(torch.tensor([tangent], dtype=D))


def test_no_motion_is_no_flow() -> None:
    depth = torch.rand(1, 1, 12, 16, dtype=D) * 9 + 1
    flow, in_front = rigid_flow(depth, camera(), SE3.identity(1, dtype=D))
    assert flow.abs().max() < 1e-13
    assert in_front.all()


def test_no_motion_keeps_every_border_pixel_at_4k() -> None:
    cam = Camera.create(3000, 3000, 1919.3, 1.2, height=3, width=3840)
    depth = torch.rand(1, 1, 3, 3840) * 50 + 1
    flow, _ = rigid_flow(depth, cam, SE3.identity(1))
    _, inside = backward_warp(depth, flow)
    assert inside.all()


def test_sideways_motion_is_disparity() -> None:
    # A camera that moves right by B sees points move left by f B / Z.
    depth = torch.full((1, 1, 12, 16), 4.0, dtype=D)
    flow, _ = rigid_flow(depth, camera(), motion(-0.5, 0, 0, 0, 0, 0))
    assert (flow[:, 0] + 20 * 0.5 / 4).abs().max() < 1e-12
    assert flow[:, 1].abs().max() < 1e-12


def test_forward_motion_expands_from_the_principal_point() -> None:
    # Z' = Z - d: x' - cx = (x - cx) Z / (Z - d).
    cam = camera()
    flow, _ = rigid_flow(torch.full((1, 1, 12, 16), 4.0, dtype=D), cam, motion(0, 0, -1, 0, 0, 0))
    centred = pixel_grid(12, 16, dtype=D) - torch.tensor([8.0, 6.0], dtype=D)
    assert (flow[0].permute(1, 2, 0) - centred * (4 / 3 - 1)).abs().max() < 1e-12


def test_pure_rotation_does_not_depend_on_depth() -> None:
    # sfmlearner.md section 10, check 2.
    turn = motion(0, 0, 0, 0.02, -0.05, 0.03)
    near, far = (rigid_flow(torch.full((1, 1, 12, 16), z, dtype=D), camera(), turn)[0] for z in (1.0, 100.0))
    varied, _ = rigid_flow(torch.rand(1, 1, 12, 16, dtype=D) * 99 + 1, camera(), turn)
    assert (near - far).abs().max() < 1e-12
    assert (near - varied).abs().max() < 1e-12
    assert near.abs().max() > 1
    single = [rigid_flow(torch.full((1, 1, 12, 16), z), camera().to(torch.float32), turn.to(torch.float32))[0]
              for z in (1.0, 100.0)]
    assert (single[0] - single[1]).abs().max() < 1e-4


def test_rotation_about_the_axis_turns_the_image() -> None:
    cam = Camera(**{k: torch.tensor([v], dtype=D) for k, v in (("fx", 9.0), ("fy", 9.0), ("cx", 2.0), ("cy", 2.0))},
                 height=5, width=5)
    xy, _, _ = reproject(torch.ones(1, 1, 5, 5, dtype=D), cam, motion(0, 0, 0, 0, 0, math.pi / 2))
    # A quarter turn takes +x (right) to +y (down).
    assert torch.allclose(xy[0, 2, 3], torch.tensor([2.0, 3.0], dtype=D))


def test_points_behind_the_other_camera_are_flagged() -> None:
    depth = torch.full((1, 1, 12, 16), 4.0, dtype=D)
    depth[..., :3] = 8.0
    flow, in_front = rigid_flow(depth, camera(), motion(0, 0, -5, 0, 0, 0))
    assert torch.equal(in_front[0, 0], depth[0, 0] > 5)
    assert torch.isfinite(flow).all()


def test_reproject_gives_the_depth_in_the_other_frame() -> None:
    depth = torch.rand(1, 1, 12, 16, dtype=D) + 3
    b_from_a = motion(0.1, -0.2, 0.3, 0.05, -0.02, 0.1)
    xy, depth_in_b, _ = reproject(depth, camera(), b_from_a)
    x, y = 5, 7
    ray = torch.tensor([(x - 8) / 20, (y - 6) / 21, 1], dtype=D)
    point = b_from_a.R[0] @ (ray * depth[0, 0, y, x]) + b_from_a.t[0]
    assert abs(depth_in_b[0, 0, y, x] - point[2]) < 1e-12
    expected = torch.stack((20 * point[0] / point[2] + 8, 21 * point[1] / point[2] + 6))
    assert (xy[0, y, x] - expected).abs().max() < 1e-12


def test_reproject_is_exact_under_autocast() -> None:
    depth = torch.rand(1, 1, 12, 16) + 3
    cam, b_from_a = camera().to(torch.float32), motion(0.1, -0.2, 0.3, 0.05, -0.02, 0.1).to(torch.float32)
    expected = reproject(depth, cam, b_from_a)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(reproject(depth, cam, b_from_a)[0], expected)


def test_pixels_and_flow_are_inverse() -> None:
    flow = torch.randn(2, 2, 5, 7, dtype=D)
    assert (flow_from_pixels(pixels_from_flow(flow)) - flow).abs().max() < 1e-13


def test_warp_shifts_by_whole_pixels() -> None:
    image = torch.rand(1, 3, 6, 8, dtype=D)
    flow = torch.tensor([2.0, -1.0], dtype=D).view(1, 2, 1, 1).expand(1, 2, 6, 8)
    warped, inside = backward_warp(image, flow)
    assert (warped[..., 1:, :6] - image[..., :5, 2:]).abs().max() < 1e-13
    expected = torch.zeros(6, 8, dtype=torch.bool)
    expected[1:, :6] = True
    assert torch.equal(inside[0, 0], expected)


def plane_image(xy: torch.Tensor) -> torch.Tensor:
    x, y = xy[..., 0], xy[..., 1]
    channels = (torch.sin(3 * x) * torch.cos(2 * y), torch.sin(2.1 * x + y), torch.cos(x - 2.7 * y))
    return 0.5 + 0.5 * torch.stack(channels, dim=1)


def view_of_plane(cam: Camera, cam_from_world: SE3) -> tuple[torch.Tensor, torch.Tensor]:
    """Render the textured plane z = 4 + 0.2 x of the world in closed form: image and depth."""
    world_from_cam = cam_from_world.inverse()
    rays = cam.rays(dtype=D) @ world_from_cam.R.mT[:, None]
    origin, normal = world_from_cam.t[0], torch.tensor([-0.2, 0, 1.0], dtype=D)
    depth = (4 - origin @ normal) / (rays @ normal)
    points = origin + rays * depth[..., None]
    return plane_image(points[..., :2]), depth[:, None]


def test_warping_a_textured_plane_with_the_truth() -> None:
    # sfmlearner.md section 10, checks 1 and 3: its textures differ, the ratios hold.
    cam = camera(48, 64, 60.0)
    b_from_a = motion(0.15, -0.05, -0.2, 0.01, 0.02, -0.01)
    image_a, depth_a = view_of_plane(cam, SE3.identity(1, dtype=D))
    image_b, _ = view_of_plane(cam, b_from_a)

    def error(factor: float) -> float:
        flow, in_front = rigid_flow(depth_a * factor, cam, b_from_a)
        warped, inside = backward_warp(image_b, flow)
        return (warped - image_a).abs().mean(1, keepdim=True)[inside & in_front].mean().item()

    unwarped = (image_b - image_a).abs().mean().item()
    assert error(1.0) < 0.02 * unwarped
    errors = [error(f) for f in (0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25)]
    assert errors[:4] == sorted(errors[:4], reverse=True)
    assert errors[3:] == sorted(errors[3:])


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=25, deadline=None)
def test_splat_conserves_mass_and_inverts_shifts(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    value = torch.rand(2, 3, 9, 11, dtype=D, generator=rng)
    flow = torch.randn(2, 2, 9, 11, dtype=D, generator=rng)
    # Ends inside the image: nothing may be lost.
    end = pixels_from_flow(flow)
    flow = flow_from_pixels(torch.stack((end[..., 0].clamp(0, 10), end[..., 1].clamp(0, 8)), dim=-1))
    mean, weight = forward_splat(value, flow)
    assert torch.allclose(weight.sum((2, 3)), torch.full((2, 1), 99.0, dtype=D))
    assert torch.allclose((mean * weight).sum((2, 3)), value.sum((2, 3)), atol=1e-4)


def test_splat_of_closed_forms() -> None:
    value = torch.rand(1, 1, 4, 6, dtype=D)
    mean, weight = forward_splat(value, torch.zeros(1, 2, 4, 6, dtype=D))
    assert torch.equal(weight, torch.ones_like(weight))
    assert torch.equal(mean, value)
    right = torch.tensor([3.0, 0], dtype=D).view(1, 2, 1, 1).expand(1, 2, 4, 6)
    mean, weight = forward_splat(value, right)
    assert torch.equal(weight[..., :3], torch.zeros(1, 1, 4, 3, dtype=D))
    assert torch.equal(mean[..., 3:], value[..., :3])
    half = torch.tensor([0.5, 0], dtype=D).view(1, 2, 1, 1).expand(1, 2, 4, 6)
    _, weight = forward_splat(value, half)
    assert weight[0, 0, 0].tolist() == [0.5, 1, 1, 1, 1, 1]


def test_splat_drops_what_leaves_or_is_not_finite() -> None:
    value = torch.ones(1, 1, 3, 3, dtype=D)
    flow = torch.zeros(1, 2, 3, 3, dtype=D)
    flow[0, 0, 0] = torch.tensor([torch.nan, torch.inf, -50.0])
    flow[0, 1, 1, 1] = 1e12
    flow.requires_grad_()
    mean, weight = forward_splat(value, flow)
    assert weight.sum() == 5
    assert torch.isfinite(mean).all()


def test_scene_flow_of_a_static_scene_is_zero_and_of_a_mover_its_motion() -> None:
    cam, b_from_a = camera(48, 64, 60.0), motion(0.15, -0.05, -0.2, 0.01, 0.02, -0.01)
    _, depth_a = view_of_plane(cam, SE3.identity(1, dtype=D))
    _, depth_b = view_of_plane(cam, b_from_a)
    flow, _ = rigid_flow(depth_a, cam, b_from_a)
    moved, valid = scene_flow(depth_a, depth_b, flow, cam, b_from_a)
    assert valid.float().mean() > 0.7
    assert moved.abs().amax(1, keepdim=True)[valid].max() < 1e-3
    # A wall that comes 1 nearer while the camera stands still.
    wall = torch.full((1, 1, 12, 16), 5.0, dtype=D)
    come, _ = rigid_flow(wall, camera(), motion(0, 0, -1, 0, 0, 0))
    moved, valid = scene_flow(wall, wall - 1, come, camera(), SE3.identity(1, dtype=D))
    expected = torch.tensor([0.0, 0, -1], dtype=D).view(1, 3, 1, 1).expand_as(moved)
    assert ((moved - expected).abs().amax(1, keepdim=True)[valid] < 1e-12).all()


def test_scene_flow_does_not_vouch_for_missing_depth() -> None:
    wall = torch.full((1, 1, 12, 16), 5.0, dtype=D)
    hole_a, hole_b = wall.clone(), wall.clone()
    hole_a[..., 2, 3], hole_b[..., 5, 6] = torch.nan, 0.0
    zero = torch.zeros(1, 2, 12, 16, dtype=D)
    _, valid = scene_flow(hole_a, hole_b, zero, camera(), SE3.identity(1, dtype=D))
    assert not valid[0, 0, 2, 3]
    assert not valid[0, 0, 5, 6]
    assert valid.sum() == 12 * 16 - 2


def test_forward_backward_error_of_an_exact_pair_is_zero() -> None:
    shift = torch.tensor([2.0, 1.0], dtype=D).view(1, 2, 1, 1).expand(1, 2, 8, 9)
    error, size, inside = forward_backward_error(shift, -shift)
    assert error[inside].max() < 1e-12
    assert torch.allclose(size, torch.full_like(size, 10.0))
    assert inside.sum() == 7 * 7
    error, _, _ = forward_backward_error(shift, torch.zeros_like(shift))
    assert torch.allclose(error, torch.full_like(error, 5.0))


@pytest.mark.parametrize("scale", [0.0, 0.1])
def test_gradcheck_rigid_flow(scale: float) -> None:
    depth = (torch.rand(2, 1, 3, 4, dtype=D) + 2).requires_grad_()
    tangent = (scale * torch.randn(2, 6, dtype=D)).requires_grad_()
    cam = camera(3, 4).repeated(2)
    assert torch.autograd.gradcheck(lambda d, v: rigid_flow(d, cam, SE3.exp(v))[0], (depth, tangent))
    assert torch.autograd.gradcheck(lambda d, v: reproject(d, cam, SE3.exp(v))[1], (depth, tangent))


def test_gradcheck_what_a_flow_does() -> None:
    image = torch.rand(1, 2, 5, 6, dtype=D, requires_grad=True)
    flow_ab, flow_ba = ((0.3 * torch.rand(1, 2, 5, 6, dtype=D) + 0.1).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(lambda i, f: backward_warp(i, f)[0], (image, flow_ab))
    assert torch.autograd.gradcheck(lambda i, f: forward_splat(i, f), (image, flow_ab), atol=1e-4)
    assert torch.autograd.gradcheck(lambda f, b: forward_backward_error(f, b)[:2], (flow_ab, flow_ba))
    cam = camera(5, 6)
    depths = [(torch.rand(1, 1, 5, 6, dtype=D) + 2).requires_grad_() for _ in range(2)]
    tangent = (0.1 * torch.randn(1, 6, dtype=D)).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b, f, v: scene_flow(a, b, f, cam, SE3.exp(v))[0],
                                    (*depths, flow_ab, tangent))


def test_loss_is_least_at_the_true_motion_along_all_six_axes() -> None:
    cam, truth = camera(48, 64, 60.0), torch.tensor([[0.15, -0.05, -0.2, 0.01, 0.02, -0.01]], dtype=D)
    image_a, depth_a = view_of_plane(cam, SE3.identity(1, dtype=D))
    image_b, _ = view_of_plane(cam, SE3.exp(truth))

    def error(tangent: torch.Tensor) -> float:
        flow, _ = rigid_flow(depth_a, cam, SE3.exp(tangent))
        warped, inside = backward_warp(image_b, flow)
        return (warped - image_a).abs()[inside.expand_as(warped)].mean().item()

    least = error(truth)
    for axis in range(6):
        for sign in (-1, 1):
            step = torch.zeros(1, 6, dtype=D)
            step[0, axis] = sign * (0.05 if axis < 3 else 0.01)
            assert error(truth + step) > 2 * least


def test_rotation_matrix_of_motion() -> None:
    assert torch.equal(motion(1, 2, 3, 0.1, 0.2, 0.3).R[0], rotation_exp(torch.tensor([0.1, 0.2, 0.3], dtype=D)))
