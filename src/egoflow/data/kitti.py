"""KITTI odometry sequences and raw drives: calibration, GPS motion, lidar depth.

Convention: the world is the first frame of the camera that is read (left grey, left colour, …); the devkit's poses,
which are those of camera 0, are carried over by the calibrated offset. Depth is in metres.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from egoflow.data.cameras import matrix_camera
from egoflow.data.files import read_text
from egoflow.data.folders import ImageFolder, common_size, image_files, read_poses, read_timestamps
from egoflow.data.lidar import DepthRule, lidar_depth, read_velodyne
from egoflow.errors import DataError
from egoflow.geometry.camera import Camera
from egoflow.geometry.se3 import SE3, rotation_exp
from egoflow.types import FrameSource, FrameTruth

EARTH_RADIUS_M = 6378137.0
"""Of the sphere on which the devkit unrolls GPS positions."""


def read_calibration(path: str | Path) -> dict[str, np.ndarray]:
    """Return the numeric entries ``name: numbers`` of a KITTI calibration file; DataError if there are none."""
    entries: dict[str, np.ndarray] = {}
    for line in read_text(path).splitlines():
        name, colon, text = line.partition(":")
        try:
            values = np.array([float(word) for word in text.split()])
        except ValueError:
            continue
        if colon and values.size and np.isfinite(values).all():
            entries[name.strip()] = values
    if not entries:
        raise DataError(f"{path}: expected lines such as 'P2: 718.9 0 607.2 …', found no calibration")
    return entries


def _entry(path: str | Path, entries: dict[str, np.ndarray], name: str, *shape: int) -> np.ndarray:
    """Return one entry in its shape; DataError if it is missing or of another length."""
    value = entries.get(name)
    if value is None or value.size != math.prod(shape):
        found = "missing" if value is None else f"{value.size} numbers"
        raise DataError(f"{path}: calibration entry '{name}' is {found}; expected {math.prod(shape)} numbers")
    return value.reshape(shape)


def _rigid(rotation: np.ndarray, translation: np.ndarray) -> SE3:
    """Return a motion in float64."""
    return SE3(torch.from_numpy(np.ascontiguousarray(rotation)), torch.from_numpy(np.ascontiguousarray(translation)))


def _offset(projection: np.ndarray) -> SE3:
    """Return cam_from_cam0 of a rectified projection K [I | t] [3, 4]."""
    return _rigid(np.eye(3), np.linalg.solve(projection[:, :3], projection[:, 3]))


def is_odometry_sequence(path: Path) -> bool:
    """Say whether ``path`` is a sequence of the odometry benchmark: calib.txt beside image_0/ or image_2/."""
    return (path / "calib.txt").is_file() and ((path / "image_2").is_dir() or (path / "image_0").is_dir())


def odometry_sequence(path: str | Path, camera: Camera | str | None = None) -> FrameSource:
    """Open a sequence of the KITTI odometry benchmark (…/sequences/09), left colour images where there are any.

    Reads calib.txt, times.txt and ../../poses/09.txt, the last two where they exist; the motion is that of the camera
    read, not of camera 0.
    """
    path = Path(path).resolve()
    number = 2 if (path / "image_2").is_dir() else 0
    folder, calibration = path / f"image_{number}", path / "calib.txt"
    projection = _entry(calibration, read_calibration(calibration), f"P{number}", 3, 4)
    files = image_files(folder)
    times, poses = path / "times.txt", path.parent.parent / "poses" / f"{path.name}.txt"
    world_from_cam = _in_camera(read_poses(poses, frames=len(files)), _offset(projection)) if poses.is_file() else None

    def truth(index: int) -> FrameTruth:
        return FrameTruth(world_from_cam=None if world_from_cam is None else world_from_cam[index])
    return ImageFolder(folder, _camera(camera, projection, folder, files, str(calibration)), name=f"kitti/{path.name}",
                       time_s=read_timestamps(times) if times.is_file() else None, scale="metric", truth=truth)


def _camera(camera: Camera | str | None, projection: np.ndarray, folder: Path, files: list[Path],
            name: str) -> Camera | str | None:
    """Return the caller's camera, or the calibrated one at the size of the images."""
    if camera is not None or not files:
        return camera
    height, width = common_size(folder, files)
    return matrix_camera(projection, height=height, width=width, name=name)


def _in_camera(world_from_cam0: SE3, cam_from_cam0: SE3) -> SE3:
    """Return the path of another camera of the rig; its world is its own first frame where camera 0's is."""
    return cam_from_cam0 @ world_from_cam0 @ cam_from_cam0.inverse()


def is_raw_drive(path: Path) -> bool:
    """Say whether ``path`` is a raw drive (…/2011_09_26/2011_09_26_drive_0001_sync) or one of its image_0x folders."""
    drive = path.parent if path.name.startswith("image_0") else path
    return (drive.parent / "calib_cam_to_cam.txt").is_file() and any(
        (drive / f"image_0{i}" / "data").is_dir() for i in range(4))


def raw_drive(path: str | Path, camera: Camera | str | None = None, *, rule: DepthRule = "published") -> FrameSource:
    """Open a rectified KITTI raw drive, or one camera of it (…_sync/image_03); the left colour camera by default.

    Motion comes from oxts/, depth from velodyne_points/ by ``rule``, each where the folder and its calibration exist
    (drive 2011_10_03_drive_0058 has no lidar; single scans are missing elsewhere).
    """
    path = Path(path).resolve()
    drive = path.parent if path.name.startswith("image_0") else path
    ids = [f"image_0{i}" for i in (2, 0, 3, 1) if (drive / f"image_0{i}" / "data").is_dir()]
    name = path.name if path != drive else ids[0]
    folder, calibration = drive / name / "data", drive.parent / "calib_cam_to_cam.txt"
    projection = _entry(calibration, read_calibration(calibration), f"P_rect_{name[-2:]}", 3, 4)
    files = image_files(folder)
    times = drive / name / "timestamps.txt"
    # The drive's name is unique; the camera's is part of it so that stereo pairs are two sources.
    return ImageFolder(folder, _camera(camera, projection, folder, files, str(calibration)),
                       name=f"kitti/{drive.name}/{name}", time_s=_raw_times(times, files), scale="metric",
                       truth=_raw_truth(drive, files, projection, rule=rule))


def _raw_times(path: Path, files: list[Path]) -> np.ndarray | None:
    """Return the stamps of the frames that are there: the file has a line for every frame number."""
    if not path.is_file():
        return None
    stamps = read_timestamps(path)
    numbers = [int(f.stem) if f.stem.isdecimal() else -1 for f in files]
    return stamps[numbers] if len(stamps) != len(files) and max(numbers, default=-1) < len(stamps) else stamps


def _raw_truth(drive: Path, files: list[Path], projection: np.ndarray, *,
               rule: DepthRule) -> Callable[[int], FrameTruth]:
    """Return the reader of a raw drive's truth."""
    stems = [f.stem for f in files]
    velodyne, cam0_from_velo = drive / "velodyne_points" / "data", _cam0_from_velo(drive.parent)
    motion = _oxts_motion(drive, stems, _offset(projection), cam0_from_velo)
    image_from_velo = None if cam0_from_velo is None else projection @ _matrix(cam0_from_velo)
    height, width = common_size(drive, files) if files else (0, 0)

    def read(index: int) -> FrameTruth:
        scan = velodyne / f"{stems[index]}.bin"
        depth, valid = None, None
        if image_from_velo is not None and scan.is_file():
            depth, valid = lidar_depth(read_velodyne(scan), image_from_velo, height=height, width=width, rule=rule)
        return FrameTruth(depth=depth, valid_depth=valid, world_from_cam=None if motion is None else motion[index])
    return read


def _matrix(motion: SE3) -> np.ndarray:
    """Return the 4x4 matrix of a motion."""
    top = torch.cat((motion.R, motion.t.unsqueeze(-1)), dim=-1).numpy()
    return np.concatenate((top, [[0, 0, 0, 1]]))


def _calibrated(path: Path) -> SE3:
    """Return the rigid motion in a calibration file with entries R and T."""
    entries = read_calibration(path)
    return _rigid(_entry(path, entries, "R", 3, 3), _entry(path, entries, "T", 3))


def _cam0_from_velo(date: Path) -> SE3 | None:
    """Return rectified cam0_from_velo of a recording day, or None where the lidar is not calibrated."""
    path = date / "calib_velo_to_cam.txt"
    if not path.is_file():
        return None
    cameras = date / "calib_cam_to_cam.txt"
    rectify = _entry(cameras, read_calibration(cameras), "R_rect_00", 3, 3)
    return _rigid(rectify, np.zeros(3)) @ _calibrated(path)


def _oxts_motion(drive: Path, stems: list[str], cam_from_cam0: SE3, cam0_from_velo: SE3 | None) -> SE3 | None:
    """Return world_from_cam [N] from the drive's GPS packets, or None where a packet or the calibration is missing."""
    imu, packets = drive.parent / "calib_imu_to_velo.txt", [drive / "oxts" / "data" / f"{stem}.txt" for stem in stems]
    if cam0_from_velo is None or not imu.is_file() or not packets or not all(p.is_file() for p in packets):
        return None
    cam_from_imu = cam_from_cam0 @ cam0_from_velo @ _calibrated(imu)
    earth_from_imu = imu_motion(np.array([_packet(p) for p in packets]))
    return cam_from_imu @ earth_from_imu[0].inverse() @ earth_from_imu @ cam_from_imu.inverse()


def _packet(path: Path) -> list[float]:
    """Return latitude, longitude, altitude, roll, pitch and yaw of a GPS packet."""
    try:
        numbers = [float(word) for word in read_text(path).split()[:6]]
    except ValueError as error:
        raise DataError(f"{path}: expected numbers: latitude longitude altitude roll pitch yaw …") from error
    if len(numbers) < 6 or not np.isfinite(numbers).all() or not abs(numbers[0]) < 89:
        raise DataError(f"{path}: expected latitude, longitude, altitude (degrees, metres), roll, pitch, yaw (radians)")
    return numbers


def imu_motion(packets: np.ndarray) -> SE3:
    """Return earth_from_imu [N] (metres, float64) of GPS packets [N, 6].

    Latitude and longitude in degrees are unrolled by the Mercator projection at the first latitude, altitude is in
    metres, roll, pitch and yaw in radians give ``Rz(yaw) Ry(pitch) Rx(roll)``. (KITTI raw devkit, convertOxtsToPose)
    """
    latitude, longitude, altitude, roll, pitch, yaw = packets.astype(np.float64).T
    scale = math.cos(math.radians(latitude[0])) * EARTH_RADIUS_M
    east = scale * np.radians(longitude)
    north = scale * np.log(np.tan(np.radians(90 + latitude) / 2))
    zero = np.zeros_like(roll)
    turns = [rotation_exp(torch.from_numpy(np.stack(axis, axis=-1))) for axis in (
        (zero, zero, yaw), (zero, pitch, zero), (roll, zero, zero))]
    return SE3(turns[0] @ turns[1] @ turns[2], torch.from_numpy(np.stack((east, north, altitude), axis=-1)))
