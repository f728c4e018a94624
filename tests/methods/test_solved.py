"""Motion solved in place of the regressed one: rendered truth, what falls back, who learns from what, every method."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from egoflow.config import MotionMode, run_from_json, run_to_json, with_settings
from egoflow.errors import ConfigError
from egoflow.geometry.camera import Camera
from egoflow.geometry.flow import rigid_flow
from egoflow.geometry.se3 import SE3, rotation_angle, rotation_exp
from egoflow.methods.base import Method
from egoflow.methods.solved import Solved, distilled_term, solved_motions, with_classical_views, with_motions
from egoflow.methods.start import with_start
from egoflow.registry import available_methods, build_method, load_method, load_preset
from egoflow.types import Clip, Pair, Prediction, TwoView
from egoflow.worlds.base import World, load_world
from methods.steps import HEIGHT, WIDTH, bent, camera, world_batch, world_clip
from methods.test_contracts import clip_for, fresh, leaves, same

PAIR = (0, 1)
SOLVING: tuple[MotionMode, ...] = ("solved", "refined")
ALL: tuple[MotionMode, ...] = ("net", *SOLVING)


def off(motion: SE3) -> SE3:
    """Return motions half a degree and a third of their length away, as a network's are."""
    count = len(motion.t)
    return SE3(rotation_exp(torch.full((count, 3), 0.005)) @ motion.R, 1.3 * motion.t + 0.05)


def said(depth: Tensor, *, motion: SE3 | None = None, flow: Tensor | None = None) -> Prediction:
    """Return a prediction of depth of the first frame and what else is given."""
    return Prediction(inv_depth={0: [1 / depth]}, motion={} if motion is None else {PAIR: motion},
                      flow={} if flow is None else {PAIR: [flow]})


def own_clip(count: int = 3) -> Clip:
    """Return a clip without a two-view start."""
    return replace(world_clip(world_batch()[1]), start={})[:count]


def filled(depth: Tensor, view: TwoView) -> Tensor:
    """Return the true flow with nothing to read where it is unknown or hidden."""
    return torch.where(view.usable, view.flow_ab, torch.nan)


def check_true(found: Solved, true: SE3) -> None:
    """Assert 1e-3 degrees and a thousandth of the length."""
    turn = torch.rad2deg(rotation_angle(found.b_from_a.R.double() @ true.R.double().mT))
    assert float(turn.max()) < 1e-3
    length = true.t.norm(dim=-1)
    assert float(((found.b_from_a.t - true.t).norm(dim=-1) / length).max()) < 1e-3
    assert float(found.share.min()) > 0.99


# The truth.

@pytest.mark.parametrize("source", ["clip", "own", "both"])
@pytest.mark.parametrize("mode", SOLVING)
def test_true_depth_and_flow_give_the_true_motion(mode: MotionMode, source: str) -> None:
    depth, view, true = world_batch()
    flow = filled(depth, view)
    clip = world_clip(replace(view, flow_ab=flow)) if source != "own" else own_clip()
    wrong = torch.full((3, 2, HEIGHT, WIDTH), 7.0)
    prediction = said(depth, motion=off(true), flow={"clip": None, "own": flow, "both": wrong}[source])
    check_true(solved_motions(clip, prediction, mode)[PAIR], true)


def test_with_wrong_depth_solved_keeps_what_two_view_geometry_knows() -> None:
    """Depth bent by 30 %: the six parameters pay with rotation and direction, ``solved`` with neither."""
    depth, view, true = world_batch()
    clip, prediction = world_clip(view), said(bent(depth), motion=off(true))
    six, kept = (solved_motions(clip, prediction, mode)[PAIR].b_from_a for mode in ("refined", "solved"))
    assert torch.equal(kept.R, true.R)
    torch.testing.assert_close(kept.t / kept.t.norm(dim=-1, keepdim=True), view.b_from_a.t, rtol=0, atol=1e-5)
    assert float(torch.rad2deg(rotation_angle(six.R @ true.R.mT)).mean()) > 0.1
    torch.testing.assert_close(kept.t.norm(dim=-1), six.t.norm(dim=-1), rtol=0.02, atol=0)
    assert float((kept.t.norm(dim=-1) / true.t.norm(dim=-1) - 1).abs().max()) < 0.15


@pytest.mark.parametrize("mode", SOLVING)
@pytest.mark.parametrize("factor", [1e-2, 30.0])
def test_the_unit_of_depth_is_that_of_the_motion(mode: MotionMode, factor: float) -> None:
    depth, view, true = world_batch()
    one, other = (solved_motions(world_clip(view), said(f * bent(depth), motion=off(true).scaled(f)), mode)[PAIR]
                  .b_from_a for f in (1.0, factor))
    torch.testing.assert_close(other.R, one.R, rtol=0, atol=2e-6)
    torch.testing.assert_close(other.t, factor * one.t, rtol=1e-4, atol=factor * 1e-5)


# What cannot be solved.

def broken_view(view: TwoView) -> TwoView:
    """Return three pairs of which the first can be solved, the second has no flow and the third no usable pixel."""
    flow, usable = view.flow_ab.clone(), view.usable.clone()
    flow[1], usable[2] = 0, False
    return replace(view, flow_ab=flow, usable=usable, weight=torch.tensor([1.0, 0.0, 0.0]),
                   b_from_a=SE3(view.b_from_a.R, view.b_from_a.t * torch.tensor([[1.0], [0.0], [0.0]])))


@pytest.mark.parametrize("mode", SOLVING)
def test_what_cannot_be_solved_keeps_the_networks_motion(mode: MotionMode) -> None:
    """A batch of good and degenerate pairs: each is as if it were alone."""
    depth, view, true = world_batch()
    clip, prediction = world_clip(broken_view(view)), said(depth, motion=off(true))
    found = solved_motions(clip, prediction, mode)[PAIR]
    assert found.share.tolist()[1:] == [0.0, 0.0]
    assert float(found.share[0]) > 0.99
    assert torch.equal(found.b_from_a.t[1:], off(true).t[1:])
    assert torch.equal(found.b_from_a.R[1:], off(true).R[1:])
    for i in range(3):
        alone = solved_motions(clip[i:i + 1], prediction[i:i + 1], mode)[PAIR]
        torch.testing.assert_close(alone.b_from_a.t[0], found.b_from_a.t[i], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone.b_from_a.R[0], found.b_from_a.R[i], rtol=0, atol=2e-6)


def test_without_a_network_a_rotation_alone_is_left() -> None:
    depth, view, true = world_batch()
    found = solved_motions(world_clip(broken_view(view)), said(depth), "solved")[PAIR]
    assert not found.b_from_a.t[1:].any()
    torch.testing.assert_close(found.b_from_a.R[2], true.R[2], rtol=0, atol=1e-6)
    assert solved_motions(world_clip(view), said(depth), "refined") == {}


def test_one_plane_has_a_direction_where_depth_is_known() -> None:
    """Two-view geometry gives a plane no direction (weight 0); with its depth all six parameters follow."""
    _, view, true = world_batch()
    y = torch.linspace(-1, 1, HEIGHT).view(1, 1, -1, 1).expand(3, 1, HEIGHT, WIDTH)
    depth = 10 / (1.5 + y)
    flow, in_front = rigid_flow(depth, camera(), true)
    lost = replace(view, flow_ab=flow, usable=in_front, weight=torch.zeros(3),
                   b_from_a=SE3(true.R, torch.zeros_like(true.t)))
    check_true(solved_motions(world_clip(lost), said(depth, motion=off(true)), "solved")[PAIR], true)


def test_pairs_without_depth_or_flow_and_the_mode_net_are_left_alone() -> None:
    depth, view, true = world_batch()
    both = replace(said(depth, motion=true), motion={PAIR: off(true), (1, 0): true})
    assert list(solved_motions(world_clip(view), both, "solved")) == [PAIR]
    assert solved_motions(own_clip(), both, "solved") == {}
    assert solved_motions(world_clip(view), both, "net") == {}
    moved = with_motions(both, solved_motions(world_clip(view), both, "solved"))
    assert moved.motion[1, 0] is true
    assert moved.motion[PAIR] is not both.motion[PAIR]


def test_nan_where_nothing_is_read_changes_nothing() -> None:
    depth, view, true = world_batch()
    results = []
    for junk in (0.0, float("nan")):
        flow = torch.where(view.usable, view.flow_ab, junk)
        results.append(solved_motions(world_clip(replace(view, flow_ab=flow)), said(depth, motion=off(true)), "solved"))
    assert torch.equal(results[0][PAIR].b_from_a.t, results[1][PAIR].b_from_a.t)


# Who learns from what.

@pytest.mark.parametrize("mode", SOLVING)
def test_gradients_reach_depth_and_flow_and_not_the_network(mode: MotionMode) -> None:
    depth, view, true = world_batch()
    log_depth = bent(depth).log().requires_grad_()
    flow = view.flow_ab.clone().requires_grad_()
    net = off(true).t.requires_grad_()
    clip = replace(own_clip(), start={PAIR: view} if mode == "solved" else {})
    prediction = said(log_depth.exp(), motion=SE3(true.R, net), flow=flow)
    found = solved_motions(clip, prediction, mode)[PAIR].b_from_a
    lengths = found.t.norm(dim=-1)
    by_depth, by_flow, by_net = torch.autograd.grad(lengths.sum(), (log_depth, flow, net), allow_unused=True)
    # Lengths are in the unit of depth: all of log depth up by e is length up by a factor of 1 + e.
    torch.testing.assert_close(by_depth.flatten(1).sum(1), lengths.detach(), rtol=5e-2, atol=0)
    if mode == "refined":
        assert by_flow.isfinite().all()
        assert (by_flow.flatten(1).abs().sum(1) > 0).all()
    else:
        # The two-view geometry brings its own flow.
        assert by_flow is None
    assert by_net is None or not by_net.any()


def test_distillation_teaches_the_network_alone_and_by_share() -> None:
    depth, view, true = world_batch()
    inv_depth = (1 / bent(depth)).requires_grad_()
    vector = torch.zeros(3, 6, requires_grad=True)
    net = SE3.exp(vector) @ off(true)
    prediction = replace(said(depth, motion=net), inv_depth={0: [inv_depth]})
    found = solved_motions(world_clip(broken_view(view)), prediction, "solved")
    term = distilled_term(prediction, found, focal_px=camera().fx)
    by_vector, by_depth = torch.autograd.grad(term, (vector, inv_depth), allow_unused=True)
    assert by_depth is None
    assert by_vector.isfinite().all()
    assert by_vector[0].any()
    assert not by_vector[1:].any()
    halved: dict[Pair, Solved] = {PAIR: Solved(b_from_a=found[PAIR].b_from_a, share=found[PAIR].share / 2)}
    torch.testing.assert_close(distilled_term(prediction, halved, focal_px=camera().fx), term / 2)


def test_distillation_is_nothing_at_the_solution_and_grows_with_the_distance() -> None:
    depth, view, true = world_batch()
    clip = world_clip(view)
    found = solved_motions(clip, said(depth, motion=true), "solved")

    def term(motion: SE3) -> float:
        return float(distilled_term(said(depth, motion=motion), found, focal_px=camera().fx))

    assert term(found[PAIR].b_from_a) < 1e-3
    # A pixel of rotation at the centre, then a tenth of the length: 1 and 0.1.
    share, turn = float(found[PAIR].share.mean()), rotation_exp(torch.tensor([[0.0, 1.0, 0.0]]) / camera().fx[:, None])
    still = found[PAIR].b_from_a
    assert term(SE3(turn @ still.R, still.t)) == pytest.approx(share, rel=1e-2)
    assert term(still.scaled(1.1)) == pytest.approx(0.1 * share, rel=1e-2)


# Every method.

WORLD = load_world("drive", seed=3, frames=3, height=64, width=192, movers=0)


@cache
def drive_clip() -> Clip:
    """Return three frames of a street, twice, with what two-view geometry says of them."""
    images = torch.stack([torch.from_numpy(WORLD.image(i)).permute(2, 0, 1).float() / 255 for i in range(3)])[None]
    clip = Clip(images=images.repeat(2, 1, 1, 1, 1), camera=Camera.cat([WORLD.camera] * 2), target=1,
                time_s=torch.zeros(2, 3))
    return with_classical_views(clip, [(1, 0), (1, 2)])


def tiny_of(name: str) -> str:
    """Return the smallest preset of a method."""
    return f"{name}:tiny" if "tiny" in load_method(name).presets else name


SPECS = [tiny_of(name) for name in available_methods() if load_method(name).method_type.needs_camera]
every_method = pytest.mark.parametrize("spec", SPECS)
every_mode = pytest.mark.parametrize("mode", ALL)


@cache
def built(spec: str) -> Method:
    torch.manual_seed(0)
    return build_method(load_preset(spec)[1])


def stepped(method: Method, clip: Clip, mode: MotionMode) -> tuple[dict[str, float], list[Tensor], Prediction]:
    """Return the terms, the gradients and the prediction of a training step in a mode."""
    method.train().use_motion(mode).zero_grad()
    torch.manual_seed(1)
    terms, prediction = method(clip, 0.5)
    terms.total.backward()
    gradients = [torch.zeros(1) if p.grad is None else p.grad.clone() for p in method.parameters()]
    return {name: value.item() for name, (_, value) in terms.items()}, gradients, prediction


@every_method
def test_the_mode_net_is_what_it_was(spec: str) -> None:
    method = built(spec)
    clip = clip_for(method, start=True)
    state = {name: value.clone() for name, value in method.state_dict().items()}
    terms, gradients, _ = stepped(method, clip, "net")
    method.load_state_dict(state)
    method.zero_grad()
    torch.manual_seed(1)
    prediction = method.weighed(clip, method.predict(clip), 0.5)
    by_hand = with_start(method.losses(clip, prediction, 0.5), clip, prediction, 0.5, method.start)
    by_hand.total.backward()
    assert "loss/motion_distilled" not in terms
    assert terms == {name: value.item() for name, (_, value) in by_hand.items()}
    assert all(torch.equal(a, torch.zeros(1) if p.grad is None else p.grad)
               for a, p in zip(gradients, method.parameters(), strict=True))
    method.eval()
    with torch.no_grad():
        assert same(method.predicted(clip), method.predict(clip))


@every_method
@pytest.mark.parametrize("mode", SOLVING)
def test_a_step_is_repeatable(spec: str, mode: MotionMode) -> None:
    method = built(spec)
    clip = clip_for(method, size=(32, 64), start=True)
    state = {name: value.clone() for name, value in method.state_dict().items()}
    one = stepped(method, clip, mode)
    method.load_state_dict(state)
    two = stepped(method, clip, mode)
    assert one[0] == two[0]
    assert same(one[1], two[1])
    assert same(one[2], two[2])
    assert "loss/motion_distilled" in one[0]
    assert all(torch.isfinite(g).all() for g in one[1])


@every_method
@every_mode
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (17, 20)], ids=str)
def test_any_image_size(spec: str, mode: MotionMode, size: tuple[int, int]) -> None:
    method = built(spec)
    clip = clip_for(method, size=size, start=True)
    terms, gradients, _ = stepped(method, clip, mode)
    assert all(torch.isfinite(torch.tensor(value)) for value in terms.values()), terms
    assert all(torch.isfinite(g).all() for g in gradients)
    method.eval()
    with torch.no_grad():
        prediction = method.predicted(replace(clip, start={}))
    assert all(torch.isfinite(leaf).all() for leaf in leaves(prediction.motion))


@every_mode
def test_in_training_the_motion_network_learns_by_distillation_alone(mode: MotionMode) -> None:
    """Of its term only the motion network learns, and photometric errors then teach depth alone."""
    method = fresh("sfmlearner:tiny")
    terms, prediction = method.use_motion(mode)(drive_clip(), 0.5)
    named = dict(method.named_parameters())

    def learns(part: str, term: str) -> bool:
        mine = [p for name, p in named.items() if name.startswith(part)]
        found = torch.autograd.grad(terms[term][1], mine, retain_graph=True, allow_unused=True)
        return any(g is not None and bool(g.any()) for g in found)

    assert learns("depth_net.", "loss/photometric")
    assert learns("motion_net.", "loss/start_motion")
    assert learns("motion_net.", "loss/photometric") == (mode == "net")
    if mode != "net":
        assert terms["loss/motion_distilled"][1] > 0
        assert learns("motion_net.", "loss/motion_distilled")
        assert not learns("depth_net.", "loss/motion_distilled")
        assert all(motion.t.norm() > 0 for motion in prediction.motion.values())


def test_methods_of_flow_alone_have_no_motion_to_solve() -> None:
    method = load_method("selfflow").method_type(load_preset("selfflow:tiny")[1].config)
    for mode in SOLVING:
        with pytest.raises(ConfigError, match=rf"^selfflow: .*flow alone.*leave out motion={mode}$"):
            method.use_motion(mode)
    assert method.use_motion("net") is method


def test_a_run_says_how_and_old_runs_say_net() -> None:
    entry, preset = load_preset("sfmlearner:tiny")
    assert preset.motion == "net"
    run = with_settings(preset, ["motion=refined"])
    assert run_from_json(run_to_json(run), entry.config_type).motion == "refined"
    assert build_method(run).motion_mode == "refined"
    old = run_to_json(preset).replace(' "motion": "net",\n', "")
    assert '"motion"' not in old
    assert run_from_json(old, entry.config_type) == preset
    with pytest.raises(ConfigError, match="motion=fast"):
        with_settings(preset, ["motion=fast"])


def test_at_inference_classical_flow_of_the_pictures_stands_in() -> None:
    assert isinstance(WORLD, World)
    seen, truth = drive_clip(), WORLD.pair_truth(1, 2)
    assert set(seen.start) == {(1, 0), (0, 1), (1, 2), (2, 1)}
    assert torch.equal(seen.start[1, 2].flow_ab[0], seen.start[1, 2].flow_ab[1])
    depth = truth.depth_a.clamp_max(100.0).repeat(2, 1, 1, 1)
    prediction = Prediction(inv_depth={1: [1 / depth]}, motion={(1, 2): SE3.identity(2)})
    found = solved_motions(seen, prediction, "solved")[1, 2].b_from_a
    true = truth.b_from_a.R.reshape(3, 3).double()
    turn = torch.rad2deg(rotation_angle(found.R[0].double() @ true.mT))
    assert turn < 0.15 < torch.rad2deg(rotation_angle(true))
    assert float(found.t[0].norm() / truth.b_from_a.t.norm()) == pytest.approx(1, abs=0.1)
