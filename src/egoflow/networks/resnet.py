"""The residual networks of 18 and 50 layers as encoders. (He 2016)

Parameters and buffers carry the names of torchvision's ``resnet18`` and ``resnet50``, the last layer left out, so that
ImageNet weights load: 11,176,512 and 23,508,032 parameters. As there, the stride of a bottleneck is in its 3x3 layer.
"""

from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from egoflow.networks.blocks import BatchNorm
from egoflow.networks.weight_files import placed, read_tensors

Depth = Literal[18, 50]
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
"""Of the RGB of ImageNet, in [0, 1]: what published weights expect to have been taken out."""
OTHER_DEPTH = "are these ImageNet weights of a ResNet of the same depth (18 or 50)?"


def _conv(inputs: int, outputs: int, *, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)


def _shortcut(inputs: int, outputs: int, *, stride: int) -> nn.Sequential | None:
    """Return a projection where the shape changes, else None, which registers no parameters."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(_conv(inputs, outputs, kernel=1, stride=stride), BatchNorm(outputs))


class BasicBlock(nn.Module):
    """Two 3x3 layers around a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(inputs, width, kernel=3, stride=stride), BatchNorm(width)
        self.conv2, self.bn2 = _conv(width, width, kernel=3), BatchNorm(width)
        self.downsample = _shortcut(inputs, width, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, width, H / stride, W / stride] of [B, inputs, H, W]."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """Layers 1x1, 3x3 and 1x1, the last four times as wide, around a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, width: int, *, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1, self.bn1 = _conv(inputs, width, kernel=1), BatchNorm(width)
        self.conv2, self.bn2 = _conv(width, width, kernel=3, stride=stride), BatchNorm(width)
        self.conv3, self.bn3 = _conv(width, outputs, kernel=1), BatchNorm(outputs)
        self.downsample = _shortcut(inputs, outputs, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, 4 width, H / stride, W / stride] of [B, inputs, H, W]."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + (x if self.downsample is None else self.downsample(x)))


LAYOUTS: dict[int, tuple[type[BasicBlock | Bottleneck], tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)), 50: (Bottleneck, (3, 4, 6, 3))}
"""The blocks of each stage by depth."""


class ResNetEncoder(nn.Module):
    """Images to features at 1/2, 1/4, 1/8, 1/16 and 1/32 size, ``widths`` channels; ``frames`` are stacked."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, *, depth: Depth = 18, frames: int = 1) -> None:
        super().__init__()
        self.frames = frames
        block, blocks = LAYOUTS[depth]
        self.widths = (64, *(width * block.expansion for width in (64, 128, 256, 512)))
        self.conv1, self.bn1 = _conv(3 * frames, 64, kernel=7, stride=2), BatchNorm(64)
        stages = [_stage(block, inputs, outputs // block.expansion, count=count, stride=stride)
                  for inputs, outputs, count, stride in zip(self.widths, self.widths[1:], blocks, (1, 2, 2, 2),
                                                            strict=False)]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        # Not of the state: torchvision's files do not hold them.
        self.register_buffer("mean", torch.tensor(MEAN * frames).view(-1, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION * frames).view(-1, 1, 1), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return features [B, widths[s], ceil(H / 2^(s + 1)), ceil(W / 2^(s + 1))], fine to coarse.

        Takes RGB [B, 3 frames, H, W] in [0, 1].
        """
        features = [F.relu(self.bn1(self.conv1((images - self.mean) / self.deviation)))]
        x = F.max_pool2d(features[0], 3, stride=2, padding=1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features


def _stage(block: type[BasicBlock | Bottleneck], inputs: int, width: int, *, count: int, stride: int) -> nn.Sequential:
    """Return ``count`` blocks, the first of which has the stride."""
    rest = (block(width * block.expansion, width, stride=1) for _ in range(count - 1))
    return nn.Sequential(block(inputs, width, stride=stride), *rest)


def load_imagenet(encoder: ResNetEncoder, path: Path) -> None:
    """Load ImageNet weights, a .pth or .safetensors file with torchvision's names; no code in the file runs.

    The classifier ``fc`` is dropped. For several frames the first layer is repeated and divided by their number: a
    still video is seen as its frame is. Raises CheckpointError that names the file and the first tensor that is
    missing, of another shape or left over.
    """
    encoder.load_state_dict(converted(encoder, read_tensors(path), source=str(path)))


def converted(encoder: ResNetEncoder, published: dict[str, Tensor], *, source: str = "the weights"
              ) -> dict[str, Tensor]:
    """Return published tensors ready for ``encoder.load_state_dict``; raise as ``load_imagenet``."""
    own = encoder.state_dict()
    # Files older than PyTorch 0.4.1 lack the counters, which this normalisation does not read.
    found = {name: value for name, value in own.items() if name.endswith("num_batches_tracked")}
    found |= {name.removeprefix("module."): value for name, value in published.items()}
    found = {name: value for name, value in found.items() if not name.startswith("fc.")}
    first = found.get("conv1.weight")
    if first is not None and first.shape == (64, 3, 7, 7):
        found["conv1.weight"] = first.repeat(1, encoder.frames, 1, 1) / encoder.frames
    return placed(own, found, lambda name: name, source=source, hint=OTHER_DEPTH)
