"""The networks of FlowNet, each alone: Simple, Correlation, Small Displacement, Fusion. (Dosovitskiy 2015; Ilg 2017)

Each takes normalised images [B, 3, H, W] of one size and returns flows [B, 2, h, w] from fine to coarse, in pixels of
the full image whatever their size; level s has ceil(H / 2^s) rows. The first three return levels 2 to 6, Fusion levels
0 to 2. Layers and widths are the papers'; ``width`` is the share of their channels (3/8: the thin networks).

Differs from the released code: every layer has a bias, the learned up-sampling of flow too, which FlowNetS there has
not (38,676,514 instead of 38,676,506 parameters); initial weights are He's for the slope of the activation, biases are
0, and flows begin near zero: what a stack warps by at first is no noise, and small networks learn sooner.
"""

import torch
from torch import Tensor, nn

from egoflow.geometry.precision import full_precision
from egoflow.networks.blocks import cropped, joined
from egoflow.networks.correlation import windowed_correlation
from egoflow.networks.narrow import NarrowConv2d

FLOW_UNIT = 20.0
"""The networks' output 1 is a flow of 20 pixels: numbers of the size that weights like to make."""
SLOPE = 0.1
SKIPS, UPS = (512, 512, 256, 128), (512, 256, 128, 64)
"""Widths of the features of levels 5 to 2 that meet on the way up, and of those that come up to them."""
CORRELATION_RADIUS, CORRELATION_STRIDE = 10, 2


def _share(channels: int, width: float) -> int:
    return max(1, round(channels * width))


def _convolution(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Return a convolution with leaky ReLU; stride 2 halves the size, rounding up."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2),
                         nn.LeakyReLU(SLOPE, inplace=True))


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            if isinstance(module, NarrowConv2d):
                nn.init.normal_(module.weight, std=1e-3)
            else:
                nn.init.kaiming_normal_(module.weight, SLOPE)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]


class Refinement(nn.Module):
    """From the deepest features up: at each level a flow, which goes up with the features. (Dosovitskiy 2015, figure 3)

    ``between`` puts a convolution without activation before each prediction but the deepest. (Ilg 2017, section 4)
    """

    def __init__(self, deepest: int, skips: list[int], ups: list[int], *, between: bool = False) -> None:
        super().__init__()
        self.predict = nn.ModuleList([NarrowConv2d(deepest, 2)])
        self.up_features, self.up_flow, self.between = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        inputs = deepest
        for skip, up in zip(skips, ups, strict=True):
            self.up_features.append(nn.Sequential(nn.ConvTranspose2d(inputs, up, 4, stride=2, padding=1),
                                                  nn.LeakyReLU(SLOPE, inplace=True)))
            self.up_flow.append(nn.ConvTranspose2d(2, 2, 4, stride=2, padding=1))
            inputs = skip + up + 2
            self.between.append(nn.Conv2d(inputs, up, 3, padding=1) if between else nn.Identity())
            self.predict.append(NarrowConv2d(up if between else inputs, 2))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Return the raw flows from fine to coarse, of features from fine to coarse."""
        *skips, joint = features
        flows = [self.predict[0](joint)]
        for level, skip in enumerate(reversed(skips)):
            up, flow = self.up_features[level](joint), self.up_flow[level](flows[-1])
            joint = joined([skip, cropped(up, skip.shape), cropped(flow, skip.shape)])
            flows.append(self.predict[level + 1](self.between[level](joint)))
        return [full_precision(flow) for flow in reversed(flows)]


class _Contraction(nn.Module):
    """The layers conv3_1 to conv6_1, which Simple and Correlation share: features of levels 3 to 6."""

    def __init__(self, inputs: int, width: float) -> None:
        super().__init__()
        c256, c512, c1024 = (_share(c, width) for c in (256, 512, 1024))
        self.stages = nn.ModuleList([_convolution(inputs, c256)])
        for before, after in ((c256, c512), (c512, c512), (c512, c1024)):
            self.stages.append(nn.Sequential(_convolution(before, after, stride=2), _convolution(after, after)))

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


def _refinement(width: float, *, between: bool = False) -> Refinement:
    return Refinement(_share(1024, width), [_share(c, width) for c in SKIPS], [_share(c, width) for c in UPS],
                      between=between)


class FlowNetSimple(nn.Module):
    """Images and whatever goes with them, stacked. (Dosovitskiy 2015, figure 2, top)"""

    def __init__(self, *, inputs: int = 6, width: float = 1.0) -> None:
        super().__init__()
        c64, c128, c256 = (_share(c, width) for c in (64, 128, 256))
        self.to_quarter = nn.Sequential(_convolution(inputs, c64, kernel=7, stride=2),
                                        _convolution(c64, c128, kernel=5, stride=2))
        self.to_eighth = _convolution(c128, c256, kernel=5, stride=2)
        self.contraction = _Contraction(c256, width)
        self.refinement = _refinement(width)
        _initialise(self)

    def forward(self, stacked: Tensor) -> list[Tensor]:
        """Return the flows of levels 2 to 6 of ``stacked`` [B, inputs, H, W]."""
        quarter = self.to_quarter(stacked)
        raw = self.refinement([quarter, *self.contraction(self.to_eighth(quarter))])
        return [flow * FLOW_UNIT for flow in raw]


class FlowNetCorrelation(nn.Module):
    """Features of each image alone, compared up to 20 pixels of level 3 apart. (Dosovitskiy 2015, figure 2, bottom)"""

    def __init__(self, *, width: float = 1.0) -> None:
        super().__init__()
        c32, c64, c128, c256 = (_share(c, width) for c in (32, 64, 128, 256))
        self.to_quarter = nn.Sequential(_convolution(3, c64, kernel=7, stride=2),
                                        _convolution(c64, c128, kernel=5, stride=2))
        self.to_eighth = _convolution(c128, c256, kernel=5, stride=2)
        self.redirected = _convolution(c256, c32, kernel=1)
        self.activation = nn.LeakyReLU(SLOPE, inplace=True)
        self.contraction = _Contraction((2 * CORRELATION_RADIUS + 1) ** 2 + c32, width)
        self.refinement = _refinement(width)
        _initialise(self)

    def forward(self, image_a: Tensor, image_b: Tensor) -> list[Tensor]:
        """Return the flows of levels 2 to 6."""
        quarter = self.to_quarter(torch.cat((image_a, image_b)))
        feature_a, feature_b = self.to_eighth(quarter).chunk(2)
        cost = self.activation(windowed_correlation(feature_a, feature_b, radius=CORRELATION_RADIUS,
                                                    stride=CORRELATION_STRIDE))
        redirected = self.redirected(feature_a)
        features = self.contraction(joined([redirected, cost.to(redirected.dtype)]))
        return [flow * FLOW_UNIT for flow in self.refinement([quarter.chunk(2)[0], *features])]


class FlowNetSmallDisplacement(nn.Module):
    """Small kernels and a first layer at full size, for motions below a pixel. (Ilg 2017, section 4)

    Its raw output is 20 times the flow, not a twentieth: small motions become numbers of the size of the others'.
    """

    def __init__(self, *, width: float = 1.0) -> None:
        super().__init__()
        c64, c128, c256, c512, c1024 = (_share(c, width) for c in (64, 128, 256, 512, 1024))
        self.to_half = nn.Sequential(_convolution(6, c64), _convolution(c64, c64, stride=2), _convolution(c64, c128))
        self.stages = nn.ModuleList(
            nn.Sequential(_convolution(before, after, stride=2), _convolution(after, after)) for before, after in
            ((c128, c128), (c128, c256), (c256, c512), (c512, c512), (c512, c1024)))
        self.refinement = _refinement(width, between=True)
        _initialise(self)

    def forward(self, stacked: Tensor) -> list[Tensor]:
        """Return the flows of levels 2 to 6 of two images, ``stacked`` [B, 6, H, W]."""
        x, features = self.to_half(stacked), []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return [flow / FLOW_UNIT for flow in self.refinement(features)]


class FlowNetFusion(nn.Module):
    """Two flows of a pair to a better one at full size. (Ilg 2017, section 4)"""

    def __init__(self, *, inputs: int = 11, width: float = 1.0) -> None:
        super().__init__()
        c16, c32, c64, c128 = (_share(c, width) for c in (16, 32, 64, 128))
        self.full = _convolution(inputs, c64)
        self.to_half = nn.Sequential(_convolution(c64, c64, stride=2), _convolution(c64, c128))
        self.to_quarter = nn.Sequential(_convolution(c128, c128, stride=2), _convolution(c128, c128))
        self.refinement = Refinement(c128, [c128, c64], [c32, c16], between=True)
        _initialise(self)

    def forward(self, stacked: Tensor) -> list[Tensor]:
        """Return the flows of levels 0 to 2 of images, flows, their sizes and errors, ``stacked`` [B, 11, H, W]."""
        full = self.full(stacked)
        half = self.to_half(full)
        return self.refinement([full, half, self.to_quarter(half)])
