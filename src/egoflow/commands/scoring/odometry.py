"""``egoflow evaluate odometry``: a trajectory against the true one."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from egoflow.evaluation.table import Result

HELP = "a trajectory"
DESCRIPTION = "Score a trajectory."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--prediction", required=True, metavar="FILE",
                        help="trajectory file (.gz too), or a folder written by 'egoflow predict'")
    parser.add_argument("--truth", required=True, metavar="FILE",
                        help="true trajectory in the same format, or a folder that holds it")
    parser.add_argument("--format", choices=("kitti", "tum"), help="of both files; told by their columns if not given")
    parser.add_argument("--align", choices=("none", "scale", "se3", "sim3"), default="sim3",
                        help="what of the prediction is fitted to the truth first")
    parser.add_argument("--tolerance", type=float, default=0.01, metavar="S",
                        help="how far apart in seconds matched stamps may be (tum)")
    parser.add_argument("--baseline", action="append", default=[], metavar="FILE",
                        help="a further trajectory for the table; may be given again")


def score(args: argparse.Namespace) -> "Result":
    """Return the scores of a trajectory, beside what knows little of the video."""
    from pathlib import Path

    from egoflow.errors import ConfigError
    from egoflow.evaluation.inputs import read_pair, read_path
    from egoflow.evaluation.odometry import evaluate_odometry

    # Not "tolerance < 0": NaN must not pass.
    if not 0 <= args.tolerance < float("inf"):
        raise ConfigError(f"--tolerance must be 0 or more, got {args.tolerance:g}")
    prediction, truth, kind, beside = read_pair(Path(args.prediction), Path(args.truth), format=args.format)
    others = beside | {Path(name).stem: read_path(Path(name), format=kind) for name in args.baseline}
    return evaluate_odometry(prediction, truth, align=args.align, by="time" if kind == "tum" else "frame",
                             tolerance_s=args.tolerance, others=others, seed=args.seed)
