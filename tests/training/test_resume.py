"""Interrupted in any way, a run goes on as if it had not been."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("engine.py")
ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


def start(*words: object) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, str(SCRIPT), *map(str, words)], env=ENV, stderr=subprocess.PIPE)


def finish(*words: object) -> None:
    process = start(*words)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err.decode()


def curve(out: Path) -> list[dict]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "time_s"} for line in lines]


def wait_for_step(out: Path, step: int) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        log = out / "log.jsonl"
        if log.exists() and len(log.read_text().splitlines()) >= step:
            return
        time.sleep(0.02)
    raise AssertionError("the run did not get that far")


@pytest.mark.parametrize("optimizer", [(), ("--muon",)])
def test_kill_and_resume_equals_uninterrupted(tmp_path: Path, optimizer: tuple[str, ...]) -> None:
    finish(tmp_path / "whole", 14, *optimizer)
    killed = start(tmp_path / "killed", 14, "--slow", 0.02, *optimizer)
    wait_for_step(tmp_path / "killed", 8)
    killed.kill()
    killed.wait()
    assert len(curve(tmp_path / "killed")) < 14, "it was over before it was killed"
    finish(tmp_path / "killed", 14, "--resume", *optimizer)
    assert curve(tmp_path / "killed") == curve(tmp_path / "whole")
    a, b = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "killed"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_sigterm_saves_first(tmp_path: Path) -> None:
    process = start(tmp_path, 1000, "--slow", 0.02)
    wait_for_step(tmp_path, 3)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    from egoflow.training.checkpoint import read
    assert read(tmp_path / "last.safetensors")[1].step == curve(tmp_path)[-1]["step"]


def test_two_processes_take_the_step_of_one(tmp_path: Path) -> None:
    # In float64: Adam divides a gradient by its own size, so that in float32 rounding moves a weight by 1e-5.
    finish(tmp_path / "one", 3, "--double")
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT)]
    done = subprocess.run([*words, str(tmp_path / "two"), "3", "--double"], env=ENV, capture_output=True, timeout=180)
    assert done.returncode == 0, done.stderr.decode()
    a, b = (load_file(tmp_path / name / "last.safetensors") for name in ("one", "two"))
    worst = max(float((a[k] - b[k]).abs().max()) for k in a if k.startswith("model."))
    assert worst < 1e-9
    losses = [[line["loss/total"] for line in curve(tmp_path / name)] for name in ("one", "two")]
    torch.testing.assert_close(torch.tensor(losses[0]), torch.tensor(losses[1]), rtol=1e-5, atol=1e-6)
