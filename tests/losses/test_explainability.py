"""Explainability: check 8 of SfMLearner, and no overflow."""

import math

import pytest
import torch
import torch.nn.functional as F

from egoflow.losses.explainability import explainability_map, explainability_map_of_logits, logits_of_pairs

D = torch.float64


def test_uniform_logits_cost_ln_2() -> None:
    pairs = torch.full((2, 4, 3, 5), 0.7, dtype=D)
    cost = explainability_map_of_logits(logits_of_pairs(pairs))
    assert cost.shape == (2, 2, 3, 5)
    assert torch.allclose(cost, torch.full_like(cost, math.log(2)))
    assert explainability_map(torch.tensor(0.5, dtype=D)).item() == pytest.approx(math.log(2))


def test_full_trust_costs_nothing() -> None:
    assert explainability_map(torch.ones(1, 1, 2, 2)).sum() == 0
    assert explainability_map_of_logits(torch.tensor(200.0)) == 0


def test_pairs_are_a_softmax_over_two_channels() -> None:
    pairs = torch.randn(2, 6, 3, 4, dtype=D)
    trust = logits_of_pairs(pairs).sigmoid()
    for source in range(3):
        two = pairs[:, 2 * source:2 * source + 2]
        assert torch.allclose(trust[:, source], two.softmax(1)[:, 1])
        label = torch.ones(2, 3, 4, dtype=torch.long)
        cost = explainability_map_of_logits(logits_of_pairs(pairs))[:, source]
        assert torch.allclose(cost, F.cross_entropy(two, label, reduction="none"))


def test_weight_and_logits_agree() -> None:
    logits = torch.linspace(-20, 20, 9, dtype=D)
    assert torch.allclose(explainability_map(logits.sigmoid()), explainability_map_of_logits(logits))


def test_extremes_stay_finite() -> None:
    logits = torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4], requires_grad=True)
    cost = explainability_map_of_logits(logits)
    cost.sum().backward()
    assert cost[0] == 1e4
    assert torch.isfinite(logits.grad).all()
    weight = torch.tensor([0.0, 1e-30, 1.0], requires_grad=True)
    cost = explainability_map(weight)
    cost.sum().backward()
    assert torch.isfinite(cost).all()
    assert torch.isfinite(weight.grad).all()


def test_gradcheck() -> None:
    logits = torch.randn(2, 4, 2, 3, dtype=D, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: explainability_map_of_logits(logits_of_pairs(v)), (logits,))
    assert torch.autograd.gradcheck(lambda v: explainability_map(v.sigmoid()), (logits,))
