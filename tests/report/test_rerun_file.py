"""The recording for the Rerun viewer: refused where it cannot be, and what it holds where the package is."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from egoflow.cli import main
from egoflow.data.trajectories import read_trajectory
from egoflow.inference.written_depth import read_inv_depth
from egoflow.registry import load_preset
from egoflow.report import rerun_file
from egoflow.training.checkpoint import State, save

NEEDS_RERUN = "rerun-sdk is not installed (pip install 'egoflow[viewer]')"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the prediction of an untrained method on a room, with its report."""
    folder = tmp_path_factory.mktemp("recording")
    entry, run = load_preset("sfmlearner:tiny")
    save(folder / "run" / "last.safetensors", run, entry.method_type(run.config), State())
    world = "world:boxes?frames=4&height=48&width=64&speed=5&texture_ratio=1&samples=1"
    assert main(["predict", str(folder / "run"), world, "--out", str(folder / "out"), "--no-video", "--also",
                 "report"]) == 0
    return folder / "out"


def test_names_that_cannot_be_are_refused(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there.rrd").write_text("mine")
    for name, words in (("there.rrd", "exists"), ("a.mp4", "ends in .rrd")):
        assert main(["view", str(out), "--rerun", str(tmp_path / name)]) == 2
        assert words in capsys.readouterr().err
    assert (tmp_path / "there.rrd").read_text() == "mine"


def test_without_the_package_it_says_which(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    assert main(["view", str(out), "--rerun", str(tmp_path / "a.rrd")]) == 2
    assert "egoflow[viewer]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_shots_of_a_prediction_and_of_a_fit(out: Path, tmp_path: Path) -> None:
    assert list(rerun_file.reported_shots(out)) == [(out, out / "report")]
    for name in ("report/000", "report/001", "prediction/000", "prediction/001"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "index.html").write_text("")
    assert [(a.name, b.name) for a, b in rerun_file.reported_shots(tmp_path)] == [("000", "000"), ("001", "001")]
    assert list(rerun_file.reported_shots(tmp_path / "report")) == []


def test_a_recording_is_written_whole(out: Path, tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason=NEEDS_RERUN)
    file = tmp_path / "a.rrd"
    assert main(["view", str(out), "--rerun", str(file)]) == 0
    assert list(tmp_path.iterdir()) == [file]
    checked = subprocess.run([sys.executable, "-m", "rerun", "rrd", "verify", str(file)], capture_output=True,
                             check=False, env={"RERUN_ANALYTICS": "false", "HOME": str(tmp_path / "home")})
    assert checked.returncode == 0, checked.stderr


class Recorder:
    """Takes what is logged."""

    def __init__(self) -> None:
        self.frame, self.logged = -1, {}

    def set_time(self, timeline: str, *, sequence: int | None = None, duration: float | None = None) -> None:
        self.frame = self.frame if sequence is None else sequence

    def reset_time(self) -> None:
        self.frame = -1

    def log(self, entity: str, what: Any, *, static: bool = False) -> None:
        self.logged[entity, type(what).__name__, None if static else self.frame] = what


def test_depth_and_cameras_are_those_of_the_prediction(out: Path) -> None:
    pytest.importorskip("rerun", reason=NEEDS_RERUN)
    recorder = Recorder()
    shot = rerun_file.ShotRecorder(recorder, "", out, out / "report")
    shot.scene()
    for index, name in enumerate(shot.names):
        shot.frame(index, name)
    path = read_trajectory(out / "trajectory_kitti.txt", format="kitti").world_from_cam
    assert ("world/cloud", "Points3D", None) in recorder.logged
    for index, name in enumerate(shot.names):
        coded = recorder.logged["world/camera/image/depth", "EncodedDepthImage", index]
        steps = cv2.imdecode(np.asarray(coded.blob.as_arrow_array().to_pylist()[0], np.uint8), cv2.IMREAD_UNCHANGED)
        depth = steps / coded.meter.as_arrow_array().to_pylist()[0]
        assert depth == pytest.approx(1 / read_inv_depth(out, name), rel=1e-3)
        camera = recorder.logged["world/camera", "Transform3D", index]
        assert camera.translation.as_arrow_array().to_pylist()[0] == pytest.approx(path.t[index].tolist(), abs=1e-5)
        # By columns.
        turned = camera.mat3x3.as_arrow_array().to_pylist()[0]
        assert turned == pytest.approx(path.R[index].T.flatten().tolist(), abs=1e-5)
        lens = recorder.logged["world/camera/image", "Pinhole", index].image_from_camera.as_arrow_array().to_pylist()[0]
        own = shot.camera
        # Rerun's first pixel has its centre at (.5, .5).
        assert lens == pytest.approx([float(own.fx), 0, 0, 0, float(own.fy), 0, float(own.cx) + 0.5,
                                      float(own.cy) + 0.5, 1], abs=1e-4)
