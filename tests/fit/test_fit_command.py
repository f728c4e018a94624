"""One command from a clip to everything; killed wherever it is, it goes on and ends the same."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from egoflow.cli import main
from egoflow.data.files import only_user
from egoflow.data.formats import read_image
from egoflow.data.open import open_source
from egoflow.data.trajectories import read_trajectory
from egoflow.inference.model_card import data_hash, trained_cameras
from egoflow.training.checkpoint import load_run
from egoflow.worlds.base import load_world

FRAMES, STEPS = 20, 6
TIMES = {"training_s", "elapsed_s", "time_s", "seconds"}


def fit(clip: Path, out: Path, *more: str) -> list[str]:
    # At the preset's rate so few steps make nothing better than an untrained network, which is refused.
    return ["fit", str(clip), "--budget", str(STEPS), "--device", "cpu", "--out", str(out), *more,
            "--set", "loop.log_every=2", "optim.batch_size=2", "optim.lr=2e-3"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a rendered drive with its camera and its path."""
    out = tmp_path_factory.mktemp("clip") / "drive"
    assert main(["render", "drive", "--out", str(out), "--frames", str(FRAMES), "--size", "64x192", "--seed", "1",
                 "--samples", "1"]) == 0
    return out


@pytest.fixture(scope="module")
def whole(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a fit that nothing has stopped."""
    out = tmp_path_factory.mktemp("fit") / "run"
    assert main(fit(clip, out)) == 0
    return out


def test_a_fit_leaves_everything(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], clip: Path) -> None:
    """All in one test: spread over workers each would make the fit anew."""
    everything_is_there(whole)
    figures_say_what_the_pages_show(whole)
    killed_at_any_stage_it_ends_the_same(clip, whole, tmp_path / "killed")
    the_model_predicts_other_footage_without_being_told_a_camera(whole, tmp_path)
    scaled_it_is_in_metres_everywhere(clip, whole, tmp_path, capsys)
    other_words_are_refused(clip, whole, capsys)


def everything_is_there(whole: Path) -> None:
    prediction = whole / "prediction" / "000"
    names = [f"{k:06d}" for k in range(FRAMES)]
    for folder, ending, count in (("depth", "png", 0), ("mover", "png", 0), ("depth_confidence", "png", 0),
                                  ("flow", "png", 1), ("rigid_flow", "png", 1)):
        gap = json.loads((whole / "metrics.json").read_text())["gap"]
        found = sorted(p.stem for p in (prediction / folder).glob(f"*.{ending}"))
        # Every frame, whatever the distance of those that were trained on; the last ones lead nowhere.
        assert found == names[:FRAMES - count * gap], folder
    assert read_image(prediction / "depth_confidence" / "000003.png").shape == (64, 192, 3)
    path = read_trajectory(prediction / "trajectory_tum.txt", format="tum")
    assert len(path.time_s) == FRAMES
    for name in ("cloud.ply", "mesh.ply", "colmap/images.txt", "inv_depth.mp4", "camera.json"):
        assert (prediction / name).stat().st_size > 100, name
    for name in ("report.html", "report/000/index.html", "footage/index.html", "model.safetensors", "camera.json",
                 "trained_on.json"):
        assert (whole / name).is_file(), name


def the_model_predicts_other_footage_without_being_told_a_camera(whole: Path, tmp_path: Path) -> None:
    run, _, state = load_run(whole)
    assert run.every_frame
    assert run.data.augment.scale_crop == 0, "its own frames are predicted whole"
    assert state.step <= STEPS
    camera = load_world("drive", frames=3, height=64, width=192, seed=1).camera
    degrees = float(run.data.camera.removeprefix("long_fov="))
    assert camera.width / 2 / torch.tan(torch.deg2rad(torch.tensor(degrees / 2))) == pytest.approx(float(camera.fx),
                                                                                                  rel=1e-3)
    assert main(["predict", str(whole), "world:drive?frames=5&height=48&width=160&seed=9&samples=1", "--out",
                 str(tmp_path / "out"), "--no-video"]) == 0


def figures_say_what_the_pages_show(whole: Path) -> None:
    figures = json.loads((whole / "metrics.json").read_text())
    assert figures["steps"] == STEPS
    assert figures["unexplained"]["chosen"] < figures["unexplained"]["untrained"]
    assert figures["advice"]
    assert set(figures["shots"][0]["against_truth"]) >= {"prediction", "straight line"}
    page = (whole / "report" / "000" / "index.html").read_text()
    assert f"{figures['unexplained']['chosen']:.3f}" in page
    assert figures["advice"][0].split(":")[0] in page
    assert "report/000/index.html" in (whole / "report.html").read_text()


def contents(out: Path) -> dict[str, object]:
    """Return what lies below a folder, but for the times that it took."""
    found: dict[str, object] = {}
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        name = str(path.relative_to(out))
        if name.startswith("training/") or name == "fit.json":
            continue
        # An encoder does not promise the same bytes of the same pictures.
        data: object = len(open_source(path, camera="fov=60")) if path.suffix == ".mp4" else path.read_bytes()
        if path.suffix in (".json", ".html"):
            # The folder's own name, and how long training took.
            text = path.read_text().replace(str(out), "OUT")
            data = {k: v for k, v in json.loads(text).items() if k not in TIMES} if path.suffix == ".json" else (
                text if "trained " not in text else text.split("trained ")[0] + text.split(" on this footage alone")[1])
        found[name] = data
    return found


STAGES = {"prepared": "prepared/00/000/prepared.json", "trained a little": "training/last.safetensors",
          "predicted in part": "prediction/.000.*/depth"}
"""What a file tells is done; by hand it was also killed once examined, planned and chosen."""


def kill_at(clip: Path, out: Path, sign: str) -> None:
    """Start the fit, wait until a file is there, and kill it with the one signal that nothing survives."""
    job = subprocess.Popen([sys.executable, "-m", "egoflow", *fit(clip, out)], stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, start_new_session=True)
    end = time.monotonic() + 120
    while not any(out.glob(sign)):
        assert job.poll() is None, f"ended before {sign}"
        assert time.monotonic() < end, sign
        time.sleep(0.005)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()


def killed_at_any_stage_it_ends_the_same(clip: Path, whole: Path, out: Path) -> None:
    for sign in STAGES.values():
        kill_at(clip, out, sign)
    assert main(fit(clip, out)) == 0
    one, other = contents(whole), contents(out)
    assert set(one) == set(other)
    # The model's header names the folder that its clips lie in.
    assert [name for name in one if one[name] != other[name] and name != "model.safetensors"] == []
    ours, theirs = (load_run(folder)[1].state_dict() for folder in (whole, out))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def scaled_it_is_in_metres_everywhere(clip: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
                                      ) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    before = json.loads((out / "metrics.json").read_text())
    assert main(["scale", str(out), "--speed", "8"]) == 0
    figures = json.loads((out / "metrics.json").read_text())
    metres = figures["metric_scale"]["metres_per_unit"]
    times = read_trajectory(out / "prediction" / "000" / "trajectory_tum.txt", format="tum").time_s
    assert figures["shots"][0]["path_length"] == pytest.approx(8 * float(times[-1] - times[0]), rel=1e-3)
    assert metres == pytest.approx(figures["shots"][0]["path_length"] / before["shots"][0]["path_length"], rel=1e-3)
    prediction = out / "prediction" / "000"
    assert json.loads((prediction / "prediction.json").read_text())["scale"] == "metric"
    assert json.loads((prediction / "depth" / "depth.json").read_text())["scale"] == "metric"
    assert b"metric scale" in (prediction / "cloud.ply").read_bytes()[:400]
    assert "metres, from a mean speed of 8 m/s" in (out / "report" / "000" / "index.html").read_text()
    assert load_run(out)[0].metres_per_unit == pytest.approx(metres)
    # Measured once more it is the same, not its square.
    assert main(["scale", str(out), "--speed", "8"]) == 0
    assert load_run(out)[0].metres_per_unit == pytest.approx(metres, rel=1e-6)
    # What it was trained on is known when the frames are gone.
    cameras, run = trained_cameras(load_run(out)[0], out), load_run(out)[0]
    hashed = data_hash(run)
    assert hashed.endswith(" images)")
    assert json.loads((out / "trained_on.json").read_text())["images"] == hashed
    gone = replace(run, data=replace(run.data, paths=("gone",)))
    assert trained_cameras(gone, out) == trained_cameras(gone, out / "model.safetensors") == cameras
    # Without the file beside it the model's own stand-in camera says as much.
    assert trained_cameras(gone, tmp_path)["trained_fov_deg"] == pytest.approx(cameras["trained_fov_deg"], abs=0.1)
    # Stopped with a model in metres and predictions that are not, the same command measures in metres, not again.
    for name in ("prediction", "report"):
        shutil.rmtree(out / name)
        shutil.copytree(whole / name, out / name)
    assert main(["scale", str(out), "--speed", "8"]) == 0
    assert "was stopped before all of it was predicted" in capsys.readouterr().err
    assert load_run(out)[0].metres_per_unit == pytest.approx(metres, rel=1e-6)
    assert json.loads((prediction / "prediction.json").read_text())["scale"] == "metric"
    assert "metres, from a mean speed of 8 m/s" in (out / "report" / "000" / "index.html").read_text()
    # Stopped between the model and scale.json: that file's words are of another measurement, and are not repeated.
    scale = json.loads((out / "scale.json").read_text())
    (out / "scale.json").write_text(json.dumps(scale | {"metres_per_unit": 2 * metres}))
    assert main(fit(clip, out)) == 0
    found = json.loads((out / "metrics.json").read_text())
    assert (found["scale"], found["metric_scale"]) == ("metric", None)
    (out / "scale.json").write_text(json.dumps(scale))
    capsys.readouterr()
    assert main(["scale", str(out), "--speed", "8", "--fps", "30"]) == 2
    assert "its footage brings time stamps; leave out --fps" in capsys.readouterr().err
    assert main(["scale", str(out), "--known-distance", "3:1,2=4"]) == 2
    assert "expected FRAME:X,Y:X,Y=METRES" in capsys.readouterr().err
    assert main(["scale", str(out / "prediction"), "--speed", "8"]) == 2
    assert "expected the folder of a finished 'egoflow fit'" in capsys.readouterr().err


def other_words_are_refused(clip: Path, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(fit(clip, whole, "--seed", "3")) == 2
    assert "holds another fit: its seed is 0, not 3" in capsys.readouterr().err
    with only_user(whole / "fit.json"):
        assert main(fit(clip, whole)) == 2
    assert "another program is at work there" in capsys.readouterr().err
    assert (whole / "model.safetensors").exists()
    assert main(["fit", "nowhere.mp4", "--out", str(whole / "prediction")]) == 2
    assert "is not the folder of a fit" in capsys.readouterr().err


def test_a_method_without_flow_is_fitted_without(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
                                                 ) -> None:
    out = tmp_path / "run"
    assert main(fit(clip, out, "--recipe", "sfmlearner:tiny")) == 0
    assert "no flow: sfmlearner: this method gives no flow" in capsys.readouterr().err
    assert (out / "prediction" / "000" / "trajectory_tum.txt").exists()
    assert (out / "report.html").exists()


def test_footage_that_has_changed_is_told_before_it_is_trained_on(clip: Path, tmp_path: Path,
                                                                  capsys: pytest.CaptureFixture[str]) -> None:
    copy, out = tmp_path / "drive", tmp_path / "run"
    shutil.copytree(clip, copy)
    kill_at(copy, out, "plan.json")
    images = sorted((copy / "image").iterdir())
    shutil.copyfile(images[0], images[len(images) // 2])
    assert main(fit(copy, out)) == 2
    assert "is no longer the footage that" in capsys.readouterr().err
    assert not (out / "scores.json").exists()


def test_footage_that_cannot_teach_is_refused_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]
                                                                 ) -> None:
    world = "world:boxes?frames=14&height=64&width=96&speed=0&samples=1"
    assert main(["fit", world, "--out", str(tmp_path / "new" / "run")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "cannot teach depth: static" in error
    assert not any(tmp_path.iterdir())
    assert main(["fit", "world:drive?frames=20", "--recipe", "raft:tiny", "--out", str(tmp_path / "run")]) == 2
    assert "gives flow alone" in capsys.readouterr().err
    assert main(["fit", "world:drive?frames=20", "--out", str(tmp_path / "run"), "--set", "loop.steps=300"]) == 2
    assert "--set loop.steps=300: the length of a fit is its --budget" in capsys.readouterr().err
