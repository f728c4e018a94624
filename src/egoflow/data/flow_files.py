"""Flow of a prediction as a file, in the format that was asked for."""

from pathlib import Path
from typing import Literal

import numpy as np

from egoflow.data.formats import write_flo, write_flow_png

FlowFormat = Literal["flo", "kitti"]


def write_flow_file(path: Path, flow: np.ndarray, *, format: FlowFormat) -> None:
    """Write flow [H, W, 2] in pixels as ``path`` with an ending of its own: Middlebury's .flo, or KITTI's .png."""
    if format == "flo":
        write_flo(path.with_name(path.name + ".flo"), flow)
    else:
        write_flow_png(path.with_name(path.name + ".png"), flow)
