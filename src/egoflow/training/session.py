"""From a run's configuration to what the trainer needs: sources, clips, the two-view start."""

import difflib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import yaml

from egoflow.config import DataConfig, Run
from egoflow.console import note, track
from egoflow.data.clips import ClipDataset, split
from egoflow.data.eigen import read_static_frames, static_indices
from egoflow.data.open import FrameSlice, open_source, parse_frames
from egoflow.data.two_view_cache import TwoViewCache
from egoflow.errors import ConfigError, DataError
from egoflow.registry import load_method
from egoflow.types import Clip, FrameSource
from egoflow.worlds.base import available_worlds, load_world

WORLD = "world:"
HELD_OUT_CLIPS = 32
"""At most so many held-out clips are scored at every save."""


def open_sources(data: DataConfig) -> list[FrameSource]:
    """Open every path of the data set; ``world:drive?seed=3&frames=60`` renders on the fly.

    Raises ConfigError when there is none.
    """
    if not data.paths:
        raise ConfigError(f"no data to train on; give --data CLIP (a video, a folder, or "
                          f"{WORLD}{difflib.get_close_matches('drive', available_worlds(), 1)[0]})")
    sources = [_world(path, data) if path.startswith(WORLD)
               else open_source(path, camera=data.camera, frames=data.frames) for path in data.paths]
    # What is known of a source is kept by its name: two clips called video.mp4 must not share it.
    shared = {name for name, count in Counter(s.name for s in sources).items() if count > 1}
    for number, (path, source) in enumerate(zip(data.paths, sources, strict=True)):
        if source.name in shared:
            source.name = f"{path}#{number}" if data.paths.count(path) > 1 else path
    return sources


def _world(path: str, data: DataConfig) -> FrameSource:
    """Return the world of ``world:NAME?option=value&…`` at the working size unless it says another."""
    name, _, query = path.removeprefix(WORLD).partition("?")
    options: dict[str, Any] = {"seed": 0, "frames": 100, "height": data.height, "width": data.width}
    try:
        options |= {key: yaml.safe_load(value) for key, value in parse_qsl(query, strict_parsing=bool(query))}
    except (ValueError, yaml.YAMLError):
        raise ConfigError(f"{path}: expected {WORLD}{name or 'NAME'}?option=value&option=value, in quotes for the shell"
                          ) from None
    world = load_world(name, **options)
    if data.frames is None:
        return world
    return FrameSlice(world, parse_frames(data.frames, length=len(world), name=path))


def split_sources(data: DataConfig, sources: list[FrameSource]) -> tuple[list[FrameSource], list[FrameSource]]:
    """Return the sources to train on and those held out, which share no frame; none are where ``validation`` is 0."""
    if data.validation == 0:
        return sources, []
    parts = [split(source, validation=data.validation) for source in sources]
    return [training for training, _ in parts], [held_out for _, held_out in parts]


def make_dataset(run: Run, sources: list[FrameSource], *, cache: Path | None) -> ClipDataset:
    """Return the training clips of ``sources``; the two-view start, if wanted, is read from ``cache`` or computed."""
    start = None
    if run.start == "two_view":
        start = TwoViewCache(height=run.data.height, width=run.data.width, folder=cache)
    return _clips(run, sources, stride=run.data.stride, start=start)


def make_held_out(run: Run, sources: Sequence[FrameSource]) -> list[Clip]:
    """Return clips of held-out sources, evenly spread, as they are; none of none."""
    if not sources:
        return []
    dataset = _clips(run, sources, stride=1, start=None)
    count = min(len(dataset), HELD_OUT_CLIPS)
    return [dataset[(2 * i + 1) * len(dataset) // (2 * count)] for i in range(count)]


def _clips(run: Run, sources: Sequence[FrameSource], *, stride: int, start: TwoViewCache | None) -> ClipDataset:
    data, method = run.data, load_method(run.method).method_type(run.config)
    static = read_static_frames(data.static_frames) if data.static_frames is not None else {}
    return ClipDataset(sources, length=method.clip_length, target=method.target, height=data.height, width=data.width,
                       gap=data.gap, stride=stride, augment=data.augment, on_broken=data.on_broken, start=start,
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
