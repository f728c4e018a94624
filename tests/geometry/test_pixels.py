"""The grid, the one sampler and the rules of resizing."""

import kornia
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from egoflow.geometry import pixels

D = torch.float64
SIZE = st.integers(1, 17)


@given(SIZE, SIZE)
@settings(max_examples=40, deadline=None)
def test_identity_sampling_returns_the_image(height: int, width: int) -> None:
    image = torch.rand(2, 3, height, width, dtype=D)
    grid = pixels.pixel_grid(height, width, dtype=D).expand(2, -1, -1, -1)
    value, inside = pixels.sample(image, grid)
    assert (value - image).abs().max() < 1e-12
    assert inside.all()


@given(SIZE, SIZE, st.integers(0, 2**31 - 1))
@settings(max_examples=40, deadline=None)
def test_sampling_is_bilinear(height: int, width: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    image = torch.rand(1, 1, height, width, dtype=D, generator=rng)
    xy = torch.rand(1, 3, 3, 2, dtype=D, generator=rng) * torch.tensor([width - 1, height - 1], dtype=D)
    value, inside = pixels.sample(image, xy)
    assert inside.all()
    for i in range(3):
        for j in range(3):
            x, y = xy[0, i, j].tolist()
            x0, y0 = min(int(x), max(width - 2, 0)), min(int(y), max(height - 2, 0))
            x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
            fx, fy = x - x0, y - y0
            top = image[0, 0, y0, x0] * (1 - fx) + image[0, 0, y0, x1] * fx
            bottom = image[0, 0, y1, x0] * (1 - fx) + image[0, 0, y1, x1] * fx
            assert abs(value[0, 0, i, j] - (top * (1 - fy) + bottom * fy)) < 1e-12


def test_sampling_outside_is_flagged_and_repeats_the_border() -> None:
    image = torch.arange(4.0).expand(1, 1, 2, 4)
    xy = torch.tensor([[[[-1.0, 0], [0, 0], [3, 1], [3.01, 1], [1, 1.01], [1, -0.01]]]])
    value, inside = pixels.sample(image, xy)
    assert inside.flatten().tolist() == [False, True, True, False, False, False]
    assert value[0, 0, 0, 0] == 0
    assert value[0, 0, 0, 3] == 3


def test_sampling_survives_non_finite_coordinates() -> None:
    image = torch.rand(1, 2, 3, 3, dtype=D, requires_grad=True)
    xy = pixels.pixel_grid(3, 3, dtype=D)[None].clone()
    xy[0, 0, 0, 0], xy[0, 0, 1, 1], xy[0, 0, 2] = torch.nan, torch.inf, -torch.inf
    xy.requires_grad_()
    value, inside = pixels.sample(image, xy)
    assert inside.flatten().tolist() == [False] * 3 + [True] * 6
    torch.where(inside, value, torch.zeros_like(value)).sum().backward()
    assert torch.isfinite(xy.grad).all()
    assert torch.isfinite(image.grad).all()


def test_border_pixels_of_wide_images_are_inside() -> None:
    # One rounding step of float32 at 4K is 2.4e-4 px: projected border pixels miss by two of them.
    xy = torch.tensor([[[[3839.0005, 0.0], [-0.0005, 0.0], [3839.01, 0.0]]]])
    inside = pixels.inside_image(xy, height=2160, width=3840)
    assert inside.flatten().tolist() == [True, True, False]


def test_gradcheck_sample() -> None:
    image = torch.rand(1, 2, 4, 5, dtype=D, requires_grad=True)
    xy = (torch.rand(1, 3, 3, 2, dtype=D) * 2.5 + 0.2).requires_grad_()
    assert torch.autograd.gradcheck(lambda i, c: pixels.sample(i, c)[0], (image, xy))


def test_gradcheck_resizing() -> None:
    flow = torch.rand(1, 2, 4, 5, dtype=D, requires_grad=True)
    for resize in (pixels.resize_flow, pixels.resize_map, pixels.resize_image):
        assert torch.autograd.gradcheck(lambda f, r=resize: r(f, height=3, width=7), (flow,))
    assert torch.autograd.gradcheck(lambda f: pixels.image_pyramid(f, levels=3)[2], (flow,))


def test_resizing_a_linear_map_keeps_its_values() -> None:
    # v(x) = x of a 64 px map at the pixel of the small map whose centre is ((x + .5) / s - .5).
    value = torch.arange(64.0, dtype=D).expand(1, 1, 4, 64)
    small = pixels.resize_map(value, height=2, width=16)
    expected = (torch.arange(16.0, dtype=D) + 0.5) * 4 - 0.5
    assert (small[0, 0, 0] - expected).abs().max() < 1e-12
    antialiased = pixels.resize_image(value, height=2, width=16)
    assert (antialiased[0, 0, 0, 1:-1] - expected[1:-1]).abs().max() < 1e-12


def test_flow_values_scale_with_the_size() -> None:
    flow = torch.stack((torch.full((6, 8), 4.0), torch.full((6, 8), -3.0)))[None]
    small = pixels.resize_flow(flow, height=2, width=4)
    assert torch.allclose(small[0, 0], torch.full((2, 4), 2.0))
    assert torch.allclose(small[0, 1], torch.full((2, 4), -1.0))


def test_images_are_antialiased_and_maps_are_not() -> None:
    stripes = (torch.arange(32) % 2).float().expand(1, 3, 32, 32)
    assert (pixels.resize_image(stripes, height=5, width=5) - 0.5).abs().max() < 0.1
    impulse = torch.zeros(1, 1, 15, 15)
    impulse[0, 0, 7, 7] = 1
    # 15 -> 5: the centre of the middle pixel falls on the impulse, which a map keeps whole.
    assert pixels.resize_map(impulse, height=5, width=5)[0, 0, 2, 2] == 1
    assert pixels.resize_image(impulse, height=5, width=5)[0, 0, 2, 2] < 0.3


def test_masks_stay_bool() -> None:
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    mask[..., 2:] = True
    small = pixels.resize_mask(mask, height=2, width=2)
    assert small.dtype == torch.bool
    assert small[0, 0].tolist() == [[False, True], [False, True]]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (13, 7), (16, 32)])
def test_pyramid_halves_rounding_up(height: int, width: int) -> None:
    pyramid = pixels.image_pyramid(torch.full((1, 3, height, width), 0.25), levels=4)
    for level, image in enumerate(pyramid):
        assert image.shape[-2:] == (-(-height // 2**level), -(-width // 2**level))
        assert torch.allclose(image, torch.full_like(image, 0.25))


def test_sampler_agrees_with_kornia_and_torch_on_their_terms() -> None:
    image = torch.rand(1, 3, 5, 7, dtype=D)
    xy = torch.rand(1, 4, 4, 2, dtype=D) * torch.tensor([6.0, 4.0], dtype=D)
    value, _ = pixels.sample(image, xy)
    by_kornia = kornia.geometry.transform.remap(image, xy[..., 0], xy[..., 1], align_corners=True)
    corners = F.grid_sample(image, xy / torch.tensor([3.0, 2.0], dtype=D) - 1, align_corners=True)
    assert (value - by_kornia).abs().max() < 1e-12
    assert (value - corners).abs().max() < 1e-12
