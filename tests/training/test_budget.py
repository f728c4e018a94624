"""A time becomes a number of steps, and training ends when the time is over."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from egoflow.errors import ConfigError
from egoflow.methods.base import Phase
from egoflow.training.budget import PLANNED, Budget, parse_budget, planned_steps, train_within
from egoflow.types import Clip
from training.engine import SlidingClips, small_run


@pytest.mark.parametrize(("text", "budget", "said"), [
    ("8m", Budget(seconds=480), "8:00"), ("90s", Budget(seconds=90), "1:30"), ("1.5h", Budget(seconds=5400), "1:30:00"),
    ("500", Budget(steps=500), "500 steps")])
def test_budgets_are_times_or_steps(text: str, budget: Budget, said: str) -> None:
    assert parse_budget(text) == budget
    assert str(budget) == said


@pytest.mark.parametrize("text", ["", "0", "0m", "-5m", "1.5", "8 m", "8min", "m", "1e3"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected a time such as 8m"):
        parse_budget(text)


def test_steps_follow_from_the_time_of_a_step(tmp_path: Path) -> None:
    # Four clips a step that take 0.05 s each, and a little work.
    clips, run, scratch = SlidingClips(slow=0.05), small_run(steps=7), tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "last.safetensors").write_text("left by a trial that was killed")
    steps, step_s = planned_steps(run, clips, Budget(seconds=30), scratch=scratch)  # type: ignore[arg-type]
    assert step_s is not None
    assert step_s >= 0.2
    assert steps == int(PLANNED * 30 / step_s)
    assert not scratch.exists()
    assert planned_steps(run, clips, Budget(steps=5), scratch=scratch) == (5, None)  # type: ignore[arg-type]


def test_what_else_the_machine_does_in_a_trial_counts_for_nothing(tmp_path: Path) -> None:
    class Disturbed(SlidingClips):
        read = 0

        def __getitem__(self, key: tuple[int, int]) -> Clip:
            self.read += 1
            time.sleep(1.0 if self.read % 30 == 0 else 0)
            return super().__getitem__(key)

    clips, run = Disturbed(slow=0.05), small_run(steps=7)
    _, step_s = planned_steps(run, clips, Budget(seconds=100), scratch=tmp_path / "scratch")  # type: ignore[arg-type]
    assert clips.read >= 60
    assert step_s is not None
    assert 0.2 <= step_s < 0.33


def test_every_phase_has_its_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine tenths of the steps read four clips at no cost, the last tenth's take .5 s each."""
    class Slower(SlidingClips):
        read = 0

        def __getitem__(self, key: tuple[int, int]) -> Clip:
            self.read += 1
            time.sleep(0.125 if self.read > 4 * 18 else 0)
            return super().__getitem__(key)

    monkeypatch.setattr("egoflow.methods.sfmlearner.SfMLearner.phases", lambda self: (
        Phase(name="first", share=0.9), Phase(name="second", share=0.1)))
    monkeypatch.setattr("egoflow.training.budget._FIRST", 20)
    _, step_s = planned_steps(small_run(steps=7), Slower(), Budget(seconds=1), scratch=tmp_path)  # type: ignore[arg-type]
    assert step_s is not None
    assert 0.05 < step_s < 0.2


def test_training_ends_with_its_time_and_is_not_begun_again(tmp_path: Path) -> None:
    clips, run = SlidingClips(slow=0.02), small_run(steps=1000)
    state = train_within(run, clips, Budget(seconds=0.5), out=tmp_path)  # type: ignore[arg-type]
    assert 0 < state.step < 1000
    assert state.elapsed_s >= 0.5
    again = train_within(run, clips, Budget(seconds=0.5), out=tmp_path)  # type: ignore[arg-type]
    assert (again.step, again.elapsed_s) == (state.step, state.elapsed_s)
    # A larger budget goes on from there; the schedule's length is the run's own.
    more = train_within(replace(run, loop=replace(run.loop, steps=state.step + 2)), clips,  # type: ignore[arg-type]
                        Budget(seconds=60), out=tmp_path)
    assert more.step == state.step + 2
    assert json.loads((tmp_path / "run.json").read_text())["loop"]["minutes"] < 1
