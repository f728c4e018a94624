"""Write what moves by itself: masks, scene flow, a video, and by choice the two flows behind them."""

from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import torch

from egoflow.config import Run
from egoflow.data.files import write_bytes
from egoflow.data.flow_files import FlowFormat, write_flow_file
from egoflow.data.scene_flow import write_scene_flow
from egoflow.geometry.pixels import resize_flow
from egoflow.inference.flow_stream import flow_pairs
from egoflow.inference.held_video import HeldVideo, frames_per_s
from egoflow.inference.own_motion import OwnMotion
from egoflow.inference.stream import FramePrediction, leads_to, neighbours_apart, predicted_frames
from egoflow.types import FrameSource

COLOUR = np.array((255, 32, 0), np.float32)
"""RGB of what moves; its picture shines through by a third."""
OPACITY = 2 / 3


class MoverWriter:
    """Receive frames one by one and write what moves in them, at their own size; memory does not grow.

    Of every frame ``mover/NAME.png`` (8 bit, the probability of moving by itself, 255 = certain). Of every frame whose
    successor could be read and does not lie across a jump ``scene_flow/NAME.npz``, and with ``flows``
    ``rigid_flow/NAME.flo`` and ``residual_flow/NAME.flo`` (or KITTI's .png): a file never leads to another frame than
    its name says. ``movers.mp4`` lays the probability over the picture. A method that cannot tell leaves nothing.
    """

    def __init__(self, folder: Path, *, source: FrameSource, run: Run, flows: bool = False,
                 flow_format: FlowFormat = "flo", video: bool = True) -> None:
        self.folder, self.source, self.flows, self._gap = folder, source, flows, run.data.gap
        self.flow_format: FlowFormat = flow_format
        self.frames, self._pairs = predicted_frames(run, source), set(flow_pairs(run, source))
        fps = frames_per_s(source, self.frames)
        self._video = HeldVideo(folder / "movers.mp4", fps=fps) if video else None
        self._waiting: deque[FramePrediction] = deque(maxlen=neighbours_apart(run))
        self._told = self._led_on = 0

    def __enter__(self) -> "MoverWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._video is not None:
            self._video.__exit__(kind, value, trace)

    def add(self, frame: FramePrediction) -> None:
        """Write a frame's mask and picture, and what leads to it from its neighbour before."""
        for last in self._waiting:
            leads_here = last.neighbours[1] == frame.index and (last.index, frame.index) in self._pairs
            if last.own_motion is not None and leads_here:
                self._write_motion(last, last.own_motion)
        self._waiting.append(frame)
        if frame.own_motion is None:
            return
        self._told += 1
        height, width = frame.image.shape[:2]
        probability = cv2.resize(frame.own_motion.probability, (width, height), interpolation=cv2.INTER_LINEAR)
        grey = np.rint(probability.clip(0, 1) * 255).astype(np.uint8)
        write_bytes(self._path("mover", frame, ".png"), cv2.imencode(".png", grey)[1].tobytes())
        if self._video is not None:
            self._video.show(laid_over(frame.image, probability), position=self.frames.index(frame.index))

    def finish(self) -> dict[str, Any]:
        """End the video and return what ``prediction.json`` says of the files; nothing where none was written."""
        if not self._told:
            return {}
        if self._video is not None:
            self._video.finish(len(self.frames))
        ahead = leads_to(self._gap)
        about = {"frames": self._told, "pairs": self._led_on, "mover": "255 = certainly moves by itself",
                 "scene_flow": f"own motion of a frame's points to {ahead}, x y z in the axes of its camera, in the "
                               "unit of its depth; 0 where the scene is static"}
        if self.flows:
            about |= {"rigid_flow": f"of depth and camera motion to {ahead}, in pixels, x then y",
                      "residual_flow": "optical flow minus rigid_flow, both at the size of training and brought back"}
        return {"movers": about}

    def _write_motion(self, frame: FramePrediction, own: OwnMotion) -> None:
        """Write what leads from a frame to the next one."""
        if not own.to_next:
            return
        self._led_on += 1
        height, width = frame.image.shape[:2]
        # Half-way between a car and the street nothing moves at half its speed: the nearest pixel.
        motion, valid = (cv2.resize(value, (width, height), interpolation=cv2.INTER_NEAREST_EXACT) for value in (
            np.moveaxis(own.scene_flow, 0, 2), own.valid_scene_flow.astype(np.uint8)))
        write_scene_flow(self._path("scene_flow", frame, ".npz"), motion, valid.astype(bool))
        if self.flows:
            for name, flow in (("rigid_flow", own.rigid_flow), ("residual_flow", own.flow - own.rigid_flow)):
                resized = resize_flow(torch.from_numpy(flow)[None], height=height, width=width)[0].numpy()
                write_flow_file(self.folder / name / self.source.frame_name(frame.index), resized.transpose(1, 2, 0),
                                format=self.flow_format)

    def _path(self, folder: str, frame: FramePrediction, suffix: str) -> Path:
        return self.folder / folder / f"{self.source.frame_name(frame.index)}{suffix}"


def laid_over(image: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Return RGB uint8 [H, W, 3] with the probability [H, W] of moving laid over it in red."""
    share = OPACITY * probability.clip(0, 1)[..., None]
    return np.rint((1 - share) * image + share * COLOUR).astype(np.uint8)
