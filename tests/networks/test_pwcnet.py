"""The pyramid network: its size, any image, its units, and a correlation that finds a shift."""

import math

import pytest
import torch

from egoflow.networks.pwcnet import PAPER, TINY, PwcNet, levels_enlarged, pwc_lite, pwc_tiny


def count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_parameter_counts() -> None:
    """Convolutions counted by hand: encoder 1,022,160, reduction 16,544, decoder 678,402, context 519,554."""
    paper, tiny = PwcNet(PAPER), PwcNet(TINY)
    assert [count(part) for part in (paper.encoder, paper.reduce, paper.decoder, paper.context)] == [
        1_022_160, 16_544, 678_402, 519_554]
    assert count(paper) == 2_236_660
    assert 3e5 < count(tiny) < 6e5


@torch.no_grad()
@pytest.mark.parametrize("make", [pwc_lite, pwc_tiny])
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 5), (65, 130), (128, 130)])
def test_any_size(make: object, normalise: bool, height: int, width: int) -> None:
    network = make(normalise=normalise)  # type: ignore[operator]
    flows = network(torch.rand(1, 3, height, width), torch.rand(1, 3, height, width))
    coarsest = len(network.encoder)
    assert [tuple(v.shape[-2:]) for v in flows] == [(height, width)] + [
        (math.ceil(height / 2**s), math.ceil(width / 2**s)) for s in range(2, coarsest + 1)]
    assert all(torch.isfinite(v).all() for v in flows)
    for factor, first in ((4, 0), (2, 1), (1, 2)):
        assert [tuple(v.shape[-2:]) for v in levels_enlarged(flows, factor)] == [
            (math.ceil(height / 2**s), math.ceil(width / 2**s)) for s in range(first, first + coarsest - 1)]
    assert torch.equal(levels_enlarged(flows, 4)[0], flows[0])
    assert torch.equal(levels_enlarged(flows, 1)[-1], flows[-1])


def speaking(normalise: bool = False) -> PwcNet:
    """Return a network whose heads say what they were made to say, loudly."""
    torch.manual_seed(0)
    network = pwc_tiny(normalise=normalise)
    for head in (network.decoder.head, network.context[-1]):
        torch.nn.init.normal_(head.weight, std=0.1)  # type: ignore[arg-type]
    return network


@torch.no_grad()
def test_the_flow_starts_small() -> None:
    flows = pwc_tiny()(torch.rand(2, 3, 64, 96), torch.rand(2, 3, 64, 96))
    assert flows[0].abs().mean() < 2


@torch.no_grad()
def test_every_level_is_in_pixels_of_its_own_grid() -> None:
    """Heads that add (1, -2) twice a level: a level's flow is twice the coarser one's and 2 (1, -2) more."""
    network = pwc_tiny()
    for head in (network.decoder.head, network.context[-1]):
        torch.nn.init.zeros_(head.weight)  # type: ignore[arg-type]
        head.bias.copy_(torch.tensor([1.0, -2.0]))  # type: ignore[union-attr]
    flows = network(torch.rand(1, 3, 64, 96), torch.rand(1, 3, 64, 96))
    said = [flow[0, :, 0, 0].tolist() for flow in flows]
    assert said == [pytest.approx([v, -2 * v]) for v in (4 * 30.0, 30.0, 14.0, 6.0, 2.0)]
    for level, flow in zip(levels_enlarged(flows, 2), (60.0, 28.0, 12.0, 4.0), strict=True):
        assert level[0, 0, 0, 0] == pytest.approx(flow)


@torch.no_grad()
def test_one_pair_does_not_touch_another() -> None:
    a, b = torch.rand(2, 3, 3, 48, 64)
    for normalise in (False, True):
        network = speaking(normalise)
        whole = network(a, b)
        for i in range(3):
            for mine, theirs in zip(network(a[i:i + 1], b[i:i + 1]), whole, strict=True):
                torch.testing.assert_close(mine, theirs[i:i + 1], rtol=1e-3, atol=1e-4)
        assert not torch.allclose(whole[0], network(b, a)[0], rtol=1e-2)


@torch.no_grad()
def test_normalised_features_are_blind_to_contrast() -> None:
    """Twice as large features at the coarsest level change the correlation there, unless it is of normalised ones."""
    a, b = torch.rand(2, 1, 3, 48, 64)
    for normalise in (False, True):
        network, seen = speaking(normalise), []
        network.decoder.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0][:, :81].clone()))
        network(a, b)
        network.encoder[-1][1][0].weight.mul_(2)  # type: ignore[index,operator]
        network(a, b)
        first, second = seen[0], seen[len(network.reduce)]
        assert torch.allclose(first, second, rtol=1e-2, atol=1e-3) is normalise
        assert first.abs().max() > 0.01


@torch.no_grad()
def test_outputs_are_full_precision_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        flows = pwc_tiny()(torch.rand(1, 3, 32, 48), torch.rand(1, 3, 32, 48))
    assert {v.dtype for v in flows} == {torch.float32}


def test_every_parameter_gets_a_gradient() -> None:
    network = speaking()
    flows = network(torch.rand(2, 3, 64, 96), torch.rand(2, 3, 64, 96))
    flows[0].square().sum().backward()
    assert all(p.grad is not None and p.grad.any() and p.grad.isfinite().all() for p in network.parameters())
