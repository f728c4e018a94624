"""The Eigen split of KITTI raw: which drives are for tests only, and which frames stand still."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from egoflow.data.files import frame_number, read_text
from egoflow.data.kitti import is_raw_drive
from egoflow.errors import DataError
from egoflow.types import FrameSource

_EIGEN_TEST = {
    "2011_09_26": (2, 9, 13, 20, 23, 27, 29, 36, 46, 48, 52, 56, 59, 64, 84, 86, 93, 96, 101, 106, 117),
    "2011_09_28": (2,),
    "2011_09_29": (71,),
    "2011_09_30": (16, 18, 27),
    "2011_10_03": (27, 47),
}
EIGEN_TEST_DRIVES = frozenset(f"{day}_drive_{n:04d}" for day, numbers in _EIGEN_TEST.items() for n in numbers)
"""The 28 raw drives that hold Eigen's 697 test images; written from memory of the public list, not from a file."""

_DRIVE = re.compile(r"[0-9]{4}_[0-9]{2}_[0-9]{2}_drive_[0-9]{4}")


def drive_name(name: str) -> str | None:
    """Return the bare drive in a path or name: "…/2011_09_26_drive_0001_sync" -> "2011_09_26_drive_0001"."""
    match = _DRIVE.search(name)
    return match[0] if match else None


def eigen_train_drives(root: str | Path) -> list[Path]:
    """Return the raw drives under ``root`` (root/date/drive_sync) outside Eigen's 28 test drives, by name."""
    root = Path(root)
    drives = sorted(d for d in root.glob("*/*_drive_*") if d.is_dir() and is_raw_drive(d))
    if not drives:
        raise DataError(f"{root}: expected KITTI raw drives as 2011_09_26/2011_09_26_drive_0001_sync with the day's "
                        "calib_cam_to_cam.txt beside them")
    return [d for d in drives if drive_name(d.name) not in EIGEN_TEST_DRIVES]


def read_static_frames(path: str | Path) -> dict[str, set[int]]:
    """Return the frames that stand still, by bare drive name, from lines ``date drive frame``."""
    frames: dict[str, set[int]] = {}
    for number, line in enumerate(read_text(path, limit=2**26).splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        drive = drive_name(words[1]) if len(words) == 3 else None
        if drive is None or not words[2].isdecimal():
            raise DataError(f"{path}: line {number}: expected 'date drive frame', for instance "
                            "'2011_09_26 2011_09_26_drive_0009_sync 0000000386'")
        frames.setdefault(drive, set()).add(int(words[2]))
    return frames


def static_indices(source: FrameSource, static: Mapping[str, Collection[int]]) -> set[int]:
    """Return the indices of a raw drive's frames that the list names as static."""
    numbers = static.get(drive_name(source.name) or "", ())
    return {i for i in range(len(source)) if frame_number(source.frame_name(i)) in numbers}
