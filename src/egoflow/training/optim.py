"""The optimiser and its schedule, a pure function of progress so that a resumed run needs no schedule state."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from egoflow.config import OptimConfig
from egoflow.errors import ConfigError
from egoflow.training.muon import is_hidden, orthogonal_steps


def make_optimizer(method: nn.Module, config: OptimConfig, *, rates: Mapping[str, float]) -> torch.optim.Optimizer:
    """Return fused Adam or AdamW, one group for each factor of the rate in ``rates`` (``Method.rates``).

    Hidden convolutions of the networks ``config.muon`` are in groups of their own and take Muon's steps. What a phase
    freezes gets no gradient and is left alone. Raises ConfigError for a network that the method does not have.
    """
    networks = dict(method.named_children())
    if other := [name for name in config.muon if name not in networks]:
        raise ConfigError(f"optim.muon={other[0]}: no network of this method; it has {', '.join(networks)}")
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in method.named_parameters():
        network = name.split(".")[0]
        muon = network in config.muon and is_hidden(parameter)
        groups.setdefault((rates.get(network, 1.0), muon), []).append(parameter)
    kind = torch.optim.AdamW if config.decoupled_weight_decay else torch.optim.Adam
    marked = [{"params": parameters, "factor": factor, "muon": muon} for (factor, muon), parameters in groups.items()]
    optimizer = kind(marked, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=True)
    optimizer.register_step_pre_hook(orthogonal_steps)
    return optimizer


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of the next step, that of each group times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def clip_gradients(method: nn.Module, limit: float | None) -> Tensor:
    """Return the L2 norm of all gradients; scale those of each network whose own norm is above ``limit`` down to it.

    The networks of a method share no weights. One norm over all would let the largest gradient, the motion network's
    (a tenth of a degree is half a pixel everywhere), set the rate of the others from step to step.
    """
    norms = []
    for network in method.children():
        parameters = [p for p in network.parameters() if p.grad is not None]
        if parameters:
            norms.append(nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
            if limit is not None and norms[-1] > limit:
                nn.utils.clip_grads_with_norm_(parameters, limit, norms[-1])
    return torch.stack(norms).norm()


def learning_rate(config: OptimConfig, progress: float, within: float | None = None) -> float:
    """Return the rate at ``progress`` 0..1: constant, one cycle (Smith 2018), or halved at some points.

    One cycle rises for 30 % of the steps and falls, by cosines; the linear one rises for 5 % (Teed & Deng 2020).
    Halving counts ``within`` the phase (``progress`` where not given): each network of a stack goes through all of it
    (Ilg 2017), and may begin with a hundredth of the rate (FlowNetC, whose gradients explode otherwise).
    """
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "halving":
        within = progress if within is None else within
        if within < config.warm_up:
            return config.lr * (0.01 + 0.99 * within / config.warm_up)
        return config.lr / 2 ** sum(within >= at for at in config.halve_at)
    if config.schedule == "one_cycle_linear":
        warm, low, last = 0.05, 1 / 25, 4e-6
        if progress < warm:
            return config.lr * (low + (1 - low) * progress / warm)
        return config.lr * (last + (1 - last) * (1 - progress) / (1 - warm))
    warm, low, last = 0.3, 1 / 25, 1e-5
    if progress < warm:
        return config.lr * (low + (1 - low) * (1 - math.cos(math.pi * progress / warm)) / 2)
    return config.lr * (last + (1 - last) * (1 + math.cos(math.pi * (progress - warm) / (1 - warm))) / 2)
