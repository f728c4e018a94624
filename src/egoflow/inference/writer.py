"""Write a prediction folder: depth maps, a colour video, trajectories, and what they mean."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import torch

from egoflow.config import Run
from egoflow.console import note
from egoflow.data.cameras import write_camera
from egoflow.data.files import write_bytes
from egoflow.data.flow_files import FlowFormat
from egoflow.data.formats import write_depth_npz, write_depth_png
from egoflow.data.trajectories import write_trajectory
from egoflow.errors import DataError
from egoflow.inference.colour import ColourScale
from egoflow.inference.held_video import HeldVideo, frames_per_s
from egoflow.inference.motions import Motions
from egoflow.inference.mover_writer import MoverWriter
from egoflow.inference.path import PathBuilder, TwoViewPath
from egoflow.inference.self_consistency import SelfConsistency
from egoflow.inference.stream import FramePrediction, predicted_frames
from egoflow.types import FrameSource, Trajectory, assumed_fps

PNG_UNITS = 512.0
"""16-bit steps per unit of the networks' depth: up to 128 units, beyond the far end of their range."""
LARGEST = 65535 / PNG_UNITS
"""Largest depth in a PNG; what is farther (sky) is written as this."""


def describe(folder: Path, about: dict[str, Any]) -> None:
    """Write ``prediction.json``, or add to what is there already."""
    path = folder / "prediction.json"
    known = json.loads(path.read_text("utf-8")) if path.exists() else {}
    write_bytes(path, (json.dumps(known | about, indent=1) + "\n").encode())


class PredictionWriter:
    """Receive frames one by one and leave a folder behind; memory does not grow with the video but for the path.

    ``depth/NAME.png`` (16 bit, ``depth.json`` says the unit) or ``.npz``, ``inv_depth.mp4`` (image above inverse
    depth), ``trajectory_{kitti,tum}.txt``, ``two_view_{kitti,tum}.txt`` (the classical baseline),
    ``truth_{kitti,tum}.txt`` where the source knows its motion, ``camera.json`` and ``prediction.json``. Every
    trajectory has a row for every frame of ``predicted_frames``, and the video a picture: a frame that could not be
    read is put between its neighbours. With ``movers`` also what moves by itself (``MoverWriter``), and with ``flows``
    the flows behind that.
    """

    def __init__(self, folder: Path, *, source: FrameSource, run: Run, depth_format: str = "png", video: bool = True,
                 two_view: bool = True, movers: bool = True, flows: bool = False,
                 flow_format: FlowFormat = "flo") -> None:
        self.folder, self.source, self.run = folder, source, run
        self.depth_format = depth_format
        self.frames = predicted_frames(run, source)
        self._path = PathBuilder()
        self.consistency = SelfConsistency(source.camera)
        self._two_view = TwoViewPath(source, gap=run.data.gap) if two_view else None
        fps = frames_per_s(source, self.frames)
        self._video, self._colour = HeldVideo(folder / "inv_depth.mp4", fps=fps) if video else None, ColourScale()
        self._movers = MoverWriter(folder, source=source, run=run, flows=flows, flow_format=flow_format,
                                   video=video) if movers else None
        self._truth = Motions()
        # Where in it the motion of a frame is; None where the source does not know.
        self._truth_at: dict[int, int] | None = {}
        self._read: set[int] = set()
        self._scale = "relative"

    def __enter__(self) -> "PredictionWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        for part in (self._video, self._movers):
            if part is not None:
                part.__exit__(kind, value, trace)

    def add(self, frame: FramePrediction) -> None:
        """Write one frame's depth and picture, and take its motions."""
        self._read.add(frame.index)
        self._scale = frame.scale
        self._path.add(frame)
        self.consistency.add(frame)
        if self._movers is not None:
            self._movers.add(frame)
        self._ask_truth(frame.index)
        if self._two_view is not None:
            self._two_view.add(frame.index, frame.image, key=frame.key, known=frame.two_view)
        if frame.inv_depth is not None:
            height, width = frame.image.shape[:2]
            # Inverse depth, not depth: half-way between a post and the sky is no wall far behind the post.
            inv_depth = cv2.resize(frame.inv_depth, (width, height), interpolation=cv2.INTER_LINEAR)
            self._write_depth(self.source.frame_name(frame.index), inv_depth)
            if self._video is not None:
                self._video.show(np.concatenate((frame.image, self._colour(inv_depth)), axis=0),
                                 position=self.frames.index(frame.index))

    def finish(self) -> None:
        """Write the trajectories and the descriptions."""
        if self._video is not None:
            self._video.finish(len(self.frames))
        time_s = np.asarray(self.source.time_s, np.float64)
        paths = {"trajectory": self._path.trajectory(self.frames, time_s),
                 "two_view": self._two_view.trajectory(self.frames, time_s) if self._two_view else None,
                 "truth": self._true_path(time_s)}
        scales = {"trajectory": self._scale, "two_view": "relative", "truth": self.source.scale}
        for name, path in paths.items():
            if path is not None:
                for form in ("kitti", "tum"):
                    write_trajectory(self.folder / f"{name}_{form}.txt", path, format=form,  # type: ignore[arg-type]
                                     remark=f"world_from_cam, {scales[name]} scale")
        write_camera(self.folder / "camera.json", self.source.camera)
        names = [self.source.frame_name(index) for index in self.frames]
        about = {"method": f"{self.run.method}:{self.run.preset}", "source": self.source.name,
                 "frames": len(names), "names": names,
                 "first": names[0], "last": names[-1], "gap": self.run.data.gap, "every_frame": self.run.every_frame,
                 "not_readable": [n for n, i in zip(names, self.frames, strict=True) if i not in self._read],
                 "scale": self._scale, "trajectory": "world_from_cam, first frame = world, x right, y down, z forward",
                 "truth_scale": self.source.scale if paths["truth"] is not None else None,
                 "assumed_fps": assumed_fps(self.source), "metres_per_unit": self.run.metres_per_unit,
                 "motion": self.run.motion,
                 "self_consistency": self.consistency.figures()}
        describe(self.folder, about | (self._movers.finish() if self._movers is not None else {}))

    def _write_depth(self, name: str, inv_depth: np.ndarray) -> None:
        """Write one depth map, and once the file that says its unit."""
        folder, unit = self.folder / "depth", self.run.metres_per_unit or 1.0
        with np.errstate(divide="ignore"):
            depth = 1 / inv_depth
        if self.depth_format == "npz":
            write_depth_npz(folder / f"{name}.npz", depth)
        else:
            write_depth_png(folder / f"{name}.png", np.minimum(depth, LARGEST * unit), units_per_metre=PNG_UNITS / unit)
        side = folder / "depth.json"
        if not side.exists():
            content = {"png_units_per_depth_unit": PNG_UNITS / unit, "largest": LARGEST * unit, "scale": self._scale,
                       "resized_as": "inverse depth"}
            write_bytes(side, (json.dumps(content) + "\n").encode())

    def _ask_truth(self, index: int) -> None:
        """Take the true motion of a frame; a source that does not know one of them is not asked again."""
        if self._truth_at is None:
            return
        try:
            known = self.source.truth(index).world_from_cam
        except DataError as error:
            note(f"no true trajectory: {error}")
            known = None
        if known is None:
            self._truth_at = None
        else:
            self._truth_at[index] = len(self._truth)
            self._truth.append(known)

    def _true_path(self, time_s: np.ndarray) -> Trajectory | None:
        """Return the source's own motion from its first frame on, where every frame has it."""
        for index in self.frames:
            if self._truth_at is not None and index not in self._truth_at:
                self._ask_truth(index)
        if self._truth_at is None:
            return None
        known = self._truth.stacked()[[self._truth_at[index] for index in self.frames]]
        stamps = torch.from_numpy(time_s[list(self.frames)])
        return Trajectory(world_from_cam=known[0].inverse() @ known, time_s=stamps, scale=self.source.scale)
