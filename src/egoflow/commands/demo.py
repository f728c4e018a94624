"""``egoflow demo``: the whole way in minutes, on footage that egoflow renders itself."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from egoflow.evaluation.table import Result

NAME = "demo"
HELP = "render, train, predict and evaluate a small example in minutes"
EXAMPLE = "egoflow demo --out demo/"

SIZE = "96x288"
FRAMES = 120
STEPS = 300
ROWS = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from egoflow.commands.render import image_size

    parser.add_argument("--out", default="demo", metavar="DIR", help="folder to write; must not exist")
    parser.add_argument("--seed", type=int, default=3, help="of the world and of training")
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps")
    parser.add_argument("--frames", type=int, default=FRAMES, help="frames of the drive")
    parser.add_argument("--size", type=image_size, default=SIZE, metavar="HxW", help="of the drive's images")


def run(args: argparse.Namespace) -> int:
    """Run the commands that a user would type on a clip, print the tables, write the pictures."""
    from pathlib import Path

    from egoflow.console import say
    from egoflow.errors import ConfigError, DataError

    if args.frames < 3 or args.steps < 1:
        raise ConfigError(f"at least 3 frames and 1 step are needed, got --frames {args.frames} --steps {args.steps}")
    folder = Path(args.out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: exists already; give another --out, or remove it first")
    # Every command writes its own folder whole or not at all, under the name that is shown.
    drive, trained, out = folder / "drive", folder / "run", folder / "prediction"
    _command("render", "drive", "--out", drive, "--frames", args.frames, "--size", "x".join(map(str, args.size)),
             "--seed", args.seed)
    _command("train", "sfmlearner:tiny", "--data", drive, "--out", trained, "--set", f"loop.steps={args.steps}",
             f"loop.seed={args.seed}")
    _command("predict", trained, drive, "--out", out)
    depth = _evaluated("depth", "--prediction", out, "--truth", drive, "--crop", "none")
    path = _evaluated("odometry", "--prediction", out, "--truth", drive, "--align", "sim3")
    _pictures(drive, out, folder)
    say(f"\nwrote {folder / 'depth.png'} and {folder / 'path.png'}; look at {out / 'inv_depth.mp4'} too")
    beaten = _verdict(depth, path)
    # Fewer steps than the default promise nothing.
    return 0 if beaten or args.steps < STEPS else 1


def _command(name: str, *words: object) -> None:
    """Show a command as a user would type it, and run it."""
    from importlib import import_module

    from egoflow.console import command_line, say

    say(f"\n$ {command_line(name, *words)}")
    module = import_module(f"egoflow.commands.{name}")
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    module.run(parser.parse_args([str(word) for word in words]))


def _evaluated(kind: str, *words: object) -> "Result":
    """Show an evaluation as a user would type it, run it, write its table and return it."""
    from egoflow.commands import evaluate
    from egoflow.console import command_line, say

    say(f"\n$ {command_line('evaluate', kind, *words)}")
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    result = evaluate.score(parser.parse_args([kind, *(str(word) for word in words)]))
    say(result.text().rstrip("\n"))
    return result


def _verdict(depth: "Result", path: "Result") -> bool:
    """Say for depth, direction and trajectory whether the prediction beats every label-free baseline."""
    from egoflow.console import say

    good = True
    for result, key, label in ((depth, "abs_rel", "depth"), (path, "direction_deg", "motion direction"),
                               (path, "ate_rmse_m", "trajectory")):
        # The two-view chain taught the directions; it is a rival for the whole path, where scale counts.
        rivals = {"constant depth", "straight line"} | ({"two-view chain"} if key == "ate_rmse_m" else set())
        own = result.rows[0].values[key]
        others = {row.name: value for row in result.rows[1:] if row.name in rivals
                  and (value := row.values.get(key)) is not None}
        beats = own is not None and all(own < value for value in others.values())
        good &= beats
        say(f"{label}: {own:.3g} " + ("beats " if beats else "does NOT beat ")
            + ", ".join(f"{name} {value:.3g}" for name, value in others.items()))
        taught = {row.name: row.values.get(key) for row in result.rows}.get("two-view chain")
        if key == "direction_deg" and taught is not None:
            say(f"  (the two-view chain that taught it: {taught:.3g})")
    return good


def _pictures(drive: "Path", out: "Path", folder: "Path") -> None:
    """Write depth.png (image, prediction, truth of four frames) and path.png (the paths from above)."""
    import numpy as np

    from egoflow.data.formats import read_image, write_image
    from egoflow.data.trajectories import read_trajectory
    from egoflow.evaluation.alignment import fit
    from egoflow.evaluation.inputs import common_stems, depth_folder
    from egoflow.report.figures import depth_figure, path_figure

    predicted, true = depth_folder(out), depth_folder(drive)
    names = common_stems(predicted, true)
    rows = []
    for name in dict.fromkeys(names[i] for i in np.linspace(0, len(names) - 1, ROWS).astype(int)):
        (depth, valid), (truth, known) = predicted.read(name), true.read(name)
        image = read_image(drive / "image" / f"{name}.png")
        rows.append((image, np.where(valid, depth, np.inf), np.where(known, truth, np.nan)))
    write_image(folder / "depth.png", depth_figure(rows))
    truth = read_trajectory(out / "truth_kitti.txt", format="kitti").world_from_cam
    paths = {"truth": truth.t.numpy()}
    for label, name in (("sfmlearner:tiny", "trajectory"), ("two-view chain at one speed", "two_view")):
        path = read_trajectory(out / f"{name}_kitti.txt", format="kitti").world_from_cam
        # A chain of pairs without parallax stands still: there is nothing to align or to draw.
        if bool(path.t.any()):
            paths[label] = fit(path, truth, align="sim3").apply(path).t.numpy()
    write_image(folder / "path.png", path_figure(paths, unit="m"))
