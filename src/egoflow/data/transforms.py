"""Changes of whole clips that carry the camera, the truth and the two-view start along.

Convention: each function returns a new clip in which every map still says the same of the same 3-D points: projecting
with the new camera finds the pixel that the old one did. Depth truth may have its own size until the first crop or
pad, which puts it on the image grid by the nearest pixel (sparse depth is never interpolated).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from egoflow.config import Augment
from egoflow.data import affine
from egoflow.data.disturbance import ERASE_DRAWS, drawn_boxes, erased, noisy
from egoflow.geometry.flow import pixels_from_flow
from egoflow.geometry.pixels import inside_image, resize_flow, resize_image, resize_mask, resize_true_flow
from egoflow.geometry.se3 import SE3
from egoflow.types import Clip, Pair, Truth, TwoView

_LUMA = (0.299, 0.587, 0.114)
_UPSIDE_DOWN = 0.1


def _frames(value: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a change of [B, C, H, W] maps to [B, N, C, H, W]."""
    return change(value.flatten(0, 1)).unflatten(0, value.shape[:2])


def _start(clip: Clip, flow: Callable[[Tensor], Tensor], mask: Callable[[Tensor], Tensor],
           motion: Callable[[SE3], SE3] = lambda m: m) -> dict[Pair, TwoView]:
    """Return the two-view start with its parts changed."""
    return {pair: replace(view, flow_ab=flow(view.flow_ab), usable=mask(view.usable), b_from_a=motion(view.b_from_a))
            for pair, view in clip.start.items()}


def flip(clip: Clip, *, vertical: bool = False) -> Clip:
    """Mirror a clip left to right: x flow changes sign, motions are conjugated with diag(-1, 1, 1).

    ``vertical`` mirrors it upside down, with y for x throughout.
    """
    axis, signs = (-2, [1.0, -1.0, 1.0]) if vertical else (-1, [-1.0, 1.0, 1.0])

    def mirrored(value: Tensor) -> Tensor:
        return value.flip(axis)

    def flow(value: Tensor) -> Tensor:
        return value.flip(axis) * value.new_tensor(signs[:2]).view(1, 2, 1, 1)

    def motion(value: SE3) -> SE3:
        sign = value.R.new_tensor(signs)
        return SE3(value.R * sign * sign.unsqueeze(-1), value.t * sign)
    truth = clip.truth
    if truth is not None:
        truth = Truth(
            depth=_maybe(mirrored, truth.depth), valid_depth=_maybe(mirrored, truth.valid_depth),
            world_from_cam=_maybe(motion, truth.world_from_cam), static=_maybe(mirrored, truth.static),
            flow={k: flow(v) for k, v in truth.flow.items()},
            valid_flow={k: mirrored(v) for k, v in truth.valid_flow.items()},
            visible={k: mirrored(v) for k, v in truth.visible.items()})
    camera = replace(clip.camera, cy=clip.camera.height - 1 - clip.camera.cy) if vertical else clip.camera.flipped()
    return replace(clip, images=mirrored(clip.images), camera=camera, truth=truth,
                   start=_start(clip, flow, mirrored, motion))


def _maybe(change: Callable[[Any], Any], value: Any) -> Any:
    """Apply a change to what is known."""
    return None if value is None else change(value)


def resize(clip: Clip, *, height: int, width: int) -> Clip:
    """Resize a clip; flow values scale, depth truth keeps its own size (it shows the same field of view)."""
    size = {"height": height, "width": width}

    def mask(value: Tensor) -> Tensor:
        return resize_mask(value, **size)

    def flow(value: Tensor) -> Tensor:
        return resize_flow(value, **size)
    truth = clip.truth
    if truth is not None:
        known = {k: resize_true_flow(v, truth.valid_flow.get(k, torch.ones_like(v[:, :1], dtype=torch.bool)), **size)
                 for k, v in truth.flow.items()}
        truth = replace(truth, static=_maybe(lambda v: _frames(v, mask), truth.static),
                        flow={k: v for k, (v, _) in known.items()},
                        valid_flow={k: known[k][1] for k in truth.valid_flow},
                        visible={k: mask(v) for k, v in truth.visible.items()})
    return replace(clip, images=_frames(clip.images, lambda v: resize_image(v, **size)), truth=truth,
                   camera=clip.camera.resized(**size), start=_start(clip, flow, mask))


def _nearest(value: Tensor, *, clip: Clip, top: int, left: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the window of a map of any size on the image grid, and bool [height, width]: the pixel exists."""
    axes = []
    for first, count, whole, own in ((top, height, clip.camera.height, value.shape[-2]),
                                     (left, width, clip.camera.width, value.shape[-1])):
        # Pixel centres of the window in the map's own pixels, rounded: floor((x + 1/2) own / whole).
        place = ((torch.arange(first, first + count, dtype=torch.float64) + 0.5) * own / whole).floor()
        axes.append((place.clamp(0, own - 1).long(), (place >= 0) & (place < own)))
    (rows, has_row), (columns, has_column) = axes
    return value[..., rows, :][..., columns], has_row[:, None] & has_column


def crop(clip: Clip, *, top: int, left: int, height: int, width: int) -> Clip:
    """Cut the window whose first pixel is (left, top) out of a clip; a window that reaches outside pads as ``pad``.

    What the truth calls visible must also end inside the window of the other frame.
    """
    window = {"clip": clip, "top": top, "left": left, "height": height, "width": width}

    def values(value: Tensor) -> Tensor:
        return _nearest(value, **window)[0]

    def mask(value: Tensor) -> Tensor:
        cut, exists = _nearest(value, **window)
        return cut & exists.to(cut.device)
    truth = clip.truth
    if truth is not None:
        flows = {k: values(v) for k, v in truth.flow.items()}
        truth = replace(
            truth, depth=_maybe(values, truth.depth), valid_depth=_maybe(mask, truth.valid_depth),
            static=_maybe(mask, truth.static), flow=flows,
            valid_flow={k: mask(v) for k, v in truth.valid_flow.items()},
            visible={k: _seen(mask(v), flows.get(k)) for k, v in truth.visible.items()})
    camera = clip.camera.cropped(top=top, left=left, height=height, width=width)
    return replace(clip, images=values(clip.images), camera=camera, truth=truth, start=_start(clip, values, mask))


def _seen(visible: Tensor, flow_ab: Tensor | None) -> Tensor:
    """Return what of ``visible`` ends inside the image."""
    if flow_ab is None:
        return visible
    return visible & inside_image(pixels_from_flow(flow_ab), height=flow_ab.shape[-2], width=flow_ab.shape[-1])


def pad(clip: Clip, *, top: int = 0, left: int = 0, bottom: int = 0, right: int = 0) -> Clip:
    """Add pixels on each side: images repeat their border, and no mask is True there."""
    return crop(clip, top=-top, left=-left, height=clip.camera.height + top + bottom,
                width=clip.camera.width + left + right)


def scale_crop(clip: Clip, *, scale_x: float, scale_y: float, top: float, left: float) -> Clip:
    """Enlarge a clip by ``scale_x``, ``scale_y`` >= 1 and cut a window of the old size (Zhou 2017, released code).

    ``top`` and ``left`` in [0, 1] place the window between the first and the last position.
    """
    height, width = clip.camera.height, clip.camera.width
    large = resize(clip, height=round(height * scale_y), width=round(width * scale_x))
    return crop(large, top=round(top * (large.camera.height - height)), left=round(left * (large.camera.width - width)),
                height=height, width=width)


def recolour(clip: Clip, *, brightness: float = 1.0, contrast: float = 1.0, gamma: float = 1.0, saturation: float = 1.0,
             hue: float = 0.0) -> Clip:
    """Change the colours of all frames alike; images stay in [0, 1].

    Gamma, then brightness (a factor), contrast (about the clip's mean grey), saturation (about each pixel's grey), and
    ``hue``: a turn about the grey axis in radians.
    """
    images = clip.images.clamp_min(0) ** gamma * brightness if gamma != 1 else clip.images * brightness
    luma = images.new_tensor(_LUMA).view(3, 1, 1)
    grey = (images * luma).sum(-3, keepdim=True)
    images = grey + (images - grey) * saturation
    if hue:
        images = torch.einsum("dc,bnchw->bndhw", _hue_matrix(hue).to(images), images)
    mean = grey.mean((1, 2, 3, 4), keepdim=True)
    return replace(clip, images=(mean + (images - mean) * contrast).clamp(0, 1))


def _hue_matrix(angle: float) -> Tensor:
    """Return the rotation [3, 3] of RGB about the grey axis (1, 1, 1): grey stays grey."""
    cos, sin = torch.tensor(angle, dtype=torch.float64).cos(), torch.tensor(angle, dtype=torch.float64).sin()
    near, ahead, behind = (1 + 2 * cos) / 3, (1 - cos) / 3 - sin / 3**0.5, (1 - cos) / 3 + sin / 3**0.5
    return torch.stack((near, ahead, behind, behind, near, ahead, ahead, behind, near)).view(3, 3)


def augmented(clip: Clip, augment: Augment, *, generator: torch.Generator,
              crop_to: tuple[int, int] | None = None) -> Clip:
    """Return a randomly changed clip, cut to a random window of ``crop_to`` (height, width) where it is given.

    The changes depend on ``generator`` alone. Every draw is made whether it is used or not, so that switching one
    change off leaves the others as they were.
    """
    frames = clip.images.shape[1]
    draw, further, single = (torch.rand(count, generator=generator, dtype=torch.float64).tolist()
                             for count in (10, 5 + affine.DRAWS, frames * (5 + ERASE_DRAWS)))
    if augment.flip and draw[0] < 0.5:
        clip = flip(clip)
    if augment.scale_crop > 0:
        clip = scale_crop(clip, scale_x=1 + augment.scale_crop * draw[1], scale_y=1 + augment.scale_crop * draw[2],
                          top=draw[3], left=draw[4])
    if augment.flip_vertical and further[0] < _UPSIDE_DOWN:
        clip = flip(clip, vertical=True)
    if affine.affine_settings(augment):
        clip = affine.affine(clip, affine.drawn_affine(augment, frames=frames, height=clip.camera.height,
                                                       width=clip.camera.width, draw=further[5:]))
    if augment.colour > 0:
        alone = further[1] < augment.asymmetric
        colours = [single[5 * i:5 * i + 5] if alone else draw[5:10] for i in range(frames if alone else 1)]
        clip = _recoloured(clip, [[1 + augment.colour * (2 * d - 1) for d in c] for c in colours])
    if augment.erase > 0:
        clip = erased(clip, drawn_boxes(clip, augment.erase, draw=single[5 * frames:]))
    if augment.noise > 0:
        clip = noisy(clip, augment.noise * further[2], generator=generator)
    if crop_to is not None:
        height, width = crop_to
        clip = crop(clip, top=int(further[3] * (clip.camera.height - height + 1)), height=height, width=width,
                    left=int(further[4] * (clip.camera.width - width + 1)))
    return clip


def _recoloured(clip: Clip, factors: list[list[float]]) -> Clip:
    """Recolour all frames alike by one draw of five factors, or each by its own."""
    parts = [clip] if len(factors) == 1 else [
        replace(clip, images=clip.images[:, i:i + 1], target=0) for i in range(clip.images.shape[1])]
    images = [recolour(part, brightness=f[0], contrast=f[1], gamma=f[2], saturation=f[3], hue=f[4] - 1).images
              for part, f in zip(parts, factors, strict=True)]
    return replace(clip, images=torch.cat(images, dim=1))
