"""Muon for convolutions: of the step that momentum asks for the direction along every axis, none of the sizes.

Adam scales each weight by itself; its step is made of the few directions in which all weights of a layer agree. Muon
takes the momentum of a layer as one matrix and makes its singular values alike, so that what is rarely seen is learnt
as fast: that counts where steps are few (docs/fit.md, "No crops, and the optimiser"). (Jordan 2024, "Muon: an optimizer
for hidden layers in neural networks"; torch's own takes plain matrices alone.)
"""

from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
_NARROW = 8
"""A convolution from or to so few channels reads the image or gives the answer, and is no hidden layer."""
_QUINTIC = (3.4445, -4.7750, 2.0315)
"""Of the iteration x -> a x + b x^3 + c x^5 on singular values: steep at 0, and near 1 afterwards. (Jordan 2024)"""


def is_hidden(weight: nn.Parameter) -> bool:
    """Say whether a parameter is the weight of a hidden convolution."""
    return weight.dim() > 2 and min(weight.shape[:2]) > _NARROW


@torch.no_grad()
def orthogonal_steps(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Take Muon's step with every group that is marked ``muon``; a hook of an optimiser that then takes the others.

    The gradients are used up. A step is about as long as one of Adam, a fifth of the rate in the root mean square, so
    that a rate for Adam is one for Muon. (Liu 2025, "Muon is scalable for LLM training", section 2.2)
    """
    for group in optimizer.param_groups:
        if not group["muon"]:
            continue
        for weight in group["params"]:
            if weight.grad is None:
                continue
            state = optimizer.state[weight]
            if not state:
                state["momentum"] = torch.zeros_like(weight)
            momentum = state["momentum"].lerp_(weight.grad, 1 - MOMENTUM)
            # Nesterov's: as if the momentum had been taken one step further.
            step = orthogonalised(weight.grad.lerp(momentum, MOMENTUM).flatten(1))
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.sub_(step.view(weight.shape), alpha=0.2 * group["lr"] * max(step.shape)**0.5)
            weight.grad = None


def orthogonalised(matrix: Tensor) -> Tensor:
    """Return a matrix [M, N] with its singular vectors, and with its singular values brought to about .7 to 1.2.

    Five steps of Newton and Schulz's iteration; what is weaker than a thousandth of the whole stays weaker.
    """
    a, b, c = _QUINTIC
    x = matrix / matrix.norm().clamp_min(1e-20)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x
