"""From a run's configuration to what the trainer needs: sources, clips, the two-view start."""

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import yaml

from egoflow.config import DataConfig, Run
from egoflow.console import note, track
from egoflow.data.affine import affine_settings
from egoflow.data.cameras import UnknownCameraError
from egoflow.data.clips import ClipDataset, split
from egoflow.data.eigen import read_static_frames, static_indices
from egoflow.data.open import FrameSlice, open_shots, parse_frames
from egoflow.data.two_view_cache import TwoViewCache
from egoflow.errors import ConfigError, DataError
from egoflow.registry import load_method
from egoflow.types import Clip, FrameSource
from egoflow.worlds.base import available_worlds, load_world

WORLD = "world:"
HELD_OUT_CLIPS = 32
"""At most so many held-out clips are scored at every save."""
MANY, SHORT = 10, 60
"""Of so many scenes whole ones are held out where the shortest has fewer frames than that."""
STAND_IN_CAMERA = "fov=60"
"""What methods that never look at the camera are given for footage that brings none."""


def open_sources(data: DataConfig, *, needs_camera: bool = True) -> list[FrameSource]:
    """Open every path of the data set; ``world:drive?seed=3&frames=60`` renders on the fly.

    Without ``needs_camera`` footage that brings no intrinsics is taken all the same. Raises ConfigError when there is
    no path.
    """
    if not data.paths:
        raise ConfigError(f"no data to train on; give --data CLIP (a video, a folder, or "
                          f"{WORLD}{difflib.get_close_matches('drive', available_worlds(), 1)[0]})")
    opened = [(path, source) for path in data.paths for source in _opened(path, data, needs_camera=needs_camera)]
    # What is known of a source is kept by its name: two clips called video.mp4 must not share it.
    names, paths = Counter(source.name for _, source in opened), Counter(path for path, _ in opened)
    for number, (path, source) in enumerate(opened):
        if names[source.name] > 1:
            source.name = f"{path}#{number}" if paths[path] > 1 else path
    return [source for _, source in opened]


def open_known(data: DataConfig) -> tuple[list[FrameSource], bool]:
    """Open as ``open_sources`` does, and say whether the intrinsics are known; a stand-in is where they are not."""
    try:
        return open_sources(data), True
    except UnknownCameraError:
        return open_sources(data, needs_camera=False), False


def _opened(path: str, data: DataConfig, *, needs_camera: bool) -> list[FrameSource]:
    """Return the sources of one path."""
    if path.startswith(WORLD):
        return _worlds(path, data)
    try:
        return open_shots(path, camera=data.camera, frames=data.frames)
    except UnknownCameraError:
        if needs_camera:
            raise
        return open_shots(path, camera=STAND_IN_CAMERA, frames=data.frames)


def _worlds(path: str, data: DataConfig) -> list[FrameSource]:
    """Return the worlds of ``world:NAME?option=value&…`` at the working size unless it says another.

    ``scenes=8`` gives eight of them, with this seed and those that follow.
    """
    name, _, query = path.removeprefix(WORLD).partition("?")
    options: dict[str, Any] = {"seed": 0, "height": data.height, "width": data.width}
    try:
        options |= {key: yaml.safe_load(value) for key, value in parse_qsl(query, strict_parsing=bool(query))}
    except (ValueError, yaml.YAMLError):
        raise ConfigError(f"{path}: expected {WORLD}{name or 'NAME'}?option=value&option=value, in quotes for the shell"
                          ) from None
    scenes = options.pop("scenes", 1)
    if type(scenes) is not int or not 1 <= scenes <= 100_000 or type(options["seed"]) is not int:
        raise ConfigError(f"{path}: scenes must be a whole number from 1 to 100000 and seed a whole number")
    worlds: list[FrameSource] = []
    for number in range(scenes):
        world = load_world(name, **{**options, "seed": options["seed"] + number})
        worlds.append(world if data.frames is None else
                      FrameSlice(world, parse_frames(data.frames, length=len(world), name=path)))
    return worlds


def split_sources(data: DataConfig, sources: list[FrameSource]) -> tuple[list[FrameSource], list[FrameSource]]:
    """Return the sources to train on and those held out, which share no frame; none are where ``validation`` is 0.

    Of a set of pairs or short scenes whole scenes are held out, evenly spread; of longer footage, the ends of parts.
    """
    if data.validation == 0:
        return sources, []
    scenes = list(dict.fromkeys(map(_scene, sources)))
    if len(scenes) >= MANY and min(map(len, sources)) < SHORT:
        count = max(1, round(len(scenes) * data.validation))
        held = {scenes[(2 * i + 1) * len(scenes) // (2 * count)] for i in range(count)}
        return [s for s in sources if _scene(s) not in held], [s for s in sources if _scene(s) in held]
    parts = [split(source, validation=data.validation) for source in sources]
    return [training for training, _ in parts], [held_out for _, held_out in parts]


def _scene(source: FrameSource) -> str:
    """Return the name without the pass: Sintel's clean and final frames, and those of FlyingThings, show one scene."""
    return re.sub(r"(^|/)(frames_)?(clean|final)(pass)?(?=/|$)", "", source.name)


def make_dataset(run: Run, sources: list[FrameSource], *, cache: Path | None) -> ClipDataset:
    """Return the training clips of ``sources``; the two-view start, if wanted, is read from ``cache`` or computed."""
    start = None
    if run.start == "two_view":
        start = TwoViewCache(height=run.data.height, width=run.data.width, folder=cache)
    return _clips(run, sources, stride=run.data.stride, start=start)


def make_held_out(run: Run, sources: Sequence[FrameSource]) -> list[Clip]:
    """Return clips of held-out sources, evenly spread, as they are, with what truth they have; none of none."""
    if not sources:
        return []
    dataset = _clips(run, sources, stride=1, start=None, with_truth=True)
    count = min(len(dataset), HELD_OUT_CLIPS)
    return [dataset[(2 * i + 1) * len(dataset) // (2 * count)] for i in range(count)]


def _clips(run: Run, sources: Sequence[FrameSource], *, stride: int, start: TwoViewCache | None,
           with_truth: bool = False) -> ClipDataset:
    data, method = run.data, load_method(run.method).method_type(run.config)
    if method.needs_camera and (named := affine_settings(data.augment)):
        raise ConfigError(f"data.augment.{named[0]} moves pixels as no camera does, and {run.method} learns from the "
                          "camera's motion; leave it out")
    static = read_static_frames(data.static_frames) if data.static_frames is not None else {}
    return ClipDataset(sources, length=method.clip_length, target=method.target, height=data.height, width=data.width,
                       gap=data.gap, stride=stride, augment=data.augment, crop=data.crop, on_broken=data.on_broken,
                       start=start, with_truth=with_truth or method.supervised,
                       exclude=lambda source: static_indices(source, static))


def prepare_start(dataset: ClipDataset) -> None:
    """Compute every pair of the two-view start before training, and say how many pairs give no direction."""
    start = dataset.start
    if start is None:
        return
    pairs = dict.fromkeys((id(source), source, frames[dataset.target], frame) for source, frames in dataset.windows()
                          for frame in frames if frame != frames[dataset.target])
    degenerate = 0
    for _, source, a, b in track(list(pairs), label="two-view start"):
        try:
            degenerate += int(start(source, a, b).weight.item() == 0)
        except DataError as error:
            if dataset.on_broken == "refuse":
                raise
            dataset.report(error)
    if degenerate == len(pairs):
        note(f"two-view start: none of the {len(pairs)} pairs of frames tells a direction of motion: the camera stands "
             f"still or only turns, which teaches no depth (try --set data.gap=3), or the images are very small")
    elif degenerate:
        note(f"two-view start: {degenerate} of {len(pairs)} pairs give no direction of motion (still, turning only, or "
             f"moving objects); they teach nothing but their rotation")
