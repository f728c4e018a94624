"""Pinhole cameras: projection, and the rules by which crops and sizes carry them along."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from egoflow.errors import DataError, EgoflowError
from egoflow.geometry.camera import Camera
from egoflow.geometry.pixels import pixel_grid, sample

D = torch.float64
SIZE = st.integers(1, 24)
FOCAL = st.floats(5, 60)


def camera(fx: float, fy: float, height: int, width: int, *, off: float = 0.3) -> Camera:
    numbers = (torch.tensor([v], dtype=D) for v in (fx, fy, (width - 1) / 2 + off, (height - 1) / 2 - off))
    names = ("fx", "fy", "cx", "cy")
    return Camera(**dict(zip(names, numbers, strict=True)), height=height, width=width)


@given(FOCAL, FOCAL, SIZE, SIZE)
@settings(max_examples=40, deadline=None)
def test_project_undoes_unproject(fx: float, fy: float, height: int, width: int) -> None:
    cam = camera(fx, fy, height, width)
    depth = torch.rand(1, 1, height, width, dtype=D) * 50 + 0.1
    points = cam.unproject(depth)
    xy, in_front = cam.project(points)
    assert (xy - pixel_grid(height, width, dtype=D)).abs().max() < 1e-11
    assert in_front.all()
    assert torch.equal(points[..., 2], depth[:, 0])


@given(FOCAL, FOCAL, st.integers(2, 24), st.integers(2, 24), st.data())
@settings(max_examples=60, deadline=None)
def test_projection_commutes_with_resize_crop_flip_and_pad(fx: float, fy: float, height: int, width: int,
                                                         data: st.DataObject) -> None:
    cam = camera(fx, fy, height, width)
    points = torch.randn(1, 4, 4, 3, dtype=D) + torch.tensor([0.0, 0, 6], dtype=D)
    pixel, _ = cam.project(points)
    h, w = data.draw(SIZE), data.draw(SIZE)
    scale = torch.tensor([w / width, h / height], dtype=D)
    # A world point's pixel in the resized camera is the resized pixel.
    assert (cam.resized(height=h, width=w).project(points)[0] - ((pixel + 0.5) * scale - 0.5)).abs().max() < 1e-10
    top, left = data.draw(st.integers(-3, height - 1)), data.draw(st.integers(-3, width - 1))
    offset = torch.tensor([left, top], dtype=D)
    window = cam.cropped(top=top, left=left, height=h, width=w)
    assert (window.height, window.width) == (h, w)
    assert (window.project(points)[0] - (pixel - offset)).abs().max() < 1e-10
    padded = cam.padded(top=2, left=3, bottom=4, right=5)
    assert (padded.height, padded.width) == (height + 6, width + 8)
    assert (padded.project(points)[0] - (pixel + torch.tensor([3.0, 2.0], dtype=D))).abs().max() < 1e-10
    mirrored = points * torch.tensor([-1.0, 1, 1], dtype=D)
    expected = torch.stack((width - 1 - pixel[..., 0], pixel[..., 1]), dim=-1)
    assert (cam.flipped().project(mirrored)[0] - expected).abs().max() < 1e-10


def test_resizing_an_image_and_its_camera_agree_on_a_texture() -> None:
    # A texture that is linear in the viewing ray has the same value at the same ray at any size.
    cam = camera(40, 30, 24, 32)
    small = cam.resized(height=8, width=16)
    texture = cam.rays()[..., 0][:, None] * 2 + cam.rays()[..., 1][:, None]
    expected = small.rays()[..., 0][:, None] * 2 + small.rays()[..., 1][:, None]
    centres = (pixel_grid(8, 16, dtype=D) + 0.5) * torch.tensor([2.0, 3.0], dtype=D) - 0.5
    value, inside = sample(texture, centres[None])
    assert inside.all()
    assert (value - expected).abs().max() < 1e-12


def test_points_behind_are_flagged_and_finite() -> None:
    cam = camera(10, 10, 4, 4)
    points = torch.tensor([[[[1.0, 1, 2], [1, 1, 0], [1, 1, -3], [0, 0, 1e-9]]]], dtype=D, requires_grad=True)
    xy, in_front = cam.project(points)
    assert in_front.flatten().tolist() == [True, False, False, False]
    xy.sum().backward()
    assert torch.isfinite(xy).all()
    assert torch.isfinite(points.grad).all()


def test_gradcheck_project_and_unproject() -> None:
    points = (torch.rand(1, 2, 2, 3, dtype=D) + torch.tensor([0.0, 0, 2], dtype=D)).requires_grad_()
    depth = (torch.rand(2, 1, 2, 3, dtype=D) + 1).requires_grad_()
    numbers = tuple(torch.tensor([v, v + 1], dtype=D, requires_grad=True) for v in (5.0, 6.0, 1.0, 0.5))

    def made(fx: torch.Tensor, fy: torch.Tensor, cx: torch.Tensor, cy: torch.Tensor) -> Camera:
        return Camera(fx=fx, fy=fy, cx=cx, cy=cy, height=2, width=3)

    assert torch.autograd.gradcheck(lambda p, *k: made(*k).project(p)[0], (points.detach().repeat(2, 1, 1, 1)
                                                                            .requires_grad_(), *numbers))
    assert torch.autograd.gradcheck(lambda d, *k: made(*k).unproject(d), (depth, *numbers))
    assert torch.autograd.gradcheck(lambda d, *k: made(*k).resized(height=2, width=3).padded(left=1).flipped()
                                    .cropped(top=0, left=0, height=2, width=3).unproject(d), (depth, *numbers))


KITTI = {"fx": 241.0, "fy": 245.0, "cx": 204.0, "cy": 59.0, "height": 128, "width": 416}


@pytest.mark.parametrize("wrong", [
    {"fx": 0.58, "fy": 1.92, "cx": 0.5, "cy": 0.5},  # normalised K
    {"fy": 1.92, "cy": 0.5},  # one row normalised
    {"fx": 0.58, "cx": 0.5},
    {"fx": 0.0}, {"fy": -245.0}, {"fx": math.nan}, {"cy": math.nan}, {"fx": math.inf}, {"cx": math.inf},
    {"cx": -300.0}, {"cy": 4000.0},  # of another size
    {"height": 0},
])
def test_create_refuses_wrong_numbers_in_one_line(wrong: dict[str, float]) -> None:
    with pytest.raises(DataError) as caught:
        Camera.create(**(KITTI | wrong), name="clip/camera.json")
    assert isinstance(caught.value, EgoflowError)
    assert str(caught.value).startswith("clip/camera.json: ")
    assert "\n" not in str(caught.value)


def test_create_keeps_right_numbers() -> None:
    cam = Camera.create(**KITTI)
    assert [v.item() for v in (cam.fx, cam.fy, cam.cx, cam.cy)] == [241, 245, 204, 59]
    assert cam.fx.dtype == torch.float32
    assert Camera.create(1, 1, 0, 0, height=1, width=1).width == 1


def test_cat_repeated_indexed_and_moved() -> None:
    a, b = camera(10, 11, 4, 6), camera(20, 21, 4, 6)
    both = Camera.cat([a, b])
    assert both.fx.tolist() == [10, 20]
    assert both.repeated(2).fy.tolist() == [11, 21, 11, 21]
    assert both[1:].cx.tolist() == b.cx.tolist()
    assert both.to(torch.float32).cy.dtype == torch.float32
    with pytest.raises(DataError, match="several image sizes"):
        Camera.cat([a, camera(10, 11, 5, 6)])
