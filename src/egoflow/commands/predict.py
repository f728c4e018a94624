"""``egoflow predict``: depth, video and trajectory of any clip with a trained run."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from egoflow.config import Run
    from egoflow.types import FrameSource

NAME = "predict"
HELP = "predict depth, motion and trajectory of a video or folder with a trained run"
EXAMPLE = "egoflow predict runs/clip other.mp4 --camera fov=70 --out out/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", metavar="RUN", help="folder written by 'egoflow train', or a checkpoint in it")
    parser.add_argument("source", metavar="SOURCE",
                        help="video, image folder, KITTI drive or sequence, or 'world:NAME?seed=0&frames=100'")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write; must not exist")
    parser.add_argument("--camera", metavar="CAMERA",
                        help="camera.json, fx,fy,cx,cy in pixels, or fov=DEGREES; wins over what the clip brings, and "
                             "where neither is there the run's own is taken")
    parser.add_argument("--frames", metavar="SLICE", help="which frames, e.g. 200: (default: all)")
    parser.add_argument("--depth-format", choices=("png", "npz"), default="png",
                        help="16-bit PNG with depth.json, or exact")
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last", help="which weights of the run")
    parser.add_argument("--method", metavar="PACKAGE.MODULE", help="the run's method, if it is of another package")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, …")
    parser.add_argument("--no-video", action="store_true", help="write no inv_depth.mp4")
    parser.add_argument("--no-two-view", action="store_true", help="leave out the classical baseline trajectory")


def run(args: argparse.Namespace) -> int:
    """Predict frame by frame in constant memory; the folder appears whole or not at all."""
    from pathlib import Path

    from egoflow.console import progress, say
    from egoflow.data.files import new_folder
    from egoflow.inference.stream import predict_stream
    from egoflow.inference.writer import PredictionWriter
    from egoflow.registry import load_method
    from egoflow.training.checkpoint import load_run
    from egoflow.training.distributed import pick_device

    device = pick_device(args.device)
    if args.method is not None:
        load_method(args.method)
    settings, method, _ = load_run(Path(args.run), which=args.checkpoint)
    source = _source(args, settings)
    method.to(device)
    with new_folder(Path(args.out)) as folder, PredictionWriter(
            folder, source=source, run=settings, depth_format=args.depth_format, video=not args.no_video,
            two_view=not args.no_two_view) as writer, progress(len(writer.frames), label="predicting") as bar:
        for frame in predict_stream(method, settings, source):
            writer.add(frame)
            bar.advance()
        writer.finish()
    say(f"wrote {args.out}: {len(writer.frames)} frames; " + ", ".join(
        p.name + "/" * p.is_dir() for p in sorted(Path(args.out).iterdir())))
    return 0


def _source(args: argparse.Namespace, settings: "Run") -> "FrameSource":
    """Open the clip with the camera given, its own, or the run's, in this order."""
    from dataclasses import replace

    from egoflow.console import note
    from egoflow.data.cameras import UnknownCameraError
    from egoflow.errors import DataError
    from egoflow.training.session import open_sources

    data = replace(settings.data, paths=(args.source,), camera=args.camera, frames=args.frames)
    try:
        return open_sources(data)[0]
    except UnknownCameraError:
        if settings.data.camera is None:
            raise
    note(f"{args.source} brings no camera: the run's own, --camera {settings.data.camera}, is taken")
    source = open_sources(replace(data, camera=settings.data.camera))[0]
    camera = source.camera
    if max(abs(camera.cx.item() / camera.width - 0.5), abs(camera.cy.item() / camera.height - 0.5)) > 0.2:
        raise DataError(f"{args.source}: the run's camera is not that of {camera.height}x{camera.width} images (its "
                        f"axis meets them at {camera.cx.item():.0f}, {camera.cy.item():.0f}); give --camera")
    return source
