"""How the two-view start and a method's own terms share the training."""

from dataclasses import replace

import pytest
import torch

from egoflow.methods.base import Method
from egoflow.methods.start import StartSchedule, with_start
from egoflow.registry import load_preset
from egoflow.types import Clip, LossTerms, Prediction
from methods.steps import camera, world_batch, world_clip


@pytest.mark.parametrize(("progress", "guidance", "own"), [
    (0.0, 1.0, 0.0), (0.15, 1.0, 0.5), (0.3, 1.0, 1.0), (0.4, 1.0, 1.0), (0.55, 0.825, 1.0), (0.7, 0.65, 1.0),
    (1.0, 0.3, 1.0)])
def test_schedule(progress: float, guidance: float, own: float) -> None:
    schedule = StartSchedule(ramp=0.3, hold=0.4, end=1.0, rest=0.3)
    assert schedule.guidance(progress) == pytest.approx(guidance)
    assert schedule.own(progress) == pytest.approx(own)


def test_schedule_without_ramp_or_fade() -> None:
    schedule = StartSchedule(ramp=0.0, hold=1.0, end=1.0)
    assert schedule.own(0.0) == 1
    assert schedule.guidance(0.999) == 1
    # A sudden end is no division by zero.
    assert StartSchedule(hold=0.5, end=0.5, rest=0.0).guidance(0.6) == 0


def test_own_terms_ramp_and_keep_their_values() -> None:
    depth, view, motion = world_batch()
    own = LossTerms({"loss/photometric": (2.0, torch.tensor(5.0))})
    prediction = Prediction(inv_depth={0: [1 / depth]}, motion={(0, 1): motion})
    schedule = StartSchedule(flow=3.0, motion=0.5, ramp=0.4, hold=0.5, end=1.0, rest=0.2)
    terms = with_start(own, world_clip(view), prediction, 0.2, schedule)
    assert terms["loss/photometric"] == (1.0, own["loss/photometric"][1])
    assert terms["loss/start_flow"][0] == 3.0
    assert terms["loss/start_motion"][0] == 0.5
    late = with_start(own, world_clip(view), prediction, 1.0, schedule)
    assert late["loss/photometric"] == (2.0, own["loss/photometric"][1])
    assert late["loss/start_flow"][0] == pytest.approx(0.6)
    assert own["loss/photometric"][0] == 2.0


def method_and_clip() -> tuple[Method, Clip]:
    entry, run = load_preset("sfmlearner:tiny")
    _, view, _ = world_batch()
    images = torch.rand(3, 3, 3, camera().height, camera().width)
    return entry.method_type(run.config), Clip(images=images, camera=camera(), time_s=torch.zeros(3, 3), target=1,
                                               start={(1, 0): view, (1, 2): view})


@pytest.mark.parametrize("progress", [0.0, 0.5])
def test_without_a_start_the_terms_are_the_methods_own(progress: float) -> None:
    method, clip = method_and_clip()
    bare = replace(clip, start={})
    terms, prediction = method(bare, progress)
    own = method.losses(bare, prediction, progress)
    assert {k: (w, v.item()) for k, (w, v) in terms.items()} == {k: (w, v.item()) for k, (w, v) in own.items()}
    assert all(weight > 0 for weight, _ in terms.values())


def test_with_a_start_the_networks_learn_from_it_alone_at_first() -> None:
    method, clip = method_and_clip()
    terms, _ = method(clip, 0.0)
    assert {name for name, (weight, _) in terms.items() if weight > 0} == {"loss/start_flow", "loss/start_motion"}
    terms.total.backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_motion_without_depth_learns_rotation_and_direction() -> None:
    _, view, motion = world_batch()
    clip, own = world_clip(view), LossTerms({"loss/x": (1.0, torch.zeros(()))})
    longer = motion.scaled(3.0)
    terms = with_start(own, clip, Prediction(motion={(0, 1): longer}), 0.0, StartSchedule())
    assert set(terms) == {"loss/x", "loss/start_motion"}
    assert float(terms["loss/start_motion"][1]) == pytest.approx(0, abs=1e-3)
    backwards = with_start(own, clip, Prediction(motion={(0, 1): motion.scaled(-1.0)}), 0.0, StartSchedule())
    assert float(backwards["loss/start_motion"][1]) == pytest.approx(2, abs=1e-3)


def test_a_pair_without_motion_does_not_silence_the_others() -> None:
    depth, view, motion = world_batch()
    clip = world_clip(view)
    clip = replace(clip, start={**clip.start, (0, 2): view}, images=clip.images[:, :1].expand(-1, 3, -1, -1, -1),
                   time_s=clip.time_s[:, :1].expand(-1, 3))
    prediction = Prediction(inv_depth={0: [1 / depth]}, motion={(0, 1): motion})
    assert "loss/start_motion" in with_start(LossTerms(), clip, prediction, 0.0, StartSchedule())
