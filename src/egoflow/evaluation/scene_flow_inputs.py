"""The files of an evaluation of scene flow: fields, masks of what stands still, and depth maps to find the scale by."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from egoflow.data.formats import read_mask
from egoflow.data.scene_flow import SUFFIXES, read_scene_flow
from egoflow.errors import DataError
from egoflow.evaluation.inputs import inside_run, read_depth
from egoflow.evaluation.named_files import Named, agree, common_names, inner_folders, listed, refuse_single
from egoflow.evaluation.scene_flow import Scaling

INNER = "scene_flow"
Field = tuple[np.ndarray, np.ndarray]
"""Scene flow [3, H, W] and where it is known, bool [H, W]."""


def scene_flow_files(path: Path) -> Named[Path]:
    """Return scene flow (.npz, .pfm): a file, a folder, or one that holds ``scene_flow`` (a prediction, a world)."""
    path = inside_run(path)
    clip = any((path / name).exists() for name in ("prediction.json", "world.json"))
    if clip and not inner_folders(path, INNER):
        raise DataError(f"{path}: holds no folder {INNER}; what wrote it knows of no scene flow")
    return listed(path, SUFFIXES, what="scene flow file", inner=INNER)


def depth_files(path: Path, *, scale: Scaling) -> Named[Path]:
    """Return the depth maps (``depth``) beside the scene flow of ``path``; DataError where there are none."""
    folder = _around(path)
    if not inner_folders(folder, "depth"):
        raise DataError(f"{folder}: holds no folder depth, which --scale {scale} finds the scale by; give the folder "
                        f"with {INNER}/ and depth/, or --scale none for one unit of length in both")
    return listed(folder, (".png", ".npz"), what="depth map", inner="depth")


def static_files(path: Path, *, given: bool) -> Named[Path] | None:
    """Return masks (white = static): the ``given`` ones, or those beside the true scene flow of ``path``, if any."""
    folder = _around(path)
    if given or inner_folders(folder, "static"):
        return listed(path if given else folder, (".png",), what="mask", inner="static")
    return None


def _around(path: Path) -> Path:
    """Return the folder that holds the folder of scene flow."""
    path = inside_run(path)
    return path.parent if path.name == INNER else path


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneFlowPair:
    """What is compared of one pair: prediction and truth, and which pixels stand still where it is known."""

    prediction: Field
    truth: Field
    static: np.ndarray | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneFlowComparison:
    """All files of an evaluation; ``depths`` are the predicted and the true ones, None where nothing is scaled."""

    prediction: Named[Path]
    truth: Named[Path]
    static: Named[Path] | None = None
    depths: tuple[Named[Path], Named[Path]] | None = None

    def names(self) -> list[str]:
        """Return the pairs that both hold, in natural order; DataError when there is none."""
        common = common_names(self.truth, [self.prediction])
        refuse_single((self.static,), common)
        return common

    def describe(self) -> dict[str, str]:
        """Return what was matched with what, for the table."""
        return {"files": f"by name, of {self.truth.count()} of the truth, {self.prediction.count()}"}

    def factors(self, names: list[str], *, scale: Scaling) -> dict[str, float]:
        """Return by pair what its prediction is to be multiplied by, from depth alone: scene flow hides no error so."""
        if self.depths is None:
            return dict.fromkeys(names, 1.0)
        found = {name: _factor(*(side.of(name) for side in self.depths)) for name in names}
        return found if scale == "pair" else dict.fromkeys(names, float(np.median(list(found.values()))))

    def read(self, name: str) -> SceneFlowPair:
        """Return one pair; DataError where sizes differ or a file is missing or damaged."""
        path, true_path = self.prediction.of(name), self.truth.of(name)
        prediction, truth = _read(path), _read(true_path)
        agree(path, prediction[1].shape, true_path, truth[1].shape)
        static = None
        if self.static is not None:
            file = self.static.of(name)
            static = read_mask(file)
            agree(file, static.shape, true_path, truth[1].shape)
        return SceneFlowPair(prediction=prediction, truth=truth, static=static)


def _factor(path: Path, true_path: Path) -> float:
    """Return the median true over the median predicted depth, of the pixels that have both. (Liang 2025)"""
    (depth, valid), (truth, known) = read_depth(path), read_depth(true_path)
    agree(path, depth.shape, true_path, truth.shape)
    both = valid & known
    if not both.any():
        raise DataError(f"{path}: shares no pixel of known depth with {true_path}; no scale can be found")
    return float(np.median(truth[both].astype(np.float64)) / np.median(depth[both].astype(np.float64)))


def _read(path: Path) -> Field:
    """Return a file of scene flow as [3, H, W] and what of it is known."""
    flow, known = read_scene_flow(path)
    return np.moveaxis(flow, 2, 0), known
