"""All that can be said of a method on a set of clips in one row: depth, camera motion, flow and what moves.

Frames are added one by one in any order; a figure that the method or the truth does not allow is None.
"""

import math
from collections.abc import Callable, Mapping

import cv2
import numpy as np

from egoflow.errors import DataError
from egoflow.evaluation.depth import Crop, DepthProtocol, DepthScores
from egoflow.evaluation.flow import FlowScores
from egoflow.evaluation.motion_masks import MotionScores
from egoflow.evaluation.odometry import evaluate_odometry
from egoflow.evaluation.path_errors import path_length
from egoflow.evaluation.snippets import SNIPPET_FRAMES
from egoflow.evaluation.table import Metric, Result
from egoflow.types import FlowTruth, FrameTruth, Trajectory

METRICS = (
    Metric(key="abs_rel", label="abs_rel"), Metric(key="abs_rel_static", label="abs_rel static"),
    Metric(key="abs_rel_moving", label="abs_rel moving"),
    Metric(key="snippet_ate_m", label="ATE-5", unit="m", digits=4),
    Metric(key="rotation_deg", label="rotation", unit="deg"), Metric(key="ate_m", label="ATE", unit="m"),
    Metric(key="scale_spread", label="scale spread"),
    Metric(key="epe_px", label="EPE", unit="px"), Metric(key="epe_static_px", label="EPE static", unit="px"),
    Metric(key="epe_moving_px", label="EPE moving", unit="px"),
    Metric(key="mover_iou", label="mover IoU"), Metric(key="mover_recall", label="mover recall"),
    Metric(key="false_alarms", label="false alarms"))
"""The columns, all "less is better" but IoU and recall."""
_PATH = {"snippet_ate_m": "snippet_ate_mean_m", "rotation_deg": "rpe_exact_deg", "ate_m": "ate_rmse_m",
         "scale_spread": "scale_spread"}
_DEPTH = {"abs_rel": "prediction", "abs_rel_static": "prediction, static", "abs_rel_moving": "prediction, moving"}


class ClipScores:
    """Figures of one method, or baseline, over the frames of any number of clips."""

    def __init__(self, *, crop: Crop = "none") -> None:
        self._depth = DepthScores(DepthProtocol(crop=crop))
        self._paths: list[dict[str, float | None]] = []
        self._flow = {part: FlowScores() for part in ("", "_static", "_moving")}
        self._movers = MotionScores()

    def add_depth(self, name: str, inv_depth: np.ndarray, truth: FrameTruth) -> None:
        """Score inverse depth [h, w], brought to the size of the true depth as ``egoflow predict`` does it."""
        if truth.depth is None:
            return
        with np.errstate(divide="ignore"):
            depth = 1 / resized(inv_depth, *truth.depth.shape)
        self._depth.add(name, depth, truth.depth, valid_truth=truth.valid_depth, static=truth.static)

    def add_path(self, path: Trajectory, truth: Trajectory) -> None:
        """Score the camera path of one clip, row by row."""
        if any(float(path_length(way.world_from_cam)[-1]) == 0 for way in (path, truth)):
            # What never moves has no scale: nothing can be aligned with it.
            return
        found = evaluate_odometry(path, truth, align="sim3", resamples=1).rows[0].values
        self._paths.append({key: found[theirs] for key, theirs in _PATH.items()})

    def add_flow(self, name: str, flow: np.ndarray, truth: FlowTruth, *, static: np.ndarray | None) -> None:
        """Score flow [2, H, W] in pixels of the truth's size; ``static`` bool [H, W] splits it by what moves."""
        parts = {"": truth.valid}
        if static is not None:
            parts |= {"_static": truth.valid & static, "_moving": truth.valid & ~static}
        for part, valid in parts.items():
            self._flow[part].add(name, flow, truth.flow_ab, valid_truth=valid)

    def add_movers(self, name: str, probability: np.ndarray, *, static: np.ndarray | None) -> None:
        """Score the probability [h, w] that a pixel moves by itself by the true mask ``static`` [H, W], at its size."""
        if static is not None:
            self._movers.add(name, resized(probability, *static.shape).clip(0, 1), ~static)

    def values(self) -> dict[str, float | None]:
        """Return every figure of METRICS, None where there is none."""
        depth = {row.name: row.values for row in _rows(self._depth.result)}
        values = {key: depth[row]["abs_rel"] if row in depth else None for key, row in _DEPTH.items()}
        for key in _PATH:
            known = [figure for path in self._paths if (figure := path[key]) is not None]
            values[key] = math.fsum(known) / len(known) if known else None
        for part, scores in self._flow.items():
            rows = _rows(scores.result)
            values[f"epe{part}_px"] = rows[0].values["epe_px"] if rows else None
        rows = _rows(self._movers.result)
        found: Mapping[str, float | None] = rows[0].values if rows else {}
        values |= {key: found.get(key) for key in ("mover_iou", "mover_recall", "false_alarms")}
        return {key: value if value is not None and math.isfinite(value) else None for key, value in values.items()}


def describe_clip_scores(crop: Crop) -> dict[str, str]:
    """Return the choices in words, for the table."""
    return {"abs_rel": f"median scaling of each image, crop {crop}, up to 80 m, mean over images",
            "ATE-5": f"snippets of {SNIPPET_FRAMES} frames, sqrt / N", "rotation": "mean error between neighbours",
            "ATE": "root mean square after one similarity (sim3) a clip",
            "scale spread": f"deviation / mean of the factors of {SNIPPET_FRAMES}-frame snippets",
            "paths": "mean over clips", "EPE": "px of the test images' size, mean over pixels",
            "mover": "from a probability of 0.5 on"}


def resized(value: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a map [h, w] bilinearly at another size."""
    return value if value.shape == (height, width) else cv2.resize(value, (width, height),
                                                                   interpolation=cv2.INTER_LINEAR)


def _rows(result: Callable[..., Result]) -> tuple:
    """Return the rows of a scorer's table, none where nothing could be scored."""
    try:
        return result(resamples=1).rows
    except DataError:
        return ()
