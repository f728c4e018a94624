"""The lecture's losses and the errors of the published systems, against closed forms and published values."""

import kornia
import pytest
import torch
from torch import Tensor

from egoflow.geometry.flow import backward_warp
from egoflow.geometry.pixels import image_pyramid, resize_flow
from egoflow.losses.photometric import (
    census_distance,
    ddflow_robust,
    gradient_size,
    l1_map,
    least_map,
    transported_map,
)
from egoflow.losses.reduce import fill_unused, masked_mean
from egoflow.losses.unlabelled_flow import Stage, image_error, stage_at

D = torch.float64
ERRORS = ["l1", "charbonnier", "ssim", "census", "census_ddflow", "census_mean"]


def texture(*, channels: int = 1, size: int = 96) -> Tensor:
    """A smooth random texture [1, channels, size, size] of mean 126 and deviation 65 of 255."""
    noise = torch.randn(1, channels, size, size, dtype=D, generator=torch.Generator().manual_seed(0))
    smooth = kornia.filters.gaussian_blur2d(noise, (13, 13), (1.8, 1.8), border_type="circular")
    return ((126 + 65 * (smooth - smooth.mean()) / smooth.std()) / 255).clamp(0, 1)


def shifted_pair(dx: int, dy: int, *, height: int = 40, width: int = 56) -> tuple[Tensor, Tensor, Tensor]:
    """Return two windows of one texture and the flow between them."""
    whole, top, left = texture(channels=3), 20, 20
    a = whole[..., top:top + height, left:left + width]
    b = whole[..., top - dy:top - dy + height, left - dx:left - dx + width]
    return a, b, torch.tensor([dx, dy], dtype=D).view(1, 2, 1, 1).expand(1, 2, height, width)


@pytest.mark.parametrize(("error", "least"), [("census", 0.0019953), ("charbonnier", 0.0019953),
                                              ("census_ddflow", 0.1585), ("l1", 0.0), ("ssim", 0.0)])
def test_the_true_flow_costs_what_nothing_costs(error: str, least: float) -> None:
    a, b, flow = shifted_pair(4, -3)
    rebuilt, inside = backward_warp(b, flow)
    assert (rebuilt - a).abs()[inside.expand_as(a)].max() < 1e-3
    assert inside.double().mean() == pytest.approx(37 * 52 / (40 * 56))
    stage = Stage(error=error)  # type: ignore[arg-type]
    found = image_error(fill_unused(rebuilt, a, inside), a, stage)
    assert masked_mean(found, inside).item() == pytest.approx(least, abs=5e-5)
    assert masked_mean(image_error(b, a, stage)).item() > least + 0.05


def test_census_and_l1_under_changes_of_light() -> None:
    """The published table is of another texture; ours has its mean and contrast, and what follows is within a third."""
    y = texture()
    shifted, other = y.roll(1, -1), y.roll(31, -1).roll(17, -2)
    torch.manual_seed(0)
    changed = (y + 20 / 255, 1.05 * y, 1.2 * y, y + 2 / 255 * torch.randn_like(y), shifted, other)
    costs = [census_distance(v, y)[..., 4:-4, 4:-4].mean().item() for v in changed]
    assert costs == [pytest.approx(v, rel=0.35, abs=1e-3) for v in (0.0, 0.003, 0.036, 1.31, 7.75, 23.8)]
    l1 = [255 * l1_map(v, y).mean().item() for v in (changed[0], changed[1], changed[2], shifted)]
    assert l1 == [pytest.approx(v, rel=0.1) for v in (20, 6.3, 25, 19.7)]


def test_ddflow_penalty() -> None:
    assert ddflow_robust(torch.zeros(1)).item() == pytest.approx(0.1585, abs=5e-5)
    assert ddflow_robust(torch.tensor(-0.99)).item() == pytest.approx(1.0)


def test_census_mean_is_per_neighbour() -> None:
    x, y = texture(), texture().flip(-1)
    found = image_error(x, y, Stage(error="census_mean", window=3))
    assert torch.equal(found, census_distance(x, y, window=3) / 9)
    assert found.max() < 1


def test_a_constant_flow_is_right_at_every_level() -> None:
    """8 px at full size are 4, 2 and 1 of the levels; only the images' smoothing is left to see."""
    a, b, flow = shifted_pair(8, -8, height=64, width=64)
    for level, (small_a, small_b) in enumerate(zip(*(image_pyramid(v, levels=4) for v in (a, b)), strict=True)):
        small = resize_flow(flow, height=64 >> level, width=64 >> level)
        assert torch.equal(small, torch.tensor([8, -8], dtype=D).view(1, 2, 1, 1).expand_as(small) / 2**level)
        rebuilt, inside = backward_warp(small_b, small)
        assert masked_mean(l1_map(rebuilt, small_a), inside) < 1e-12


def test_gradient_size() -> None:
    x = torch.arange(7, dtype=D).expand(2, 3, 5, 7)
    assert torch.allclose(gradient_size(x), torch.ones(2, 1, 5, 7, dtype=D))
    slanted = 3 * x + 4 * torch.arange(5, dtype=D)[:, None]
    assert torch.allclose(gradient_size(slanted), torch.full((2, 1, 5, 7), 5.0, dtype=D))
    assert not gradient_size(torch.full((1, 3, 4, 4), 0.3)).any()
    one = torch.zeros(1, 3, 3, 3, dtype=D)
    one[0, :, 1, 2] = 1.0
    # Central differences inside, one-sided on the border.
    assert gradient_size(one)[0, 0, 1].tolist() == pytest.approx([0, 0.5, 1])
    for size in ((1, 1), (1, 9), (9, 1)):
        assert gradient_size(torch.rand(1, 3, *size)).shape == (1, 1, *size)
    image = torch.rand(1, 3, 4, 4, requires_grad=True)
    assert not gradient_size(image).requires_grad


def test_gradient_weighted_error() -> None:
    """Nothing to see on a constant image whatever the flow; the plain error where the gradient is 1."""
    flat, flow = torch.full((1, 3, 8, 9), 0.4, dtype=D), torch.randn(1, 2, 8, 9, dtype=D)
    rebuilt, _ = backward_warp(torch.rand(1, 3, 8, 9, dtype=D), flow)
    assert not (l1_map(rebuilt, flat) * gradient_size(flat)).any()
    ramp = torch.arange(9, dtype=D).expand(1, 3, 8, 9)
    torch.testing.assert_close(l1_map(rebuilt, ramp) * gradient_size(ramp), l1_map(rebuilt, ramp))


def test_least_of_two_sources() -> None:
    first, second = torch.tensor([[1.0, 5, torch.nan, 3, 2]]), torch.tensor([[4.0, 2, 6, torch.nan, torch.nan]])
    use_first, use_second = torch.tensor([[[1, 1, 0, 1, 0]], [[1, 1, 1, 0, 0]]]).bool()
    value, use = least_map(first, second, use_first, use_second)
    assert use.tolist() == [[True, True, True, True, False]]
    assert value[use].tolist() == [1, 2, 6, 3]


def test_what_one_source_hides_the_other_shows() -> None:
    """A bar hides other columns of the target in each source: with both, every pixel is explained by the true flow."""
    target = texture(channels=3)[..., :12, :20]
    before, after = target.clone(), target.clone()
    before[..., 3:6], after[..., 12:15] = 0.0, 1.0
    everywhere = torch.ones(1, 1, 12, 20, dtype=torch.bool)
    one, two = l1_map(before, target), l1_map(after, target)
    assert min(one.max(), two.max()) > 0.2
    assert not least_map(one, two, everywhere, everywhere)[0].any()


def test_errors_of_both_directions_meet_on_one_grid() -> None:
    """What the error of b says at x + f(x) is read at x; reading it at x itself would be another point's."""
    error_b = torch.arange(10.0).expand(1, 1, 4, 10).clone()
    use_b = torch.ones(1, 1, 4, 10, dtype=torch.bool)
    use_b[..., 7], error_b[..., 7] = False, torch.nan
    flow = torch.tensor([3.0, 0]).view(1, 2, 1, 1).expand(1, 2, 4, 10).clone().requires_grad_()
    error, use = transported_map(error_b, use_b, flow)
    assert use[0, 0, 1].tolist() == [True] * 4 + [False] + [True] * 2 + [False] * 3
    assert error[use].unique().tolist() == pytest.approx([3, 4, 5, 6, 8, 9], abs=1e-4)
    assert not error.requires_grad


@pytest.mark.parametrize("error", ERRORS)
def test_errors_of_any_size_with_finite_gradients(error: str) -> None:
    for size in ((1, 1), (1, 9), (7, 5)):
        x, y = torch.rand(2, 2, 3, *size)
        x.requires_grad_()
        found = image_error(x, y, Stage(error=error))  # type: ignore[arg-type]
        assert found.shape == (2, 1, *size)
        found.sum().backward()
        assert torch.isfinite(x.grad).all()


def test_stages_follow_each_other() -> None:
    stages = (Stage(), Stage(begins=0.3, occlusion="range_map"), Stage(begins=0.6, error="ssim"))
    assert [stages.index(stage_at(stages, p)) for p in (0, 0.29, 0.3, 0.59, 0.6, 1)] == [0, 0, 1, 1, 2, 2]
    assert stage_at((Stage(begins=0.5),), 0.0) == Stage(begins=0.5)
