"""The tiny networks: sizes, ranges, and a correlation that finds shifts."""

import math

import pytest
import torch

from egoflow.networks.tinynet import TinyDepthNet, TinyMotionNet, correlation


def test_they_are_small() -> None:
    assert 1.4e6 < sum(p.numel() for p in TinyDepthNet().parameters()) < 1.9e6
    assert 4e5 < sum(p.numel() for p in TinyMotionNet().parameters()) < 6e5


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 5), (65, 130), (64, 192)])
def test_any_size(height: int, width: int) -> None:
    levels = TinyDepthNet()(torch.rand(2, 3, height, width))
    assert [tuple(v.shape) for v in levels] == [
        (2, 1, math.ceil(height / 2**s), math.ceil(width / 2**s)) for s in range(4)]
    vectors = TinyMotionNet()(torch.rand(2, 3, height, width), torch.rand(2, 3, 3, height, width))
    assert vectors.shape == (2, 3, 6)
    assert all(torch.isfinite(v).all() for v in (*levels, vectors))


@torch.no_grad()
def test_depth_starts_at_the_geometric_mean_of_its_range() -> None:
    """Between 0.1 and 100 that is 3.16: no depth is preferred before anything is learnt."""
    net = TinyDepthNet(smallest=0.01, largest=10.0)
    for level in net(torch.rand(1, 3, 32, 48)):
        assert level.log().std() < 0.2
        assert float(level.log().mean().exp()) == pytest.approx(math.sqrt(0.01 * 10), rel=0.1)
    for head in net.heads:
        torch.nn.init.constant_(head.bias, 100.0)  # type: ignore[arg-type]
    assert float(net(torch.rand(1, 3, 32, 48))[0].max()) == pytest.approx(10, rel=1e-4)
    for head in net.heads:
        torch.nn.init.constant_(head.bias, -100.0)  # type: ignore[arg-type]
    assert float(net(torch.rand(1, 3, 32, 48))[0].min()) == pytest.approx(0.01, rel=1e-4)


@torch.no_grad()
def test_signals_neither_fade_nor_grow_through_the_depth_net() -> None:
    """With torch's own weights the deepest layers had a twentieth of the first one's deviation."""
    torch.manual_seed(0)
    net, deviations = TinyDepthNet(), []
    for conv in (*(stage.down for stage in net.encoder), *net.decoder, net.finest):
        conv.register_forward_hook(lambda module, inputs, output: deviations.append(float(output.std())))
    net(torch.rand(4, 3, 64, 192))
    assert len(deviations) == 10
    assert all(deviations[0] / 3 < deviation < 3 * deviations[0] for deviation in deviations)


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (3, 0), (-4, 2), (1, -3)])
def test_correlation_peaks_at_the_shift(dx: int, dy: int) -> None:
    """What stood at x in a stands at x + d in b: channel (dy + r) (2 r + 1) + dx + r."""
    radius, a = 4, torch.randn(1, 16, 24, 32)
    b = torch.roll(a, (dy, dx), (2, 3))
    cost = correlation(a, b, radius=radius)
    assert cost.shape == (1, 81, 24, 32)
    inner = cost[..., 6:-6, 6:-6]
    assert (inner.argmax(1) == (dy + radius) * 9 + dx + radius).all()
    torch.testing.assert_close(inner.amax(1), torch.ones(1, 12, 20))
    # Blind to contrast.
    torch.testing.assert_close(correlation(a, 3 * b, radius=radius), cost)


@torch.no_grad()
def test_each_source_has_its_own_motion() -> None:
    net, images = TinyMotionNet(), torch.rand(2, 4, 3, 32, 48)
    whole = net(images[:, 0], images[:, 1:])
    for i in range(3):
        torch.testing.assert_close(net(images[:, 0], images[:, i + 1:i + 2]), whole[:, i:i + 1], rtol=1e-4, atol=1e-7)
    assert not torch.allclose(whole[:, 0], whole[:, 1], rtol=1e-3)


@torch.no_grad()
def test_outputs_are_full_precision_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        levels = TinyDepthNet()(torch.rand(1, 3, 32, 48))
        vectors = TinyMotionNet()(torch.rand(1, 3, 32, 48), torch.rand(1, 2, 3, 32, 48))
    assert {v.dtype for v in (*levels, vectors)} == {torch.float32}
