"""FlowNet's multi-scale error against closed forms, and the pooling of truth against its definition."""

import math

import pytest
import torch
from torch import Tensor

from egoflow.errors import DataError
from egoflow.geometry.camera import Camera
from egoflow.losses.supervision import LEVEL_WEIGHTS, known_flow, multi_scale_error, pooled_flow
from egoflow.types import Clip, Truth

HEIGHT, WIDTH = 384, 512
NAN = float("nan")


def levels_of(flow: Tensor, *, finest: int = 4, count: int = 5) -> list[Tensor]:
    """Return the exact flows of all levels of a truth, in pixels of their own size."""
    valid = torch.ones_like(flow[:, :1], dtype=torch.bool)
    cells = [finest * 2**level for level in range(count)]
    return [pooled_flow(flow, valid, cell=cell)[0] / cell for cell in cells]


def everywhere(flow: Tensor) -> Tensor:
    return torch.ones_like(flow[:, :1], dtype=torch.bool)


def test_the_truth_has_no_error() -> None:
    flow = 30 * torch.randn(2, 2, 64, 128)
    assert float(multi_scale_error(levels_of(flow), flow, everywhere(flow))) < 1e-3
    assert float(multi_scale_error(levels_of(flow + 1), flow, everywhere(flow))) > 0.1


def test_an_error_of_one_pixel_everywhere_costs_the_weighted_pixels_over_twenty() -> None:
    flow = torch.zeros(3, 2, HEIGHT, WIDTH)
    flow[:, 0] = 7.0
    wrong = flow + torch.tensor([1.0, 0]).view(1, 2, 1, 1)
    expected = sum(w * (HEIGHT >> s) * (WIDTH >> s) / 20 for s, w in enumerate(LEVEL_WEIGHTS, start=2))
    assert expected == pytest.approx(6.912)
    assert float(multi_scale_error(levels_of(wrong), flow, everywhere(flow))) == pytest.approx(expected, rel=1e-5)
    # The length of the error, not the sum of its parts.
    wrong = flow + torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    assert float(multi_scale_error(levels_of(wrong), flow, everywhere(flow))) == pytest.approx(5 * expected, rel=1e-5)


def test_levels_at_full_size_too() -> None:
    flow = torch.randn(1, 2, 8, 12)
    wrong = flow + torch.tensor([0, 2.0]).view(1, 2, 1, 1)
    levels = levels_of(wrong, finest=1, count=2)
    value = multi_scale_error(levels, flow, everywhere(flow), finest=1, weights=(1.0, 10.0))
    assert float(value) == pytest.approx((96 + 10 * 24) * 2 / 20, rel=1e-5)


@pytest.mark.parametrize("sparse", [False, True])
def test_what_is_not_known_may_be_nan_and_teaches_nothing(sparse: bool) -> None:
    flow, valid = torch.randn(2, 2, 64, 64), torch.rand(2, 1, 64, 64) < 0.3
    valid[:, :, :40] = False
    levels = [torch.randn_like(level).requires_grad_() for level in levels_of(flow)]
    values = [multi_scale_error(levels, torch.where(valid, flow, torch.full_like(flow, fill)), valid, sparse=sparse)
              for fill in (0.0, 1e4, NAN)]
    assert values[0] == values[1] == values[2] > 0
    values[2].backward()
    gradients = [level.grad for level in levels if level.grad is not None]
    assert len(gradients) == 5
    assert all(bool(g.isfinite().all()) for g in gradients)
    assert not gradients[0][:, :, :10].any()
    assert gradients[0][:, :, 10:].any()


def test_nothing_known_costs_nothing_and_stays_in_the_graph() -> None:
    flow = torch.full((1, 2, 64, 64), NAN)
    levels = [torch.zeros(1, 2, 64 >> s, 64 >> s, requires_grad=True) for s in range(2, 7)]
    value = multi_scale_error(levels, flow, ~everywhere(flow))
    assert float(value.detach()) == 0
    value.backward()
    assert all(level.grad is not None and not level.grad.any() for level in levels)


@pytest.mark.parametrize("size", [(8, 8), (5, 7), (1, 1), (9, 4)])
def test_pooling_is_the_mean_of_what_is_known_in_a_cell(size: tuple[int, int]) -> None:
    flow, valid = torch.randn(1, 2, *size, dtype=torch.float64), torch.rand(1, 1, *size) < 0.6
    for sparse in (False, True):
        pooled, known = pooled_flow(torch.where(valid, flow, NAN), valid, cell=4, sparse=sparse)
        assert pooled.shape[-2:] == known.shape[-2:] == (math.ceil(size[0] / 4), math.ceil(size[1] / 4))
        for i in range(pooled.shape[2]):
            for j in range(pooled.shape[3]):
                cell = (..., slice(4 * i, 4 * i + 4), slice(4 * j, 4 * j + 4))
                values = flow[cell][0][:, valid[cell][0, 0]]
                assert bool(known[0, 0, i, j]) == (values.numel() > 0)
                if values.numel() == 0:
                    continue
                zero = values.new_zeros(2)
                expected = (torch.maximum(values.amax(1), zero) + torch.minimum(values.amin(1), zero) if sparse
                            else values.mean(1))
                torch.testing.assert_close(pooled[0, :, i, j], expected)


def test_the_flow_of_a_clip_is_known_or_asked_for_in_one_line() -> None:
    images = torch.zeros(1, 2, 3, 4, 6)
    camera = Camera.create(5, 5, 2.5, 1.5, height=4, width=6)
    flow = torch.ones(1, 2, 4, 6)
    flow[..., 0] = NAN
    clip = Clip(images=images, camera=camera, time_s=torch.zeros(1, 2), target=0, key=("made/000001",),
                truth=Truth(flow={(0, 1): flow}))
    found, valid = known_flow(clip, (0, 1))
    assert found is flow
    assert torch.equal(valid[0, 0], flow[0, 0].isfinite())
    with pytest.raises(DataError, match=r"made/000001: its true flow is not known.*world:chairs"):
        known_flow(clip, (1, 0))
