"""A collapse goes back to where all was well, turns one knob, and a second one ends training with its reason."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from egoflow.config import first_difference, with_settings
from egoflow.errors import TrainingError
from egoflow.fit import teach as module
from egoflow.fit.plan import Plan
from egoflow.fit.proxy import GAP, KEY
from egoflow.fit.teach import choose, knob, roll_back, teach
from egoflow.registry import load_preset
from egoflow.training import checkpoint
from egoflow.training.trainer import Trainer
from egoflow.training.watchdog import CollapseError
from egoflow.worlds.base import load_world
from training.engine import SlidingClips, small_run


def trained(folder: Path) -> Any:
    """Return the run of a few steps whose last healthy checkpoint is that of step 4."""
    run = small_run(steps=8, save_every=4)
    run = replace(run, loop=replace(run.loop, watchdog=True))
    Trainer(replace(run, loop=replace(run.loop, steps=4)), SlidingClips(), out=folder).fit()
    kept = (folder / "healthy.safetensors").read_bytes()
    Trainer(run, SlidingClips(), out=folder, resume=True).fit()
    # Both names are of one file where the disk knows links.
    (folder / "healthy.safetensors").unlink()
    (folder / "healthy.safetensors").write_bytes(kept)
    return run


def test_training_goes_back_to_its_last_healthy_step_with_the_knob_turned(tmp_path: Path) -> None:
    run = trained(tmp_path)
    roll_back(tmp_path, run)
    assert checkpoint.read(tmp_path / "last.safetensors")[1].step == 8
    turned = with_settings(run, [knob("scale runaway", run, [])])
    roll_back(tmp_path, turned)
    found, state, tensors = checkpoint.read(tmp_path / "last.safetensors")
    assert state.step == 4
    assert found.optim.lr == pytest.approx(run.optim.lr / 3, rel=1e-4)
    assert first_difference(found, turned) is None
    _, _, healthy = checkpoint.read(tmp_path / "healthy.safetensors")
    assert set(tensors) == set(healthy)
    assert all(torch.equal(tensors[key], healthy[key]) for key in tensors)
    # Killed and started again before the first save, it is the same.
    roll_back(tmp_path, turned)
    assert checkpoint.read(tmp_path / "last.safetensors")[1].step == 4
    assert Trainer(turned, SlidingClips(), out=tmp_path, resume=True).fit().step == 8


def test_without_a_healthy_step_training_begins_anew(tmp_path: Path) -> None:
    run = trained(tmp_path)
    (tmp_path / "healthy.safetensors").unlink()
    roll_back(tmp_path, with_settings(run, ["optim.lr=1e-5"]))
    assert not (tmp_path / "last.safetensors").exists()


@pytest.mark.parametrize(("symptom", "setting"), [
    ("zero motion", "data.gap=2"), ("constant depth", "optim.lr=0.000233333"),
    ("saturated depth", "optim.lr=0.000233333"), ("mask at 0", "optim.lr=0.000233333"),
    ("not finite", "optim.lr=0.000233333")])
def test_each_symptom_has_its_knob(symptom: str, setting: str) -> None:
    _, run = load_preset("joint:tiny")
    assert knob(symptom, run, [load_world("drive", frames=5, height=16, width=32)]) == setting
    with_settings(run, [setting])


def test_frames_are_not_set_farther_apart_than_a_shot_is_long() -> None:
    _, run = load_preset("joint:tiny")
    shots = [load_world("drive", frames=frames, height=16, width=32) for frames in (9, 4)]
    assert knob("zero motion", run, shots) == "optim.lr=0.000233333"


def test_nor_than_a_clip_of_five_frames_allows() -> None:
    _, run = load_preset("sfmlearner:tiny")
    shots = [load_world("drive", frames=8, height=16, width=32)]
    assert knob("zero motion", run, shots) == "data.gap=2"
    five = replace(run, config=replace(run.config, frames=5))
    assert knob("zero motion", five, shots) == f"optim.lr={run.optim.lr / 3:g}"


@pytest.mark.parametrize("left", [0.39, 0.4])
def test_what_is_no_better_than_its_start_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: float
                                                     ) -> None:
    run = trained(tmp_path / "training")
    monkeypatch.setattr(module, "unexplained_flow", lambda *args, **kwargs: 0.4)
    monkeypatch.setattr(module, "unexplained_by_pair", lambda *args, **kwargs: [left] * 5)
    monkeypatch.setattr(module, "stand_in_camera", lambda out: "fov=60")
    if left < 0.4:
        assert module._chosen(tmp_path, tmp_path / "training", Plan(run=run, seconds=None), []).chosen == left
        assert (tmp_path / checkpoint.MODEL).exists()
    else:
        with pytest.raises(TrainingError, match=r"made nothing better: depth leaves 0\.400 .* and left 0\.400 before"):
            module._chosen(tmp_path, tmp_path / "training", Plan(run=run, seconds=None), [])
        assert not (tmp_path / checkpoint.MODEL).exists()


def test_masks_have_theirs_where_there_are_some() -> None:
    _, run = load_preset("sfmlearner:tiny")
    weight = run.config.explain_weight
    for symptom, factor in (("mask at 0", 3), ("mask at 1", 1 / 3)):
        turned = with_settings(run, [knob(symptom, run, [])])
        assert turned.config.explain_weight == pytest.approx(factor * weight, rel=1e-4)


@pytest.mark.parametrize(("last_score", "chosen"), [(0.30, "last"), (0.349, "last"), (0.351, "best"), (2.0, "best")])
def test_the_last_checkpoint_is_chosen_unless_it_is_clearly_worse(tmp_path: Path, last_score: float, chosen: str
                                                                  ) -> None:
    run = trained(tmp_path)
    _, state, _ = checkpoint.read(tmp_path / "last.safetensors")
    checkpoint.copy(tmp_path / "last.safetensors", tmp_path / "best.safetensors", run, replace(state, best=0.30))
    # A score of an earlier phase is of no account.
    history = [(1, 0.1), (2, 0.30), (4, last_score)]
    assert choose(tmp_path, history, flat=0.4) == tmp_path / f"{chosen}.safetensors"


def test_without_a_score_the_last_checkpoint_is_chosen(tmp_path: Path) -> None:
    trained(tmp_path)
    assert choose(tmp_path, [], flat=math.nan) == tmp_path / "last.safetensors"


@pytest.mark.parametrize("collapses", [1, 2])
def test_one_collapse_is_mended_and_two_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collapses: int
                                                 ) -> None:
    rates: list[float] = []

    def train(folder: Path, plan: Plan, *rest: object) -> None:
        rates.append(plan.run.optim.lr)
        if len(rates) <= collapses:
            raise CollapseError("stopped at step 40: saturated depth: lower optim.lr", symptom="saturated depth")

    monkeypatch.setattr(module, "_train", train)
    monkeypatch.setattr(module, "held_out_clips", lambda *args, **kwargs: [])
    monkeypatch.setattr(module, "_chosen", lambda *args, **kwargs: module.Scores(
        step=1, steps=1, trained=1, chosen=None, interval=None, start=None, flat=None, history=(), elapsed_s=1.0))
    _, run = load_preset("joint:tiny")
    plan = Plan(run=run, seconds=None)
    sources = [type("Source", (), {"camera": SlidingClips()[0, 0].camera})()]
    if collapses == 1:
        assert teach(tmp_path, plan, sources)[0].changes == ("optim.lr=0.000233333",)  # type: ignore[arg-type]
        assert rates == pytest.approx([7e-4, 7e-4 / 3], rel=1e-4)
        assert "optim.lr=0.000233333" in (tmp_path / "plan.json").read_text()
    else:
        with pytest.raises(TrainingError, match="saturated depth.*tried already: optim.lr=0.000233333"):
            teach(tmp_path, plan, sources)  # type: ignore[arg-type]


def test_a_plan_goes_on_on_another_device() -> None:
    _, run = load_preset("sfmlearner:tiny")
    plan = Plan(run=run, seconds=60.0, changes=("data.gap=2",))
    moved = plan.on("cpu")
    assert moved.run.loop.device == "cpu" != run.loop.device
    assert first_difference(moved.run, run) is None
    assert (moved.seconds, moved.changes) == (plan.seconds, plan.changes)


def test_scores_of_another_frame_distance_are_of_no_account(tmp_path: Path) -> None:
    """A collapse to zero motion asks for frames farther apart, of which all depth explains less."""
    rows: list[dict[str, float]] = [{"step": 40, KEY: 0.2, GAP: 1}, {"step": 50, "loss/total": 1.0},
                                    {"step": 80, KEY: 0.5, GAP: 2}, {"step": 120, KEY: 0.4, GAP: 2}]
    log = tmp_path / "log.jsonl"
    log.write_text("\n".join(map(json.dumps, rows)))
    assert module._history(log, gap=2) == [(80, 0.5), (120, 0.4)]
    assert module._history(log, gap=1) == [(40, 0.2)]
