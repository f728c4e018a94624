"""``egoflow render``: a procedural world as a folder of images with exact ground truth."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from egoflow.worlds.base import RenderedWorld

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
    parser.add_argument("--scenes", type=scene_count, default=1, metavar="K",
                        help="with more than one, of this seed and those that follow, DIR holds a folder each "
                             "(default: 1)")
    parser.add_argument("--movers", type=int, metavar="K", help="how many things move by themselves (default: none)")
    parser.add_argument("--difficulty", metavar="NAME",
                        help="of chairs: mixed, homogeneous, thin, holes, occlusion, speed or small (default: mixed)")
    parser.add_argument("--samples", type=int, metavar="N", help="colour samples a pixel (default: the world's)")
    parser.add_argument("--device", help="cpu or cuda (default: cpu)")


def image_size(text: str) -> tuple[int, int]:
    """Return (height, width) of "128x416"."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and 8 <= int(part) <= 8192 for part in parts):
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH in pixels (8 to 8192), e.g. 128x416, got {text!r}")
    return int(parts[0]), int(parts[1])


def scene_count(text: str) -> int:
    """Return the number of scenes of "200"."""
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"expected a number of scenes from 1 to 1000000, got {text!r}")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Render frame by frame; the folder appears whole or not at all."""
    from pathlib import Path

    from egoflow.console import progress, say
    from egoflow.data.files import new_folder

    world, scenes = _world(args, seed=args.seed), args.scenes
    with new_folder(Path(args.out)) as folder, progress(scenes * len(world), label=f"rendering {world.name}") as bar:
        for number in range(scenes):
            scene = _world(args, seed=args.seed + number)
            clip = folder / f"{number:06d}" if scenes > 1 else folder
            _write_clip(clip, scene)
            for index in range(len(scene)):
                _write_frame(clip, scene, index)
                bar.advance()
    each = "" if scenes == 1 else f"{scenes} scenes, each of "
    say(f"wrote {args.out}: {each}{len(world)} frames of {world.camera.height}x{world.camera.width}")
    return 0


def _world(args: argparse.Namespace, *, seed: int) -> "RenderedWorld":
    """Return the world that the options ask for."""
    from egoflow.worlds.base import load_world

    names = ("frames", "samples", "movers", "device", "difficulty")
    options: dict[str, Any] = {"seed": seed}
    options |= {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.size is not None:
        options |= {"height": args.size[0], "width": args.size[1]}
    return load_world(args.world, **options)


def _write_clip(folder: "Path", world: "RenderedWorld") -> None:
    """Write what belongs to the whole clip; the camera's path where it has one."""
    import json
    from importlib.metadata import version

    from egoflow.data.cameras import write_camera
    from egoflow.data.files import write_bytes
    from egoflow.data.trajectories import write_trajectory
    from egoflow.worlds.base import World

    write_camera(folder / "camera.json", world.camera)
    if isinstance(world, World):
        path = world.trajectory()
        write_trajectory(folder / "poses_kitti.txt", path, format="kitti")
        write_trajectory(folder / "trajectory_tum.txt", path, format="tum")
    about = {"world": world.name, "seed": world.seed, "frames": len(world), "height": world.camera.height,
             "width": world.camera.width, "samples": world.samples, "options": world.options, "scale": world.scale,
             "frames_per_s": 10, "egoflow": version("egoflow")}
    write_bytes(folder / "world.json", (json.dumps(about, indent=2) + "\n").encode())


def _write_frame(folder: "Path", world: "RenderedWorld", index: int) -> None:
    """Write one frame's image and truth, and what leads to the next frame: flow there and back, scene flow."""
    from egoflow.data.formats import write_depth_png, write_flo, write_image, write_mask
    from egoflow.data.scene_flow import write_scene_flow
    from egoflow.worlds.base import World

    name, truth = world.frame_name(index), world.truth(index)
    write_image(folder / "image" / f"{name}.png", world.image(index))
    if truth.depth is not None:
        write_depth_png(folder / "depth" / f"{name}.png", truth.depth, truth.valid_depth)
    if truth.static is not None:
        write_mask(folder / "static" / f"{name}.png", truth.static)
    if index + 1 < len(world):
        onwards, back = world.flow_truth(index, index + 1), world.flow_truth(index + 1, index)
        write_flo(folder / "flow" / f"{name}.flo", onwards.flow_ab.transpose(1, 2, 0))
        write_flo(folder / "flow_backward" / f"{world.frame_name(index + 1)}.flo", back.flow_ab.transpose(1, 2, 0))
        if onwards.visible is not None:
            write_mask(folder / "visible" / f"{name}.png", onwards.visible)
        if isinstance(world, World):
            motion, known = world.scene_flow_truth(index, index + 1)
            write_scene_flow(folder / "scene_flow" / f"{name}.npz", motion.transpose(1, 2, 0), known)
