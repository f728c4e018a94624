"""Clips of a rendered drive with the prediction that knows the truth."""

import torch

from egoflow.types import Clip, Prediction
from egoflow.worlds.base import World, load_world


def drive(*, seed: int, movers: int = 4, frames: int = 5, height: int = 96, width: int = 320) -> World:
    world = load_world("drive", seed=seed, frames=frames, height=height, width=width, movers=movers)
    assert isinstance(world, World)
    return world


def clip_and_truth(world: World, middle: int) -> tuple[Clip, Prediction]:
    """Return the frames about the ``middle`` one, and their true depth, motion and flow."""
    frames = [middle - 1, middle, middle + 1]
    to_next, to_previous = world.pair_truth(middle, middle + 1), world.pair_truth(middle, middle - 1)
    depths = [to_previous.depth_b, to_next.depth_a, to_next.depth_b]
    prediction = Prediction(
        inv_depth={i: [1 / depth] for i, depth in enumerate(depths)},
        motion={(1, 2): to_next.b_from_a, (1, 0): to_previous.b_from_a},
        flow={(1, 2): [to_next.flow_ab], (2, 1): [to_next.flow_ba], (1, 0): [to_previous.flow_ab],
              (0, 1): [to_previous.flow_ba]})
    return Clip(images=world.colours(frames)[None], camera=world.camera, time_s=torch.zeros(1, 3), target=1,
                key=("drive",)), prediction
