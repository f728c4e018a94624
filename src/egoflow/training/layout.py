"""The memory layout of a network's tensors: which numbers lie side by side decides how fast convolutions run."""

import torch
from torch import Tensor, nn

MANY_WEIGHTS = 500_000
"""On a CPU a convolution with more weights than this keeps the plain layout."""


def lay_out(network: nn.Module, *, device: torch.device, channels_last: bool) -> None:
    """Move a network to ``device`` and choose its memory layout; its results do not change.

    channels_last is faster for large maps. On a CPU the deep layers are the exception: their maps are a few pixels,
    their weights millions, and in channels_last the gradient of these weights is copied twice a step.
    """
    network.to(device)
    if not channels_last:
        return
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            if device.type == "cpu" and module.weight.numel() > MANY_WEIGHTS:
                module.register_forward_pre_hook(_plain)
            else:
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _plain(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Give a convolution its input in the plain layout; either one in channels_last would convert both."""
    return (inputs[0].contiguous(), *inputs[1:])
