"""``egoflow render``: a procedural world as a folder of images with exact ground truth."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from egoflow.worlds.base import World

NAME = "render"
HELP = "render a procedural world with exact ground truth"
EXAMPLE = "egoflow render drive --out drive/ --frames 200 --seed 3"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("world", metavar="WORLD", help="name of a world; 'egoflow worlds' lists them")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write; must not exist")
    parser.add_argument("--frames", type=int, metavar="N", help="number of frames at 10 Hz (default: the world's)")
    parser.add_argument("--size", type=image_size, metavar="HxW",
                        help="image size, e.g. 128x416 (default: the world's)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same world")
    parser.add_argument("--movers", type=int, default=0, metavar="K", help="how many things move by themselves")
    parser.add_argument("--samples", type=int, metavar="N", help="colour samples a pixel (default: the world's)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")


def image_size(text: str) -> tuple[int, int]:
    """Return (height, width) of "128x416"."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and 8 <= int(part) <= 8192 for part in parts):
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH in pixels (8 to 8192), e.g. 128x416, got {text!r}")
    return int(parts[0]), int(parts[1])


def run(args: argparse.Namespace) -> int:
    """Render frame by frame; the folder appears whole or not at all."""
    from pathlib import Path

    from egoflow.console import progress, say
    from egoflow.data.files import new_folder

    world = _world(args)
    with new_folder(Path(args.out)) as folder, progress(len(world), label=f"rendering {world.name}") as bar:
        _write_clip(folder, world)
        for index in range(len(world)):
            _write_frame(folder, world, index)
            bar.advance()
    say(f"wrote {args.out}: {len(world)} frames of {world.camera.height}x{world.camera.width}")
    return 0


def _world(args: argparse.Namespace) -> "World":
    """Return the world that the options ask for."""
    from egoflow.worlds.base import load_world

    options: dict[str, Any] = {"seed": args.seed, "movers": args.movers, "device": args.device}
    options |= {key: getattr(args, key) for key in ("frames", "samples") if getattr(args, key) is not None}
    if args.size is not None:
        options |= {"height": args.size[0], "width": args.size[1]}
    return load_world(args.world, **options)


def _write_clip(folder: "Path", world: "World") -> None:
    """Write what belongs to the whole clip."""
    import json
    from importlib.metadata import version

    from egoflow.data.cameras import write_camera
    from egoflow.data.files import write_bytes
    from egoflow.data.trajectories import write_trajectory

    write_camera(folder / "camera.json", world.camera)
    path = world.trajectory()
    write_trajectory(folder / "poses_kitti.txt", path, format="kitti")
    write_trajectory(folder / "trajectory_tum.txt", path, format="tum")
    about = {"world": world.name, "seed": world.seed, "frames": len(world), "height": world.camera.height,
             "width": world.camera.width, "samples": world.samples, "options": world.options, "scale": world.scale,
             "frames_per_s": 10, "egoflow": version("egoflow")}
    write_bytes(folder / "world.json", (json.dumps(about, indent=2) + "\n").encode())


def _write_frame(folder: "Path", world: "World", index: int) -> None:
    """Write one frame's image and truth, and the flows between it and the next frame."""
    from egoflow.data.formats import write_depth_png, write_flo, write_image, write_mask

    name, truth = world.frame_name(index), world.truth(index)
    write_image(folder / "image" / f"{name}.png", world.image(index))
    if truth.depth is not None:
        write_depth_png(folder / "depth" / f"{name}.png", truth.depth, truth.valid_depth)
    if truth.static is not None:
        write_mask(folder / "static" / f"{name}.png", truth.static)
    if index + 1 < len(world):
        pair = world.pair_truth(index, index + 1)
        write_flo(folder / "flow" / f"{name}.flo", pair.flow_ab[0].permute(1, 2, 0).cpu().numpy())
        write_flo(folder / "flow_backward" / f"{world.frame_name(index + 1)}.flo",
                  pair.flow_ba[0].permute(1, 2, 0).cpu().numpy())
        write_mask(folder / "visible" / f"{name}.png", pair.visible_ab[0, 0].cpu().numpy())
