"""TinyRecurrentMotionNet: what a pair says, and a memory that is passed in and returned."""

import pytest
import torch
from torch import Tensor

from egoflow.networks.tiny_recurrent import TinyRecurrentMotionNet


def frames(count: int, *, batch: int = 2, height: int = 32, width: int = 48, seed: int = 0) -> Tensor:
    return torch.rand(batch, count, 3, height, width, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 5), (65, 130)])
def test_any_size(height: int, width: int) -> None:
    vectors, state = TinyRecurrentMotionNet()(frames(4, height=height, width=width))
    assert vectors.shape == (2, 3, 6)
    assert [tuple(v.shape) for v in state] == [(1, 2, 64)] * 2
    assert all(torch.isfinite(v).all() for v in (vectors, *state))
    assert 4e5 < sum(p.numel() for p in TinyRecurrentMotionNet().parameters()) < 7e5


@torch.no_grad()
def test_frame_by_frame_is_the_whole_sequence() -> None:
    network, clip = TinyRecurrentMotionNet().double(), frames(5).double()
    whole, last = network(clip)
    state, steps = None, []
    for i in range(4):
        step, state = network(clip[:, i:i + 2], state)
        steps.append(step)
    assert (torch.cat(steps, dim=1) - whole).abs().max() < 1e-14
    assert state is not None
    assert all((a - b).abs().max() < 1e-13 for a, b in zip(state, last, strict=True))
    assert (network(clip[1:])[0] - whole[1:]).abs().max() < 1e-14


@torch.no_grad()
def test_the_memory_adds_to_what_a_pair_says() -> None:
    torch.manual_seed(0)
    network, clip = TinyRecurrentMotionNet(), frames(3)
    first, state = network(clip)
    assert not torch.equal(network(clip, state)[0][:, 0], first[:, 0])
    torch.nn.init.zeros_(network.change.weight)
    assert torch.equal(network(clip, state)[0], network(clip)[0])


@torch.no_grad()
def test_the_way_back_is_the_way_there_reversed() -> None:
    """But for the memory: two equal frames are no motion, and exchanged ones the opposite."""
    network = TinyRecurrentMotionNet()
    torch.nn.init.zeros_(network.change.weight)
    clip = frames(2)
    there, back = (network(images)[0] for images in (clip, clip.flip(1)))
    assert there.abs().max() > 1e-6
    torch.testing.assert_close(back, -there, rtol=1e-4, atol=1e-8)
    assert network(clip[:, :1].expand(-1, 2, -1, -1, -1))[0].abs().max() < 1e-9


def test_every_parameter_learns() -> None:
    network = TinyRecurrentMotionNet()
    network(frames(3))[0].square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


@torch.no_grad()
def test_motion_is_full_precision_under_autocast() -> None:
    network = TinyRecurrentMotionNet()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        vectors, state = network(frames(3))
        vectors, state = network(frames(3), state)
    assert all(v.dtype == torch.float32 for v in (vectors, *state))
