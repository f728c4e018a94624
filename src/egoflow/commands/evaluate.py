"""``egoflow evaluate``: score depth, flow or a trajectory against the truth, with protocol, baselines, intervals."""

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from egoflow.evaluation.flow_inputs import FlowComparison
    from egoflow.evaluation.table import Result

NAME = "evaluate"
HELP = "score a run, or anyone's files, against ground truth"
EXAMPLE = ("egoflow evaluate odometry --prediction out/ --truth poses.txt --align sim3\n"
           "  egoflow evaluate depth --prediction out/depth --truth depth_lidar --crop garg --cap 80 --scale median\n"
           "  egoflow evaluate flow --prediction out/ --truth flow_occ --noc flow_noc --protocol kitti2015\n"
           "  egoflow evaluate flow --baseline dis farneback --images frame10.png frame11.png --truth flow10.flo")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the three evaluations and their options."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="{odometry,depth,flow}")
    _add_odometry(kinds.add_parser("odometry", help="a trajectory", description="Score a trajectory."))
    _add_depth(kinds.add_parser("depth", help="a folder of depth maps", description="Score depth maps."))
    _add_flow(kinds.add_parser("flow", help="flow files", description="Score optical flow, or classical baselines."))


def _add_odometry(parser: argparse.ArgumentParser) -> None:
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
    _add_output(parser)


def _add_depth(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prediction", required=True, metavar="DIR",
                        help="depth maps (16-bit .png with depth.json beside them, or .npz), or a folder with depth/")
    parser.add_argument("--truth", required=True, metavar="DIR", help="true depth: .png (metres*256, 0 = none) or .npz")
    parser.add_argument("--crop", choices=("garg", "eigen", "none"), default="garg", help="part of the image scored")
    parser.add_argument("--cap", type=float, default=80.0, metavar="M", help="largest depth in metres; papers: 80, 50")
    parser.add_argument("--scale", choices=("median", "none"), default="median", help="scaling of each prediction")
    parser.add_argument("--ranges", metavar="M,M,..",
                        help="also score by true depth between these edges: 0,10,20,40,80")
    parser.add_argument("--static", metavar="DIR", help="masks (.png, white = static): also score both parts")
    parser.add_argument("--block", type=int, default=1, metavar="N",
                        help="images resampled together for the intervals; more than 1 for the frames of a video")
    _add_output(parser)


def _add_flow(parser: argparse.ArgumentParser) -> None:
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
    _add_output(parser)


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
    """Return what the words ask for as one result."""
    return {"odometry": _odometry, "depth": _depth, "flow": _flow}[args.kind](args)


def _odometry(args: argparse.Namespace) -> "Result":
    from pathlib import Path

    from egoflow.errors import ConfigError
    from egoflow.evaluation.inputs import read_pair, read_path
    from egoflow.evaluation.odometry import evaluate_odometry

    # Not "tolerance < 0": NaN must not pass.
    if not 0 <= args.tolerance < float("inf") or args.seed < 0:
        raise ConfigError(f"--tolerance and --seed must be 0 or more, got {args.tolerance:g} and {args.seed}")
    prediction, truth, kind, beside = read_pair(Path(args.prediction), Path(args.truth), format=args.format)
    named = beside | {Path(name).stem: Path(name) for name in args.baseline}
    others = {name: read_path(path, format=kind) for name, path in named.items()}
    return evaluate_odometry(prediction, truth, align=args.align, by="time" if kind == "tum" else "frame",
                             tolerance_s=args.tolerance, others=others, seed=args.seed)


def _depth(args: argparse.Namespace) -> "Result":
    from dataclasses import replace
    from pathlib import Path

    from egoflow.console import progress
    from egoflow.errors import ConfigError
    from egoflow.evaluation.depth import DepthProtocol, DepthScores
    from egoflow.evaluation.inputs import common_stems, depth_folder, read_static, static_masks

    if args.seed < 0 or args.block < 1:
        raise ConfigError(f"--seed must be 0 or more and --block at least 1, got {args.seed} and {args.block}")
    scores = DepthScores(DepthProtocol(crop=args.crop, cap_m=args.cap, scale=args.scale, ranges_m=_edges(args.ranges)))
    prediction, truth = depth_folder(Path(args.prediction)), depth_folder(Path(args.truth))
    masks = static_masks(Path(args.static)) if args.static else None
    stems = common_stems(prediction, truth)
    with progress(len(stems), label="scoring") as bar:
        for stem in stems:
            depth, valid = prediction.read(stem)
            target, known = truth.read(stem)
            static = None if masks is None else read_static(masks, stem, height=target.shape[0], width=target.shape[1])
            scores.add(stem, depth, target, valid_prediction=valid, valid_truth=known, static=static)
            bar.advance()
    result = scores.result(block=args.block, seed=args.seed)
    files = {"files": f"by name, {len(stems)} of {len(prediction.files)} predictions and of {len(truth.files)} truths",
             "predicted unit": prediction.scale,
             "resized by the predictor as": prediction.resized_as}
    return replace(result, protocol={**result.protocol, **files})


def _edges(text: str | None) -> tuple[float, ...]:
    """Return the depths in metres of "0,10,20"."""
    from egoflow.errors import ConfigError

    try:
        return tuple(float(word) for word in text.split(",")) if text else ()
    except ValueError as error:
        raise ConfigError(f"--ranges expects depths in metres such as 0,10,20,40,80, got '{text}'") from error


def _flow(args: argparse.Namespace) -> "Result":
    from contextlib import ExitStack
    from dataclasses import replace
    from pathlib import Path

    from egoflow.console import progress
    from egoflow.data.files import new_folder
    from egoflow.data.formats import write_image
    from egoflow.evaluation.flow import FlowScores
    from egoflow.report.figures import flow_figure

    compared = _flow_comparison(args)
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


def _flow_comparison(args: argparse.Namespace) -> "FlowComparison":
    """Return the files that are compared; zero flow always is the last row."""
    from pathlib import Path

    from egoflow.errors import ConfigError
    from egoflow.evaluation import flow_inputs as files

    classical = [name for name in dict.fromkeys(args.baseline) if name != "zero"]
    if args.seed < 0:
        raise ConfigError(f"--seed must be 0 or more, got {args.seed}")
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
