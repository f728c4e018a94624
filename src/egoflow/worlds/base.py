"""Rendered worlds as sources of frames, and how worlds are found by name."""

import difflib
import importlib
import inspect
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path as FilePath
from typing import Any, Protocol, final, get_type_hints

import numpy as np
import torch
from torch import Tensor

from egoflow.errors import ConfigError
from egoflow.geometry.camera import Camera
from egoflow.geometry.se3 import SE3
from egoflow.types import FlowTruth, FrameSource, FrameTruth, Scale, Trajectory
from egoflow.worlds.paths import Path
from egoflow.worlds.raycast import View, look
from egoflow.worlds.scene import Scene
from egoflow.worlds.shading import render
from egoflow.worlds.truth import Geometry, PairTruth, pair_truth

FRAME_TIME_S = 0.1
_KEPT = 4  # Geometry of a few frames is kept: a pair's neighbours are asked for next.


class RenderedWorld(FrameSource, Protocol):
    """What every world is: a source of frames at 10 Hz that knows the exact flow between any two of them.

    ``seed`` and ``options`` are those it was built with; ``samples`` colour samples are taken in a pixel.
    """

    samples: int
    seed: int
    options: dict[str, Any]

    def colours(self, indices: Sequence[int]) -> Tensor:
        """Return frames [F, 3, H, W] as float32 RGB in [0, 1]."""
        ...

    def flow_truth(self, a: int, b: int) -> FlowTruth:
        """Return the exact flow of frames (a, b); it is known everywhere."""
        ...


@final
class World:
    """A scene and a camera path at 10 Hz: a FrameSource that renders on the fly, with exact truth.

    Convention: exported motions have the first camera as their world. ``seed`` and ``options`` are those it was built
    with; ``samples`` colour samples are taken in a pixel, geometry is that of the pixel centre.
    """

    scale: Scale = "metric"

    def __init__(self, name: str, *, scene: Scene, path: Path, camera: Camera, frames: int, samples: int, seed: int,
                 options: dict[str, Any] | None = None, device: str = "cpu") -> None:
        self.name, self.scene, self.path, self.camera = name, scene, path, camera
        self.samples, self.seed, self.options = samples, seed, dict(options or {})
        self.time_s = np.arange(frames) * FRAME_TIME_S
        self.device = _device(device)
        self._cam0_from_scene = path(0.0).inverse()
        self._kept: OrderedDict[int, Geometry] = OrderedDict()
        self._pair: tuple[int, int, PairTruth] | None = None

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.time_s)

    def frame_name(self, index: int) -> str:
        """Return the stem of a frame's files: "000042"."""
        return f"{self._checked(index):06d}"

    def image(self, index: int) -> np.ndarray:
        """Return frame ``index`` as RGB uint8 [H, W, 3]."""
        return as_uint8(self.colours([index])[0])

    def colours(self, indices: Sequence[int]) -> Tensor:
        """Return frames [F, 3, H, W] as float32 RGB in [0, 1], rendered as one batch."""
        return render(self._view(indices, torch.float32), samples=self.samples)

    def truth(self, index: int) -> FrameTruth:
        """Return depth (1e6 where ``valid_depth`` is False: sky), camera and static mask of a frame."""
        geometry = self._geometry(index)
        hit, still = geometry.hits.solid[0, 0] >= 0, geometry.mover_id()[0, 0] == 0
        return FrameTruth(depth=geometry.depth()[0, 0].float().cpu().numpy(), valid_depth=hit.cpu().numpy(),
                          world_from_cam=self.world_from_cam(index), static=still.cpu().numpy())

    def world_from_cam(self, index: int) -> SE3:
        """Return the camera of a frame in the axes of the first camera (unbatched, float64)."""
        return self._cam0_from_scene @ self.path(float(self.time_s[self._checked(index)]))

    def trajectory(self) -> Trajectory:
        """Return the whole camera path."""
        path = SE3.stack([self.world_from_cam(i) for i in range(len(self))])
        return Trajectory(world_from_cam=path, time_s=torch.from_numpy(self.time_s), scale=self.scale)

    def pair_truth(self, a: int, b: int) -> PairTruth:
        """Return all that is exactly known of the frames (a, b)."""
        return pair_truth(self._geometry(a), self._geometry(b))

    def flow_truth(self, a: int, b: int) -> FlowTruth:
        """Return the exact flow of frames (a, b); it is known everywhere."""
        first, _, truth = self._kept_pair(a, b)
        flow, seen = (truth.flow_ab, truth.visible_ab) if first == a else (truth.flow_ba, truth.visible_ba)
        valid = np.ones(flow.shape[2:], bool)
        return FlowTruth(flow_ab=flow[0].float().cpu().numpy(), valid=valid, visible=seen[0, 0].cpu().numpy())

    def scene_flow_truth(self, a: int, b: int) -> tuple[np.ndarray, np.ndarray]:
        """Return each point's own motion [3, H, W] in metres from frame a to b, in the axes of camera a.

        The second is where it is known, bool [H, W]: not on the sky.
        """
        first, _, truth = self._kept_pair(a, b)
        if first != a:
            truth = self.pair_truth(a, b)
        return truth.scene_flow_ab[0].cpu().numpy(), truth.valid_depth_a[0, 0].cpu().numpy()

    def _kept_pair(self, a: int, b: int) -> tuple[int, int, PairTruth]:
        # A pair's truth holds both directions, and who asks for one mostly asks for the other next.
        if self._pair is None or set(self._pair[:2]) != {a, b}:
            self._pair = (a, b, self.pair_truth(a, b))
        return self._pair

    def _checked(self, index: int) -> int:
        return checked_frame(self, index)

    def _view(self, indices: Sequence[int], dtype: torch.dtype) -> View:
        times = [float(self.time_s[self._checked(i)]) for i in indices]
        world_from_cam = SE3.stack([self.path(t) for t in times])
        return look(self.scene, self.camera, times, world_from_cam, device=self.device, dtype=dtype)

    def _geometry(self, index: int) -> Geometry:
        if index not in self._kept:
            self._kept[index] = Geometry.of(self._view([index], torch.float64))
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(index)
        return self._kept[index]


def as_uint8(colours: Tensor) -> np.ndarray:
    """Return a frame [3, H, W] in [0, 1] as RGB uint8 [H, W, 3]."""
    return (colours * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def checked_frame(world: FrameSource, index: int) -> int:
    """Return ``index``; raise ConfigError unless the world has such a frame."""
    if not 0 <= index < len(world):
        raise ConfigError(f"world {world.name} has frames 0 to {len(world) - 1}, frame {index} was asked for")
    return int(index)


def available_worlds() -> list[str]:
    """Return the names of all worlds: the modules of this folder that define ``world``; nothing is imported."""
    return list(_world_files())


@cache
def _world_files() -> tuple[str, ...]:
    # Once for all: a data set may be of thousands of worlds.
    files = FilePath(__file__).parent.glob("*.py")
    return tuple(sorted(f.stem for f in files if re.search(r"^def world\(", f.read_text("utf-8"), re.MULTILINE)))


def load_world(name: str, **options: Any) -> RenderedWorld:
    """Build the world ``name`` with ``options`` (seed, by default 0; frames, height, width, movers, samples, …).

    It is a World, with depth and camera motion, unless it is made of flat layers (chairs).
    Raises ConfigError for an unknown world or option, with the nearest match.
    """
    names = available_worlds()
    if name not in names:
        raise ConfigError(f"unknown world '{name}'{nearest_hint(name, names)}; worlds are: {', '.join(names)}")
    build: Callable[..., RenderedWorld] = importlib.import_module(f"egoflow.worlds.{name}").world
    kinds = get_type_hints(build)
    known = list(inspect.signature(build).parameters)
    for option, value in options.items():
        if option not in known:
            raise ConfigError(f"world {name} has no option '{option}'{nearest_hint(option, known)}; "
                              f"its options are: {', '.join(known)}")
        kind = kinds.get(option)
        # True is an int to Python, and an int is as good as a float.
        if kind in (bool, float, str) and type(value) not in ((float, int) if kind is float else (kind,)):
            raise ConfigError(f"world {name}: {option} must be a {kind.__name__}, got {value!r}")
    return build(**{"seed": 0, **options})


def check_options(name: str, *, seed: int, frames: int, height: int, width: int, samples: int, movers: int = 0,
                  most_movers: int = 50, most_frames: int = 10_000) -> None:
    """Raise ConfigError unless the options that all worlds share are whole numbers in range."""
    limits = {"seed": (seed, 0, 2**63 - 1), "frames": (frames, 1, most_frames), "height": (height, 8, 8192),
              "width": (width, 8, 8192), "movers": (movers, 0, most_movers), "samples": (samples, 1, 64)}
    for option, (value, least, most) in limits.items():
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ConfigError(f"world {name}: {option} must be a whole number from {least} to {most}, got {value!r}"
                              + ("; the worlds drive and boxes have movers" * (option == "movers" and not most_movers)))


def _device(name: str) -> torch.device:
    """Return a device that can be used here; ConfigError otherwise."""
    try:
        # Truth is cast in float64, which some devices lack.
        return torch.zeros(0, device=name, dtype=torch.float64).device
    # torch raises RuntimeError for a name it does not know, AssertionError for a build without that device.
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise ConfigError(f"device '{name}' cannot be used here; choose cpu, or cuda where there is one") from error


def nearest_hint(word: str, known: Iterable[str]) -> str:
    """Return ", did you mean 'x'?" for the nearest known word, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{near[0]}'?)" if near else ""
