"""Each collapse is called by its name, with the knob to turn; a healthy run is left alone."""

from collections.abc import Callable

import pytest
import torch

from egoflow.errors import TrainingError
from egoflow.geometry.se3 import SE3
from egoflow.registry import load_method
from egoflow.training.watchdog import Watchdog, figures
from egoflow.types import Prediction


def prediction(*, inverse: torch.Tensor | None = None, tangent: float = 0.05, mask: float = 0.6) -> Prediction:
    ramp = torch.linspace(0.1, 1, 200).view(1, 1, 10, 20).expand(2, 1, 10, 20)
    motion = SE3.exp(torch.full((2, 6), tangent))
    return Prediction(inv_depth={1: [ramp if inverse is None else inverse]}, motion={(1, 0): motion},
                      weight={(1, 0): [torch.full((2, 1, 10, 20), mask)]})


def saturated() -> torch.Tensor:
    inverse = torch.full((2, 1, 10, 20), 10.0)
    inverse[:, :, 0, :10] = 0.01
    return inverse


HEALTHY = prediction()
COLLAPSES: dict[str, Callable[[int], Prediction]] = {
    "constant depth": lambda step: prediction(inverse=torch.full((2, 1, 10, 20), 0.3)),
    "saturated depth": lambda step: prediction(inverse=saturated()),
    "zero motion": lambda step: prediction(tangent=1e-9),
    "mask at 0": lambda step: prediction(mask=1e-3),
    "mask at 1": lambda step: prediction(mask=0.9999),
    "scale runaway": lambda step: prediction(inverse=HEALTHY.inv_depth[1][0] / (1 if step < 150 else 500)),
}


@pytest.mark.parametrize("name", COLLAPSES)
def test_collapse_is_named(name: str) -> None:
    dog = Watchdog()

    def watch() -> None:
        for step in range(0, 1000, 10):
            dog.check(step, figures(COLLAPSES[name](step)))

    with pytest.raises(TrainingError, match=name):
        watch()


def test_healthy_run_is_left_alone() -> None:
    dog = Watchdog()
    for step in range(0, 1000, 10):
        dog.check(step, figures(HEALTHY))
    assert not dog.counts


def test_what_is_harmless_to_a_method_is_no_collapse_of_it() -> None:
    """Where nothing moves by itself the masks of joint keep every pixel, and are right."""
    dog = Watchdog(harmless=load_method("joint").method_type.harmless)
    for step in range(0, 1000, 10):
        dog.check(step, figures(COLLAPSES["mask at 1"](step)))
    assert not dog.counts


def test_a_symptom_that_passes_is_no_collapse() -> None:
    dog = Watchdog()
    for step in range(0, 1000, 10):
        dog.check(step, figures(COLLAPSES["constant depth"](step) if step % 50 else HEALTHY))
