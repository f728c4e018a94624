"""Footage and runs that are wrong in one way each."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from commands.clips import frames, image_folder
from egoflow.data.formats import write_depth_npz, write_image
from egoflow.data.video_writer import VideoWriter


def text(path: Path, content: str | bytes) -> Path:
    """Write a file of anything."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def filled(folder: Path) -> Path:
    """Return a folder that somebody uses already."""
    return text(folder / "notes.txt", "mine").parent


def one_frame(path: Path) -> Path:
    """Write a video of one frame."""
    with VideoWriter(path) as writer:
        writer.write(frames(1)[0])
    return path


def two_sizes(path: Path) -> Path:
    """Write images of which one is narrower."""
    image_folder(path)
    write_image(path / "000003.png", np.zeros((32, 48, 3), np.uint8))
    return path


def matrix(path: Path, content: str) -> Path:
    """Write images with these intrinsics beside them."""
    image_folder(path, camera=False)
    return text(path / "intrinsics.txt", content).parent


def no_images(path: Path) -> Path:
    """Write images of which none is one."""
    for file in image_folder(path).glob("*.png"):
        file.write_bytes(b"no image")
    return path


def cut_off(path: Path, *, which: range = range(6)) -> Path:
    """Write images that end half-way; their headers still tell their size."""
    image_folder(path)
    for file in [path / f"{index:06d}.png" for index in which]:
        file.write_bytes(file.read_bytes()[:file.stat().st_size // 2])
    return path


def tum(path: Path, stamps: list[float], *, last: str = "") -> Path:
    """Write a trajectory at these time stamps, and a last line."""
    return text(path, "".join(f"{t} 0 0 {t} 0 0 0 1\n" for t in stamps) + last)


def depth(path: Path, name: str) -> Path:
    """Write a folder with one depth map."""
    write_depth_npz(path / name, np.full((8, 8), 2.0, np.float32))
    return path


def copied(run: Path, to: Path) -> Path:
    """Copy a run folder."""
    shutil.copytree(run, to)
    return to


def truncated(run: Path, to: Path) -> Path:
    """Copy a run folder and cut its weights off."""
    path = copied(run, to) / "last.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    return to


def foreign(path: Path) -> Path:
    """Write weights of another program."""
    save_file({"weight": torch.zeros(3)}, path)
    return path


def other_weights(run: Path, to: Path) -> Path:
    """Copy a run folder and rename its weights."""
    return _rewritten(run, to, lambda header: header.replace(b'"model.depth_net.', b'"model.other_net.'))


def other_method(run: Path, to: Path) -> Path:
    """Copy a run folder and name a method that is not there."""
    return _rewritten(run, to, lambda header: header.replace(b'\\"sfmlearner\\"', b'\\"vanished01\\"'))


def _rewritten(run: Path, to: Path, change: Callable[[bytes], bytes]) -> Path:
    """Copy a run and change the JSON header of its weights."""
    path = copied(run, to) / "last.safetensors"
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = change(data[8:8 + size])
    assert header != data[8:8 + size]
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + size:])
    return to
