"""The student's views: where pixels go, what flow is there, and who is to be believed."""

import math

import pytest
import torch
from torch import Tensor

from egoflow.geometry.flow import backward_warp
from egoflow.losses.self_distillation import (
    Distillation,
    clip_through_random_views,
    composed,
    confidence,
    cut,
    random_views,
    viewed,
    viewed_flow,
)

HEIGHT, WIDTH = 40, 56
IDENTITY = torch.eye(2, 3)[None]


def smooth(channels: int = 3) -> Tensor:
    y, x = torch.meshgrid(torch.arange(float(HEIGHT)), torch.arange(float(WIDTH)), indexing="ij")
    waves = [0.5 + 0.25 * (torch.sin(0.13 * x + i) + torch.cos(0.11 * y - 0.07 * x * i)) for i in range(channels)]
    return torch.stack(waves)[None]


def test_the_same_view_is_the_same_image_and_flow() -> None:
    image, flow = smooth(), torch.randn(1, 2, HEIGHT, WIDTH)
    torch.testing.assert_close(viewed(image, IDENTITY), image, rtol=0, atol=1e-5)
    found, known = viewed_flow(flow, torch.ones_like(flow[:, :1], dtype=torch.bool), IDENTITY, IDENTITY)
    assert known.all()
    torch.testing.assert_close(found, flow, rtol=0, atol=2e-5)


def test_a_shifted_view_shifts_the_image() -> None:
    """A view that adds (3, -2) to coordinates shows at (8, 5) what stood at (5, 7)."""
    view = torch.tensor([[[1.0, 0, 3], [0, 1, -2]]])
    assert viewed(smooth(), view)[0, :, 5, 8].tolist() == pytest.approx(smooth()[0, :, 7, 5].tolist(), abs=1e-5)


def test_flow_between_two_views() -> None:
    """Frame b seen 1 px further right than a: one pixel more flow; both twice as large: twice the flow."""
    flow = torch.tensor([2.0, -1]).view(1, 2, 1, 1).expand(1, 2, HEIGHT, WIDTH)
    use = torch.ones(1, 1, HEIGHT, WIDTH, dtype=torch.bool)
    right = torch.tensor([[[1.0, 0, 1], [0, 1, 0]]])
    found, _ = viewed_flow(flow, use, IDENTITY, right)
    assert found[0, :, 9, 9].tolist() == pytest.approx([3, -1], abs=1e-5)
    twice = torch.tensor([[[2.0, 0, 0], [0, 2, 0]]])
    found, known = viewed_flow(flow, use, twice, twice)
    assert found[0, :, 9, 9].tolist() == pytest.approx([4, -2], abs=1e-5)
    assert known.all()
    shrunk, known = viewed_flow(flow, use, 0.5 * IDENTITY, 0.5 * IDENTITY)
    assert known[..., :HEIGHT // 2, :WIDTH // 2].all()
    assert not known[..., HEIGHT // 2:, :].any()
    assert shrunk[0, :, 5, 5].tolist() == pytest.approx([1, -0.5], abs=1e-5)


def test_viewed_flow_leads_from_one_viewed_image_to_the_other() -> None:
    """For any views: the viewed b, warped by the viewed flow, is the viewed a."""
    torch.manual_seed(0)
    flow = torch.stack((2 + smooth(1)[:, 0], -1.5 * smooth(1)[:, 0]), dim=1)
    image_b = smooth()
    image_a, inside = backward_warp(image_b, flow)
    views = random_views(2, height=HEIGHT, width=WIDTH, zoom=(1.0, 1.4), turn=0.2, shift=0.05)
    found, known = viewed_flow(flow, inside, views[:1], views[1:])
    rebuilt, seen = backward_warp(viewed(image_b, views[1:]), found)
    use = (known & seen).expand_as(rebuilt)
    assert use.float().mean() > 0.5
    assert (rebuilt - viewed(image_a, views[:1]))[use].abs().max() < 0.01
    assert (rebuilt - image_a)[use].abs().mean() > 0.03


def test_what_the_teacher_does_not_know_is_not_taught() -> None:
    flow, use = torch.zeros(1, 2, 8, 9), torch.ones(1, 1, 8, 9, dtype=torch.bool)
    use[..., 4, 4], flow[..., 4, 4] = False, torch.nan
    view = torch.tensor([[[1.0, 0, 0.5], [0, 1, 0]]])
    found, known = viewed_flow(flow, use, view, view)
    assert torch.isfinite(found).all()
    assert (~known)[0, 0, 4].tolist() == [True, False, False, False, True, True, False, False, False]


def test_views_compose_and_keep_to_their_ranges() -> None:
    torch.manual_seed(0)
    first, second = random_views(2, 3, height=HEIGHT, width=WIDTH, zoom=(0.9, 1.2), turn=0.3, shift=0.1)
    square = torch.cat((composed(second, first), torch.tensor([0.0, 0, 1]).expand(3, 1, 3)), dim=1)
    parts = [torch.cat((v, torch.tensor([0.0, 0, 1]).expand(3, 1, 3)), dim=1) for v in (second, first)]
    torch.testing.assert_close(square, parts[0] @ parts[1])
    many = random_views(500, height=HEIGHT, width=WIDTH, zoom=(0.9, 1.2), turn=0.3, shift=0.1)
    scale = many[:, :, :2].det().sqrt()
    angle = torch.atan2(many[:, 1, 0], many[:, 0, 0])
    assert 0.9 <= scale.min() < 0.92
    assert 1.18 < scale.max() <= 1.2
    assert 0.28 < angle.abs().max() <= 0.3
    centre = torch.tensor([(WIDTH - 1) / 2, (HEIGHT - 1) / 2, 1.0])
    moved = (many @ centre - centre[:2]).abs().amax(0)
    assert moved.tolist() == [pytest.approx(0.1 * WIDTH, rel=0.03), pytest.approx(0.1 * HEIGHT, rel=0.03)]


def test_frames_of_a_clip_share_most_of_their_view() -> None:
    torch.manual_seed(0)
    images, view = clip_through_random_views(torch.rand(4, 2, 3, HEIGHT, WIDTH))
    assert images.shape == (4, 2, 3, HEIGHT, WIDTH)
    assert (view[:, 0] - view[:, 1])[..., :2].abs().max() < 0.05
    assert (view[:1] - view[1:])[..., :2].abs().max() > 0.05


def test_cut() -> None:
    value = torch.arange(96).view(1, 1, 8, 12)
    assert torch.equal(cut(value, margin=2), value[..., 2:6, 2:10])
    assert cut(value, margin=64).shape == (1, 1, 4, 6)
    assert cut(torch.zeros(1, 1, 1, 1), margin=64).shape == (1, 1, 1, 1)


def test_confidence() -> None:
    """1 where both flows agree, 1/e at sigma of the diagonal, 0 where the flow leaves the image."""
    there = torch.tensor([3.0, 0]).view(1, 2, 1, 1).expand(1, 2, 30, 40)
    found = confidence(there, -there, sigma=0.03)
    assert found[0, 0, 0].tolist() == [1.0] * 37 + [0.0] * 3
    miss = -there + torch.tensor([0, 0.03 * 50]).view(1, 2, 1, 1)
    assert confidence(there, miss, sigma=0.03)[0, 0, 5, 5].item() == pytest.approx(math.exp(-1), rel=1e-4)
    assert not confidence(there.clone().requires_grad_(), miss, sigma=0.03).requires_grad


def test_the_weight_climbs() -> None:
    chosen = Distillation(weight=0.6, begins=0.5, ramp=0.1)
    assert [chosen.weight_at(p) for p in (0, 0.49, 0.5, 0.55, 0.6, 1)] == pytest.approx([0, 0, 0, 0.3, 0.6, 0.6])
    assert [Distillation(weight=0.2, begins=0.5).weight_at(p) for p in (0.4, 0.5)] == [0, 0.2]
