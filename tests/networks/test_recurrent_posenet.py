"""RecurrentMotionNet: a memory that is passed in and returned, the same in one go as frame by frame."""

import pytest
import torch
from torch import Tensor

from egoflow.networks.posenet import PoseExpNet
from egoflow.networks.recurrent_posenet import RecurrentMotionNet


@pytest.fixture(scope="module")
def network() -> RecurrentMotionNet:
    torch.manual_seed(0)
    return RecurrentMotionNet()


def frames(count: int, *, batch: int = 1, height: int = 32, width: int = 40, seed: int = 0) -> Tensor:
    return torch.rand(batch, count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def test_parameter_count(network: RecurrentMotionNet) -> None:
    """The trunk of PoseExpNet for one source without its last layer, an LSTM of 256 on 256, a linear layer to 6."""
    trunk = sum(p.numel() for p in PoseExpNet(sources=1).down.parameters())
    assert sum(p.numel() for p in network.parameters()) == trunk + 4 * (2 * 256 * 256 + 2 * 256) + 257 * 6


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 5), (65, 130)])
@pytest.mark.parametrize(("batch", "count"), [(1, 2), (2, 4)])
def test_any_size(network: RecurrentMotionNet, height: int, width: int, batch: int, count: int) -> None:
    with torch.no_grad():
        vectors, state = network(frames(count, batch=batch, height=height, width=width))
    assert vectors.shape == (batch, count - 1, 6)
    assert [v.shape for v in state] == [(1, batch, 256)] * 2
    assert all(torch.isfinite(v).all() for v in (vectors, *state))


@torch.no_grad()
def test_a_reset_reproduces_the_first_step(network: RecurrentMotionNet) -> None:
    clip = frames(3)
    first, state = network(clip)
    again, _ = network(clip)
    assert torch.equal(first, again)
    remembering, _ = network(clip, state)
    assert not torch.allclose(first[:, 0], remembering[:, 0], atol=1e-6)
    # Nothing of another clip stays behind.
    network(frames(4, seed=1))
    assert torch.equal(network(clip)[0][:, 0], first[:, 0])


@torch.no_grad()
def test_frame_by_frame_is_the_whole_sequence() -> None:
    network, clip = RecurrentMotionNet().double(), frames(6, batch=2).double()
    whole, last = network(clip)
    state, steps = None, []
    for i in range(5):
        step, state = network(clip[:, i:i + 2], state)
        steps.append(step)
    assert (torch.cat(steps, dim=1) - whole).abs().max() < 1e-14
    assert state is not None
    assert all((a - b).abs().max() < 1e-13 for a, b in zip(state, last, strict=True))
    # In pieces of other lengths too.
    head, state = network(clip[:, :4])
    assert (torch.cat((head, network(clip[:, 3:], state)[0]), dim=1) - whole).abs().max() < 1e-14


@torch.no_grad()
def test_steps_see_the_past_and_not_the_future(network: RecurrentMotionNet) -> None:
    clip = frames(5)
    whole, _ = network(clip)
    changed = clip.clone()
    changed[:, 4] = 0
    assert torch.allclose(network(changed)[0][:, :3], whole[:, :3], atol=1e-8)
    changed = clip.clone()
    changed[:, 0] = 0
    assert not torch.allclose(network(changed)[0][:, 3], whole[:, 3], atol=1e-7)


@torch.no_grad()
def test_clips_of_a_batch_do_not_meet() -> None:
    network, clip = RecurrentMotionNet().double(), frames(4, batch=2).double()
    both, _ = network(clip)
    assert (both[1:] - network(clip[1:])[0]).abs().max() < 1e-14


def test_motions_are_scaled(network: RecurrentMotionNet) -> None:
    seen = []
    handle = network.motion.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        vectors, _ = network(frames(3))
    handle.remove()
    assert torch.equal(vectors, 0.01 * seen[0])


def test_every_parameter_learns() -> None:
    network = RecurrentMotionNet()
    network(frames(3, height=64, width=64))[0].square().sum().backward()
    for name, parameter in network.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_a_detached_state_stops_gradients() -> None:
    network, clip = RecurrentMotionNet(), frames(4)
    early = clip[:, :2].clone().requires_grad_()
    for detached in (False, True):
        early.grad = None
        _, (hidden, cell) = network(early)
        state = (hidden.detach(), cell.detach()) if detached else (hidden, cell)
        network(clip[:, 1:], state)[0].sum().backward()
        assert (early.grad is None) == detached


def test_motion_is_full_precision_under_autocast(network: RecurrentMotionNet) -> None:
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        vectors, state = network(frames(3))
        vectors, state = network(frames(3), state)
    assert all(v.dtype == torch.float32 for v in (vectors, *state))
