"""What an odometry must beat: trajectories that know nothing, or next to nothing, of the video."""

import torch

from egoflow.evaluation.path_errors import path_length
from egoflow.geometry.se3 import SE3, chain
from egoflow.types import Trajectory

STRAIGHT = "straight line"
MEAN_MOTION = "mean true motion"
NO_ROTATION = "true speed, no rotation"


def baselines(truth: Trajectory) -> dict[str, Trajectory]:
    """Return named trajectories with the stamps of ``truth`` [N].

    The straight line goes forward one unit a frame and is label-free. The mean motion repeats the mean twist between
    true frames. "No rotation" goes straight on at the true speed of every frame.
    """
    path = truth.world_from_cam
    frames = len(truth.time_s)
    twists = (path[:-1].inverse() @ path[1:]).log()
    mean = SE3.exp(twists.mean(0, keepdim=True)) if frames > 1 else SE3.identity(1, dtype=torch.float64)
    repeated = SE3(mean.R.expand(frames - 1, 3, 3), mean.t.expand(frames - 1, 3))
    paths = {STRAIGHT: _straight(torch.arange(frames, dtype=torch.float64)), MEAN_MOTION: chain(repeated),
             NO_ROTATION: _straight(path_length(path))}
    return {name: Trajectory(world_from_cam=way, time_s=truth.time_s, scale=truth.scale)
            for name, way in paths.items()}


def _straight(distance: torch.Tensor) -> SE3:
    """Return a path [N] along the first camera's axis, ``distance`` [N] from its start."""
    zero = torch.zeros_like(distance)
    return SE3(torch.eye(3, dtype=torch.float64).expand(len(distance), 3, 3), torch.stack((zero, zero, distance), -1))
