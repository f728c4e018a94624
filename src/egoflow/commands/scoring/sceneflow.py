"""``egoflow evaluate sceneflow``: the own motion of every point in space against the true one."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from egoflow.evaluation.table import Result

HELP = "3-D motion of every pixel"
DESCRIPTION = "Score scene flow: how each point moves by itself, in the axes of the first camera."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--prediction", required=True, metavar="F|DIR",
                        help="scene flow (.npz, or .pfm of 3 channels), a folder of it, or one with scene_flow/")
    parser.add_argument("--truth", required=True, metavar="F|DIR",
                        help="true scene flow, or a rendered world, which holds it")
    parser.add_argument("--scale", choices=("pair", "set", "none"), default="pair",
                        help="one factor for each pair, or for all, from depth/ beside both; none where both are in "
                             "metres")
    parser.add_argument("--static", metavar="F|DIR",
                        help="masks (.png, white = static) to score both parts by; found in a rendered world")


def score(args: argparse.Namespace) -> "Result":
    """Return the scores of scene flow, matched by name."""
    from dataclasses import replace
    from pathlib import Path

    from egoflow.console import progress
    from egoflow.evaluation import scene_flow_inputs as files
    from egoflow.evaluation.scene_flow import SceneFlowScores

    scores = SceneFlowScores(args.scale)
    prediction, truth = Path(args.prediction), Path(args.truth)
    compared = files.SceneFlowComparison(
        prediction=files.scene_flow_files(prediction), truth=files.scene_flow_files(truth),
        static=files.static_files(Path(args.static or truth), given=args.static is not None),
        depths=None if args.scale == "none" else (files.depth_files(prediction, scale=args.scale),
                                                  files.depth_files(truth, scale=args.scale)))
    names = compared.names()
    factors = compared.factors(names, scale=args.scale)
    with progress(len(names), label="scoring") as bar:
        for name in names:
            pair = compared.read(name)
            (flow, valid), (true_flow, known) = pair.prediction, pair.truth
            scores.add(name, flow, true_flow, factor=factors[name], valid=valid, valid_truth=known, static=pair.static)
            bar.advance()
    result = scores.result(seed=args.seed)
    return replace(result, protocol={**result.protocol, **compared.describe()})
