"""One row of figures: the truth scores perfectly, each figure is that of its own scorer, a missing one is None."""

import numpy as np
import pytest
import torch

from egoflow.evaluation.clip_scores import METRICS, ClipScores, describe_clip_scores
from egoflow.evaluation.odometry import evaluate_odometry
from egoflow.types import FrameTruth
from egoflow.worlds.base import load_world
from evaluation.paths import noisy, random_path, straight, trajectory


def test_the_truth_scores_perfectly_and_each_part_by_itself() -> None:
    world = load_world("drive", seed=3, frames=6, height=24, width=64, movers=2, samples=1)
    truth, flow = world.truth(0), world.flow_truth(0, 1)
    static = truth.static
    assert truth.depth is not None
    assert static is not None
    assert (~static).any()
    exact = ClipScores()
    exact.add_depth("0", 1 / truth.depth, truth)
    exact.add_flow("0", flow.flow_ab, flow, static=static)
    exact.add_movers("0", (~static).astype(np.float32), static=static)
    exact.add_path(world.trajectory(), world.trajectory())
    values = exact.values()
    assert set(values) == {metric.key for metric in METRICS}
    assert values["mover_iou"] == values["mover_recall"] == 1
    assert max(abs(value) for key, value in values.items() if value is not None and "mover" not in key) < 1e-6
    # A flow that is 1 px off where things move, and a depth that is twice too far there.
    wrong = ClipScores()
    wrong.add_flow("0", flow.flow_ab + np.where(static, 0, [[[0.6]], [[0.8]]]).astype(np.float32), flow, static=static)
    wrong.add_depth("0", np.where(static, 1, 0.5) / truth.depth, truth)
    values = wrong.values()
    assert values["epe_static_px"] == 0
    assert values["epe_moving_px"] == pytest.approx(1, abs=1e-5)
    assert values["epe_px"] == pytest.approx(float((~static).mean()), abs=1e-5)
    assert values["abs_rel_static"] == pytest.approx(0, abs=1e-6)
    assert values["abs_rel_moving"] == pytest.approx(1, abs=1e-5)
    assert values["mover_iou"] is values["ate_m"] is values["scale_spread"] is None


def test_what_is_not_known_is_not_scored() -> None:
    scores, nothing = ClipScores(crop="garg"), FrameTruth()
    scores.add_depth("0", np.ones((4, 6), np.float32), nothing)
    scores.add_movers("0", np.ones((4, 6), np.float32), static=None)
    # What stands still has no scale, as prediction and as truth.
    still = trajectory(straight(torch.zeros(6, dtype=torch.float64)))
    moving = trajectory(straight(torch.arange(6, dtype=torch.float64)))
    scores.add_path(still, moving)
    scores.add_path(moving, still)
    assert set(scores.values().values()) == {None}
    assert "crop garg" in describe_clip_scores("garg")["abs_rel"]


def test_paths_are_the_mean_of_the_clips_own_figures() -> None:
    truths = [random_path(12, seed=seed) for seed in (0, 1)]
    said = [noisy(truth, seed=5, size=0.02) for truth in truths]
    scores = ClipScores()
    rows = []
    for path, truth in zip(said, truths, strict=True):
        scores.add_path(trajectory(path), trajectory(truth))
        rows.append(evaluate_odometry(trajectory(path), trajectory(truth), align="sim3", resamples=1).rows[0].values)
    values = scores.values()
    for ours, theirs in (("ate_m", "ate_rmse_m"), ("snippet_ate_m", "snippet_ate_mean_m"),
                         ("rotation_deg", "rpe_exact_deg"), ("scale_spread", "scale_spread")):
        assert values[ours] == pytest.approx(sum(row[theirs] or 0 for row in rows) / 2)

