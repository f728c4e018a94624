"""Trained for a minute on pairs of small chairs without a label, ``selfflow:tiny`` beats zero flow on unseen pairs.

Measured at 48x64, 400 steps of 4 of 120 pairs, a minute of one core, training seed 0 alone, on 24 other pairs: error
1.87 px, of zero flow 2.49 px (.75 of it, hidden pixels included). Asked: .85.
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from egoflow.config import Run
from egoflow.methods.base import Method
from egoflow.registry import load_preset
from egoflow.training.session import make_dataset
from egoflow.training.trainer import Trainer
from egoflow.types import FlowSource, FrameSource
from egoflow.worlds.base import load_world

HEIGHT, WIDTH = 48, 64
SCENES, UNSEEN = 120, 24
STEPS, BATCH = 400, 4


def chairs(first: int, count: int) -> list[FrameSource]:
    return [load_world("chairs", seed=first + i, frames=2, height=HEIGHT, width=WIDTH) for i in range(count)]


def end_point_error(flows: list[Tensor], worlds: list[FrameSource]) -> float:
    """Return the mean length of the errors of flows (0, 1), in pixels, all pixels counted."""
    errors = []
    for flow, world in zip(flows, worlds, strict=True):
        assert isinstance(world, FlowSource)
        truth = world.flow_truth(0, 1)
        assert truth is not None
        errors.append((flow - torch.from_numpy(truth.flow_ab)).norm(dim=0).mean().item())
    return sum(errors) / len(errors)


@torch.no_grad()
def flows_of(method: Method, worlds: list[FrameSource], run: Run) -> list[Tensor]:
    dataset = make_dataset(run, worlds, cache=None)
    return [method.predict(dataset[i]).flow[0, 1][0][0] for i in range(len(worlds))]


def test_the_tiny_preset_learns_flow(tmp_path: Path) -> None:
    entry, run = load_preset("selfflow:tiny")
    run = replace(run, data=replace(run.data, height=HEIGHT, width=WIDTH), optim=replace(run.optim, batch_size=BATCH),
                  loop=replace(run.loop, steps=STEPS, save_every=STEPS, seed=0, device="cpu"))
    trainer = Trainer(run, make_dataset(run, chairs(0, SCENES), cache=None), out=tmp_path)
    trainer.fit()
    unseen = chairs(100_000, UNSEEN)
    zero, untrained, learnt = (end_point_error(flows, unseen) for flows in (
        [torch.zeros(2, HEIGHT, WIDTH)] * UNSEEN, flows_of(entry.method_type(run.config).eval(), unseen, run),
        flows_of(trainer.method.eval(), unseen, run)))
    assert learnt < 0.85 * zero
    assert untrained > 0.95 * zero
