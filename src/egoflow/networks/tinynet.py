"""Small depth and motion networks that two CPU cores train in minutes (ours).

Both take images of any size >= 1 px. The depth net (1.6 M parameters) is a five-level residual U-Net; the motion net
(0.5 M) compares features of the two frames by a windowed correlation, because a plain stack of convolutions needs far
longer to learn turns of a fraction of a pixel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from egoflow.geometry.precision import full_precision
from egoflow.networks.correlation import windowed_correlation


def _initialise(network: nn.Module) -> None:
    """Set every convolution to weights that keep the variance of what they are given, and zero bias. (He 2015)

    torch's own take two thirds of it away: ten convolutions deep a twentieth of the deviation is left, and after
    minutes of training depth is still a blur.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]


class _Stage(nn.Module):
    """Halve the size, then one residual convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
        self.same = nn.Conv2d(outputs, outputs, 3, padding=1)
        _initialise(self)
        with torch.no_grad():
            # Little is added to what goes around, or the sums would grow from stage to stage.
            self.same.weight *= 0.3

    def forward(self, x: Tensor) -> Tensor:
        x = F.elu(self.down(x))
        return F.elu(x + self.same(x))


class TinyDepthNet(nn.Module):
    """Single-view depth: image [B, 3, H, W] in [0, 1] -> four inverse depths, fine to coarse, sizes ceil(H / 2^s)."""

    def __init__(self, *, channels: tuple[int, ...] = (24, 48, 96, 128, 192), smallest: float = 0.01,
                 largest: float = 10.0) -> None:
        super().__init__()
        self.smallest, self.largest = smallest, largest
        self.encoder = nn.ModuleList(_Stage(i, o) for i, o in zip((3, *channels), channels, strict=False))
        widths = (*channels[:0:-1],)
        skips = (*channels[-2::-1],)
        outputs = (*skips[:-1], 32)
        # The border is rarely seen twice, so little is learnt there: zeros around it would draw a frame of their own.
        self.decoder = nn.ModuleList(nn.Conv2d(i + s, o, 3, padding=1, padding_mode="replicate")
                                     for i, s, o in zip((widths[0], *outputs), skips, outputs, strict=False))
        self.finest = nn.Conv2d(outputs[-1], 16, 3, padding=1, padding_mode="replicate")
        self.heads = nn.ModuleList(nn.Conv2d(c, 1, 3, padding=1, padding_mode="replicate")
                                   for c in (16, outputs[-1], outputs[-2], outputs[-3]))
        _initialise(self.decoder)
        _initialise(self.finest)
        for head in self.heads:
            nn.init.normal_(head.weight, std=1e-3)  # type: ignore[arg-type]
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return four inverse depths, fine to coarse."""
        x = (image - 0.45) / 0.225
        features = []
        for stage in self.encoder:
            x = stage(x)
            features.append(x)
        sizes, decoded = [f.shape[-2:] for f in features], []
        for conv, skip, size in zip(self.decoder, features[-2::-1], sizes[-2::-1], strict=True):
            x = F.elu(conv(torch.cat((F.interpolate(x, size, mode="nearest"), skip), dim=1)))
            decoded.append(x)
        x = F.elu(self.finest(F.interpolate(x, image.shape[-2:], mode="bilinear", align_corners=False)))
        levels = (x, *decoded[:0:-1])
        return [self._inverse_depth(head(level)) for head, level in zip(self.heads, levels, strict=True)]

    def _inverse_depth(self, logits: Tensor) -> Tensor:
        """Return inverse depths between smallest and largest, even in their logarithm: no depth is preferred."""
        return self.smallest * (self.largest / self.smallest) ** torch.sigmoid(full_precision(logits))


class TinyMotionNet(nn.Module):
    """Camera motion from the target [B, 3, H, W] to sources [B, S, 3, H, W]: (tx, ty, tz, rx, ry, rz) [B, S, 6]."""

    def __init__(self, *, radius: int = 4) -> None:
        super().__init__()
        self.radius = radius
        self.features = nn.ModuleList((nn.Conv2d(3, 24, 5, stride=2, padding=2),
                                       nn.Conv2d(24, 32, 3, stride=2, padding=1),
                                       nn.Conv2d(32, 32, 3, padding=1)))
        cost = (2 * radius + 1) ** 2
        self.trunk = nn.ModuleList((nn.Conv2d(cost + 32 + 2, 96, 3, padding=1),
                                    nn.Conv2d(96, 96, 3, stride=2, padding=1),
                                    nn.Conv2d(96, 128, 3, stride=2, padding=1),
                                    nn.Conv2d(128, 128, 3, stride=2, padding=1)))
        self.head = nn.Conv2d(128, 6, 1)
        nn.init.normal_(self.head.weight, std=1e-2)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, target: Tensor, sources: Tensor) -> Tensor:
        """Return source_from_target vectors [B, S, 6]."""
        batch, count = sources.shape[:2]
        return full_precision(self.head(self.compared(target, sources))).mean((2, 3)).view(batch, count, 6) * 0.01

    def compared(self, target: Tensor, sources: Tensor) -> Tensor:
        """Return what the head sees of the stacked pairs: [B S, 128, h, w] from comparing their features."""
        count = sources.shape[1]
        feature_a = self._encode(target).repeat_interleave(count, 0)
        feature_b = self._encode(sources.flatten(0, 1))
        x = torch.cat((correlation(feature_a, feature_b, radius=self.radius), feature_a, _position(feature_a)), dim=1)
        for conv in self.trunk:
            x = F.elu(conv(x))
        return x

    def _encode(self, image: Tensor) -> Tensor:
        x = (image - 0.45) / 0.225
        for conv in self.features[:-1]:
            x = F.elu(conv(x))
        return self.features[-1](x)


def correlation(feature_a: Tensor, feature_b: Tensor, *, radius: int) -> Tensor:
    """Return the cosine of each feature of a with those of b around it: [B, (2 radius + 1)^2, h, w]."""
    # A mean over channels, made a sum again.
    a, b = F.normalize(feature_a, dim=1), F.normalize(feature_b, dim=1)
    return windowed_correlation(a, b, radius=radius) * a.shape[1]


def _position(feature: Tensor) -> Tensor:
    """Return x and y [B, 2, h, w] in [-1, 1]: what a motion means depends on where it is seen."""
    batch, _, height, width = feature.shape
    y, x = (2 * torch.arange(size, device=feature.device, dtype=feature.dtype) / max(size - 1, 1) - 1
            for size in (height, width))
    return torch.stack((x.expand(height, width), y[:, None].expand(height, width))).expand(batch, 2, height, width)
