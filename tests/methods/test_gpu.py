"""What every method gives on a GPU is what it gives on a CPU; skipped where there is no GPU."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from egoflow.registry import load_preset
from methods.test_contracts import clip_for, detached, every_network, fresh, leaves

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")


@pytest.fixture(autouse=True)
def _float32() -> Iterator[None]:
    """Keep TF32 out: its ten bits would hide a difference."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@every_network
def test_losses_and_predictions_are_those_of_the_cpu(spec: str) -> None:
    method = fresh(spec).eval()
    clip = clip_for(method, size=(64, 96), start=load_preset(spec)[0].method_type.needs_camera)
    with torch.no_grad():
        terms, prediction = method(clip, 0.5)
        method.cuda()
        gpu_terms, gpu_prediction = method(clip.to(torch.device("cuda")), 0.5)
    ours, theirs = detached(gpu_terms), detached(terms)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, rel=2e-3, abs=1e-5), name
    for on_gpu, on_cpu in zip(leaves(gpu_prediction), leaves(prediction), strict=True):
        assert on_gpu.is_cuda
        torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=1e-3, atol=1e-3 * float(on_cpu.abs().max()))


@every_network
def test_a_step_under_bfloat16_has_finite_gradients(spec: str) -> None:
    method = fresh(spec).cuda()
    clip = clip_for(method, size=(64, 96), start=load_preset(spec)[0].method_type.needs_camera)
    with torch.autocast("cuda", torch.bfloat16):
        terms, _ = method(clip.to(torch.device("cuda")), 0.9)
    terms.total.backward()
    gradients = [p.grad for p in method.parameters() if p.grad is not None]
    assert gradients
    assert all(bool(torch.isfinite(g).all()) for g in gradients)


@every_network
@torch.no_grad()
def test_motions_solved_on_the_gpu_are_those_of_the_cpu(spec: str) -> None:
    entry, run = load_preset(spec)
    if run.motion == "net" or not entry.method_type.needs_camera:
        pytest.skip("takes the network's motions as they are")
    method = fresh(spec).eval()
    method.motion_mode = run.motion
    clip = replace(clip_for(method, size=(64, 96), start=True), truth=None)
    expected = method.predicted(clip).motion
    found = method.cuda().predicted(clip.to(torch.device("cuda"))).motion
    for pair, motion in expected.items():
        torch.testing.assert_close(found[pair].R.cpu(), motion.R, rtol=0, atol=1e-3)
        torch.testing.assert_close(found[pair].t.cpu(), motion.t, rtol=1e-2, atol=1e-3)
