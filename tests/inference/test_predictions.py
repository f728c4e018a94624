"""Prediction folders: a method that knows the truth of a rendered world must leave the truth behind."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from egoflow.data.cameras import read_camera
from egoflow.data.formats import read_depth_npz, read_depth_png
from egoflow.data.open import FrameSlice
from egoflow.data.trajectories import read_trajectory
from egoflow.data.video import VideoFile
from egoflow.errors import DataError
from egoflow.geometry.se3 import SE3, rotation_angle
from egoflow.inference.path import TwoViewPath, chained
from egoflow.inference.stream import predict_stream
from egoflow.inference.writer import LARGEST, PNG_UNITS, PredictionWriter
from egoflow.types import FrameSource, FrameTruth, Trajectory
from egoflow.worlds.base import World, load_world
from inference.stubs import HEIGHT, WIDTH, Numbers, Oracle, run_of, without_truth


def _write(folder: Path, source: FrameSource, *, gap: int = 1, length: int = 3, target: int = 1, **options) -> Path:
    folder.mkdir()
    run = run_of(source, gap=gap)
    with PredictionWriter(folder, source=source, run=run, **options) as writer:
        for frame in predict_stream(Oracle(source, length=length, target=target), run, source):
            writer.add(frame)
        writer.finish()
    return folder


def _read(folder: Path, name: str, kind: str) -> Trajectory:
    return read_trajectory(folder / f"{name}_{kind}.txt", format=kind)  # type: ignore[arg-type]


def _same(found: SE3, expected: SE3, *, atol: float) -> None:
    torch.testing.assert_close(found.t, expected.t, atol=atol, rtol=0)
    torch.testing.assert_close(found.R, expected.R, atol=atol, rtol=0)


@pytest.fixture(scope="module")
def drive() -> World:
    return load_world("drive", seed=1, frames=6, height=48, width=96, samples=1)


@pytest.fixture(scope="module")
def folder(drive: World, tmp_path_factory) -> Path:
    return _write(tmp_path_factory.mktemp("oracle") / "png", drive)


@pytest.mark.parametrize(("length", "target"), [(2, 0), (2, 1), (3, 1), (5, 2)])
def test_the_true_motions_chain_to_the_true_path(drive: World, tmp_path: Path, length: int, target: int) -> None:
    out = _write(tmp_path / "out", drive, length=length, target=target, video=False, two_view=False)
    assert drive.trajectory().world_from_cam.t[-1].norm() > 3
    for kind in ("kitti", "tum"):
        _same(_read(out, "trajectory", kind).world_from_cam, drive.trajectory().world_from_cam, atol=1e-5)


def test_kitti_and_tum_say_the_same(folder: Path, drive: World) -> None:
    for name in ("trajectory", "truth", "two_view"):
        kitti, tum = _read(folder, name, "kitti"), _read(folder, name, "tum")
        _same(kitti.world_from_cam, tum.world_from_cam, atol=1e-10)
        np.testing.assert_allclose(tum.time_s.numpy(), drive.time_s, atol=1e-9)


def test_the_truth_is_the_worlds_own(folder: Path, drive: World) -> None:
    _same(_read(folder, "truth", "tum").world_from_cam, drive.trajectory().world_from_cam, atol=1e-10)


def test_the_truth_of_a_slice_begins_at_its_first_frame(drive: World, tmp_path: Path) -> None:
    out = _write(tmp_path / "out", FrameSlice(drive, range(2, 6)), video=False, two_view=False)
    path = drive.trajectory().world_from_cam
    for name in ("truth", "trajectory"):
        found = _read(out, name, "tum")
        _same(found.world_from_cam, path[2].inverse() @ path[2:], atol=1e-5)
        np.testing.assert_allclose(found.time_s.numpy(), drive.time_s[2:], atol=1e-9)


def test_the_two_view_chain_points_where_the_camera_goes() -> None:
    world = load_world("drive", seed=1, frames=5, height=96, width=192, samples=1)
    path = TwoViewPath(world)
    for index in (0, 1, 2, 4):
        path.add(index, world.image(index))
    chain = path.trajectory((0, 1, 2, 4), world.time_s)
    assert chain is not None
    true_path = world.trajectory().world_from_cam[[0, 1, 2, 4]]
    found, true = (p[:-1].inverse() @ p[1:] for p in (chain.world_from_cam, true_path))
    # At one speed: over the frame that is missing the camera goes two units.
    assert found.t.norm(dim=-1).tolist() == pytest.approx([1, 1, 2])
    # Measured 0.6 to 1.0 degrees.
    assert torch.rad2deg(torch.nn.functional.cosine_similarity(found.t, true.t).acos()).max() < 3
    assert torch.rad2deg(rotation_angle(found.R.mT @ true.R)).max() < 0.3


def test_depth_png_is_the_truth_to_its_steps(folder: Path, drive: World) -> None:
    side = json.loads((folder / "depth" / "depth.json").read_text())
    assert side == {"png_units_per_depth_unit": PNG_UNITS, "largest": LARGEST, "scale": "relative",
                    "resized_as": "inverse depth"}
    assert LARGEST == 65535 / PNG_UNITS > 100
    for index in range(6):
        truth = drive.truth(index)
        found, valid = read_depth_png(folder / "depth" / f"{index:06d}.png", PNG_UNITS)
        assert valid.all()
        inside = truth.depth < LARGEST
        np.testing.assert_allclose(found[inside], truth.depth[inside], atol=0.5 / PNG_UNITS + 1e-4)
        assert (~inside).any()
        np.testing.assert_array_equal(found[~inside], np.float32(LARGEST))


def test_depth_npz_is_the_truth(drive: World, tmp_path: Path) -> None:
    out = _write(tmp_path / "out", drive, depth_format="npz", video=False, two_view=False)
    for index in range(6):
        found, valid = read_depth_npz(out / "depth" / f"{index:06d}.npz")
        assert valid.all()
        np.testing.assert_allclose(found, drive.truth(index).depth, rtol=1e-6)


def test_depth_has_the_size_of_the_video_and_holds_no_walls_in_the_air(tmp_path: Path, monkeypatch) -> None:
    source = Numbers(2, size=(32, 48))
    run = run_of(Numbers(2))
    method = Oracle(source)
    half = np.full((HEIGHT, WIDTH), 1e6, np.float32)
    half[:, :WIDTH // 2] = 4.0
    source.truth = lambda index: FrameTruth(depth=half, world_from_cam=source.path[index])  # type: ignore[method-assign]
    (tmp_path / "out").mkdir()
    with PredictionWriter(tmp_path / "out", source=source, run=run, depth_format="npz", video=False) as writer:
        for frame in predict_stream(method, run, source):
            writer.add(frame)
        writer.finish()
    depth, _ = read_depth_npz(tmp_path / "out" / "depth" / "000.npz")
    # Twice the size: the two columns at the edge stand at 1/4 and 3/4 of the way from 1/4 to 0.
    np.testing.assert_allclose(depth[16, [0, 22, 23, 24, 25, 47]], [4, 4, 16 / 3, 16, 1e6, 1e6], rtol=1e-4)


def test_what_is_written(folder: Path, drive: World) -> None:
    assert sorted(p.name for p in folder.iterdir()) == [
        "camera.json", "depth", "inv_depth.mp4", "prediction.json", "trajectory_kitti.txt", "trajectory_tum.txt",
        "truth_kitti.txt", "truth_tum.txt", "two_view_kitti.txt", "two_view_tum.txt"]
    about = json.loads((folder / "prediction.json").read_text())
    assert (about["frames"], about["first"], about["last"], about["not_readable"]) == (6, "000000", "000005", [])
    camera = read_camera(folder / "camera.json")
    assert (float(camera.fx), camera.height, camera.width) == (float(drive.camera.fx), 48, 96)
    video = VideoFile(folder / "inv_depth.mp4", "fov=70")
    assert len(video) == 6
    assert video.image(5).shape == (96, 96, 3)
    assert np.abs(video.image(5)[:48].astype(float) - drive.image(5)).mean() < 8
    np.testing.assert_allclose(video.time_s, drive.time_s, atol=1e-3)


def test_without_truth_none_is_written(tmp_path: Path) -> None:
    source = Numbers(4)
    oracle, run = Oracle(source), run_of(source)
    oracle.source = Numbers(4)
    (tmp_path / "out").mkdir()
    with PredictionWriter(tmp_path / "out", source=without_truth(source), run=run, video=False) as writer:
        for frame in predict_stream(oracle, run, source):
            writer.add(frame)
        writer.finish()
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert "trajectory_tum.txt" in names
    assert next((tmp_path / "out").rglob("trajectory_tum.txt")).read_text().startswith("# world_from_cam, ")
    assert not names & {"truth_tum.txt", "truth_kitti.txt", "inv_depth.mp4"}


def test_a_truth_that_cannot_be_read_does_not_stop_the_prediction(tmp_path: Path, capsys) -> None:
    source = Numbers(5)
    oracle, run, known = Oracle(source), run_of(source), source.truth
    oracle.source = Numbers(5)

    def truth(index: int) -> FrameTruth:
        if index == 3:
            raise DataError("depth/003.png: damaged PNG")
        return known(index)
    source.truth = truth  # type: ignore[method-assign]
    (tmp_path / "out").mkdir()
    with PredictionWriter(tmp_path / "out", source=source, run=run, video=False) as writer:
        for frame in predict_stream(oracle, run, source):
            writer.add(frame)
        writer.finish()
    assert len(_read(tmp_path / "out", "trajectory", "tum").time_s) == 5
    assert not (tmp_path / "out" / "truth_tum.txt").exists()
    assert capsys.readouterr().err == "no true trajectory: depth/003.png: damaged PNG\n"


@pytest.mark.parametrize("broken", [(4,), (3, 4), (0,), (0, 1), (8, 9), (0, 2, 5, 6, 9)])
def test_every_frame_keeps_its_row_and_its_time(broken: tuple[int, ...], tmp_path: Path) -> None:
    source = Numbers(10, broken=broken)
    out = _write(tmp_path / "out", source)
    readable = [i for i in range(10) if i not in broken]
    # The stub moves evenly, so a frame put between its neighbours lies where it was; at the ends the camera stands.
    nearest = [min(max(i, readable[0]), readable[-1]) for i in range(10)]
    expected = SE3.stack([source.path[readable[0]].inverse() @ source.path[i] for i in nearest])
    for kind in ("kitti", "tum"):
        _same(_read(out, "trajectory", kind).world_from_cam, expected, atol=1e-5)
    true = SE3.stack([source.path[0].inverse() @ p for p in source.path])
    _same(_read(out, "truth", "tum").world_from_cam, true, atol=1e-9)
    for name in ("trajectory", "truth", "two_view"):
        np.testing.assert_allclose(_read(out, name, "tum").time_s.numpy(), source.time_s, atol=1e-9)
    assert sorted(p.stem for p in (out / "depth").glob("*.png")) == [f"{i:03d}" for i in readable]
    assert len(VideoFile(out / "inv_depth.mp4", "fov=70")) == 10
    assert json.loads((out / "prediction.json").read_text())["not_readable"] == [f"{i:03d}" for i in broken]


def test_the_held_picture_is_the_one_before(tmp_path: Path) -> None:
    out = _write(tmp_path / "out", Numbers(100, broken=tuple(range(40, 60))), two_view=False)
    video = VideoFile(out / "inv_depth.mp4", "fov=70")
    shades = [float(video.image(i)[:HEIGHT].mean()) for i in range(100)]
    np.testing.assert_allclose(shades[:40], range(40), atol=4)
    np.testing.assert_allclose(shades[40:60], [39] * 20, atol=4)
    np.testing.assert_allclose(shades[60:], range(60, 100), atol=4)


def test_a_gap_keeps_count_and_time(tmp_path: Path) -> None:
    source = Numbers(11)
    out = _write(tmp_path / "out", source, gap=4)
    assert sorted(p.stem for p in (out / "depth").glob("*.png")) == ["000", "004", "008"]
    found = _read(out, "trajectory", "tum")
    np.testing.assert_allclose(found.time_s.numpy(), [0, 0.4, 0.8], atol=1e-9)
    _same(found.world_from_cam, SE3.stack([source.path[0].inverse() @ source.path[i] for i in (0, 4, 8)]), atol=1e-5)
    np.testing.assert_allclose(VideoFile(out / "inv_depth.mp4", "fov=70").time_s, [0, 0.4, 0.8], atol=1e-3)
    assert json.loads((out / "prediction.json").read_text())["gap"] == 4


def test_frames_between_are_placed_by_time() -> None:
    step = SE3(torch.eye(3, dtype=torch.float64), torch.tensor([0.0, 0.0, 8.0], dtype=torch.float64))
    time_s = np.array([0.0, 1.0, 4.0, 5.0])
    steps = SE3.stack([step])
    path = chained([0, 2], steps, wanted=range(4), time_s=time_s)
    assert path is not None
    assert path.world_from_cam.t[:, 2].tolist() == pytest.approx([0, 2, 8, 8])
    assert path.time_s.tolist() == time_s.tolist()
    assert chained([0, 1, 2], steps, wanted=range(3), time_s=time_s) is None
    assert chained([0], steps[:0], wanted=range(1), time_s=time_s) is None


def test_a_writer_holds_no_more_pictures_with_time(tmp_path: Path) -> None:
    source = Numbers(120)
    _write(tmp_path / "out", source)
    assert source.most_alive <= 3 + 3
