"""Alignment of unknown scales against numpy, and normals of planes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from egoflow.geometry.camera import Camera
from egoflow.geometry.depth import align_least_squares, align_median, normals

D = torch.float64


def maps(seed: int, share: float = 0.6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    prediction, truth = (torch.rand(3, 1, 5, 6, dtype=D, generator=rng) + 0.5 for _ in range(2))
    valid = torch.rand(3, 1, 5, 6, generator=rng) < share
    valid[:, :, 0, :2] = True
    return prediction, truth, valid


def poisoned(value: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    return torch.where(valid, value, torch.full_like(value, torch.nan))


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=40, deadline=None)
def test_median_is_numpys(seed: int) -> None:
    prediction, truth, valid = maps(seed)
    factor = align_median(poisoned(prediction, valid), poisoned(truth, valid), valid)
    for p, t, v, f in zip(prediction.numpy(), truth.numpy(), valid.numpy(), factor.numpy(), strict=True):
        assert f == pytest.approx(np.median(t[v]) / np.median(p[v]), rel=1e-12)


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=40, deadline=None)
def test_least_squares_is_numpys(seed: int) -> None:
    prediction, truth, valid = maps(seed)
    bad = poisoned(prediction, valid), poisoned(truth, valid)
    factor, zero = align_least_squares(*bad, valid)
    slope, offset = align_least_squares(*bad, valid, shift=True)
    assert not zero.any()
    for i, (p, t, v) in enumerate(zip(prediction.numpy(), truth.numpy(), valid.numpy(), strict=True)):
        alone = np.linalg.lstsq(p[v][:, None], t[v], rcond=None)[0]
        both = np.linalg.lstsq(np.stack((p[v], np.ones_like(p[v])), axis=1), t[v], rcond=None)[0]
        assert factor[i].item() == pytest.approx(alone[0], rel=1e-9)
        assert (slope[i].item(), offset[i].item()) == pytest.approx(tuple(both), rel=1e-6, abs=1e-9)


def test_exact_relation_is_found() -> None:
    prediction, _, valid = maps(0)
    slope, offset = align_least_squares(prediction, 3 * prediction + 2, valid, shift=True)
    assert torch.allclose(slope, torch.full((3,), 3.0, dtype=D))
    assert torch.allclose(offset, torch.full((3,), 2.0, dtype=D))
    assert torch.allclose(align_median(prediction, 1.25 * prediction, valid), torch.full((3,), 1.25, dtype=D))


def test_empty_and_single_pixels() -> None:
    value, none = torch.full((1, 1, 4, 4), torch.nan), torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    assert align_median(value, value, none).item() == 1
    for shift in (False, True):
        factor, offset = align_least_squares(value, value, none, shift=shift)
        assert (factor.item(), offset.item()) == (1, 0)
    one = none.clone()
    one[0, 0, 1, 1] = True
    prediction, truth = torch.where(one, 2.0, value), torch.where(one, 5.0, value)
    factor, offset = align_least_squares(prediction, truth, one, shift=True)
    assert factor * 2 + offset == 5


@pytest.mark.parametrize("dtype", [torch.float32, D])
@pytest.mark.parametrize("constant", [5.3, 0.01, 1234.567])
def test_a_constant_prediction_is_shifted_not_blown_up(constant: float, dtype: torch.dtype) -> None:
    truth = torch.rand(1, 1, 128, 416, dtype=dtype) * 50 + 1
    prediction = torch.full_like(truth, constant)
    factor, offset = align_least_squares(prediction, truth, truth > 0, shift=True)
    assert factor.item() == 1
    assert (factor * constant + offset).item() == pytest.approx(truth.mean().item(), rel=1e-4)


def test_gradcheck_alignment_and_normals() -> None:
    prediction, truth, valid = maps(1)
    prediction.requires_grad_()
    truth.requires_grad_()
    assert torch.autograd.gradcheck(lambda p, t: align_least_squares(p, t, valid, shift=True), (prediction, truth))
    assert torch.autograd.gradcheck(lambda p, t: align_least_squares(p, t, valid)[0], (prediction, truth))
    assert torch.autograd.gradcheck(lambda p, t: align_median(p, t, valid), (prediction, truth))
    depth = (torch.rand(1, 1, 3, 4, dtype=D) + 2).requires_grad_()
    cam = Camera(**{k: torch.tensor([v], dtype=D) for k, v in (("fx", 9.0), ("fy", 9.0), ("cx", 1.5), ("cy", 1.0))},
                 height=3, width=4)
    assert torch.autograd.gradcheck(lambda d: normals(d, cam), (depth,))


@pytest.mark.parametrize("normal", [(0.0, 0, -1), (0.3, 0, -1), (-0.2, 0.4, -1), (0, -1, -0.5)])
def test_normals_of_a_tilted_plane(normal: tuple[float, float, float]) -> None:
    cam = Camera(**{k: torch.tensor([v], dtype=D) for k, v in (("fx", 90.0), ("fy", 95.0), ("cx", 7.5), ("cy", 5.5))},
                 height=12, width=16)
    n = torch.tensor(normal, dtype=D)
    n = n / n.norm()
    # Points p with n . p = -4: depth along the ray r (z = 1) is -4 / (n . r).
    depth = (-4 / (cam.rays() @ n))[:, None]
    assert (depth > 0).all()
    found = normals(depth, cam)
    assert (found - n.view(1, 3, 1, 1)).abs().max() < 1e-10


def test_normals_of_one_pixel_are_finite() -> None:
    cam = Camera.create(1, 1, 0, 0, height=1, width=1)
    assert torch.isfinite(normals(torch.ones(1, 1, 1, 1), cam)).all()
