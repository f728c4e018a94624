"""What to try next follows from what a fit has found."""

from types import SimpleNamespace
from typing import Any

import pytest

from egoflow.fit.advice import advice

FOOTAGE: Any = SimpleNamespace(shots=[SimpleNamespace(facts=0)],
                               facts=[{"camera": {"from": "given"}, "findings": []}])
FALLING = [[100, 0.5], [200, 0.4], [300, 0.301], [305, 0.302]]
RISING = [[100, 0.5], [200, 0.3], [300, 0.35], [305, 0.36]]
LONGER, WORSE = "a longer --budget will give better depth", "got worse towards the end"


def told(*, step: int, by_step: list[list[float]], flat: float | None = 0.8, footage: Any = FOOTAGE, **changes: Any
         ) -> str:
    figures = {"unexplained": {"chosen": by_step[-1][1] if by_step else None, "flat_depth": flat, "by_step": by_step},
               "chosen_step": step, "steps": 305, "trained_steps": 305, "gap": 1, "scale": "metric",
               "shots": [{"frames": 300, "self_consistency": {"depth_ratio_spread": 0.01, "return_share": 0.01}}]}
    return " ".join(advice(footage, figures | changes))


@pytest.mark.parametrize(("step", "by_step", "said"), [
    (305, FALLING, LONGER), (200, RISING, WORSE), (305, RISING, "Nothing stands out"), (305, [], "Nothing stands out")])
def test_the_scores_say_whether_more_steps_will_help(step: int, by_step: list[list[float]], said: str) -> None:
    found = told(step=step, by_step=by_step)
    assert said in found
    assert all(other not in found for other in {LONGER, WORSE} - {said})


def test_depth_that_explains_little_comes_first() -> None:
    assert told(step=305, by_step=FALLING, flat=0.31).startswith("Depth explains little")


def test_a_training_that_was_cut_short_is_told_first() -> None:
    assert told(step=200, by_step=FALLING, trained_steps=200).startswith("Training was ended at step 200 of 305")


def test_a_camera_that_the_footage_contradicts_is_told() -> None:
    facts = [{"camera": {"from": "given"}, "findings": [{"name": "wrong_camera", "text": "it turns as with 120 px"}]}]
    footage: Any = SimpleNamespace(shots=FOOTAGE.shots, facts=facts)
    assert "Mind the camera: it turns as with 120 px." in told(step=305, by_step=FALLING, footage=footage)
    assert "Mind the camera" not in told(step=305, by_step=FALLING)


def test_the_worst_shot_is_told() -> None:
    good, bad = ({"frames": 300, "self_consistency": {"depth_ratio_spread": spread}} for spread in (0.01, 0.3))
    assert "the path drifts" in told(step=305, by_step=FALLING, shots=[good, bad])
    assert "the path drifts" not in told(step=305, by_step=FALLING, shots=[good, good])


def test_no_unit_and_few_frames_are_told() -> None:
    assert "egoflow scale RUN" in told(step=305, by_step=[], scale="relative")
    few = [{"frames": 50, "self_consistency": {}}]
    assert "Film more" in told(step=305, by_step=[], shots=few)
