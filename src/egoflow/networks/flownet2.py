"""FlowNets alone and in stacks: CS, CSS and FlowNet 2.0. (Ilg 2017, sections 3 and 4, figure 2)

A stack warps the second image by the flow found so far and lets the next FlowNetS correct it; FlowNet 2.0 adds a
network for small displacements beside the stack and fuses both.

Differs from the papers: images of any size are padded to multiples of 64 by repeating the lower and right border, and
flows are cropped, where the papers resize; the mean colour of the pair is subtracted in FlowNetS and FlowNetC too,
where FlowNet subtracted the data set's; flows go up to full size bilinearly, before Fusion too.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from egoflow.geometry.flow import backward_warp
from egoflow.networks.flownet import (
    FLOW_UNIT,
    FlowNetCorrelation,
    FlowNetFusion,
    FlowNetSimple,
    FlowNetSmallDisplacement,
)

Variant = Literal["s", "c", "sd", "cs", "css", "2"]
PARTS: dict[Variant, tuple[str, ...]] = {
    "s": ("simple",), "c": ("correlation",), "sd": ("small",), "cs": ("correlation", "second"),
    "css": ("correlation", "second", "third"), "2": ("correlation", "second", "third", "small", "fusion")}
"""The networks of each variant in the order in which they are trained."""
BEFORE = {"second": "correlation", "third": "second"}
"""Whose flow a network of the stack corrects."""
MULTIPLE = 64
FINEST = 4
"""Flows of all networks but Fusion begin at a quarter of the size."""


class FlowNet(nn.Module):
    """Two images of any size to flows, by one FlowNet or several; ``width`` is the share of the papers' channels."""

    def __init__(self, variant: Variant = "s", *, width: float = 1.0) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({name: _part(name, width) for name in PARTS[variant]})
        self.last = PARTS[variant][-1]

    def forward(self, image_a: Tensor, image_b: Tensor, *, part: str | None = None) -> list[Tensor]:
        """Return flows a to b of images [B, 3, H, W] in [0, 1], fine to coarse, in pixels of the full image.

        They are those of the network ``part``, the last one by default, and begin at a quarter of the size (Fusion: at
        full size); level s is ceil(H / 2^s) x ceil(W / 2^s).
        """
        part = part or self.last
        flows = self._flows(part, *_prepared(image_a, image_b))
        finest = self.finest(part)
        return [_upper_left(flow, image_a, finest * 2**level) for level, flow in enumerate(flows)]

    @staticmethod
    def finest(part: str) -> int:
        """Return how many pixels wide a pixel of the first flow of ``part`` is."""
        return 1 if part == "fusion" else FINEST

    def _flows(self, part: str, image_a: Tensor, image_b: Tensor) -> list[Tensor]:
        """Return the flows of one network, which asks those before it."""
        network = self.parts[part]
        if part == "correlation":
            return network(image_a, image_b)
        if part in BEFORE:
            flow = full_size(self._flows(BEFORE[part], image_a, image_b)[0])
            rebuilt, error = _rebuilt(image_a, image_b, flow)
            return network(torch.cat((image_a, image_b, rebuilt, flow / FLOW_UNIT, error), dim=1))
        if part == "fusion":
            flows = [full_size(self._flows(name, image_a, image_b)[0]) for name in ("small", "third")]
            sizes = [_length(flow) for flow in flows]
            errors = [_rebuilt(image_a, image_b, flow)[1] for flow in flows]
            return network(torch.cat((image_a, *flows, *sizes, *errors), dim=1))
        return network(torch.cat((image_a, image_b), dim=1))


def full_size(flow: Tensor) -> Tensor:
    """Return a flow [B, 2, h, w] in pixels of the full image, a quarter of its size, at that size; values stay."""
    return F.interpolate(flow, scale_factor=FINEST, mode="bilinear", align_corners=False)


def own_levels(flows: list[Tensor], image: Tensor) -> list[Tensor]:
    """Return the flow at the size of ``image``, then each of ``flows`` (quarter size and coarser) in its own pixels."""
    height, width = image.shape[-2:]
    return [full_size(flows[0])[..., :height, :width], *(flow / (FINEST * 2**i) for i, flow in enumerate(flows))]


def _part(name: str, width: float) -> nn.Module:
    if name == "correlation":
        return FlowNetCorrelation(width=width)
    if name == "small":
        return FlowNetSmallDisplacement(width=width)
    if name == "fusion":
        return FlowNetFusion(width=width)
    return FlowNetSimple(inputs=12 if name in BEFORE else 6, width=width)


def _prepared(image_a: Tensor, image_b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pair without its mean colour, the lower and right border repeated up to multiples of 64."""
    mean = (image_a.mean((2, 3), keepdim=True) + image_b.mean((2, 3), keepdim=True)) / 2
    height, width = image_a.shape[-2:]
    border = (0, -width % MULTIPLE, 0, -height % MULTIPLE)
    padded = F.pad(torch.cat((image_a - mean, image_b - mean)), border, mode="replicate")
    image_a, image_b = padded.chunk(2)
    return image_a, image_b


def _upper_left(flow: Tensor, image: Tensor, cell: int) -> Tensor:
    """Return the part of ``flow`` whose pixels, ``cell`` wide, lie on the image."""
    return flow[..., :-(-image.shape[2] // cell), :-(-image.shape[3] // cell)]


def _rebuilt(image_a: Tensor, image_b: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Return image b on the grid of a, and how far it is from a in colour [B, 1, H, W]."""
    rebuilt, _ = backward_warp(image_b, flow)
    return rebuilt, _length(image_a - rebuilt)


def _length(vectors: Tensor) -> Tensor:
    """Return the length of the vectors [B, C, H, W] as [B, 1, H, W]; of none it has no direction and no gradient."""
    return torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
