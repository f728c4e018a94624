"""The two-view start: lengths, its terms at and away from the truth, degenerate pairs and unusable pixels."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from egoflow.geometry.flow import rigid_flow
from egoflow.geometry.se3 import SE3, rotation_angle
from egoflow.methods.start import StartSchedule, flow_term, motion_term, scaled_motion, with_start
from egoflow.types import LossTerms, Prediction, TwoView
from methods.steps import bent, camera, started, world_batch, world_clip

# The length of the translation.

def test_length_is_that_of_the_true_motion() -> None:
    depth, view, motion = world_batch()
    found = scaled_motion(depth, camera(), view)
    assert torch.equal(found.R, view.b_from_a.R)
    ratio = found.t.norm(dim=-1) / motion.t.norm(dim=-1)
    assert (ratio - 1).abs().max() < 1e-3


@pytest.mark.parametrize("factor", [1e-3, 0.1, 3.0, 100.0])
def test_length_follows_the_scale_of_depth_and_the_terms_do_not(factor: float) -> None:
    depth, view, _ = world_batch()
    length, scaled = (scaled_motion(d, camera(), view).t.norm(dim=-1) for d in (depth, factor * depth))
    torch.testing.assert_close(scaled, factor * length, rtol=1e-3, atol=0)
    wrong = bent(depth)
    one, other = (started(d, view)["loss/start_flow"][1] for d in (wrong, factor * wrong))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=0)


def test_length_withstands_outliers() -> None:
    depth, view, motion = world_batch()
    wrong = torch.rand(depth.shape) < 0.2
    flow = torch.where(wrong, view.flow_ab + 20 * torch.randn_like(view.flow_ab), view.flow_ab)
    found = scaled_motion(depth, camera(), replace(view, flow_ab=flow))
    assert (found.t.norm(dim=-1) / motion.t.norm(dim=-1) - 1).abs().max() < 0.02


# The flow term.

def test_flow_term_is_least_at_the_true_depth() -> None:
    depth, view, motion = world_batch()
    at_truth = flow_term(depth, camera(), motion, view)
    assert at_truth < 2e-3
    for wrong in (bent(depth), depth * 1.1, depth * 0.9, depth.mean((1, 2, 3), keepdim=True).expand_as(depth)):
        assert flow_term(wrong, camera(), motion, view) > 10 * at_truth


def test_flow_term_pulls_each_pixel_towards_its_depth() -> None:
    depth, view, motion = world_batch()
    log_depth = bent(depth).log().requires_grad_()
    flow_term(log_depth.exp(), camera(), motion, view).backward()
    gradient = log_depth.grad
    assert gradient is not None
    error = (bent(depth) / depth).log()
    # Beyond the clamp at 2 and where there is nearly no parallax no gradient is expected.
    use = view.usable & (gradient.abs() > 1e-3 * gradient.abs().max()) & (error.abs() > 0.1)
    assert use.sum() > 2000
    assert (gradient * error > 0)[use].float().mean() > 0.99


def test_flow_term_is_blind_to_scale() -> None:
    """The gradient along a common factor is 0; with the solved length held fixed the scale of depth would run off."""
    depth, view, _ = world_batch()
    scale = torch.zeros(3, 1, 1, 1, requires_grad=True)
    tilt = torch.zeros(3, 1, 1, 1, requires_grad=True)
    ramp = torch.linspace(0.3, -0.3, depth.shape[-1])
    started(bent(depth) * (scale + tilt * ramp).exp(), view)["loss/start_flow"][1].backward()
    assert scale.grad is not None
    assert tilt.grad is not None
    assert tilt.grad.min() > 0
    assert scale.grad.abs().max() < 1e-3 * tilt.grad.max()


def test_coarse_levels_count_as_the_fine_one() -> None:
    depth, view, _ = world_batch()
    fine = 1 / depth
    coarse = torch.nn.functional.avg_pool2d(fine, 2)
    clip, schedule = world_clip(view), StartSchedule()
    terms = [with_start(LossTerms(), clip, Prediction(inv_depth={0: levels}), 0, schedule)["loss/start_flow"][1]
             for levels in ([fine], [fine, fine], [fine, coarse])]
    torch.testing.assert_close(terms[0], terms[1])
    assert terms[1] < terms[2] < 0.2


# The motion term.

def test_motion_term_is_zero_at_the_target_and_its_gradient_leads_there() -> None:
    depth, view, _ = world_batch()
    target = scaled_motion(depth, camera(), view)
    focal = camera().fx
    assert motion_term(target, target, view, focal_px=focal) < 1e-3
    for axis in range(6):
        away = torch.zeros(3, 6)
        away[:, axis] = 0.02
        away.requires_grad_()
        loss = motion_term(SE3.exp(away) @ target, target, view, focal_px=focal)
        loss.backward()
        assert away.grad is not None
        assert loss > 1e-2
        assert (away.grad[:, axis] > 0).all()


def test_motion_term_counts_pixels_and_shares_of_the_length() -> None:
    _, view, motion = world_batch()
    focal = camera().fx
    turn = SE3.exp(torch.tensor([0.0, 0, 0, 0, 0.01, 0]).expand(3, 6))
    turned = SE3(turn.R @ motion.R, motion.t)
    torch.testing.assert_close(motion_term(turned, motion, view, focal_px=focal), 0.01 * focal[0], rtol=1e-3, atol=0)
    torch.testing.assert_close(motion_term(motion.scaled(1.25), motion, view, focal_px=focal), torch.tensor(0.25),
                               rtol=1e-3, atol=1e-3)
    # Backwards is twice the length away.
    torch.testing.assert_close(motion_term(motion.scaled(-1.0), motion, view, focal_px=focal), torch.tensor(2.0),
                               rtol=1e-3, atol=1e-3)


def test_motion_term_does_not_train_depth() -> None:
    depth, view, motion = world_batch()
    inv_depth = (1 / bent(depth)).requires_grad_()
    predicted = motion.scaled(1.5)
    prediction = Prediction(inv_depth={0: [inv_depth]}, motion={(0, 1): SE3(predicted.R, predicted.t.requires_grad_())})
    with_start(LossTerms(), world_clip(view), prediction, 0.0, StartSchedule())["loss/start_motion"][1].backward()
    assert inv_depth.grad is None
    assert predicted.t.grad is not None


def test_motion_term_keeps_its_precision_under_autocast() -> None:
    """In bfloat16 the product of two rotations is wrong by a tenth of a degree: as much as the start itself."""
    depth, view, motion = world_batch()
    predicted = SE3.exp(torch.full((3, 6), 0.02)) @ motion
    with torch.autocast("cpu", torch.bfloat16):
        terms = started(depth, view, predicted)
    exact = started(depth, view, predicted)
    for name, (_, value) in exact.items():
        torch.testing.assert_close(terms[name][1], value, rtol=1e-5, atol=0)


# Degenerate pairs and unusable pixels.

def gradients(depth: Tensor, view: TwoView, motion: SE3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the value of the start and its gradients with respect to depth, rotation and translation."""
    leaves = [v.detach().clone().requires_grad_() for v in (depth, motion.R, motion.t)]
    total = started(leaves[0], view, SE3(leaves[1], leaves[2])).total
    return (total.detach(), *torch.autograd.grad(total, leaves))


def test_nan_where_flow_is_not_usable_changes_nothing() -> None:
    depth, view, motion = world_batch()
    poisoned = replace(view, flow_ab=view.flow_ab.masked_fill(~view.usable, float("nan")))
    assert torch.isnan(poisoned.flow_ab).any()
    predicted = SE3.exp(torch.full((3, 6), 0.02)) @ motion
    clean, poor = (gradients(bent(depth), v, predicted) for v in (view, poisoned))
    assert all(torch.equal(a, b) for a, b in zip(clean, poor, strict=True))


@pytest.mark.parametrize("flow", [0.0, 3.0, float("nan")])
def test_a_degenerate_pair_teaches_its_rotation_alone(flow: float) -> None:
    depth, view, motion = world_batch()
    unknown = SE3(view.b_from_a.R, torch.zeros(3, 3))
    degenerate = replace(view, b_from_a=unknown, weight=torch.zeros(3), flow_ab=torch.full_like(view.flow_ab, flow))
    predicted = SE3.exp(torch.full((3, 6), 0.02)) @ motion
    total, by_depth, by_rotation, by_translation = gradients(bent(depth), degenerate, predicted)
    turn = rotation_angle(predicted.R @ motion.R.mT).mean() * camera().fx[0]
    torch.testing.assert_close(total, turn, rtol=1e-3, atol=0)
    assert torch.isfinite(by_rotation).all()
    assert by_rotation.any()
    assert not by_depth.any()
    assert not by_translation.any()


def test_a_degenerate_pair_leaves_the_others_alone() -> None:
    depth, view, motion = world_batch()
    flow, t = view.flow_ab.clone(), view.b_from_a.t.clone()
    flow[1], t[1] = float("nan"), 0
    mixed = replace(view, flow_ab=flow, b_from_a=SE3(view.b_from_a.R, t), weight=torch.tensor([1.0, 0.0, 1.0]))
    predicted = SE3.exp(torch.full((3, 6), 0.02)) @ motion
    clean, poor = gradients(bent(depth), view, predicted), gradients(bent(depth), mixed, predicted)
    for kind in (1, 2, 3):
        assert torch.equal(clean[kind][[0, 2]], poor[kind][[0, 2]])
        assert torch.isfinite(poor[kind]).all()


def test_a_pair_without_usable_pixels_is_finite() -> None:
    depth, view, motion = world_batch()
    empty = replace(view, usable=torch.zeros_like(view.usable), flow_ab=torch.full_like(view.flow_ab, float("nan")))
    total, by_depth, *rest = gradients(depth, empty, motion)
    assert all(torch.isfinite(v).all() for v in (total, *rest))
    assert not by_depth.any()


def test_the_start_of_a_batch_is_the_mean_of_its_samples() -> None:
    depth, view, motion = world_batch()
    whole = started(bent(depth), view, motion)
    single = []
    for i in range(3):
        part = slice(i, i + 1)
        prediction = Prediction(inv_depth={0: [1 / bent(depth)[part]]}, motion={(0, 1): motion[part]})
        single.append(with_start(LossTerms(), world_clip(view)[part], prediction, 0.0, StartSchedule()))
    for name, (_, value) in whole.items():
        torch.testing.assert_close(value, torch.stack([s[name][1] for s in single]).mean(), rtol=1e-5, atol=1e-6)


def test_the_flow_of_the_solved_motion_is_the_flow() -> None:
    """The whole chain against the caster: true depth, solved length, rendered flow."""
    depth, view, _ = world_batch()
    flow, _ = rigid_flow(depth, camera(), scaled_motion(depth, camera(), view))
    error = (flow - view.flow_ab).norm(dim=1, keepdim=True)[view.usable]
    assert error.max() < 2e-2


# Optical flow, and pixels that the method does not trust.

def with_flow(flow: Tensor, view: TwoView) -> LossTerms:
    return with_start(LossTerms(), world_clip(view), Prediction(flow={(0, 1): [flow]}), 0.0, StartSchedule())


def test_optical_flow_follows_the_classical_one_where_that_is_usable() -> None:
    _, view, _ = world_batch()
    noise = torch.randn_like(view.flow_ab)
    at_truth, off = (float(with_flow(view.flow_ab + f * noise, view)["loss/start_optical_flow"][1]) for f in (0.0, 0.1))
    assert at_truth < 2e-3
    assert off > 10 * at_truth
    unknown = torch.where(view.usable, view.flow_ab, torch.full_like(view.flow_ab, torch.nan))
    flow = (view.flow_ab + noise).requires_grad_()
    with_flow(flow, replace(view, flow_ab=unknown))["loss/start_optical_flow"][1].backward()
    assert flow.grad is not None
    assert flow.grad.isfinite().all()
    assert not flow.grad[~view.usable.expand_as(flow)].any()


def test_once_the_start_fades_depth_is_taught_only_where_the_method_trusts_the_pair() -> None:
    depth, view, motion = world_batch()
    inv_depth = (1 / bent(depth)).requires_grad_()
    trusted = torch.ones_like(depth)
    trusted[..., 10:30, 40:90] = 0
    said = Prediction(inv_depth={0: [inv_depth]}, motion={(0, 1): motion}, weight={(0, 1): [trusted]})
    schedule = StartSchedule()
    for progress, taught in ((0.9 * schedule.hold, True), (schedule.hold, False)):
        inv_depth.grad = None
        with_start(LossTerms(), world_clip(view), said, progress, schedule)["loss/start_flow"][1].backward()
        assert inv_depth.grad is not None
        # The scale is taken over trusted pixels too: elsewhere nothing arrives at all.
        assert bool(inv_depth.grad[trusted == 0].any()) == taught
        assert inv_depth.grad[(trusted > 0) & view.usable].count_nonzero() > 1000
