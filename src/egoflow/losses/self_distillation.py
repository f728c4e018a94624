"""A flow net as its own teacher: what it says of a whole image, it must say of a harder view of the same image.

The teacher's flow is carried into the student's view and gets no gradient. Views are affine maps of pixel coordinates
[..., 2, 3], ``student_from_teacher``: x' = A x + b.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from egoflow.config import STRICT, Amount, Count, Probability
from egoflow.geometry.flow import flow_from_pixels, forward_backward_error
from egoflow.geometry.pixels import pixel_grid, sample


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """The student's view, and when and how much it teaches."""

    __pydantic_config__ = STRICT
    view: Literal["affine", "crop"] = "affine"
    """Turned, enlarged and shifted (ARFlow), or ``margin`` pixels cut off each side (UFlow)."""
    weight: Amount = 0.01
    begins: Probability = 0.5
    """Progress of training before which there is none."""
    ramp: Probability = 0.0
    """Share of training in which the weight climbs from 0."""
    margin: Count = 64
    """Of smaller images never more than a quarter of a side: the student must be left with something to see."""

    def weight_at(self, progress: float) -> float:
        """Return the weight at ``progress`` 0..1."""
        if progress < self.begins:
            return 0.0
        return self.weight * min((progress - self.begins) / self.ramp, 1.0) if self.ramp else self.weight


def random_views(*shape: int, height: int, width: int, zoom: tuple[float, float] = (1.0, 1.0), turn: float = 0.0,
                 shift: float = 0.0, device: torch.device | None = None) -> Tensor:
    """Return random views [*shape, 2, 3] about the image's centre, from torch's generator.

    Enlarged by U(zoom), turned by at most ``turn`` radians, shifted by at most that share of the image's sides.
    """
    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(shape, device=device).uniform_(low, high)

    scale, angle = uniform(*zoom), uniform(-turn, turn)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    x, y = (width - 1) / 2, (height - 1) / 2
    right = x + uniform(-shift, shift) * width - cos * x + sin * y
    down = y + uniform(-shift, shift) * height - sin * x - cos * y
    return torch.stack((cos, -sin, right, sin, cos, down), dim=-1).unflatten(-1, (2, 3))


def composed(second: Tensor, first: Tensor) -> Tensor:
    """Return the view [..., 2, 3] that applies ``first``, then ``second``."""
    # By sums of products: matrix products lose digits under autocast.
    turned = (second[..., :2].unsqueeze(-1) * first.unsqueeze(-3)).sum(-2)
    return torch.cat((turned[..., :2], turned[..., 2:] + second[..., 2:]), dim=-1)


def viewed(image: Tensor, view: Tensor) -> Tensor:
    """Return images [B, C, H, W] through views [B, 2, 3]; outside, the border repeats."""
    return sample(image, _seen_from(view, image))[0]


@torch.no_grad()
def viewed_flow(flow_ab: Tensor, use: Tensor, view_a: Tensor, view_b: Tensor) -> tuple[Tensor, Tensor]:
    """Return a flow [B, 2, H, W] between two viewed images, and where it is known, bool [B, 1, H, W].

    What stands at x in a stands at A_a(x) in its view, and at A_b(x + f(x)) in that of b: at x' of the view the flow is
    A_b(x + f(x)) - x' with x = A_a^-1(x'). ``use`` says where the flow is to be believed. (Liu 2020, section 3.3)
    """
    there = _seen_from(view_a, flow_ab)
    flow = torch.where(use, flow_ab, torch.zeros_like(flow_ab))
    carried, inside = sample(torch.cat((flow, use.to(flow.dtype)), dim=1), there)
    ends = _applied(view_b, there + carried[:, :2].permute(0, 2, 3, 1))
    return flow_from_pixels(ends), inside & (carried[:, 2:] > 0.999)


def clip_through_random_views(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return clips [B, N, 3, H, W] as random views show them, and the views [B, N, 2, 3].

    The frames of a clip share all but a hundredth of their view, so that flows stay small. The ranges are ours.
    """
    batch, count = images.shape[:2]
    height, width = images.shape[-2:]

    def drawn(frames: int, zoom: tuple[float, float], turn: float, shift: float) -> Tensor:
        return random_views(batch, frames, height=height, width=width, zoom=zoom, turn=turn, shift=shift,
                            device=images.device)

    view = composed(drawn(count, (0.99, 1.01), 0.01, 0.005), drawn(1, (1.0, 1.4), 0.05, 0.04))
    return viewed(images.flatten(0, 1), view.flatten(0, 1)).unflatten(0, (batch, count)), view


def cut(value: Tensor, *, margin: int) -> Tensor:
    """Return maps [..., H, W] without ``margin`` pixels on each side, at most a quarter of the image's."""
    height, width = value.shape[-2:]
    down, right = min(margin, height // 4), min(margin, width // 4)
    return value[..., down:height - down, right:width - right]


@torch.no_grad()
def confidence(flow_ab: Tensor, flow_ba: Tensor, *, sigma: float) -> Tensor:
    """Return exp(-|f + b|^2 / (sigma^2 (H^2 + W^2))) [B, 1, H, W], and 0 where the flow leaves the image.

    With UFlow's sigma of 0.003 for the teacher that is 1/e where the way back misses by 0.3 % of the image's diagonal.
    (Jonschkowski 2020, equation 7)
    """
    error, _, inside = forward_backward_error(flow_ab, flow_ba)
    height, width = flow_ab.shape[-2:]
    value = torch.exp(-error / (sigma**2 * (height**2 + width**2)))
    return torch.where(inside, value, torch.zeros_like(value))


def _seen_from(view: Tensor, like: Tensor) -> Tensor:
    """Return the pixels [B, H, W, 2] of the teacher that a view's pixels show."""
    a, b, c, d = (view[..., i, j] for i in (0, 1) for j in (0, 1))
    inverse = torch.stack((d, -b, -c, a), dim=-1).unflatten(-1, (2, 2)) / (a * d - b * c)[..., None, None]
    back = -(inverse * view[..., 2].unsqueeze(-2)).sum(-1, keepdim=True)
    grid = pixel_grid(*like.shape[-2:], device=like.device, dtype=like.dtype)
    return _applied(torch.cat((inverse, back), dim=-1), grid)


def _applied(view: Tensor, xy: Tensor) -> Tensor:
    """Return pixels [B, H, W, 2] or [H, W, 2] moved by views [B, 2, 3]."""
    x, y = xy[..., 0], xy[..., 1]
    rows = (view[:, i, 0, None, None] * x + view[:, i, 1, None, None] * y + view[:, i, 2, None, None] for i in (0, 1))
    return torch.stack(tuple(rows), dim=-1)
