"""Checkpoints are whole or absent, and damage is one clear line."""

import errno
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from egoflow.errors import CheckpointError
from egoflow.registry import load_method
from egoflow.training import checkpoint
from egoflow.training.checkpoint import State
from training.engine import small_run


def method() -> torch.nn.Module:
    run = small_run(steps=1)
    return load_method("sfmlearner").method_type(run.config)


def test_full_disk_leaves_the_last_checkpoint_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, net = tmp_path / "last.safetensors", method()
    checkpoint.save(path, small_run(steps=1), net, State(step=1))
    before = path.read_bytes()

    def full(tensors: dict, name: Path, metadata: dict) -> None:
        Path(name).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(CheckpointError, match="No space left"):
        checkpoint.save(path, small_run(steps=1), net, State(step=2))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["last.safetensors"]


def test_missing_foreign_and_truncated_files(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        checkpoint.read(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        checkpoint.read(path)
    checkpoint.save(path, small_run(steps=1), method(), State(step=1))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.read(path)


@given(st.binary(max_size=300))
@settings(max_examples=50, deadline=None)
def test_any_bytes_give_one_line(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "last.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as error:
        checkpoint.read(path)
    assert "\n" not in str(error.value)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    checkpoint.save(path, small_run(steps=1), torch.nn.Linear(2, 2), State(step=1))
    with pytest.raises(CheckpointError, match="another method"):
        checkpoint.load_run(tmp_path)


def test_the_file_does_not_depend_on_memory_layout(tmp_path: Path) -> None:
    net = method()
    checkpoint.save(tmp_path / "a", small_run(steps=1), net, State(step=1))
    checkpoint.save(tmp_path / "b", small_run(steps=1), net.to(memory_format=torch.channels_last), State(step=1))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
