"""``egoflow evaluate flow``: flow files and classical baselines against the true flow."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from egoflow.evaluation.flow_inputs import FlowComparison
    from egoflow.evaluation.table import Result

HELP = "flow files"
DESCRIPTION = "Score optical flow, or classical baselines."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--prediction", metavar="F|DIR",
                        help="flow file (.flo, KITTI's 16-bit .png, .pfm), or a folder of them, or one with flow/")
    parser.add_argument("--truth", required=True, metavar="F|DIR", help="true flow in any of these formats")
    parser.add_argument("--protocol", choices=("plain", "kitti2012", "kitti2015", "sintel", "middlebury"),
                        default="plain", help="whose figures and means; docs/evaluation.md says what each leaves out")
    hidden = parser.add_mutually_exclusive_group()
    hidden.add_argument("--noc", metavar="F|DIR", help="true flow of the visible pixels alone (KITTI's flow_noc)")
    hidden.add_argument("--occluded", metavar="F|DIR", help="masks (.png, white = occluded), as of Sintel")
    parser.add_argument("--confidence", metavar="F|DIR",
                        help="maps (.png, .pfm; more is surer) to sort the errors by; found in what predict wrote")
    parser.add_argument("--baseline", nargs="+", action="extend", default=[], metavar="NAME",
                        choices=("zero", "farneback", "dis", "epipolar"),
                        help="zero, farneback, dis, epipolar: rows beside --prediction or in place of it")
    parser.add_argument("--images", nargs="+", metavar="F|DIR",
                        help="for --baseline: two images, two folders, or one folder of frames")
    parser.add_argument("--pictures", metavar="DIR", help="write truth, flow and error of each pair; must not exist")


def score(args: argparse.Namespace) -> "Result":
    """Return the scores of flows, matched by name; write the pictures that are asked for."""
    from contextlib import ExitStack
    from dataclasses import replace
    from pathlib import Path

    from egoflow.console import progress
    from egoflow.data.files import new_folder
    from egoflow.data.formats import write_image
    from egoflow.evaluation.flow import FlowScores
    from egoflow.report.figures import flow_figure

    compared = _comparison(args)
    names, scores = compared.names(), FlowScores(args.protocol)
    with ExitStack() as stack:
        pictures = stack.enter_context(new_folder(Path(args.pictures))) if args.pictures else None
        bar = stack.enter_context(progress(len(names), label="scoring"))
        for name in names:
            pair = compared.read(name)
            truth, known = pair.truth
            for row, (flow, valid) in pair.flows.items():
                scores.add(name, flow, truth, row=row, valid=valid, valid_truth=known, visible=pair.visible,
                           confidence=pair.confidence if row == "prediction" else None)
            if pictures is not None:
                # No flow is no picture worth looking at, unless there is nothing else.
                shown = {row: flow for row, flow in pair.flows.items() if row != "zero"} or pair.flows
                write_image(pictures / f"{name}.png", flow_figure(truth, known, shown))
            bar.advance()
    result = scores.result(seed=args.seed)
    return replace(result, protocol={**result.protocol, **compared.describe()})


def _comparison(args: argparse.Namespace) -> "FlowComparison":
    """Return the files that are compared; zero flow always is the last row."""
    from pathlib import Path

    from egoflow.errors import ConfigError
    from egoflow.evaluation import flow_inputs as files

    classical = [name for name in dict.fromkeys(args.baseline) if name != "zero"]
    if args.prediction is None and not args.baseline:
        raise ConfigError("give --prediction, or --baseline with --images in place of it")
    if args.prediction is None and args.confidence:
        raise ConfigError("--confidence is of a --prediction; give both")
    if bool(classical) != bool(args.images):
        raise ConfigError("--baseline farneback, dis and epipolar need --images, and --images needs one of them")
    truth, visible = files.true_flow_files(Path(args.truth))
    prediction, confidence = None, None
    if args.prediction is not None:
        prediction = files.flow_files(Path(args.prediction))
        confidence = (files.confidence_files(Path(args.confidence)) if args.confidence else
                      files.predicted_confidence(Path(args.prediction)))
    return files.FlowComparison(
        truth=truth, prediction=prediction, confidence=confidence, baselines=(*classical, "zero"),
        images=files.image_pairs([Path(name) for name in args.images]) if args.images else None,
        noc=files.flow_files(Path(args.noc)) if args.noc else None,
        occluded=files.mask_files(Path(args.occluded)) if args.occluded else None,
        visible=None if args.noc or args.occluded else visible)
