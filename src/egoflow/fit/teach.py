"""Train by the plan: after a collapse from where all was well and with one knob turned; choose without truth."""

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch

from egoflow.config import Run, first_difference
from egoflow.console import note
from egoflow.data.cameras import read_camera
from egoflow.data.files import needed_json, write_json
from egoflow.data.lens import read_lens
from egoflow.data.open import camera_file
from egoflow.errors import TrainingError
from egoflow.evaluation.bootstrap import block_length, mean_interval
from egoflow.fit.footage import holds_clip, read_footage
from egoflow.fit.plan import Plan, write_plan
from egoflow.fit.proxy import (
    GAP,
    KEY,
    held_out_clips,
    judged,
    last_will_do,
    unexplained_by_flat_depth,
    unexplained_by_pair,
    unexplained_flow,
)
from egoflow.inference import model_card
from egoflow.registry import build_method
from egoflow.training import checkpoint
from egoflow.training.budget import Budget, prepare, train_within
from egoflow.training.checkpoint import State
from egoflow.training.distributed import pick_device
from egoflow.training.session import make_dataset
from egoflow.training.watchdog import CollapseError
from egoflow.types import Clip, FrameSource

FILE, LAST = "scores.json", "last.safetensors"
OVERTIME = 1.5
"""A training that takes so many times its planned time is ended: the machine has become busy."""
NOT_FINITE = "not finite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What was left unexplained (fit/proxy.py): by the chosen checkpoint, before training, and by flat depth.

    Of ``steps`` that were planned ``trained`` were taken, and ``step`` is chosen. None where no held-out pair tells.
    ``interval`` is that of ``chosen`` over pairs, 95 %. ``history`` has (step, score) of every checkpoint.
    """

    step: int
    steps: int
    trained: int
    chosen: float | None
    interval: tuple[float, float] | None
    start: float | None
    flat: float | None
    history: tuple[tuple[int, float], ...]
    elapsed_s: float


def teach(out: Path, plan: Plan, sources: Sequence[FrameSource]) -> tuple[Plan, Scores]:
    """Train below ``out/training`` and write ``out/model.safetensors``, or go on with it.

    Raises TrainingError where training collapses twice, or where the checkpoint that is chosen is no better than none.
    """
    folder = out / "training"
    if ended(out):
        return plan, read_scores(out)
    cache = folder / "cache"
    while True:
        held_out = held_out_clips(plan.run, sources, cache=cache)
        roll_back(folder, plan.run)
        try:
            _train(folder, plan, sources, held_out)
            break
        except TrainingError as error:
            symptom = error.symptom if isinstance(error, CollapseError) else NOT_FINITE
            if plan.changes:
                raise TrainingError(f"{error} (tried already: {', '.join(plan.changes)}; other words ask for "
                                    f"another --out)") from error
            plan = plan.changed(knob(symptom, plan.run, sources))
            note(f"{str(error).split(': ')[0]}: {symptom}; going on from the last healthy step with "
                 f"{plan.changes[-1]}")
            write_plan(out, plan)
    scores = _chosen(out, folder, plan, held_out)
    write_json(out / FILE, asdict(scores))
    return plan, scores


def ended(out: Path) -> bool:
    """Say whether a fit has chosen its model."""
    return (out / FILE).exists() and (out / checkpoint.MODEL).exists()


def read_scores(out: Path) -> Scores:
    """Return what ``scores.json`` of a fit holds."""
    with needed_json(out / FILE) as known:
        known["history"] = tuple(map(tuple, known["history"]))
        known["interval"] = known["interval"] and tuple(known["interval"])
        return Scores(**known)


def knob(symptom: str, run: Run, sources: Sequence[FrameSource]) -> str:
    """Return the setting that a symptom asks for, of those that its remedy (training/watchdog.py) names.

    A third of the learning rate, also for a constant depth: on a drone's clip a quarter of the weight of smoothness
    ended where it had ended before. And where a shot is too short for frames farther apart.
    """
    own = {field.name for field in dataclasses.fields(run.config)}
    if symptom == "zero motion":
        gap, frames = run.data.gap + 1, build_method(run).clip_length
        if all(holds_clip(source, gap=gap, frames=frames) for source in sources):
            return f"data.gap={gap}"
    if symptom in ("mask at 0", "mask at 1") and "explain_weight" in own:
        return f"config.explain_weight={run.config.explain_weight * (3 if symptom == 'mask at 0' else 1 / 3):g}"
    return f"optim.lr={run.optim.lr / 3:g}"


def roll_back(folder: Path, run: Run) -> None:
    """Where ``folder`` was trained with other settings than those of ``run``, go back to its last healthy step.

    Where there is none, training begins anew.
    """
    last, healthy = folder / LAST, folder / "healthy.safetensors"
    if not last.exists() or first_difference(checkpoint.read(last)[0], run) is None:
        return
    (folder / "best.safetensors").unlink(missing_ok=True)
    if healthy.exists():
        _, state, _ = checkpoint.read(healthy)
        checkpoint.copy(healthy, last, run, replace(state, best=math.inf, watch=None))
    else:
        last.unlink()


def _train(folder: Path, plan: Plan, sources: Sequence[FrameSource], held_out: list[Clip]) -> None:
    """Take the steps that are left of the plan."""
    dataset = make_dataset(plan.run, list(sources), cache=folder / "cache")
    prepare(dataset)
    budget = Budget(steps=plan.run.loop.steps) if plan.seconds is None else Budget(seconds=OVERTIME * plan.seconds)
    state = train_within(plan.run, dataset, budget, out=folder, held_out=held_out,
                         judge=partial(judged, gap=plan.run.data.gap))
    if state.step < plan.run.loop.steps:
        note(f"training took {OVERTIME:g} times as long as planned and was ended at step {state.step} of "
             f"{plan.run.loop.steps}: the machine was busy")


def choose(folder: Path, history: Sequence[tuple[int, float]], *, flat: float) -> Path:
    """Return the last checkpoint, or that with the lowest score of its phase where the last is clearly worse.

    ``flat`` is the score of a depth that is the same everywhere.
    """
    best = folder / "best.safetensors"
    if not (history and best.exists()):
        return folder / LAST
    lowest = checkpoint.read(best)[1].best
    return folder / LAST if last_will_do(history[-1][1], lowest, flat=flat) else best


def stand_in_camera(out: Path) -> str:
    """Return the camera of the first shot as --camera takes it for other clips, of any size, lying or upright.

    Of a lens that was taken out it is the file that states it, for the frames of other clips are bent alike.
    """
    footage, camera = read_footage(out), read_camera(out / "camera.json")
    shot = footage.shots[0]
    about = footage.facts[shot.facts]
    file = camera_file(Path(shot.path), about["source"], shot.camera or None)
    if file is not None and read_lens(file) is not None:
        return str(file.resolve())
    # Of whole frames: another clip of this camera brings the bars that were cut off here.
    longer = max(about["height"], about["width"])
    return f"long_fov={2 * math.degrees(math.atan(longer / (2 * float(camera.fx)))):.2f}"


def _chosen(out: Path, folder: Path, plan: Plan, held_out: list[Clip]) -> Scores:
    """Write the chosen checkpoint as the model; raise TrainingError where it is no better than an untrained one."""
    history = _history(folder / "log.jsonl", gap=plan.run.data.gap)
    flat = unexplained_by_flat_depth(held_out)
    path = choose(folder, history, flat=flat)
    _, method, state = checkpoint.load_run(path)
    _, at_last, _ = checkpoint.read(folder / LAST)
    device = pick_device(plan.run.loop.device)
    torch.manual_seed(plan.run.loop.seed)
    before = unexplained_flow(build_method(plan.run).to(device), held_out, device=device)
    values = unexplained_by_pair(method.to(device), held_out, device=device)
    chosen = sum(values) / len(values) if values else None
    if chosen is not None and chosen >= before:
        raise TrainingError(f"{out}: training made nothing better: depth leaves {chosen:.3f} of the flow between "
                            f"frames twice as far apart unexplained, and left {before:.3f} before; give a longer "
                            f"--budget and another --out, or look at {out / 'footage' / 'index.html'}")
    # Without the time that it took: the model of a run that was killed is the same file.
    run = replace(plan.run, data=replace(plan.run.data, camera=stand_in_camera(out)))
    write_json(out / model_card.FILE, model_card.training_facts(plan.run))
    checkpoint.copy(path, out / checkpoint.MODEL, run, State(step=state.step), weights_only=True)
    return Scores(step=state.step, steps=plan.run.loop.steps, trained=at_last.step, chosen=chosen, start=_known(before),
                  interval=mean_interval(values, block=block_length(len(values))),
                  flat=_known(flat), history=tuple(history),
                  elapsed_s=at_last.elapsed_s)


def _known(value: float) -> float | None:
    """Return a figure, None where it is not finite."""
    return value if math.isfinite(value) else None


def _history(log: Path, *, gap: int) -> list[tuple[int, float]]:
    """Return (step, score) of every checkpoint that was scored while training was at this frame distance."""
    rows = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    return [(row["step"], row[KEY]) for row in rows if row.get(GAP) == gap]
