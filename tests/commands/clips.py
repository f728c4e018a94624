"""Small clips for the tests of commands: a sliding picture as a folder or a video, and what a folder holds."""

from pathlib import Path

import numpy as np

from egoflow.data.cameras import write_camera
from egoflow.data.formats import write_image
from egoflow.data.video_writer import VideoWriter
from egoflow.geometry.camera import Camera

HEIGHT, WIDTH = 32, 64
CAMERA = "60,60,31.5,15.5"
SMALL = ("start=none", "data.height=32", "data.width=64", "loop.device=cpu", "optim.batch_size=2")


def frames(count: int, *, height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> list[np.ndarray]:
    """Return RGB pictures of a smooth texture that slides by 3 pixels a frame."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(0, 255, (height // 4 + 1, (width + 3 * count) // 4 + 2, 3))
    fine = np.kron(coarse, np.ones((4, 4, 1))).astype(np.uint8)
    return [np.ascontiguousarray(fine[:height, 3 * i:3 * i + width]) for i in range(count)]


def image_folder(path: Path, *, count: int = 6, camera: bool = True, height: int = HEIGHT, width: int = WIDTH) -> Path:
    """Write a folder of png images, with its camera.json unless told otherwise."""
    for index, image in enumerate(frames(count, height=height, width=width)):
        write_image(path / f"{index:06d}.png", image)
    if camera:
        write_camera(path / "camera.json", Camera.create(0.9 * width, 0.9 * width, (width - 1) / 2, (height - 1) / 2,
                                                         height=height, width=width))
    return path


def video_file(path: Path, *, count: int = 8) -> Path:
    """Write an mp4."""
    with VideoWriter(path, fps=10) as writer:
        for image in frames(count):
            writer.write(image)
    return path


def listing(folder: Path) -> list[str]:
    """Return every file and folder below ``folder``, hidden ones too, with the sizes of the files."""
    return sorted(f"{p.relative_to(folder)} {p.stat().st_size if p.is_file() else ''}" for p in folder.rglob("*"))
