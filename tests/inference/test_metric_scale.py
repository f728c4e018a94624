"""The factor between a prediction's unit and the metre is found from each kind of knowledge, by rendered truth."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from egoflow.data.trajectories import read_trajectory, write_trajectory
from egoflow.errors import DataError
from egoflow.geometry.se3 import SE3
from egoflow.inference.metric_scale import (
    KnownDistance,
    from_camera_height,
    from_distances,
    from_gps,
    from_speed,
)
from egoflow.inference.stream import in_metres, predict_stream
from egoflow.inference.writer import PredictionWriter
from egoflow.types import FrameSource, Trajectory
from egoflow.worlds.base import load_world
from inference.stubs import Oracle, run_of

UNIT_M = 7.3
"""Metres that one unit of the prediction stands for."""
FRAMES, EYE_M = 24, 1.65
"""Height of the world's camera above the road (worlds/drive.py)."""


@pytest.fixture(scope="module")
def drive() -> FrameSource:
    return load_world("drive", seed=3, frames=FRAMES, height=64, width=192, samples=1, shadows=False)


@pytest.fixture(scope="module")
def prediction(drive: FrameSource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a prediction that is true but for its unit."""
    folder = tmp_path_factory.mktemp("scale")
    with PredictionWriter(folder, source=drive, run=run_of(drive), video=False, two_view=False, depth_format="npz"
                          ) as writer:
        for frame in predict_stream(Oracle(drive), run_of(drive), drive):
            writer.add(in_metres(frame, 1 / UNIT_M))
        writer.finish()
    return folder


def true_path(drive: FrameSource) -> SE3:
    return SE3.stack([drive.truth(i).world_from_cam for i in range(FRAMES)])


def test_speed(drive: FrameSource, prediction: Path) -> None:
    places = true_path(drive).t
    length = float((places[1:] - places[:-1]).norm(dim=1).sum())
    speed = length / float(drive.time_s[-1] - drive.time_s[0])
    found = from_speed(prediction, speed)
    assert found.metres_per_unit == pytest.approx(UNIT_M, rel=1e-5)
    assert found.low <= found.metres_per_unit * 1.001
    assert found.high >= found.metres_per_unit * 0.999
    assert found.samples == FRAMES - 1


def test_a_speed_needs_to_know_the_time(drive: FrameSource, prediction: Path, tmp_path: Path) -> None:
    shutil.copytree(prediction, tmp_path, dirs_exist_ok=True)
    about = json.loads((tmp_path / "prediction.json").read_text())
    assert about["assumed_fps"] is None
    (tmp_path / "prediction.json").write_text(json.dumps(about | {"assumed_fps": 10.0}))
    with pytest.raises(DataError, match="brings no time stamps.*--fps 30"):
        from_speed(tmp_path, 3.0)
    known = from_speed(prediction, 3.0).metres_per_unit
    assert from_speed(tmp_path, 3.0, fps=30.0).metres_per_unit == pytest.approx(known / 3)
    with pytest.raises(DataError, match="brings time stamps; leave out --fps"):
        from_speed(prediction, 3.0, fps=30.0)


def test_camera_height(drive: FrameSource, prediction: Path) -> None:
    found = from_camera_height(prediction, EYE_M)
    # The camera's height sways by centimetres about its mean.
    assert found.metres_per_unit == pytest.approx(UNIT_M, rel=0.03)
    assert found.low < found.metres_per_unit < found.high
    with pytest.raises(DataError, match="only 0 frames show a ground"):
        from_camera_height(_turned(prediction), 1.5)


def _turned(prediction: Path) -> Path:
    """Return the folder with a path that runs sideways: nothing is driven along."""
    folder = prediction.parent / "sideways"
    folder.mkdir(exist_ok=True)
    for name in ("depth", "camera.json", "prediction.json"):
        if not (folder / name).exists():
            (folder / name).symlink_to(prediction / name)
    moves = torch.zeros(FRAMES, 3, dtype=torch.float64)
    moves[:, 0] = torch.arange(FRAMES)
    path = SE3(torch.eye(3, dtype=torch.float64).expand(FRAMES, 3, 3), moves)
    write_trajectory(folder / "trajectory_kitti.txt", Trajectory(world_from_cam=path, time_s=moves[:, 0]),
                     format="kitti")
    return folder


def test_track_in_metres_and_in_degrees(drive: FrameSource, prediction: Path, tmp_path: Path) -> None:
    times = torch.from_numpy(np.asarray(drive.time_s))
    path = Trajectory(world_from_cam=true_path(drive), time_s=times, scale="metric")
    write_trajectory(tmp_path / "track.txt", path, format="tum")
    found = from_gps(prediction, tmp_path / "track.txt")
    assert found.metres_per_unit == pytest.approx(UNIT_M, rel=1e-4)
    assert found.low <= found.metres_per_unit <= found.high or found.high - found.low < 1e-3
    # A degree of latitude at 48 degrees is 111.20 km, one of longitude 74.63 km (WGS 84, published tables).
    places = path.world_from_cam.t.numpy()
    rows = [f"{1000 + t:.6f} {48 + z / 111_200:.10f} {11 + x / 74_630:.10f}" for t, (x, _, z) in zip(
        drive.time_s, places, strict=True)]
    (tmp_path / "gps.txt").write_text("# time lat lon\n" + "\n".join(rows))
    with pytest.raises(DataError, match=r"gps.txt: covers 0 frames .* give the difference with --gps-offset"):
        from_gps(prediction, tmp_path / "gps.txt")
    assert from_gps(prediction, tmp_path / "gps.txt", offset_s=1000).metres_per_unit == pytest.approx(UNIT_M, rel=2e-3)


@pytest.mark.parametrize(("text", "message"), [
    ("1 2\n2 3\n", "found 2 columns"), ("0 95 3\n1 96 3\n", "must be degrees"), ("1 2 3\n1 2 4\n", "do not increase"),
    ("a b c\n", "expected rows of numbers")])
def test_bad_tracks_are_told(prediction: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "gps.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        from_gps(prediction, tmp_path / "gps.txt")


def test_known_distance(drive: FrameSource, prediction: Path) -> None:
    camera, depth = drive.camera, drive.truth(4).depth
    points = camera.unproject(torch.from_numpy(depth)[None, None])[0].numpy()
    first, second = (60, 55), (130, 56)
    metres = float(np.linalg.norm(points[first[1], first[0]] - points[second[1], second[0]]))
    known = KnownDistance(name="000004", first=first, second=second, metres=metres)
    found = from_distances(prediction, [known])
    assert found.metres_per_unit == pytest.approx(UNIT_M, rel=1e-4)
    assert found.low < found.metres_per_unit < found.high
    two = from_distances(prediction, [known, replace(known, metres=1.1 * metres)])
    assert two.metres_per_unit == pytest.approx(UNIT_M * 1.1**0.5, rel=1e-4)
    for wrong, message in ((replace(known, name="9"), "no depth of frame 9"),
                           (replace(known, first=(500, 3)), "outside the 64x192 image"),
                           (replace(known, second=first), "the same point")):
        with pytest.raises(DataError, match=message):
            from_distances(prediction, [wrong])


def test_a_run_with_a_known_unit_predicts_metres(drive: FrameSource, tmp_path: Path) -> None:
    run = replace(run_of(drive), metres_per_unit=2.0)
    with PredictionWriter(tmp_path, source=drive, run=run, video=False, two_view=False) as writer:
        for frame in predict_stream(Oracle(drive), run, drive):
            assert frame.scale == "metric"
            np.testing.assert_allclose(1 / frame.inv_depth, 2 * drive.truth(frame.index).depth, rtol=1e-5)
            writer.add(frame)
        writer.finish()
    path = read_trajectory(tmp_path / "trajectory_kitti.txt", format="kitti").world_from_cam
    truth = true_path(drive)
    torch.testing.assert_close(path.t, 2 * (truth[0].inverse() @ truth).t, rtol=1e-5, atol=1e-5)
    assert '"png_units_per_depth_unit": 256.0, "largest": 255.99' in (tmp_path / "depth" / "depth.json").read_text()


def test_a_standing_path_has_no_scale(prediction: Path, tmp_path: Path) -> None:
    still = SE3.identity(8, dtype=torch.float64)
    write_trajectory(tmp_path / "trajectory_tum.txt", Trajectory(
        world_from_cam=still, time_s=torch.arange(8, dtype=torch.float64)), format="tum")
    with pytest.raises(DataError, match="too little for a speed"):
        from_speed(tmp_path, 3.0)
