"""PoseExpNet: the published sizes, motions per source, masks at any image size."""

import math

import pytest
import torch
from torch import nn

from egoflow.networks.posenet import PoseExpNet


@pytest.mark.parametrize(("sources", "masks", "count"), [
    (2, False, 1_590_668), (2, True, 3_340_388), (4, False, 1_598_456), (4, True, 3_352_504)])
def test_parameter_count(sources: int, masks: bool, count: int) -> None:
    assert sum(p.numel() for p in PoseExpNet(sources=sources, masks=masks).parameters()) == count


@pytest.mark.parametrize(("sources", "count"), [(1, 1_588_316), (4, 1_604_624)])
def test_parameter_count_both_ways(sources: int, count: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in PoseExpNet(sources=sources, both_ways=True).parameters()) == count


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 5), (65, 130)])
def test_both_ways(height: int, width: int) -> None:
    """Twelve numbers a source: six there, six back."""
    network = PoseExpNet(sources=3, both_ways=True)
    images = torch.rand(2, 4, 3, height, width)
    with torch.no_grad():
        vectors, logits = network(images[:, 0], images[:, 1:])
        assert vectors.shape == (2, 3, 12)
        assert torch.isfinite(vectors).all()
        assert logits == []
        nn.init.zeros_(network.motion.weight)
        network.motion.bias.copy_(torch.arange(36.0))
        assert torch.allclose(network(images[:, 0], images[:, 1:])[0][1, 1], 0.01 * torch.arange(12.0, 24.0))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 5), (65, 130), (128, 416)])
@pytest.mark.parametrize("sources", [1, 2])
def test_any_size(height: int, width: int, sources: int) -> None:
    network = PoseExpNet(sources=sources, masks=True)
    with torch.no_grad():
        vectors, logits = network(torch.rand(2, 3, height, width), torch.rand(2, sources, 3, height, width))
    assert vectors.shape == (2, sources, 6)
    assert [tuple(v.shape) for v in logits] == [
        (2, sources, math.ceil(height / 2**s), math.ceil(width / 2**s)) for s in range(4)]
    assert all(torch.isfinite(v).all() for v in (vectors, *logits))


def test_without_masks() -> None:
    vectors, logits = PoseExpNet(sources=2)(torch.rand(1, 3, 32, 40), torch.rand(1, 2, 3, 32, 40))
    assert logits == []
    assert vectors.abs().max() < 0.1


def test_motions_are_scaled_and_averaged() -> None:
    network = PoseExpNet(sources=3)
    nn.init.zeros_(network.motion.weight)
    network.motion.bias.data = torch.arange(18.0)
    vectors, _ = network(torch.rand(2, 3, 16, 16), torch.rand(2, 3, 3, 16, 16))
    assert torch.allclose(vectors[1], 0.01 * torch.arange(18.0).view(3, 6))
    # The mean over pixels after the last layer, as published, is the same number.
    network = PoseExpNet(sources=2).double()
    images = torch.rand(1, 3, 3, 256, 300, dtype=torch.float64)
    features = torch.cat((images[:, 0], images[:, 1], images[:, 2]), dim=1) * 2 - 1
    for layer in network.down:
        features = layer(features)
    expected = 0.01 * network.motion(features).mean((2, 3)).view(1, 2, 6)
    assert features.shape[-1] > 1
    assert (network(images[:, 0], images[:, 1:])[0] - expected).abs().max() < 1e-15


def test_sources_keep_their_order() -> None:
    network, images = PoseExpNet(sources=2, masks=True), torch.rand(1, 3, 3, 32, 40)
    images[:, 2] += 1
    vectors, _ = network(images[:, 0], images[:, [1, 2]])
    swapped, _ = network(images[:, 0], images[:, [2, 1]])
    assert not torch.allclose(vectors, swapped)


def test_every_parameter_learns() -> None:
    network = PoseExpNet(sources=2, masks=True)
    vectors, logits = network(torch.rand(1, 3, 64, 64), torch.rand(1, 2, 3, 64, 64))
    (vectors.sum() + sum(v.mean() for v in logits)).backward()
    for name, parameter in network.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_motion_is_full_precision_under_autocast() -> None:
    network = PoseExpNet(sources=2, masks=True)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        vectors, _ = network(torch.rand(1, 3, 32, 40), torch.rand(1, 2, 3, 32, 40))
    assert vectors.dtype == torch.float32


def test_batch_normalisation_and_channels_last() -> None:
    network = PoseExpNet(sources=2, masks=True, batch_norm=True)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == 7 + 5
    vectors, _ = network(torch.rand(1, 3, 1, 1), torch.rand(1, 2, 3, 1, 1))
    assert torch.isfinite(vectors).all()
    target, sources = torch.rand(1, 3, 32, 40), torch.rand(1, 2, 3, 32, 40)
    network.eval()
    with torch.no_grad():
        plain = network(target, sources)
        fast = network.to(memory_format=torch.channels_last)(target, sources)
    assert torch.allclose(plain[0], fast[0], atol=1e-6)
    assert torch.allclose(plain[1][0], fast[1][0], atol=1e-4)
