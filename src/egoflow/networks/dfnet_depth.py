"""The depth network of DF-Net: ResNet-50 without normalisation, with ELU. (Zou 2018; Godard 2017)

The stride of a stage is in its last block, so features go down to 1/64 of the size. The released code projects the
shortcut of every block (58,448,836 parameters), because its comparison of shapes never finds them equal; with
projections only where the shape changes, as He 2016 has them, there are 49,462,980.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from egoflow.networks.blocks import initialise, normalised
from egoflow.networks.resnet_depth import DepthDecoder, elu_convolution

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
"""Inner width and blocks of each stage; a block returns four times its inner width."""


class _Bottleneck(nn.Module):
    """Layers 1x1, 3x3 and 1x1, the last linear and four times as wide, around a shortcut; then ELU."""

    def __init__(self, inputs: int, width: int, *, stride: int, projected: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(elu_convolution(inputs, width, kernel=1),
                                  elu_convolution(width, width, stride=stride),
                                  nn.Conv2d(width, 4 * width, 1))
        self.shortcut = nn.Conv2d(inputs, 4 * width, 1, stride=stride) if projected else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.elu(self.body(x) + self.shortcut(x))


class DFNetDepth(nn.Module):
    """An image to inverse depth at full, 1/2, 1/4 and 1/8 size, in (beta, alpha + beta)."""

    def __init__(self, *, project_all: bool = True, alpha: float = 10.0, beta: float = 0.01) -> None:
        super().__init__()
        self.stem = elu_convolution(3, 64, kernel=7, stride=2)
        self.stages = nn.ModuleList()
        inputs = 64
        for width, count in STAGES:
            blocks = []
            for number in range(count):
                stride = 2 if number == count - 1 else 1
                projected = project_all or stride == 2 or inputs != 4 * width
                blocks.append(_Bottleneck(inputs, width, stride=stride, projected=projected))
                inputs = 4 * width
            self.stages.append(nn.Sequential(*blocks))
        initialise(self)
        self.decoder = DepthDecoder((64, 64, *(4 * width for width, _ in STAGES)), alpha=alpha, beta=beta)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return inverse depths [B, 1, ceil(H / 2^s), ceil(W / 2^s)], fine to coarse, of RGB [B, 3, H, W] in [0, 1]."""
        features = [self.stem(normalised(image))]
        features.append(F.max_pool2d(features[0], 3, stride=2, padding=1))
        for stage in self.stages:
            features.append(stage(features[-1]))
        return self.decoder(features, image)
