"""What may come between a scene and its picture: noise, and patches that hide a part of it."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from egoflow.geometry.flow import pixels_from_flow
from egoflow.geometry.pixels import sample
from egoflow.types import Clip

ERASE_DRAWS = 10
"""So many random numbers in [0, 1) a frame decide what is erased of it."""
_SIZES, _AT_HEIGHT, _TWICE = (50.0, 100.0), 384, 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle of pixels of frame ``frame``; it may reach outside the image."""

    frame: int
    top: int
    left: int
    height: int
    width: int


def noisy(clip: Clip, deviation: float, *, generator: torch.Generator) -> Clip:
    """Add Gaussian noise, new for every pixel and frame; images stay in [0, 1]."""
    noise = torch.randn(clip.images.shape, generator=generator, dtype=clip.images.dtype)
    return replace(clip, images=(clip.images + deviation * noise).clamp(0, 1))


def drawn_boxes(clip: Clip, probability: float, *, draw: list[float]) -> list[Box]:
    """Return the boxes that ERASE_DRAWS numbers in [0, 1) a frame choose: none, one or two of each but the target.

    Their sides are U(50, 100) px at a height of 384 px, their first pixel is any of the image. (RAFT, released code)
    """
    height, width = clip.images.shape[-2:]
    unit, boxes = height / _AT_HEIGHT, []
    for frame in clip.sources:
        own = draw[ERASE_DRAWS * frame:ERASE_DRAWS * (frame + 1)]
        count = 0 if own[0] >= probability else 1 if own[1] >= _TWICE else 2
        for i in range(count):
            y, x, *sides = own[2 + 4 * i:6 + 4 * i]
            tall, wide = (max(1, round(unit * (_SIZES[0] + (_SIZES[1] - _SIZES[0]) * side))) for side in sides)
            boxes.append(Box(frame=frame, top=int(y * height), left=int(x * width), height=tall, width=wide))
    return boxes


def erased(clip: Clip, boxes: list[Box]) -> Clip:
    """Fill boxes with their frame's mean colour; what the truth calls visible is so neither in them nor behind them."""
    if not boxes:
        return clip
    hidden = torch.zeros_like(clip.images[:, :, :1], dtype=torch.bool)
    for box in boxes:
        hidden[:, box.frame, :, box.top:box.top + box.height, box.left:box.left + box.width] = True
    images = torch.where(hidden, clip.images.mean((-2, -1), keepdim=True), clip.images)
    truth = clip.truth
    if truth is not None:
        truth = replace(truth, visible={(a, b): seen & ~hidden[:, a] & ~_behind(hidden[:, b], truth.flow.get((a, b)))
                                        for (a, b), seen in truth.visible.items()})
    return replace(clip, images=images, truth=truth)


def _behind(hidden_b: Tensor, flow_ab: Tensor | None) -> Tensor:
    """Return bool [B, 1, H, W] on the grid of a: the flow ends in what is hidden of b."""
    if flow_ab is None:
        return torch.zeros_like(hidden_b)
    return sample(hidden_b.to(flow_ab.dtype), pixels_from_flow(flow_ab))[0] > 0
