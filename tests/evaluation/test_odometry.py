"""Odometry errors against closed forms, evo, and what they must not depend on."""

import math

import numpy as np
import pytest
import torch

from egoflow.errors import ConfigError, DataError
from egoflow.evaluation.alignment import fit, from_first, umeyama
from egoflow.evaluation.association import associate
from egoflow.evaluation.baselines import MEAN_MOTION, NO_ROTATION, STRAIGHT, baselines
from egoflow.evaluation.odometry import evaluate_odometry
from egoflow.evaluation.path_errors import SEGMENT_LENGTHS_M, segment_errors, step_errors, trace_angle
from egoflow.geometry.se3 import SE3, chain, rotation_exp
from evaluation.paths import noisy, random_path, straight, trajectory


def _similar(path: SE3, *, scale: float, seed: int = 5) -> SE3:
    twist = torch.randn(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return SE3.exp(twist * torch.tensor([30, 30, 30, 1, 1, 1.0], dtype=torch.float64)) @ path.scaled(scale)


def _values(prediction: SE3, truth: SE3, **options: object) -> dict[str, float | None]:
    return dict(evaluate_odometry(trajectory(prediction), trajectory(truth), resamples=1, **options).rows[0].values)


@pytest.mark.parametrize("align", ["none", "scale", "se3", "sim3"])
def test_the_truth_has_no_error(align: str) -> None:
    truth = random_path(400, seed=1)
    values = _values(truth, truth, align=align)
    for key in ("t_rel_percent", "ate_rmse_m", "rpe_m", "rpe_exact_deg", "snippet_ate_mean_m"):
        assert values[key] == pytest.approx(0, abs=1e-9), key
    # arccos next to 1 magnifies rounding to its square root.
    assert values["rpe_deg"] == pytest.approx(0, abs=1e-4)


def test_segments_of_a_straight_path_have_the_closed_form() -> None:
    """A prediction 2 % too long and turning at a constant rate, one metre a frame: a segment of L ends at L + 1."""
    frames, rate = 1001, 1e-4
    truth = straight(torch.arange(frames, dtype=torch.float64))
    longer = segment_errors(truth.scaled(1.02), truth, truth_rows=torch.arange(frames))
    assert longer.translation.numpy() == pytest.approx(0.02 * (longer.length_m.numpy() + 1) / longer.length_m.numpy())
    assert float(longer.rotation_rad.max()) < 1e-9
    starts = [len([i for i in range(0, frames, 10) if i + length + 1 < frames]) for length in SEGMENT_LENGTHS_M]
    assert [int((longer.length_m == length).sum()) for length in SEGMENT_LENGTHS_M] == starts
    yaw = torch.zeros(frames, 3, dtype=torch.float64)
    yaw[:, 1] = rate * torch.arange(frames)
    turned = segment_errors(SE3(rotation_exp(yaw), truth.t), truth, truth_rows=torch.arange(frames))
    assert turned.rotation_rad.numpy() == pytest.approx(rate * (turned.length_m.numpy() + 1) / turned.length_m.numpy())


def test_segments_without_a_prediction_at_their_ends_are_left_out() -> None:
    truth = straight(torch.arange(301, dtype=torch.float64))
    rows = torch.arange(3, 301)
    found = segment_errors(truth[rows], truth, truth_rows=rows)
    assert int(found.first.min()) == 10
    assert float(found.translation.max()) == 0


def test_a_path_under_100_m_has_no_segment_and_four_frames_no_snippet() -> None:
    truth = random_path(4, seed=2)
    values = _values(noisy(truth, seed=3), truth, align="se3")
    assert values["t_rel_percent"] is None
    assert values["r_rel_deg_per_100m"] is None
    assert values["snippet_ate_mean_m"] is None
    assert values["rpe_m"] > 0


def test_step_errors_have_the_closed_form() -> None:
    """Each predicted step is the true one times a fixed error: translation 0.3, 0.4 and a turn of 0.02 rad."""
    truth = random_path(30, seed=4)
    error = SE3.exp(torch.tensor([0, 0, 0, 0, 0.02, 0], dtype=torch.float64))
    error = SE3(error.R, torch.tensor([0.3, 0.0, 0.4], dtype=torch.float64))
    steps = truth[:-1].inverse() @ truth[1:]
    found = step_errors(chain(steps @ error), truth)
    assert found.translation.numpy() == pytest.approx(0.5)
    assert found.rotation_rad.numpy() == pytest.approx(0.02)
    assert found.rotation_exact_rad.numpy() == pytest.approx(0.02)


def test_the_trace_rule_is_clipped_where_rounding_leaves_the_rotations() -> None:
    assert float(trace_angle(1.0001 * torch.eye(3, dtype=torch.float64))) == 0
    assert float(trace_angle(-1.5 * torch.eye(3, dtype=torch.float64))) == pytest.approx(math.pi)


@pytest.mark.parametrize("align", ["se3", "sim3"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_evo_agrees(align: str, seed: int) -> None:
    pytest.importorskip("evo")
    from evo.core import metrics
    from evo.core.trajectory import PosePath3D

    def evo_path(path: SE3) -> PosePath3D:
        matrices = np.tile(np.eye(4), (len(path.t), 1, 1))
        matrices[:, :3, :3], matrices[:, :3, 3] = path.R.numpy(), path.t.numpy()
        return PosePath3D(poses_se3=list(matrices))

    truth = random_path(60, seed=seed)
    prediction = _similar(noisy(truth, seed=seed + 10, size=0.05), scale=0.4 if align == "sim3" else 1.0)
    reference, estimate = evo_path(truth), evo_path(prediction)
    estimate.align(reference, correct_scale=align == "sim3")
    values = _values(prediction, truth, align=align)
    relations = metrics.PoseRelation
    ate = metrics.APE(relations.translation_part)
    ate.process_data((reference, estimate))
    for key, name in (("ate_rmse_m", "rmse"), ("ate_mean_m", "mean"), ("ate_median_m", "median"), ("ate_max_m", "max")):
        assert values[key] == pytest.approx(ate.get_statistic(metrics.StatisticsType(name)), rel=1e-9), key
    for key, relation in (("rpe_m", relations.translation_part), ("rpe_deg", relations.rotation_angle_deg)):
        rpe = metrics.RPE(relation, delta=1, delta_unit=metrics.Unit.frames)
        rpe.process_data((reference, estimate))
        assert values[key] == pytest.approx(rpe.get_statistic(metrics.StatisticsType.mean), rel=1e-7), key


def test_sim3_does_not_see_a_similarity() -> None:
    truth = random_path(200, seed=6)
    prediction = noisy(truth, seed=7)
    plain, moved = (_values(p, truth, align="sim3") for p in (prediction, _similar(prediction, scale=7.3)))
    for key, value in plain.items():
        assert moved[key] == pytest.approx(value, rel=1e-6, abs=1e-7), key


def test_se3_sees_scale_and_none_sees_all_but_the_first_frame() -> None:
    truth = random_path(200, seed=8)
    prediction = noisy(truth, seed=9)
    assert _values(prediction.scaled(1.1), truth, align="se3")["ate_rmse_m"] > 5
    assert _values(prediction.scaled(1.1), truth, align="scale")["ate_rmse_m"] == pytest.approx(
        _values(prediction, truth, align="scale")["ate_rmse_m"], rel=1e-9)
    moved = _similar(prediction, scale=1.0)
    assert _values(moved, truth, align="none")["ate_rmse_m"] == pytest.approx(
        _values(prediction, truth, align="none")["ate_rmse_m"], rel=1e-9)
    ends = [_values(prediction, truth, align=align)["ate_rmse_m"] for align in ("none", "scale", "se3", "sim3")]
    assert ends[3] <= ends[2] <= ends[0]
    assert ends[1] <= ends[0]


def test_umeyama_recovers_a_similarity_and_never_mirrors() -> None:
    points = torch.randn(50, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    truth = SE3.exp(torch.tensor([1, 2, 3, 0.4, -2.0, 0.3], dtype=torch.float64))
    found = umeyama(points, truth.apply(2.5 * points), with_scale=True)
    assert found.scale == pytest.approx(2.5)
    assert found.truth_from_prediction.R.numpy() == pytest.approx(truth.R.numpy())
    assert found.truth_from_prediction.t.numpy() == pytest.approx(truth.t.numpy())
    mirrored = umeyama(points, points * torch.tensor([1, 1, -1.0], dtype=torch.float64), with_scale=True)
    assert float(torch.linalg.det(mirrored.truth_from_prediction.R)) == pytest.approx(1)


def test_a_straight_prediction_is_aligned_as_well_as_any_rotation_can() -> None:
    """Its covariance has rank one: the fit must still be the best of all similarities."""
    truth, line = random_path(40, seed=10, turn=0.2), straight(torch.arange(40, dtype=torch.float64))
    best = _values(line, truth, align="sim3")["ate_rmse_m"]
    target = truth.t - truth.t.mean(0)
    source = line.t - line.t.mean(0)
    turns = rotation_exp(3 * torch.randn(4000, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64))
    turned = source @ turns.mT
    scale = (turned * target).sum((1, 2)).clamp(min=0) / source.square().sum()
    rmse = (scale[:, None, None] * turned - target).square().sum(2).mean(1).sqrt()
    assert best <= float(rmse.min()) + 1e-9
    assert best == pytest.approx(float(rmse.min()), rel=0.05)


def test_a_backwards_prediction_is_not_mirrored_by_the_scale() -> None:
    truth = straight(torch.arange(20, dtype=torch.float64))
    backwards = truth.scaled(-1.0)
    assert fit(backwards, truth, align="scale").scale == 0
    values = _values(backwards, truth, align="scale")
    assert values["snippet_backwards_share"] == 1
    assert values["ate_rmse_m"] == pytest.approx(math.sqrt(sum(i * i for i in range(20)) / 20))


def test_rows_stamps_and_numbers_are_matched() -> None:
    long, short = (trajectory(random_path(n, seed=1)) for n in (12, 9))
    assert "the first 9 (the truth has 3 rows more" in associate(short, long, by="row").rule
    assert "the prediction has 3 rows more" in associate(long, short, by="row").rule
    assert associate(short, short, by="row").rule == "row"
    numbered = trajectory(random_path(9, seed=1), torch.arange(2, 11, dtype=torch.float64))
    assert associate(numbered, long, by="frame").truth_rows.tolist() == list(range(2, 11))


@pytest.mark.parametrize("seed", range(5))
def test_nearest_times_agree_with_brute_force(seed: int) -> None:
    generator = np.random.default_rng(seed)
    a, b = (np.sort(1.3e9 + generator.uniform(0, 3, n)) for n in (80, 200))
    gap = np.abs(a[:, None] - b[None])
    expected = [(i, gap[i].argmin()) for i in range(80)
                if gap[i].min() <= 0.01 and gap[:, gap[i].argmin()].argmin() == i]
    paths = (trajectory(random_path(len(t), seed=1), torch.from_numpy(t)) for t in (a, b))
    found = associate(*paths, by="time", tolerance_s=0.01)
    assert list(zip(found.prediction_rows.tolist(), found.truth_rows.tolist(), strict=True)) == expected
    assert len(expected) > 20


def test_a_truth_frame_serves_one_prediction_only() -> None:
    truth = trajectory(random_path(3, seed=1), torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64))
    stamps = torch.tensor([0.0, 0.995, 1.001, 2.005], dtype=torch.float64)
    found = associate(trajectory(random_path(4, seed=1), stamps), truth, by="time", tolerance_s=0.01)
    assert found.prediction_rows.tolist() == [0, 2, 3]


def test_baselines_say_what_they_know() -> None:
    truth = random_path(50, seed=11, turn=0.1)
    made = baselines(trajectory(_similar(truth, scale=1.0)))
    assert set(made) == {STRAIGHT, MEAN_MOTION, NO_ROTATION}
    assert made[STRAIGHT].world_from_cam.t[:, 2].tolist() == list(range(50))
    steps = truth[:-1].inverse() @ truth[1:]
    mean = made[MEAN_MOTION].world_from_cam
    assert (mean[:-1].inverse() @ mean[1:]).log().numpy() == pytest.approx(
        steps.log().mean(0).expand(49, 6).numpy(), abs=1e-9)
    speed = made[NO_ROTATION].world_from_cam.t.diff(dim=0).norm(dim=-1)
    assert speed.numpy() == pytest.approx(steps.t.norm(dim=-1).numpy())


def test_a_mean_motion_that_stands_still_leaves_its_row_empty() -> None:
    there = torch.arange(11, dtype=torch.float64)
    truth = straight(torch.cat((there, there.flip(0)[1:])))
    result = evaluate_odometry(trajectory(truth), trajectory(truth), align="sim3", resamples=1)
    assert {row.name: dict(row.values) for row in result.rows}[MEAN_MOTION] == {}


def test_a_still_truth_can_be_scored_unaligned_only() -> None:
    still, moving = straight(torch.zeros(8, dtype=torch.float64)), random_path(8, seed=1)
    assert _values(moving, still, align="none")["ate_rmse_m"] > 0
    with pytest.raises(DataError, match="true positions are equal"):
        evaluate_odometry(trajectory(moving), trajectory(still), align="sim3")


def test_bad_paths_are_refused_in_one_line() -> None:
    truth = random_path(10, seed=1)
    broken = SE3(truth.R, truth.t.clone())
    broken.t[3, 1] = float("nan")
    cases = [(trajectory(broken), {}, "the prediction holds NaN or infinity at frame 3"),
             (trajectory(truth.to(torch.float32)), {}, "need float64"),
             (trajectory(truth[:1]), {}, "needs at least 2 frames"),
             (trajectory(straight(torch.zeros(10, dtype=torch.float64))), {}, "predicted positions are equal"),
             (trajectory(truth, torch.arange(10, dtype=torch.float64) + 500), {"by": "time"}, "same sequence"),
             (trajectory(truth, torch.zeros(3, dtype=torch.float64)), {}, "10 frames and 3 stamps")]
    for prediction, options, message in cases:
        with pytest.raises(DataError, match=message) as caught:
            evaluate_odometry(prediction, trajectory(truth), **options)
        assert "\n" not in str(caught.value)
    for options in ({"align": "sim4"}, {"by": "name"}):
        with pytest.raises(ConfigError, match="unknown"):
            evaluate_odometry(trajectory(truth), trajectory(truth), **options)


def test_from_first_is_exact_at_the_first_frame() -> None:
    path = _similar(random_path(5, seed=1), scale=1.0)
    seen = from_first(SE3(path.R * 1.0000003, path.t))
    assert seen.R[0].numpy() == pytest.approx(np.eye(3), abs=1e-15)
    assert seen.t[0].tolist() == [0, 0, 0]


def test_directions_by_hand() -> None:
    """Steps forward; the prediction is right, 90 degrees off, backwards, and one true step stands still."""
    zero, eye = torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)

    def path(steps: list[tuple[float, float, float]]) -> SE3:
        t = torch.stack([zero, *torch.tensor(steps, dtype=torch.float64).cumsum(0)])
        return SE3(eye.expand(len(t), 3, 3), t)

    truth = path([(0, 0, 1), (0, 0, 1), (0, 0, 1), (0, 0, 0)])
    errors = step_errors(path([(0, 0, 2), (1, 0, 0), (0, 0, -1), (5, 0, 0)]), truth)
    assert torch.rad2deg(errors.direction_rad).tolist() == pytest.approx([0, 90, 180])


def test_backward_steps_are_counted_in_the_table() -> None:
    along = torch.zeros(6, 3, dtype=torch.float64)
    along[:, 2] = torch.arange(6)
    forward = SE3(torch.eye(3, dtype=torch.float64).expand(6, 3, 3), along)
    mirrored = trajectory(SE3(forward.R, -forward.t))
    result = evaluate_odometry(mirrored, trajectory(forward), align="none")
    assert result.rows[0].values["backward_steps"] == 5
    assert result.rows[0].values["direction_deg"] == pytest.approx(180)
