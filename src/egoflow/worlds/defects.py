"""Footage with one thing wrong with it, made from footage that is right: what examines clips is tested on it.

Each defect is a function of a seed and a clip; the answer that is due stands beside it in DEFECTS.
"""

from collections.abc import Callable, Sequence
from typing import final

import cv2
import numpy as np

from egoflow.geometry.camera import Camera
from egoflow.types import FrameSource, FrameTruth, Scale
from egoflow.worlds.base import FRAME_TIME_S, load_world

Change = Callable[[np.ndarray, int], np.ndarray]
"""From an image uint8 [H, W, 3] and its place in the clip to another one."""

NOISE_GREY, DRIFT_GREY = 8.0, 2.0
"""Deviation of sensor noise and range of a slow change of light, in grey levels."""


@final
class Altered:
    """Frames of other sources, in an ``order`` of (source, index) and with changed pixels, at 10 Hz."""

    def __init__(self, order: Sequence[tuple[FrameSource, int]], *, name: str, change: Change | None = None,
                 camera: Camera | None = None) -> None:
        self.order, self.change, self.name = list(order), change, name
        self.scale: Scale = self.order[0][0].scale
        self.time_s: np.ndarray = np.arange(len(self.order)) * FRAME_TIME_S
        self._camera = camera

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.order)

    @property
    def camera(self) -> Camera:
        """Return the camera, or what is said of it."""
        return self._camera or self.order[0][0].camera

    def image(self, index: int) -> np.ndarray:
        """Return frame ``index`` as RGB uint8 [H, W, 3]."""
        source, at = self.order[index]
        image = source.image(at)
        return image if self.change is None else self.change(image, index)

    def truth(self, index: int) -> FrameTruth:
        """Return what is known of the frame in its source; it belongs to the unchanged pixels."""
        source, at = self.order[index]
        return source.truth(at)

    def frame_name(self, index: int) -> str:
        """Return the stem of a frame's files: "000042"."""
        return f"{index:06d}"


@final
class Kept:
    """A source whose frames and their truth stay in memory once made: rendering again takes longer than all else."""

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self._images: dict[int, np.ndarray] = {}
        self._truths: dict[int, FrameTruth] = {}
        self.name, self.scale, self.time_s = source.name, source.scale, source.time_s

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._source)

    @property
    def camera(self) -> Camera:
        """Return the camera of the source."""
        return self._source.camera

    def image(self, index: int) -> np.ndarray:
        """Return frame ``index`` as RGB uint8 [H, W, 3]."""
        if index not in self._images:
            self._images[index] = self._source.image(index)
        return self._images[index]

    def truth(self, index: int) -> FrameTruth:
        """Return what is known of the frame."""
        if index not in self._truths:
            self._truths[index] = self._source.truth(index)
        return self._truths[index]

    def frame_name(self, index: int) -> str:
        """Return the stem of the frame's files."""
        return self._source.frame_name(index)


def _whole(source: FrameSource) -> list[tuple[FrameSource, int]]:
    return [(source, index) for index in range(len(source))]


def with_noise(deviation: float, seed: int) -> Change:
    """Return the change that adds Gaussian noise and a slow drift of the light, each frame its own."""
    def change(image: np.ndarray, index: int) -> np.ndarray:
        random = np.random.default_rng([seed, index])
        drift = DRIFT_GREY * np.sin(0.7 * index + seed)
        noisy = image + random.normal(0, deviation, image.shape) + drift
        return np.rint(noisy.clip(0, 255)).astype(np.uint8)

    return change


def static(seed: int, clip: FrameSource) -> FrameSource:
    """Return one frame again and again, with sensor noise of 8 grey levels and light that drifts by 2."""
    return Altered([(clip, 0)] * len(clip), name="static", change=with_noise(NOISE_GREY, seed))


def rotation(seed: int, clip: FrameSource) -> FrameSource:
    """Return a camera that only turns to and fro, in a room of its own."""
    return load_world("boxes", seed=seed, frames=len(clip), height=clip.camera.height, width=clip.camera.width,
                      speed=0.0, turn_deg=6.0, texture_ratio=1.0)


def movers(seed: int, clip: FrameSource) -> FrameSource:
    """Return a room full of things that drift about."""
    return load_world("boxes", seed=seed, frames=len(clip), height=clip.camera.height, width=clip.camera.width,
                      speed=1.0, solids=60, movers=60, texture_ratio=1.0)


def plane(seed: int, clip: FrameSource) -> FrameSource:
    """Return a drive along one textured wall."""
    return load_world("plane", seed=seed, frames=len(clip), height=clip.camera.height, width=clip.camera.width,
                      distance_m=25.0, cell_m=2.0, roughness=0.8)


def cut(seed: int, clip: FrameSource) -> FrameSource:
    """Return the second half, and then the first."""
    middle = len(clip) // 2
    return Altered([*_whole(clip)[middle:], *_whole(clip)[:middle]], name="cut")


def repeats(seed: int, clip: FrameSource) -> FrameSource:
    """Return the clip with every third frame shown twice, each time with noise of its own."""
    twice = [pair for index in range(len(clip)) for pair in [(clip, index)] * (2 if index % 3 == 2 else 1)]
    return Altered(twice, name="repeats", change=with_noise(1.0, seed))


def letterbox(seed: int, clip: FrameSource) -> FrameSource:
    """Return the clip with black bars over a tenth of the rows at the top and the bottom."""
    bar = max(2, clip.camera.height // 10)

    def change(image: np.ndarray, index: int) -> np.ndarray:
        image = image.copy()
        image[:bar] = image[-bar:] = 0
        return image

    return Altered(_whole(clip), name="letterbox", change=change)


def overlay(seed: int, clip: FrameSource) -> FrameSource:
    """Return the clip with writing in a corner."""
    def change(image: np.ndarray, index: int) -> np.ndarray:
        size = image.shape[0] / 200
        written = cv2.putText(image.copy(), f"CAM {seed:02d} 14:05", (4, round(22 * size) + 4),
                              cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), max(1, round(2 * size)), cv2.LINE_AA)
        return np.asarray(written, np.uint8)

    return Altered(_whole(clip), name="overlay", change=change)


def bonnet(seed: int, clip: FrameSource) -> FrameSource:
    """Return the clip above a dark, shaded bonnet that fills the lowest seventh."""
    height, width = clip.camera.height, clip.camera.width
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.arange(height))
    edge = height * (1 - 0.15 * np.sqrt(np.maximum(1 - (0.9 * x) ** 2, 0)))
    shade = (40 + 25 * np.cos(2 * x) + 10 * np.random.default_rng(seed).uniform(-1, 1))[..., None].repeat(3, 2)

    def change(image: np.ndarray, index: int) -> np.ndarray:
        return np.where((y > edge)[..., None], shade, image).astype(np.uint8)

    return Altered(_whole(clip), name="bonnet", change=change)


def wrong_camera(seed: int, clip: FrameSource) -> FrameSource:
    """Return a hand-held clip that claims to be taken with a lens of 1.6 times its focal length."""
    world = load_world("boxes", seed=seed, frames=len(clip), height=160, width=240, speed=5.0, turn_deg=6.0,
                       texture_ratio=1.0)
    true = world.camera
    wrong = Camera.create(1.6 * float(true.fx), 1.6 * float(true.fy), float(true.cx), float(true.cy),
                          height=true.height, width=true.width)
    return Altered(_whole(world), name="wrong_camera", camera=wrong)


def exposure(seed: int, clip: FrameSource) -> FrameSource:
    """Return the clip with an exposure that jumps up or down every eighth frame."""
    def change(image: np.ndarray, index: int) -> np.ndarray:
        gain = 0.65 if (index // 8) % 2 else 1.0
        return np.rint(image * gain).astype(np.uint8)

    return Altered(_whole(clip), name="exposure", change=change)


def blur(seed: int, clip: FrameSource) -> FrameSource:
    """Return the clip out of focus."""
    deviation = clip.camera.height / 40
    return Altered(_whole(clip), name="blur",
                   change=lambda image, index: cv2.GaussianBlur(image, (0, 0), deviation))


DEFECTS: dict[str, tuple[Callable[[int, FrameSource], FrameSource], str]] = {
    "static": (static, "static"), "rotation": (rotation, "rotation"), "movers": (movers, "movers"),
    "plane": (plane, "plane"), "cut": (cut, "cut"), "repeats": (repeats, "repeats"),
    "letterbox": (letterbox, "letterbox"), "overlay": (overlay, "overlay"), "bonnet": (bonnet, "overlay"),
    "wrong_camera": (wrong_camera, "wrong_camera"), "exposure": (exposure, "exposure"), "blur": (blur, "blur")}
"""Every defect by its name: how it is made, and the finding that names it."""
