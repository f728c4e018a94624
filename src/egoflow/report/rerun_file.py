"""A report as a recording for the Rerun viewer: the cloud and the path in 3-D, camera by camera, and every layer.

The pictures are the report's own; depth is read from the prediction folder beside it.
"""

import json
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from egoflow.console import track
from egoflow.data.cameras import read_camera
from egoflow.data.files import atomic
from egoflow.data.formats import read_image
from egoflow.data.ply import read_ply
from egoflow.data.trajectories import read_trajectory
from egoflow.errors import ConfigError, DataError
from egoflow.inference.written_depth import read_inv_depth

STEPS = 65535
"""Depth is kept in so many steps up to the largest of a frame, as a 16-bit PNG."""


def write_rrd(path: Path, folder: Path) -> int:
    """Write the report of ``folder``, a fit or a prediction, as ``path`` (.rrd); return the number of its frames.

    Depth and path are in the unit of the prediction. Raises DataError where the folder holds no report, ConfigError
    where the packages of ``egoflow[viewer]`` are missing.
    """
    rerun = _rerun()
    # Else what cannot be recorded is a line in a log, and the file is written without it.
    rerun.set_strict_mode(True)
    shots = list(reported_shots(folder))
    if not shots:
        raise DataError(f"{folder}: its report is of no prediction that is there")
    frames = 0
    with atomic(path) as temporary:
        recording = rerun.RecordingStream("egoflow")
        recording.save(str(temporary))
        for number, (prediction, report) in enumerate(shots):
            shot = ShotRecorder(recording, f"{number:03d}" if len(shots) > 1 else "", prediction, report)
            shot.scene()
            for name in track(shot.names, label="recording"):
                shot.frame(frames, name)
                frames += 1
        recording.disconnect()
    return frames


def _rerun() -> Any:
    """Return the package, of an extra that most installations lack: no checker of types can know it."""
    try:
        return import_module("rerun")
    except ModuleNotFoundError as error:
        raise ConfigError(f"a recording for Rerun needs the package {error.name}: pip install 'egoflow[viewer]'"
                          ) from None


def reported_shots(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the prediction folder and the report folder of every shot of a fit, or those of a prediction."""
    if (folder / "report" / "index.html").is_file():
        yield folder, folder / "report"
    for report in sorted((folder / "report").glob("[0-9]*")):
        if (report / "index.html").is_file() and (folder / "prediction" / report.name).is_dir():
            yield folder / "prediction" / report.name, report


class ShotRecorder:
    """What is recorded of one shot, below the entity ``root``."""

    def __init__(self, recording: Any, root: str, prediction: Path, report: Path) -> None:
        self.rerun = _rerun()
        self.recording, self.root, self.prediction, self.report = recording, root, prediction, report
        about = json.loads((prediction / "prediction.json").read_text("utf-8"))
        pictures = {file.relative_to(report / "frames" / "image").with_suffix("").as_posix()
                    for file in (report / "frames" / "image").rglob("*.jpg")}
        self.names: Sequence[str] = [name for name in about["names"] if name in pictures]
        self.rows = {name: row for row, name in enumerate(about["names"])}
        path = prediction / "trajectory_tum.txt"
        self.path = read_trajectory(path, format="tum") if path.exists() else None
        self.camera = read_camera(prediction / "camera.json")

    def scene(self) -> None:
        """Record what is of no time: axes, cloud, paths."""
        rr = self.rerun
        self.recording.reset_time()
        self._log("world", rr.ViewCoordinates.RDF, static=True)
        if (self.prediction / "cloud.ply").exists():
            points, colours, _ = read_ply(self.prediction / "cloud.ply")
            self._log("world/cloud", rr.Points3D(points.astype(np.float32), colors=colours), static=True)
        if self.path is not None:
            places = self.path.world_from_cam.t.numpy()
            self._log("world/path", rr.LineStrips3D([places], colors=[(255, 99, 71)]), static=True)

    def frame(self, index: int, name: str) -> None:
        """Record the camera, its picture and depth, and every other layer of the report."""
        rr, row = self.rerun, self.rows[name]
        self.recording.set_time("frame", sequence=index)
        if self.path is not None:
            world_from_cam = self.path.world_from_cam
            self.recording.set_time("time", duration=float(self.path.time_s[row] - self.path.time_s[0]))
            self._log("world/camera", rr.Transform3D(translation=world_from_cam.t[row].numpy(),
                                                    mat3x3=world_from_cam.R[row].numpy()))
        for folder in sorted((self.report / "frames").iterdir()):
            file, place = folder / f"{name}.jpg", f"layers/{folder.name}"
            if not file.is_file():
                # The viewer shows the last that was said.
                self._log(place, rr.Clear(recursive=False))
                continue
            if folder.name == "image":
                place = "world/camera/image"
                self._pinhole(file, name)
            self._log(place, rr.EncodedImage(contents=file.read_bytes(), media_type="image/jpeg"))

    def _pinhole(self, picture: Path, name: str) -> None:
        """Record the camera of the size of a picture, and the depth of a frame at that size."""
        rr = self.rerun
        height, width = read_image(picture).shape[:2]
        camera = self.camera.resized(height=height, width=width)
        focal, centre = ((float(a), float(b)) for a, b in ((camera.fx, camera.fy), (camera.cx + 0.5, camera.cy + 0.5)))
        # Rerun's first pixel has its centre at (.5, .5).
        self._log("world/camera/image", rr.Pinhole(focal_length=focal, principal_point=centre, width=width,
                                                   height=height, camera_xyz=rr.ViewCoordinates.RDF))
        inverse = read_inv_depth(self.prediction, name)
        if inverse is None:
            self._log("world/camera/image/depth", rr.Clear(recursive=False))
            return
        # Depth is never averaged: half-way between two things there is nothing.
        small = cv2.resize(inverse, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        known = np.isfinite(small)
        depth = np.where(known, 1 / np.where(known, small, 1.0), 0.0)
        steps = STEPS / max(float(depth.max()), 1e-9)
        grey = cv2.imencode(".png", np.rint(depth * steps).astype(np.uint16))[1].tobytes()
        self._log("world/camera/image/depth", rr.EncodedDepthImage(grey, media_type="image/png", meter=steps))

    def _log(self, entity: str, what: Any, *, static: bool = False) -> None:
        self.recording.log(f"{self.root}/{entity}".lstrip("/"), what, static=static)
