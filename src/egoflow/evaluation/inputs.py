"""The files of an evaluation: a trajectory or a folder of depth maps, ours or anyone's."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from egoflow.data.files import frame_number, natural_key, read_json, read_text
from egoflow.data.formats import read_depth_npz, read_depth_png, read_mask
from egoflow.data.trajectories import TrajectoryFormat, read_trajectory, trajectory_format
from egoflow.errors import DataError
from egoflow.types import Trajectory

_Names = dict[TrajectoryFormat, tuple[str, ...]]
_PREDICTED: _Names = {"kitti": ("trajectory_kitti.txt",), "tum": ("trajectory_tum.txt",)}
# Beside a prediction the truth has a name of its own; a rendered world and a clip have nothing but truth.
_TRUE: _Names = {"kitti": ("truth_kitti.txt", "poses_kitti.txt", "poses.txt"),
                  "tum": ("truth_tum.txt", "trajectory_tum.txt")}
TWO_VIEW = "two-view chain"
_TWO_VIEW_NAMES: dict[TrajectoryFormat, str] = {"kitti": "two_view_kitti.txt", "tum": "two_view_tum.txt"}
KITTI_UNITS = 256.0
SIDE_FILE = "depth.json"


def inside_run(path: Path) -> Path:
    """Return the folder ``prediction`` of a run folder, and any other path as it is."""
    return path / "prediction" if (path / "run.json").is_file() and (path / "prediction").is_dir() else path


def trajectory_file(path: Path, *, format: TrajectoryFormat | None, true: bool = False) -> tuple[
        Path, TrajectoryFormat]:
    """Return the trajectory file that ``path`` (a file, or a folder that holds one) means, and its format.

    A folder is searched for a prediction, or with ``true`` for the truth of a prediction, a world or a clip. Without
    ``format`` a folder gives its KITTI file first, and a file's format follows from its columns.
    """
    if path.is_dir():
        names = _TRUE if true else _PREDICTED
        formats: tuple[TrajectoryFormat, ...] = ("kitti", "tum") if format is None else (format,)
        found: list[tuple[Path, TrajectoryFormat]] = [
            (path / name, kind) for kind in formats for name in names[kind] if (path / name).is_file()]
        if not found:
            expected = " or ".join(name for kind in formats for name in names[kind])
            raise DataError(f"{path}: expected a trajectory file or a folder with {expected}")
        return found[0]
    return path, format or trajectory_format(path)


def read_pair(prediction: Path, truth: Path, *, format: TrajectoryFormat | None) -> tuple[
        Trajectory, Trajectory, TrajectoryFormat, dict[str, Trajectory]]:
    """Return predicted and true trajectory, their format, and the further trajectories found beside the prediction.

    A truth that is a file decides the format; both must have the same one. KITTI rows of a folder that says which
    frames it holds carry those frames' numbers; DataError where they cannot be matched with the truth's.
    """
    prediction, truth = inside_run(prediction), inside_run(truth)
    truth_path, kind = trajectory_file(truth, format=format, true=True)
    prediction_path, found = trajectory_file(prediction, format=kind if prediction.is_dir() else format)
    if found != kind:
        raise DataError(f"{prediction_path} is a {found} trajectory but {truth_path} is {kind}: KITTI rows carry no "
                        f"time to match stamps by; give both in one format")
    if prediction.is_dir() and truth_path.resolve() == prediction_path.resolve():
        raise DataError(f"{truth}: holds no truth, only the prediction {truth_path.name}; give the true trajectory")
    path, true = read_path(prediction_path, format=kind), read_path(truth_path, format=kind)
    beside = prediction / _TWO_VIEW_NAMES[kind]
    others = {TWO_VIEW: read_path(beside, format=kind)} if prediction.is_dir() and beside.is_file() else {}
    if kind == "kitti" and prediction.is_dir():
        numbers = _frame_numbers(prediction, len(path.time_s), truth_path, true)
        if numbers is not None:
            path = replace(path, time_s=numbers)
            others = {name: replace(other, time_s=numbers) for name, other in others.items()}
    return path, true, kind, others


def _frame_numbers(folder: Path, count: int, truth_path: Path, truth: Trajectory) -> Tensor | None:
    """Return the frame numbers of a prediction's ``count`` rows as the truth counts them; None where rows do.

    A prediction may hold a part of its footage: a shot, or all but frames that repeat the one before. Rows count where
    truth has as many, or where the images have no numbers; numbers where the truth has its own, or the first is 0.
    """
    found = [frame_number(name) for name in read_json(folder / "prediction.json").get("names", [])]
    numbers = torch.tensor([number for number in found if number is not None], dtype=torch.float64)
    if len(numbers) != count or len(found) != count or bool((numbers.diff() <= 0).any()):
        return None
    numbered = not torch.equal(truth.time_s, torch.arange(len(truth.time_s), dtype=torch.float64))
    if len(truth.time_s) == count and not numbered:
        return None
    if numbered or numbers[0] == 0:
        return numbers
    raise DataError(f"{folder} holds {count} frames, {found[0]} to {found[-1]}, and {truth_path} {len(truth.time_s)} "
                    f"rows that do not say of which frames; give a truth with the frame number before each row (13 "
                    f"columns) or in TUM form, or {folder / _PREDICTED['kitti'][0]} to pair rows from the first on")


def read_path(path: Path, *, format: TrajectoryFormat) -> Trajectory:
    """Return a trajectory with the rotations as written, which published errors are computed from."""
    return read_trajectory(path, format=format, as_written=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthFolder:
    """Depth maps of a folder by stem, ``units`` of their PNGs per unit of depth, and what that unit is.

    ``resized_as`` says how who wrote them brought them to their size: as depth or as inverse depth.
    """

    folder: Path
    files: dict[str, Path]
    units: float
    scale: str
    resized_as: str = "unstated"

    def read(self, stem: str) -> tuple[np.ndarray, np.ndarray]:
        """Return depth [H, W] and ``valid`` bool of one image."""
        path = self.files[stem]
        return read_depth_npz(path) if path.suffix == ".npz" else read_depth_png(path, self.units)


def depth_folder(path: Path) -> DepthFolder:
    """Return the depth maps (.png, .npz) of ``path`` or of its folder ``depth``.

    ``depth.json`` beside them gives ``png_units_per_depth_unit`` and ``scale``; without it PNGs hold metres times 256.
    """
    if not path.is_dir():
        raise DataError(f"{path}: expected a folder of depth maps (.png or .npz)" + ("" if path.exists() else
                        "; there is none of this name"))
    path = inside_run(path)
    folder = path / "depth" if (path / "depth").is_dir() else path
    files = _by_stem(folder, (".png", ".npz"))
    if not files:
        raise DataError(f"{folder}: holds no depth map (.png or .npz)")
    units, scale, resized_as = _depth_unit(folder)
    return DepthFolder(folder=folder, files=files, units=units, scale=scale, resized_as=resized_as)


def read_depth(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return depth [H, W] and ``valid`` bool of one file, in the unit that ``depth.json`` beside it states, if any."""
    return read_depth_npz(path) if path.suffix == ".npz" else read_depth_png(path, _depth_unit(path.parent)[0])


def common_stems(prediction: DepthFolder, truth: DepthFolder) -> list[str]:
    """Return the stems that both folders hold, in natural order; DataError when there is none."""
    common = sorted(prediction.files.keys() & truth.files.keys(), key=natural_key)
    if not common:
        sides = [f"{f.folder} holds {len(f.files)} depth maps (such as "
                 f"{f.files[min(f.files, key=natural_key)].name})" for f in (prediction, truth)]
        raise DataError(f"no names match: {sides[0]}, {sides[1]}; a prediction and its truth must have the same name "
                        f"up to the suffix")
    return common


def static_masks(path: Path) -> dict[str, Path]:
    """Return the mask images of a folder by stem: white stands still, black moves."""
    files = _by_stem(path, (".png",)) if path.is_dir() else {}
    if not files:
        raise DataError(f"{path}: expected a folder of mask images (.png, white = static)")
    return files


def read_static(files: dict[str, Path], stem: str, *, height: int, width: int) -> np.ndarray:
    """Return the mask bool [height, width] of one image; DataError where it is missing or of another size."""
    if stem not in files:
        raise DataError(f"no mask for image {stem}; every scored image needs one")
    mask = read_mask(files[stem])
    if mask.shape != (height, width):
        raise DataError(f"{files[stem]}: the mask is {mask.shape[0]}x{mask.shape[1]}, the true depth {height}x{width}; "
                        f"masks must have the size of the truth")
    return mask


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Return the files with these suffixes by stem; DataError when two share one."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file():
            if path.stem in files:
                raise DataError(f"{path}: {files[path.stem].name} has the same name; leave one of them")
            files[path.stem] = path
    return files


def _depth_unit(folder: Path) -> tuple[float, str, str]:
    """Return PNG units per unit of depth, the scale's name and what was resized, of the depth.json in a folder."""
    path = folder / SIDE_FILE
    if not path.is_file():
        return KITTI_UNITS, "unstated", "unstated"
    try:
        content: Any = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not readable as JSON: {str(error)[:80]}") from error
    units = content.get("png_units_per_depth_unit") if isinstance(content, dict) else None
    if isinstance(units, bool) or not isinstance(units, (int, float)) or not 0 < units < math.inf:
        raise DataError(f"{path}: expected a positive number 'png_units_per_depth_unit', found {str(units)[:40]}")
    scale = content.get("scale", "unstated")
    if scale not in ("relative", "metric", "unstated"):
        raise DataError(f"{path}: expected 'scale' to be relative or metric, found {str(scale)[:40]}")
    return float(units), scale, str(content.get("resized_as", "unstated"))[:40]
