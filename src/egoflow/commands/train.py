"""``egoflow train``: train a method on a clip, a data set or a world."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from egoflow.config import Run
    from egoflow.training.checkpoint import State

NAME = "train"
HELP = "train a method on video and write a run folder"
EXAMPLE = ("egoflow train sfmlearner:tiny --data clip.mp4 --camera fov=70 --out runs/clip\n"
           "  egoflow train sfmlearner:tiny --data 'world:drive?seed=3' --out runs/a --set optim.lr=1e-3 loop.steps=40")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("method", metavar="METHOD[:PRESET]",
                        help="'egoflow methods' lists them; a dotted path is a method of another package")
    parser.add_argument("--data", nargs="+", required=True, metavar="PATH",
                        help="videos, image folders, KITTI drives or sequences, or 'world:NAME?seed=0&frames=100'")
    parser.add_argument("--out", required=True, metavar="DIR", help="run folder to write")
    parser.add_argument("--camera", metavar="CAMERA",
                        help="camera.json, fx,fy,cx,cy in pixels, or fov=DEGREES, for clips that bring no intrinsics; "
                             "wins over those that a clip brings")
    parser.add_argument("--frames", metavar="SLICE", help="which frames of each clip, e.g. 0:200 (default: all)")
    parser.add_argument("--resume", action="store_true", help="go on from DIR exactly where it was last saved")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="settings",
                        help="change the preset, e.g. optim.lr=1e-4 loop.steps=1000 start=none")


def run(args: argparse.Namespace) -> int:
    """Train; on SIGTERM or Ctrl-C the run is saved first."""
    from pathlib import Path

    from egoflow.console import command_line, note, say
    from egoflow.errors import ConfigError
    from egoflow.training.distributed import leave
    from egoflow.training.trainer import Stopped

    settings, out = _settings(args), Path(args.out)
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: is a file; --out is the folder to write")
    begun = (out / "last.safetensors").exists()
    if begun and not args.resume:
        raise ConfigError(f"{out}: holds a run already; go on with --resume, or give another --out")
    if args.resume and not begun:
        note(f"{out}: nothing is saved there yet; starting at step 0")
    try:
        state = _train(settings, out, resume=begun)
    except Stopped as stop:
        note(f"stopped by {stop} and saved; the same command with --resume goes on")
        return 128 + stop.number
    finally:
        leave()
    if state.step < settings.loop.steps:
        note(f"its time was over at step {state.step} of {settings.loop.steps}; the same command with --resume goes on "
             f"as long again")
    say(f"trained {state.step} steps in {state.elapsed_s:.0f} s: {out}")
    say(f"next: {command_line('predict', out, args.data[0], '--out', out / 'prediction')}")
    return 0


def _settings(args: argparse.Namespace) -> "Run":
    """Return the preset with what the command line changes."""
    from dataclasses import replace
    from pathlib import Path

    from egoflow.config import with_settings
    from egoflow.registry import load_preset

    _, preset = load_preset(args.method)
    # A camera file must be found from anywhere: the run remembers it for predictions.
    camera = str(Path(args.camera).resolve()) if args.camera and Path(args.camera).is_file() else args.camera
    data = replace(preset.data, paths=tuple(args.data), camera=camera or preset.data.camera,
                   frames=args.frames or preset.data.frames)
    return with_settings(replace(preset, data=data), args.settings)


def _train(settings: "Run", out: "Path", *, resume: bool) -> "State":
    """Open the data, prepare and train; a user's mistake leaves no new folder behind."""
    from egoflow.console import note
    from egoflow.data.files import leave_no_trace
    from egoflow.errors import EgoflowError, TrainingError
    from egoflow.registry import load_method
    from egoflow.training.session import make_dataset, make_held_out, open_sources, prepare_start, split_sources
    from egoflow.training.trainer import Trainer

    def worth_keeping(error: Exception) -> bool:
        """Say whether what is there can be resumed from, or shows why training failed."""
        return not isinstance(error, EgoflowError | OSError) or isinstance(error, TrainingError) or (
            out / "last.safetensors").exists()

    needs_camera = load_method(settings.method).method_type.needs_camera
    training, validation = split_sources(settings.data, open_sources(settings.data, needs_camera=needs_camera))
    with leave_no_trace(out, unless=worth_keeping):
        dataset = make_dataset(settings, training, cache=out / "cache")
        held_out = make_held_out(settings, validation)
        trainer = Trainer(settings, dataset, out=out, resume=resume, held_out=held_out)
        prepare_start(dataset)
        note(f"{settings.method}:{settings.preset} on {len(dataset)} clips of {settings.data.height}x"
             f"{settings.data.width}{f', {len(held_out)} held out' if held_out else ''}, {settings.loop.steps} steps "
             f"of {settings.optim.batch_size}, start {settings.start}")
        return trainer.fit()
