"""The points of one pyramid level: search from predicted flows, in cells that try each other's flows.

Against the released code (matt-42/vpp), flows propagate in rounds instead of raster sweeps: all cells at once, each
looking at the neighbours that changed in the round before, until nothing improves.
"""

from dataclasses import dataclass

import numpy as np

from egoflow.geometry.epipolar import project_on_lines
from egoflow.geometry.sad_search import AROUND, LevelPair, local_search, part_of_pixel

NEW_FLOW_PX = 2.0
"""A neighbour's flow is tried where it differs from a cell's own by more."""


@dataclass(frozen=True, slots=True)
class Search:
    """Points of a [n, 2] on one level with their windows and, in epipolar mode, the lines [n, 3] of their matches."""

    level: LevelPair
    xy: np.ndarray
    windows: np.ndarray
    lines: np.ndarray | None

    @staticmethod
    def of(level: LevelPair, xy: np.ndarray, lines: np.ndarray | None) -> "Search":
        """Return the search for whole pixels ``xy`` [n, 2]; free where ``lines`` is None."""
        return Search(level, xy, level.windows_a(xy), lines)

    def only(self, index: np.ndarray) -> "Search":
        """Return the search for the points ``index`` [m] alone."""
        lines = None if self.lines is None else self.lines[index]
        return Search(self.level, self.xy[index], self.windows[..., index], lines)

    def walk(self, index: np.ndarray, flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the flow [m, 2] and cost [m] that a search from ``flow`` [m, 2] ends with, for points ``index``."""
        xy, cost = local_search(self.level, self.windows[..., index], self._ends(index, flow), along=self._along(index))
        return xy - self.xy[index], cost

    def propagate(self, flow: np.ndarray, cost: np.ndarray, neighbours: np.ndarray, *, rounds: int) -> np.ndarray:
        """Return the flow [n, 2] after each point has tried what its ``neighbours`` [8, n] (-1: none) have found.

        A neighbour's flow is tried where it is new to the point, and the best of the eight is where its search starts
        again where that costs less than its own.
        """
        flow, cost, initial = flow.copy(), cost.copy(), flow.copy()
        changed = np.ones(len(flow), bool)
        for _ in range(rounds):
            other = flow[neighbours]
            new = [np.abs(other - own).max(-1) > NEW_FLOW_PX for own in (flow, initial)]
            side, point = np.nonzero((neighbours >= 0) & changed[neighbours] & new[0] & new[1])
            tried = np.full(neighbours.shape, np.inf)
            tried[side, point] = self.level.at(self.windows[..., point], self._ends(point, other[side, point]))
            best = tried.argmin(0)
            point = np.flatnonzero(tried.min(0) < cost)
            changed = np.zeros(len(flow), bool)
            if not len(point):
                break
            flow[point], cost[point] = self.walk(point, other[best[point], point])
            changed[point] = True
        return flow

    def finish(self, flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the matches [n, 2] and costs [n] of all points, searched from ``flow`` [n, 2] to parts of a pixel."""
        everything = np.arange(len(flow))
        moved, cost = self.walk(everything, flow)
        xy_b = part_of_pixel(self.level, self.windows, self.xy + moved, cost, along=self._along(everything))
        return xy_b, cost

    def _ends(self, index: np.ndarray, flow: np.ndarray) -> np.ndarray:
        """Return where flows [m, 2] of points ``index`` end, put on their lines."""
        ends = self.xy[index] + flow
        return ends if self.lines is None else project_on_lines(self.lines[index], ends)

    def _along(self, index: np.ndarray) -> np.ndarray | None:
        """Return the unit directions [m, 2] of the lines of points ``index``."""
        return None if self.lines is None else self.lines[index][:, [1, 0]] * (-1, 1)


def cells_of(xy: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort points [n, 2] into cells of ``side`` pixels, of which the first point found is the owner.

    Returns the owners' places [m] among the points, each point's cell [n] and each cell's 8 neighbours [8, m] (-1 where
    there is none).
    """
    column, row = (xy // side).T + 1  # A border of empty cells around.
    shape = (int(row.max(initial=0)) + 2, int(column.max(initial=0)) + 2)
    cells, owner, cell_of = np.unique(row * shape[1] + column, return_index=True, return_inverse=True)
    occupied = np.full(shape[0] * shape[1], -1)
    occupied[cells] = np.arange(len(cells))
    beside = np.delete(AROUND, 4, axis=0) @ np.array((1, shape[1]))
    return owner, cell_of, occupied[cells + beside[:, None]]
