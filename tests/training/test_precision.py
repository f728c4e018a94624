"""Networks train in bfloat16 where the device multiplies in it, and nowhere else."""

from pathlib import Path

import pytest
import torch

from egoflow.training.precision import in_bfloat16
from egoflow.training.trainer import Trainer
from training.engine import SlidingClips, small_run

CPU = torch.device("cpu")


@pytest.mark.parametrize(("can", "expected"), [({"amx_bf16": True}, True), ({"avx512_bf16": True}, False), ({}, False)])
def test_auto_asks_the_cpu(monkeypatch: pytest.MonkeyPatch, can: dict[str, bool], expected: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: can, raising=False)
    assert in_bfloat16("auto", CPU) is expected
    assert in_bfloat16("bfloat16", CPU)
    assert not in_bfloat16("float32", CPU)


def test_a_torch_that_cannot_tell_trains_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not in_bfloat16("auto", CPU)


def test_a_gpu_that_only_imitates_it_trains_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    for real in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True, real=real: (
            including_emulation or real))
        assert in_bfloat16("auto", torch.device("cuda")) is real


def test_weights_and_their_updates_stay_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same steps with and without: a step of a hundredth would be lost in the seven bits of bfloat16."""
    ends = []
    for can in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda can=can: {"amx_bf16": can}, raising=False)
        trainer = Trainer(small_run(steps=6), SlidingClips(), out=tmp_path / str(can))
        assert trainer.bf16 is can
        trainer.fit()
        ends.append(torch.cat([p.detach().flatten() for p in trainer.method.parameters()]))
        assert all(p.dtype == torch.float32 for p in trainer.method.parameters())
    begun = torch.cat([p.detach().flatten() for p in Trainer(small_run(steps=6), SlidingClips(), out=tmp_path / "new")
                       .method.parameters()])
    apart, moved = (ends[0] - ends[1]).abs().mean(), (ends[1] - begun).abs().mean()
    assert 0 < apart < 0.5 * moved
