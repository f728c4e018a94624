"""``egoflow predict``: depth, video and trajectory of any clip with a trained run."""

import argparse

NAME = "predict"
HELP = "predict depth, motion and trajectory of a video or folder with a trained run"
EXAMPLE = "egoflow predict runs/clip other.mp4 --camera fov=70 --out out/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", metavar="RUN", help="folder written by 'egoflow train', or a checkpoint in it")
    parser.add_argument("source", metavar="SOURCE", help="video, image folder, KITTI drive or sequence, or world:NAME?…")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write; must not exist")
    parser.add_argument("--camera", metavar="CAMERA", help="camera.json, fx,fy,cx,cy or fov=DEGREES; the run's if not given")
    parser.add_argument("--frames", metavar="SLICE", help="which frames, e.g. 200:")
    parser.add_argument("--depth-format", choices=("png", "npz"), default="png", help="16-bit PNG with depth.json, or exact")
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last", help="which weights of the run")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, …")
    parser.add_argument("--no-video", action="store_true", help="write no inv_depth.mp4")
    parser.add_argument("--no-two-view", action="store_true", help="leave out the classical baseline trajectory")


def run(args: argparse.Namespace) -> int:
    """Predict frame by frame in constant memory; the folder appears whole or not at all."""
    from dataclasses import replace
    from pathlib import Path

    from egoflow.console import progress, say
    from egoflow.data.files import new_folder
    from egoflow.inference.stream import predict_stream
    from egoflow.inference.writer import PredictionWriter
    from egoflow.training.checkpoint import load_run
    from egoflow.training.distributed import pick_device
    from egoflow.training.session import open_sources

    settings, method, _ = load_run(Path(args.run), which=args.checkpoint)
    data = replace(settings.data, paths=(args.source,), camera=args.camera or settings.data.camera, frames=args.frames)
    source = open_sources(data)[0]
    method.to(pick_device(args.device))
    with new_folder(Path(args.out)) as folder, PredictionWriter(
            folder, source=source, run=settings, depth_format=args.depth_format, video=not args.no_video,
            two_view=not args.no_two_view) as writer, progress(
            len(range(0, len(source), data.gap)), label="predicting") as bar:
        for frame in predict_stream(method, settings, source):
            writer.add(frame)
            bar.advance()
        writer.finish()
    say(f"wrote {args.out}: " + ", ".join(sorted(p.name for p in Path(args.out).iterdir())))
    return 0
