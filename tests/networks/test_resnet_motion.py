"""ResNetMotionNet: one motion per pair, at any image size, in full precision."""

import pytest
import torch
from torch import nn

from egoflow.networks.resnet_motion import ResNetMotionNet


@pytest.fixture(scope="module")
def network() -> ResNetMotionNet:
    torch.manual_seed(0)
    return ResNetMotionNet()


def test_parameter_count() -> None:
    """11,176,512 of the encoder, 9,408 for the second frame, 1,179,904 and 1,542 of the head."""
    with torch.device("meta"):
        assert sum(p.numel() for p in ResNetMotionNet().parameters()) == 11_176_512 + 9_408 + 1_179_904 + 1_542


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 5), (65, 130)])
@pytest.mark.parametrize(("batch", "sources"), [(1, 1), (2, 3)])
@pytest.mark.parametrize("training", [False, True])
def test_any_size(network: ResNetMotionNet, height: int, width: int, batch: int, sources: int, training: bool) -> None:
    with torch.no_grad():
        vectors = network.train(training)(torch.rand(batch, 3, height, width),
                                          torch.rand(batch, sources, 3, height, width))
    assert vectors.shape == (batch, sources, 6)
    assert torch.isfinite(vectors).all()


def test_pairs_are_seen_alone_and_in_order() -> None:
    network, images = ResNetMotionNet().double().eval(), torch.rand(2, 3, 3, 32, 40, dtype=torch.float64)
    with torch.no_grad():
        vectors = network(images[:, 0], images[:, 1:])
        for batch in range(2):
            for source in (1, 2):
                alone = network(images[batch:batch + 1, 0], images[batch:batch + 1, source:source + 1])
                assert (vectors[batch, source - 1] - alone[0, 0]).abs().max() < 1e-12
        back = network(images[:, 1], images[:, :1])
    assert not torch.allclose(vectors[:, :1], back, atol=1e-5)


def test_motions_are_scaled() -> None:
    network = ResNetMotionNet()
    nn.init.zeros_(network.motion.weight)
    network.motion.bias.data = torch.arange(6.0)
    vectors = network(torch.rand(1, 3, 16, 16), torch.rand(1, 2, 3, 16, 16))
    assert torch.allclose(vectors, 0.01 * torch.arange(6.0).expand(1, 2, 6))


def test_every_parameter_learns() -> None:
    network = ResNetMotionNet()
    network(torch.rand(2, 3, 64, 96), torch.rand(2, 1, 3, 64, 96)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_motion_is_full_precision_under_autocast(network: ResNetMotionNet) -> None:
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert network(torch.rand(1, 3, 32, 40), torch.rand(1, 2, 3, 32, 40)).dtype == torch.float32
