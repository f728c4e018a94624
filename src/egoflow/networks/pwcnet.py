"""Optical flow from a pyramid of features, warping and windowed correlation. (Sun 2018; PWC-Lite of Liu 2020, ARFlow)

At every level the features of frame b are warped by the flow so far, compared with those of frame a, and one decoder
that all levels share refines the flow, down to 1/4 of the image; four times enlarged that is the result.

Deviations from PWC-Lite: sizes that no power of two divides round up at each level instead of a resize of the images;
the correlation can be taken of normalised features (after Jonschkowski 2020); ``tiny`` is ours.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from egoflow.geometry.flow import backward_warp
from egoflow.geometry.precision import full_precision
from egoflow.networks.blocks import cropped, joined, normalised
from egoflow.networks.correlation import windowed_correlation
from egoflow.networks.narrow import NarrowConv2d

FINEST = 2
"""The flow of level s is 1 / 2^s of the image's size; the finest that is estimated is 1/4."""
SLOPE = 0.1
"""Of the leaky rectifiers."""


@dataclass(frozen=True, kw_only=True)
class Widths:
    """Channels of the parts; level s of the features has size 1 / 2^s."""

    features: tuple[int, ...]
    reduced: int
    """Of the features that the decoder sees beside the correlation."""
    decoder: tuple[int, ...]
    context: tuple[int, ...]
    dilations: tuple[int, ...]


PAPER = Widths(features=(16, 32, 64, 96, 128, 192), reduced=32, decoder=(128, 128, 96, 64, 32),
               context=(128, 128, 128, 96, 64, 32), dilations=(1, 2, 4, 8, 16, 1))
"""PWC-Lite: 2,236,660 parameters."""
TINY = Widths(features=(16, 32, 48, 64, 64), reduced=24, decoder=(64, 64, 48, 32, 24),
              context=(48, 48, 32), dilations=(1, 2, 4))
"""Ours: a step of eight pairs of 96x128, both ways, in a fraction of a second on two CPU cores."""


def pwc_lite(*, width: float = 1.0, normalise: bool = False) -> "PwcNet":
    """Return PWC-Lite with a share ``width`` of its channels."""
    return PwcNet(_narrowed(PAPER, width), normalise=normalise)


def pwc_tiny(*, width: float = 1.0, normalise: bool = False) -> "PwcNet":
    """Return our small network with a share ``width`` of its channels."""
    return PwcNet(_narrowed(TINY, width), normalise=normalise)


def _narrowed(widths: Widths, share: float) -> Widths:
    """Return the widths times a share, at least 4."""
    def fewer(counts: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(max(4, round(count * share)) for count in counts)

    return replace(widths, features=fewer(widths.features), reduced=fewer((widths.reduced,))[0],
                   decoder=fewer(widths.decoder), context=fewer(widths.context))


class PwcNet(nn.Module):
    """Two images to flows from fine to coarse, the full size first."""

    def __init__(self, widths: Widths, *, radius: int = 4, normalise: bool = False) -> None:
        super().__init__()
        self.radius, self.normalise = radius, normalise
        pairs = zip((3, *widths.features), widths.features, strict=False)
        self.encoder = nn.ModuleList(nn.Sequential(_convolution(i, o, stride=2), _convolution(o, o)) for i, o in pairs)
        self.reduce = nn.ModuleList(nn.Conv2d(width, widths.reduced, 1) for width in widths.features[FINEST - 1:])
        self.decoder = _Decoder((2 * radius + 1) ** 2 + widths.reduced + 2, widths.decoder)
        self.context = _context(widths.decoder[-1] + 2, widths)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=SLOPE, nonlinearity="leaky_relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        for head in (self.decoder.head, self.context[-1]):
            # The flow starts near zero: a wrong one at a coarse level would mislead every finer one.
            nn.init.normal_(head.weight, std=1e-3)  # type: ignore[arg-type]

    def forward(self, image_a: Tensor, image_b: Tensor) -> list[Tensor]:
        """Return the flows of RGB images [B, 3, H, W] in [0, 1], each [B, 2, h, w] in pixels of its own grid.

        The first is at full size; then come the levels s = 2, 3, … of size ceil(H / 2^s) from fine to coarse. A pixel
        of level s is 2^s pixels wide also where that does not divide the image.
        """
        levels = self._encode(torch.cat((image_a, image_b)))[FINEST - 1:]
        shape = (image_a.shape[0], 2, *levels[-1].shape[-2:])
        flow, found = full_precision(image_a).new_zeros(shape), []
        for reduce, feature in zip(reversed(self.reduce), reversed(levels), strict=True):
            feature_a, feature_b = feature.chunk(2)
            if found:
                flow = cropped(_enlarged(flow, 2), feature.shape)
            flow = self._refined(flow, feature_a, feature_b, reduce(feature_a))
            found.append(flow)
        return [cropped(_enlarged(flow, 2**FINEST), image_a.shape), *found[::-1]]

    def _encode(self, images: Tensor) -> list[Tensor]:
        """Return the features of every level, fine to coarse."""
        features = [normalised(images)]
        for stage in self.encoder:
            features.append(stage(features[-1]))
        return features[1:]

    def _refined(self, flow: Tensor, feature_a: Tensor, feature_b: Tensor, seen: Tensor) -> Tensor:
        """Return the flow of one level from the enlarged flow of the coarser one."""
        warped = backward_warp(full_precision(feature_b), flow)[0]
        a = full_precision(feature_a)
        if self.normalise:
            a, warped = _standardised(a, warped)
        cost = F.leaky_relu(windowed_correlation(a, warped, radius=self.radius), SLOPE)
        hidden, change = self.decoder(joined([cost.to(seen.dtype), seen, flow.to(seen.dtype)]))
        flow = flow + full_precision(change)
        return flow + full_precision(self.context(joined([hidden, flow.to(hidden.dtype)])))


def levels_enlarged(flows: list[Tensor], factor: int) -> list[Tensor]:
    """Return the levels of PwcNet's flows, fine to coarse, on grids ``factor`` (1, 2 or 4) times as fine.

    With 4 the first is the flow at full size: ARFlow compares images at four times the size at which a flow was
    estimated (Liu 2020), UnFlow and FlowNet at that size itself.
    """
    full, *levels = flows
    height, width = full.shape[-2:]
    strides = (2**(FINEST + s) // factor for s in range(len(levels)))
    return [cropped(_enlarged(flow, factor), (-(-height // stride), -(-width // stride)))
            for flow, stride in zip(levels, strides, strict=True)]


class _Decoder(nn.Module):
    """Convolutions that each see the outputs of the two before it, and a head of two maps."""

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        # The second sees the first alone; from the third on, the last two joined.
        seen = [inputs, widths[0], *(a + b for a, b in zip(widths, widths[1:], strict=False))]
        self.layers = nn.ModuleList(_convolution(i, o) for i, o in zip(seen, widths, strict=False))
        self.head = NarrowConv2d(seen[-1], 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last features and the change of the flow."""
        first, *others = self.layers
        outputs = [first(x)]
        for layer in others:
            outputs.append(layer(joined(outputs[-2:])))
        return outputs[-1], self.head(joined(outputs[-2:]))


def _context(inputs: int, widths: Widths) -> nn.Sequential:
    """Return dilated convolutions that see far around a pixel and correct its flow. (Sun 2018)"""
    sizes = (inputs, *widths.context)
    layers = [_convolution(i, o, dilation=d) for i, o, d in zip(sizes, widths.context, widths.dilations, strict=False)]
    return nn.Sequential(*layers, NarrowConv2d(sizes[-1], 2))


def _convolution(inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride=stride, padding=dilation, dilation=dilation),
                         nn.LeakyReLU(SLOPE, inplace=True))


def _enlarged(flow: Tensor, factor: int) -> Tensor:
    """Return a flow on a grid so many times finer, in its pixels."""
    return F.interpolate(flow, scale_factor=float(factor), mode="bilinear", align_corners=False) * factor


def _standardised(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return both features less each channel's mean, by its deviation, and of length sqrt(C) at every pixel.

    Mean and deviation are those of both images' pixels, so that no channel drowns the others; their products are then
    cosines, whatever the contrast. In 150 steps without labels that learns what else takes 340. (Ours; UFlow takes one
    mean and deviation over all channels, and no cosine: Jonschkowski 2020, section 3.1)
    """
    both = torch.stack((a, b))
    variance, mean = torch.var_mean(both, dim=(3, 4), correction=0, keepdim=True)
    scaled = (both - mean.mean(0)) * torch.rsqrt(variance.mean(0) + 1e-6)
    first, second = F.normalize(scaled, dim=2) * a.shape[1]**0.5
    return first, second
