"""``egoflow train``: train a method on a clip, a data set or a world."""

import argparse

NAME = "train"
HELP = "train a method on video and write a run folder"
EXAMPLE = ("egoflow train sfmlearner:tiny --data clip.mp4 --camera fov=70 --out runs/clip\n"
           "  egoflow train sfmlearner:tiny --data world:drive?seed=3 --out runs/drive --set optim.lr=1e-3 loop.steps=400")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("method", metavar="METHOD[:PRESET]",
                        help="'egoflow methods' lists them; a dotted path is a method of another package")
    parser.add_argument("--data", nargs="+", required=True, metavar="PATH",
                        help="videos, image folders, KITTI drives or sequences, or world:NAME?seed=0&frames=100")
    parser.add_argument("--out", required=True, metavar="DIR", help="run folder to write")
    parser.add_argument("--camera", metavar="CAMERA",
                        help="camera.json, fx,fy,cx,cy in pixels, or fov=DEGREES, for clips that bring no intrinsics")
    parser.add_argument("--frames", metavar="SLICE", help="which frames of each clip, e.g. 0:200")
    parser.add_argument("--resume", action="store_true", help="go on from DIR/last.safetensors exactly where it stopped")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="settings",
                        help="change the preset, e.g. optim.lr=1e-4 loop.steps=1000 start=none")


def run(args: argparse.Namespace) -> int:
    """Train; on SIGTERM or Ctrl-C the run is saved first."""
    from dataclasses import replace
    from pathlib import Path

    from egoflow.config import with_settings
    from egoflow.console import note, say
    from egoflow.errors import ConfigError
    from egoflow.registry import load_preset
    from egoflow.training.session import make_dataset, open_sources
    from egoflow.training.trainer import Stopped, Trainer

    _, preset = load_preset(args.method)
    data = replace(preset.data, paths=tuple(args.data), camera=args.camera or preset.data.camera,
                   frames=args.frames or preset.data.frames)
    settings = with_settings(replace(preset, data=data), args.settings)
    out = Path(args.out)
    resume = args.resume and (out / "last.safetensors").exists()
    if not args.resume and (out / "last.safetensors").exists():
        raise ConfigError(f"{out}: holds a run already; go on with --resume, or give another --out")
    dataset = make_dataset(settings, open_sources(settings.data), cache=out / "cache")
    note(f"{settings.method}:{settings.preset} on {len(dataset)} clips of {settings.data.height}x{settings.data.width}, "
         f"{settings.loop.steps} steps of {settings.optim.batch_size}, start {settings.start}")
    try:
        state = Trainer(settings, dataset, out=out, resume=resume).fit()
    except Stopped as stop:
        note(f"stopped by {stop} and saved; the same command with --resume goes on")
        return 128 + stop.number
    say(f"trained {state.step} steps in {state.elapsed_s:.0f} s: {out}")
    say(f"next: egoflow predict {out} {args.data[0]} --out {out / 'prediction'}")
    return 0
