"""Trajectory files: hand-made rows, round trips, published files, and every user error by name and line."""

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from egoflow.data.trajectories import TrajectoryFormat, read_trajectory, write_trajectory
from egoflow.errors import DataError
from egoflow.geometry.se3 import SE3
from egoflow.types import Trajectory

IDENTITY = "1 0 0 0 0 1 0 0 0 0 1 0"


def _random(length: int) -> Trajectory:
    generator = torch.Generator().manual_seed(length)
    twist = torch.randn(length, 6, generator=generator, dtype=torch.float64) * torch.tensor([50.0] * 3 + [1.5] * 3)
    return Trajectory(world_from_cam=SE3.exp(twist), time_s=1.3e9 + torch.arange(length, dtype=torch.float64) * 0.1)


def test_kitti_row_is_world_from_cam_by_rows(tmp_path: Path) -> None:
    # A camera that looks along the world's +x: its z axis is x, its x axis is -z, and it stands at (5, 6, 7).
    (tmp_path / "k.txt").write_text("# a comment\n0 0 1 5 0 1 0 6 -1 0 0 7\n\n" + IDENTITY + " # the world\n")
    trajectory = read_trajectory(tmp_path / "k.txt", format="kitti")
    ahead = trajectory.world_from_cam[0].apply(torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64))
    torch.testing.assert_close(ahead, torch.tensor([7.0, 6.0, 7.0], dtype=torch.float64))
    assert trajectory.time_s.tolist() == [0, 1]


def test_kitti_rows_may_lead_with_the_frame_number(tmp_path: Path) -> None:
    (tmp_path / "k.txt").write_text(f"4 {IDENTITY}\n7 {IDENTITY}\n")
    assert read_trajectory(tmp_path / "k.txt", format="kitti").time_s.tolist() == [4, 7]


def test_tum_quaternion_is_xyzw(tmp_path: Path) -> None:
    half = math.radians(90) / 2
    (tmp_path / "t.txt").write_text(f"12.5 1 2 3 0 {math.sin(half)} 0 {math.cos(half)}\n")
    trajectory = read_trajectory(tmp_path / "t.txt", format="tum")
    # A quarter turn about y takes the camera's z axis to the world's x.
    ahead = trajectory.world_from_cam[0].apply(torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(ahead, torch.tensor([2.0, 2.0, 3.0], dtype=torch.float64))
    assert trajectory.time_s.tolist() == [12.5]


@pytest.mark.parametrize("format", ["kitti", "tum"])
@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_round_trip(tmp_path: Path, format: TrajectoryFormat, name: str) -> None:
    trajectory = _random(20)
    write_trajectory(tmp_path / name, trajectory, format=format)
    again = read_trajectory(tmp_path / name, format=format)
    torch.testing.assert_close(again.world_from_cam.R, trajectory.world_from_cam.R, atol=1e-10, rtol=0)
    torch.testing.assert_close(again.world_from_cam.t, trajectory.world_from_cam.t, atol=1e-9, rtol=1e-11)
    if format == "tum":
        torch.testing.assert_close(again.time_s, trajectory.time_s, atol=1e-6, rtol=0)
    assert gzip.decompress((tmp_path / name).read_bytes()) if name.endswith("gz") else True


@pytest.mark.parametrize("format", ["kitti", "tum"])
def test_evo_reads_what_is_written(tmp_path: Path, format: TrajectoryFormat) -> None:
    file_interface = pytest.importorskip("evo.tools.file_interface")
    trajectory = _random(9)
    write_trajectory(tmp_path / "a.txt", trajectory, format=format)
    read = {"kitti": file_interface.read_kitti_poses_file, "tum": file_interface.read_tum_trajectory_file}[format]
    matrices = np.array(read(str(tmp_path / "a.txt")).poses_se3)
    np.testing.assert_allclose(matrices[:, :3, :3], trajectory.world_from_cam.R.numpy(), atol=1e-9)
    np.testing.assert_allclose(matrices[:, :3, 3], trajectory.world_from_cam.t.numpy(), atol=1e-9)


@pytest.mark.parametrize(("text", "format", "message"), [
    (f"{IDENTITY}\nnan{IDENTITY[1:]}\n", "kitti", "line 2 holds NaN"),
    (f"{IDENTITY}\n1 2 3\n", "kitti", "line 2 has 3 numbers; expected 12"),
    (f"0 {IDENTITY}\n{IDENTITY}\n", "kitti", "line 2 has 12 numbers"),
    ("1 0 0 0 0 1 0 0 0 0 -1 0\n", "kitti", "line 1 is no rotation"),
    ("2 0 0 0 0 2 0 0 0 0 2 0\n", "kitti", "line 1 is no rotation"),
    ("", "kitti", "holds no positions"), ("a b c\n", "tum", "line 1 is not numeric"),
    ("2 0 0 0 0 0 0 1\n1 0 0 0 0 0 0 1\n", "tum", "line 2: time stamp 1.000000 after 2.000000"),
    ("2 0 0 0 0 0 0 0\n", "tum", "length 0"), ("2 0 0 0 3 0 0 1\n", "tum", "order of the columns"),
    (IDENTITY, "tum", "expected 8 numbers"), ("1 1e300 0 0 0 0 0 1", "tum", "large"),
    ("x" * 5000, "tum", "longer than"),
])
def test_bad_rows_are_named(tmp_path: Path, text: str, format: TrajectoryFormat, message: str) -> None:
    (tmp_path / "bad.txt").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_trajectory(tmp_path / "bad.txt", format=format)
    assert "bad.txt" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_repeated_stamp_keeps_its_first_row(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "t.txt").write_text("1 0 0 0 0 0 0 1\n1 9 0 0 0 0 0 1\n2 5 0 0 0 0 0 1\n")
    trajectory = read_trajectory(tmp_path / "t.txt", format="tum")
    assert trajectory.world_from_cam.t[:, 0].tolist() == [0, 5]
    assert "line 2" in caplog.text


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=200), st.text("0123456789.e-+ \n#na,", max_size=200).map(str.encode)),
       st.sampled_from(["kitti", "tum"]), st.sampled_from(["f.txt", "f.gz", "g.gz"]))
def test_arbitrary_bytes_fail_in_one_line(tmp_path: Path, data: bytes, format: TrajectoryFormat, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(data)[:-1 or None] if name == "g.gz" else data)
    message = name
    try:
        read_trajectory(tmp_path / name, format=format)
    except DataError as error:
        message = str(error)
    assert name in message
    assert "\n" not in message


def test_published_trajectories_are_read(shared_data: Path) -> None:
    folder = shared_data / "trajectories"
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing")
    lengths = {"kitti_gt/09.txt": 1591, "kitti-odom-eval/example_0/09.txt": 1589, "evo/KITTI_00_SPTAM.txt.gz": 4541,
               "sfmlearner-pytorch-fork/10.txt": 1198, "evo/fr2_desk_groundtruth.txt.gz": 20956}
    for name, length in lengths.items():
        trajectory = read_trajectory(folder / name, format="tum" if "fr2" in name else "kitti")
        R = trajectory.world_from_cam.R
        assert len(R) == length
        assert float((R @ R.mT - torch.eye(3, dtype=R.dtype)).abs().max()) < 1e-12
    # The official ground truth of 09 is 1705 m long.
    steps = read_trajectory(folder / "kitti_gt/09.txt", format="kitti").world_from_cam.t.diff(dim=0)
    assert float(steps.norm(dim=1).sum()) == pytest.approx(1705.05, abs=0.1)
