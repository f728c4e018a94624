"""The mixture of two photometric errors: its fit on samples, what moves on a rendered drive, its state."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from egoflow.geometry.flow import backward_warp, rigid_flow
from egoflow.losses.masks import eroded, opened
from egoflow.losses.mixture import Mixture, disagreement, evidence, fitted, moving_probability, seen_by_both
from egoflow.losses.photometric import gradient_size, l1_map, ssim_map
from egoflow.losses.reduce import fill_unused
from egoflow.worlds.base import World, load_world
from egoflow.worlds.truth import PairTruth

COUNT = 32_768


def samples(*, movers: float) -> tuple[Tensor, Tensor]:
    """Delta [1, 1, 128, 256] of (1 - movers) Laplace(0, .02) + movers U(0, .5), and which pixels move."""
    moving = (torch.arange(COUNT) < movers * COUNT)[torch.randperm(COUNT)]
    delta = torch.where(moving, 0.5 * torch.rand(COUNT), torch.distributions.Laplace(0.0, 0.02).sample((COUNT,)))
    return delta.view(1, 1, 128, 256), moving.view(1, 1, 128, 256)


def everywhere(value: Tensor) -> Tensor:
    return torch.ones_like(value, dtype=torch.bool)


@pytest.mark.parametrize("seed", range(4))
def test_the_fit_finds_the_mixture(seed: int) -> None:
    """coopnet.md check 2; the tolerances are three deviations of such a sample."""
    torch.manual_seed(seed)
    delta, moving = samples(movers=0.1)
    found = fitted(delta, everywhere(delta))
    assert abs(found.centre.item()) < 1e-3
    assert found.scale.item() == pytest.approx(0.02, abs=3.5e-4)
    assert found.movers.item() == pytest.approx(0.1, abs=5e-3)
    assert found.pixels.item() == COUNT
    called = found.static_weight(delta) < 0.5
    assert called[moving].float().mean().item() == pytest.approx(0.81, abs=0.02)
    assert called[~moving].float().mean().item() == pytest.approx(0.005, abs=0.002)
    # The hard mask: half of e^-3 of a Laplace distribution lies beyond three scales.
    assert (~found.static_mask(delta))[~moving].float().mean().item() == pytest.approx(0.025, abs=0.004)


@pytest.mark.parametrize("seed", range(4))
def test_without_movers_none_are_found(seed: int) -> None:
    """coopnet.md check 3."""
    torch.manual_seed(seed)
    delta, _ = samples(movers=0.0)
    found = fitted(delta, everywhere(delta))
    assert found.movers.item() < 1e-3
    assert (found.static_weight(delta) > 0.97).float().mean() > 0.995


def test_the_fit_follows_another_centre_and_unit() -> None:
    """Different operators or an untrained branch shift Delta; q must not change."""
    delta, _ = samples(movers=0.1)
    one, other = fitted(delta, everywhere(delta)), fitted(0.7 + 3 * delta, everywhere(delta))
    assert other.centre.item() == pytest.approx(0.7 + 3 * one.centre.item(), abs=1e-4)
    assert other.scale.item() == pytest.approx(3 * one.scale.item(), rel=1e-3)
    assert (other.static_weight(0.7 + 3 * delta) - one.static_weight(delta)).abs().max() < 0.01


def test_q_is_one_sided_and_falls() -> None:
    delta, _ = samples(movers=0.1)
    found = fitted(delta, everywhere(delta))
    at = torch.tensor([-5.0, -0.1, 0.0, 0.03, 0.06, 0.1, 0.4, 5.0, 1e4]).view(1, 1, 1, 9) + found.centre
    q = found.static_weight(at).flatten()
    assert q[:3].tolist() == [1, 1, 1]
    assert (q[2:].diff() <= 0).all()
    # By hand: (1 - pi) / (2 b) e^(-.06 / b) against pi / (max - c).
    c, b, share, largest, _ = found.to_tensor().double().tolist()
    static = (1 - share) / (2 * b) * torch.exp(torch.tensor(-0.06 / b, dtype=torch.float64)).item()
    assert q[4].item() == pytest.approx(static / (static + share / (largest - c)), abs=1e-4)
    assert q[8] == 0


def test_places_without_texture_are_no_evidence() -> None:
    """coopnet.md pitfall 3: their Delta of 0 would squeeze the scale and make movers of the rest."""
    delta, _ = samples(movers=0.1)
    flat = torch.zeros_like(delta, dtype=torch.bool)
    flat[..., :160] = True
    error_flow = torch.where(flat, 1e-5, 0.05)
    error_rigid = torch.where(flat, 2e-5, error_flow + delta)
    use = everywhere(delta)
    use[..., :8, :] = False
    says = evidence(error_rigid, error_flow, use)
    assert torch.equal(says, use & ~flat)
    seen = fitted(error_rigid - error_flow, says)
    assert seen.scale.item() == pytest.approx(0.02, rel=0.04)
    assert seen.movers.item() == pytest.approx(0.1, abs=0.01)
    blind = fitted(error_rigid - error_flow, use)
    assert blind.scale.item() < 0.01
    assert not evidence(error_rigid * torch.nan, error_flow, use).any()


def test_nan_under_false_changes_nothing_and_little_says_nothing() -> None:
    delta, _ = samples(movers=0.1)
    use = torch.rand_like(delta) < 0.7
    broken = torch.where(use, delta, torch.nan)
    one, other = fitted(torch.where(use, delta, 0.0), use), fitted(broken, use)
    assert torch.equal(one.to_tensor(), other.to_tensor())
    assert one.to_tensor().isfinite().all()
    for few in (torch.zeros_like(use), everywhere(use) & (torch.arange(256) < 0)):
        nothing = fitted(broken, few)
        assert nothing.pixels == 0
        assert (nothing.static_weight(delta) == 1).all()
    same = fitted(torch.full((1, 1, 20, 20), 0.25), torch.ones(1, 1, 20, 20, dtype=torch.bool))
    assert (same.static_weight(torch.full((1, 1, 1, 1), 0.25)) == 1).all()
    assert same.static_weight(torch.tensor([0.0, 0.9])).isfinite().all()


def test_a_large_batch_is_looked_at_in_part() -> None:
    delta = torch.cat([samples(movers=0.1)[0] for _ in range(5)])
    found = fitted(delta, everywhere(delta))
    assert 0.5 * COUNT < found.pixels.item() <= COUNT
    assert found.scale.item() == pytest.approx(0.02, rel=0.02)


def test_the_state_is_smoothed_and_comes_back_to_the_bit() -> None:
    first, second = (fitted(*(lambda d: (d, everywhere(d)))(unit * samples(movers=0.1)[0])) for unit in (1.0, 2.0))
    unknown = Mixture.unknown()
    assert torch.equal(unknown.smoothed(first).to_tensor(), first.to_tensor())
    assert torch.equal(first.smoothed(unknown).to_tensor(), first.to_tensor())
    mixed = first.smoothed(second, keep=0.9)
    assert mixed.scale.item() == pytest.approx(0.9 * first.scale.item() + 0.1 * second.scale.item(), rel=1e-6)
    again = Mixture.from_tensor(mixed.to_tensor().clone())
    assert torch.equal(again.to_tensor(), mixed.to_tensor())
    delta = samples(movers=0.1)[0].requires_grad_()
    assert not fitted(delta, everywhere(delta)).scale.requires_grad
    assert not mixed.static_weight(delta).requires_grad


@dataclass(frozen=True)
class Seen:
    """A rendered pair under its true depth, motion and flow."""

    rigid: Tensor
    flow: Tensor
    delta: Tensor
    use: Tensor
    evident: Tensor
    static: Tensor
    textured: Tensor


def seen(pair: PairTruth, images: tuple[Tensor, Tensor], *, depth_factor: float = 1.0,
         flow_noise_px: float = 0.0) -> Seen:
    a, b = images
    rigid, front = rigid_flow(depth_factor * pair.depth_a, pair.camera, pair.b_from_a)
    use = seen_by_both(rigid, pair.flow_ab, pair.flow_ba) & front
    flow = pair.flow_ab + flow_noise_px * torch.randn_like(pair.flow_ab)

    def error(chosen: Tensor) -> Tensor:
        rebuilt = fill_unused(backward_warp(b, chosen)[0], a, use)
        return 0.85 * ssim_map(rebuilt, a) + 0.15 * l1_map(rebuilt, a)

    error_rigid, error_flow = error(rigid), error(flow)
    return Seen(rigid=rigid, flow=flow, delta=error_rigid - error_flow, use=use,
                evident=evidence(error_rigid, error_flow, use), static=pair.static_a, textured=gradient_size(a) > 0.02)


@pytest.fixture(scope="module", params=[3, 5])
def case(request: pytest.FixtureRequest) -> tuple[PairTruth, tuple[Tensor, Tensor]]:
    world = load_world("drive", seed=request.param, frames=12, height=96, width=320, movers=4)
    assert isinstance(world, World)
    images = world.colours([5, 6])
    return world.pair_truth(5, 6), (images[:1], images[1:])


def share(mask: Tensor, of: Tensor) -> float:
    return float(mask[of].float().mean())


def iou(found: Tensor, truth: Tensor) -> float:
    return float((found & truth).sum() / (found | truth).sum())


def test_delta_finds_what_moves_on_the_drive(case: tuple[PairTruth, tuple[Tensor, Tensor]]) -> None:
    """coopnet.md check 1; measured on six drives: recall .96 to .98, false alarms .003 to .008."""
    view = seen(*case)
    found = fitted(view.delta, view.evident)
    moving = ~found.static_mask(view.delta)
    movers = view.use & ~view.static
    assert movers.sum() > 1500
    assert share(moving, movers & view.textured) > 0.9
    assert share(moving, view.use & view.static) < 0.03


def probability_of(view: Seen) -> Tensor:
    difference = disagreement(view.flow, view.rigid)
    return moving_probability(difference, view.delta, view.use, differences=fitted(difference, view.use),
                              deltas=fitted(view.delta, view.evident))


def test_both_cues_find_the_movers(case: tuple[PairTruth, tuple[Tensor, Tensor]]) -> None:
    view = seen(*case)
    truth = view.use & ~view.static
    probability = probability_of(view)
    assert iou(probability >= 0.5, truth) > 0.85
    assert probability.min() >= 0
    assert probability.max() <= 1
    assert probability[truth].mean() > 0.85
    assert probability[view.use & view.static].mean() < 0.01
    assert (probability[~view.use] == 0).all()


def test_the_flows_distribution_follows_errors_of_depth(case: tuple[PairTruth, tuple[Tensor, Tensor]]) -> None:
    """Depth 10 % short, noise on the flow: a fixed limit of 1 px and 5 % takes .21 and .29 of the scene for moving."""
    view = seen(*case, depth_factor=0.9, flow_noise_px=0.2)
    still = view.use & view.static
    moving = probability_of(view) >= 0.5
    apart = view.use & ((view.flow - view.rigid).norm(dim=1, keepdim=True)
                        > (0.05 * view.rigid.norm(dim=1, keepdim=True)).clamp_min(1))
    assert share(apart, still) > 0.2
    assert share(moving, still) < 0.05
    assert iou(moving, view.use & ~view.static) > 0.6


def test_moving_probability_by_hand() -> None:
    deltas = Mixture.from_tensor(torch.tensor([0.01, 0.02, 0.1, 0.5, 1000.0]))
    differences = Mixture.from_tensor(torch.tensor([0.1, 0.05, 0.2, 0.9, 1000.0]))
    # |f - r| / (|f| + |r| + 1): alike, as the scene, beyond it, and not a number.
    rigid = torch.tensor([[40.0, 0], [40.0, 0], [9.0, 0], [40.0, 0]]).T.reshape(1, 2, 1, 4)
    flow = torch.tensor([[40.0, 0], [30.9, 0], [-9.0, 0], [torch.nan, 0]]).T.reshape(1, 2, 1, 4)
    difference = disagreement(flow, rigid)
    torch.testing.assert_close(difference[0, 0, 0, :3], torch.tensor([0.0, 9.1 / 71.9, 18 / 19]))
    use = torch.ones(1, 1, 1, 4, dtype=torch.bool)
    worse = torch.full((1, 1, 1, 4), 0.05)

    def said(delta: Tensor, where: Tensor = use) -> list[float]:
        return moving_probability(difference, delta, where, differences=differences, deltas=deltas)[0, 0, 0].tolist()

    laplace, uniform = 0.8 / 0.1 * math.exp(-(9.1 / 71.9 - 0.1) / 0.05), 0.2 / 0.8
    assert said(worse)[:2] == [0.0, pytest.approx(uniform / (laplace + uniform), abs=1e-5)]
    assert said(worse)[2] > 0.999
    assert said(worse)[3] == 0
    # Up to one scale above the centre the camera's flow explains the images as well as it does elsewhere.
    assert said(torch.full_like(worse, 0.029)) == [0.0, 0.0, 0.0, 0.0]
    assert said(worse * torch.nan) == said(worse, ~use) == [0.0, 0.0, 0.0, 0.0]


def test_seen_by_both_is_not_lost_with_the_mover() -> None:
    """A car that moves takes its depth along: the camera's own way back misses it, the optical flow's does not."""
    car = torch.zeros(1, 1, 12, 20, dtype=torch.bool)
    car[..., 4:8, 5:9] = True
    there = torch.cat((torch.where(car, 3.0, 0.0), torch.zeros(1, 1, 12, 20)), dim=1)
    back = torch.cat((torch.where(car.roll(3, -1), -3.0, 0.0), torch.zeros(1, 1, 12, 20)), dim=1)
    found = seen_by_both(torch.zeros_like(there), there, back)
    assert found[car].all()
    assert torch.equal(~found, car.roll(3, -1) & ~car)
    away = torch.full_like(there, 100.0)
    assert not seen_by_both(away, there, back).any()
    assert not seen_by_both(torch.full_like(there, torch.nan), there, back).any()


def test_erosion_and_opening() -> None:
    mask = torch.zeros(1, 1, 9, 12, dtype=torch.bool)
    mask[..., 1:4, 1:4], mask[..., 6, 6], mask[..., :, 10:] = True, True, True
    inner = eroded(mask)
    # Beyond the border there is nothing to take away.
    assert inner[0, 0, :, 11].all()
    assert inner[0, 0, 2, 2]
    assert inner.sum() == 10
    expected = mask.clone()
    expected[..., 6, 6] = False
    assert torch.equal(opened(mask), expected)
    weight = torch.rand(2, 1, 5, 6)
    assert eroded(weight)[1, 0, 2, 3] == weight[1, 0, 1:4, 2:5].min()
    assert eroded(weight, window=5)[0, 0, 0, 0] == weight[0, 0, :3, :3].min()
