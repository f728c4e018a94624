"""Layers of flat shapes that move by planar affine motions: pictures, exact flow and occlusion.

A layer is defined in coordinates of its own, and textures and edges are evaluated where a pixel's centre lies in them:
nothing is resampled, so nothing blurs. Scenes are tuples of layers, the lowest, which has no edge, first. A point
belongs to the topmost layer that holds it; truth is that of pixel centres, in float64.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from egoflow.types import FlowTruth
from egoflow.worlds.affine import moved, zoom_of
from egoflow.worlds.raycast import sample_offsets
from egoflow.worlds.shapes import Shape
from egoflow.worlds.textures import Patch, Texture, paint

_LEAST_WEIGHT = 1e-4
_BLUR_PX = 1.5  # A lens spreads a point over more than one pixel; bilinear sampling needs it to.


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A textured shape (None: everything) with its motion.

    ``image_from_layer`` [3, 3] places its own coordinates, in pixels, in frame 0, and ``motion`` [3, 3] takes the
    pixels of any frame to the next: it is the same in all of them. ``shift`` moves the texture's noise.
    """

    shape: Shape | None
    texture: Texture
    image_from_layer: np.ndarray
    motion: np.ndarray
    shift: float = 0.0

    def placed(self, frame: int) -> np.ndarray:
        """Return image_from_layer [3, 3] of a frame."""
        return np.linalg.matrix_power(self.motion, frame) @ self.image_from_layer


Scene = tuple[Layer, ...]


@dataclass(frozen=True, slots=True)
class _Window:
    """The pixels that a layer may touch in one frame, with layer_from_image and the layer's zoom there."""

    rows: tuple[int, int]
    columns: tuple[int, int]
    layer_from_image: np.ndarray
    zoom: float

    @staticmethod
    def of(layer: Layer, frame: int, *, height: int, width: int) -> "_Window":
        placed = layer.placed(frame)
        rows, columns = (0, height), (0, width)
        if layer.shape is not None:
            x0, y0, x1, y1 = layer.shape.bounds
            x, y = moved(placed, np.array([x0, x1, x0, x1]), np.array([y0, y0, y1, y1]))
            # An edge is a pixel wide in the picture; beyond the image's size integers stay small.
            columns, rows = _pixels(x, width), _pixels(y, height)
        return _Window(rows, columns, np.linalg.inv(placed), zoom_of(placed))

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(*self.rows), slice(*self.columns)

    def coordinates(self, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the layer's own coordinates [h, w] of the pixels, moved by ``offset`` pixels."""
        x = np.arange(*self.columns) + offset[0]
        y = np.arange(*self.rows)[:, None] + offset[1]
        return moved(self.layer_from_image, x, y)


def _pixels(values: np.ndarray, length: int) -> tuple[int, int]:
    """Return the first and the last + 1 pixel, of ``length``, within a pixel of the span of ``values``."""
    first, last = np.clip((np.floor(values.min() - 1), np.ceil(values.max() + 2)), 0, length)
    return int(first), max(int(first), int(last))


def labels(scene: Scene, frame: int, *, height: int, width: int) -> np.ndarray:
    """Return the number [H, W] of the layer that each pixel centre of a frame belongs to."""
    top = np.zeros((height, width), np.int64)
    for number, layer in enumerate(scene):
        if layer.shape is not None:
            window = _Window.of(layer, frame, height=height, width=width)
            top[window.slices][layer.shape.edge(*window.coordinates(np.zeros(2))) <= 0] = number
    return top


def flow_truth(scene: Scene, a: int, b: int, *, height: int, width: int) -> FlowTruth:
    """Return the exact flow from frame ``a`` to frame ``b``; known everywhere.

    ``visible``: the point is within the image of b, and no layer above its own holds the place that it moves to.
    """
    top = labels(scene, a, height=height, width=width)
    motions = np.stack([np.linalg.matrix_power(layer.motion, b - a)[:2] for layer in scene]) - np.eye(2, 3)
    m = np.moveaxis(motions, 0, -1)[..., top]
    x, y = np.arange(width), np.arange(height)[:, None]
    flow = m[:, 0] * x + (m[:, 1] * y + m[:, 2])
    x, y = x + flow[0], y + flow[1]
    visible = (x >= -1e-9) & (x <= width - 1 + 1e-9) & (y >= -1e-9) & (y <= height - 1 + 1e-9)
    for number, layer in enumerate(scene):
        if layer.shape is not None:
            window = _Window.of(layer, b, height=height, width=width)
            (r0, r1), (c0, c1) = window.rows, window.columns
            below = np.nonzero(visible & (top < number) & (x > c0 - 1) & (x < c1) & (y > r0 - 1) & (y < r1))
            visible[below] = layer.shape.edge(*moved(window.layer_from_image, x[below], y[below])) > 0
    return FlowTruth(flow_ab=flow.astype(np.float32), valid=np.ones_like(visible), visible=visible)


def render(scene: Scene, frame: int, *, height: int, width: int, samples: int = 1) -> Tensor:
    """Return a frame [3, H, W] as float32 RGB in [0, 1], with ``samples`` colour samples a pixel."""
    offsets = sample_offsets(samples).numpy()
    image = torch.zeros(3, height * width)
    for offset in offsets:
        _add_sample(image, scene, frame, offset, size_px=samples ** -0.5, shape=(height, width))
    return (image / samples).clamp_(0, 1).view(3, height, width)


def _add_sample(image: Tensor, scene: Scene, frame: int, offset: np.ndarray, *, size_px: float,
                shape: tuple[int, int]) -> None:
    """Add one sample of every pixel, ``size_px`` wide, to ``image`` [3, H W], from the top layer down."""
    left = np.ones(shape, np.float32)
    index_of = np.arange(left.size, dtype=np.int64).reshape(shape)
    points = []
    for number in reversed(range(len(scene))):
        layer, window = scene[number], _Window.of(scene[number], frame, height=shape[0], width=shape[1])
        u, v = (value.astype(np.float32) for value in window.coordinates(offset))
        weight = left[window.slices].copy()
        if layer.shape is not None:
            weight *= np.clip(0.5 - layer.shape.edge(u, v) * np.float32(window.zoom / size_px), 0, 1)
        seen = np.nonzero(weight > _LEAST_WEIGHT)
        left[window.slices] -= weight
        points.append((index_of[window.slices][seen], u[seen], v[seen], weight[seen],
                       np.full(len(seen[0]), number), np.full(len(seen[0]), size_px / window.zoom, np.float32)))
    index, u, v, weight, which, size = (torch.from_numpy(np.concatenate(c)) for c in zip(*points, strict=True))
    shift = torch.tensor([layer.shift for layer in scene])[which]
    unused = u.new_zeros(2, 1).expand(2, len(u))
    patch = Patch(u, v, size * _BLUR_PX, size * _BLUR_PX, shift, unused, unused, unused)
    colour = paint(tuple(layer.texture for layer in scene), which, patch)
    image.index_add_(1, index, colour * weight)
