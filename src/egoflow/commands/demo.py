"""``egoflow demo``: the whole way in minutes, on footage that egoflow renders itself."""

import argparse

NAME = "demo"
HELP = "render, train, predict and evaluate a small example in minutes"
EXAMPLE = "egoflow demo --out demo/"

SIZE = "96x288"
FRAMES = 120


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--out", default="demo", metavar="DIR", help="folder to write; must not exist")
    parser.add_argument("--seed", type=int, default=3, help="of the world and of training")
    parser.add_argument("--steps", type=int, default=300, help="training steps")
    parser.add_argument("--frames", type=int, default=FRAMES, help="frames of the drive")


def run(args: argparse.Namespace) -> int:
    """Run the commands that a user would type on a clip, print the tables, write the pictures."""
    from pathlib import Path

    from egoflow.commands import evaluate, predict, render, train
    from egoflow.console import say
    from egoflow.data.files import new_folder

    with new_folder(Path(args.out)) as folder:
        drive, trained, out = folder / "drive", folder / "run", folder / "prediction"
        _command(render, "drive", "--out", drive, "--frames", args.frames, "--size", SIZE, "--seed", args.seed)
        _command(train, "sfmlearner:tiny", "--data", drive, "--out", trained, "--set", f"loop.steps={args.steps}",
                 f"loop.seed={args.seed}")
        _command(predict, trained, drive, "--out", out)
        _command(evaluate, "depth", "--prediction", out, "--truth", drive / "depth", "--crop", "none")
        _command(evaluate, "odometry", "--prediction", out, "--truth", out / "truth_kitti.txt", "--align", "sim3")
        _pictures(drive, out, folder)
    say(f"wrote {args.out}: depth.png, path.png, drive/, run/, prediction/ (with inv_depth.mp4)")
    return 0


def _command(module: object, *words: object) -> None:
    """Show a command as a user would type it, and run it."""
    from egoflow.console import say

    say(f"\n$ egoflow {module.NAME} {' '.join(map(str, words))}")  # type: ignore[attr-defined]
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)  # type: ignore[attr-defined]
    module.run(parser.parse_args([str(w) for w in words]))  # type: ignore[attr-defined]


def _pictures(drive: "object", out: "object", folder: "object") -> None:
    """Write depth.png (image, prediction, truth of four frames) and path.png (the paths from above)."""
    from pathlib import Path

    import numpy as np

    from egoflow.data.formats import read_depth_png, read_image, write_image
    from egoflow.data.trajectories import read_trajectory
    from egoflow.evaluation.alignment import fit
    from egoflow.inference.writer import PNG_UNITS
    from egoflow.report.figures import depth_figure, path_figure

    drive_path, out_path = Path(str(drive)), Path(str(out))
    names = sorted(p.stem for p in (out_path / "depth").glob("*.png"))
    rows = []
    for name in [names[i] for i in np.linspace(0, len(names) - 1, 4).astype(int)]:
        truth, known = read_depth_png(drive_path / "depth" / f"{name}.png")
        predicted, valid = read_depth_png(out_path / "depth" / f"{name}.png", PNG_UNITS)
        rows.append((read_image(drive_path / "image" / f"{name}.png"), np.where(valid, predicted, np.inf),
                     np.where(known, truth, np.nan)))
    write_image(Path(str(folder)) / "depth.png", depth_figure(rows))
    truth = read_trajectory(out_path / "truth_kitti.txt", format="kitti").world_from_cam
    paths = {"truth (metres)": truth.t.numpy()}
    for label, name in (("egoflow", "trajectory"), ("two-view chain, unit speed", "two_view")):
        path = read_trajectory(out_path / f"{name}_kitti.txt", format="kitti").world_from_cam
        paths[label] = fit(path, truth, align="sim3").apply(path).t.numpy()
    write_image(Path(str(folder)) / "path.png", path_figure(paths))
