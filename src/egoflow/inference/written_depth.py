"""Depth as a prediction folder holds it, read back."""

import json
from pathlib import Path

import numpy as np

from egoflow.data.formats import read_depth_npz, read_depth_png


def read_inv_depth(prediction: Path, name: str) -> np.ndarray | None:
    """Return the inverse depth [H, W] of a frame, NaN where unknown or too far to tell; None where none was written."""
    png, npz = (prediction / "depth" / f"{name}{ending}" for ending in (".png", ".npz"))
    if npz.is_file():
        depth, valid = read_depth_npz(npz)
    elif png.is_file():
        side = json.loads((prediction / "depth" / "depth.json").read_text("utf-8"))
        depth, valid = read_depth_png(png, side["png_units_per_depth_unit"])
        # What is farther than 16 bits reach is written as the largest.
        valid = valid & (depth < side.get("largest", np.inf) * (1 - 1e-6))
    else:
        return None
    return np.where(valid, 1 / np.maximum(depth, 1e-9), np.nan)
