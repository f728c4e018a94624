"""Train several methods on the same clips under one budget, and score each on the same tests.

Everything lies below one folder and is done once: ``METHOD-PRESET/seed0/`` is a run folder with ``training.json`` (how
it ended) and ``scores.json`` beside its checkpoint. A killed comparison goes on from there. Trainings run one after the
other in this process: the trainer seeds everything itself, and only one method's memory is needed at a time.
"""

import gc
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from egoflow.config import DataConfig, Run, first_difference, run_from_json
from egoflow.console import note
from egoflow.data.files import read_json, read_text, write_bytes, write_json
from egoflow.errors import CheckpointError, DataError, TrainingError
from egoflow.evaluation.clip_scores import describe_clip_scores
from egoflow.evaluation.depth import Crop
from egoflow.registry import load_method
from egoflow.report.compare_page import Shown, chosen_frames, write_look, write_page, write_truth
from egoflow.report.compare_table import Line, Table, Training
from egoflow.report.scoring import Look, Values, score_baselines, score_method
from egoflow.training.budget import Budget, planned_steps, prepare, train_within
from egoflow.training.checkpoint import load_run
from egoflow.training.distributed import pick_device
from egoflow.training.session import make_dataset, open_sources
from egoflow.types import FrameSource

Done = dict[tuple[str, int], tuple[Training, dict[str, Values]]]
"""How the training of a method (by name and seed) ended, and what it scores on each test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A method that takes part: ``run`` with everything but its seed and number of steps."""

    run: Run

    @property
    def name(self) -> str:
        """Return "dfnet:tiny"."""
        return f"{self.run.method}:{self.run.preset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSet:
    """Clips to score on: all at ``paths``, or the slice ``frames`` of each."""

    name: str
    paths: tuple[str, ...]
    frames: str | None = None

    def key(self) -> dict[str, Any]:
        """Return what tells it from another one, as JSON holds it."""
        return {"paths": list(self.paths), "frames": self.frames}

    def __str__(self) -> str:
        return ", ".join(self.paths) + (f" [{self.frames}]" if self.frames else "")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is compared, and ``out``, where it lies."""

    out: Path
    entries: Sequence[Entry]
    seeds: int
    budget: Budget
    tests: Sequence[ClipSet]
    crop: Crop
    sources: dict[str, list[FrameSource]] = field(default_factory=dict)
    """Opened clips of each test, by ``open_tests``."""

    @property
    def gap(self) -> int:
        """Return how many frames apart all methods see them."""
        return self.entries[0].run.data.gap

    def open_tests(self, *, may_share: bool) -> None:
        """Open the test clips; DataError where one holds frames that are trained on, unless it ``may_share`` them."""
        data = self.entries[0].run.data
        for test in self.tests:
            found = replace(data, paths=test.paths, frames=test.frames)
            self.sources[test.name] = open_sources(found, needs_camera=self._needs_camera())
            if not may_share and (path := self._shared(found)):
                raise DataError(f"--test {test.name}: {path} holds frames that are trained on; test other frames "
                                f"(PATH@200:), or say --also-training")

    def _needs_camera(self) -> bool:
        return any(load_method(entry.run.method).method_type.needs_camera for entry in self.entries)

    def _shared(self, test: DataConfig) -> str:
        """Return a test path that holds frames that are trained on, or nothing."""
        ours = _frames(self.entries[0].run.data)
        for path, names in _frames(test).items():
            if names & ours.get(path, set()) or any(path in other.parents or other in path.parents for other in ours):
                return str(path)
        return ""

    def check_data(self) -> None:
        """Raise what a method's clips cannot be made for, before anything is trained."""
        for entry in self.entries:
            make_dataset(entry.run, self._training_clips(entry), cache=None)

    def _training_clips(self, entry: Entry) -> list[FrameSource]:
        needs_camera = load_method(entry.run.method).method_type.needs_camera
        return open_sources(entry.run.data, needs_camera=needs_camera)

    def carry_out(self) -> list[Table]:
        """Train and score what is not done yet, write the tables after each training, and return them."""
        shown = {name: chosen_frames(name, clips, gap=self.gap) for name, clips in self.sources.items()}
        for name, frames in shown.items():
            for frame in frames:
                write_truth(self.out / "pictures", frame, self.sources[name][frame.number])
        baselines = {test.name: self._baselines(test) for test in self.tests}
        done: Done = {}
        tables: list[Table] = []
        # Seeds in the outer loop: the first table with every method is there early.
        for seed in range(self.seeds):
            for entry in self.entries:
                done[entry.name, seed] = self._one(entry, seed, shown)
                tables = self._tables(done, baselines)
                self._write(tables, shown)
        return tables

    def folder(self, entry: Entry, seed: int) -> Path:
        """Return the run folder of a training."""
        return self.out / entry.name.replace(":", "-") / f"seed{seed}"

    def _one(self, entry: Entry, seed: int, shown: dict[str, list[Shown]]) -> tuple[Training, dict[str, Values]]:
        """Return how one training ended and what it scores on each test."""
        folder = self.folder(entry, seed)
        known = read_json(folder / "training.json")
        training = Training(**known) if known else self._train(entry, seed)
        if training.status == "trained":
            self._refuse_other(entry, seed)
            try:
                return training, {test.name: self._scores(entry, seed, test, shown[test.name]) for test in self.tests}
            except CheckpointError as error:
                training = replace(training, status="failed", message=str(error))
        write_json(folder / "training.json", asdict(training))
        note(training.remark())
        return training, {}

    def _refuse_other(self, entry: Entry, seed: int) -> None:
        """Raise CheckpointError where a finished training had other settings than those asked for."""
        path = self.folder(entry, seed) / "run.json"
        found = run_from_json(read_text(path), load_method(entry.run.method).config_type, name=path)
        other = first_difference(found, self._seeded(entry, seed))
        if other is not None:
            raise CheckpointError(f"{path}: was trained with another {other}; remove its folder to train it again, or "
                                  f"give another --out")

    def _seeded(self, entry: Entry, seed: int) -> Run:
        return replace(entry.run, loop=replace(entry.run.loop, seed=seed))

    def _train(self, entry: Entry, seed: int) -> Training:
        """Train until the budget is used up; a collapse or a NaN is an outcome too."""
        folder, run = self.folder(entry, seed), self._seeded(entry, seed)
        note(f"{entry.name}, seed {seed}: {self.budget}")
        dataset = make_dataset(run, self._training_clips(entry), cache=self.out / "cache")
        prepare(dataset)
        plan = read_json(folder.parent / "plan.json")
        try:
            if not plan:
                steps, step_s = planned_steps(run, dataset, self.budget, scratch=folder.parent / "timing")
                plan = {"steps": steps, "step_s": step_s}
                write_json(folder.parent / "plan.json", plan)
            run = replace(run, loop=replace(run.loop, steps=plan["steps"]))
            state = train_within(run, dataset, self.budget, out=folder)
            ended = Training(method=entry.name, seed=seed, status="trained", steps=state.step, planned=plan["steps"],
                             seconds=state.elapsed_s, step_s=plan["step_s"])
        except (TrainingError, torch.OutOfMemoryError) as error:
            return Training(method=entry.name, seed=seed, status="failed", steps=0, planned=plan.get("steps", 0),
                            seconds=0.0, step_s=plan.get("step_s"), message=" ".join(str(error).split()))
        finally:
            # Optimiser and frames of this training must be gone before the next one's come.
            del dataset
            gc.collect()
        write_json(folder / "training.json", asdict(ended))
        return ended

    def _scores(self, entry: Entry, seed: int, test: ClipSet, shown: list[Shown]) -> Values:
        """Return what a finished training scores on a test: once computed, from its file."""
        path = self.folder(entry, seed) / "scores.json"
        known, key = read_json(path), test.key() | {"crop": self.crop}
        if known.get(test.name, {}).get("test") == key:
            return known[test.name]["values"]
        run, method, _ = load_run(path.parent)
        clips, frames = self.sources[test.name], {(f.number, f.index): f for f in shown if seed == 0}

        def look(number: int, index: int, seen: Look) -> None:
            if (number, index) in frames:
                write_look(path.parent / "pictures", frames[number, index], clips[number], seen)

        values = score_method(method.to(pick_device(run.loop.device)), run, clips, crop=self.crop, look=look,
                              label=f"scoring {entry.name}, seed {seed}, on {test.name}")
        write_json(path, known | {test.name: {"test": key, "values": values}})
        return values

    def _baselines(self, test: ClipSet) -> dict[str, Values]:
        """Return what the baselines score on a test: once computed, from their file."""
        path, gap = self.out / "baselines.json", self.gap
        known, key = read_json(path), test.key() | {"crop": self.crop, "gap": gap}
        if known.get(test.name, {}).get("test") != key:
            values = score_baselines(self.sources[test.name], gap=gap, crop=self.crop)
            known |= {test.name: {"test": key, "values": values}}
            write_json(path, known)
        return known[test.name]["values"]

    def _tables(self, done: Done, baselines: dict[str, dict[str, Values]]) -> list[Table]:
        """Return a table for each test of what is done so far."""
        found, data = [], self.entries[0].run.data
        for test in self.tests:
            lines = []
            for entry in self.entries:
                ended = [done[entry.name, seed] for seed in range(self.seeds) if (entry.name, seed) in done]
                lines.append(Line(name=entry.name, trainings=[training for training, _ in ended],
                                  seeds=[scores[test.name] for _, scores in ended if test.name in scores]))
            lines += [Line(name=name, seeds=[values]) for name, values in baselines[test.name].items()]
            clips = self.sources[test.name]
            trained = ClipSet(name="training", paths=data.paths, frames=data.frames)
            words = {"trained on": str(trained), "budget": f"{self.budget} a training", "seeds": str(self.seeds),
                     "tested on": str(test), "clips": str(len(clips)), "frames": str(sum(map(len, clips))),
                     **describe_clip_scores(self.crop)}
            found.append(Table(name=test.name, words=words, lines=lines))
        return found

    def _write(self, tables: list[Table], shown: dict[str, list[Shown]]) -> None:
        """Write table.md, table.json and index.html of what is done so far."""
        title = (f"{', '.join(entry.name for entry in self.entries)}: {self.budget} each, "
                 f"{self.seeds} seed{'s' * (self.seeds > 1)}")
        write_bytes(self.out / "table.md", "\n".join(table.markdown() for table in tables).encode())
        write_json(self.out / "table.json", {"title": title, "tests": [table.json() for table in tables]})
        pictures = {entry.name: self.folder(entry, 0) / "pictures" for entry in self.entries}
        write_page(self.out, title=title, tables=tables, shown=shown, pictures=pictures)


def _frames(data: DataConfig) -> dict[Path, set[str]]:
    """Return the names of the frames at each path of ``data``."""
    found = {}
    for path in data.paths:
        clips = open_sources(replace(data, paths=(path,)), needs_camera=False)
        found[Path(path).resolve()] = {f"{number}/{clip.frame_name(index)}" for number, clip in enumerate(clips)
                                       for index in range(len(clip))}
    return found
