"""The loop stops before harm, freezes what a phase does not train, and keeps the best."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from egoflow.data.clips import collate
from egoflow.errors import CheckpointError, ConfigError, TrainingError
from egoflow.methods.base import Phase
from egoflow.training.checkpoint import load_run, read
from egoflow.training.trainer import Trainer
from training.engine import SlidingClips, small_run


def test_non_finite_loss_stops_before_the_step_and_names_the_sample(tmp_path: Path) -> None:
    trainer = Trainer(small_run(steps=10), SlidingClips(poison=7), out=tmp_path)
    with pytest.raises(TrainingError, match=r"sliding/000007") as error:
        trainer.fit()
    assert "000003" not in str(error.value)
    assert all(bool(torch.isfinite(p).all()) for p in trainer.method.parameters())


def test_a_phase_trains_only_its_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(small_run(steps=4), SlidingClips(), out=tmp_path)
    phases = tuple(Phase(name=name, share=0.5, trains=(f"{name}_net",)) for name in ("motion", "depth"))
    monkeypatch.setattr(type(trainer.method), "phases", lambda self: phases)
    before = {n: p.detach().clone() for n, p in trainer.method.named_parameters()}
    trainer.run = replace(trainer.run, loop=replace(trainer.run.loop, save_every=2))
    seen = {}
    save = trainer._save
    monkeypatch.setattr(trainer, "_save", lambda recorder: (save(recorder), seen.update({
        trainer.state.step: {n: not torch.equal(p, before[n]) for n, p in trainer.method.named_parameters()}})))
    trainer.fit()
    changed = {n for n, c in seen[2].items() if c}
    assert changed
    assert all(n.startswith("motion_net") for n in changed)
    assert any(n.startswith("depth_net") for n, c in seen[4].items() if c)


def test_best_is_kept_by_held_out_score(tmp_path: Path) -> None:
    held_out = [collate([SlidingClips()[i, 0]]) for i in range(2)]
    state = Trainer(small_run(steps=10), SlidingClips(), out=tmp_path, held_out=held_out).fit()
    _, best, _ = read(tmp_path / "best.safetensors")
    assert best.best == state.best < float("inf")


@pytest.mark.parametrize("stops", [0, 2])
def test_a_new_phase_sets_its_own_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stops: int) -> None:
    """Losses of another phase are of another scale: the second, scored a hundred times worse, is kept all the same.

    Also where training was stopped at the last step of the first one, and went on.
    """
    held_out = [collate([SlidingClips()[0, 0]])]
    run = small_run(steps=4)
    run = replace(run, loop=replace(run.loop, save_every=2))
    phases = tuple(Phase(name=name, share=0.5) for name in ("first", "second"))
    monkeypatch.setattr("egoflow.methods.sfmlearner.SfMLearner.phases", lambda self: phases)
    trainers: list[Trainer] = []
    for number in range(stops + 1):
        # Over before the first step ends: one step at a time.
        loop = replace(run.loop, minutes=1e-9 if number < stops else None)
        trainers.append(Trainer(
            replace(run, loop=loop), SlidingClips(), out=tmp_path, held_out=held_out, resume=number > 0,
            judge=lambda *_: {"score": 1.0 if trainers[-1].phase == phases[0] else 100.0}))
        trainers[-1].fit()
    _, best, _ = read(tmp_path / "best.safetensors")
    assert (best.step, best.best) == (4, 100.0)


def test_loaded_run_predicts_what_the_trained_method_predicts(tmp_path: Path) -> None:
    trainer = Trainer(small_run(steps=3), SlidingClips(), out=tmp_path)
    trainer.fit()
    _, method, _ = load_run(tmp_path)
    clip = SlidingClips()[0, 0]
    with torch.no_grad():
        a, b = trainer.method.eval().predict(clip), method.predict(clip)
    torch.testing.assert_close(a.inv_depth[1][0], b.inv_depth[1][0])
    torch.testing.assert_close(a.motion[1, 0].t, b.motion[1, 0].t)


def test_resume_with_other_settings_is_refused(tmp_path: Path) -> None:
    run = small_run(steps=2)
    Trainer(run, SlidingClips(), out=tmp_path).fit()
    other = replace(run, config=replace(run.config, smooth_weight=1.0))
    with pytest.raises(CheckpointError, match="another config.smooth_weight"):
        Trainer(other, SlidingClips(), out=tmp_path, resume=True)


def test_batch_must_divide_over_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("egoflow.training.distributed.join", lambda device: (0, 3))
    with pytest.raises(ConfigError, match="3 processes"):
        Trainer(small_run(steps=2), SlidingClips(), out=tmp_path)
