"""DF-Net: its terms at the truth, who is asked in which phase, and what the cross-task term teaches."""

from dataclasses import replace

import pytest
import torch

from egoflow.geometry.se3 import SE3
from egoflow.methods.dfnet import DFNet, cityscapes, kitti, tiny
from egoflow.types import Clip, LossTerms, Prediction
from methods.mover_truth import clip_and_truth, drive
from methods.test_contracts import clip_for
from methods.test_joint import levels_of_map


def dfnet(**changes: object) -> DFNet:
    torch.manual_seed(0)
    return DFNet(replace(tiny().config, **changes)).train()


def truth() -> tuple[Clip, Prediction]:
    """Return a drive without movers and what a method would say that knows the truth."""
    clip, said = clip_and_truth(drive(seed=5, movers=0), 2)
    return clip, replace(said, motion=said.motion | {(b, a): way.inverse() for (a, b), way in said.motion.items()},
                         inv_depth={i: levels_of_map(v[0].clamp_min(0.01)) for i, v in said.inv_depth.items()},
                         flow={pair: levels_of_map(v[0], flow=True) for pair, v in said.flow.items()})


def moved(said: Prediction, *, by: list[float]) -> Prediction:
    """Return the prediction with the motions out of the target changed by a twist, and the ways back with them."""
    out = {pair: SE3.exp(torch.tensor([by])) @ way for pair, way in said.motion.items() if pair[0] == 1}
    return replace(said, motion=out | {(b, a): way.inverse() for (a, b), way in out.items()})


def values(method: DFNet, clip: Clip, said: Prediction) -> dict[str, float]:
    return {name.removeprefix("loss/"): float(value) for name, (_, value) in method.losses(clip, said, 1.0).items()}


@pytest.mark.parametrize("error", ["census", "ssim"])
def test_every_term_is_raised_by_what_it_is_there_for(error: str) -> None:
    method, (clip, said) = dfnet(error=error), truth()
    true = values(method, clip, said)
    assert true["cross_task"] < 0.5
    wrong_motion = values(method, clip, moved(said, by=[0, 0, 0, 0, 0.01, 0]))
    assert wrong_motion["photometric_depth"] > 1.1 * true["photometric_depth"]
    assert wrong_motion["cross_task"] > 1.5 * true["cross_task"]
    assert wrong_motion["photometric_flow"] == pytest.approx(true["photometric_flow"])
    # Out and back are wrong alike, so that they still lead home; of the second source not quite.
    shift = {(1, 0): 0.7, (0, 1): -0.7, (1, 2): 0.7, (2, 1): -0.5}
    shifted = replace(said, flow={pair: [f + shift[pair] for f in flows] for pair, flows in said.flow.items()})
    wrong_flow = values(method, clip, shifted)
    assert wrong_flow["photometric_flow"] > 1.1 * true["photometric_flow"]
    assert wrong_flow["return"] > 1.5 * true["return"]
    assert wrong_flow["cross_task"] > 1.5 * true["cross_task"]
    assert wrong_flow["photometric_depth"] == pytest.approx(true["photometric_depth"])
    unlike = replace(said, inv_depth={i: [v * (1.3 if i == 1 else 1.0) for v in levels]
                                      for i, levels in said.inv_depth.items()})
    assert values(method, clip, unlike)["depth_consistency"] > 3 * true["depth_consistency"]


def test_only_the_transformed_comparison_of_depths_is_brought_to_zero_by_the_truth() -> None:
    clip, said = truth()
    transformed, direct = (values(dfnet(depth_comparison=mode), clip, said)["depth_consistency"]
                           for mode in ("transformed", "direct"))
    assert transformed < 0.03
    # In metres, of a car that drives about .7 m a frame.
    assert direct > 0.5


def test_cross_task_consistency_climbs_and_teaches_both_sides() -> None:
    method = dfnet(ramp=0.5)
    clip = clip_for(method, size=(32, 64), batch=1)
    with torch.no_grad():
        said = method.predict(clip)
    depth = {i: [v.clone().requires_grad_() for v in levels] for i, levels in said.inv_depth.items()}
    flow = {pair: [v.clone().requires_grad_() for v in levels] for pair, levels in said.flow.items()}
    leaf = moved(replace(said, inv_depth=depth, flow=flow), by=[0.02, 0, 0, 0, 0, 0])
    weights = [method.losses(clip, leaf, progress)["loss/cross_task"][0] for progress in (0.0, 0.25, 0.5, 1.0)]
    assert weights == pytest.approx([0, 0.01, 0.02, 0.02])
    method.losses(clip, leaf, 1.0)["loss/cross_task"][1].backward()
    assert all(levels[0].grad is not None and levels[0].grad.any() for levels in depth.values())
    assert all(levels[1].grad is not None and levels[1].grad.any() for levels in flow.values())


def test_phases_train_flow_then_depth_then_all_and_ask_no_frozen_network() -> None:
    method = dfnet(flow_share=0.3, depth_share=0.3)
    phases = method.phases()
    assert [phase.name for phase in phases] == ["flow", "depth", "joint"]
    assert sum(phase.share for phase in phases) == pytest.approx(1)
    clip = clip_for(method, size=(16, 32), batch=1)
    expected = [(False, True), (True, False), (True, True)]
    for phase, (with_depth, with_flow) in zip(phases, expected, strict=True):
        for name, parameter in method.named_parameters():
            parameter.requires_grad_(name.startswith(phase.trains))
        said = method.predict(clip)
        terms: LossTerms = method.losses(clip, said, 1.0)
        assert (bool(said.inv_depth), bool(said.flow)) == (with_depth, with_flow)
        assert ("loss/photometric_depth" in terms, "loss/photometric_flow" in terms) == (with_depth, with_flow)
        assert ("loss/cross_task" in terms) == (with_depth and with_flow)
    assert [phase.name for phase in dfnet().phases()] == ["joint"]


@torch.no_grad()
def test_the_paper_s_clip_of_five_gives_each_pair_its_own_motion() -> None:
    """The contract tests make do with three frames."""
    with torch.device("meta"):
        method = DFNet(kitti().config)
    # Source i goes i + 1 there and 10 (i + 1) back.
    numbers = torch.arange(1.0, 5.0)[None, :, None] * torch.tensor([1.0] + [0.0] * 5 + [10.0] + [0.0] * 5)
    method.motion_net.forward = lambda target, sources: (numbers.expand(len(target), *numbers.shape[1:]), [])
    said = method.motion(torch.rand(2, 5, 3, 8, 12), method.pairs)
    steps = {pair: motion.t[:, 0].tolist() for pair, motion in said.items()}
    assert steps == {(2, 0): [1, 1], (2, 1): [2, 2], (2, 3): [3, 3], (2, 4): [4, 4],
                     (0, 2): [10, 10], (1, 2): [20, 20], (3, 2): [30, 30], (4, 2): [40, 40]}


def test_paper_presets_are_those_of_the_released_code() -> None:
    run = kitti()
    assert (run.data.height, run.data.width, run.config.frames, run.optim.batch_size) == (320, 1152, 5, 4)
    assert (run.config.error, run.config.depth_comparison) == ("census", "transformed")
    assert cityscapes().data.gap == 2
