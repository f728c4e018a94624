"""DFNetDepth: the published size with both kinds of shortcut, where the strides are, any image size."""

import math

import pytest
import torch
from torch import nn

from egoflow.networks.dfnet_depth import DFNetDepth


@pytest.fixture(scope="module")
def network() -> DFNetDepth:
    torch.manual_seed(0)
    return DFNetDepth(project_all=False)


@pytest.mark.parametrize(("project_all", "count"), [(True, 58_448_836), (False, 49_462_980)])
def test_parameter_count(project_all: bool, count: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in DFNetDepth(project_all=project_all).parameters()) == count


def test_layout() -> None:
    """Stages of 3, 4, 6 and 3 blocks; the last of each halves the size; no normalisation; every shortcut projected."""
    with torch.device("meta"):
        network, features = DFNetDepth(), torch.empty(1, 64, 40, 144)
    assert not any(isinstance(m, nn.BatchNorm2d | nn.ReLU) for m in network.modules())
    size, channels = 40, []
    for stage, blocks in zip(network.stages, (3, 4, 6, 3), strict=True):
        assert len(stage) == blocks
        for number, block in enumerate(stage):
            assert isinstance(block.shortcut, nn.Conv2d)
            features = block(features)
            size = math.ceil(size / 2) if number == blocks - 1 else size
            assert features.shape[2] == size
        channels.append(features.shape[1])
    assert channels == [256, 512, 1024, 2048]
    assert features.shape == (1, 2048, 3, 9)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 5), (65, 130)])
def test_any_size(network: DFNetDepth, height: int, width: int) -> None:
    with torch.no_grad():
        levels = network(torch.rand(1, 3, height, width))
    assert [tuple(v.shape) for v in levels] == [
        (1, 1, math.ceil(height / 2**s), math.ceil(width / 2**s)) for s in range(4)]
    for level in levels:
        assert torch.isfinite(level).all()
        assert level.min() >= 0.01
        assert level.max() <= 10.01


def test_published_shapes() -> None:
    with torch.device("meta"):
        levels = DFNetDepth()(torch.empty(1, 3, 160, 576))
    assert [tuple(v.shape) for v in levels] == [(1, 1, 160 >> s, 576 >> s) for s in range(4)]


def test_every_parameter_learns(network: DFNetDepth) -> None:
    sum(v.mean() for v in network(torch.rand(1, 3, 64, 64))).backward()
    for name, parameter in network.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_depth_is_float32_under_autocast(network: DFNetDepth) -> None:
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(v.dtype == torch.float32 for v in network(torch.rand(1, 3, 33, 40)))
