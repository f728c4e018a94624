"""Random and simple paths for the tests of odometry."""

import torch

from egoflow.geometry.se3 import SE3, chain
from egoflow.types import Trajectory


def trajectory(path: SE3, time_s: torch.Tensor | None = None) -> Trajectory:
    """Return a path [N] with stamps 0, 1, 2, … or those given."""
    stamps = torch.arange(len(path.t), dtype=torch.float64) if time_s is None else time_s
    return Trajectory(world_from_cam=path, time_s=stamps)


def random_path(frames: int, *, seed: int, step: float = 1.0, turn: float = 0.05) -> SE3:
    """Return a path that mostly goes forward and turns at random."""
    generator = torch.Generator().manual_seed(seed)
    twists = torch.randn(frames - 1, 6, generator=generator, dtype=torch.float64)
    twists *= torch.tensor([0.1, 0.1, 0.2, turn, turn, turn], dtype=torch.float64)
    twists[:, 2] += step
    return chain(SE3.exp(twists))


def noisy(path: SE3, *, seed: int, size: float = 0.01) -> SE3:
    """Return the path with small errors of every step."""
    generator = torch.Generator().manual_seed(seed)
    steps = path[:-1].inverse() @ path[1:]
    return chain(steps @ SE3.exp(size * torch.randn(len(path.t) - 1, 6, generator=generator, dtype=torch.float64)))


def straight(distance: torch.Tensor) -> SE3:
    """Return a path along z without rotation."""
    zero = torch.zeros_like(distance)
    return SE3(torch.eye(3, dtype=torch.float64).expand(len(distance), 3, 3), torch.stack((zero, zero, distance), -1))
