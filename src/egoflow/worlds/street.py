"""The ground of a street: lanes, kerbs, pavement slabs and grass along a centreline."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from egoflow.worlds.paths import Centreline
from egoflow.worlds.textures import Patch, band, fractal, pulse

LANE_M = 1.7
PARKING_M = 4.55
KERB_M = 5.7
PAVEMENT_M = 8.2
_SPACING_M = 0.5
_ASPHALT, _PAVEMENT, _GRASS = (0.40, 0.40, 0.42), (0.62, 0.58, 0.53), (0.30, 0.40, 0.17)
_MARK, _KERB = (0.88, 0.87, 0.80), (0.70, 0.69, 0.66)


@dataclass(frozen=True)
class StreetPaint:
    """Paint ground points by their station and offset on the street."""

    street: Centreline
    _kept: dict[torch.device, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def _tables(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return stations by z [M] and rows (x, z, sine, cosine of the heading) by station [S, 4]."""
        if like.device not in self._kept:
            line, every = self.street, round(_SPACING_M / self.street.step_m)
            x, z, heading = (torch.from_numpy(v[::every]) for v in (line.x, line.z, line.heading))
            rows = torch.stack((x, z, heading.sin(), heading.cos()), -1)
            whole = torch.arange(math.ceil(line.z[0]), math.floor(line.z[-1]), dtype=torch.float64)
            right = torch.searchsorted(z.contiguous(), whole).clamp(1, len(rows) - 1)
            stations = (right - 1 + (whole - z[right - 1]) / (z[right] - z[right - 1])) * _SPACING_M + line.first_m
            self._kept[like.device] = stations.to(like.device), rows.to(like.device)
        stations, rows = self._kept[like.device]
        return stations.to(like.dtype), rows.to(like.dtype)

    def along(self, xz: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return station, offset to the right, and sine and cosine of the heading [N] for ground points [2, N].

        The start depends on the point alone, so a point has one station whatever camera sees it.
        """
        stations, rows = self._tables(xz)
        first_z = math.ceil(self.street.z[0])
        station = stations[(xz[1] - first_z).round().clamp(0, len(stations) - 1).long()]
        for _ in range(4):
            x, z, sine, cosine = self._at(rows, station).unbind(-1)
            station = station + (xz[0] - x) * sine + (xz[1] - z) * cosine
        x, z, sine, cosine = self._at(rows, station).unbind(-1)
        return station, (xz[0] - x) * cosine - (xz[1] - z) * sine, sine, cosine

    def _at(self, rows: Tensor, station: Tensor) -> Tensor:
        """Return the interpolated rows [N, 4] at stations [N]."""
        grid = ((station - self.street.first_m) / _SPACING_M).clamp(0, len(rows) - 1.01)
        index = grid.long()
        return torch.lerp(rows.index_select(0, index), rows.index_select(0, index + 1), (grid - index)[:, None])

    def __call__(self, patch: Patch) -> Tensor:
        """Return the ground's colours [3, N]."""
        station, offset, sine, cosine = self.along(patch.xz)
        f_along = (patch.dx[0] * sine + patch.dx[1] * cosine).abs() + (patch.dy[0] * sine + patch.dy[1] * cosine).abs()
        f_across = (patch.dx[0] * cosine - patch.dx[1] * sine).abs() + (patch.dy[0] * cosine - patch.dy[1] * sine).abs()
        # Wear and patches are longer along the street than across it.
        grain = fractal(offset / 1.1, station / 2.6, f_across / 1.1, f_along / 2.6, roughness=1.0)
        grain = grain / (1 + 0.47 * grain.abs())
        side = offset.abs()
        kerb = band(side, KERB_M - 0.15, KERB_M + 0.15, f_across)
        colour = _blend(_flat(_ASPHALT, grain, 0.40), _flat(_KERB, grain, 0.20), kerb)
        joint = pulse(offset / 0.8, 0.94, f_across / 0.8) * pulse(station / 0.8, 0.94, f_along / 0.8)
        slabs = _flat(_PAVEMENT, grain, 0.27) * (0.72 + 0.28 * joint)
        colour = _blend(colour, slabs, band(side, KERB_M + 0.15, PAVEMENT_M, f_across))
        colour = _blend(colour, _flat(_GRASS, grain, 0.60), band(side, PAVEMENT_M, 1e6, f_across))
        return _blend(colour, _flat(_MARK, grain, 0.16), _marks(station, side, f_along, f_across))


def _flat(colour: tuple[float, float, float], grain: Tensor, contrast: float) -> Tensor:
    """Return a colour [3, N] whose brightness follows the grain."""
    return grain.new_tensor(colour)[:, None] * (1 + contrast * grain)


def _blend(under: Tensor, over: Tensor, share: Tensor) -> Tensor:
    """Return ``over`` where ``share`` is 1."""
    return torch.lerp(under, over, share)


def _marks(station: Tensor, side: Tensor, f_along: Tensor, f_across: Tensor) -> Tensor:
    """Return the share of lane paint: a dashed middle line and bays beside the lanes."""
    dashes = band(side, -0.08, 0.08, f_across) * pulse(station / 6.0, 0.5, f_along / 6.0)
    edge = band(side, 3.4, 3.52, f_across)
    bays = band(side, 3.4, KERB_M - 0.2, f_across) * pulse(station / 6.5, 0.02, f_along / 6.5)
    return (dashes + edge + bays).clamp(0, 1)
