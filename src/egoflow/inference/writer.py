"""Write a prediction folder: depth maps, a colour video, trajectories, and what they mean."""

import json
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import torch

from egoflow.config import Run
from egoflow.data.cameras import write_camera
from egoflow.data.files import write_bytes
from egoflow.data.formats import write_depth_npz, write_depth_png
from egoflow.data.trajectories import write_trajectory
from egoflow.data.video_writer import VideoWriter
from egoflow.geometry.se3 import SE3
from egoflow.inference.stream import FramePrediction, PathBuilder
from egoflow.inference.two_view_path import TwoViewPath
from egoflow.inference.colour import ColourScale
from egoflow.types import FrameSource, Trajectory

PNG_UNITS = 512.0
"""16-bit steps per unit of depth: up to 128 units, beyond the far end of the networks' range."""


class PredictionWriter:
    """Receive frames one by one and leave a folder behind; memory does not grow with the video but for the path.

    ``depth/NAME.png`` (16 bit, ``depth.json`` says the unit) or ``.npz``, ``inv_depth.mp4`` (image beside inverse depth),
    ``trajectory_{kitti,tum}.txt``, ``two_view_{kitti,tum}.txt`` (the classical baseline), ``truth_{kitti,tum}.txt`` where
    the source knows its motion, ``camera.json`` and ``prediction.json``.
    """

    def __init__(self, folder: Path, *, source: FrameSource, run: Run, depth_format: str = "png", video: bool = True,
                 two_view: bool = True) -> None:
        self.folder, self.source, self.run = folder, source, run
        self.depth_format = depth_format
        self._stack = ExitStack()
        self._path = PathBuilder()
        self._two_view = TwoViewPath(source) if two_view else None
        self._want_video, self._video, self._colour = video, None, ColourScale()
        self._truth: list[SE3 | None] = []
        self._indices: list[int] = []

    def __enter__(self) -> "PredictionWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._stack.__exit__(kind, value, trace)

    def add(self, frame: FramePrediction) -> None:
        """Write one frame's depth and picture, and take its motions."""
        self._indices.append(frame.index)
        self._path.add(frame)
        self._truth.append(self.source.truth(frame.index).world_from_cam)
        if self._two_view is not None:
            self._two_view.add(frame.image)
        if frame.inv_depth is not None:
            height, width = frame.image.shape[:2]
            depth = cv2.resize(1 / frame.inv_depth, (width, height), interpolation=cv2.INTER_LINEAR)
            self._write_depth(self.source.frame_name(frame.index), depth)
            if self._want_video:
                self._write_picture(frame.image, 1 / depth)

    def finish(self) -> None:
        """Write the trajectories and the descriptions."""
        time_s = np.asarray(self.source.time_s, np.float64)[self._indices]
        paths = {"trajectory": self._path.trajectory(time_s),
                 "two_view": self._two_view.trajectory(torch.from_numpy(time_s)) if self._two_view else None,
                 "truth": self._true_path(time_s)}
        for name, path in paths.items():
            if path is not None:
                for form in ("kitti", "tum"):
                    write_trajectory(self.folder / f"{name}_{form}.txt", path, format=form)  # type: ignore[arg-type]
        write_camera(self.folder / "camera.json", self.source.camera)
        about = {"method": f"{self.run.method}:{self.run.preset}", "source": self.source.name, "frames": len(self._indices),
                 "first": self.source.frame_name(self._indices[0]), "last": self.source.frame_name(self._indices[-1]),
                 "scale": "relative", "trajectory": "world_from_cam, first frame = world, x right, y down, z forward"}
        write_bytes(self.folder / "prediction.json", json.dumps(about, indent=1).encode())

    def _write_depth(self, name: str, depth: np.ndarray) -> None:
        """Write one depth map, and once the file that says its unit."""
        folder = self.folder / "depth"
        if self.depth_format == "npz":
            write_depth_npz(folder / f"{name}.npz", depth)
        else:
            write_depth_png(folder / f"{name}.png", depth, units_per_metre=PNG_UNITS)
        side = folder / "depth.json"
        if not side.exists():
            write_bytes(side, json.dumps({"png_units_per_depth_unit": PNG_UNITS, "scale": "relative"}).encode())

    def _write_picture(self, image: np.ndarray, inv_depth: np.ndarray) -> None:
        """Append the image above its inverse depth to the video."""
        if self._video is None:
            step = float(np.median(np.diff(self.source.time_s))) if len(self.source) > 1 else 0.1
            self._video = self._stack.enter_context(VideoWriter(self.folder / "inv_depth.mp4", fps=1 / max(step, 1e-3)))
        picture = np.concatenate((image, self._colour(inv_depth)), axis=0)
        self._video.write(picture)

    def _true_path(self, time_s: np.ndarray) -> Trajectory | None:
        """Return the source's own motion from its first frame on, where every frame has it."""
        known = [t for t in self._truth if t is not None]
        if len(known) != len(self._truth) or not known:
            return None
        path = SE3.stack([known[0].inverse() @ t for t in known])
        return Trajectory(world_from_cam=path, time_s=torch.from_numpy(time_s), scale=self.source.scale)
