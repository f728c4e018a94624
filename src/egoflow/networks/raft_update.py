"""The recurrent half of RAFT: from correlations and the flow so far to a better flow. (Teed & Deng 2020, section 3.3)

Everything here works at an eighth of the image's size, and in pixels of that size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from egoflow.networks.blocks import convolution, joined
from egoflow.networks.raft_encoder import STRIDE

MASK_SCALE = 0.25
"""Factor before the softmax of the up-sampling weights: it balances their gradient with that of the flow."""


class MotionEncoder(nn.Module):
    """Correlations [B, inputs, h, w] and flow [B, 2, h, w] to motion features; the last two of them are the flow."""

    def __init__(self, inputs: int, *, correlation: tuple[int, ...], flow: tuple[int, int], outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        kernels = (1, 3)
        self.correlation = nn.Sequential(*(convolution(i, o, kernel=kernel) for i, o, kernel in
                                           zip((inputs, *correlation), correlation, kernels, strict=False)))
        self.flow = nn.Sequential(convolution(2, flow[0], kernel=7), convolution(flow[0], flow[1]))
        self.join = convolution(correlation[-1] + flow[1], outputs - 2)

    def forward(self, correlation: Tensor, flow: Tensor) -> Tensor:
        """Return [B, outputs, h, w]."""
        both = joined([self.correlation(correlation), self.flow(flow)])
        together = self.join(both)
        return joined([together, flow.to(together.dtype)])


class GRUPass(nn.Module):
    """One gated update: h = (1 - z) h + z q, with z = s(W_z [h, x]), r = s(W_r [h, x]), q = tanh(W_q [r h, x])."""

    def __init__(self, hidden: int, inputs: int, *, kernel: tuple[int, int]) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.update, self.reset, self.candidate = (
            nn.Conv2d(hidden + inputs, hidden, kernel, padding=padding) for _ in range(3))

    def forward(self, hidden: Tensor, x: Tensor) -> Tensor:
        """Return the new hidden state."""
        both = torch.cat((hidden, x), dim=1)
        z, r = torch.sigmoid(self.update(both)), torch.sigmoid(self.reset(both))
        q = torch.tanh(self.candidate(torch.cat((r * hidden, x), dim=1)))
        return (1 - z) * hidden + z * q


class UpdateBlock(nn.Module):
    """Motion features, a recurrent state and a head for the change of the flow.

    ``separable`` runs the gates along rows, then along columns, with kernels of 5; otherwise once with 3x3.
    """

    def __init__(self, motion: MotionEncoder, *, hidden: int, context: int, head: int, separable: bool) -> None:
        super().__init__()
        self.hidden, self.context, self.motion = hidden, context, motion
        kernels = ((1, 5), (5, 1)) if separable else ((3, 3),)
        self.passes = nn.ModuleList(GRUPass(hidden, context + motion.outputs, kernel=kernel) for kernel in kernels)
        self.head = nn.Sequential(convolution(hidden, head), nn.Conv2d(head, 2, 3, padding=1))

    def forward(self, hidden: Tensor, context: Tensor, correlation: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """Return the new state [B, hidden, h, w] and the change of the flow [B, 2, h, w]."""
        x = torch.cat((context, self.motion(correlation, flow)), dim=1)
        for gates in self.passes:
            hidden = gates(hidden, x)
        return hidden, self.head(hidden)


class MaskHead(nn.Sequential):
    """The hidden state to the logits [B, 9 * 64, h, w] of the up-sampling weights."""

    def __init__(self, hidden: int, *, width: int) -> None:
        super().__init__(convolution(hidden, width), nn.Conv2d(width, 9 * STRIDE**2, 1))

    def forward(self, input: Tensor) -> Tensor:
        """Return the logits."""
        return MASK_SCALE * super().forward(input)


def convex_upsampled(flow: Tensor, logits: Tensor) -> Tensor:
    """Return a flow [B, 2, h, w] at eight times its size, in pixels of that size. (section 3.3)

    Each fine pixel is a convex mean of the 3x3 coarse flows around it; ``logits`` [B, 9 * 8 * 8, h, w] hold, for each
    of the nine, the 8x8 fine pixels. Outside the map flow is zero, as published.
    """
    batch, _, height, width = flow.shape
    weights = logits.view(batch, 1, 9, STRIDE, STRIDE, height, width).softmax(dim=2)
    around = F.unfold(STRIDE * flow, 3, padding=1).view(batch, 2, 9, 1, 1, height, width)
    fine = (weights * around).sum(2)
    return fine.permute(0, 1, 4, 2, 5, 3).reshape(batch, 2, STRIDE * height, STRIDE * width)


def bilinear_upsampled(flow: Tensor) -> Tensor:
    """Return a flow [B, 2, h, w] at eight times its size, in pixels of that size, as RAFT-small was published.

    It stretches corner centres onto corner centres, unlike ``resize_flow``; published weights expect that.
    """
    height, width = flow.shape[-2:]
    return STRIDE * F.interpolate(flow, (STRIDE * height, STRIDE * width), mode="bilinear", align_corners=True)
