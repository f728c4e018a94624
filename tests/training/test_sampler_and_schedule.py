"""The order of clips and the learning rate are pure functions of the step."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from egoflow.config import OptimConfig
from egoflow.training.optim import clip_gradients, learning_rate, make_optimizer, set_rate
from egoflow.training.sampler import StepSampler


@given(size=st.integers(1, 40), batch=st.integers(1, 9), first=st.integers(0, 20), seed=st.integers(0, 5))
def test_resuming_the_sampler_gives_the_rest(size: int, batch: int, first: int, seed: int) -> None:
    whole = list(StepSampler(size=size, batch=batch, steps=20, seed=seed))
    assert list(StepSampler(size=size, batch=batch, steps=20, first=first, seed=seed)) == whole[first:]


@given(size=st.integers(1, 30), batch=st.integers(1, 7), seed=st.integers(0, 5))
def test_every_epoch_sees_every_clip_once(size: int, batch: int, seed: int) -> None:
    keys = [key for step in StepSampler(size=size, batch=batch, steps=40, seed=seed) for key in step]
    for epoch in range(len(keys) // size):
        assert sorted(i for i, _ in keys[epoch * size:(epoch + 1) * size]) == list(range(size))
    assert len({s for _, s in keys}) == len(keys), "two items share a seed"


def test_processes_share_a_batch_without_overlap() -> None:
    whole = list(StepSampler(size=10, batch=4, steps=5))
    halves = [list(StepSampler(size=10, batch=4, steps=5, rank=r, world=2)) for r in (0, 1)]
    for step, both in enumerate(zip(*halves, strict=True)):
        assert sorted(both[0] + both[1]) == sorted(whole[step])


def test_one_cycle_closed_form() -> None:
    config = OptimConfig(lr=1.0, schedule="one_cycle")
    assert learning_rate(config, 0.0) == pytest.approx(1 / 25)
    assert learning_rate(config, 0.15) == pytest.approx((1 + 1 / 25) / 2)
    assert learning_rate(config, 0.3) == pytest.approx(1.0)
    assert learning_rate(config, 0.65) == pytest.approx(0.5, abs=1e-5)
    assert learning_rate(config, 1.0) == pytest.approx(1e-5)
    assert math.isclose(learning_rate(OptimConfig(lr=0.3), 0.7), 0.3)


def test_linear_one_cycle_closed_form() -> None:
    """The published schedule, 1/25 up to 1 within 5 % and down to 1/250,000; PyTorch's own is the oracle."""
    config = OptimConfig(lr=1.0, schedule="one_cycle_linear")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    oracle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=1001, pct_start=0.05,
                                                 cycle_momentum=False, anneal_strategy="linear")
    for step in range(1001):
        # Its peak comes one step early: it counts pct_start * total_steps - 1 steps up.
        assert learning_rate(config, step / 1000) == pytest.approx(oracle.get_last_lr()[0], abs=0.021)
        optimizer.step()
        if step < 1000:
            oracle.step()
    assert learning_rate(config, 0.0) == pytest.approx(1 / 25)
    assert learning_rate(config, 0.05) == pytest.approx(1.0)
    assert learning_rate(config, 1.0) == pytest.approx(1 / 250_000) == pytest.approx(oracle.get_last_lr()[0])


@pytest.mark.parametrize(("decoupled", "expected"), [(True, 1 - 0.1 * 0.5 - 0.1), (False, 1 - 0.1)])
def test_decoupled_weight_decay_shrinks_beside_the_step(decoupled: bool, expected: float) -> None:
    """Adam's first step is lr whatever the gradient's size; AdamW takes lr * decay * weight off as well."""
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(module.weight)
    config = OptimConfig(lr=0.1, weight_decay=0.5, decoupled_weight_decay=decoupled)
    optimizer = make_optimizer(module, config, rates={})
    module.weight.grad = torch.ones_like(module.weight)
    optimizer.step()
    assert float(module.weight.detach()) == pytest.approx(expected, abs=1e-6)


def test_networks_move_at_their_own_rates() -> None:
    """Adam's first step is the rate whatever the gradient; a name that only begins like another is none of it."""
    names = ("depth_net", "flow_net", "flow")
    method = torch.nn.ModuleDict({name: torch.nn.Linear(1, 1, bias=False) for name in names})
    before = {name: float(method[name].weight.detach()) for name in method}
    optimizer = make_optimizer(method, OptimConfig(lr=5.0), rates={"flow_net": 3.0})
    set_rate(optimizer, 0.1)
    for network in method.values():
        network.weight.grad = torch.full_like(network.weight, 7.0)
    optimizer.step()
    moved = {name: before[name] - float(method[name].weight.detach()) for name in method}
    assert moved == pytest.approx({"depth_net": 0.1, "flow_net": 0.3, "flow": 0.1}, abs=1e-5)


def test_halving_counts_within_a_phase_and_rises_from_a_hundredth() -> None:
    config = OptimConfig(lr=1.0, schedule="halving", halve_at=(0.5, 0.75), warm_up=0.1)
    rates = [learning_rate(config, within) for within in (0.0, 0.05, 0.1, 0.49, 0.5, 0.74, 0.75, 1.0)]
    assert rates == pytest.approx([0.01, 0.505, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25])
    assert learning_rate(config, 0.9, 0.2) == 1.0


def test_gradients_are_clipped_network_by_network() -> None:
    """One network's large gradient leaves that of another as it is; the norm said is of all, before clipping."""
    method = torch.nn.ModuleDict({name: torch.nn.Linear(1, 1, bias=False) for name in ("depth", "motion", "frozen")})
    gradients = {"depth": 0.5, "motion": 30.0}
    for name, value in gradients.items():
        method[name].weight.grad = torch.full_like(method[name].weight, value)
    assert float(clip_gradients(method, None)) == pytest.approx(math.hypot(0.5, 30))
    assert float(method["motion"].weight.grad) == 30.0
    assert float(clip_gradients(method, 1.0)) == pytest.approx(math.hypot(0.5, 30))
    assert float(method["depth"].weight.grad) == 0.5
    assert float(method["motion"].weight.grad) == pytest.approx(1.0, abs=1e-5)
