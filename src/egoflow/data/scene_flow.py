"""Files of scene flow: how far the point behind each pixel moves by itself from one frame to the next.

Convention: [H, W, 3] on the pixel grid of frame a, x, y, z in the axes of camera a, the camera's own motion removed, in
the unit of the scene (metres, where it has a scale): what still stands has 0.
"""

from pathlib import Path

import numpy as np

from egoflow.data.formats import read_npz, read_pfm, write_npz
from egoflow.errors import DataError

SUFFIXES = (".npz", ".pfm")
UNKNOWN = 1e9
"""What is not below this is unknown, as in flow files."""


def read_scene_flow(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Return scene flow [H, W, 3] float32 and ``valid`` bool [H, W] of an .npz or a .pfm of 3 channels.

    An .npz holds ``scene_flow`` and, if present, ``valid``; NaN and what is beyond 1e9 are unknown in both. Raises
    DataError that names the file.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: expected scene flow as .npz (array 'scene_flow' [H, W, 3]) or .pfm of 3 channels")
    arrays = read_npz(path) if suffix == ".npz" else {"scene_flow": read_pfm(path)}
    flow = arrays.get("scene_flow")
    if flow is None or flow.ndim != 3 or flow.shape[2] != 3 or 0 in flow.shape:
        found = {name: value.shape for name, value in arrays.items()}
        raise DataError(f"{path}: expected an array 'scene_flow' [H, W, 3], found {found}")
    valid = arrays.get("valid", np.ones(flow.shape[:2], bool))
    if valid.shape != flow.shape[:2]:
        raise DataError(f"{path}: 'valid' is {valid.shape} but 'scene_flow' is {flow.shape}")
    good = np.asarray(valid.astype(bool) & (np.abs(flow) < UNKNOWN).all(axis=2))
    return np.where(good[..., None], flow, 0).astype(np.float32), good


def write_scene_flow(path: str | Path, flow: np.ndarray, valid: np.ndarray | None = None) -> None:
    """Write scene flow [H, W, 3] as float32, and what of it is valid, to an .npz; what is not valid becomes 0."""
    if flow.ndim != 3 or flow.shape[2] != 3 or 0 in flow.shape:
        raise DataError(f"{path}: expected an array [H, W, 3] to write, got {flow.shape}")
    good = np.asarray(np.isfinite(flow).all(axis=2) & (True if valid is None else valid))
    write_npz(path, scene_flow=np.where(good[..., None], flow, 0).astype(np.float32), valid=good)
