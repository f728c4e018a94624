"""Trajectory files in KITTI and TUM form: the only place where 3x4 rows and quaternions are read or written.

Convention: both hold ``world_from_cam``. KITTI: 12 numbers a row, the 3x4 matrix by rows; a leading 13th is the frame
number. TUM: ``time tx ty tz qx qy qz qw``. Text after ``#`` is a comment; a name ending in .gz is compressed.
"""

import gzip
import io
import logging
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from egoflow.data.files import opened, write_bytes
from egoflow.errors import DataError
from egoflow.geometry.se3 import SE3, quaternion_xyzw_from_rotation, rotation_from_quaternion_xyzw
from egoflow.types import Trajectory

TrajectoryFormat = Literal["kitti", "tum"]
_COLUMNS: dict[TrajectoryFormat, tuple[int, ...]] = {"kitti": (12, 13), "tum": (8,)}
_EXPECTED = {"kitti": "12 numbers (a 3x4 matrix by rows; 13 with a leading frame number)",
             "tum": "8 numbers (time tx ty tz qx qy qz qw)"}
# Published predictions are off by up to 1e-5; three-digit text by 1e-3. Beyond this a row is no rotation.
_ORTHONORMAL = 5e-3
_MAX_LINE = 4096
_MAX_ROWS = 5_000_000
_log = logging.getLogger("egoflow")


def _lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Yield (line number, text without its comment) of the lines that hold something."""
    with ExitStack() as stack:
        stream, _ = stack.enter_context(opened(path))
        try:
            text = gzip.GzipFile(fileobj=stream) if str(path).endswith(".gz") else io.BufferedReader(stream)  # type: ignore[arg-type]
            for number in range(1, _MAX_ROWS):
                line = text.readline(_MAX_LINE)
                if not line:
                    return
                if len(line) == _MAX_LINE:
                    raise DataError(f"{path}: line {number} is longer than {_MAX_LINE} bytes; is this a trajectory?")
                content = line.decode("utf-8-sig").split("#")[0].replace(",", " ").strip()
                if content:
                    yield number, content
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(f"{path}: damaged gzip file: {error}") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: expected a text file, found binary data") from error


def _read_rows(path: str | Path, *, format: TrajectoryFormat) -> tuple[np.ndarray, list[int]]:
    """Return the finite numbers [N, C] of a file, all rows of one length, and their line numbers."""
    rows: list[list[float]] = []
    lines: list[int] = []
    for number, text in _lines(path):
        try:
            row = [float(word) for word in text.split()]
        except ValueError as error:
            raise DataError(f"{path}: line {number} is not numeric; expected {_EXPECTED[format]} a line") from error
        if len(row) not in _COLUMNS[format] or (rows and len(row) != len(rows[0])):
            raise DataError(f"{path}: line {number} has {len(row)} numbers; expected {_EXPECTED[format]} in every line")
        if not np.isfinite(row).all():
            raise DataError(f"{path}: line {number} holds NaN or infinity; every position must be finite")
        rows.append(row)
        lines.append(number)
    if not rows:
        raise DataError(f"{path}: holds no positions; expected {_EXPECTED[format]} a line")
    values = np.array(rows)
    if np.abs(values).max() > 1e12:
        raise DataError(f"{path}: line {lines[int(np.abs(values).max(axis=1).argmax())]} holds absurdly large numbers")
    return values, lines


def _rotations(path: str | Path, matrices: np.ndarray, lines: list[int]) -> np.ndarray:
    """Return the rotations nearest to ``matrices`` [N, 3, 3]; DataError at the first that is none."""
    error = np.abs(matrices @ matrices.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    bad = (error > _ORTHONORMAL) | (np.linalg.det(matrices) < 0)
    if bad.any():
        row = int(bad.argmax())
        raise DataError(f"{path}: line {lines[row]} is no rotation (off by {error[row]:.2g}, determinant "
                        f"{np.linalg.det(matrices[row]):.3g}); expected rows of world_from_cam")
    u, _, vt = np.linalg.svd(matrices)
    return u @ vt


def _increasing(path: str | Path, time_s: np.ndarray, lines: list[int], *, what: str) -> np.ndarray:
    """Return which rows to keep: the first of equal ``time_s``; DataError where time runs back."""
    step = np.diff(time_s)
    if (step < 0).any():
        row = int((step < 0).argmax()) + 1
        raise DataError(f"{path}: line {lines[row]}: {what} {time_s[row]:.6f} after {time_s[row - 1]:.6f}; "
                        f"{what}s must increase")
    keep = np.concatenate(([True], step > 0))
    if not keep.all():
        # The official ground truth of TUM's freiburg2_desk repeats a stamp: an error would shut it out.
        _log.warning("%s: %d row(s) repeat the %s of the row before (first at line %d) and are left out", path,
                     int((~keep).sum()), what, lines[int((~keep).argmax())])
    return keep


def read_trajectory(path: str | Path, *, format: TrajectoryFormat, as_written: bool = False) -> Trajectory:
    """Return the trajectory (float64) of a text file, plain or .gz.

    KITTI rows carry no time: ``time_s`` is then the frame number (the leading 13th number, else the row). Rotations
    are made exactly orthonormal, or left as rounded in the file with ``as_written``: published rotation errors were
    computed so. Raises DataError that names file and line: other columns, NaN, rows that are no
    rotation, time that runs back. Of rows that repeat a time stamp the first is kept, with a warning.
    """
    if format not in _COLUMNS:
        raise DataError(f"unknown trajectory format '{format}'; expected kitti or tum")
    values, lines = _read_rows(path, format=format)
    if format == "kitti":
        matrices = values[:, -12:].reshape(-1, 3, 4)
        rotation, translation = _rotations(path, matrices[:, :, :3], lines), matrices[:, :, 3]
        rotation = np.ascontiguousarray(matrices[:, :, :3]) if as_written else rotation
        time_s = values[:, 0] if values.shape[1] == 13 else np.arange(len(values), dtype=np.float64)
    else:
        time_s, translation, quaternion = values[:, 0], values[:, 1:4], values[:, 4:]
        length = np.linalg.norm(quaternion, axis=1)
        if np.abs(length - 1).max() > 0.02:
            row = int(np.abs(length - 1).argmax())
            raise DataError(f"{path}: line {lines[row]}: the quaternion qx qy qz qw has length {length[row]:.3g}, not "
                            "1; is the order of the columns another?")
        rotation = rotation_from_quaternion_xyzw(torch.from_numpy(quaternion)).numpy()
    keep = _increasing(path, time_s, lines, what="frame number" if format == "kitti" else "time stamp")
    motion = SE3(torch.from_numpy(rotation[keep]), torch.from_numpy(np.ascontiguousarray(translation[keep])))
    return Trajectory(world_from_cam=motion, time_s=torch.from_numpy(time_s[keep].copy()))


def trajectory_format(path: str | Path) -> TrajectoryFormat:
    """Return the format that the first row of a trajectory file has by its number of columns; DataError for neither."""
    number, text = next(_lines(path), (0, ""))
    count = len(text.split())
    for name, columns in _COLUMNS.items():
        if count in columns:
            return name
    found = f"line {number} has {count} columns" if count else "holds no rows"
    raise DataError(f"{path}: {found}; expected KITTI, {_EXPECTED['kitti']}, or TUM, {_EXPECTED['tum']}")


def write_trajectory(path: str | Path, trajectory: Trajectory, *, format: TrajectoryFormat, remark: str = "") -> None:
    """Write a trajectory in KITTI or TUM form, whole or not at all; a name ending in .gz is compressed.

    ``remark`` is a comment ahead of the rows of TUM; KITTI's kit reads nothing but numbers.
    """
    rotation = trajectory.world_from_cam.R.detach().double().cpu()
    translation = trajectory.world_from_cam.t.detach().double().cpu()
    if format == "kitti":
        rows = torch.cat((rotation, translation.unsqueeze(-1)), dim=-1).flatten(1).tolist()
        lines = [" ".join(f"{v:.12g}" for v in row) for row in rows]
    elif format == "tum":
        rows = torch.cat((translation, quaternion_xyzw_from_rotation(rotation)), dim=-1).tolist()
        times = trajectory.time_s.double().tolist()
        lines = [f"# {remark}"] if remark else []
        lines += [f"{t:.9f} " + " ".join(f"{v:.12g}" for v in row) for t, row in zip(times, rows, strict=True)]
    else:
        raise DataError(f"unknown trajectory format '{format}'; expected kitti or tum")
    data = ("\n".join(lines) + "\n").encode()
    write_bytes(path, gzip.compress(data, mtime=0) if str(path).endswith(".gz") else data)
