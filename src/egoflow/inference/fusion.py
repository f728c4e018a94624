"""Depth maps fused into one surface: a truncated signed distance field on voxels, and the mesh where it is zero.

(Curless & Levoy 1996; the mesh by naive surface nets, Gibson 1998: one vertex in each cell that the surface crosses.)
"""

from dataclasses import dataclass

import numpy as np

from egoflow.geometry.camera import Camera
from egoflow.geometry.se3 import SE3

TRUNCATION = 4.0
"""Voxels on either side of a surface that a depth map speaks of."""


@dataclass(slots=True)
class Volume:
    """Voxels of ``voxel`` units whose first has its centre at ``origin`` [3]; distances in units of the truncation.

    ``distance``, ``weight`` float32 [X, Y, Z], ``colour`` float32 [X, Y, Z, 3]; a weight of 0 is unseen.
    """

    origin: np.ndarray
    voxel: float
    distance: np.ndarray
    weight: np.ndarray
    colour: np.ndarray

    @staticmethod
    def around(low: np.ndarray, high: np.ndarray, *, most: int = 192) -> "Volume":
        """Return an empty volume that holds the box from ``low`` to ``high`` [3], of at most ``most`` voxels a side."""
        voxel = max(float((high - low).max()), 1e-9) / most
        counts = tuple(int(n) for n in np.maximum(np.ceil((high - low) / voxel), 1) + 1)
        return Volume(np.asarray(low, np.float64), voxel, np.ones(counts, np.float32), np.zeros(counts, np.float32),
                      np.zeros((*counts, 3), np.float32))

    def add(self, depth: np.ndarray, valid: np.ndarray, image: np.ndarray, camera: Camera, world_from_cam: SE3) -> None:
        """Add a depth map [h, w] where ``valid``, with its image uint8 [h, w, 3]; ``camera`` is of the map's size."""
        height, width = depth.shape
        cam_from_world = world_from_cam.inverse()
        R, t = cam_from_world.R.numpy(), cam_from_world.t.numpy()
        reach = TRUNCATION * self.voxel
        y_axis, z_axis = (self.origin[k] + self.voxel * np.arange(self.distance.shape[k]) for k in (1, 2))
        grid = np.stack(np.meshgrid(y_axis, z_axis, indexing="ij"), axis=2)
        # One slab at a time: all voxels at once would take gigabytes.
        for number in range(self.distance.shape[0]):
            across = self.origin[0] + self.voxel * number
            cam = grid @ R[:, 1:].T + (across * R[:, 0] + t)
            z = cam[..., 2]
            front = z > self.voxel
            safe = np.where(front, z, 1.0)
            x = np.rint(cam[..., 0] / safe * float(camera.fx) + float(camera.cx)).astype(np.int64)
            y = np.rint(cam[..., 1] / safe * float(camera.fy) + float(camera.cy)).astype(np.int64)
            seen = front & (x >= 0) & (x < width) & (y >= 0) & (y < height)
            x, y = x.clip(0, width - 1), y.clip(0, height - 1)
            ahead = depth[y, x] - z
            seen &= valid[y, x] & (ahead > -reach)
            # Under False anything may stand, NaN as well.
            self._mix(number, seen, np.where(seen, np.minimum(ahead / reach, 1.0), 0.0), image[y, x])

    def _mix(self, number: int, seen: np.ndarray, distance: np.ndarray, colour: np.ndarray) -> None:
        """Average what one depth map says of slab ``number`` into the field."""
        weight, after = self.weight[number], self.weight[number] + seen
        share = np.where(seen, 1 / np.maximum(after, 1), 0.0)
        self.distance[number] += share * (distance - self.distance[number])
        self.colour[number] += share[..., None] * (colour - self.colour[number])
        self.weight[number] = weight + seen

    def mesh(self, *, least: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return vertices [N, 3], colours uint8 [N, 3] and triangles [M, 3] where the field is zero and well seen."""
        cells, places = _crossed_cells(self.distance, self.weight >= least)
        number = np.full(tuple(n - 1 for n in self.distance.shape), -1, np.int64)
        number[tuple(cells.T)] = np.arange(len(cells))
        faces = _faces(self.distance, number)
        near = np.rint(places).astype(np.int64)
        colours = np.rint(self.colour[tuple(near.T)]).clip(0, 255).astype(np.uint8)
        return self.origin + self.voxel * places, colours, faces


_CORNERS = np.array([(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)])
_EDGES = [(a, b) for a in range(8) for b in range(a + 1, 8) if np.abs(_CORNERS[a] - _CORNERS[b]).sum() == 1]


def _crossed_cells(distance: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the cells [N, 3] that the surface crosses, all of whose corners are seen, and a vertex [N, 3] in each.

    The vertex is the mean of where the cell's edges cross zero.
    """
    sides = [slice(None, -1), slice(1, None)]
    corners = np.stack([distance[sides[i], sides[j], sides[k]] for i, j, k in _CORNERS])
    known = np.stack([seen[sides[i], sides[j], sides[k]] for i, j, k in _CORNERS]).all(0)
    inside = corners < 0
    cells = np.argwhere(known & inside.any(0) & ~inside.all(0))
    values = corners[(slice(None), *cells.T)]
    total, count = np.zeros((len(cells), 3)), np.zeros((len(cells), 1))
    for a, b in _EDGES:
        crosses = (values[a] < 0) != (values[b] < 0)
        step = np.where(crosses, values[a] / np.where(crosses, values[a] - values[b], 1), 0)[:, None]
        total += np.where(crosses[:, None], _CORNERS[a] + step * (_CORNERS[b] - _CORNERS[a]), 0)
        count += crosses[:, None]
    return cells, cells + total / np.maximum(count, 1)


def _faces(distance: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Return triangles [M, 3]: two for each edge of the grid that crosses zero between four cells with a vertex."""
    found = [np.zeros((0, 3), np.int64)]
    for axis in range(3):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        here = np.take(distance, range(distance.shape[axis] - 1), axis) < 0
        there = np.take(distance, range(1, distance.shape[axis]), axis) < 0
        at = np.argwhere(here != there)
        # An edge on the border of the grid has fewer than four cells.
        at = at[(at[:, first] > 0) & (at[:, second] > 0) & (at[:, first] < number.shape[first])
                & (at[:, second] < number.shape[second])]
        around = []
        for a, b in ((1, 1), (0, 1), (0, 0), (1, 0)):
            cell = at.copy()
            cell[:, first] -= a
            cell[:, second] -= b
            around.append(number[tuple(cell.T)])
        quads = np.stack(around, axis=1)
        keep = (quads >= 0).all(1)
        quads, outwards = quads[keep], here[tuple(at[keep].T)]
        # The normal points to where the field is positive: towards the cameras.
        quads = np.where(outwards[:, None], quads, quads[:, ::-1])
        found += [quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]
    return np.concatenate(found)
