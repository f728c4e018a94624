"""What lies where in the public optical-flow data sets: each function lists the shots below a root, from names alone.

Masks and flow files that are not there are left out: a test part has no truth. Both passes of FlyingThings3D and Sintel
are listed, and of stereo sets the left camera.
"""

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from egoflow.data.files import frame_number, read_text
from egoflow.data.flow_frames import FlowFiles, Shot
from egoflow.data.folders import image_files
from egoflow.errors import DataError
from egoflow.types import Pair

SPLIT_FILE = "chairs_split.txt"
_CHAIRS_IMAGE = re.compile(r"(.+)_img([0-9])\.(ppm|png)")
_KITTI_IMAGES = {"image_2": "kitti2015", "colored_0": "kitti2012", "image_0": "kitti2012"}
_MIDDLEBURY_IMAGE = re.compile(r"frame[0-9]{2}\.png")


def _names(folder: Path) -> set[str]:
    """Return the names in a folder, none where it does not exist."""
    return set(os.listdir(folder)) if folder.is_dir() else set()


def _neighbours(frames: Sequence[str]) -> list[int]:
    """Return the positions of the frames whose successor by number is the next file."""
    numbers = [frame_number(_stem(name)) for name in frames]
    return [i for i, (a, b) in enumerate(pairwise(numbers)) if a is not None and b == a + 1]


def _stem(name: str) -> str:
    """Return a file's name without its suffix."""
    return name.rpartition(".")[0]


def _found(folder: Path, name: str, names: set[str]) -> Path | None:
    """Return the file ``name`` of a folder if it is among its ``names``."""
    return folder / name if name in names else None


def _second(name: str, *, first: str, folder: Path, names: set[str]) -> str:
    """Return the name of a pair's second frame; DataError where it is missing."""
    if name not in names:
        raise DataError(f"{folder / name}: is missing; {first} is the first frame of a pair and needs it")
    return name


def _images(folder: Path) -> tuple[str, ...]:
    """Return the names of the images in a folder, in natural order."""
    return tuple(f.name for f in image_files(folder)) if folder.is_dir() else ()


def chairs(root: Path) -> list[Shot]:
    """List FlyingChairs: data/00001_img1.ppm, _img2.ppm, _flow.flo, or the same counted from _img0 (LMB's examples).

    chairs_split.txt (RAFT's repository: a line a pair, 1 = train, 2 = validation), beside data/ or in it, says what
    is held out.
    """
    folder = root / "data" if (root / "data").is_dir() else root
    names = _names(folder)
    images = sorted(m.groups() for m in map(_CHAIRS_IMAGE.fullmatch, names) if m)
    first = min((int(number) for _, number, _ in images), default=0)
    shots = []
    for stem, number, suffix in images:
        if int(number) != first:
            continue
        name = f"{stem}_img{first}.{suffix}"
        second = _second(f"{stem}_img{first + 1}.{suffix}", first=name, folder=folder, names=names)
        flow = _found(folder, f"{stem}_flow.flo", names)
        shots.append(Shot(name=f"chairs/{stem}", folder=folder, frames=(name, second),
                          flow={} if flow is None else {(0, 1): FlowFiles(flow=flow)}))
    split = next((p / SPLIT_FILE for p in (folder, folder.parent) if (p / SPLIT_FILE).is_file()), None)
    if split is None:
        return shots
    held_out = _chairs_split(split, pairs=len(shots))
    return [replace(shot, held_out=held) for shot, held in zip(shots, held_out, strict=True)]


def _chairs_split(path: Path, *, pairs: int) -> list[bool]:
    """Return for every pair in order whether it is for validation."""
    lines = read_text(path).split()
    if len(lines) != pairs or not set(lines) <= {"1", "2"}:
        raise DataError(f"{path}: expected a line a pair, 1 = train or 2 = validation; found {len(lines)} lines for "
                        f"{pairs} pairs")
    return [line == "2" for line in lines]


def things(root: Path) -> list[Shot]:
    """List FlyingThings3D (Driving, Monkaa): frames_cleanpass/…/left/0006.png and optical_flow/… beside."""
    shots = []
    for look in ("cleanpass", "finalpass"):
        for left in sorted((root / f"frames_{look}").glob("**/left")):
            inner = left.parent.relative_to(root / f"frames_{look}")
            frames = _images(left)
            if len(frames) > 1:
                shots.append(Shot(name=f"things/{look}/{inner}", folder=left, frames=frames,
                                  flow=_things_flow(root / "optical_flow" / inner, frames),
                                  held_out="TEST" in inner.parts))
    return shots


def _things_flow(folder: Path, frames: Sequence[str]) -> dict[Pair, FlowFiles]:
    """Return the flow files of the left camera, both ways."""
    future, past = folder / "into_future" / "left", folder / "into_past" / "left"
    ahead, behind = _names(future), _names(past)
    flow: dict[Pair, FlowFiles] = {}
    for i in _neighbours(frames):
        forward = _found(future, f"OpticalFlowIntoFuture_{_stem(frames[i])}_L.pfm", ahead)
        backward = _found(past, f"OpticalFlowIntoPast_{_stem(frames[i + 1])}_L.pfm", behind)
        flow |= {pair: FlowFiles(flow=file) for pair, file in (((i, i + 1), forward), ((i + 1, i), backward)) if file}
    return flow


def sintel(root: Path) -> list[Shot]:
    """List MPI-Sintel: training/clean|final/SCENE/frame_0001.png, and of training flow/, occlusions/ and invalid/."""
    shots = []
    for part in ("training", "test"):
        for look in ("clean", "final"):
            for scene in sorted(_names(root / part / look)):
                frames = _images(root / part / look / scene)
                if len(frames) > 1:
                    shots.append(Shot(name=f"sintel/{part}/{look}/{scene}", folder=root / part / look / scene,
                                      frames=frames, flow=_sintel_flow(root / part, scene, frames),
                                      held_out=part == "test"))
    return shots


def _sintel_flow(part: Path, scene: str, frames: Sequence[str]) -> dict[Pair, FlowFiles]:
    """Return the flow files of a scene."""
    folders = {kind: part / kind / scene for kind in ("flow", "occlusions", "invalid")}
    names = {kind: _names(folder) for kind, folder in folders.items()}
    flow: dict[Pair, FlowFiles] = {}
    for i in _neighbours(frames):
        stem = _stem(frames[i])
        file = _found(folders["flow"], f"{stem}.flo", names["flow"])
        occluded, invalid = (_found(folders[k], f"{stem}.png", names[k]) for k in ("occlusions", "invalid"))
        if file is not None:
            flow[i, i + 1] = FlowFiles(flow=file, occluded=occluded, invalid=invalid)
    return flow


def kitti(root: Path) -> list[Shot]:
    """List KITTI 2012 (colored_0/, else image_0/) or 2015 (image_2/): 000000_10.png to _11.png, flow_occ/, flow_noc/.

    Of the multi-view extension the other frames are left out: they have no flow.
    """
    shots = []
    for part in ("training", "testing"):
        images = next((name for name in _KITTI_IMAGES if (root / part / name).is_dir()), None)
        if images is None:
            continue
        folder, names = root / part / images, _names(root / part / images)
        known = {kind: _names(root / part / kind) for kind in ("flow_occ", "flow_noc", "obj_map")}
        for name in sorted(n for n in names if n.endswith("_10.png")):
            second = _second(name.replace("_10.", "_11."), first=name, folder=folder, names=names)
            flow, seen, movers = (_found(root / part / kind, name, known[kind]) for kind in known)
            shots.append(Shot(
                name=f"{_KITTI_IMAGES[images]}/{part}/{name.removesuffix('_10.png')}", folder=folder,
                frames=(name, second), held_out=part == "testing", movers={} if movers is None else {0: movers},
                flow={} if flow is None else {(0, 1): FlowFiles(flow=flow, unoccluded=seen)}))
    return shots


def hd1k(root: Path) -> list[Shot]:
    """List HD1K: hd1k_input/image_2/000000_0000.png (scene, frame) and hd1k_flow_gt/flow_occ/ by the same names."""
    folder, flows = root / "hd1k_input" / "image_2", root / "hd1k_flow_gt" / "flow_occ"
    scenes: defaultdict[str, list[str]] = defaultdict(list)
    for name in _images(folder):
        scenes[name.partition("_")[0]].append(name)
    names = _names(flows)
    return [Shot(name=f"hd1k/{scene}", folder=folder, frames=tuple(frames), flow={
        (i, i + 1): FlowFiles(flow=flow) for i in _neighbours(frames) if (flow := _found(flows, frames[i], names))})
        for scene, frames in scenes.items() if len(frames) > 1]


def middlebury(root: Path) -> list[Shot]:
    """List Middlebury: folders of frame10.png, frame11.png with flow10.flo among them or in other-gt-flow/SCENE/.

    ``root`` is such a folder, a folder of them, or what holds other-data/ and eval-data/ (its test part).
    """
    shots = []
    below = (folder for pattern in ("*", "other-data/*", "eval-data/*") for folder in sorted(root.glob(pattern)))
    for folder in (root, *below):
        frames = tuple(name for name in _images(folder) if _MIDDLEBURY_IMAGE.fullmatch(name))
        beside = (folder / "flow10.flo", folder.parent.parent / "other-gt-flow" / folder.name / "flow10.flo")
        flow = next((f for f in beside if f.is_file()), None)
        first = next((i for i in _neighbours(frames) if frames[i] == "frame10.png"), None)
        if first is not None:
            shots.append(Shot(name=f"middlebury/{folder.name}", folder=folder, frames=frames,
                              flow={} if flow is None else {(first, first + 1): FlowFiles(flow=flow)},
                              held_out=folder.parent.name == "eval-data"))
    return shots
