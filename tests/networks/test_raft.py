"""RAFT at paper size and its parts: counts, up-sampling, gates, what gradients may pass, any image size."""

import pytest
import torch
from torch import Tensor, nn

from egoflow.networks.blocks import BatchNorm
from egoflow.networks.raft import RAFT, raft_basic, raft_small
from egoflow.networks.raft_encoder import Encoder
from egoflow.networks.raft_update import GRUPass, MotionEncoder, bilinear_upsampled, convex_upsampled


def parameters(*modules: nn.Module | None) -> int:
    return sum(p.numel() for module in modules if module is not None for p in module.parameters())


def test_parameter_counts_are_those_of_the_paper() -> None:
    with torch.device("meta"):
        basic, small = raft_basic(), raft_small()
    assert parameters(basic) == 5_257_536
    assert [parameters(basic.features), parameters(basic.context)] == [1_066_848, 1_069_728]
    assert parameters(basic.update, basic.mask) == 3_120_960
    assert parameters(small) == 990_162
    assert [parameters(p) for p in (small.features, small.context, small.update)] == [55_264, 58_368, 876_530]
    assert small.mask is None


def test_widths_at_paper_size() -> None:
    """A 256x256 image has 32x32 features: 256 and 128 + 128 channels; 128 and 96 + 64 in RAFT-small."""
    with torch.device("meta"):
        image = torch.empty(1, 3, 256, 256)
        for network, features, state, correlations in ((raft_basic(), 256, (128, 128), 324),
                                                       (raft_small(), 128, (96, 64), 196)):
            assert network.features(image).shape == (1, features, 32, 32)
            assert network.context(image).shape == (1, sum(state), 32, 32)
            hidden, context = torch.empty(1, state[0], 32, 32), torch.empty(1, state[1], 32, 32)
            hidden, change = network.update(hidden, context, torch.empty(1, correlations, 32, 32),
                                            torch.empty(1, 2, 32, 32))
            assert (hidden.shape, change.shape) == ((1, state[0], 32, 32), (1, 2, 32, 32))


def test_each_encoder_has_its_norm() -> None:
    """Instances for features in both; batches for the context of the basic network, nothing for the small one's."""
    kinds = (nn.InstanceNorm2d, BatchNorm)
    with torch.device("meta"):
        basic, small = raft_basic(), raft_small()

    def count(encoder: Encoder) -> list[int]:
        return [sum(isinstance(m, kind) for m in encoder.modules()) for kind in kinds]
    assert [count(basic.features), count(basic.context)] == [[15, 0], [0, 15]]
    assert [count(small.features), count(small.context)] == [[21, 0], [0, 0]]


def test_convex_upsampling_of_a_constant() -> None:
    """Spec check: flow 1 under even weights is 8 inside, 8 * 6/9 on edges and 8 * 4/9 in corners (zeros outside)."""
    fine = convex_upsampled(torch.ones(1, 2, 5, 6), torch.zeros(1, 576, 5, 6))
    assert fine.shape == (1, 2, 40, 48)
    expected = torch.full((40, 48), 8.0)
    expected[:8], expected[-8:], expected[:, :8], expected[:, -8:] = (5.3333,) * 4
    for rows in (slice(0, 8), slice(-8, None)):
        expected[rows, :8] = expected[rows, -8:] = 3.5556
    torch.testing.assert_close(fine, expected.expand_as(fine), rtol=0, atol=1e-4)


def test_convex_upsampling_takes_the_weights_in_the_published_order() -> None:
    """Logit k 64 + i 8 + j chooses neighbour k (rows first) for the fine pixel (i, j) of its cell."""
    flow = torch.randn(1, 2, 4, 5)
    logits = torch.full((1, 576, 4, 5), -100.0)
    chosen = torch.randint(0, 9, (8, 8))
    for i in range(8):
        for j in range(8):
            logits[0, int(chosen[i, j]) * 64 + i * 8 + j] = 100
    fine = convex_upsampled(flow, logits)
    for i, j in ((0, 0), (3, 6), (7, 1)):
        dy, dx = divmod(int(chosen[i, j]), 3)
        torch.testing.assert_close(fine[..., 8 + i, 16 + j], 8 * flow[..., 1 + dy - 1, 2 + dx - 1])


def test_bilinear_upsampling_stretches_corners_onto_corners() -> None:
    flow = torch.randn(1, 2, 4, 5)
    fine = bilinear_upsampled(flow)
    assert fine.shape == (1, 2, 32, 40)
    torch.testing.assert_close(fine[..., [0, -1], :][..., [0, -1]], 8 * flow[..., [0, -1], :][..., [0, -1]])


@pytest.mark.parametrize("kernel", [(1, 5), (5, 1), (3, 3)])
def test_a_shut_gate_keeps_the_state_and_an_open_one_replaces_it(kernel: tuple[int, int]) -> None:
    """Spec check: z = 0 leaves h, z = 1 makes h = q = tanh(W_q [r h, x])."""
    gates = GRUPass(6, 9, kernel=kernel)
    hidden, x = torch.randn(2, 6, 7, 8).tanh(), torch.randn(2, 9, 7, 8)
    bias = gates.update.bias
    assert bias is not None
    nn.init.constant_(bias, -1e4)
    assert torch.equal(gates(hidden, x), hidden)
    nn.init.constant_(bias, 1e4)
    reset = torch.sigmoid(gates.reset(torch.cat((hidden, x), 1)))
    torch.testing.assert_close(gates(hidden, x), torch.tanh(gates.candidate(torch.cat((reset * hidden, x), 1))))


def test_motion_features_end_with_the_flow() -> None:
    motion = MotionEncoder(20, correlation=(16, 12), flow=(8, 6), outputs=10)
    flow = torch.randn(1, 2, 6, 7)
    found = motion(torch.randn(1, 20, 6, 7), flow)
    assert found.shape == (1, 10, 6, 7)
    assert torch.equal(found[:, -2:], flow)


class Stepper(nn.Module):
    """An update block that adds a parameter per call to the flow, and reports what it was shown."""

    hidden, context = 8, 8

    def __init__(self, count: int) -> None:
        super().__init__()
        self.changes = nn.ParameterList(torch.full((1, 2, 8, 8), 0.5 + i) for i in range(count))
        self.shown: list[tuple[Tensor, Tensor]] = []

    def forward(self, hidden: Tensor, context: Tensor, correlation: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        self.shown.append((correlation, flow))
        return hidden, self.changes[len(self.shown) - 1] + 0 * hidden[:, :2]


def stepper() -> tuple[RAFT, Stepper]:
    network, update = raft_small(width=0.1, iterations=3), Stepper(3)
    network.context.head = nn.Conv2d(10, 16, 1)
    network.update = update  # type: ignore[assignment]
    return network, update


def test_flows_add_up_and_come_last_first() -> None:
    network, update = stepper()
    flows = network(torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64))
    assert [float(f.detach().mean()) for f in flows] == pytest.approx([8 * 4.5, 8 * 2.0, 8 * 0.5])
    assert [float(flow.mean()) for _, flow in update.shown] == pytest.approx([0, 0.5, 2.0])


def test_no_gradient_passes_through_the_coordinates() -> None:
    """Spec check: the loss of refinement k says nothing to the change of k - 1 but through the hidden state."""
    network, update = stepper()
    flows = network(torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64))
    found = torch.autograd.grad(flows[0].sum(), list(update.changes), allow_unused=True)
    assert found[0] is None
    assert found[1] is None
    assert found[2] is not None
    assert (found[2] != 0).all()
    assert not any(flow.requires_grad for _, flow in update.shown)
    assert all(correlation.requires_grad for correlation, _ in update.shown)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (65, 130), (128, 130)], ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("lookup", ["dense", "lean"])
@pytest.mark.parametrize("make", [raft_basic, raft_small])
def test_any_image_size(make, lookup, size: tuple[int, int]) -> None:
    network = make(width=0.1, iterations=2, iterations_predict=2, lookup=lookup)
    flows = network(torch.rand(1, 3, *size), torch.rand(1, 3, *size))
    assert [tuple(flow.shape) for flow in flows] == [(1, 2, *size)] * 2
    torch.stack(flows).sum().backward()
    assert all(torch.isfinite(flow).all() for flow in flows)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


@torch.no_grad()
@pytest.mark.parametrize("make", [raft_basic, raft_small])
def test_paper_size_with_both_lookups(make) -> None:
    """Finite at 128x128, and both look-ups give one flow."""
    images = torch.rand(2, 1, 3, 128, 128)
    network = make(iterations_predict=2).eval()
    dense = network(*images)
    network.lookup = "lean"
    assert [tuple(flow.shape) for flow in dense] == [(1, 2, 128, 128)]
    assert torch.isfinite(dense[0]).all()
    torch.testing.assert_close(network(*images)[0], dense[0], rtol=1e-4, atol=1e-3)


@torch.no_grad()
def test_padding_is_cut_off_again() -> None:
    """The flow of a picture is that of the picture with its border repeated by hand, without it."""
    network = raft_basic(width=0.1, iterations_predict=2).eval()
    images = torch.rand(2, 1, 3, 67, 83)
    by_hand = torch.nn.functional.pad(images.flatten(0, 1), (2, 3, 2, 3), mode="replicate").unflatten(0, (2, 1))
    torch.testing.assert_close(network(*images)[0], network(*by_hand)[0][..., 2:-3, 2:-3])


@torch.no_grad()
def test_frozen_batch_norm_keeps_its_statistics() -> None:
    images = torch.rand(2, 2, 3, 64, 64)
    for frozen in (False, True):
        network = raft_basic(width=0.1, iterations=1, freeze_batch_norm=frozen)
        norm = next(m for m in network.modules() if isinstance(m, BatchNorm))
        before = norm.running_mean.clone()  # type: ignore[union-attr]
        for training in (False, True):
            network.train(training)
            network(*images)
        assert torch.equal(norm.running_mean, before) == frozen  # type: ignore[arg-type]
        assert network.training
        assert all(m.training != frozen for m in network.modules() if isinstance(m, BatchNorm))


def test_flows_are_full_precision_under_autocast() -> None:
    for make in (raft_basic, raft_small):
        network = make(width=0.1, iterations=2)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            flows = network(torch.rand(1, 3, 64, 72), torch.rand(1, 3, 64, 72))
        assert {flow.dtype for flow in flows} == {torch.float32}
        torch.stack(flows).sum().backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
