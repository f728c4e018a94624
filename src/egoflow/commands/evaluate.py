"""``egoflow evaluate``: score a prediction against the truth, with protocol, baselines, intervals.

Every word (odometry, depth, …) is a module of ``commands/scoring``.
"""

import argparse
import json
from typing import TYPE_CHECKING

from egoflow.commands.scoring import depth, flow, motion, odometry, sceneflow

if TYPE_CHECKING:
    from egoflow.evaluation.table import Result

NAME = "evaluate"
HELP = "score a run, or anyone's files, against ground truth"
EXAMPLE = ("egoflow evaluate odometry --prediction out/ --truth poses.txt --align sim3\n"
           "  egoflow evaluate depth --prediction out/depth --truth depth_lidar --crop garg --cap 80 --scale median\n"
           "  egoflow evaluate flow --prediction out/ --truth flow_occ --noc flow_noc --protocol kitti2015\n"
           "  egoflow evaluate flow --baseline dis farneback --images frame10.png frame11.png --truth flow10.flo\n"
           "  egoflow evaluate motion --prediction out/ --truth drive/\n"
           "  egoflow evaluate sceneflow --prediction out/ --truth drive/ --scale pair")
WORDS = {"odometry": odometry, "depth": depth, "flow": flow, "motion": motion, "sceneflow": sceneflow}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the evaluations and their options."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar=f"{{{','.join(WORDS)}}}")
    for word, module in WORDS.items():
        options = kinds.add_parser(word, help=module.HELP, description=module.DESCRIPTION)
        module.add_arguments(options)
        _add_output(options)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="of the resampling for the intervals")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="write one JSON object")
    form.add_argument("--markdown", action="store_true", help="write a Markdown table")


def run(args: argparse.Namespace) -> int:
    """Score and write the table, as text, Markdown or JSON."""
    from egoflow.console import say

    result = score(args)
    if args.json:
        say(json.dumps(result.json(), allow_nan=False))
    else:
        say((result.markdown() if args.markdown else result.text()).rstrip("\n"))
    return 0


def score(args: argparse.Namespace) -> "Result":
    """Return what the words ask for as one result; raises ConfigError for a negative seed."""
    from egoflow.errors import ConfigError

    if args.seed < 0:
        raise ConfigError(f"--seed must be 0 or more, got {args.seed}")
    return WORDS[args.kind].score(args)
