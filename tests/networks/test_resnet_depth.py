"""ResNetDepthNet and its decoder: DispNet's outputs at any image size, a flat start, depth from every level."""

import math

import pytest
import torch
from torch import nn

from egoflow.networks.dispnet import DispNet
from egoflow.networks.resnet_depth import DepthDecoder, ResNetDepthNet


@pytest.fixture(scope="module")
def network() -> ResNetDepthNet:
    torch.manual_seed(0)
    return ResNetDepthNet()


@pytest.mark.parametrize(("depth", "count"), [(18, 14_330_244), (50, 32_523_140)])
def test_parameter_count(depth, count: int) -> None:
    """11,176,512 or 23,508,032 of the encoder, and what convolutions of the stated widths have."""
    with torch.device("meta"):
        network = ResNetDepthNet(depth=depth)
    assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 5), (65, 130), (2, 1)])
@pytest.mark.parametrize("training", [False, True])
def test_any_size(network: ResNetDepthNet, height: int, width: int, training: bool) -> None:
    image = torch.rand(1, 3, height, width)
    with torch.no_grad():
        levels = network.train(training)(image)
    assert [tuple(v.shape) for v in levels] == [
        (1, 1, math.ceil(height / 2**s), math.ceil(width / 2**s)) for s in range(4)]
    assert all(torch.isfinite(v).all() for v in levels)


def test_same_shapes_as_dispnet(network: ResNetDepthNet) -> None:
    image = torch.rand(2, 3, 33, 50)
    with torch.no_grad():
        assert [v.shape for v in network(image)] == [v.shape for v in DispNet()(image)]


def test_starts_flat_in_the_middle_of_the_range() -> None:
    with torch.no_grad():
        for level in ResNetDepthNet()(torch.rand(2, 3, 64, 96)):
            assert (level - 5.01).abs().max() < 0.5


def test_range() -> None:
    network = ResNetDepthNet(alpha=2.0, beta=0.5)
    for logits, expected in ((1000.0, 2.5), (-1000.0, 0.5), (0.0, 1.5)):
        for head in network.decoder.head:
            nn.init.zeros_(head.weight)
            nn.init.constant_(head.bias, logits)
        with torch.no_grad():
            assert all((v - expected).abs().max() < 1e-6 for v in network(torch.rand(1, 3, 8, 8)))


def test_every_parameter_learns() -> None:
    network = ResNetDepthNet()
    sum(v.mean() for v in network(torch.rand(2, 3, 64, 96))).backward()
    for name, parameter in network.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_depth_is_float32_under_autocast(network: ResNetDepthNet) -> None:
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        levels = network(torch.rand(1, 3, 33, 40))
    assert all(v.dtype == torch.float32 for v in levels)


def test_channels_last_gives_the_same() -> None:
    network, image = ResNetDepthNet().eval(), torch.rand(1, 3, 40, 72)
    for head in network.decoder.head:
        nn.init.normal_(head.weight, std=0.02)
    with torch.no_grad():
        plain = network(image)
        fast = network.to(memory_format=torch.channels_last)(image.contiguous(memory_format=torch.channels_last))
    for a, b in zip(plain, fast, strict=True):
        assert a.std() > 1e-3
        assert torch.allclose(a, b, atol=1e-4)


def test_decoder_reads_every_level_of_the_features() -> None:
    torch.manual_seed(1)
    decoder = DepthDecoder((4, 4, 8, 8, 8), alpha=10.0, beta=0.01)
    image = torch.rand(1, 3, 40, 56)
    features = [torch.rand(1, c, math.ceil(40 / 2**s), math.ceil(56 / 2**s), requires_grad=True)
                for s, c in enumerate((4, 4, 8, 8, 8), start=1)]
    levels = decoder(features, image)
    levels[0].sum().backward(retain_graph=True)
    assert all(f.grad is not None and f.grad.any() for f in features)
    # The coarsest depth, at 1/8, sees nothing finer than the features of its own size.
    for f in features:
        f.grad = None
    levels[3].sum().backward()
    assert [f.grad is not None for f in features] == [False, False, True, True, True]


def test_finer_depth_sees_the_coarser_guess() -> None:
    torch.manual_seed(1)
    decoder = DepthDecoder((4, 4, 8, 8, 8), alpha=10.0, beta=0.01)
    image = torch.rand(1, 3, 32, 32)
    features = [torch.rand(1, c, 32 >> s, 32 >> s) for s, c in enumerate((4, 4, 8, 8, 8), start=1)]
    with torch.no_grad():
        before = decoder(features, image)
        decoder.head[3].bias += 3
        after = decoder(features, image)
    assert (after[3] > before[3]).all()
    assert all(not torch.equal(a, b) for a, b in zip(before[:3], after[:3], strict=True))
