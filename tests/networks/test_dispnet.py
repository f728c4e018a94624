"""DispNet: the published size, every scale's shape at any image size, the range of depth."""

import math

import pytest
import torch
from torch import nn

from egoflow.networks.blocks import BatchNorm, cropped, up_convolution
from egoflow.networks.dispnet import DispNet


@pytest.fixture(scope="module")
def network() -> DispNet:
    torch.manual_seed(0)
    return DispNet()


def sizes(height: int, width: int) -> list[tuple[int, ...]]:
    return [(1, math.ceil(height / 2**s), math.ceil(width / 2**s)) for s in range(4)]


def test_parameter_count(network: DispNet) -> None:
    assert sum(p.numel() for p in network.parameters()) == 31_596_900


def test_published_shapes(network: DispNet) -> None:
    levels = network(torch.rand(1, 3, 128, 416))
    assert [tuple(v.shape) for v in levels] == [(1, 1, 128, 416), (1, 1, 64, 208), (1, 1, 32, 104), (1, 1, 16, 52)]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 5), (65, 130), (2, 1)])
def test_any_size(network: DispNet, height: int, width: int) -> None:
    with torch.no_grad():
        levels = network(torch.rand(2, 3, height, width))
    assert [tuple(v.shape[1:]) for v in levels] == sizes(height, width)
    assert all(torch.isfinite(v).all() for v in levels)


def test_range(network: DispNet) -> None:
    with torch.no_grad():
        for value in (0.0, 1.0):
            for level in network(torch.full((1, 3, 16, 16), value)):
                assert level.min() > 0.01
                assert level.max() < 10.01
    small = DispNet(alpha=2.0, beta=0.5)
    for head in small.head:
        nn.init.constant_(head.bias, 1000.0)
    assert all((v - 2.5).abs().max() < 1e-6 for v in small(torch.rand(1, 3, 8, 8)))


def test_initialised_as_the_port(network: DispNet) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            assert not module.bias.any()
            area = math.prod(module.kernel_size)
            bound = math.sqrt(6 / ((module.in_channels + module.out_channels) * area))
            assert module.weight.abs().max() <= bound
            if module.weight.numel() > 10_000:
                assert module.weight.abs().max() > 0.99 * bound


def test_every_parameter_learns() -> None:
    network = DispNet()
    sum(v.mean() for v in network(torch.rand(1, 3, 128, 128))).backward()
    for name, parameter in network.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_grey_is_the_networks_zero(network: DispNet) -> None:
    # Without biases a network of ReLUs sees nothing in 0, which [0, 1] -> [-1, 1] makes of mid-grey.
    with torch.no_grad():
        coarsest = network(torch.full((1, 3, 8, 8), 0.5))[3]
    assert torch.allclose(coarsest, torch.full_like(coarsest, 5.01))


def test_channels_last_gives_the_same() -> None:
    network = DispNet().eval()
    image = torch.rand(1, 3, 40, 72)
    with torch.no_grad():
        plain = network(image)
        fast = network.to(memory_format=torch.channels_last)(image.contiguous(memory_format=torch.channels_last))
    for a, b in zip(plain, fast, strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_depth_is_float32_under_autocast(network: DispNet) -> None:
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(v.dtype == torch.float32 for v in network(torch.rand(1, 3, 16, 16)))


def test_batch_normalisation() -> None:
    network = DispNet(batch_norm=True)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 2 * 7 + 7 + 7
    # One value per channel has no variance: the smallest image must still train.
    for size in ((1, 1), (16, 24)):
        levels = network.train()(torch.rand(1, 3, *size))
        sum(v.mean() for v in levels).backward()
        assert all(torch.isfinite(v).all() for v in levels)
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_batch_norm_is_torchs_on_more_than_one_value() -> None:
    ours, theirs, x = BatchNorm(3), nn.BatchNorm2d(3), torch.randn(2, 3, 4, 5)
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.running_var, theirs.running_var)
    alone = torch.randn(1, 3, 1, 1)
    assert torch.allclose(ours(alone), ours.eval()(alone))


@pytest.mark.parametrize("kernel", [3, 4])
def test_up_convolution_doubles(kernel: int) -> None:
    value = up_convolution(2, 5, kernel=kernel)(torch.rand(1, 2, 3, 7))
    assert value.shape == (1, 5, 6, 14)
    assert cropped(value, (5, 13)).shape == (1, 5, 5, 13)
    assert torch.equal(cropped(value, (5, 13)), value[..., :5, :13])
