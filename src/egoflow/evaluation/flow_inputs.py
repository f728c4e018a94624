"""The files of a flow evaluation: flows, masks, confidences and images, matched by the name of their pair."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from egoflow.data.folders import IMAGE_FOLDERS, image_files
from egoflow.data.formats import read_flow, read_image, read_mask, read_pfm
from egoflow.errors import DataError
from egoflow.evaluation.flow_baselines import baseline_flow
from egoflow.evaluation.inputs import inside_run
from egoflow.evaluation.named_files import Named, agree, common_names, inner_folders, listed, pair_name, refuse_single

FLOW_SUFFIXES = (".flo", ".pfm", ".png")
"""In this order: a folder of the FlyingChairs holds its images (.png) beside the flows."""
Flow = tuple[np.ndarray, np.ndarray]
"""Flow [2, H, W] in pixels and where it is known, bool [H, W]."""


def flow_files(path: Path) -> Named[Path]:
    """Return the flow files (.flo, KITTI's .png, .pfm) that a file, a folder or a folder that holds ``flow`` means.

    Of a folder and all below it one format is taken, the first of FLOW_SUFFIXES that is there.
    """
    return listed(inside_run(path), FLOW_SUFFIXES, what="flow", inner="flow")


def mask_files(path: Path) -> Named[Path]:
    """Return mask images (.png) by pair."""
    return listed(path, (".png",), what="mask")


def confidence_files(path: Path) -> Named[Path]:
    """Return confidence maps (.pfm, or .png) by pair."""
    return listed(path, (".pfm", ".png"), what="confidence map")


def true_flow_files(path: Path) -> tuple[Named[Path], Named[Path] | None]:
    """Return the true flows that ``path`` means, and the masks of what is visible that lie beside them, if any.

    A folder written by 'egoflow predict' keeps its truth in ``truth`` and ``truth_visible``, a rendered world (and each
    in a folder of worlds) in ``flow`` and ``visible``.
    """
    path = inside_run(path)
    folder = path.parent if path.name == "truth" and (path.parent / "truth_visible").is_dir() else path
    for name, masks in (("truth", "truth_visible"), ("flow", "visible")):
        if inner_folders(folder, name):
            visible = listed(folder, (".png",), what="mask", inner=masks) if inner_folders(folder, masks) else None
            return listed(folder, FLOW_SUFFIXES, what="flow", inner=name), visible
    return flow_files(path), None


def predicted_confidence(path: Path) -> Named[Path] | None:
    """Return the maps that a folder written by 'egoflow predict' holds in ``confidence`` beside ``flow``, or None."""
    path = inside_run(path)
    written = all((path / name).is_dir() for name in ("flow", "confidence"))
    return confidence_files(path / "confidence") if written else None


def image_pairs(paths: list[Path]) -> Named[tuple[Path, Path]]:
    """Return image pairs by the name of their first image.

    Two files are a pair; two folders are matched by name, or in order where they hold equally many; of one folder (a
    clip's ``image`` too) the frames are paired as FlyingChairs names them, else each with the next.
    """
    if len(paths) == 2 and all(path.is_file() for path in paths):
        name = pair_name(paths[0], paths[0].parent)
        return Named(where=paths[0], what="image pair", items={name: (paths[0], paths[1])}, single=True)
    if not paths or len(paths) > 2 or not all(path.is_dir() for path in paths):
        names = " ".join(map(str, paths))
        raise DataError(f"{names}: expected two image files, two folders, or one folder of frames")
    pairs = dict(_between(*paths) if len(paths) == 2 else _within(paths[0]))
    if not pairs:
        raise DataError(f"{paths[0]}: holds no pair of images")
    return Named(where=paths[0], what="image pair", items=pairs)


def _between(first: Path, second: Path) -> Iterator[tuple[str, tuple[Path, Path]]]:
    """Yield the pairs of two folders."""
    a, b = image_files(first), image_files(second)
    by_stem = {file.stem: file for file in b}
    common = [(file, by_stem[file.stem]) for file in a if file.stem in by_stem]
    if not common and len(a) != len(b):
        raise DataError(f"{first} holds {len(a)} images, {second} {len(b)}, and no names match; give as many of each")
    for image_a, image_b in common or zip(a, b, strict=True):
        yield pair_name(image_a, first), (image_a, image_b)


def _within(folder: Path) -> Iterator[tuple[str, tuple[Path, Path]]]:
    """Yield the pairs of frames of a folder (of its ``image``, where it is a clip), and of the folders below it."""
    clip = next((folder / name for name in IMAGE_FOLDERS if (folder / name).is_dir()), None)
    files = image_files(clip or folder)
    chairs = any(re.search(r"_img[0-9]$", file.stem) for file in files)
    for a, b in pairwise(files):
        if not chairs or pair_name(a, a.parent) == pair_name(b, b.parent):
            yield pair_name(a, a.parent), (a, b)
    for below in [] if clip else sorted(f for f in folder.iterdir() if f.is_dir()):
        yield from ((f"{below.name}_{name}", pair) for name, pair in _within(below))


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowPair:
    """What is compared of one pair: its truth, the flow of each row, and what is known of its pixels."""

    name: str
    truth: Flow
    flows: dict[str, Flow]
    visible: np.ndarray | None = None
    confidence: np.ndarray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowComparison:
    """All files of an evaluation. ``noc`` are flows of visible pixels alone (KITTI), ``occluded`` masks (white =
    occluded, Sintel), ``visible`` masks (white = visible, egoflow's worlds); one of the three at most.
    """

    truth: Named[Path]
    prediction: Named[Path] | None = None
    baselines: tuple[str, ...] = ()
    images: Named[tuple[Path, Path]] | None = None
    noc: Named[Path] | None = None
    occluded: Named[Path] | None = None
    visible: Named[Path] | None = None
    confidence: Named[Path] | None = None

    def names(self) -> list[str]:
        """Return the pairs that truth, prediction and images all hold, in natural order; DataError when none is."""
        common = common_names(self.truth, [side for side in (self.prediction, self.images) if side is not None])
        refuse_single((self.noc, self.occluded, self.visible, self.confidence), common)
        return common

    def describe(self) -> dict[str, str]:
        """Return what was matched with what, for the table."""
        sides = [side.count() for side in (self.prediction, self.images) if side is not None]
        return {"files": f"by name, of {', '.join([f'{self.truth.count()} of the truth', *sides])}"}

    def read(self, name: str) -> FlowPair:
        """Return a pair's flows; DataError where sizes differ or a file is missing or damaged."""
        path = self.truth.of(name)
        truth = _read_flow(path)
        size = truth[1].shape
        flows: dict[str, Flow] = {}
        if self.prediction is not None:
            predicted = self.prediction.of(name)
            flows["prediction"] = _read_flow(predicted)
            agree(predicted, flows["prediction"][1].shape, path, size)
        if self.images is not None:
            files = self.images.of(name)
            images = [read_image(file) for file in files]
            for file, image in zip(files, images, strict=True):
                agree(file, image.shape[:2], path, size)
            flows |= {row: baseline_flow(row, *images) for row in self.baselines if row != "zero"}
        if "zero" in self.baselines:
            flows["zero"] = np.zeros_like(truth[0]), np.ones(size, bool)
        return FlowPair(name=name, truth=truth, flows=flows, visible=self._visible(name, path, size),
                        confidence=self._confidence(name, path, size))

    def _visible(self, name: str, truth: Path, size: tuple[int, ...]) -> np.ndarray | None:
        """Return the pixels that are not occluded, where it is known."""
        for side, inverted in ((self.noc, False), (self.occluded, True), (self.visible, False)):
            if side is not None:
                file = side.of(name)
                mask = _read_flow(file)[1] if side is self.noc else read_mask(file)
                agree(file, mask.shape, truth, size)
                return ~mask if inverted else mask
        return None

    def _confidence(self, name: str, truth: Path, size: tuple[int, ...]) -> np.ndarray | None:
        """Return the confidence in the prediction, where it is given."""
        if self.confidence is None:
            return None
        file = self.confidence.of(name)
        value = read_pfm(file) if file.suffix.lower() == ".pfm" else read_image(file)[..., 0]
        agree(file, value.shape, truth, size)
        return value


def _read_flow(path: Path) -> Flow:
    """Return a flow file as [2, H, W] and what of it is known."""
    flow, known = read_flow(path)
    return np.moveaxis(flow, 2, 0), known
