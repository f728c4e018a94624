"""The order of clips and the learning rate are pure functions of the step."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egoflow.config import OptimConfig
from egoflow.training.optim import learning_rate
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
