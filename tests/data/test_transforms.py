"""Whole-clip transforms against a plane whose texture, depth and flow are known at every pixel of any camera."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from egoflow.config import Augment
from egoflow.data.transforms import augmented, crop, flip, pad, recolour, resize, scale_crop
from egoflow.geometry.camera import Camera
from egoflow.geometry.flow import rigid_flow
from egoflow.geometry.se3 import SE3
from egoflow.types import Clip, Truth, TwoView

HEIGHT, WIDTH, DEPTH = 24, 40, 5.0
# A turn about the axis and any translation keep a fronto-parallel plane's flow affine, so that resizing it is exact.
MOTION = SE3.exp(torch.tensor([[0.3, -0.2, 0.5, 0.0, 0.0, 0.1]], dtype=torch.float64))


def _texture(camera: Camera, *, mirrored: bool = False) -> Tensor:
    """Return what the camera sees of the plane: colours that are affine in X and Y, [1, 3, H, W]."""
    x, y = (camera.rays(dtype=torch.float64) * DEPTH)[..., :2].unbind(-1)
    x = -x if mirrored else x
    return torch.stack((0.5 + 0.05 * x, 0.5 + 0.04 * y, 0.5 + 0.03 * x - 0.02 * y), dim=1)


def _clip() -> Clip:
    camera = Camera.create(30, 33, 18.3, 12.1, height=HEIGHT, width=WIDTH).to(torch.float64)
    depth = torch.full((1, 1, HEIGHT, WIDTH), DEPTH, dtype=torch.float64)
    flow, _ = rigid_flow(depth, camera, MOTION)
    right = camera.rays()[..., 0].unsqueeze(1) > 0
    truth = Truth(depth=depth[:, None].repeat(1, 2, 1, 1, 1), valid_depth=right[:, None].repeat(1, 2, 1, 1, 1),
                  world_from_cam=SE3.stack([SE3.identity(dtype=torch.float64), MOTION.inverse()[0]])[None],
                  flow={(0, 1): flow}, visible={(0, 1): torch.ones_like(right)},
                  static=right[:, None].repeat(1, 2, 1, 1, 1))
    return Clip(images=_texture(camera)[:, None].repeat(1, 2, 1, 1, 1), camera=camera, target=0, truth=truth,
                time_s=torch.tensor([[0.0, 0.1]]), key=("plane/000000",),
                start={(0, 1): TwoView(flow_ab=flow, usable=right, b_from_a=MOTION, weight=torch.ones(1))})


def _inner(value: Tensor) -> Tensor:
    """Return a map without its border: resizing repeats the outermost pixels."""
    return value[..., 3:-3, 3:-3]


def _check(clip: Clip, *, mirrored: bool = False) -> None:
    """Assert that image, flow, motion and masks of a changed clip say what its camera must see of the plane."""
    camera, view, truth = clip.camera, clip.start[0, 1], clip.truth
    assert truth is not None
    assert truth.depth is not None
    assert truth.static is not None
    assert truth.world_from_cam is not None
    size = (camera.height, camera.width)
    assert all(v.shape[-2:] == size for v in (clip.images, view.flow_ab, view.usable, truth.static))
    seen = _texture(camera, mirrored=mirrored)
    torch.testing.assert_close(_inner(clip.images[:, 0]), _inner(seen), atol=1e-9, rtol=0)
    depth = torch.full((1, 1, *size), DEPTH, dtype=torch.float64)
    world_from_cam = truth.world_from_cam
    for motion in (view.b_from_a, world_from_cam[:, 1].inverse() @ world_from_cam[:, 0]):
        expected, _ = rigid_flow(depth, camera, motion)
        torch.testing.assert_close(_inner(view.flow_ab), _inner(expected), atol=1e-9, rtol=0)
        torch.testing.assert_close(_inner(truth.flow[0, 1]), _inner(expected), atol=1e-9, rtol=0)
    # The mask was cut at X = 0; nearest resampling may move that edge by a pixel.
    x = camera.rays()[..., 0].unsqueeze(1) * camera.fx
    right = x < 0 if mirrored else x > 0
    away = x.abs() > 1.5
    for mask in (view.usable, truth.static[:, 0]):
        assert bool((mask == right)[away].all())


CHANGES: dict[str, tuple[Callable[[Clip], Clip], bool]] = {
    "flip": (flip, True),
    "resize": (lambda c: resize(c, height=36, width=52), False),
    "crop": (lambda c: crop(c, top=3, left=5, height=15, width=28), False),
    "scale_crop": (lambda c: scale_crop(c, scale_x=1.1, scale_y=1.14, top=0.3, left=0.9), False),
    "flip and crop": (lambda c: crop(flip(c), top=0, left=9, height=20, width=30), True),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_same_points_are_seen_at_the_new_pixels(name: str) -> None:
    change, mirrored = CHANGES[name]
    _check(change(_clip()), mirrored=mirrored)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.booleans())
def test_random_geometry_keeps_the_points(seed: int, mirror: bool) -> None:
    clip = augmented(_clip(), Augment(flip=mirror, scale_crop=0.15), generator=torch.Generator().manual_seed(seed))
    assert clip.images.shape[-2:] == (HEIGHT, WIDTH)
    _check(clip, mirrored=mirror and float(clip.start[0, 1].b_from_a.R[0, 0, 1]) * float(MOTION.R[0, 0, 1]) < 0)


def test_flip_of_any_motion_is_the_flow_in_the_mirror() -> None:
    clip = _clip()
    motion = SE3.exp(torch.tensor([[0.3, -0.2, 0.5, 0.05, -0.07, 0.1]], dtype=torch.float64))
    depth = 3 + torch.rand(1, 1, HEIGHT, WIDTH, dtype=torch.float64)
    flow, _ = rigid_flow(depth, clip.camera, motion)
    view = replace(clip.start[0, 1], flow_ab=flow, b_from_a=motion)
    mirrored = flip(replace(clip, start={(0, 1): view}))
    seen = mirrored.start[0, 1]
    expected, _ = rigid_flow(depth.flip(-1), mirrored.camera, seen.b_from_a)
    torch.testing.assert_close(seen.flow_ab, expected, atol=1e-9, rtol=0)
    assert float(torch.linalg.det(seen.b_from_a.R)) == pytest.approx(1)


def test_flipping_twice_is_the_identity() -> None:
    clip, again = _clip(), flip(flip(_clip()))
    torch.testing.assert_close(again.images, clip.images, rtol=0, atol=0)
    torch.testing.assert_close(again.start[0, 1].flow_ab, clip.start[0, 1].flow_ab, rtol=0, atol=0)
    torch.testing.assert_close(again.start[0, 1].b_from_a.R, MOTION.R, rtol=0, atol=0)
    torch.testing.assert_close(again.camera.cx, clip.camera.cx)


def test_padding_is_never_true_in_a_mask() -> None:
    clip = pad(_clip(), top=2, left=3, bottom=1, right=4)
    assert clip.images.shape[-2:] == (HEIGHT + 3, WIDTH + 7)
    view, truth = clip.start[0, 1], clip.truth
    assert truth is not None
    assert truth.valid_depth is not None
    for mask in (view.usable, truth.valid_depth[:, 0], truth.visible[0, 1]):
        assert not mask[..., :2, :].any()
        assert not mask[..., -4:].any()
    back = crop(clip, top=2, left=3, height=HEIGHT, width=WIDTH)
    torch.testing.assert_close(back.images, _clip().images, rtol=0, atol=0)
    torch.testing.assert_close(back.camera.cx, _clip().camera.cx)
    _check(back)


def test_visible_pixels_end_inside_the_new_window() -> None:
    clip = crop(_clip(), top=4, left=6, height=12, width=20)
    truth = clip.truth
    assert truth is not None
    x = torch.arange(20, dtype=torch.float64) + truth.flow[0, 1][0, 0]
    y = torch.arange(12, dtype=torch.float64)[:, None] + truth.flow[0, 1][0, 1]
    inside = (x >= 0) & (x <= 19) & (y >= 0) & (y <= 11)
    assert 0 < float(inside.double().mean()) < 1
    torch.testing.assert_close(truth.visible[0, 1][0, 0], inside)


def test_sparse_depth_of_its_own_size_is_never_interpolated() -> None:
    clip = _clip()
    assert clip.truth is not None
    depth = torch.zeros(1, 2, 1, HEIGHT * 3, WIDTH * 3, dtype=torch.float64)
    # The lidar point at row 40, column 70 of the large map lies in pixel (13, 23) of the image.
    depth[..., 40, 70] = 7.5
    truth = Truth(depth=depth, valid_depth=depth > 0)
    cut = crop(replace(clip, truth=truth), top=3, left=5, height=18, width=30).truth
    assert cut is not None
    assert cut.depth is not None
    assert cut.valid_depth is not None
    assert set(cut.depth.unique().tolist()) <= {0.0, 7.5}
    assert cut.depth[cut.valid_depth].tolist() == [7.5, 7.5]
    assert cut.valid_depth[0, 0, 0].nonzero().tolist() == [[13 - 3, 23 - 5]]


def test_recolouring_keeps_grey_grey_and_the_range() -> None:
    clip = _clip()
    grey = replace(clip, images=torch.full_like(clip.images, 0.4))
    out = recolour(grey, brightness=1.2, gamma=1.1, saturation=0.5, hue=0.3, contrast=1.3).images
    torch.testing.assert_close(out, torch.full_like(out, 0.4**1.1 * 1.2))
    same = recolour(clip).images
    torch.testing.assert_close(same, clip.images)
    bright = recolour(clip, brightness=9).images
    assert float(bright.max()) == 1
    # A third of a turn about the grey axis takes red to green.
    red = torch.zeros_like(clip.images)
    red[:, :, 0] = 0.6
    turned = recolour(replace(clip, images=red), hue=2 * math.pi / 3).images
    green = torch.tensor([0, 0.6, 0], dtype=torch.float64)
    torch.testing.assert_close(turned[0, 0, :, 0, 0], green, atol=1e-12, rtol=0)


def test_augmentation_is_a_function_of_the_generator() -> None:
    change = Augment(flip=True, scale_crop=0.15, colour=0.2)
    first, again, other = (augmented(_clip(), change, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    torch.testing.assert_close(first.images, again.images, rtol=0, atol=0)
    assert not torch.equal(first.images, other.images)


def test_half_of_the_clips_are_mirrored() -> None:
    clip = _clip()
    changed = [augmented(clip, Augment(flip=True), generator=torch.Generator().manual_seed(s)) for s in range(200)]
    assert 70 < sum(float(c.camera.cx) != float(clip.camera.cx) for c in changed) < 130
