"""The motion and explainability network of SfMLearner. (Zhou 2017, figure 4)

Layers and widths are those of the PyTorch port: 1,590,668 parameters for two sources, 3,340,388 with masks (4:
1,598,456 and 3,352,504). Deviations: masks are logits, one channel per source, whose sigmoid equals the paper's softmax
over two; the mean over pixels is taken before the last (linear) layer, which gives the same numbers. DF-Net's
forward-backward variant without masks (Zou 2018, released code) has 1,588,316 parameters for one source, 1,604,624 for
four.
"""

import torch
from torch import Tensor, nn

from egoflow.networks.blocks import convolution, cropped, initialise, normalised, up_convolution
from egoflow.networks.narrow import NarrowConv2d

WIDTHS = (16, 32, 64, 128, 256, 256, 256)
KERNELS = (7, 5, 3, 3, 3, 3, 3)
SHARED = 5
"""Layers that motion and masks share."""
MASK_WIDTHS = (16, 32, 64, 128, 256)
"""Fine to coarse: ``MASK_WIDTHS[s]`` is the width of the features that return to level s."""
SCALES = 4


def trunk(*, frames: int, batch_norm: bool = False) -> list[nn.Module]:
    """Return the seven layers of stride 2 that take stacked ``frames`` [B, 3 F, H, W] to [B, 256, H / 128, W / 128]."""
    return [convolution(inputs, width, kernel=kernel, stride=2, batch_norm=batch_norm)
            for inputs, width, kernel in zip((3 * frames, *WIDTHS), WIDTHS, KERNELS, strict=False)]


class PoseExpNet(nn.Module):
    """A target and its sources to one motion per source and, if asked, masks at full, 1/2, 1/4 and 1/8 size.

    With ``both_ways``, the motion network of DF-Net: the way back is predicted beside the way there.
    """

    def __init__(self, *, sources: int = 2, masks: bool = False, both_ways: bool = False,
                 batch_norm: bool = False) -> None:
        super().__init__()
        self.sources, self.masks, self.numbers = sources, masks, 12 if both_ways else 6
        self.down, self.up, self.head = (nn.ModuleList() for _ in range(3))
        self.down.extend(trunk(frames=1 + sources, batch_norm=batch_norm))
        self.motion = nn.Conv2d(WIDTHS[-1], self.numbers * sources, 1)
        if masks:
            for coarser, width in zip((*MASK_WIDTHS[1:], WIDTHS[SHARED - 1]), MASK_WIDTHS, strict=True):
                self.up.append(up_convolution(coarser, width, kernel=4, batch_norm=batch_norm))
            self.head.extend(NarrowConv2d(width, sources) for width in MASK_WIDTHS[:SCALES])
        initialise(self)

    def forward(self, target: Tensor, sources: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return (tx, ty, tz, rx, ry, rz) [B, S, 6] of each source_from_target and the masks' logits.

        Those of ``both_ways`` are [B, S, 12], of which the last six are target_from_source.

        Takes RGB in [0, 1], ``target`` [B, 3, H, W] and ``sources`` [B, S, 3, H, W]. Motions are already multiplied by
        0.01, radians and the depth network's unit; logits [B, S, ceil(H / 2^s), ceil(W / 2^s)] go from fine to coarse.
        """
        features = normalised(torch.cat((target, sources.flatten(1, 2)), dim=1))
        sizes = []
        for layer in self.down[:SHARED]:
            sizes.append(features.shape)
            features = layer(features)
        return self._motion(features), self._mask_logits(features, sizes)

    def _motion(self, features: Tensor) -> Tensor:
        for layer in self.down[SHARED:]:
            features = layer(features)
        pooled = features.mean(dim=(2, 3), keepdim=True)
        # Motions are small numbers that geometry multiplies by hundreds of pixels: full precision from here.
        with torch.autocast(pooled.device.type, enabled=False):
            vector = self.motion(pooled.to(self.motion.weight.dtype))
        return 0.01 * vector.reshape(-1, self.sources, self.numbers)

    def _mask_logits(self, features: Tensor, sizes: list[torch.Size]) -> list[Tensor]:
        found = []
        for level in reversed(range(len(self.up))):
            features = cropped(self.up[level](features), sizes[level])
            if level < SCALES:
                found.append(self.head[level](features))
        return found[::-1]
