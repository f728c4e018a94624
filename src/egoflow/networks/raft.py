"""RAFT: all-pairs correlations, looked up and refined again and again. (Teed & Deng, ECCV 2020)

``raft_basic`` has 5,257,536 parameters (features 1,066,848, context 1,069,728, update with mask 3,120,960),
``raft_small`` 990,162 (55,264, 58,368, 876,530). Deviations: images are padded to at least 64 pixels, where the
coarsest level of the pyramid has one cell (the released code gives NaN below 128); windows of correlations are not
transposed (see networks/foreign.py).
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from egoflow.geometry.flow import pixels_from_flow
from egoflow.geometry.precision import full_precision
from egoflow.networks.all_pairs import LEVELS, DenseLookup, LeanLookup, Lookup
from egoflow.networks.blocks import BatchNorm, normalised
from egoflow.networks.raft_encoder import STRIDE, Encoder
from egoflow.networks.raft_update import MaskHead, MotionEncoder, UpdateBlock, bilinear_upsampled, convex_upsampled

LookupName = Literal["dense", "lean"]
LOOKUPS: dict[str, Callable[..., Lookup]] = {"dense": DenseLookup, "lean": LeanLookup}
SMALLEST = STRIDE * 2 ** (LEVELS - 1)
"""Height and width in pixels below which an image is padded: the coarsest level then has one cell."""
LEAST_CHANNELS = 8


class RAFT(nn.Module):
    """Two images to a series of flows, assembled from its parts; without a ``mask`` head up-sampling is bilinear.

    ``iterations`` are those of training, ``iterations_predict`` those of evaluation mode. With ``freeze_batch_norm``
    batch normalisation uses its running statistics in training too, as published from the second data set on.
    """

    def __init__(self, features: Encoder, context: Encoder, update: UpdateBlock, mask: MaskHead | None, *, radius: int,
                 iterations: int, iterations_predict: int, lookup: LookupName, freeze_batch_norm: bool) -> None:
        super().__init__()
        self.features, self.context, self.update, self.mask = features, context, update, mask
        self.radius, self.lookup = radius, lookup
        self.iterations, self.iterations_predict = iterations, iterations_predict
        self.freeze_batch_norm = freeze_batch_norm
        self.train()

    def train(self, mode: bool = True) -> "RAFT":
        """Switch to training mode, all but frozen batch normalisation."""
        super().train(mode)
        if self.freeze_batch_norm:
            for module in self.modules():
                if isinstance(module, BatchNorm):
                    module.eval()
        return self

    def forward(self, image_a: Tensor, image_b: Tensor) -> list[Tensor]:
        """Return flows from a to b [B, 2, H, W] in pixels, the last refinement first, of RGB [B, 3, H, W] in [0, 1].

        In evaluation mode there is the last one alone.
        """
        size = image_a.shape[-2:]
        left, right, top, bottom = padding = _padding(size)
        a, b = (F.pad(normalised(image), padding, mode="replicate") for image in (image_a, image_b))
        feature_a, feature_b = self.features(torch.cat((a, b))).chunk(2)
        lookup = LOOKUPS[self.lookup](feature_a, feature_b, radius=self.radius)
        hidden, context = self.context(a).split([self.update.hidden, self.update.context], dim=1)
        hidden, context = hidden.tanh(), context.relu()
        flow, found = a.new_zeros(a.shape[0], 2, *feature_a.shape[-2:]), []
        count = self.iterations if self.training else self.iterations_predict
        for number in range(count):
            # Gradients reach earlier refinements through the hidden state, never through where they looked.
            flow = flow.detach()
            hidden, change = self.update(hidden, context, lookup(pixels_from_flow(flow)), flow)
            flow = flow + full_precision(change)
            if self.training or number == count - 1:
                found.append(self._upsampled(flow, hidden)[..., top:top + size[0], left:left + size[1]])
        return found[::-1]

    def _upsampled(self, flow: Tensor, hidden: Tensor) -> Tensor:
        if self.mask is None:
            return bilinear_upsampled(flow)
        return convex_upsampled(flow, full_precision(self.mask(hidden)))


def _padding(size: torch.Size) -> tuple[int, int, int, int]:
    """Return the pixels to add left, right, top and bottom, in halves, for whole cells and at least SMALLEST."""
    pads = []
    for pixels in size[::-1]:
        missing = max(SMALLEST, -(-pixels // STRIDE) * STRIDE) - pixels
        pads += [missing // 2, missing - missing // 2]
    return pads[0], pads[1], pads[2], pads[3]


def raft_basic(*, width: float = 1.0, iterations: int = 12, iterations_predict: int = 32, lookup: LookupName = "dense",
               freeze_batch_norm: bool = False) -> RAFT:
    """Return RAFT with a share ``width`` of the published channels."""
    def channels(count: int) -> int:
        return _channels(count, width)

    stages, radius, hidden, context = (channels(64), channels(96), channels(128)), 4, channels(128), channels(128)
    motion = MotionEncoder(LEVELS * (2 * radius + 1) ** 2, correlation=(channels(256), channels(192)),
                           flow=(channels(128), channels(64)), outputs=channels(128))
    return RAFT(Encoder(stages, channels(256), norm="instance", bottleneck=False),
                Encoder(stages, hidden + context, norm="batch", bottleneck=False),
                UpdateBlock(motion, hidden=hidden, context=context, head=channels(256), separable=True),
                MaskHead(hidden, width=channels(256)), radius=radius, iterations=iterations,
                iterations_predict=iterations_predict, lookup=lookup, freeze_batch_norm=freeze_batch_norm)


def raft_small(*, width: float = 1.0, iterations: int = 12, iterations_predict: int = 32, lookup: LookupName = "dense",
               freeze_batch_norm: bool = False) -> RAFT:
    """Return RAFT-small, which has no batch normalisation, with a share ``width`` of the published channels."""
    def channels(count: int) -> int:
        return _channels(count, width)

    stages, radius, hidden, context = (channels(32), channels(64), channels(96)), 3, channels(96), channels(64)
    motion = MotionEncoder(LEVELS * (2 * radius + 1) ** 2, correlation=(channels(96),),
                           flow=(channels(64), channels(32)), outputs=channels(82))
    return RAFT(Encoder(stages, channels(128), norm="instance", bottleneck=True),
                Encoder(stages, hidden + context, norm="none", bottleneck=True),
                UpdateBlock(motion, hidden=hidden, context=context, head=channels(128), separable=False),
                None, radius=radius, iterations=iterations, iterations_predict=iterations_predict, lookup=lookup,
                freeze_batch_norm=freeze_batch_norm)


def _channels(count: int, width: float) -> int:
    return max(LEAST_CHANNELS, round(count * width))
