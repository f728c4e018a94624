"""A time becomes a number of steps, and training ends when the time is over."""

import json
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import pytest

from egoflow.errors import ConfigError
from egoflow.methods.base import Phase
from egoflow.training.budget import (
    PLANNED,
    Budget,
    parse_budget,
    planned_steps,
    seconds_of_a_step,
    train_within,
)
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


def seconds(times: list[float], *shares: float) -> float:
    """Return the seconds of a step of a trial whose first step ended at 9 s and whose others took these times."""
    # Phases of one share are equal, as where two networks take turns.
    phases = [Phase(name=str(share), share=share) for share in shares]
    return seconds_of_a_step(phases, list(accumulate(times, initial=9.0)))


def test_what_else_the_machine_does_in_a_trial_counts_for_little() -> None:
    assert seconds([0.5] * 29, 1.0) == pytest.approx(0.5)
    assert seconds([0.5] * 15 + [20.0] + [0.5] * 13, 1.0) == pytest.approx(0.5 + 0.5 / 29)


def test_a_phase_that_gets_dearer_halfway_costs_its_mean() -> None:
    assert seconds([0.5] * 20 + [0.9] * 19, 1.0) == pytest.approx((20 * 0.5 + 19 * 0.9) / 39)


@pytest.mark.parametrize(("shares", "expected"), [((0.5, 0.5), 1.5), ((0.25, 0.5, 0.25), 1.5), ((0.9, 0.1), 1.1)])
def test_every_phase_has_its_share_of_the_time(shares: tuple[float, ...], expected: float) -> None:
    """Whatever steps of it the trial had: phases of 1 s and of 2 s take turns."""
    ends = [sum(shares[:i + 1]) for i in range(len(shares))]
    times = [1.0 if sum(step / 20 >= end - 1e-9 for end in ends) % 2 == 0 else 2.0 for step in range(1, 20)]
    assert seconds(times, *shares) == pytest.approx(expected)


def test_a_trial_without_a_step_of_a_phase_asks_the_others() -> None:
    assert seconds([1.0, 1.0, 1.0], 0.9, 0.1) == pytest.approx(1.0)


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
