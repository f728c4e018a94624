"""From a run's configuration to what the trainer needs: sources, clips, the two-view start."""

import difflib
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import yaml

from egoflow.config import DataConfig, Run
from egoflow.console import note, track
from egoflow.data.clips import ClipDataset
from egoflow.data.open import open_source
from egoflow.data.two_view_cache import TwoViewCache
from egoflow.errors import ConfigError, DataError
from egoflow.registry import load_method
from egoflow.types import FrameSource
from egoflow.worlds.base import available_worlds, load_world

WORLD = "world:"


def open_sources(data: DataConfig) -> list[FrameSource]:
    """Open every path of the data set; ``world:drive?seed=3&frames=60`` renders on the fly.

    Raises ConfigError when there is none.
    """
    if not data.paths:
        raise ConfigError(f"no data to train on; give --data CLIP (a video, a folder, or "
                          f"{WORLD}{difflib.get_close_matches('drive', available_worlds(), 1)[0]})")
    return [_world(path, data) if path.startswith(WORLD) else open_source(path, camera=data.camera, frames=data.frames)
            for path in data.paths]


def _world(path: str, data: DataConfig) -> FrameSource:
    """Return the world of ``world:NAME?option=value&…`` at the working size unless it says another."""
    name, _, query = path.removeprefix(WORLD).partition("?")
    options: dict[str, Any] = {key: yaml.safe_load(value) for key, value in parse_qsl(query)}
    return load_world(name, **{"seed": 0, "frames": 100, "height": data.height, "width": data.width, **options})


def make_dataset(run: Run, sources: list[FrameSource], *, cache: Path | None) -> ClipDataset:
    """Return the training clips of ``sources``, with the two-view start computed (or read from ``cache``) if wanted."""
    data, method = run.data, load_method(run.method).method_type(run.config)
    start = None
    if run.start == "two_view":
        start = TwoViewCache(height=data.height, width=data.width, folder=cache)
    dataset = ClipDataset(sources, length=method.clip_length, target=method.target, height=data.height, width=data.width,
                          gap=data.gap, stride=data.stride, augment=data.augment, on_broken=data.on_broken, start=start)
    if start is not None:
        _prepare(dataset, method.target, start)
    return dataset


def _prepare(dataset: ClipDataset, target: int, start: TwoViewCache) -> None:
    """Compute every pair of the start before training, and say how many pairs give no direction."""
    pairs = dict.fromkeys((id(source), source, frames[target], frame) for source, frames in dataset.windows()
                          for frame in frames if frame != frames[target])
    degenerate = 0
    for _, source, a, b in track(list(pairs), label="two-view start"):
        try:
            degenerate += int(start(source, a, b).weight.item() == 0)
        except DataError as error:
            note(f"skipped: {error}")
    if degenerate:
        note(f"two-view start: {degenerate} of {len(pairs)} pairs give no direction of motion (still, turning only, or "
             f"moving objects); they teach nothing but their rotation")
