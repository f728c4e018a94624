"""One process or many under torchrun: joining, ranks, and which device."""

import os

import torch
import torch.distributed as dist

from egoflow.errors import ConfigError


def join(device: torch.device) -> tuple[int, int]:
    """Join the process group that torchrun describes in the environment; return (rank, world size)."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def leave() -> None:
    """Leave the process group, if one was joined."""
    if dist.is_initialized():
        dist.destroy_process_group()


def any_process(flag: bool, device: torch.device) -> bool:
    """Return whether ``flag`` is set in any process, so that all stop at the same step."""
    if not dist.is_initialized():
        return flag
    value = torch.tensor(float(flag), device=device)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return bool(value.item())


def mean_over_processes(value: torch.Tensor) -> torch.Tensor:
    """Return the mean of ``value`` over all processes."""
    if dist.is_initialized():
        value = value.clone()
        dist.all_reduce(value)
        value /= dist.get_world_size()
    return value


def pick_device(name: str) -> torch.device:
    """Return the device ``auto`` (this rank's GPU, else MPS, else CPU) or the named one, or raise ConfigError."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError):
        raise ConfigError(f"device {name!r} is not to be had on this machine; use auto or cpu") from None
    return torch.device(name)
