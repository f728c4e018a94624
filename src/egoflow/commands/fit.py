"""``egoflow fit``: from raw clips to depth, path, flow, masks, cloud, report and model, in one command."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from egoflow.config import Run
    from egoflow.fit.footage import Footage
    from egoflow.fit.plan import Plan
    from egoflow.fit.teach import Scores
    from egoflow.training.budget import Budget

NAME = "fit"
HELP = "learn depth, motion and flow from your own clips and write everything: maps, path, cloud, report, model"
EXAMPLE = ("egoflow fit clip.mp4 --out runs/fit/\n"
           "  egoflow fit drive/*.mp4 --camera fov=70 --budget 30m --out runs/fit/")
BUDGETS = {"cpu": "10m", "cuda": "30m"}
RECIPES = {"cpu": "joint:tiny", "cuda": "joint:quick"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("source", nargs="+", metavar="SOURCE", help="videos, image folders, drives or sequences")
    parser.add_argument("--out", required=True, metavar="DIR",
                        help="folder to write; a fit that was stopped there goes on")
    parser.add_argument("--camera", metavar="CAMERA",
                        help="camera.json, fx,fy,cx,cy in pixels, fov=DEGREES, exif, or learn: ask the footage for its "
                             "focal length, as is done of clips that bring no camera where none is given")
    parser.add_argument("--budget", metavar="TIME|STEPS",
                        help="of training: 10m, 90s, or 500 steps (default: 10m on a CPU, 30m on a GPU); looking at "
                             "the footage before and predicting it afterwards take a few minutes more")
    parser.add_argument("--frames", metavar="SLICE", help="which frames of each clip, e.g. 0:200 (default: all)")
    parser.add_argument("--recipe", metavar="METHOD[:PRESET]",
                        help="what is trained (default: joint:tiny on a CPU, joint:quick on a GPU)")
    parser.add_argument("--seed", type=int, default=0, help="of training")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, …")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="settings",
                        help="change the recipe, e.g. data.gap=2 optim.lr=1e-4 start=none")


def run(args: argparse.Namespace) -> int:
    """Fit; what is done already is not done again. On SIGTERM or Ctrl-C training is saved first."""
    from pathlib import Path

    from egoflow.console import note, say
    from egoflow.data.files import claim_folder, leave_no_trace, only_user, remove_leftovers
    from egoflow.errors import InUseError
    from egoflow.fit.footage import gather
    from egoflow.fit.outcome import finish
    from egoflow.fit.plan import asked_gap, wanted_preset
    from egoflow.training.budget import parse_budget
    from egoflow.training.distributed import pick_device
    from egoflow.training.trainer import Stopped

    out, kind = Path(args.out), pick_device(args.device).type
    budget = parse_budget(args.budget or BUDGETS.get(kind, BUDGETS["cpu"]))
    recipe = args.recipe or RECIPES.get(kind, RECIPES["cpu"])
    wanted_preset(recipe, args.settings)
    # Found from any folder, as the sources are: what is begun here may go on from elsewhere.
    sources = _found(args.source)
    camera = str(Path(args.camera).resolve()) if args.camera and Path(args.camera).is_file() else args.camera
    # Another fit may have made the folder in the same moment.
    with leave_no_trace(out, unless=lambda error: isinstance(error, InUseError) or (out / "plan.json").exists()):
        claim_folder(out, {"source": sources, "camera": camera, "frames": args.frames, "recipe": recipe,
                           "seed": args.seed, "budget": str(budget), "settings": args.settings}, file="fit.json",
                     kind="fit")
        with only_user(out / "fit.json"):
            footage = gather(sources, camera=camera, frames=args.frames, out=out,
                             gap=asked_gap(recipe, args.settings))
            remove_leftovers(out)
            try:
                plan, scores = _taught(out, footage, budget, args, recipe=recipe)
            except Stopped as stop:
                note(f"stopped by {stop} and saved; the same command goes on")
                return 128 + stop.number
            say(_summary(out, finish(out, footage, plan, scores)))
    return 0


def _found(paths: list[str]) -> list[str]:
    """Return paths that are found from any folder; worlds as they are."""
    from pathlib import Path

    return [str(Path(path).resolve()) if Path(path).exists() else path for path in paths]


def _taught(out: "Path", footage: "Footage", budget: "Budget", args: argparse.Namespace, *, recipe: str
            ) -> "tuple[Plan, Scores]":
    """Plan and train, or go on with what was planned."""
    from dataclasses import replace

    from egoflow.console import note
    from egoflow.fit.plan import FILE, make_plan, read_plan, wanted_run
    from egoflow.fit.teach import ended, read_scores, teach
    from egoflow.training.budget import prepare
    from egoflow.training.session import make_dataset, open_sources

    if ended(out):
        return read_plan(out).on(args.device), read_scores(out)
    if (out / FILE).exists():
        # Footage that has changed since is told now, not once all is trained.
        for shot in footage.shots:
            shot.source(out)
    run: Run = wanted_run(footage, out, recipe=recipe, settings=args.settings, seed=args.seed)
    run = replace(run, loop=replace(run.loop, device=args.device))
    sources = open_sources(run.data)
    dataset = make_dataset(run, sources, cache=out / "training" / "cache")
    prepare(dataset)
    plan = make_plan(out, run, dataset, budget)
    note(f"{run.method}:{run.preset} on {len(dataset)} clips of {run.data.height}x{run.data.width}, frames "
         f"{run.data.gap} apart, {plan.run.loop.steps} steps")
    # Training makes its own, for it may change the frame distance; long footage does not fit in memory twice.
    del dataset
    return teach(out, plan, sources)


def _summary(out: "Path", figures: dict[str, Any]) -> str:
    """Return what was written and what it is worth."""
    left = figures["unexplained"]
    lines = []
    if left["chosen"] is not None:
        lines.append(f"between frames twice as far apart as in training depth leaves {left['chosen']:.3f} of the flow "
                     f"unexplained (untrained {left['untrained']:.3f}, flat depth {left['flat_depth']:.3f}); step "
                     f"{figures['chosen_step']} of {figures['steps']} was chosen")
    for shot in figures["shots"]:
        for name, values in (shot["against_truth"] or {}).items():
            if values.get("ate_rmse_m") is not None:
                unit = "m" if shot["truth_scale"] == "metric" else "units of the truth"
                lines.append(f"{shot['source']}: path of the {name}: {values['ate_rmse_m']:.3g} {unit} off after one "
                             f"similarity")
    lines += [f"next: {text}" for text in figures["advice"]]
    return "\n".join([*lines, f"wrote {out}: model.safetensors, prediction/, metrics.json; look at "
                              f"{out / 'report.html'}"])
