"""``egoflow compare``: train several methods under one budget on the same clips, and score all on the same tests."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from egoflow.config import DataConfig, Run
    from egoflow.report.comparison import ClipSet, Entry

NAME = "compare"
HELP = "train methods under one budget on the same clips and compare them on unseen ones"
EXAMPLE = ("egoflow compare --methods sfmlearner,dfnet --world drive --budget 8m --seeds 2 --out compare/\n"
           "  egoflow compare --methods sfmlearner,dfnet --data drive39 --frames 0:200 --test later=drive39@200: "
           "--also-training --budget 12m --out compare/")

WORLD_DEFAULTS = {"scenes": 6, "frames": 40, "seed": 0}
DRIVE_MOVERS = 4
UNSEEN_SCENES, UNSEEN_SEED = 3, 100_000
"""Test scenes of a world, whose seeds begin so far behind those trained on."""
_RENDERED = ("scenes", "frames", "seed", "height", "width", "movers", "difficulty", "samples")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--methods", required=True, metavar="NAME[:PRESET],..",
                        help="what to compare; without a preset, tiny where there is one")
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--world", metavar="NAME[?OPTION=VALUE&..]",
                      help="train and test on scenes of a world, rendered once into OUT/data; options: "
                           + ", ".join(_RENDERED))
    data.add_argument("--data", nargs="+", metavar="PATH", help="train on these clips, as 'egoflow train' takes them")
    parser.add_argument("--frames", metavar="SLICE", help="which frames of each clip of --data, e.g. 0:200")
    parser.add_argument("--camera", metavar="CAMERA", help="for clips that bring no intrinsics, as in 'egoflow train'")
    parser.add_argument("--test", action="append", default=[], metavar="[NAME=]PATH[@SLICE]",
                        help="test on these clips, or frames; may be given again. A world has its own, 'unseen'")
    parser.add_argument("--also-training", action="store_true",
                        help="test on the frames trained on too, in a table of their own, and let --test share them")
    parser.add_argument("--budget", required=True, metavar="TIME|STEPS", help="of each training: 8m, 90s, or 500 steps")
    parser.add_argument("--seeds", type=int, default=1, metavar="K", help="trainings of each method")
    parser.add_argument("--crop", choices=("garg", "eigen", "none"),
                        help="part of the image that depth is scored in (default: none of a world, garg of --data)")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="[METHOD.]KEY=VALUE", dest="settings",
                        help="change every preset, or that of one method: optim.lr=1e-4 dfnet.config.frames=3")
    parser.add_argument("--out", required=True, metavar="DIR",
                        help="folder to write; a comparison that was stopped there goes on")


def run(args: argparse.Namespace) -> int:
    """Compare; what is done already is not done again. Returns 1 where a training failed."""
    from pathlib import Path

    from egoflow.console import note, say
    from egoflow.data.files import claim_folder
    from egoflow.errors import ConfigError
    from egoflow.report.comparison import Comparison
    from egoflow.training.budget import parse_budget
    from egoflow.training.trainer import Stopped

    out, budget = Path(args.out), parse_budget(args.budget)
    if args.seeds < 1:
        raise ConfigError(f"--seeds must be 1 or more, got {args.seeds}")
    runs = _runs(args)
    world = None if args.world is None else _world(args, runs[0])
    claim_folder(out, {"world": world, "data": args.data, "frames": args.frames, "camera": args.camera,
                       "budget": str(budget), "settings": args.settings}, file="compare.json", kind="comparison")
    rendered = {} if world is None else _rendered(out, world)
    entries = _entries(args, runs, rendered)
    tests, crop = _tests(args, rendered, entries[0].run.data), args.crop or ("none" if args.world else "garg")
    comparison = Comparison(out=out, entries=entries, seeds=args.seeds, budget=budget, tests=tests, crop=crop)
    comparison.open_tests(may_share=args.also_training)
    comparison.check_data()
    try:
        tables = comparison.carry_out()
    except Stopped as stop:
        note(f"stopped by {stop} and saved; the same command goes on")
        return 128 + stop.number
    for table in tables:
        say(table.text())
    say(f"wrote {out / 'table.md'}, {out / 'table.json'} and {out / 'index.html'}")
    return int(any(training.status == "failed" for line in tables[0].lines for training in line.trainings))


def _runs(args: argparse.Namespace) -> "list[Run]":
    """Return every method's preset with the settings that are for it."""
    from egoflow.config import with_settings
    from egoflow.errors import ConfigError
    from egoflow.registry import load_method, load_preset

    specs = [spec.strip() for spec in args.methods.split(",") if spec.strip()]
    named = [spec if ":" in spec or "tiny" not in load_method(spec).presets else f"{spec}:tiny" for spec in specs]
    presets = [load_preset(spec)[1] for spec in named]
    if not presets:
        raise ConfigError("--methods names none; for instance --methods sfmlearner,dfnet")
    names = [f"{preset.method}:{preset.preset}" for preset in presets]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"--methods names {twice} twice")
    methods = {preset.method for preset in presets}
    runs = [with_settings(preset, [own for text in args.settings if (own := _own(text, preset.method, methods))])
            for preset in presets]
    gaps = sorted({run.data.gap for run in runs})
    if len(gaps) > 1:
        raise ConfigError(f"the methods see frames {gaps[0]} and {gaps[-1]} apart, which is no comparison; give one "
                          f"distance for all: --set data.gap={gaps[0]}")
    return runs


def _own(setting: str, method: str, methods: set[str]) -> str | None:
    """Return a setting as ``method`` takes it: of "dfnet.optim.lr=1" dfnet alone, "optim.lr=1"."""
    named = next((name for name in methods if setting.startswith(f"{name}.")), None)
    if named is None:
        return setting
    return setting.removeprefix(f"{named}.") if named == method else None


def _world(args: argparse.Namespace, run: "Run") -> dict[str, Any]:
    """Return the name and all options of the world to train on, checked."""
    from urllib.parse import parse_qsl

    import yaml

    from egoflow.errors import ConfigError
    from egoflow.worlds.base import load_world

    if args.frames or args.camera:
        raise ConfigError("--frames and --camera are of --data; a world's are its options: "
                          f"--world '{args.world.partition('?')[0]}?frames=40'")
    name, _, query = args.world.removeprefix("world:").partition("?")
    try:
        given = {key: yaml.safe_load(value) for key, value in parse_qsl(query, strict_parsing=bool(query))}
    except (ValueError, yaml.YAMLError):
        raise ConfigError(f"--world {args.world}: expected NAME?option=value&option=value, in quotes for the shell"
                          ) from None
    if unknown := next((key for key in given if key not in _RENDERED), None):
        raise ConfigError(f"--world {args.world}: unknown option {unknown!r}; its options are: {', '.join(_RENDERED)}")
    movers = {"movers": DRIVE_MOVERS} if name == "drive" else {}
    options = {"name": name, **WORLD_DEFAULTS, **movers, "height": run.data.height, "width": run.data.width, **given}
    if type(options["scenes"]) is not int or not 1 <= options["scenes"] <= UNSEEN_SEED:
        raise ConfigError(f"--world {args.world}: scenes must be a whole number from 1 to {UNSEEN_SEED}")
    load_world(name, **{key: value for key, value in options.items() if key not in ("name", "scenes")})
    return options


def _rendered(out: "Path", world: dict[str, Any]) -> "dict[str, Path]":
    """Render the scenes to train and to test on, where they are not there yet; return their folders."""
    from egoflow.commands import render

    parts = {"training": {}, "unseen": {"seed": world["seed"] + UNSEEN_SEED, "scenes": UNSEEN_SCENES}}
    folders = {name: (out / "data" / name).resolve() for name in parts}
    for name, changes in parts.items():
        options: dict[str, Any] = dict.fromkeys((*_RENDERED, "device")) | world | changes
        if not folders[name].exists():
            size = options.pop("height"), options.pop("width")
            render.run(argparse.Namespace(world=options.pop("name"), out=str(folders[name]), size=size, **options))
    return folders


def _entries(args: argparse.Namespace, runs: "list[Run]", rendered: "dict[str, Path]") -> "list[Entry]":
    """Return every method with the data that all are trained on."""
    from dataclasses import replace
    from pathlib import Path

    from egoflow.report.comparison import Entry

    paths = [str(rendered["training"])] if rendered else [
        str(Path(path).resolve()) if Path(path).exists() else path for path in args.data]
    # No frame is held out: all methods train on all frames, and the last checkpoint is scored.
    return [Entry(run=replace(run, data=replace(run.data, paths=tuple(paths), frames=args.frames, validation=0.0,
                                                camera=args.camera or run.data.camera))) for run in runs]


def _tests(args: argparse.Namespace, rendered: "dict[str, Path]", trained: "DataConfig") -> "list[ClipSet]":
    """Return what is tested on, unseen clips first."""
    import re
    from pathlib import Path

    from egoflow.errors import ConfigError
    from egoflow.report.comparison import ClipSet

    found = [ClipSet(name="unseen", paths=(str(rendered["unseen"]),))] if rendered else []
    for text in args.test:
        named = re.fullmatch(r"([\w-]+)=(.+)", text)
        path, at, frames = (named[2] if named else text).rpartition("@")
        if not at or not re.fullmatch(r"-?\d*:-?\d*(:\d+)?", frames):
            path, frames = path + at + frames, ""
        found.append(ClipSet(name=named[1] if named else re.sub(r"\W+", "-", Path(path).name).strip("-") or "test",
                             paths=(path,), frames=frames or None))
    if args.also_training:
        found.append(ClipSet(name="training", paths=trained.paths, frames=trained.frames))
    if not found:
        raise ConfigError("nothing to test on; give --test PATH, a part of a clip as PATH@200:, or --also-training")
    names = [test.name for test in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"--test: two are called {twice}; name them as NAME=PATH")
    return found
