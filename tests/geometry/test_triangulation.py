"""Midpoint triangulation against true depth and against least squares, and where it must not be believed."""

import pytest
import torch
from torch import Tensor

from egoflow.geometry.camera import Camera
from egoflow.geometry.flow import pixels_from_flow, rigid_flow
from egoflow.geometry.se3 import SE3
from egoflow.geometry.triangulation import midpoint_depth

D = torch.float64
HEIGHT, WIDTH = 24, 32


def camera(dtype: torch.dtype = D) -> Camera:
    values = (("fx", 30.0), ("fy", 28.0), ("cx", 15.2), ("cy", 11.6))
    return Camera(**{k: torch.tensor([v], dtype=dtype) for k, v in values}, height=HEIGHT, width=WIDTH)


SMALL = camera().cropped(top=2, left=2, height=4, width=5)


def depth_map() -> Tensor:
    return 3 + 4 * torch.rand(1, 1, HEIGHT, WIDTH, dtype=D)


def motion(*tangent: float) -> SE3:
    return SE3.exp(torch.tensor([tangent], dtype=D))


@pytest.mark.parametrize("tangent", [(0.6, 0, 0, 0, 0, 0), (0.3, -0.4, -0.5, 0.05, -0.08, 0.1), (0, 0, -1.0, 0, 0, 0)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(D, 1e-9), (torch.float32, 1e-3)])
def test_the_flow_of_depth_and_motion_gives_the_depth(tangent: tuple[float, ...], dtype: torch.dtype,
                                                      tolerance: float) -> None:
    depth, b_from_a = depth_map(), motion(*tangent)
    flow, _ = rigid_flow(depth, camera(), b_from_a)
    found, determined = midpoint_depth(flow.to(dtype), camera(dtype), b_from_a.to(dtype))
    assert found.dtype == dtype
    assert determined.float().mean() > 0.5
    assert (found / depth - 1).abs()[determined].max() < tolerance


def test_of_rays_that_do_not_meet_it_is_the_middle() -> None:
    b_from_a = motion(0.5, 0.1, -0.2, 0.02, -0.05, 0.03)
    flow, _ = rigid_flow(depth_map(), camera(), b_from_a)
    flow = flow + 0.3 * torch.randn_like(flow)
    found, determined = midpoint_depth(flow, camera(), b_from_a)
    ends = pixels_from_flow(flow)[0]
    for y, x in determined[0, 0].nonzero()[::37].tolist():
        ray_a = camera().rays()[0, y, x]
        ray_b = torch.stack(((ends[y, x, 0] - 15.2) / 30, (ends[y, x, 1] - 11.6) / 28, torch.ones((), dtype=D)))
        # Least squares of the two points along the rays, in the axes of a.
        turned_b, origin_b = b_from_a.R[0].T @ ray_b, -b_from_a.R[0].T @ b_from_a.t[0]
        along = torch.linalg.lstsq(torch.stack((ray_a, -turned_b), dim=1), origin_b[:, None]).solution[:, 0]
        middle = (along[0] * ray_a + origin_b + along[1] * turned_b) / 2
        assert found[0, 0, y, x].item() == pytest.approx(middle[2].item(), rel=1e-9)


def test_what_two_views_do_not_say_is_not_determined() -> None:
    depth = torch.full((1, 1, HEIGHT, WIDTH), 5.0, dtype=D)
    turn = motion(0, 0, 0, 0.01, 0.05, 0)
    assert not midpoint_depth(rigid_flow(depth, camera(), turn)[0], camera(), turn)[1].any()
    # Forwards, the pixels about the focus of expansion hardly move: z' = 4, flow = distance / 4.
    ahead = motion(0, 0, -1, 0, 0, 0)
    flow, _ = rigid_flow(depth, camera(), ahead)
    determined = midpoint_depth(flow, camera(), ahead)[1]
    assert not determined[0, 0, 12, 15]
    assert determined[0, 0, 5, 5]
    # What moves the wrong way lies behind the cameras, and NaN lies nowhere.
    assert not midpoint_depth(-flow, camera(), ahead)[1].any()
    assert not midpoint_depth(flow * torch.nan, camera(), ahead)[1].any()
    # Out of view of b nothing is claimed.
    aside = motion(2.0, 0, 0, 0, 0, 0)
    determined = midpoint_depth(rigid_flow(depth, camera(), aside)[0], camera(), aside)[1]
    assert determined[0, 0, 3].tolist() == [x + 12 <= WIDTH - 1 for x in range(WIDTH)]


def test_gradients() -> None:
    tangent = torch.tensor([[0.1, -0.05, -0.1, 0.002, 0.003, -0.001]], dtype=D)
    flow, _ = rigid_flow(depth_map()[..., :4, :5], SMALL, SE3.exp(tangent))
    # Every ray that is told apart has the gradient of its depth.
    assert midpoint_depth(flow, SMALL, SE3.exp(tangent), least_px=0.05)[1].sum() >= 10
    assert torch.autograd.gradcheck(lambda f, v: midpoint_depth(f, SMALL, SE3.exp(v), least_px=0.05)[0],
                                    (flow.requires_grad_(), tangent.requires_grad_()), atol=1e-4)
    still = torch.zeros(1, 2, HEIGHT, WIDTH, dtype=D, requires_grad=True)
    midpoint_depth(still, camera(), SE3.identity(1, dtype=D))[0].sum().backward()
    assert still.grad is not None
    assert still.grad.isfinite().all()
