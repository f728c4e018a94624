"""A training that takes a given time. The rate schedule counts steps, so a time is turned into steps first.

Some real steps of a throw-away trainer are timed. It runs through the whole schedule in few steps, so that every phase
of a method has its share of the time. Reading frames and the two-view start are done before: they do not count.
"""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import mean, median

from egoflow.config import Run
from egoflow.console import duration, note, track
from egoflow.data.clips import ClipDataset
from egoflow.errors import ConfigError
from egoflow.methods.base import Phase, phase_at
from egoflow.training import checkpoint
from egoflow.training.checkpoint import State
from egoflow.training.held_out import Judge
from egoflow.training.session import prepare_start
from egoflow.training.trainer import Trainer
from egoflow.types import Clip

PLANNED = 0.92
"""Share of the time that the steps are planned for: the last one must come before the time is over, and a step of a
whole training takes 3 to 8 % longer than one of the trial."""
TRIAL_SHARE = 0.05
_FIRST, _MOST = 4, 80  # Steps of the trials; the first step of each is a warm-up.
_SAVES = 10
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a training may take: ``seconds``, or a number of ``steps``; exactly one of them is not None."""

    seconds: float | None = None
    steps: int | None = None

    def __str__(self) -> str:
        return f"{self.steps} steps" if self.seconds is None else duration(self.seconds)


def parse_budget(text: str) -> Budget:
    """Return the budget of "8m", "90s", "1.5h" or "500" (steps); ConfigError otherwise."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    number = float(found[1]) if found else 0.0
    if not found or number == 0 or (not found[2] and number != int(number)):
        raise ConfigError(f"--budget {text}: expected a time such as 8m, 90s or 1.5h, or a number of steps such as 500")
    return Budget(seconds=number * _SECONDS[found[2]]) if found[2] else Budget(steps=int(number))


def prepare(dataset: ClipDataset) -> None:
    """Compute the two-view start and read every clip once, so that neither is timed nor trained on the budget."""
    prepare_start(dataset)
    for index in track(range(len(dataset)), label="reading frames"):
        dataset.item(index)


def planned_steps(run: Run, dataset: ClipDataset, budget: Budget, *, scratch: Path, share: float = PLANNED
                  ) -> tuple[int, float | None]:
    """Return the steps that ``share`` of the budget allows and, where they were timed, the seconds of one.

    ``scratch`` is a folder for the throw-away trainings; it is removed.
    """
    if budget.seconds is None:
        return budget.steps or 1, None
    step_s = _trial(run, dataset, _FIRST, scratch)
    more = min(int(TRIAL_SHARE * budget.seconds / step_s), _MOST)
    if more > _FIRST:
        step_s = _trial(run, dataset, more, scratch)
    return max(1, int(share * budget.seconds / step_s)), step_s


def _trial(run: Run, dataset: ClipDataset, steps: int, scratch: Path) -> float:
    """Return the seconds of a step of a throw-away training."""
    loop = replace(run.loop, steps=steps, minutes=None, log_every=1, save_every=steps, watchdog=False)
    # A trial that was killed has left its folder.
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        trainer = Trainer(replace(run, loop=loop), dataset, out=scratch)
        trainer.fit()
        ends = [json.loads(line)["time_s"] for line in (scratch / "log.jsonl").read_text().splitlines()]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return seconds_of_a_step(trainer.method.phases(), ends)


def seconds_of_a_step(phases: Sequence[Phase], ends: Sequence[float]) -> float:
    """Return the mean seconds of a step whose phases have their shares, given when each step of a trial ended.

    The first step, a warm-up, is left out. One counts as twice its phase's median at most: what else the machine does
    for some seconds of a trial would cost the whole training steps.
    """
    seen: dict[tuple[Phase, float], list[float]] = {}
    for step, (before, after) in enumerate(pairwise(ends), start=1):
        seen.setdefault(phase_at(phases, step / len(ends)), []).append(after - before)
    usual = {key: mean(min(time, 2 * median(times)) for time in times) for key, times in seen.items()}
    return sum(phase.share * usual[phase, start] for phase, start in seen) / sum(phase.share for phase, _ in seen)


def train_within(run: Run, dataset: ClipDataset, budget: Budget, *, out: Path, held_out: list[Clip] | None = None,
                 judge: Judge | None = None) -> State:
    """Train ``run`` into ``out``, or go on from what was saved there, until its steps or the time are over.

    ``held_out`` and ``judge`` choose the best checkpoint, as ``Trainer`` says. Time that was spent before an
    interruption counts, as far as its steps were saved.
    """
    last = out / "last.safetensors"
    saved = checkpoint.read(last)[1] if last.exists() else None
    left = None if budget.seconds is None else (budget.seconds - (saved.elapsed_s if saved else 0.0)) / 60
    if saved is not None and (saved.step >= run.loop.steps or (left is not None and left <= 0)):
        return saved
    if saved is not None:
        note(f"{out}: goes on from step {saved.step}")
    often = min(run.loop.save_every, max(1, run.loop.steps // _SAVES))
    run = replace(run, loop=replace(run.loop, minutes=left, save_every=often))
    return Trainer(run, dataset, out=out, resume=saved is not None, held_out=held_out, judge=judge).fit()
