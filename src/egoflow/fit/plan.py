"""What a fit trains and for how long: decided once, kept in ``plan.json``, and followed however often it is stopped.

A time becomes a number of steps by a trial that takes another time whenever it is run; the number is kept, so that a
fit that was killed ends as one that was not.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from egoflow.config import Run, first_difference, run_from_json, run_to_json, with_settings
from egoflow.console import note
from egoflow.data.cameras import read_camera
from egoflow.data.clips import ClipDataset
from egoflow.data.files import needed_json, write_json
from egoflow.doctor.diagnosis import training_size
from egoflow.errors import ConfigError
from egoflow.fit.footage import Footage
from egoflow.registry import load_method, load_preset
from egoflow.training.budget import Budget, planned_steps

FILE = "plan.json"
PLANNED = 1.0
"""A fit may end a little later than it was told to."""
CANDIDATES = 12
"""Checkpoints of a training; those of its last phase can be chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The run to train, the seconds that its steps are to take (None: no limit), and what was changed on the way.

    ``changes`` are the settings that the watchdog's collapses have cost, in order.
    """

    run: Run
    seconds: float | None
    changes: tuple[str, ...] = ()

    def changed(self, setting: str) -> "Plan":
        """Return the plan with one more setting ``key=value``."""
        return replace(self, run=with_settings(self.run, [setting]), changes=(*self.changes, setting))

    def on(self, device: str) -> "Plan":
        """Return the plan on another device, which is nothing of what was decided."""
        return replace(self, run=replace(self.run, loop=replace(self.run.loop, device=device)))


_LENGTH = "the length of a fit is its --budget: 10m, 90s, or 500 (steps)"
_OWN = {"loop.steps": _LENGTH, "loop.minutes": _LENGTH, "loop.save_every": "a fit decides by itself when to save"}


def wanted_preset(recipe: str, settings: Sequence[str]) -> Run:
    """Return a recipe's preset with the settings of a user.

    Raises ConfigError where it gives no depth, where there is no such setting, and for those that a fit makes itself.
    """
    for setting in settings:
        if own := _OWN.get(setting.partition("=")[0].strip()):
            raise ConfigError(f"--set {setting}: {own}")
    method, preset = load_preset(recipe)
    if not method.method_type.needs_camera:
        raise ConfigError(f"--recipe {recipe}: its method gives flow alone, and a fit needs depth and motion; 'egoflow "
                          f"methods' lists the others")
    return with_settings(preset, list(settings))


def asked_gap(recipe: str, settings: Sequence[str]) -> int | None:
    """Return the frame distance that a user's settings ask for, None where they leave it to the footage."""
    asked = any(setting.partition("=")[0].strip() == "data.gap" for setting in settings)
    return wanted_preset(recipe, settings).data.gap if asked else None


def wanted_run(footage: Footage, out: Path, *, recipe: str, settings: Sequence[str], seed: int) -> Run:
    """Return the recipe on the prepared footage of ``out``: at the size of the preset, in the shape of the clips.

    Without enlarged crops: the frames that are predicted are those trained on, whole, and crops cut off what is seen at
    their borders alone, the nearest things (docs/fit.md, "No crops, and the optimiser").
    """
    preset = wanted_preset(recipe, ())
    clips = [(out / shot.clip).resolve() for shot in footage.shots]
    camera = read_camera(clips[0] / "camera.json")
    height, width = training_size(camera.height, camera.width, pixels=preset.data.height * preset.data.width)
    data = replace(preset.data, paths=tuple(map(str, clips)), camera=None, frames=None, gap=footage.gap, height=height,
                   width=width, validation=0.0, augment=replace(preset.data.augment, scale_crop=0.0))
    run = replace(preset, data=data, loop=replace(preset.loop, seed=seed), every_frame=True)
    return with_settings(run, list(settings))


def make_plan(out: Path, run: Run, dataset: ClipDataset, budget: Budget) -> Plan:
    """Return the plan that ``out`` holds, or time some steps and write it.

    Raises ConfigError where it is the plan of another run.
    """
    if (out / FILE).exists():
        plan = read_plan(out).on(run.loop.device)
        asked = with_settings(run, list(plan.changes))
        if other := first_difference(plan.run, asked):
            raise ConfigError(f"{out}: was begun with another {other}; give the same words, or another --out")
        return plan
    steps, step_s = planned_steps(run, dataset, budget, scratch=out / "trial", share=PLANNED)
    if step_s is not None:
        note(f"{steps} steps of about {1000 * step_s:.0f} ms in {budget}")
    loop = replace(run.loop, steps=steps, save_every=max(1, steps // CANDIDATES))
    plan = Plan(run=replace(run, loop=loop), seconds=budget.seconds)
    write_plan(out, plan)
    return plan


def write_plan(out: Path, plan: Plan) -> None:
    """Write ``plan.json``."""
    write_json(out / FILE, {"run": json.loads(run_to_json(plan.run)), "seconds": plan.seconds,
                                   "changes": list(plan.changes)})


def read_plan(out: Path) -> Plan:
    """Return what ``plan.json`` of a fit holds."""
    path = out / FILE
    with needed_json(path) as content:
        config_type = load_method(content["run"]["method"]).config_type
        return Plan(run=run_from_json(json.dumps(content["run"]), config_type, name=path), seconds=content["seconds"],
                    changes=tuple(content["changes"]))
