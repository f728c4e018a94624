"""Write a loss, see that it is smallest at the truth, and score a path against the truth and simple baselines.

Run it with a folder to write to: python examples/03_own_loss_and_scores.py out/loss
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

from egoflow.console import say
from egoflow.data.trajectories import write_trajectory
from egoflow.evaluation.odometry import evaluate_odometry
from egoflow.geometry.camera import Camera
from egoflow.geometry.flow import backward_warp, rigid_flow
from egoflow.geometry.se3 import SE3, chain
from egoflow.losses.reduce import masked_mean
from egoflow.types import Trajectory
from egoflow.worlds.base import load_world
from egoflow.worlds.truth import PairTruth


def gradient_map(x: Tensor, y: Tensor) -> Tensor:
    """Return how different the horizontal gradients of two images [B, 3, H, W] are, as a map [B, 1, H, W].

    A loss is a map; nothing is averaged here, so that masks stay the caller's business.
    """
    dx, dy = (torch.nn.functional.pad(image[..., 1:] - image[..., :-1], (0, 1)) for image in (x, y))
    return (dx - dy).abs().mean(1, keepdim=True)


def loss_at(twist: Tensor, images: Tensor, pair: PairTruth, camera: Camera) -> float:
    """Return the loss of two images [2, 3, H, W] when their true motion is changed by a small twist (v, omega)."""
    b_from_a = SE3.exp(twist)[None] @ pair.b_from_a.to(torch.float32)
    image_a, image_b = images.split(1)
    image_b_on_a, inside = backward_warp(image_b, rigid_flow(pair.depth_a.float(), camera, b_from_a)[0])
    # An empty mask would give 0 that stays in the graph; NaN under False does not get through.
    return masked_mean(gradient_map(image_b_on_a, image_a), inside & pair.visible_ab).item()


def main(out: Path) -> None:
    """Look at the loss along two axes of the motion, then score a path whose steps are a little off."""
    world = load_world("drive", seed=3, frames=12, height=64, width=192, samples=2)
    images, pair = world.colours([0, 1]), world.pair_truth(0, 1)
    for name, axis, unit in (("forward", 2, "m"), ("turn about y", 4, "rad")):
        offsets = (-0.2, -0.1, 0.0, 0.1, 0.2) if unit == "m" else (-0.02, -0.01, 0.0, 0.01, 0.02)
        values = [loss_at(offset * torch.eye(6)[axis], images, pair, world.camera) for offset in offsets]
        say(f"{name:>12}: " + "  ".join(f"{o:+g} {unit}: {v:.4f}" for o, v in zip(offsets, values, strict=True)))

    true = world.trajectory()
    path = true.world_from_cam
    steps = path[:-1].inverse() @ path[1:]
    # Half the scale, and one degree in ten too much to the left: the error of a path is in its turns, not in its unit.
    turn = SE3.exp(torch.tensor([0, 0, 0, 0, -0.0017, 0], dtype=torch.float64))
    guess = Trajectory(world_from_cam=chain((steps @ turn).scaled(0.5)), time_s=true.time_s)
    result = evaluate_odometry(guess, true, align="sim3", by="time")
    say(result.text())
    write_trajectory(out / "guess_tum.txt", guess, format="tum")
    (out / "scores.md").write_text(result.markdown())
    say(f"wrote {out}: guess_tum.txt, scores.md")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out/loss"))
