"""``egoflow predict``: depth, flow, video and trajectory of any clip with a trained run."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from egoflow.config import DataConfig, Run
    from egoflow.methods.base import Method
    from egoflow.types import FrameSource

NAME = "predict"
HELP = "predict depth, motion and trajectory, or flow, of a video or folder with a trained run"
EXAMPLE = ("egoflow predict runs/clip other.mp4 --camera fov=70 --out out/\n"
           "  egoflow predict runs/flow frame10.png frame11.png --out out/")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", metavar="RUN", help="folder written by 'egoflow train', or a checkpoint in it")
    parser.add_argument("source", nargs="+", metavar="SOURCE",
                        help="video, image folder, data set, 'world:NAME?seed=0&frames=100', or a pair of image files")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write; must not exist")
    parser.add_argument("--quantity", choices=("depth", "flow", "all"),
                        help="depth comes with motion, and with what moves by itself where the method can tell; all "
                             "adds flow, and the flows behind what moves, rigid_flow/ and residual_flow/; default: "
                             "flow of methods of flow alone, else depth")
    parser.add_argument("--camera", metavar="CAMERA",
                        help="camera.json, fx,fy,cx,cy in pixels, or fov=DEGREES; wins over what the clip brings, and "
                             "where neither is there the run's own is taken. Methods of flow alone need none")
    parser.add_argument("--frames", metavar="SLICE", help="which frames, e.g. 200: (default: all)")
    parser.add_argument("--size", type=_size, metavar="native|trained|HxW",
                        help="size that flow is computed at, before it is brought to that of the frames (default: "
                             "native); depth is computed at the size of training")
    parser.add_argument("--motion", choices=("net", "solved", "refined"),
                        help="camera motion of the network, solved from depth and two-view geometry, or the network's "
                             "refined by depth and flow (default: the run's own choice)")
    parser.add_argument("--depth-format", choices=("png", "npz"), default="png",
                        help="16-bit PNG with depth.json, or exact")
    parser.add_argument("--flow-format", choices=("flo", "kitti"), default="flo",
                        help="Middlebury's .flo, or KITTI's 16-bit PNG (1/64 px, up to 512 px)")
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last", help="which weights of the run")
    parser.add_argument("--method", metavar="PACKAGE.MODULE", help="the run's method, if it is of another package")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, …")
    parser.add_argument("--no-video", action="store_true", help="write no inv_depth.mp4, movers.mp4, flow.mp4")
    parser.add_argument("--no-movers", action="store_true",
                        help="leave out what moves by itself: mover/, scene_flow/, movers.mp4")
    parser.add_argument("--also", nargs="+", action="extend", default=[],
                        choices=("cloud", "mesh", "colmap", "confidence", "report"),
                        help="also write cloud.ply, mesh.ply, colmap/ (images, cameras and points as COLMAP's text "
                             "model), depth_confidence/, or report/: a page with a player and a 3-D view, and cloud")
    parser.add_argument("--no-two-view", action="store_true", help="leave out the classical baseline trajectory")


def _size(text: str) -> str | tuple[int, int]:
    """Return "native", "trained" or (height, width)."""
    from egoflow.commands.render import image_size

    return text if text in ("native", "trained") else image_size(text)


def run(args: argparse.Namespace) -> int:
    """Predict frame by frame in constant memory; the folder appears whole or not at all."""
    from dataclasses import replace
    from pathlib import Path

    from egoflow.console import note, say
    from egoflow.data.files import new_folder
    from egoflow.registry import load_method
    from egoflow.training.checkpoint import load_run
    from egoflow.training.distributed import pick_device

    device = pick_device(args.device)
    if args.method is not None:
        load_method(args.method)
    settings, method, _ = load_run(Path(args.run), which=args.checkpoint)
    if args.motion is not None:
        settings = replace(settings, motion=args.motion)
        method.use_motion(args.motion)
    depth, flow = _wanted(args, method)
    if len(args.source) > 1:
        # The two images of a pair are neighbours, whatever the run was trained on.
        settings = replace(settings, data=replace(settings.data, gap=1))
    sources = _sources(args, settings, needs_camera=method.needs_camera)
    if depth and len(sources) > 1:
        note(f"{args.source[0]}: of its {len(sources)} shots the first is predicted; flow alone can be of all")
        sources = sources[:1]
    if method.needs_camera:
        _warn_of_camera(settings, Path(args.run), sources[0])
    method.to(device)
    with new_folder(Path(args.out)) as folder:
        # Flow first: a method without it is refused at its first pair.
        pairs = _write_flow(args, settings, method, sources, folder) if flow else 0
        frames = _write_depth(args, settings, method, sources[0], folder) if depth else 0
    counts = [f"{frames} frames"] * depth + [f"{pairs} pair" + "s" * (pairs != 1)] * flow
    say(f"wrote {args.out}: {', '.join(counts)}; " + ", ".join(
        p.name + "/" * p.is_dir() for p in sorted(Path(args.out).iterdir())))
    return 0


def _warn_of_camera(settings: "Run", folder: "Path", source: "FrameSource") -> None:
    """Say so where the camera is not of the kind that the run was trained with."""
    import math

    from egoflow.console import note
    from egoflow.inference.model_card import trained_cameras

    known = trained_cameras(settings, folder)
    (low, high), trained = known["fov_deg"], known["trained_fov_deg"]
    fov = 2 * math.degrees(math.atan(source.camera.width / (2 * float(source.camera.fx))))
    if trained is not None and not low <= fov <= high:
        ends = " to ".join(sorted({f"{value:.0f}" for value in trained}, key=int))
        note(f"{source.name}: its field of view is {fov:.0f} degrees, and training had {ends}: depth and motion will "
             f"be wrong in scale and shape")


def _wanted(args: argparse.Namespace, method: "Method") -> tuple[bool, bool]:
    """Return whether depth and whether flow is to be predicted."""
    from egoflow.errors import ConfigError

    quantity = args.quantity or ("depth" if method.needs_camera else "flow")
    if quantity != "flow" and not method.needs_camera:
        raise ConfigError(f"{args.run}: its method gives flow alone, no depth; leave out --quantity {quantity}")
    if quantity == "flow" and args.also:
        raise ConfigError(f"--also {' '.join(args.also)} is made of depth and motion, and flow alone is predicted")
    if quantity == "depth" and args.size is not None:
        raise ConfigError("--size is the size that flow is computed at, and no flow is asked for; give --quantity flow")
    return quantity != "flow", quantity != "depth"


def _write_flow(args: argparse.Namespace, settings: "Run", method: "Method", sources: "list[FrameSource]",
                folder: "Path") -> int:
    """Write the flow of all pairs; return their number."""
    from egoflow.inference.prediction_folder import write_flow

    trained = settings.data.height, settings.data.width
    size = {None: None, "native": None, "trained": trained}.get(args.size, args.size)
    return write_flow(folder, method, settings, sources, size=size, flow_format=args.flow_format,
                      video=not args.no_video)


def _write_depth(args: argparse.Namespace, settings: "Run", method: "Method", source: "FrameSource",
                 folder: "Path") -> int:
    """Write depth and motion of one source; return the number of its frames."""
    from egoflow.console import say
    from egoflow.inference.prediction_folder import write_depth

    writer = write_depth(folder, method, settings, source, depth_format=args.depth_format, video=not args.no_video,
                         two_view=not args.no_two_view, movers=not args.no_movers, flows=args.quantity == "all",
                         flow_format=args.flow_format)
    if args.also:
        _write_also(args, folder, source, list(writer.frames))
    if line := writer.consistency.line():
        say(line)
    return len(writer.frames)


def _write_also(args: argparse.Namespace, folder: "Path", source: "FrameSource", frames: list[int]) -> None:
    """Write what is made of a finished prediction."""
    from egoflow.console import note, say
    from egoflow.errors import DataError
    from egoflow.inference.cloud_writer import write_scene
    from egoflow.report.prediction_page import write_report

    report = "report" in args.also
    try:
        sizes = write_scene(folder, source, frames, also={*args.also, *(["cloud"] if report else [])})
        say(", ".join(f"{size} {name}" for name, size in sizes.items()))
    except DataError as error:
        # What was predicted is not to be lost for what is made of it.
        note(f"--also {' '.join(args.also)}: {str(error).replace(str(folder), args.out)}")
    if report:
        try:
            write_report(folder / "report", folder, source, frames, title=source.name)
        except DataError as error:
            note(f"--also report: {str(error).replace(str(folder), args.out)}")


def _sources(args: argparse.Namespace, settings: "Run", *, needs_camera: bool) -> "list[FrameSource]":
    """Open the footage with the camera given, its own, or the run's, in this order."""
    from dataclasses import replace

    from egoflow.console import note
    from egoflow.data.cameras import UnknownCameraError
    from egoflow.errors import DataError

    data = replace(settings.data, paths=tuple(args.source), camera=args.camera, frames=args.frames)
    try:
        return _opened(data, needs_camera=needs_camera)
    except UnknownCameraError:
        if settings.data.camera is None:
            raise
    name = args.source[0]
    note(f"{name} brings no camera: the run's own, --camera {settings.data.camera}, is taken")
    sources = _opened(replace(data, camera=settings.data.camera), needs_camera=needs_camera)
    camera = sources[0].camera
    if max(abs(camera.cx.item() / camera.width - 0.5), abs(camera.cy.item() / camera.height - 0.5)) > 0.2:
        raise DataError(f"{name}: the run's camera is not that of {camera.height}x{camera.width} images (its "
                        f"axis meets them at {camera.cx.item():.0f}, {camera.cy.item():.0f}); give --camera")
    return sources


def _opened(data: "DataConfig", *, needs_camera: bool) -> "list[FrameSource]":
    """Open one source of any kind, or two image files as a pair."""
    from pathlib import Path

    from egoflow.data.flow_frames import FlowFrames, Shot
    from egoflow.data.folders import IMAGE_SUFFIXES
    from egoflow.errors import ConfigError, DataError
    from egoflow.training.session import STAND_IN_CAMERA, open_sources

    if len(data.paths) == 1:
        return open_sources(data, needs_camera=needs_camera)
    files = [Path(path) for path in data.paths]
    if len(files) != 2 or any(file.suffix.lower() not in IMAGE_SUFFIXES for file in files):
        raise ConfigError(f"{' '.join(data.paths)}: expected one source, or the two image files of a pair")
    if missing := [file for file in files if not file.is_file()]:
        raise DataError(f"{missing[0]}: no such file")
    pair = FlowFrames(Shot(name=files[0].stem, folder=Path(), frames=data.paths),
                      data.camera or (None if needs_camera else STAND_IN_CAMERA))
    # Asked for on opening, so that an unknown camera is seen here.
    _ = pair.camera
    return [pair]
