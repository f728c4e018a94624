"""Published weights of RAFT: fabricated files in each layout find their places, odd ones are refused in one line.

The fabricated names are written down here from the published layouts, layer by layer, and not by the converter's map.
"""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from egoflow.errors import CheckpointError
from egoflow.networks.all_pairs import LEVELS
from egoflow.networks.foreign import converted, load_published
from egoflow.networks.raft import RAFT, raft_basic, raft_small

Weights = dict[str, Tensor]


def conv(weights: Weights, name: str, inputs: int, outputs: int, kernel: int | tuple[int, int]) -> None:
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    weights[f"{name}.weight"] = torch.randn(outputs, inputs, *sides) * 0.05
    weights[f"{name}.bias"] = torch.randn(outputs) * 0.05


def norm(weights: Weights, name: str, channels: int) -> None:
    weights |= {f"{name}.weight": torch.rand(channels) + 0.5, f"{name}.bias": torch.randn(channels) * 0.1,
                f"{name}.running_mean": torch.randn(channels) * 0.1, f"{name}.running_var": torch.rand(channels) + 0.5,
                f"{name}.num_batches_tracked": torch.tensor(100_000)}


def princeton_encoder(weights: Weights, name: str, widths: tuple[int, int, int], outputs: int, *, small: bool,
                      batch_norm: bool) -> None:
    def layer(conv_name: str, norm_name: str, inputs: int, outputs: int, kernel: int) -> None:
        conv(weights, f"{name}.{conv_name}", inputs, outputs, kernel)
        if batch_norm:
            norm(weights, f"{name}.{norm_name}", outputs)
    layer("conv1", "norm1", 3, widths[0], 7)
    inputs = widths[0]
    for number, width in enumerate(widths, start=1):
        for block in range(2):
            at = f"layer{number}.{block}"
            if small:
                layer(f"{at}.conv1", f"{at}.norm1", inputs, width // 4, 1)
                layer(f"{at}.conv2", f"{at}.norm2", width // 4, width // 4, 3)
                layer(f"{at}.conv3", f"{at}.norm3", width // 4, width, 1)
            else:
                layer(f"{at}.conv1", f"{at}.norm1", inputs, width, 3)
                layer(f"{at}.conv2", f"{at}.norm2", width, width, 3)
            if number > 1 and block == 0:
                layer(f"{at}.downsample.0", f"{at}.downsample.1", inputs, width, 1)
                if batch_norm:  # registered under a second name
                    weights |= {k.replace("downsample.1", "norm3"): v for k, v in weights.items()
                                if k.startswith(f"{name}.{at}.downsample.1.")}
            inputs = width
    conv(weights, f"{name}.conv2", inputs, outputs, 1)


def princeton(*, small: bool) -> Weights:
    """Return random weights named as the released code names them, trained on several GPUs."""
    weights: Weights = {}
    widths = (32, 64, 96) if small else (64, 96, 128)
    hidden, context, motion = (96, 64, 82) if small else (128, 128, 128)
    princeton_encoder(weights, "fnet", widths, 128 if small else 256, small=small, batch_norm=False)
    princeton_encoder(weights, "cnet", widths, hidden + context, small=small, batch_norm=not small)
    at = "update_block.encoder"
    conv(weights, f"{at}.convc1", 196 if small else 324, 96 if small else 256, 1)
    if not small:
        conv(weights, f"{at}.convc2", 256, 192, 3)
    conv(weights, f"{at}.convf1", 2, 64 if small else 128, 7)
    conv(weights, f"{at}.convf2", 64 if small else 128, 32 if small else 64, 3)
    conv(weights, f"{at}.conv", 128 if small else 256, motion - 2, 3)
    for suffix, kernel in ({"": (3, 3)} if small else {"1": (1, 5), "2": (5, 1)}).items():
        for gate in "zrq":
            conv(weights, f"update_block.gru.conv{gate}{suffix}", hidden + context + motion, hidden, kernel)
    conv(weights, "update_block.flow_head.conv1", hidden, 128 if small else 256, 3)
    conv(weights, "update_block.flow_head.conv2", 128 if small else 256, 2, 3)
    if not small:
        conv(weights, "update_block.mask.0", 128, 256, 3)
        conv(weights, "update_block.mask.2", 256, 576, 1)
    return {f"module.{name}": value for name, value in weights.items()}


def torchvision(*, small: bool) -> Weights:
    """Return the same weights named as torchvision names them."""
    rules = [(r"^module\.", ""), (r"^fnet", "feature_encoder"), (r"^cnet", "context_encoder"),
             (r"(encoder)\.conv1\.", r"\1.convnormrelu.0."), (r"(encoder)\.norm1\.", r"\1.convnormrelu.1."),
             (r"((?:feature|context)_encoder)\.conv2\.", r"\1.conv."),
             (r"(layer\d\.\d)\.conv(\d)\.", r"\1.convnormrelu\2.0."),
             (r"(layer\d\.\d)\.norm(\d)\.", r"\1.convnormrelu\2.1."),
             (r"^update_block\.encoder\.convc(\d)", r"update_block.motion_encoder.convcorr\1.0"),
             (r"^update_block\.encoder\.convf(\d)", r"update_block.motion_encoder.convflow\1.0"),
             (r"^update_block\.encoder\.conv\.", "update_block.motion_encoder.conv.0."),
             (r"^update_block\.gru\.conv([zrq])\.", r"update_block.recurrent_block.convgru1.conv\1."),
             (r"^update_block\.gru\.conv([zrq])(\d)", r"update_block.recurrent_block.convgru\2.conv\1"),
             (r"^update_block\.mask\.0", "mask_predictor.convrelu.0"),
             (r"^update_block\.mask\.2", "mask_predictor.conv")]
    found = {}
    for name, value in princeton(small=small).items():
        if re.search(r"cnet\.layer[23]\.0\.norm3", name):
            continue
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        found[name] = value
    return found


LAYOUTS = {"princeton": princeton, "torchvision": torchvision}
both_layouts = pytest.mark.parametrize("layout", LAYOUTS)
both_sizes = pytest.mark.parametrize("small", [False, True], ids=["basic", "small"])


def network_of(small: bool) -> RAFT:
    return raft_small(iterations_predict=2) if small else raft_basic(iterations_predict=2)


@both_layouts
@both_sizes
def test_every_tensor_finds_its_place(layout: str, small: bool) -> None:
    torch.manual_seed(1)
    network, published = network_of(small), LAYOUTS[layout](small=small)
    found = converted(network, published)
    assert found.keys() == network.state_dict().keys()
    network.load_state_dict(found)
    # Each tensor is taken once, unchanged but for the layer that reads the windows.
    sums = sorted(float(v.double().sum()) for v in found.values())
    theirs = {n: v for n, v in published.items() if not re.search(r"cnet\.layer[23]\.0\.norm3", n)}
    assert sums == pytest.approx(sorted(float(v.double().sum()) for v in theirs.values()))


@pytest.mark.parametrize(("ours", "theirs", "in_torchvision"), [
    ("features.stem.0.weight", "fnet.conv1.weight", "feature_encoder.convnormrelu.0.weight"),
    ("context.stages.1.0.body.0.1.running_var", "cnet.layer2.0.norm1.running_var",
     "context_encoder.layer2.0.convnormrelu1.1.running_var"),
    ("context.stages.2.0.shortcut.1.bias", "cnet.layer3.0.downsample.1.bias",
     "context_encoder.layer3.0.downsample.1.bias"),
    ("features.stages.0.1.body.1.0.bias", "fnet.layer1.1.conv2.bias", "feature_encoder.layer1.1.convnormrelu2.0.bias"),
    ("context.head.weight", "cnet.conv2.weight", "context_encoder.conv.weight"),
    ("update.motion.flow.1.0.weight", "update_block.encoder.convf2.weight",
     "update_block.motion_encoder.convflow2.0.weight"),
    ("update.passes.0.candidate.weight", "update_block.gru.convq1.weight",
     "update_block.recurrent_block.convgru1.convq.weight"),
    ("update.passes.1.update.bias", "update_block.gru.convz2.bias",
     "update_block.recurrent_block.convgru2.convz.bias"),
    ("update.passes.1.reset.bias", "update_block.gru.convr2.bias",
     "update_block.recurrent_block.convgru2.convr.bias"),
    ("update.head.0.0.weight", "update_block.flow_head.conv1.weight", "update_block.flow_head.conv1.weight"),
    ("mask.1.bias", "update_block.mask.2.bias", "mask_predictor.conv.bias"),
])
def test_places_by_name(ours: str, theirs: str, in_torchvision: str) -> None:
    network = network_of(False)
    for published, name in ((princeton(small=False), f"module.{theirs}"), (torchvision(small=False), in_torchvision)):
        assert torch.equal(converted(network, published)[ours], published[name])


@both_layouts
def test_windows_are_read_in_our_order(layout: str) -> None:
    """Published windows run along x first: their channel (dx + r) d + dy + r is our (dy + r) d + dx + r."""
    published = LAYOUTS[layout](small=True)
    name = next(n for n in published if n.endswith(("convc1.weight", "convcorr1.0.weight")))
    weight = converted(network_of(True), published)["update.motion.correlation.0.0.weight"]
    windows = torch.randn(2, LEVELS, 7, 7, 3, 3)
    theirs = torch.nn.functional.conv2d(windows.transpose(2, 3).flatten(1, 3), published[name])
    torch.testing.assert_close(torch.nn.functional.conv2d(windows.flatten(1, 3), weight), theirs)


@both_sizes
@torch.no_grad()
def test_both_layouts_give_one_network(small: bool) -> None:
    flows = []
    for make in LAYOUTS.values():
        torch.manual_seed(1)
        network = network_of(small).eval()
        network.load_state_dict(converted(network, make(small=small)))
        torch.manual_seed(2)
        flows.append(network(torch.rand(1, 3, 64, 72), torch.rand(1, 3, 64, 72))[0])
    assert torch.equal(*flows)
    assert torch.isfinite(flows[0]).all()


@both_layouts
@pytest.mark.parametrize(("damage", "message"), [
    ("missing", r"^old\.pth: \S*flow_head\.conv2\.bias is missing"),
    ("odd", r"^old\.pth: \S*flow_head\.conv2\.bias has the shape \(3,\), expected \(2,\)"),
    ("extra", r"^old\.pth: an\.extra\.weight has no place"),
    ("other size", r"^old\.pth: .*are these weights of the other size"),
    ("another", r"^old\.pth: no weights of RAFT.*found stem\.weight"),
    ("empty", r"^old\.pth: no weights of RAFT.*found none"),
])
def test_odd_weights_are_refused_in_one_line(layout: str, damage: str, message: str) -> None:
    published = LAYOUTS[layout](small=True)
    name = next(n for n in published if n.endswith("flow_head.conv2.bias"))
    changed = {"missing": {k: v for k, v in published.items() if k != name}, "odd": {**published, name: torch.zeros(3)},
               "extra": {**published, "an.extra.weight": torch.zeros(1)}, "other size": published,
               "another": {"stem.weight": torch.zeros(1)}, "empty": {}}[damage]
    with pytest.raises(CheckpointError, match=message) as caught:
        converted(network_of(small=damage != "other size"), changed, source="old.pth")
    assert "\n" not in str(caught.value)


def test_a_file_is_loaded(tmp_path: Path) -> None:
    network, published = network_of(True), princeton(small=True)
    torch.save(published, tmp_path / "raft-small.pth")
    load_published(network, tmp_path / "raft-small.pth")
    assert torch.equal(network.features.head.bias, published["module.fnet.conv2.bias"])  # type: ignore[arg-type]


class Danger:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> tuple:
        return print, ("ran",)


@pytest.mark.parametrize("content", ["nothing", "text", "code", "list", "half"])
def test_files_that_hold_no_weights_are_refused(content: str, tmp_path: Path, capsys) -> None:
    path = tmp_path / "raft.pth"
    if content == "text":
        path.write_text("<html>not found</html>")
    elif content in ("code", "list"):
        torch.save({"a": Danger()} if content == "code" else [torch.zeros(1)], path)
    elif content == "half":
        torch.save(princeton(small=True), path)
        path.write_bytes(path.read_bytes()[:10_000])
    with pytest.raises(CheckpointError, match=r"raft\.pth: ") as caught:
        load_published(network_of(True), path)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""
