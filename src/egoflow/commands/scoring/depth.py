"""``egoflow evaluate depth``: a folder of depth maps against the true ones."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from egoflow.evaluation.table import Result

HELP = "a folder of depth maps"
DESCRIPTION = "Score depth maps."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
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


def score(args: argparse.Namespace) -> "Result":
    """Return the scores of depth maps, matched by name."""
    from dataclasses import replace
    from pathlib import Path

    from egoflow.console import progress
    from egoflow.errors import ConfigError
    from egoflow.evaluation.depth import DepthProtocol, DepthScores
    from egoflow.evaluation.inputs import common_stems, depth_folder, read_static, static_masks

    if args.block < 1:
        raise ConfigError(f"--block must be at least 1, got {args.block}")
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
