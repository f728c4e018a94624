"""``egoflow evaluate`` end to end: on files, on folders, and on every mistake in one line."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from egoflow.cli import main
from egoflow.data.formats import write_depth_npz, write_depth_png, write_mask
from egoflow.data.trajectories import write_trajectory
from evaluation.paths import noisy, random_path, straight, trajectory

ODOMETRY_KEYS = {"t_rel_percent", "r_rel_deg_per_100m", "ate_rmse_m", "rpe_m", "rpe_deg", "snippet_ate_mean_m",
                 "snippet_ate_std_m", "frames"}
DEPTH_KEYS = {"abs_rel", "sq_rel", "rmse", "rmse_log", "a1", "a2", "a3", "images"}


@pytest.fixture
def paths(tmp_path: Path) -> Path:
    truth = random_path(150, seed=1)
    for name, path in (("truth", truth), ("guess", noisy(truth, seed=2))):
        for kind in ("kitti", "tum"):
            write_trajectory(tmp_path / f"{name}_{kind}.txt", trajectory(path), format=kind)
    return tmp_path


@pytest.fixture
def depths(tmp_path: Path) -> Path:
    for i in range(3):
        truth = np.random.default_rng(i).uniform(2, 60, (20, 30)).astype(np.float32)
        write_depth_png(tmp_path / "truth" / f"{i:06d}.png", truth)
        write_depth_npz(tmp_path / "npz" / f"{i:06d}.npz", 1.2 * truth)
        write_depth_png(tmp_path / "run" / "depth" / f"{i:06d}.png", 0.012 * truth, units_per_metre=50_000)
        write_mask(tmp_path / "static" / f"{i:06d}.png", truth > 10)
    (tmp_path / "run" / "depth" / "depth.json").write_text('{"png_units_per_depth_unit": 50000, "scale": "relative"}')
    return tmp_path


def _json(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    assert main(["evaluate", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def _refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["evaluate", *map(str, words)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_both_formats_give_the_same_figures(paths: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kitti, tum = (_json(capsys, "odometry", "--prediction", paths / f"guess_{f}.txt", "--truth",
                        paths / f"truth_{f}.txt", "--align", "se3") for f in ("kitti", "tum"))
    assert set(kitti) >= ODOMETRY_KEYS
    assert kitti["frames"] == 150
    for key in ODOMETRY_KEYS:
        assert tum[key] == pytest.approx(kitti[key], rel=1e-5), key
    assert kitti["protocol"]["align"] == "se3"
    assert set(kitti["baselines"]) == {"straight line", "mean true motion", "true speed, no rotation"}
    low, high = kitti["intervals"]["t_rel_percent"]
    assert low <= kitti["t_rel_percent"] <= high


def test_a_predict_folder_and_a_baseline_are_found(paths: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = paths / "run"
    guess = noisy(random_path(150, seed=1), seed=3)
    for kind in ("kitti", "tum"):
        write_trajectory(run / f"trajectory_{kind}.txt", trajectory(guess), format=kind)
    write_trajectory(run / "two_view_tum.txt", trajectory(guess.scaled(2.0)), format="tum")
    assert "holds no truth" in _refused(capsys, "odometry", "--prediction", run, "--truth", run)
    write_trajectory(run / "truth_tum.txt", trajectory(random_path(150, seed=1)), format="tum")
    (paths / "other.txt.gz").write_bytes(gzip.compress((paths / "guess_tum.txt").read_bytes()))
    found = _json(capsys, "odometry", "--prediction", run, "--truth", paths / "truth_tum.txt", "--baseline",
                  paths / "other.txt.gz")
    assert found["baselines"]["two-view chain"]["ate_rmse_m"] == pytest.approx(found["ate_rmse_m"])
    assert found["baselines"]["other.txt"]["ate_rmse_m"] > 0
    assert "time" in found["protocol"]["association"]
    beside = _json(capsys, "odometry", "--prediction", run, "--truth", run)
    assert beside["ate_rmse_m"] == pytest.approx(found["ate_rmse_m"])
    assert beside["ate_rmse_m"] > 0.01


def _predicted(run: Path, rows: list[int], names: list[str]) -> None:
    """Write a prediction of some rows of the true path: its only error is the frame that it is taken for."""
    path = trajectory(random_path(150, seed=1)[rows])
    for name in ("trajectory_kitti.txt", "two_view_kitti.txt"):
        write_trajectory(run / name, path, format="kitti")
    (run / "prediction.json").write_text(json.dumps({"names": names}))


def test_frames_that_a_prediction_left_out_are_not_taken_for_others(paths: Path,
                                                                    capsys: pytest.CaptureFixture[str]) -> None:
    run, rows = paths / "run", [i for i in range(150) if i not in (7, 8, 60)]
    words = ["odometry", "--prediction", run, "--truth", paths / "truth_kitti.txt"]
    _predicted(run, rows, [f"rgb_{i:06d}" for i in rows])
    found = _json(capsys, *words)
    assert found["ate_rmse_m"] == pytest.approx(0, abs=1e-6)
    assert found["baselines"]["two-view chain"]["ate_rmse_m"] == pytest.approx(0, abs=1e-6)
    assert "frame number, 147 of 147" in found["protocol"]["association"]
    # The file itself says nothing of frames: its rows are paired from the first on, as anyone's.
    assert _json(capsys, "odometry", "--prediction", run / "trajectory_kitti.txt", *words[3:])["ate_rmse_m"] > 0.01


def test_frames_that_rows_cannot_say_are_refused(paths: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, truth = paths / "run", paths / "truth_kitti.txt"
    words = ["odometry", "--prediction", run, "--truth", truth]
    rows = list(range(50, 100))
    _predicted(run, rows, [f"{i:06d}" for i in rows])
    assert "frames, 50 to 99" in _refused(capsys, *words)
    truth.write_text("".join(f"{i} {line}\n" for i, line in enumerate(truth.read_text().splitlines(), 1) if i > 1))
    shifted = _json(capsys, *words)
    assert shifted["frames"] == 50
    _predicted(run, rows, [f"{i + 1:06d}" for i in rows])
    assert _json(capsys, *words)["ate_rmse_m"] == pytest.approx(0, abs=1e-6)
    assert shifted["ate_rmse_m"] > 0.01


def test_rows_are_paired_where_truth_has_as_many_or_images_have_no_numbers(paths: Path, capsys: pytest.CaptureFixture[
        str]) -> None:
    run = paths / "run"
    words = ["odometry", "--prediction", run, "--truth", paths / "truth_kitti.txt"]
    for names, count in (([f"{i + 24:010d}" for i in range(150)], 150), (["a", "b", "c"] * 30, 90)):
        _predicted(run, list(range(count)), names)
        found = _json(capsys, *words)
        assert found["frames"] == count
        assert found["ate_rmse_m"] == pytest.approx(0, abs=1e-6)


def test_a_short_path_has_null_where_nothing_is_defined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trajectory(tmp_path / "t.txt", trajectory(random_path(4, seed=1)), format="kitti")
    found = _json(capsys, "odometry", "--prediction", tmp_path / "t.txt", "--truth", tmp_path / "t.txt")
    assert found["t_rel_percent"] is None
    assert found["snippet_ate_mean_m"] is None
    assert found["frames"] == 4


def test_the_table_names_protocol_baselines_and_intervals(paths: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "odometry", "--prediction", str(paths / "guess_kitti.txt"), "--truth",
             str(paths / "truth_kitti.txt"), "--align", "scale"]
    assert main(words) == 0
    text = capsys.readouterr().out
    for word in ("align: scale", "frame number, 150 of 150", "frames: 150", "95 % interval", "straight line",
                 "deg/100 m"):
        assert word in text
    assert main([*words, "--markdown"]) == 0
    assert "| prediction |" in capsys.readouterr().out


def test_odometry_mistakes_are_one_line(paths: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = ["--truth", paths / "truth_kitti.txt"]
    (paths / "nan.txt").write_text("1 0 0 nan 0 1 0 0 0 0 1 0\n" * 3)
    (paths / "empty.txt").write_text("# nothing\n")
    (paths / "csv.txt").write_text("1 2 3\n")
    (paths / "one.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n")
    write_trajectory(paths / "still.txt", trajectory(straight(torch.zeros(9, dtype=torch.float64))), format="kitti")
    late = trajectory(random_path(9, seed=1), 1e6 + torch.arange(9, dtype=torch.float64))
    write_trajectory(paths / "late.txt", late, format="tum")
    for name, message in (("none.txt", "no such file"), ("nan.txt", "NaN"), ("empty.txt", "holds no rows"),
                          ("csv.txt", "3 columns"), ("one.txt", "at least 2 frames"),
                          ("still.txt", "positions are equal"), ("guess_tum.txt", "give both in one format"),
                          (".", "folder with trajectory_kitti.txt")):
        assert message in _refused(capsys, "odometry", "--prediction", paths / name, *truth), name
    assert "same sequence" in _refused(capsys, "odometry", "--prediction", paths / "late.txt", "--truth",
                                       paths / "truth_tum.txt")
    good = ["odometry", "--prediction", paths / "guess_kitti.txt", *truth]
    for words, message in ((["--align", "sim4"], "sim3"), (["--format", "csv"], "tum"),
                           (["--tolerance", "nan"], "0 or more"), (["--tolerance", "-1"], "0 or more"),
                           (["--seed", "-1"], "0 or more"),
                           (["--baseline", paths / "none.txt"], "no such file")):
        assert message in _refused(capsys, *good, *words), words


def test_depth_in_metres_and_in_relative_units(depths: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["depth", "--truth", depths / "truth", "--crop", "none", "--cap", "80"]
    metres = _json(capsys, *words, "--prediction", depths / "npz", "--scale", "none")
    assert set(metres) >= DEPTH_KEYS
    assert metres["images"] == 3
    assert metres["abs_rel"] == pytest.approx(0.2, abs=1e-3)
    assert metres["a1"] == 1
    relative = _json(capsys, *words, "--prediction", depths / "run", "--scale", "median")
    assert relative["abs_rel"] == pytest.approx(0, abs=1e-3)
    assert relative["scale_factor_median"] == pytest.approx(1 / 0.012, rel=1e-3)
    assert relative["protocol"]["predicted unit"] == "relative"
    assert relative["baselines"]["constant depth"]["abs_rel"] > 0.3


def test_names_decide_what_is_compared(depths: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (depths / "npz" / "000001.npz").rename(depths / "npz" / "000007.npz")
    found = _json(capsys, "depth", "--prediction", depths / "npz", "--truth", depths / "truth", "--crop", "none",
                  "--scale", "none")
    assert found["images"] == 2
    assert set(found["per_image"]) == {"000000", "000002"}
    assert found["protocol"]["files"] == "by name, 2 of 3 predictions and of 3 truths"


def test_parts_are_scored_when_asked(depths: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "depth", "--prediction", str(depths / "npz"), "--truth", str(depths / "truth"), "--crop",
                 "none", "--scale", "none", "--ranges", "0,20,80", "--static", str(depths / "static")]) == 0
    text = capsys.readouterr().out
    for row in ("prediction, 0-20 m", "prediction, moving", "constant depth (uses truth), 20-80 m", "crop: none",
                "images: 3"):
        assert row in text


def test_depth_mistakes_are_one_line(depths: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = ["--truth", depths / "truth"]
    for i in range(2):
        write_depth_npz(depths / "renamed" / f"frame{i}.npz", np.ones((4, 4)))
        write_depth_npz(depths / "double" / f"{i:06d}.npz", np.ones((4, 4)))
    write_depth_png(depths / "double" / "000000.png", np.ones((4, 4)))
    (depths / "text").mkdir()
    (depths / "text" / "000000.png").write_text("no image")
    (depths / "void").mkdir()
    for name, message in (("renamed", "holds 2 depth maps (such as frame0.npz)"), ("double", "has the same name"),
                          ("text", "expected a PNG"), ("void", "holds no depth map"), ("none", "there is none"),
                          ("renamed/frame0.npz", "expected a folder")):
        assert message in _refused(capsys, "depth", "--prediction", depths / name, *truth), name
    good = ["depth", "--prediction", depths / "npz", *truth]
    for words, message in ((["--crop", "grag"], "garg"), (["--scale", "mean"], "median"),
                           (["--cap", "0"], "papers use"), (["--cap", "0.5"], "none has true depth"),
                           (["--ranges", "a,b"], "0,10,20"),
                           (["--ranges", "5"], "two increasing"), (["--block", "0"], "at least 1"),
                           (["--static", depths / "void"], "mask images")):
        assert message in _refused(capsys, *good, *words), words


@pytest.mark.parametrize("content", ["", "{", "[]", '{"png_units_per_depth_unit": 0}',
                                     '{"png_units_per_depth_unit": "9"}', '{"png_units_per_depth_unit": NaN}',
                                     '{"png_units_per_depth_unit": true}',
                                     '{"png_units_per_depth_unit": 9, "scale": "feet"}', "[" * 100_000])
def test_a_broken_side_file_is_named(depths: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    (depths / "run" / "depth" / "depth.json").write_text(content)
    assert "depth.json" in _refused(capsys, "depth", "--prediction", depths / "run", "--truth", depths / "truth")


def test_the_two_evaluations_have_help(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["evaluate", "--help"], ["evaluate", "odometry", "--help"], ["evaluate", "depth", "--help"]):
        assert main(words) == 0
        assert "usage: egoflow evaluate" in capsys.readouterr().out
    assert "odometry" in _refused(capsys)
