"""KITTI layouts on tiny fabricated folders, against numbers worked out by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from egoflow.data.clips import windows
from egoflow.data.eigen import EIGEN_TEST_DRIVES, eigen_train_drives, read_static_frames, static_indices
from egoflow.data.formats import write_image
from egoflow.data.kitti import EARTH_RADIUS_M, imu_motion, raw_drive, read_calibration
from egoflow.data.lidar import lidar_depth, read_velodyne
from egoflow.data.open import continuous_runs, open_source
from egoflow.errors import DataError

K = np.array([[50.0, 0, 30], [0, 50, 20], [0, 0, 1]])
BASELINE = 0.06
# Velodyne x forward, y left, z up; camera x right, y down, z forward.
CAM_FROM_VELO = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])


def _line(name: str, values: np.ndarray) -> str:
    return f"{name}: " + " ".join(f"{v:.9e}" for v in values.ravel()) + "\n"


def _projection(offset: float = 0.0) -> np.ndarray:
    """Return K [I | t] of a camera ``offset`` metres to the left of camera 0."""
    return K @ np.concatenate((np.eye(3), [[offset], [0], [0]]), axis=1)


def _frames(folder: Path, stems: list[str]) -> None:
    for stem in stems:
        write_image(folder / f"{stem}.png", np.zeros((40, 60, 3), np.uint8))


def _odometry(root: Path) -> Path:
    """Write sequence 09 of three frames: camera 0 turns by 90 degrees about y, then drives."""
    sequence = root / "sequences" / "09"
    _frames(sequence / "image_2", [f"{i:06d}" for i in range(3)])
    (sequence / "calib.txt").write_text(_line("P0", _projection()) + _line("P2", _projection(BASELINE)))
    (sequence / "times.txt").write_text("0.0\n0.1\n0.21\n")
    (root / "poses").mkdir()
    (root / "poses" / "09.txt").write_text(
        "1 0 0 0 0 1 0 0 0 0 1 0\n0 0 1 0 0 1 0 0 -1 0 0 0\n0 0 1 2 0 1 0 0 -1 0 0 0\n")
    return sequence


def test_an_odometry_sequence_gives_the_motion_of_its_own_camera(tmp_path: Path) -> None:
    source = open_source(_odometry(tmp_path))
    assert (source.name, len(source), source.scale) == ("kitti/09", 3, "metric")
    assert [float(v) for v in (source.camera.fx, source.camera.cx, source.camera.cy)] == [50, 30, 20]
    np.testing.assert_allclose(source.time_s, [0, 0.1, 0.21])
    motions = [source.truth(i).world_from_cam for i in range(3)]
    # Camera 2 stands at (-0.06, 0, 0) in camera 0. After the quarter turn that point lies at z = +0.06 of the world of
    # camera 0, so camera 2 moved by (+0.06, 0, +0.06).
    expected = [[0, 0, 0], [BASELINE, 0, BASELINE], [2 + BASELINE, 0, BASELINE]]
    for motion, position in zip(motions, expected, strict=True):
        assert motion is not None
        assert motion.t.tolist() == pytest.approx(position, abs=1e-12)


def test_an_odometry_sequence_without_poses_or_times(tmp_path: Path) -> None:
    sequence = _odometry(tmp_path)
    (tmp_path / "poses" / "09.txt").unlink()
    (sequence / "times.txt").unlink()
    source = open_source(sequence)
    assert source.truth(0).world_from_cam is None
    np.testing.assert_allclose(source.time_s, [0, 0.1, 0.2])
    (sequence / "calib.txt").write_text("P0: 1 2 3\n")
    with pytest.raises(DataError, match="calib.txt: calibration entry 'P2' is missing"):
        open_source(sequence)


def _raw(root: Path, *, drive: str = "2011_09_26_drive_0001",
         stems: tuple[str, ...] = ("0000000000", "0000000001")) -> Path:
    """Write a raw drive that goes 3 m east, then turns 90 degrees left on the spot, with two lidar points."""
    date = root / drive[:10]
    folder = date / f"{drive}_sync"
    _frames(folder / "image_02" / "data", list(stems))
    _frames(folder / "image_03" / "data", list(stems))
    (date / "calib_cam_to_cam.txt").write_text(
        "calib_time: 09-Jan-2012 13:57:47\n" + _line("R_rect_00", np.eye(3)) + _line("P_rect_02", _projection())
        + _line("P_rect_03", _projection(-0.5)))
    (date / "calib_velo_to_cam.txt").write_text(_line("R", CAM_FROM_VELO) + _line("T", np.array([0, 0, -0.25])))
    (date / "calib_imu_to_velo.txt").write_text(_line("R", np.eye(3)) + _line("T", np.zeros(3)))
    degrees = math.degrees(3 / (EARTH_RADIUS_M * math.cos(math.radians(49))))
    packets = [(49, 8, 110, 0, 0, 0), (49, 8 + degrees, 110, 0, 0, 0), (49, 8 + degrees, 110, 0, 0, math.pi / 2)]
    (folder / "oxts" / "data").mkdir(parents=True)
    (folder / "velodyne_points" / "data").mkdir(parents=True)
    for stem, packet in zip(stems, packets, strict=False):
        (folder / "oxts" / "data" / f"{stem}.txt").write_text(" ".join(f"{v:.15f}" for v in (*packet, *[0] * 24)))
    points = np.array([[5.25, 0, 0, 0.5], [10.25, -2, 1, 0.5], [-5, 0, 0, 0]], np.float32)
    (folder / "velodyne_points" / "data" / f"{stems[0]}.bin").write_bytes(points.tobytes())
    (folder / "image_02" / "timestamps.txt").write_text(
        "".join(f"2011-09-26 13:02:25.{i:09d}\n" for i in range(0, 100_000_000 * len(stems), 100_000_000)))
    return folder


def test_a_raw_drive(tmp_path: Path) -> None:
    stems = ("0000000000", "0000000001", "0000000002")
    source = open_source(_raw(tmp_path, stems=stems))
    assert source.name == "kitti/2011_09_26_drive_0001_sync/image_02"
    np.testing.assert_allclose(source.time_s, [0, 0.1, 0.2])
    motions = [source.truth(i).world_from_cam for i in range(3)]
    assert all(m is not None for m in motions)
    # Driving east with yaw 0 is driving along the camera's z axis.
    assert motions[1].t.tolist() == pytest.approx([0, 0, 3], abs=1e-6)  # type: ignore[union-attr]
    # The camera stands 0.25 m ahead of the lidar; a left turn of the car swings it to the left.
    ahead = motions[2].R @ torch.tensor([0.0, 0, 1], dtype=torch.float64)  # type: ignore[union-attr]
    assert ahead.tolist() == pytest.approx([-1, 0, 0], abs=1e-9)
    assert motions[2].t.tolist() == pytest.approx([-0.25, 0, 3 - 0.25], abs=1e-6)  # type: ignore[union-attr]


def test_raw_depth_by_the_published_rule(tmp_path: Path) -> None:
    source = open_source(_raw(tmp_path))
    truth = source.truth(0)
    assert truth.depth is not None
    assert truth.valid_depth is not None
    # (5.25, 0, 0) lies at z = 5 on the axis: pixel (30, 20), minus one. (10.25, -2, 1) lies at (2, -1, 10): (40, 15).
    assert [tuple(p) for p in np.argwhere(truth.valid_depth)] == [(14, 39), (19, 29)]
    assert truth.depth[19, 29] == pytest.approx(5.25)
    assert truth.depth[14, 39] == pytest.approx(10.25)
    exact = raw_drive(_raw(tmp_path / "b"), rule="exact").truth(0)
    assert exact.depth is not None
    assert exact.depth[20, 30] == pytest.approx(5)
    assert exact.depth[15, 40] == pytest.approx(10)
    assert source.truth(1).depth is None


def test_the_other_camera_of_a_drive(tmp_path: Path) -> None:
    source = open_source(_raw(tmp_path) / "image_03")
    assert source.name.endswith("image_03")
    truth = source.truth(0)
    assert truth.depth is not None
    # x = -0.5 m at 5 m and 50 px is 5 px to the left.
    assert truth.depth[19, 24] == pytest.approx(5.25)
    assert truth.world_from_cam is not None
    assert truth.world_from_cam.t.tolist() == pytest.approx([0, 0, 0], abs=1e-9)


def test_the_nearest_return_wins_and_outside_is_dropped() -> None:
    projection = np.concatenate((K @ CAM_FROM_VELO, np.zeros((3, 1))), axis=1)
    points = np.array([[9, 0, 0], [4, 0, 0], [6, 0, 0], [5, 90, 0], [np.nan, 0, 0], [0, 0, 0], [-3, 0, 0]])
    depth, valid = lidar_depth(points, projection, height=40, width=60)
    assert valid.sum() == 1
    assert depth[19, 29] == 4
    assert lidar_depth(np.zeros((0, 3)), projection, height=4, width=6)[1].sum() == 0
    # Half a pixel rounds to the even one, as MATLAB's successor in the published Python code does: 2.5 -> 2, minus 1.
    half = np.array([[10.0, -(2.5 - 30) * 10 / 50, 0]])
    assert np.argwhere(lidar_depth(half, projection, height=40, width=60)[1]).tolist() == [[19, 1]]


def test_a_drive_without_lidar_or_gps(tmp_path: Path) -> None:
    drive = _raw(tmp_path)
    (drive.parent / "calib_velo_to_cam.txt").unlink()
    truth = open_source(drive).truth(0)
    assert truth.depth is None
    assert truth.world_from_cam is None


def test_missing_frames_keep_their_times_and_are_gaps(tmp_path: Path) -> None:
    stems = tuple(f"{i:010d}" for i in range(12))
    drive = _raw(tmp_path, stems=stems)
    (drive / "image_02" / "timestamps.txt").write_text("".join(f"2011-09-26 13:02:{i:02d}.5\n" for i in range(12)))
    (drive / "image_02" / "data" / f"{5:010d}.png").unlink()
    source = open_source(drive)
    assert source.time_s.tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    assert continuous_runs(source) == [range(5), range(5, 11)]


def test_damaged_parts_are_named(tmp_path: Path) -> None:
    drive = _raw(tmp_path)
    scan = drive / "velodyne_points" / "data" / "0000000000.bin"
    scan.write_bytes(bytes(33))
    with pytest.raises(DataError, match="0000000000.bin: truncated"):
        read_velodyne(scan)
    (drive / "oxts" / "data" / "0000000001.txt").write_text("49 8 x")
    with pytest.raises(DataError, match="0000000001.txt: expected numbers"):
        open_source(drive)
    (tmp_path / "c.txt").write_text("nothing\n")
    with pytest.raises(DataError, match="no calibration"):
        read_calibration(tmp_path / "c.txt")


def test_imu_motion_unrolls_the_globe() -> None:
    # One arc second of latitude is 30.9 m; north is +y, and yaw turns from east to north.
    motion = imu_motion(np.array([[49.0, 8, 100, 0, 0, 0], [49 + 1 / 3600, 8, 101, 0, 0, math.pi / 2]]))
    moved = (motion.t[1] - motion.t[0]).tolist()
    assert moved == pytest.approx([0, EARTH_RADIUS_M * math.radians(1 / 3600), 1], rel=1e-4, abs=1e-6)
    ahead = motion.R[1] @ torch.tensor([1.0, 0, 0], dtype=torch.float64)
    assert ahead.tolist() == pytest.approx([0, 1, 0], abs=1e-12)


def test_eigen_split(tmp_path: Path) -> None:
    assert len(EIGEN_TEST_DRIVES) == 28
    _raw(tmp_path, drive="2011_09_26_drive_0001")
    _raw(tmp_path, drive="2011_09_26_drive_0002")
    _raw(tmp_path, drive="2011_10_03_drive_0034")
    names = [d.name for d in eigen_train_drives(tmp_path)]
    assert names == ["2011_09_26_drive_0001_sync", "2011_10_03_drive_0034_sync"]
    with pytest.raises(DataError, match="expected KITTI raw drives"):
        eigen_train_drives(tmp_path / "2011_09_26")


def test_static_frames_leave_the_windows(tmp_path: Path) -> None:
    stems = tuple(f"{i:010d}" for i in range(6))
    source = open_source(_raw(tmp_path, stems=stems))
    path = tmp_path / "static_frames.txt"
    path.write_text("2011_09_26 2011_09_26_drive_0001_sync 0000000002\n"
                    "2011_09_26 2011_09_26_drive_0009_sync 0000000003\n")
    static = static_indices(source, read_static_frames(path))
    assert static == {2}
    assert windows(source, length=3, exclude=static, target=1) == [(0, 1, 2), (2, 3, 4), (3, 4, 5)]
    path.write_text("2011_09_26 nothing\n")
    with pytest.raises(DataError, match="line 1: expected 'date drive frame'"):
        read_static_frames(path)
