"""Trained for half a minute on a rendered street, each method's tiny preset beats what knows nothing.

Measured on ``sfmlearner:tiny``, 24 frames of 48x144, 160 steps of 4 clips, 35 s of one core, over training seeds 0-2 of
street 3 and seed 0 of street 5:

| | learnt | knows nothing | least margin asked |
|---|---|---|---|
| depth, abs_rel, median-scaled, below 80 m | .32 to .34 | constant depth .51 to .56 | 25 % (measured 38 %) |
| rotation error, degrees a pair | .17 to .21 | no rotation .55 to .63 | 50 % (measured 62 %) |
| direction of motion, degrees, median | .9 to 2.1 | | 6 |
| its worst cosine | .999 | | .95: no step backwards |
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from egoflow.geometry.se3 import SE3, rotation_angle
from egoflow.registry import available_methods, load_method, load_preset
from egoflow.training.session import make_dataset
from egoflow.training.trainer import Trainer
from egoflow.types import Clip, Prediction
from egoflow.worlds.base import World, load_world

FRAMES, HEIGHT, WIDTH = 24, 48, 144
STEPS, BATCH = 160, 4
FARTHEST_M = 80.0

Answers = list[tuple[tuple[int, ...], Prediction]]
"""The frames of each clip in the world, and what is said of it."""


@dataclass(frozen=True)
class Scores:
    """Means over clips and pairs; the directions are a median and the worst."""

    abs_rel: float
    constant_abs_rel: float
    rotation_deg: float
    still_deg: float
    direction_deg: float
    worst_cosine: float

    def beats_constant_depth(self) -> bool:
        return self.abs_rel < 0.75 * self.constant_abs_rel

    def beats_no_rotation(self) -> bool:
        return self.rotation_deg < 0.5 * self.still_deg

    def goes_forward(self) -> bool:
        return self.direction_deg < 6 and self.worst_cosine > 0.95


def abs_rel(depth: Tensor, truth: Tensor, valid: Tensor) -> float:
    """Return the mean relative error after scaling by the ratio of medians. (Zhou 2017)"""
    depth = (depth * (truth[valid].median() / depth[valid].median())).clamp(1e-3, FARTHEST_M)
    return ((depth - truth).abs() / truth)[valid].mean().item()


def scores(world: World, answers: Answers) -> Scores:
    depths, turns, cosines = [], [], []
    for frames, said in answers:
        for frame, levels in said.inv_depth.items():
            known = world.truth(frames[frame])
            assert known.depth is not None
            assert known.valid_depth is not None
            truth = torch.from_numpy(known.depth)
            valid = torch.from_numpy(known.valid_depth) & (truth < FARTHEST_M)
            depths.append([abs_rel(d, truth, valid) for d in (1 / levels[0][0, 0], torch.ones_like(truth))])
        for (a, b), motion in said.motion.items():
            true = world.world_from_cam(frames[b]).inverse() @ world.world_from_cam(frames[a])
            found = motion[0].to(torch.float64)
            turns.append([float(torch.rad2deg(rotation_angle(r))) for r in (found.R @ true.R.mT, true.R)])
            cosines.append(float(found.t @ true.t / (found.t.norm() * true.t.norm()).clamp_min(1e-12)))
    depth, turn, cosine = torch.tensor(depths).mean(0), torch.tensor(turns).mean(0), torch.tensor(cosines)
    return Scores(float(depth[0]), float(depth[1]), float(turn[0]), float(turn[1]),
                  float(torch.rad2deg(cosine.median().clamp(-1, 1).acos())), float(cosine.min()))


@dataclass(frozen=True)
class Trained:
    """A world, and what a method trained on it says of it."""

    world: World
    answers: Answers

    def scores(self, change: Callable[[Prediction], Prediction] = lambda said: said) -> Scores:
        return scores(self.world, [(frames, change(said)) for frames, said in self.answers])


@pytest.fixture(scope="module", params=[n for n in available_methods() if "tiny" in load_method(n).presets])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Train the tiny preset for a short time."""
    _, run = load_preset(f"{request.param}:tiny")
    run = replace(run, data=replace(run.data, height=HEIGHT, width=WIDTH), optim=replace(run.optim, batch_size=BATCH),
                  loop=replace(run.loop, steps=STEPS, save_every=STEPS, seed=0, device="cpu"))
    world = load_world("drive", seed=3, frames=FRAMES, height=HEIGHT, width=WIDTH, movers=0)
    dataset = make_dataset(run, [world], cache=None)
    out: Path = tmp_path_factory.mktemp(request.param)
    trainer = Trainer(run, dataset, out=out)
    trainer.fit()
    method = trainer.method.eval()
    answers = []
    for i in range(0, len(dataset), 2):
        clip: Clip = dataset[i]
        with torch.no_grad():
            answers.append((dataset.windows()[i][1], method.predict(replace(clip, start={}))))
    return Trained(world, answers)


def test_depth_beats_constant_depth(trained: Trained) -> None:
    assert trained.scores().beats_constant_depth(), trained.scores()


def test_rotation_beats_no_rotation(trained: Trained) -> None:
    assert trained.scores().beats_no_rotation(), trained.scores()


def test_motion_points_forward(trained: Trained) -> None:
    assert trained.scores().goes_forward(), trained.scores()


# The three tests above can fail.

def with_motion(change: Callable[[SE3], SE3]) -> Callable[[Prediction], Prediction]:
    return lambda said: replace(said, motion={pair: change(motion) for pair, motion in said.motion.items()})


def test_a_constant_depth_would_be_noticed(trained: Trained) -> None:
    def flat(said: Prediction) -> Prediction:
        return replace(said, inv_depth={k: [torch.full_like(v, 0.1) for v in vs] for k, vs in said.inv_depth.items()})
    assert not trained.scores(flat).beats_constant_depth()


def test_a_reversed_motion_would_be_noticed(trained: Trained) -> None:
    reversed_ = trained.scores(with_motion(SE3.inverse))
    assert not reversed_.beats_no_rotation()
    assert not reversed_.goes_forward()
    assert reversed_.worst_cosine < -0.9
    assert not trained.scores(with_motion(lambda motion: motion.scaled(-1.0))).goes_forward()


def test_no_motion_would_be_noticed(trained: Trained) -> None:
    still = trained.scores(with_motion(lambda motion: SE3.identity(*motion.t.shape[:-1])))
    assert still.rotation_deg == pytest.approx(still.still_deg, rel=1e-3)
    assert not still.beats_no_rotation()
    assert not still.goes_forward()


def test_the_truth_scores_perfectly(trained: Trained) -> None:
    """The scores themselves: true depth, motion in another unit of length."""
    world, answers = trained.world, []
    for frames, said in trained.answers[:3]:
        depth = {k: [1 / torch.from_numpy(world.truth(frames[k]).depth)[None, None]] for k in said.inv_depth}
        motion = {(a, b): SE3.stack([world.world_from_cam(frames[b]).inverse() @ world.world_from_cam(frames[a])])
                  for a, b in said.motion}
        answers.append((frames, Prediction(inv_depth=depth, motion={p: m.scaled(0.1) for p, m in motion.items()})))
    perfect = scores(world, answers)
    assert perfect.abs_rel < 1e-5
    assert perfect.rotation_deg < 1e-5
    assert perfect.worst_cosine > 1 - 1e-6
