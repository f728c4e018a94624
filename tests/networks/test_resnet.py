"""ResNetEncoder: torchvision's sizes and names, features as an independent forward pass finds them, ImageNet files."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from egoflow.errors import CheckpointError
from egoflow.networks.resnet import Depth, ResNetEncoder, converted, load_imagenet

BLOCKS = {18: [2, 2, 2, 2], 50: [3, 4, 6, 3]}
WIDTHS = {18: (64, 64, 128, 256, 512), 50: (64, 256, 512, 1024, 2048)}
both_depths = pytest.mark.parametrize("depth", [18, 50])


def torchvision(depth: int, *, counters: bool = True) -> dict[str, Tensor]:
    """Return fabricated weights by the names and shapes of torchvision's files, classifier included."""
    generator, weights = torch.Generator().manual_seed(depth), {}

    def layer(conv: str, norm: str, inputs: int, outputs: int, kernel: int) -> None:
        spread = math.sqrt(1 / (inputs * kernel**2))
        weights[f"{conv}.weight"] = torch.randn(outputs, inputs, kernel, kernel, generator=generator) * spread
        weights[f"{norm}.weight"] = torch.rand(outputs, generator=generator) + 0.5
        weights[f"{norm}.bias"] = torch.randn(outputs, generator=generator) * 0.1
        weights[f"{norm}.running_mean"] = torch.randn(outputs, generator=generator) * 0.1
        weights[f"{norm}.running_var"] = torch.rand(outputs, generator=generator) + 0.5
        if counters:
            weights[f"{norm}.num_batches_tracked"] = torch.tensor(7)

    layer("conv1", "bn1", 3, 64, 7)
    inputs = 64
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in range(BLOCKS[depth][stage - 1]):
            at = f"layer{stage}.{block}"
            if depth == 18:
                shapes = [(inputs, width, 3), (width, width, 3)]
            else:
                shapes = [(inputs, width, 1), (width, width, 3), (width, 4 * width, 1)]
            for number, shape in enumerate(shapes, start=1):
                layer(f"{at}.conv{number}", f"{at}.bn{number}", *shape)
            outputs = shapes[-1][1]
            if block == 0 and (stage > 1 or depth == 50):
                layer(f"{at}.downsample.0", f"{at}.downsample.1", inputs, outputs, 1)
            inputs = outputs
    weights |= {"fc.weight": torch.randn(1000, inputs), "fc.bias": torch.randn(1000)}
    return weights


def expected_features(weights: dict[str, Tensor], image: Tensor, depth: int) -> list[Tensor]:
    """Return the five levels as the papers describe them, straight from the tensors."""
    def layer(x: Tensor, conv: str, norm: str, stride: int = 1) -> Tensor:
        kernel = weights[f"{conv}.weight"]
        x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        names = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(weights[f"{norm}.{n}"] for n in names))

    x = torch.stack([(image[:, c] - m) / s for c, (m, s) in enumerate(((.485, .229), (.456, .224), (.406, .225)))], 1)
    found = [layer(x, "conv1", "bn1", 2).relu()]
    x = F.max_pool2d(found[0], 3, 2, 1)
    for stage in range(1, 5):
        for block in range(BLOCKS[depth][stage - 1]):
            at, y = f"layer{stage}.{block}", x
            last, strided = (2, 1) if depth == 18 else (3, 2)
            for number in range(1, last + 1):
                halves = stage > 1 and block == 0 and number == strided
                y = layer(y, f"{at}.conv{number}", f"{at}.bn{number}", 2 if halves else 1)
                y = y.relu() if number < last else y
            if f"{at}.downsample.0.weight" in weights:
                x = layer(x, f"{at}.downsample.0", f"{at}.downsample.1", 2 if stage > 1 else 1)
            x = (x + y).relu()
        found.append(x)
    return found


@pytest.mark.parametrize(("depth", "count"), [(18, 11_176_512), (50, 23_508_032)])
def test_parameter_count(depth: Depth, count: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in ResNetEncoder(depth=depth).parameters()) == count


@both_depths
def test_names_and_shapes_are_torchvisions(depth: Depth) -> None:
    with torch.device("meta"):
        own = ResNetEncoder(depth=depth).state_dict()
    theirs = {name: value.shape for name, value in torchvision(depth).items() if not name.startswith("fc.")}
    assert {name: value.shape for name, value in own.items()} == theirs
    assert len(own) == {18: 120, 50: 318}[depth]


@both_depths
@torch.no_grad()
def test_features_of_loaded_weights(depth: Depth) -> None:
    weights, encoder = torchvision(depth), ResNetEncoder(depth=depth)
    encoder.load_state_dict(converted(encoder, weights))
    image = torch.rand(1, 3, 65, 38)
    features = encoder.eval()(image)
    assert [tuple(f.shape) for f in features] == [
        (1, w, math.ceil(65 / 2**s), math.ceil(38 / 2**s)) for s, w in enumerate(WIDTHS[depth], start=1)]
    for found, expected in zip(features, expected_features(weights, image, depth), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        assert expected.std() > 0.1


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 5), (65, 130)])
@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_any_size(height: int, width: int, training: bool) -> None:
    encoder = ResNetEncoder(depth=18).train(training)
    features = encoder(torch.rand(1, 3, height, width))
    assert [tuple(f.shape) for f in features] == [
        (1, w, math.ceil(height / 2**s), math.ceil(width / 2**s)) for s, w in enumerate(encoder.widths, start=1)]
    assert all(torch.isfinite(f).all() for f in features)


@torch.no_grad()
def test_bottlenecks_train_on_one_pixel() -> None:
    assert all(torch.isfinite(f).all() for f in ResNetEncoder(depth=50)(torch.rand(1, 3, 1, 1)))


@torch.no_grad()
def test_a_still_video_is_seen_as_its_frame() -> None:
    weights, image = torchvision(18), torch.rand(1, 3, 40, 56)
    one, three = ResNetEncoder(), ResNetEncoder(frames=3)
    for encoder in (one, three):
        encoder.load_state_dict(converted(encoder, weights))
        encoder.eval()
    torch.testing.assert_close(three.conv1.weight[:, 3:6] * 3, weights["conv1.weight"])
    for found, expected in zip(three(image.repeat(1, 3, 1, 1)), one(image), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    # Weights that were saved from three frames are taken as they are.
    assert torch.equal(converted(three, three.state_dict())["conv1.weight"], three.conv1.weight)


def test_initialised_by_fan_out() -> None:
    encoder = ResNetEncoder()
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            expected = math.sqrt(2 / (module.out_channels * module.kernel_size[0] ** 2))
            assert float(module.weight.detach().std()) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("name", ["resnet18.pth", "resnet18.safetensors"])
@pytest.mark.parametrize("old", [False, True], ids=["", "without counters, several GPUs"])
def test_a_file_is_loaded(tmp_path: Path, name: str, old: bool) -> None:
    weights = {("module." if old else "") + n: v for n, v in torchvision(18, counters=not old).items()}
    if name.endswith("pth"):
        torch.save(weights, tmp_path / name)
    else:
        save_file(weights, tmp_path / name)
    encoder = ResNetEncoder()
    load_imagenet(encoder, tmp_path / name)
    own = encoder.state_dict()
    for theirs, value in weights.items():
        if "fc." not in theirs:
            assert torch.equal(own[theirs.removeprefix("module.")], value)
    assert own["layer4.1.bn2.num_batches_tracked"] == (0 if old else 7)


@pytest.mark.parametrize(("damage", "message"), [
    ("missing", r"^mine\.pth: layer2\.0\.downsample\.0\.weight is missing; are these ImageNet weights"),
    ("odd", r"^mine\.pth: layer2\.0\.downsample\.0\.weight has the shape \(3,\), expected \(128, 64, 1, 1\); are"),
    ("extra", r"^mine\.pth: head\.weight has no place in this network; are these"),
    ("grey", r"^mine\.pth: conv1\.weight has the shape \(64, 1, 7, 7\), expected \(64, 3, 7, 7\)"),
    ("other depth", r"^mine\.pth: layer1\.0\.conv1\.weight has the shape \(64, 64, 1, 1\), expected .*same depth \(18"),
    ("empty", r"^mine\.pth: conv1\.weight is missing"),
])
def test_odd_weights_are_refused_in_one_line(damage: str, message: str) -> None:
    published, name = torchvision(18), "layer2.0.downsample.0.weight"
    changed = {"missing": {k: v for k, v in published.items() if k != name}, "odd": {**published, name: torch.zeros(3)},
               "extra": {**published, "head.weight": torch.zeros(1)}, "empty": {},
               "grey": {**published, "conv1.weight": torch.zeros(64, 1, 7, 7)},
               "other depth": torchvision(50) if damage == "other depth" else {}}[damage]
    with pytest.raises(CheckpointError, match=message) as caught:
        converted(ResNetEncoder(), changed, source="mine.pth")
    assert "\n" not in str(caught.value)
