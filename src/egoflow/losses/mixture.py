"""What moves by itself, by the distribution of two photometric errors (CoopNet: Hariat, Manzanera & Filliat 2023).

Delta = e_r - e_f is how much worse depth and camera motion explain a pixel than optical flow does, by ONE operator, on
one grid and under one mask (``seen_by_both``). Over the static scene it is a Laplace distribution; movers add a tail to
its right. Early in training all of Delta is large because depth is untrained: a model of the distribution follows that,
a fixed threshold would starve the depth network.

The disagreement of the two flows follows such a distribution too, and says more of what moves (``moving_probability``).

The paper's formulas are not published in readable form and no code exists: the one-sided mixture, its fit and what is
said to move are ours. Nothing here has a gradient, or a network would learn to play with the classifier.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from egoflow.geometry.precision import full_precision
from egoflow.losses.masks import forward_backward_visible, in_view

LEAST_PIXELS = 100
"""With fewer pixels of evidence nothing is fitted."""
ALIKE = 0.05
"""Flows that disagree by no more are one, however well the scene's agree."""
MOST_PIXELS = 32_768
"""A fit looks at so many pixels, evenly spread: c and b are known to a hundredth from them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """(1 - movers) Laplace(centre, scale) + movers Uniform(centre, largest): scalar tensors, so nothing waits for them.

    ``pixels`` is the evidence behind it; with 0 nothing is known and everything counts as static.
    """

    centre: Tensor
    scale: Tensor
    movers: Tensor
    largest: Tensor
    pixels: Tensor

    @staticmethod
    def unknown(*, device: torch.device | str | None = None) -> "Mixture":
        """Return the mixture before any evidence."""
        return Mixture.from_tensor(torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0], device=device))

    @staticmethod
    def from_tensor(state: Tensor) -> "Mixture":
        """Return the mixture of a buffer [5], as ``to_tensor`` wrote it."""
        centre, scale, movers, largest, pixels = state.unbind()
        return Mixture(centre=centre, scale=scale, movers=movers, largest=largest, pixels=pixels)

    def to_tensor(self) -> Tensor:
        """Return the state [5], for a buffer of the method: a checkpoint brings back every bit of it."""
        return torch.stack((self.centre, self.scale, self.movers, self.largest, self.pixels))

    def smoothed(self, latest: "Mixture", *, keep: float = 0.99) -> "Mixture":
        """Return ``keep`` of this mixture and the rest of the ``latest``; one of them that knows nothing is not read.

        The centre lags 1 / (1 - ``keep``) steps behind: where errors fall faster than a scale in that time, keep less.
        """
        old, new = self.to_tensor(), latest.to_tensor()
        mixed = torch.where(self.pixels > 0, keep * old + (1 - keep) * new, new)
        return Mixture.from_tensor(torch.where(latest.pixels > 0, mixed, old))

    @torch.no_grad()
    def static_weight(self, delta: Tensor) -> Tensor:
        """Return the probability q that a pixel is static, for Delta [B, 1, H, W]; 1 up to the centre and for NaN."""
        delta = full_precision(delta)
        # As a difference of logarithms: both densities vanish in float32 far out.
        odds = (((1 - self.movers) / (2 * self.scale)).log() - (delta - self.centre) / self.scale
                - (self.movers / (self.largest - self.centre).clamp_min(1e-6)).log())
        return torch.where(delta > self.centre, odds.sigmoid(), torch.ones_like(delta))

    @torch.no_grad()
    def static_mask(self, delta: Tensor, *, scales: float = 3.0) -> Tensor:
        """Return bool where Delta [B, 1, H, W] <= centre + ``scales`` scale: 3 misjudge 2.5 % of a static scene."""
        return delta <= self.centre + scales * self.scale


@torch.no_grad()
def seen_by_both(rigid_flow_ab: Tensor, flow_ab: Tensor, flow_ba: Tensor) -> Tensor:
    """Return where Delta means something: both flows end in view and the optical flow is led back.

    Not by the camera's own way back, which loses just what moves by itself.
    """
    return in_view(rigid_flow_ab) & forward_backward_visible(flow_ab, flow_ba)


@torch.no_grad()
def evidence(error_rigid: Tensor, error_flow: Tensor, use: Tensor, *, least: float = 1e-3) -> Tensor:
    """Return which of the used pixels say something of motion: at least one error [B, 1, H, W] is above ``least``.

    In dark, saturated and textureless places any two flows explain everything. Their Delta of 0 is no sign of a static
    scene, and would squeeze the scale of the mixture.
    """
    return use & (torch.maximum(error_rigid, error_flow) > least)


@torch.no_grad()
def fitted(delta: Tensor, use: Tensor, *, iterations: int = 30) -> Mixture:
    """Return the mixture of Delta [B, 1, H, W] over ``use`` (``evidence``) by expectation and maximisation.

    Starts from the median, the mean deviation of the left half, which movers do not reach, and a share of .05, whose
    prior is Beta(1, 9): a batch without movers finds none. Sizes do not depend on the data, nothing waits for the
    device.
    """
    value, known = full_precision(delta).flatten(), use.flatten()
    stride = -(-value.numel() // MOST_PIXELS)
    value, known = value[::stride], known[::stride]
    value, order = torch.where(known, value, torch.full_like(value, torch.inf)).sort()
    present = known[order].to(value.dtype)
    value = torch.where(present > 0, value, torch.zeros_like(value))
    count = present.sum()
    centre = _median(value, present)
    left = present * (value < centre)
    mixture = Mixture(centre=centre, scale=_mean((value - centre).abs(), left), movers=torch.full_like(centre, 0.05),
                      largest=torch.where(present > 0, value, torch.full_like(value, -torch.inf)).amax(), pixels=count)
    for _ in range(iterations):
        static = present * mixture.static_weight(value)
        centre = _median(value, static)
        # The mode of the posterior under Beta(1, 9).
        movers = (count - static.sum()) / (count + 8)
        mixture = Mixture(centre=centre, scale=_mean((value - centre).abs(), static), movers=movers,
                          largest=mixture.largest, pixels=count)
    nothing = Mixture.unknown(device=value.device).to_tensor()
    return Mixture.from_tensor(torch.where(count >= LEAST_PIXELS, mixture.to_tensor(), nothing.to(value.dtype)))


@torch.no_grad()
def disagreement(flow_ab: Tensor, rigid_flow_ab: Tensor) -> Tensor:
    """Return how unlike optical flow and the camera's are, |f - r| / (|f| + |r| + 1 px), from 0 to 1 [B, 1, H, W].

    Relative, because a wrong depth errs by a share of the camera's flow; the pixel keeps small flows from being
    unlike by their noise.
    """
    apart, size, other = (value.square().sum(1, keepdim=True).sqrt() for value in (
        full_precision(flow_ab - rigid_flow_ab), full_precision(flow_ab), full_precision(rigid_flow_ab)))
    return apart / (size + other + 1)


@torch.no_grad()
def moving_probability(difference: Tensor, delta: Tensor, use: Tensor, *, differences: Mixture,
                       deltas: Mixture) -> Tensor:
    """Return the probability [B, 1, H, W] that something moves by itself, 0 without use.

    By both cues: how likely the flows' ``disagreement`` is none of the scene's, where the camera's flow explains the
    images worse than the scene's centre and scale of Delta. The first alone fires on errors of depth, the second
    misses movers without texture. A mover on its own epipolar lines, such as a car ahead, differs in length alone: a
    free depth can explain it away.
    """
    moving = 1 - differences.static_weight(difference)
    # Written so that a number that is none lies on the static side.
    told = use & (delta > deltas.centre + deltas.scale) & (difference > ALIKE)
    return torch.where(told, moving, torch.zeros_like(moving))


def _mean(value: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean, kept above 0: the width of a distribution of equal values."""
    return ((value * weight).sum() / weight.sum().clamp_min(1)).clamp_min(1e-6)


def _median(ordered: Tensor, weight: Tensor) -> Tensor:
    """Return the value of ascending ``ordered`` at which half of the weight is reached."""
    total = weight.cumsum(0)
    index = torch.searchsorted(total, 0.5 * total[-1:])
    return ordered[index.clamp_max(ordered.numel() - 1)].squeeze(0)
