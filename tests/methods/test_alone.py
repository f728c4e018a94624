"""Networks that were trained together are used alone: the others are not even there."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from egoflow.config import LoopConfig
from egoflow.geometry.se3 import SE3
from egoflow.methods.base import Method, both_flows
from egoflow.registry import load_preset
from egoflow.training.checkpoint import load_run
from egoflow.training.trainer import Trainer
from egoflow.types import Clip
from training.engine import SlidingClips

NETWORKS = ("depth_net", "motion_net", "flow_net")


def with_only(folder: Path, network: str) -> Method:
    _, method, _ = load_run(folder)
    for other in NETWORKS:
        if other != network:
            delattr(method, other)
    return method


def motion_of(method: Method, images: Tensor) -> SE3:
    """Return the motion from the middle of three frames to the last."""
    if type(method).__name__ == "DFNet":
        return method.motion(images, ((1, 2),))[1, 2]  # type: ignore[operator]
    return method.motion(images[:, 1], images[:, 2])  # type: ignore[operator]


@pytest.mark.parametrize("name", ["dfnet", "coopnet", "joint"])
def test_each_network_alone_says_what_it_says_among_the_others(name: str, tmp_path: Path) -> None:
    _, run = load_preset(f"{name}:tiny")
    run = replace(run, start="none", loop=LoopConfig(steps=2, device="cpu", watchdog=False))
    Trainer(run, SlidingClips(), out=tmp_path / name).fit()
    clip: Clip = SlidingClips()[0, 0]
    with torch.no_grad():
        together = load_run(tmp_path / name)[1].predict(clip)
        depth = with_only(tmp_path / name, "depth_net").depth(clip.images[:, 1])  # type: ignore[operator]
        motion = motion_of(with_only(tmp_path / name, "motion_net"), clip.images)
        there, back = both_flows(with_only(tmp_path / name, "flow_net"), clip)
    # Batches of another size add in another order.
    torch.testing.assert_close(depth[0], together.inv_depth[1][0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(motion.t, together.motion[1, 2].t, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(motion.R, together.motion[1, 2].R, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(there, together.flow[1, 2][0], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(back, together.flow[2, 1][0], rtol=1e-4, atol=1e-3)
