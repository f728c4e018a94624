"""``egoflow evaluate motion``: masks of what moves by itself against the true ones."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from egoflow.evaluation.table import Result

HELP = "masks of what moves by itself"
DESCRIPTION = "Score masks of what moves by itself, or the probability that it does."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--prediction", required=True, metavar="F|DIR",
                        help="grey 8-bit .png, the probability of moving (255 = moves), a folder of them, or one with "
                             "mover/")
    parser.add_argument("--truth", required=True, metavar="F|DIR",
                        help="masks (.png), a folder of them, or a rendered world or clip with static/")
    parser.add_argument("--white", choices=("static", "movers"), default="static",
                        help="what is white, or above 0, in the truth; movers for KITTI's object maps")
    parser.add_argument("--threshold", type=float, default=0.5, metavar="P",
                        help="from this probability on a pixel is said to move")


def score(args: argparse.Namespace) -> "Result":
    """Return the scores of masks, matched by name."""
    from dataclasses import replace
    from pathlib import Path

    from egoflow.console import note, progress
    from egoflow.evaluation.motion_inputs import MaskComparison, mover_files, true_mask_files
    from egoflow.evaluation.motion_masks import MotionScores

    scores = MotionScores(args.threshold)
    compared = MaskComparison(prediction=mover_files(Path(args.prediction)),
                              truth=true_mask_files(Path(args.truth), white=args.white), white=args.white)
    names = compared.names()
    with progress(len(names), label="scoring") as bar:
        for name in names:
            scores.add(name, *compared.read(name))
            bar.advance()
    if scores.highest() == 1:
        note(f"{args.prediction}: the highest value is 1 of 255; masks of 0 and 1 must be written as 0 and 255")
    result = scores.result(seed=args.seed)
    return replace(result, protocol={**result.protocol, **compared.describe()})
