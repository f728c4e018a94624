"""Every figure of data/trajectories/expected.json comes out of ``egoflow evaluate odometry``."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from egoflow.cli import main

KEYS = {"t_err_pct": "t_rel_percent", "r_err_deg_per_100m": "r_rel_deg_per_100m", "ATE_m": "ate_rmse_m",
        "ATE_mean_m": "ate_mean_m", "ATE_median_m": "ate_median_m", "ATE_max_m": "ate_max_m", "ATE_min_m": "ate_min_m",
        "RPE_m": "rpe_m", "RPE_deg": "rpe_deg", "ATE5_snippet_mean": "snippet_ate_mean_m",
        "ATE5_snippet_std": "snippet_ate_std_m"}
ALIGN = {None: "none", "6dof": "se3", "7dof": "sim3"}
IDS = ["kitti-odom-eval/example_0/09", "kitti-odom-eval/example_0/10", *(f"simple_online/{i:02d}" for i in range(11)),
       "evo/KITTI_00_ORB", "evo/KITTI_00_SPTAM", "evo/freiburg1_xyz-rgbdslam.txt", "evo/freiburg1_xyz-ORB_kf_mono.txt",
       "evo/fr2_desk_ORB.txt", "evo/fr2_desk_ORB_kf_mono.txt", "sfmlearner-pytorch-fork/09",
       "sfmlearner-pytorch-fork/10"]


def _entries(folder: Path) -> dict[str, dict]:
    return {entry["id"]: entry for entry in json.loads((folder / "expected.json").read_text())}


def test_every_entry_is_tested(shared_data: Path) -> None:
    assert sorted(_entries(shared_data / "trajectories")) == sorted(IDS)


@pytest.mark.parametrize("name", IDS)
def test_published_figures_are_reproduced(shared_data: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shared_data / "trajectories"
    entry = _entries(folder)[name]
    words = ["evaluate", "odometry", "--prediction", str(folder / entry["pred"]), "--truth", str(folder / entry["gt"]),
             "--align", ALIGN[entry["align"]], "--format", entry.get("format", "kitti"), "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    for figure, value in entry.get("published", {}).items():
        assert found[KEYS[figure]] == pytest.approx(value, rel=1e-3), figure
    for figure, value in entry.get("computed_here", {}).items():
        # These were written down with four digits or fewer: half of the last one is all that they say.
        rounding = 0.5 * 10.0 ** float(Decimal(str(value)).as_tuple().exponent)
        assert found[KEYS[figure]] == pytest.approx(value, rel=1e-3, abs=1.0001 * rounding), figure


def test_exact_rotations_would_miss_the_published_step_error(shared_data: Path) -> None:
    """The published 0.06339 degrees rests on arccos of rounded matrices: the exact angle is 0.4 % more."""
    from egoflow.data.trajectories import read_trajectory
    from egoflow.evaluation.odometry import evaluate_odometry

    folder = shared_data / "trajectories"
    prediction, truth = (read_trajectory(folder / name, format="kitti", as_written=True)
                         for name in ("kitti-odom-eval/example_0/09.txt", "kitti_gt/09.txt"))
    values = evaluate_odometry(prediction, truth, align="sim3", by="frame", resamples=1).rows[0].values
    assert values["rpe_deg"] == pytest.approx(0.0633886, rel=1e-5)
    assert values["rpe_exact_deg"] == pytest.approx(0.063645, rel=1e-3)
