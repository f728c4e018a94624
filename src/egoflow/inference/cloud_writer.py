"""From a prediction folder to a cloud of points, a mesh and a COLMAP model: a second pass over what was written."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from egoflow.console import track
from egoflow.data.colmap import write_colmap
from egoflow.data.files import write_bytes
from egoflow.data.formats import read_image
from egoflow.data.ply import write_ply
from egoflow.data.trajectories import read_trajectory
from egoflow.errors import DataError
from egoflow.geometry.camera import Camera
from egoflow.geometry.se3 import SE3
from egoflow.inference.cloud import DISAGREE, CloudBuilder, disagreement, kept_pixels, plain_and_far, unprojected
from egoflow.inference.fusion import Volume
from egoflow.inference.written_depth import read_inv_depth
from egoflow.types import FrameSource

ROWS = 192
"""Frames are fused at so many rows at most: depth is no finer."""
CELL = 0.01
"""Side of a cell of the cloud, as a share of the median depth."""
MOVES, QUALITY = 0.5, 95
HALF_SURE = 0.05
"""|z' - D| / (z' + D) at which a pixel's confidence is one half: a tenth of its depth."""
FARTHEST = 100.0
"""Units of the networks' depth, whose median is near 1: what is farther is sky."""
MESH_FRAMES = 100
"""The mesh is fused from so many frames at most, evenly spread."""
_AXES = "x right, y down, z forward, first frame = world"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fused:
    """A frame ready to be fused: depth, where it may be used, how sure it is, image, and the camera that all are of."""

    name: str
    depth: np.ndarray
    use: np.ndarray
    confidence: np.ndarray
    image: np.ndarray
    camera: Camera
    world_from_cam: SE3

    def in_world(self) -> np.ndarray:
        """Return the points [h, w, 3] in world axes."""
        return unprojected(self.depth, self.camera) @ self.world_from_cam.R.numpy().T + self.world_from_cam.t.numpy()


def write_scene(folder: Path, source: FrameSource, frames: Sequence[int], *, also: Collection[str]) -> dict[str, int]:
    """Write what ``also`` names of a finished prediction of ``frames``; return the sizes of what was written.

    "cloud" is ``cloud.ply``, "mesh" ``mesh.ply``, "colmap" a folder ``colmap/`` with images and points,
    "confidence" ``depth_confidence/NAME.png`` (8 bit: how well both neighbours agree with a pixel's depth, 128 where
    the nearer one differs by a tenth, 0 where none looks). Edges, far pixels, plain ones beyond the middle (sky), what
    moves by itself and points that the next frame sees elsewhere are left out of the others. ``frames`` are all of the
    prediction, a row of its trajectory each. Raises DataError where the folder holds no depth or no trajectory.
    """
    if not (folder / "depth").is_dir() or not (folder / "trajectory_kitti.txt").exists():
        raise DataError(f"{folder}: holds no depth or no trajectory, of which a cloud is made")
    reader = _Reader(folder, source, frames)
    everywhere = range(len(frames))
    first = next(reader.frames(everywhere), None)
    if first is None:
        raise DataError(f"{folder}: none of its depth maps can be read")
    builder = CloudBuilder(cell=CELL * float(np.median(first.depth)))
    for frame in track(reader.frames(everywhere), label="cloud", total=len(frames)):
        builder.add(frame.in_world()[frame.use], frame.image[frame.use])
        if "confidence" in also:
            grey = cv2.resize(frame.confidence, (source.camera.width, source.camera.height))
            write_bytes(folder / "depth_confidence" / f"{frame.name}.png", cv2.imencode(".png", grey)[1].tobytes())
    points, colours = builder.cloud()
    remark = f"{_AXES}; {json.loads((folder / 'prediction.json').read_text('utf-8'))['scale']} scale"
    sizes = {"points": len(points)}
    if "cloud" in also:
        write_ply(folder / "cloud.ply", points, colours, remark=remark)
    if "colmap" in also:
        _write_colmap(folder, source, frames, points, colours, remark)
    # Last: it alone is refused where the points are few.
    if "mesh" in also:
        sizes["triangles"] = _write_mesh(folder, reader, points, remark)
    return sizes


def _write_colmap(folder: Path, source: FrameSource, frames: Sequence[int], points: np.ndarray, colours: np.ndarray,
                  remark: str) -> None:
    """Write COLMAP's text model with the images that it names."""
    path = read_trajectory(folder / "trajectory_kitti.txt", format="kitti").world_from_cam
    names, places = [], []
    for place, index in enumerate(track(frames, label="colmap images")):
        try:
            image = source.image(index)
        except DataError:
            continue
        names.append(f"{source.frame_name(index)}.jpg".replace(" ", "_"))
        places.append(place)
        picture = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, QUALITY))[1]
        write_bytes(folder / "colmap" / "images" / names[-1], picture.tobytes())
    write_colmap(folder / "colmap", source.camera, path[places], names, points=points, colours=colours,
                 remark=remark)


def _write_mesh(folder: Path, reader: "_Reader", points: np.ndarray, remark: str) -> int:
    """Fuse the frames into a mesh around the cloud's points; return the number of triangles."""
    if len(points) < 2:
        raise DataError(f"{folder}: too few points agree between frames to make a mesh")
    places = range(0, len(reader.indices), max(1, -(-len(reader.indices) // MESH_FRAMES)))
    # A few stray points must not stretch the voxels.
    volume = Volume.around(*np.percentile(points, (1, 99), axis=0))
    for frame in track(reader.frames(places), label="mesh", total=len(places)):
        volume.add(frame.depth, frame.use, frame.image, frame.camera, frame.world_from_cam)
    vertices, colours, faces = volume.mesh()
    write_ply(folder / "mesh.ply", vertices, colours, faces=faces, remark=remark)
    return len(faces)


class _Reader:
    """Frames of a prediction folder at fusing size; ``indices`` [N] are those of the source, a row of the path each."""

    def __init__(self, folder: Path, source: FrameSource, indices: Sequence[int]) -> None:
        self.folder, self.source, self.indices = folder, source, list(indices)
        self.path = read_trajectory(folder / "trajectory_kitti.txt", format="kitti").world_from_cam
        about = json.loads((folder / "prediction.json").read_text("utf-8"))
        self.farthest = FARTHEST * (about.get("metres_per_unit") or 1.0)
        self.apart = about["gap"] if about.get("every_frame") else 1
        self._held: dict[int, tuple[np.ndarray, np.ndarray] | None] = {}
        height, width = source.camera.height, source.camera.width
        rows = min(ROWS, height)
        self.size = (max(1, round(width * rows / height)), rows)
        self.camera = source.camera.resized(height=rows, width=self.size[0])

    def frames(self, places: range) -> Iterator[_Fused]:
        """Yield the frames at these places of the path whose depth was written, each checked against the next one."""
        for place in places:
            here = self._depth(place)
            if here is not None:
                yield self._fused(place, *here)

    def _fused(self, place: int, depth: np.ndarray, known: np.ndarray) -> _Fused:
        """Return the frame at a place with the pixels that may be used."""
        use = known & kept_pixels(depth, known)
        there, back = (self._disagreement(place, depth, place + step) for step in (self.apart, -self.apart))
        # Points that leave the next frame's view are kept: nothing speaks against them.
        use &= np.isnan(there) | (there < DISAGREE)
        name = self.source.frame_name(self.indices[place])
        mover = self.folder / "mover" / f"{name}.png"
        if mover.exists():
            use &= cv2.resize(read_image(mover)[..., 0], self.size, interpolation=cv2.INTER_AREA) < 255 * MOVES
        image = cv2.resize(self.source.image(self.indices[place]), self.size, interpolation=cv2.INTER_AREA)
        use &= ~plain_and_far(image, depth, known)
        sure = np.nan_to_num(1 / (1 + np.fmin(there, back) / HALF_SURE), nan=0.0)
        confidence = np.rint(255 * sure * known).astype(np.uint8)
        return _Fused(name=name, depth=depth, use=use, confidence=confidence, image=image, camera=self.camera,
                      world_from_cam=self.path[place])

    def _disagreement(self, place: int, depth: np.ndarray, other: int) -> np.ndarray:
        """Return how far the depth of a frame is from that of another [h, w], NaN where that is not known."""
        found = self._depth(other) if 0 <= other < len(self.indices) else None
        if found is None:
            return np.full_like(depth, np.nan)
        return disagreement(unprojected(depth, self.camera), found[0], self.camera,
                            self.path[other].inverse() @ self.path[place])

    def _depth(self, place: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return depth [h, w] at fusing size and where it is known, None where none was written.

        Those of the frames around are held: every depth map is asked for as a frame and as two neighbours.
        """
        if place not in self._held:
            while len(self._held) > 2 * self.apart + 2:
                self._held.pop(next(iter(self._held)))
            self._held[place] = self._read_depth(place)
        return self._held[place]

    def _read_depth(self, place: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Read a depth map of the folder."""
        inverse = read_inv_depth(self.folder, self.source.frame_name(self.indices[place]))
        if inverse is None:
            return None
        # Depth is never averaged: half-way between two things there is nothing.
        small = cv2.resize(inverse, self.size, interpolation=cv2.INTER_NEAREST_EXACT)
        known = np.isfinite(small) & (small > 1 / self.farthest)
        return 1 / np.where(known, small, 1 / self.farthest), known
