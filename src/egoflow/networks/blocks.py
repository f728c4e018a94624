"""The layers that the paper networks are made of.

Convention: a convolution of stride 2 takes height H to ceil(H / 2), so that level s of any image is ceil(H / 2^s) high;
what comes up is twice too large at most by one pixel, and is cropped.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that uses its running statistics where a batch holds one value per channel."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [B, C, H, W]."""
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


def convolution(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1,
                batch_norm: bool = False) -> nn.Sequential:
    """Return a convolution, batch normalisation if asked, and ReLU; stride 2 halves the size, rounding up."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=not batch_norm)
    return nn.Sequential(conv, *([BatchNorm(outputs)] if batch_norm else []), nn.ReLU(inplace=True))


def up_convolution(inputs: int, outputs: int, *, kernel: int, batch_norm: bool = False) -> nn.Sequential:
    """Return a transposed convolution that doubles the size exactly, with ReLU; ``kernel`` is 3 or 4."""
    conv = nn.ConvTranspose2d(inputs, outputs, kernel, stride=2, padding=1, output_padding=kernel % 2,
                              bias=not batch_norm)
    return nn.Sequential(conv, *([BatchNorm(outputs)] if batch_norm else []), nn.ReLU(inplace=True))


def cropped(value: Tensor, size: torch.Size | tuple[int, ...]) -> Tensor:
    """Return the upper left part of ``value`` [B, C, H, W] that has the last two dimensions of ``size``."""
    height, width = size[-2:]
    return value if value.shape[-2:] == (height, width) else value[..., :height, :width]


def normalised(image: Tensor) -> Tensor:
    """Return RGB in [0, 1] as the networks see it, in [-1, 1]."""
    return image * 2 - 1


def initialise(network: nn.Module) -> None:
    """Set every convolution to Xavier-uniform weights and zero bias. (Zhou 2017, PyTorch port)"""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def joined(parts: list[Tensor]) -> Tensor:
    """Join maps [B, C_i, H, W] along the channels in the memory layout of the first.

    ``torch.cat`` keeps channels_last only if every part asks for it, and the strides of a one-channel map do not: the
    convolution behind it would copy the whole join, forwards and backwards.
    """
    if parts[0].is_contiguous(memory_format=torch.channels_last) and parts[0].shape[1] > 1:
        parts = [p.reshape(p.shape[0], *p.shape[2:], 1).permute(0, 3, 1, 2) if p.shape[1] == 1 else p for p in parts]
    return torch.cat(parts, dim=1)
