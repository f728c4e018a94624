"""Held-out figures against what is known by construction: a method that says one flow and one depth everywhere."""

import pytest
import torch
from torch import Tensor

from egoflow.geometry.camera import Camera
from egoflow.methods.base import Method
from egoflow.training.held_out import held_out_figures
from egoflow.types import Clip, LossTerms, Prediction, Truth

HEIGHT, WIDTH = 6, 8


class Says(Method):
    """Flow (3, 4) and depth 2 everywhere; its loss is the mean of the image."""

    clip_length, target = 2, 0

    def __init__(self, config: object = None) -> None:
        super().__init__(config)

    def predict(self, clip: Clip) -> Prediction:
        flow = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1).expand(1, 2, HEIGHT, WIDTH)
        return Prediction(flow={(0, 1): [flow]}, inv_depth={0: [torch.full((1, 1, HEIGHT, WIDTH), 0.5)]})

    def losses(self, clip: Clip, prediction: Prediction, progress: float) -> LossTerms:
        return LossTerms({"loss/mean": (1.0, clip.images.mean())})


def clip(value: float, *, truth: Truth | None = None) -> Clip:
    return Clip(images=torch.full((1, 2, 3, HEIGHT, WIDTH), value), time_s=torch.zeros(1, 2, dtype=torch.float64),
                camera=Camera.create(5, 5, 3.5, 2.5, height=HEIGHT, width=WIDTH), target=0, truth=truth)


def known(flow: Tensor, valid: Tensor, depth: Tensor | None = None) -> Truth:
    return Truth(flow={(0, 1): flow}, valid_flow={(0, 1): valid}, depth=depth,
                 valid_depth=None if depth is None else torch.ones_like(depth, dtype=torch.bool))


def test_errors_are_means_over_what_is_known() -> None:
    """Still pixels are 5 px wrong, right ones 0: of 48 and 24 known pixels, 24 are right."""
    still, half = torch.zeros(1, 2, HEIGHT, WIDTH), torch.zeros(1, 1, HEIGHT, WIDTH, dtype=torch.bool)
    half[..., WIDTH // 2:] = True
    right = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1).repeat(1, 1, HEIGHT, WIDTH)
    depth = torch.full((1, 2, 1, HEIGHT, WIDTH), 10.0)
    depth[..., 0] = 20.0  # a constant says 10 after scaling: half of the truth in one column of eight
    clips = [clip(0.2, truth=known(still, torch.ones_like(half), depth)), clip(0.4, truth=known(right, half)),
             clip(0.6)]
    method = Says().train()
    found = held_out_figures(method, clips, torch.device("cpu"))
    assert found["held_out/loss"] == pytest.approx(0.4)
    assert found["held_out/epe_px"] == pytest.approx(5 * 48 / 72)
    assert found["held_out/abs_rel"] == pytest.approx(0.5 / 8)
    assert method.training


def test_without_truth_there_is_the_loss_alone() -> None:
    unknown = known(torch.zeros(1, 2, HEIGHT, WIDTH), torch.zeros(1, 1, HEIGHT, WIDTH, dtype=torch.bool))
    assert held_out_figures(Says(), [clip(0.5), clip(0.5, truth=unknown)], torch.device("cpu")) == {
        "held_out/loss": 0.5}
