"""FlowNet's networks: the papers' parameter counts, any size, and what the parts of a stack are told."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from egoflow.networks.flownet import (
    FlowNetCorrelation,
    FlowNetFusion,
    FlowNetSimple,
    FlowNetSmallDisplacement,
)
from egoflow.networks.flownet2 import PARTS, FlowNet, Variant, full_size

SIZES = [(1, 1), (7, 5), (65, 130), (128, 130)]
THIN = 1 / 16


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def pair(height: int, width: int, *, batch: int = 2) -> tuple[Tensor, Tensor]:
    image_a, image_b = torch.rand(2, batch, 3, height, width)
    return image_a, image_b


def remember(seen: dict[str, Tensor], name: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Keep what a part of a network is told."""
    seen[name] = inputs[0]


@pytest.mark.parametrize(("make", "count"), [
    (FlowNetSimple, 38_676_514), (FlowNetCorrelation, 39_175_298), (lambda: FlowNetSimple(inputs=12), 38_695_330),
    (FlowNetSmallDisplacement, 45_371_666), (FlowNetFusion, 581_226),
    (lambda: FlowNet("cs"), 77_870_628), (lambda: FlowNet("css"), 116_565_958), (lambda: FlowNet("2"), 162_518_850)])
def test_networks_are_as_large_as_the_papers(make, count: int) -> None:
    with torch.device("meta"):
        assert parameters(make()) == count


def test_only_the_bias_of_the_flow_that_goes_up_sets_flownet_s_apart_from_the_released_model() -> None:
    with torch.device("meta"):
        network = FlowNetSimple()
    biases = sum(up.bias.numel() for up in network.refinement.up_flow)  # type: ignore[union-attr, misc]
    assert parameters(network) - biases == 38_676_506


def test_thin_networks_have_three_eighths_of_the_channels() -> None:
    """Weights between layers shrink by 9/64; first and last layers by 3/8."""
    with torch.device("meta"):
        whole, thin = FlowNet("s"), FlowNet("s", width=0.375)
    assert parameters(thin) / parameters(whole) == pytest.approx(9 / 64, rel=1e-2)
    assert [m.out_channels for m in thin.modules() if isinstance(m, nn.Conv2d)][:3] == [24, 48, 96]


@torch.no_grad()
@pytest.mark.parametrize("variant", PARTS)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_any_size(variant: Variant, size: tuple[int, int]) -> None:
    network = FlowNet(variant, width=THIN)
    for part in PARTS[variant]:
        flows = network(*pair(*size), part=part)
        cells = [network.finest(part) * 2**level for level in range(3 if part == "fusion" else 5)]
        assert [tuple(flow.shape) for flow in flows] == [
            (2, 2, math.ceil(size[0] / cell), math.ceil(size[1] / cell)) for cell in cells]
        assert all(bool(flow.isfinite().all()) for flow in flows)


@torch.no_grad()
def test_levels_of_the_published_size() -> None:
    for variant in ("s", "c", "sd"):
        shapes = [tuple(flow.shape[2:]) for flow in FlowNet(variant, width=THIN)(*pair(384, 512, batch=1))]
        assert shapes == [(96, 128), (48, 64), (24, 32), (12, 16), (6, 8)]


@torch.no_grad()
def test_the_paper_network_runs() -> None:
    flows = FlowNet("s")(*pair(20, 70, batch=1))
    assert [tuple(flow.shape[2:]) for flow in flows] == [(5, 18), (3, 9), (2, 5), (1, 3), (1, 2)]
    assert all(bool(flow.isfinite().all()) and 0 < float(flow.std()) < 1 for flow in flows[:3])


@torch.no_grad()
def test_parts_alone_take_sizes_that_are_no_multiples_of_64() -> None:
    """What comes up is cropped to what it meets."""
    flows = FlowNetSimple(width=THIN)(torch.rand(1, 6, 37, 90))
    assert [tuple(flow.shape[2:]) for flow in flows] == [(10, 23), (5, 12), (3, 6), (2, 3), (1, 2)]


@torch.no_grad()
def test_padding_repeats_the_border_and_the_mean_colour_of_the_pair_plays_no_part() -> None:
    network, (a, b) = FlowNet("c", width=THIN), pair(64, 60)
    repeated = (torch.cat((v, v[..., -1:].expand(-1, -1, -1, 4)), dim=3) for v in (a, b))
    mean = (a.mean((2, 3), keepdim=True) + b.mean((2, 3), keepdim=True)) / 2
    flows = network(a, b)
    # The border changes the mean: it is taken out of both.
    whole = [network.parts["correlation"](*(v - mean for v in repeated))][0]
    torch.testing.assert_close(flows[0], whole[0][..., :15])
    torch.testing.assert_close(network(a + 0.2, b + 0.2)[0], flows[0], rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_small_displacements_come_out_divided_and_the_others_multiplied_by_twenty() -> None:
    """The same raw output is 400 times smaller a flow."""
    for network, factor in ((FlowNetSimple(width=THIN), 20.0), (FlowNetSmallDisplacement(width=THIN), 1 / 20)):
        for predict in network.refinement.predict:
            nn.init.zeros_(predict.weight)  # type: ignore[arg-type]
            nn.init.constant_(predict.bias, 0.5)  # type: ignore[arg-type]
        for flow in network(torch.rand(1, 6, 64, 64)):
            torch.testing.assert_close(flow, torch.full_like(flow, 0.5 * factor))


@torch.no_grad()
def test_a_stack_is_told_the_flow_so_far_and_what_it_leaves() -> None:
    network, (a, b) = FlowNet("css", width=THIN), pair(64, 128)
    seen: dict[str, Tensor] = {}
    for name in ("second", "third"):
        network.parts[name].register_forward_pre_hook(partial(remember, seen, name))
    network(a, b)
    for name, before in (("second", "correlation"), ("third", "second")):
        stacked = seen[name]
        assert stacked.shape == (2, 12, 64, 128)
        flow = full_size(network(a, b, part=before)[0])
        torch.testing.assert_close(stacked[:, 9:11], flow / 20)
        torch.testing.assert_close(stacked[:, 11], (stacked[:, :3] - stacked[:, 6:9]).norm(dim=1))
    # A flow of nothing but 3 px to the right shows image b 3 px further left.
    head = network.parts["correlation"].refinement.predict[-1]  # type: ignore[union-attr, index]
    nn.init.zeros_(head.weight)  # type: ignore[arg-type]
    head.bias.copy_(torch.tensor([3 / 20, 0]))  # type: ignore[union-attr, operator]
    network(a, b)
    torch.testing.assert_close(seen["second"][:, 6:9, :, :-3], seen["second"][:, 3:6, :, 3:], rtol=0, atol=1e-4)


@torch.no_grad()
def test_fusion_is_told_both_flows_their_lengths_and_errors() -> None:
    network, (a, b) = FlowNet("2", width=THIN), pair(64, 64)
    seen: dict[str, Tensor] = {}
    network.parts["fusion"].register_forward_pre_hook(partial(remember, seen, "fusion"))
    assert network(a, b)[0].shape == (2, 2, 64, 64)
    small, third = (full_size(network(a, b, part=part)[0]) for part in ("small", "third"))
    lengths = [flow.norm(dim=1, keepdim=True) for flow in (small, third)]
    torch.testing.assert_close(seen["fusion"][:, 3:9], torch.cat((small, third, *lengths), dim=1))
    assert (seen["fusion"][:, 9:] > 0).all()


def test_no_gradient_is_undefined_where_images_and_flows_are_nothing() -> None:
    """Lengths of zero vectors are asked for: of black images, and of flows that are zero."""
    network = FlowNet("2", width=THIN)
    for parameter in network.parts["small"].parameters():
        nn.init.zeros_(parameter)
    sum(flow.square().sum() for flow in network(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64))).backward()  # type: ignore[union-attr]
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in network.parameters())


@torch.no_grad()
def test_outputs_are_full_precision_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for variant in ("c", "2"):
            assert {flow.dtype for flow in FlowNet(variant, width=THIN)(*pair(64, 64))} == {torch.float32}
