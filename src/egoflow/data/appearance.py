"""Random changes of how images look and not of where things are: what a network of flow is shown in training.

Losses without labels compare the images as they were (Meister 2018), so these changes are drawn where the network is
called, from torch's generator, and not where clips are read.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from egoflow.config import STRICT, Share


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """How strongly images change; each sample draws once for all of its frames, but for noise and erasing."""

    __pydantic_config__ = STRICT
    noise: Share = 0.0
    """Deviation of the noise of every pixel and channel."""
    brightness: Share = 0.0
    """Deviation of what is added."""
    contrast: Share = 0.0
    """Values are multiplied by U(1 - contrast, 1 + contrast)."""
    colour: Share = 0.0
    """Each channel is multiplied by U(1 - colour, 1 + colour)."""
    gamma: tuple[float, float] = (1.0, 1.0)
    """Values are raised to a power drawn between these."""
    erase: Share = 0.0
    """Chance that a rectangle of a frame shows its mean colour alone (Teed & Deng 2020), as if it were occluded."""


def altered(images: Tensor, appearance: Appearance) -> Tensor:
    """Return clips [B, N, 3, H, W] in [0, 1] that look different, in [0, 1].

    Contrast, brightness, colour and clamping first, then gamma, noise and erasing.
    """
    if appearance == Appearance():
        return images
    batch = images.shape[0]

    def uniform(low: float, high: float, channels: int = 1) -> Tensor:
        return torch.empty(batch, 1, channels, 1, 1, device=images.device).uniform_(low, high)

    result = images * uniform(1 - appearance.contrast, 1 + appearance.contrast)
    result = result + appearance.brightness * torch.randn(batch, 1, 1, 1, 1, device=images.device)
    result = (result * uniform(1 - appearance.colour, 1 + appearance.colour, channels=3)).clamp(0, 1)
    result = result.pow(uniform(*appearance.gamma))
    result = (result + appearance.noise * torch.randn_like(result)).clamp(0, 1)
    return _erased(result, appearance.erase)


def _erased(images: Tensor, chance: float) -> Tensor:
    """Return the clips with one rectangle of some frames in the frame's mean colour.

    A side is 1/8 to 1/4 of the image's, as the published 50 to 100 pixels are of 368 x 496.
    """
    if chance == 0:
        return images
    inside = torch.ones((), dtype=torch.bool, device=images.device)
    for dim in (-1, -2):
        size = images.shape[dim]
        centre, side = (torch.rand(*images.shape[:2], 1, 1, 1, device=images.device) for _ in range(2))
        place = torch.arange(size, device=images.device).view((size,) if dim == -1 else (size, 1))
        inside = inside & ((place - centre * size).abs() < size * (1 + side) / 16)
    chosen = torch.rand(*images.shape[:2], 1, 1, 1, device=images.device) < chance
    return torch.where(inside & chosen, images.mean((-2, -1), keepdim=True), images)
