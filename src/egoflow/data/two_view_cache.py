"""The two-view start of a source's pairs at working size, computed once and kept on disk."""

import contextlib
import hashlib
import os
from pathlib import Path

import numpy as np
import torch

from egoflow.geometry.pixels import resize_flow, resize_mask
from egoflow.geometry.se3 import SE3
from egoflow.geometry.two_view import PairGeometry, pair_geometry
from egoflow.types import FrameSource, TwoView

VERSION = 4
"""Raise when geometry/two_view.py changes its answers, so that old files are not used."""


MEMORY_BYTES = 2**30
"""Pairs that are on disk are kept in memory up to about this size: 9 bytes a pixel, and what holds them."""


class TwoViewCache:
    """Answer ``(source, a, b) -> TwoView`` on the grid of ``height`` x ``width``, batch of 1.

    Both directions of a pair are computed together. With a ``folder`` the answers are kept in files named by a hash of
    the two images, the camera and the size: a changed clip never meets an old answer, and a damaged file is made anew.
    """

    def __init__(self, *, height: int, width: int, folder: Path | None = None) -> None:
        self.height, self.width, self.folder = height, width, folder
        self._memory: dict[tuple[str, int, int], TwoView] = {}
        self._images: dict[tuple[str, int], np.ndarray] = {}

    def __call__(self, source: FrameSource, a: int, b: int) -> TwoView:
        """Return the two-view start of the pair (a, b) of frame indices of ``source``."""
        if (source.name, a, b) not in self._memory:
            first, second = min(a, b), max(a, b)
            for key, view in zip(((first, second), (second, first)), self._both(source, first, second), strict=True):
                self._memory[source.name, *key] = view
            while self.folder is not None and len(self._memory) * 13 * self.height * self.width > MEMORY_BYTES:
                # The oldest pair goes: its file answers when it is asked for again.
                self._memory.pop(next(iter(self._memory)))
                self._memory.pop(next(iter(self._memory)))
        return self._memory[source.name, a, b]

    def _both(self, source: FrameSource, a: int, b: int) -> tuple[TwoView, TwoView]:
        """Return (a, b) and (b, a), from disk if they are there."""
        image_a, image_b = self._image(source, a), self._image(source, b)
        path = self._path(source, image_a, image_b)
        if path is not None and (found := _read(path)) is not None:
            return found
        both = tuple(self._resized(g) for g in pair_geometry(image_a, image_b, source.camera))
        if path is not None:
            _write(path, both)
        return both[0], both[1]

    def _image(self, source: FrameSource, index: int) -> np.ndarray:
        """Return a frame, keeping the last few: neighbouring pairs share them."""
        key = (source.name, index)
        if key not in self._images:
            while len(self._images) >= 4:
                self._images.pop(next(iter(self._images)))
            self._images[key] = source.image(index)
        return self._images[key]

    def _path(self, source: FrameSource, image_a: np.ndarray, image_b: np.ndarray) -> Path | None:
        """Return the file that answers for these images, camera and size."""
        if self.folder is None:
            return None
        camera = source.camera
        numbers = [float(v) for v in (camera.fx, camera.fy, camera.cx, camera.cy)]
        question = repr((VERSION, self.height, self.width, numbers, image_a.shape))
        digest = hashlib.blake2b(question.encode(), digest_size=16)
        digest.update(np.ascontiguousarray(image_a).data)
        digest.update(np.ascontiguousarray(image_b).data)
        return self.folder / f"{digest.hexdigest()}.npz"

    def _resized(self, geometry: PairGeometry) -> TwoView:
        """Return the geometry on the working grid."""
        flow = torch.from_numpy(geometry.flow_ab.astype(np.float32)).permute(2, 0, 1)[None]
        usable = torch.from_numpy(geometry.usable)[None, None]
        rotation, direction = (torch.from_numpy(v).float()[None] for v in (geometry.rotation, geometry.direction))
        return TwoView(
            flow_ab=resize_flow(flow, height=self.height, width=self.width),
            usable=resize_mask(usable, height=self.height, width=self.width),
            b_from_a=SE3(rotation, direction),
            weight=torch.tensor([geometry.weight], dtype=torch.float32))


def _write(path: Path, both: tuple[TwoView, ...]) -> None:
    """Write both directions whole or not at all; a cache that cannot be written is no error."""
    arrays = {f"{side}_{name}": value.numpy() for side, view in zip("fb", both, strict=True) for name, value in (
        ("flow", view.flow_ab), ("usable", view.usable), ("R", view.b_from_a.R), ("t", view.b_from_a.t),
        ("weight", view.weight))}
    temporary = path.with_name(path.name + f".{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _read(path: Path) -> tuple[TwoView, TwoView] | None:
    """Return both directions from a file, or None where there is none or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {k: torch.from_numpy(file[k]) for k in file.files}
        views = [TwoView(flow_ab=arrays[f"{s}_flow"], usable=arrays[f"{s}_usable"],
                         b_from_a=SE3(arrays[f"{s}_R"], arrays[f"{s}_t"]), weight=arrays[f"{s}_weight"]) for s in "fb"]
    except Exception:  # noqa: BLE001  a damaged zip raises many kinds; the answer is the same: compute it again
        return None
    return views[0], views[1]
