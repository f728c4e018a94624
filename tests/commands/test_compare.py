"""``egoflow compare`` end to end on tiny worlds: the table, going on where it was stopped, and every user's mistake."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from egoflow.cli import main
from egoflow.commands import compare
from egoflow.training.checkpoint import read

WORLD = "drive?frames=5&scenes=1&height=24&width=64&samples=1&movers=2"
SMALL = ("optim.batch_size=2", "data.height=24", "data.width=64", "loop.device=cpu", "start=none")
ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


def words(out: Path, *more: str, methods: str = "sfmlearner,dfnet", budget: str = "3") -> list[str]:
    """Return the words of a comparison."""
    given = {"--world": [WORLD]} if "--data" not in more else {}
    return ["compare", "--methods", methods, *[w for k, v in given.items() for w in (k, *v)], "--budget", budget,
            "--out", str(out), *more, "--set", *SMALL]


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> Path:
    """Return a finished comparison of two methods, also on the frames trained on."""
    out = tmp_path_factory.mktemp("compare") / "compared"
    with pytest.MonkeyPatch.context() as patch:
        # Rendering is most of the time.
        patch.setattr(compare, "UNSEEN_SCENES", 1)
        assert main(words(out, "--also-training")) == 0
    return out


def table(out: Path, name: str = "unseen") -> dict[str, dict]:
    """Return the rows of a table by name."""
    tests = {test["name"]: test for test in json.loads((out / "table.json").read_text())["tests"]}
    return {row["name"]: row for row in tests[name]["rows"]}


def refused(capsys, *argv: str) -> str:
    """Return the one line that a mistake is told in."""
    capsys.readouterr()
    assert main(list(argv)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_the_table_has_every_quantity_and_baseline(compared: Path) -> None:
    rows = table(compared)
    # In so small pictures two views tell no direction: the chain stands still and is no row.
    assert list(rows) == ["sfmlearner:tiny", "dfnet:tiny", "constant depth", "straight line", "zero flow", "DIS flow",
                          "everything moves"]
    depth, motion = {"abs_rel", "abs_rel_static", "abs_rel_moving"}, {"snippet_ate_m", "rotation_deg", "ate_m",
                                                                     "scale_spread"}
    flow, movers = {"epe_px", "epe_static_px", "epe_moving_px"}, {"mover_iou", "mover_recall", "false_alarms"}
    assert depth | motion >= set(rows["sfmlearner:tiny"]["values"]) >= depth | motion - {"scale_spread"}
    assert set(rows["dfnet:tiny"]["values"]) >= depth | flow | movers | motion - {"scale_spread"}
    assert set(rows["constant depth"]["values"]) == depth
    assert set(rows["DIS flow"]["values"]) == set(rows["zero flow"]["values"]) == flow
    assert rows["everything moves"]["values"]["mover_recall"]["mean"] == 1
    assert set(table(compared, "training")["dfnet:tiny"]["values"]) >= depth | flow
    training = rows["dfnet:tiny"]["trainings"][0]
    assert (training["steps"], training["planned"], training["status"]) == (3, 3, "trained")
    assert read(compared / "dfnet-tiny" / "seed0" / "last.safetensors")[1].step == 3
    markdown = (compared / "table.md").read_text()
    assert "## unseen" in markdown
    assert "| dfnet:tiny | 3 | 100 |" in markdown


def test_the_page_shows_pictures_that_exist(compared: Path) -> None:
    page = (compared / "index.html").read_text()
    pictures = re.findall(r"src='([^']+)'", page)
    assert len(pictures) == len(set(pictures))
    assert all((compared / picture).is_file() for picture in pictures)
    # Three frames of two tests: image and three truths, depth of both methods, flow and movers of one.
    assert len(pictures) == 3 * 2 * (4 + 2 + 2)
    assert page.count("class='figures'") == 2


def test_the_figures_are_those_of_predict_and_evaluate(compared: Path, tmp_path: Path, capsys) -> None:
    run, rows = compared / "dfnet-tiny" / "seed0", table(compared, "training")
    clip, out = str(compared / "data" / "training"), str(tmp_path / "out")
    assert main(["predict", str(run), clip, "--out", out, "--depth-format", "npz", "--no-video"]) == 0
    found = {}
    for kind, more in (("depth", ["--crop", "none", "--static", f"{clip}/static"]), ("odometry", [])):
        capsys.readouterr()
        assert main(["evaluate", kind, "--prediction", out, "--truth", clip, *more, "--json"]) == 0
        found[kind] = json.loads(capsys.readouterr().out)
    values = {key: value["mean"] for key, value in rows["dfnet:tiny"]["values"].items()}
    # Rendered depth is kept in 1/256 m, and a float32 map is written and read between.
    assert values["abs_rel"] == pytest.approx(found["depth"]["abs_rel"], rel=1e-6)
    assert rows["constant depth"]["values"]["abs_rel"]["mean"] == pytest.approx(
        found["depth"]["baselines"]["constant depth"]["abs_rel"], rel=1e-6)
    assert rows["constant depth"]["values"]["abs_rel_moving"]["mean"] == pytest.approx(
        found["depth"]["baselines"]["constant depth, moving"]["abs_rel"], rel=1e-6)
    for ours, theirs in (("ate_m", "ate_rmse_m"), ("snippet_ate_m", "snippet_ate_mean_m")):
        assert values[ours] == pytest.approx(found["odometry"][theirs], rel=1e-4)
        assert rows["straight line"]["values"][ours]["mean"] == pytest.approx(
            found["odometry"]["baselines"]["straight line"][theirs], rel=1e-4)


def test_what_is_done_is_not_done_again(compared: Path, capsys) -> None:
    before = {path: path.stat().st_mtime_ns for path in compared.rglob("*.safetensors")}
    (compared / "sfmlearner-tiny" / "seed0" / "scores.json").unlink()
    content = (compared / "table.json").read_text()
    capsys.readouterr()
    assert main(words(compared, "--also-training")) == 0
    said = capsys.readouterr()
    assert "training:" not in said.err
    assert {path: path.stat().st_mtime_ns for path in compared.rglob("*.safetensors")} == before
    assert (compared / "table.json").read_text() == content
    assert "dfnet:tiny" in said.out


def test_a_killed_comparison_goes_on(compared: Path, tmp_path: Path) -> None:
    out, data = tmp_path / "out", compared / "data"
    argv = [sys.executable, "-m", "egoflow", *words(out, "--data", str(data / "training"), "--test",
                                                    str(data / "unseen"), methods="sfmlearner", budget="30")]
    process = subprocess.Popen(argv, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    saved = out / "sfmlearner-tiny" / "seed0" / "last.safetensors"
    deadline = time.monotonic() + 300
    while not saved.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    begun = read(saved)[1].step
    assert 0 < begun < 30
    done = subprocess.run(argv, env=ENV, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert f"goes on from step {begun}" in done.stderr
    assert read(saved)[1].step == 30
    assert "sfmlearner:tiny" in done.stdout


def test_a_failed_training_is_a_row_and_the_others_go_on(compared: Path, tmp_path: Path, capsys) -> None:
    data = compared / "data"
    argv = words(tmp_path / "out", "--data", str(data / "training"), "--test", f"later={data / 'unseen'}@1:",
                 "--crop", "none", "--seeds", "2")
    # A rate that sends the weights beyond float32 within two steps.
    assert main([*argv, "sfmlearner.optim.lr=1e30", "sfmlearner.optim.clip_norm=null"]) == 1
    said = capsys.readouterr().out
    rows = table(tmp_path / "out", "later")
    assert rows["sfmlearner:tiny"]["trainings"][1]["status"] == "failed"
    assert rows["sfmlearner:tiny"]["values"] == {}
    assert "sfmlearner:tiny, seed 0 failed: " in said
    assert "sfmlearner:tiny, seed 0 failed: " in (tmp_path / "out" / "index.html").read_text()
    found = rows["dfnet:tiny"]["values"]["abs_rel"]
    assert found["low"] < found["mean"] < found["high"]
    assert found["mean"] == pytest.approx((found["low"] + found["high"]) / 2)
    assert f"±{(found['high'] - found['low']) / 2:.3f}" in said


def test_another_comparison_is_refused(compared: Path, tmp_path: Path, capsys) -> None:
    assert "its budget is 3 steps, not 4 steps" in refused(capsys, *words(compared, budget="4"))
    assert "its settings is" in refused(capsys, *words(compared), "optim.lr=1e-3")
    (tmp_path / "file").touch()
    assert "is not the folder of a comparison" in refused(capsys, *words(tmp_path))
    changed = json.loads((compared / "sfmlearner-tiny" / "seed0" / "run.json").read_text())
    text = json.dumps(changed)
    changed["optim"]["lr"] = 0.5
    (compared / "sfmlearner-tiny" / "seed0" / "run.json").write_text(json.dumps(changed))
    try:
        assert "was trained with another optim.lr" in refused(capsys, *words(compared))
    finally:
        (compared / "sfmlearner-tiny" / "seed0" / "run.json").write_text(text)


def test_tests_on_trained_frames_must_be_asked_for(compared: Path, tmp_path: Path, capsys) -> None:
    clip = str(compared / "data" / "training")
    shared = words(tmp_path / "out", "--data", clip, "--frames", "0:4", "--test", f"later={clip}@3:")
    assert f"--test later: {clip} holds frames that are trained on" in refused(capsys, *shared)
    assert "nothing to test on" in refused(capsys, *words(tmp_path / "other", "--data", clip))


@pytest.mark.parametrize(("change", "told"), [
    (["--methods", "sfmlearner,dfnett"], "unknown method 'dfnett'; perhaps you meant dfnet"),
    (["--methods", "dfnet:tinny"], "perhaps you meant tiny"), (["--methods", "dfnet,dfnet:tiny"], "dfnet:tiny twice"),
    (["--methods", ","], "--methods names none"), (["--budget", "8 minutes"], "--budget 8 minutes: expected a time"),
    (["--budget", "0"], "expected a time"), (["--budget", "1.5"], "expected a time"),
    (["--seeds", "0"], "--seeds must be 1 or more"),
    (["--world", "drif"], "unknown world 'drif'"), (["--world", "drive?mover=3"], "unknown option 'mover'"),
    (["--world", "drive?frames"], "expected NAME?option=value"), (["--world", "drive?scenes=x"], "scenes must be"),
    (["--frames", "0:3"], "--frames and --camera are of --data"), (["--set", "dfnet.optim.lr=x"], "optim.lr=x"),
    (["--set", "dfnet.data.gap=2"], "see frames 1 and 2 apart"),
    (["--set", "optim.lrr=1"], "perhaps you meant lr"), (["--test", "nowhere"], "nowhere: no such file")])
def test_mistakes_are_one_line(change: list[str], told: str, tmp_path: Path, capsys, compared: Path) -> None:
    out = compared if change[0] == "--test" else tmp_path / "out"
    argv = words(out)
    if change[0] in argv and change[0] != "--set":
        argv[argv.index(change[0]) + 1] = change[1]
    else:
        argv = [*argv[:-len(SMALL) - 1], *change, *(argv[-len(SMALL) - 1:] if change[0] != "--set" else ())]
    assert told in refused(capsys, *argv)
    assert out == compared or not out.exists()
