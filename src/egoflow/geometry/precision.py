"""Geometry and losses run in float32 or better, whatever precision the networks ran in."""

import torch
from torch import Tensor


def full_precision(value: Tensor) -> Tensor:
    """Return ``value`` in float32, or float64 if it is: half precision loses a pixel at x = 2048."""
    return value.to(torch.promote_types(value.dtype, torch.float32))
