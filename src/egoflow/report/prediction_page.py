"""A prediction to look at: one folder with a player, a 3-D view and the figures, without a server or a network."""

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from egoflow.data.files import write_bytes
from egoflow.data.ply import read_ply
from egoflow.data.trajectories import read_trajectory
from egoflow.errors import DataError
from egoflow.evaluation.alignment import fit
from egoflow.inference.held_video import frames_per_s
from egoflow.report.layers import shown_frames, write_layers
from egoflow.types import FrameSource, Trajectory, assumed_fps

MOST_POINTS = 150_000
"""Points of the cloud that the page holds: 2 MB, and smooth on a phone."""
_COLOURS = {"trajectory": (255, 99, 71), "truth": (240, 240, 240), "two_view": (110, 150, 255)}
_LABELS = {"trajectory": "predicted path", "truth": "true path", "two_view": "two-view geometry at one speed"}


def write_report(folder: Path, prediction: Path, source: FrameSource, frames: Sequence[int], *, title: str,
                 head: str = "", sections: Mapping[str, str] | None = None) -> None:
    """Write ``folder/index.html`` and what it shows of a prediction folder of ``frames`` of ``source``.

    ``head`` (HTML) stands above the player, ``sections`` (heading -> HTML) below it and the 3-D view. Raises DataError
    where the prediction holds neither depth nor flow.
    """
    shown = shown_frames(prediction, source, frames)
    if not shown:
        raise DataError(f"{prediction}: holds neither depth nor flow to report of")
    layers = write_layers(folder, prediction, source, shown)
    time_s = np.asarray(source.time_s, np.float64)[list(shown)]
    content: dict[str, Any] = {
        "layers": [layer.json() for layer in layers], "names": [source.frame_name(i) for i in shown],
        "time_s": [round(float(t), 4) for t in time_s] if assumed_fps(source) is None else None,
        "frames_per_s": frames_per_s(source, frames) * len(shown) / max(len(frames), 1),
        "cloud": None, "paths": []}
    content |= _scene(prediction, source, list(frames), shown)
    write_bytes(folder / "data.js", f"window.EGOFLOW = {json.dumps(content, allow_nan=False)};\n".encode())
    for name in ("viewer.js", "viewer.css"):
        write_bytes(folder / name, _asset(name))
    write_bytes(folder / "index.html", _page(title, content, head, sections or {}).encode())


def _scene(prediction: Path, source: FrameSource, frames: list[int], shown: list[int]) -> dict[str, Any]:
    """Return the cloud, the paths and the cameras of the frames shown, where there are some."""
    cloud, file = prediction / "cloud.ply", prediction / "trajectory_kitti.txt"
    if not cloud.exists() or not file.exists():
        return {}
    points, colours, _ = read_ply(cloud)
    if len(points) == 0:
        return {}
    keep = np.random.default_rng(0).permutation(len(points))[:MOST_POINTS]
    path = read_trajectory(file, format="kitti")
    places = [frames.index(i) for i in shown]
    poses = np.concatenate((path.world_from_cam.R.numpy(), path.world_from_cam.t.numpy()[..., None]), axis=2)
    camera = source.camera
    corners = [[(x - float(camera.cx)) / float(camera.fx), (y - float(camera.cy)) / float(camera.fy), 1.0]
               for x, y in ((0, 0), (camera.width, 0), (camera.width, camera.height), (0, camera.height))]
    near = np.linalg.norm(points - path.world_from_cam.t.numpy()[0], axis=1)
    return {"cloud": {"points": _coded(points[keep].astype("<f4")), "colours": _coded(colours[keep]),
                      "cell": float(np.quantile(near, 0.25)) / 100},
            "median_depth": float(np.median(near[near <= np.quantile(near, 0.5)])),
            "paths": _paths(prediction, path), "frustum": corners,
            "world_from_cam": np.round(poses[places], 6).tolist()}


def _paths(prediction: Path, path: Trajectory) -> list[dict[str, Any]]:
    """Return the predicted path and, brought to its scale, the true one and the two-view chain."""
    found = []
    for name in ("trajectory", "truth", "two_view"):
        file = prediction / f"{name}_kitti.txt"
        if not file.exists():
            continue
        other = read_trajectory(file, format="kitti").world_from_cam
        if not bool(other.t.any()) or len(other.t) != len(path.world_from_cam.t):
            continue
        if name != "trajectory":
            other = fit(other, path.world_from_cam, align="sim3").apply(other)
        found.append({"label": _LABELS[name], "colour": list(_COLOURS[name]),
                      "places": np.round(other.t.numpy(), 5).tolist()})
    return found


def _coded(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")


def _page(title: str, content: dict[str, Any], head: str, sections: Mapping[str, str]) -> str:
    """Return the page as HTML."""
    below = "".join(f"<section><h2>{escape(name)}</h2>{html}</section>" for name, html in sections.items())
    scene = ""
    if content["cloud"]:
        names = " ".join(f"<span style='color:rgb({','.join(map(str, path['colour']))})'>━</span> "
                         f"{escape(path['label'])}" for path in content["paths"])
        scene = _template("scene.html").substitute(names=names)
    return _template("page.html").substitute(title=escape(title), layers=len(content["layers"]), head=head, scene=scene,
                                             sections=below)


def _template(name: str) -> Template:
    return Template(_asset(name).decode("utf-8"))


def _asset(name: str) -> bytes:
    return files("egoflow.report").joinpath("viewer", name).read_bytes()
