"""What depth leaves unexplained of the flow is least at the truth, and does not depend on its unit."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from egoflow.fit.proxy import unexplained_flow
from egoflow.methods.base import Method
from egoflow.types import Clip, LossTerms, Prediction
from methods.steps import STEPS, bent, camera, world_batch, world_clip


class Says(Method):
    """Answer with a given depth for the target."""

    def __init__(self, depth: Tensor) -> None:
        super().__init__(None)
        self.said, self.clip_length, self.target = depth, 2, 0

    def predict(self, clip: Clip) -> Prediction:
        return Prediction(inv_depth={0: [1 / self.said]})

    def losses(self, clip: Clip, prediction: Prediction, progress: float) -> LossTerms:
        return LossTerms()


def score(depth: Tensor, *, weight: float = 1.0) -> float:
    """Return the mean figure of three rendered steps, a clip each."""
    _, view, _ = world_batch()
    found = []
    for k in range(len(STEPS)):
        one = replace(view[k:k + 1], weight=torch.full((1,), weight))
        clip = replace(world_clip(view)[k:k + 1], camera=camera()[k:k + 1], start={(0, 1): one})
        found.append(unexplained_flow(Says(depth[k:k + 1]), [clip], device=torch.device("cpu")))
    return sum(found) / len(found)


def test_the_truth_explains_everything_and_worse_depth_less() -> None:
    depth, _, _ = world_batch()
    noise = torch.randn_like(depth)
    at_truth, little, more = (score(depth * (s * noise).exp()) for s in (0.0, 0.1, 0.3))
    constant = score(torch.full_like(depth, 10.0))
    assert at_truth < 0.01
    assert 5 * at_truth < little < more < constant
    assert at_truth < score(bent(depth))


def test_the_unit_of_depth_does_not_matter() -> None:
    depth, _, _ = world_batch()
    wrong = bent(depth)
    assert score(7 * wrong) == pytest.approx(score(wrong), rel=1e-3)


def test_without_a_known_motion_there_is_no_figure() -> None:
    depth, _, _ = world_batch()
    value = score(depth, weight=0.0)
    assert value != value


def test_the_mode_of_the_method_stays() -> None:
    depth, view, _ = world_batch()
    method = Says(depth[:1]).train()
    unexplained_flow(method, [world_clip(view)[:1]], device=torch.device("cpu"))
    assert method.training
