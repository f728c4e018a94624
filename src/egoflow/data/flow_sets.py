"""Public optical-flow data sets, found by what lies at or above a path."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from egoflow.data import flow_layouts
from egoflow.data.flow_frames import Shot


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A data set: how its shots are listed and ``marks``, patterns one of which is found in its root.

    A path in it lies at most ``depth`` folders below the root. ``held_out`` names what is held out where that has no
    folder of its own.
    """

    title: str
    shots: Callable[[Path], list[Shot]]
    marks: tuple[str, ...]
    depth: int
    held_out: str = ""

    def is_root(self, folder: Path) -> bool:
        """Say whether the data set begins at ``folder``."""
        return folder.is_dir() and any(next(folder.glob(mark), None) is not None for mark in self.marks)


LAYOUTS = (
    Layout(title="FlyingThings3D", shots=flow_layouts.things, marks=("frames_cleanpass", "frames_finalpass"), depth=6),
    Layout(title="MPI-Sintel", shots=flow_layouts.sintel, depth=4,
           marks=tuple(f"{part}/{look}/*/frame_*.png" for part in ("training", "test") for look in ("clean", "final"))),
    Layout(title="KITTI", shots=flow_layouts.kitti, depth=3,
           marks=tuple(f"{part}/{images}/*_10.png" for part in ("training", "testing")
                       for images in ("image_2", "colored_0", "image_0"))),
    Layout(title="HD1K", shots=flow_layouts.hd1k, marks=("hd1k_input/image_2",), depth=3),
    Layout(title="Middlebury", shots=flow_layouts.middlebury, depth=3,
           marks=("flow10.flo", "*/flow10.flo", "other-data/*/frame10.png", "eval-data/*/frame10.png")),
    Layout(title="FlyingChairs", shots=flow_layouts.chairs, marks=("data/*_flow.flo", "*_flow.flo"), depth=2,
           held_out="validation"),
)


def find_shots(path: str | Path) -> tuple[str, list[Shot]]:
    """Return the title of the data set that ``path`` is or lies in, and its shots at or below; ("", []) if in none.

    What a set holds out (test parts, validation pairs of chairs_split.txt) is left out unless there is nothing else:
    …/Sintel/test, …/KITTI/testing, and for FlyingChairs, whose split has no folders, …/FlyingChairs/validation.
    """
    path = Path(os.path.abspath(path))
    for layout in LAYOUTS:
        for root in (path, *path.parents)[:layout.depth + 1]:
            if layout.is_root(root) and (shots := _below(path, root, layout)):
                return layout.title, shots
    return "", []


def _below(path: Path, root: Path, layout: Layout) -> list[Shot]:
    """Return the shots at or below ``path``, those for training if any is."""
    shots = layout.shots(root)
    if layout.held_out and path == root / layout.held_out:
        return [s for s in shots if s.held_out]
    if path != root:
        shots = [s for s in shots if s.is_at(path)]
    return [s for s in shots if not s.held_out] or shots
