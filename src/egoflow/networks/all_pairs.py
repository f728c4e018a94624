"""Correlations of every pixel with every other, and windows of them. (Teed & Deng, RAFT, ECCV 2020, section 3.2)

The correlation of pixel p of frame a with pixel q of frame b is <F_a(p), F_b(q)> / sqrt(C). Level k of the pyramid
holds its means over 2^k x 2^k cells of b. Pooling commutes with the product, so level k is the product with pooled
features: exact, and no level needs the one below.

Two look-ups give the same windows and the same gradients:

- ``DenseLookup`` keeps the pyramid, 4/3 (h w)^2 numbers a pair: 264 MB for 436x1024.
- ``LeanLookup`` computes the correlations of some hundred pixels at a time, reads their windows and forgets them, in
  training once more on the way back. Its memory is linear in the size of the image, 14 MB at a time for 436x1024; its
  price is one product of all pairs a look-up in place of one in all. (The products of each window alone are ten times
  fewer, but gathering their features took twice as long at this size.)

Convention: a window is (2 r + 1)^2 bilinear values, rows first: channel (dy + r) (2 r + 1) + dx + r, zero outside the
map; level 0 first. As published, level k is read around (x, y) / 2^k, half a coarse cell off the resizing rule of
docs/conventions.md: the network learns with it, and published weights have.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from egoflow.geometry.precision import full_precision

LEVELS = 4
CHUNK = 512
"""Pixels whose correlations the lean look-up holds at a time."""


class Lookup(Protocol):
    """What reads windows of correlations."""

    def __call__(self, xy: Tensor) -> Tensor:
        """Return the windows [B, LEVELS (2 r + 1)^2, h, w] around pixels ``xy`` [B, h, w, 2] of frame b."""
        ...


class DenseLookup:
    """Windows of the whole pyramid, computed once."""

    def __init__(self, feature_a: Tensor, feature_b: Tensor, *, radius: int) -> None:
        rows, levels = _operands(feature_a, feature_b)
        self.radius, self.pyramid = radius, [_correlations(rows, level) for level in levels]
        """The levels [B, h w, h_k, w_k]."""

    def __call__(self, xy: Tensor) -> Tensor:
        """Return the windows [B, LEVELS (2 r + 1)^2, h, w] around pixels ``xy`` [B, h, w, 2], which get no gradient."""
        centres = xy.detach().flatten(1, 2)
        return _as_maps(_windows(self.pyramid, centres, radius=self.radius), xy)


class LeanLookup:
    """The same windows, computed when asked for."""

    def __init__(self, feature_a: Tensor, feature_b: Tensor, *, radius: int) -> None:
        self.rows, self.levels = _operands(feature_a, feature_b)
        self.radius = radius

    def __call__(self, xy: Tensor) -> Tensor:
        """Return the windows [B, LEVELS (2 r + 1)^2, h, w] around pixels ``xy`` [B, h, w, 2], which get no gradient."""
        centres = xy.detach().flatten(1, 2)
        chunks = [checkpoint(self._chunk, rows, part, *self.levels, use_reentrant=False, preserve_rng_state=False)
                  for rows, part in zip(self.rows.split(CHUNK, 1), centres.split(CHUNK, 1), strict=True)]
        return _as_maps(torch.cat(chunks, dim=1), xy)  # type: ignore[arg-type]

    def _chunk(self, rows: Tensor, centres: Tensor, *levels: Tensor) -> Tensor:
        # One level at a time: the largest need not outlive its window.
        return torch.cat([_windows([_correlations(rows, level)], centres / 2**k, radius=self.radius)
                          for k, level in enumerate(levels)], dim=-1)


def _operands(feature_a: Tensor, feature_b: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return the features of a, divided by sqrt(C), as [B, h w, C] and those of b pooled to each level."""
    a, b = full_precision(feature_a), full_precision(feature_b)
    levels = [b]
    while len(levels) < LEVELS:
        levels.append(F.avg_pool2d(levels[-1], 2))
    return (a / a.shape[1] ** 0.5).flatten(2).transpose(1, 2), levels


def _correlations(rows: Tensor, level: Tensor) -> Tensor:
    """Return the correlations [B, N, h, w] of features [B, N, C] with a level [B, C, h, w]."""
    with torch.autocast(rows.device.type, enabled=False):
        return (rows @ level.flatten(2)).unflatten(2, level.shape[2:])


def _windows(pyramid: list[Tensor], centres: Tensor, *, radius: int) -> Tensor:
    """Return [B, N, levels (2 r + 1)^2], the windows of maps [B, N, h, w] around ``centres`` [B, N, 2] / 2^k."""
    return torch.cat([_window(level, centres / 2**k, radius=radius) for k, level in enumerate(pyramid)], dim=-1)


def _window(maps: Tensor, centres: Tensor, *, radius: int) -> Tensor:
    """Return [B, N, (2 r + 1)^2] of one level.

    All values of a window share one fraction of a pixel: (2 r + 2)^2 cells are read and mixed, first along y, then x.
    """
    height, width = maps.shape[-2:]
    corner = centres.floor()
    steps = torch.arange(-radius, radius + 2, device=maps.device, dtype=centres.dtype)
    x, y = corner[..., :1] + steps, corner[..., 1:] + steps
    exists = _within(y, height).unsqueeze(-1) & _within(x, width).unsqueeze(-2)
    index = _index(y, height).unsqueeze(-1) * width + _index(x, width).unsqueeze(-2)
    cells = maps.flatten(2).gather(2, index.flatten(2)).unflatten(2, exists.shape[2:])
    cells = torch.where(exists, cells, torch.zeros_like(cells))
    fraction_x, fraction_y = (centres - corner)[..., None, None].unbind(2)
    cells = torch.lerp(cells[..., :-1, :], cells[..., 1:, :], fraction_y)
    return torch.lerp(cells[..., :-1], cells[..., 1:], fraction_x).flatten(2)


def _within(place: Tensor, size: int) -> Tensor:
    return (place >= 0) & (place < size)


def _index(place: Tensor, size: int) -> Tensor:
    # A flow that is not finite is somewhere outside.
    return place.nan_to_num(-1).clamp(0, size - 1).long()


def _as_maps(windows: Tensor, xy: Tensor) -> Tensor:
    """Return [B, h w, K] as [B, K, h, w]."""
    return windows.transpose(1, 2).unflatten(2, xy.shape[1:3])
