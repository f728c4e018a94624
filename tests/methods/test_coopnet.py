"""CoopNet: who learns from which pixels, when, how strongly, and that a resumed run knows it to the bit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from egoflow.config import LoopConfig, OptimConfig, Run
from egoflow.losses.mixture import Mixture
from egoflow.losses.rebalancing import Progress
from egoflow.methods.coopnet import Config, CoopNet, kitti, tiny
from egoflow.training.trainer import Trainer
from egoflow.types import Clip, LossTerms, Prediction
from methods.test_contracts import clip_for
from training.engine import SlidingClips

HEIGHT, WIDTH = 32, 64
WARM, JOINT = 0.1, 0.9
"""Progress before and after the switch of the tiny preset."""


def coopnet(**changes: object) -> CoopNet:
    torch.manual_seed(0)
    return CoopNet(replace(tiny().config, **changes))


def leaf_prediction(method: CoopNet, clip: Clip) -> Prediction:
    """Return what is predicted, every map a leaf with a gradient of its own; flow leads out and back."""
    with torch.no_grad():
        said = method.predict(clip)

    def leaves(levels: list[Tensor]) -> list[Tensor]:
        return [(level * (1 + 0.1 * torch.rand_like(level))).requires_grad_() for level in levels]

    return replace(said, inv_depth={k: leaves(v) for k, v in said.inv_depth.items()},
                   flow={k: leaves(v) for k, v in said.flow.items()})


def terms_of(method: CoopNet, progress: float, *, batch: int = 2) -> tuple[LossTerms, Prediction]:
    torch.manual_seed(1)
    clip = clip_for(method, size=(HEIGHT, WIDTH), batch=batch)
    said = leaf_prediction(method, clip)
    return method.losses(clip, said, progress), said


def covered(moves: Tensor, size: torch.Size) -> Tensor:
    """Return which cells of a coarser map lie in the region altogether."""
    share = torch.nn.functional.adaptive_avg_pool2d(moves.float()[None, None], (size[-2], size[-1]))
    return share[0, 0] == 1


@pytest.mark.parametrize("cooperation", ["hybrid", "none"])
def test_movers_teach_flow_and_never_depth(cooperation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """coopnet.md check 5, through the whole loss; without the mask the same pixels do teach depth."""
    moves = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    moves[8:24, 16:48] = True
    monkeypatch.setattr(Mixture, "static_weight", lambda self, delta: torch.where(moves, 0.0, torch.ones_like(delta)))
    method = coopnet(depth_smooth_weight=0.0, flow_smooth_weight=0.0, cooperation=cooperation)
    # Not in training: nobody is the teacher, both sides of the agreement have a gradient.
    terms, said = terms_of(method.eval(), JOINT)
    assert terms["loss/cross_task"][0] > 0
    terms.total.backward()
    for level in (level for levels in said.inv_depth.values() for level in levels):
        assert level.grad is not None
        taught = level.grad[:, 0] != 0
        inside = covered(moves, level.shape)
        assert inside.any()
        assert taught[:, ~inside].any()
        assert taught[:, inside].any() == (cooperation == "none")
    for levels in said.flow.values():
        finest = levels[1].grad
        assert finest is not None
        assert (finest.abs().sum(1)[:, covered(moves, finest.shape)] > 0).float().mean() > 0.9


def test_nobody_looks_at_the_other_in_the_warm_up() -> None:
    method = coopnet()
    for progress, weight in ((0.0, 0.0), (0.3 / 0.9 - 1e-6, 0.0), (0.35 / 0.9, 0.5), (0.4 / 0.9, 1.0), (1.0, 1.0)):
        terms, _ = terms_of(method, progress)
        assert terms["loss/cross_task"][0] == pytest.approx(weight * method.config.cross_weight, abs=1e-9)
        if progress < 0.3:
            assert method.mixture.tolist() == Mixture.unknown().to_tensor().tolist()
            assert terms["loss/movers"][1] == 0
            assert method.loss_start.tolist() == [0, 0]
    assert method.mixture[-1] > 100
    assert terms["loss/movers"][1] > 0
    assert (terms["loss/movers"][0], terms["loss/hybrid"][0]) == (0, 0)


def test_in_the_refinement_flow_is_fixed_and_still_teaches() -> None:
    method = coopnet()
    joint, refinement = method.phases()
    assert (joint.share, refinement.share) == pytest.approx((0.9, 0.1))
    assert refinement.trains == ("depth_net.", "motion_net.")
    assert [phase.name for phase in coopnet(refinement=0.0).phases()] == ["joint"]
    for name, parameter in method.named_parameters():
        parameter.requires_grad_(name.startswith(refinement.trains))
    terms, _ = method(clip_for(method, size=(HEIGHT, WIDTH)), 0.0)
    assert terms["loss/cross_task"][0] == method.config.cross_weight
    head = method.depth_net.get_parameter("heads.0.weight")
    gradient, = torch.autograd.grad(terms["loss/cross_task"][1], [head], retain_graph=True)
    assert gradient.any()
    terms.total.backward()
    assert all(p.grad is None for p in method.flow_net.parameters())


def test_the_branch_that_lags_weighs_more() -> None:
    """coopnet.md check 6: the losses fell to .4 and .6 of what they were, so the second weighs half as much again."""
    found = {}
    for rebalance in (0.0, 1.0):
        method = coopnet(rebalance=rebalance)
        method.loss_start.copy_(torch.tensor([2.0, 0.5]))
        method.loss_average.copy_(torch.tensor([0.8, 0.3]))
        found[rebalance] = terms_of(method, JOINT)[0]
    for branch, share in (("depth", 0.8), ("flow", 1.2)):
        for term in ("photometric", "smoothness"):
            even, uneven = (found[rebalance][f"loss/{term}_{branch}"] for rebalance in (0.0, 1.0))
            assert even[0] == uneven[0]
            torch.testing.assert_close(uneven[1], share * even[1])
    # Who agrees with whom is nobody's own loss.
    torch.testing.assert_close(found[0.0]["loss/cross_task"][1], found[1.0]["loss/cross_task"][1])


def test_progress_is_measured_from_the_switch() -> None:
    method = coopnet()
    first = terms_of(method, WARM)[0]
    bare = torch.stack([first[f"loss/photometric_{branch}"][1] for branch in ("depth", "flow")]).detach()
    torch.testing.assert_close(method.loss_average, bare)
    terms_of(method, JOINT)
    start = method.loss_start.clone()
    torch.testing.assert_close(start, method.loss_average)
    terms_of(method, JOINT, batch=1)
    assert torch.equal(method.loss_start, start)
    assert not torch.equal(method.loss_average, start)


def test_a_branch_at_half_its_rate_gains_weight() -> None:
    """Ten real steps on one pair of clips: who learns at half the rate is behind, and weighs more.

    At rates so low that neither branch is at its end after ten steps: at 1e-3 flow is.
    """
    def share_of_flow(rate: float) -> float:
        method = coopnet(warm_up=0.0, keep=0.5)
        clip = clip_for(method, size=(HEIGHT, WIDTH), batch=1)
        groups = [{"params": [*method.depth_net.parameters(), *method.motion_net.parameters()], "lr": 2e-4},
                  {"params": list(method.flow_net.parameters()), "lr": rate}]
        optimizer = torch.optim.Adam(groups)
        for _ in range(10):
            optimizer.zero_grad()
            method(clip, JOINT)[0].total.backward()
            optimizer.step()
        return float(Progress(average=method.loss_average, start=method.loss_start).weights()[1])

    slow, fast = share_of_flow(1e-4), share_of_flow(2e-4)
    assert slow > fast + 0.01


def test_held_out_clips_move_nothing() -> None:
    method = coopnet().train()
    terms_of(method, JOINT)
    method.eval()
    before = {k: v.clone() for k, v in method.state_dict().items()}
    clip = clip_for(method, size=(HEIGHT, WIDTH))
    random = torch.get_rng_state()
    with torch.no_grad():
        terms = method.losses(clip, method.predict(clip), 1.0)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items())
    assert terms["loss/cross_task"][0] > 0


def test_a_flow_that_is_led_back_nowhere_learns_all_the_same() -> None:
    """Else everything is hidden, and the loss that nothing can lower is 0."""
    method = coopnet()
    clip = clip_for(method, size=(HEIGHT, WIDTH))
    said = leaf_prediction(method, clip)
    astray = {pair: [torch.full_like(level, 4.0 / 2**min(i, 1)).requires_grad_() for i, level in enumerate(levels)]
              for pair, levels in said.flow.items()}
    terms = method.losses(clip, replace(said, flow=astray), JOINT)
    assert terms["loss/photometric_flow"][1] > 0.01
    terms.total.backward()
    assert all(levels[1].grad is not None and levels[1].grad.any() for levels in astray.values())


def test_the_minimum_begins_with_the_cooperation_and_is_below_both() -> None:
    none, least = (terms_of(coopnet(cooperation=kind), JOINT)[0] for kind in ("none", "minimum"))
    assert "loss/photometric_depth" not in least
    assert least["loss/photometric"][1] < min(none[f"loss/photometric_{branch}"][1] for branch in ("depth", "flow"))
    assert "loss/photometric_flow" in terms_of(coopnet(cooperation="minimum"), WARM)[0]
    assert {run().config.cooperation for run in (kitti, tiny)} == {Config().cooperation} == {"hybrid"}


def test_only_training_of_tiny_holds_the_scale() -> None:
    method = coopnet()
    clip = clip_for(method, size=(HEIGHT, WIDTH))
    with torch.no_grad():
        said = method.predict(clip)
    # Half of the depths at e^-1, half at e^3: the mean of the logarithm is 1.
    far = {frame: [torch.full_like(level, 1.0) for level in levels] for frame, levels in said.inv_depth.items()}
    for levels in far.values():
        levels[0][:1], levels[0][1:] = torch.e, torch.e**-3
    weight, value = method.losses(clip, replace(said, inv_depth=far), WARM)["loss/scale"]
    assert (weight, value.item()) == pytest.approx((method.config.scale_weight, 1.0), rel=1e-5)
    assert "loss/scale" not in method.eval().losses(clip, said, WARM)
    assert kitti().config.scale_weight == 0


class PowerCut(SlidingClips):
    """Clips that end after so many."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def __getitem__(self, key: tuple[int, int]) -> Clip:
        self.most -= 1
        if self.most < 0:
            raise InterruptedError
        return super().__getitem__(key)


def test_a_resumed_run_knows_mixture_and_progress_to_the_bit(tmp_path: Path) -> None:
    """Interrupted after the switch and before the refinement; the sixth step is done again."""
    run = Run(method="coopnet", preset="tiny", config=replace(tiny().config, warm_up=0.2),
              optim=OptimConfig(lr=1e-3, batch_size=2, schedule="one_cycle"),
              loop=LoopConfig(steps=10, seed=1, log_every=10, save_every=5, device="cpu", watchdog=False))
    whole = Trainer(run, SlidingClips(), out=tmp_path / "whole")
    whole.fit()
    with pytest.raises(InterruptedError):
        Trainer(run, PowerCut(12), out=tmp_path / "cut").fit()
    resumed = Trainer(run, SlidingClips(), out=tmp_path / "cut", resume=True)
    assert resumed.state.step == 5
    assert resumed.method.mixture[-1] > 100  # type: ignore[index,operator]
    assert resumed.method.loss_start.all()  # type: ignore[operator,union-attr]
    resumed.fit()
    mine, theirs = whole.method.state_dict(), resumed.method.state_dict()
    assert {"mixture", "loss_average", "loss_start"} <= set(mine)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
