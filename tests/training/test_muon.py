"""Muon: orthogonal steps of the length of Adam's for hidden convolutions of the networks named, Adam for all else."""

import pytest
import torch
from torch import nn

from egoflow.config import OptimConfig
from egoflow.errors import ConfigError
from egoflow.training.muon import orthogonalised
from egoflow.training.optim import make_optimizer, set_rate

MUON = OptimConfig(muon=("net",), lr=0.01)


def _method(layer: nn.Module) -> nn.Module:
    return nn.ModuleDict({"net": layer})


def _stepped(layer: nn.Conv2d, gradient: torch.Tensor, config: OptimConfig = MUON) -> torch.Tensor:
    """Return by how much one step with this gradient changes the weight."""
    before = layer.weight.detach().clone()
    layer.weight.grad = gradient.clone()
    make_optimizer(_method(layer), config, rates={}).step()
    return layer.weight.detach() - before


@pytest.mark.parametrize("shape", [(24, 90), (90, 24), (32, 32)])
def test_singular_vectors_stay_and_singular_values_become_alike(shape: tuple[int, int]) -> None:
    """Beside the singular value decomposition in float64; the values that go in differ by a factor of thirty."""
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(shape, dtype=torch.float64), full_matrices=False)
    sizes = torch.logspace(0, 1.5, min(shape), dtype=torch.float64)
    found = left.T @ orthogonalised(((left * sizes) @ right).float()).double() @ right.T
    assert float((found - found.diag().diag()).abs().max()) < 1e-4
    assert 0.65 < float(found.diag().min()) <= float(found.diag().max()) < 1.25


def test_a_step_is_a_fifth_of_the_rate_whatever_the_gradient() -> None:
    torch.manual_seed(0)
    for size in (1e-6, 1.0, 1e3):
        layer = nn.Conv2d(32, 16, 3, bias=False)
        step = _stepped(layer, size * torch.randn_like(layer.weight))
        assert 0.7 < float(step.square().mean().sqrt()) / (0.2 * 0.01) < 1.2


def test_a_step_goes_down_and_keeps_the_layout() -> None:
    torch.manual_seed(0)
    plain, last = nn.Conv2d(16, 24, 3, bias=False), nn.Conv2d(16, 24, 3, bias=False)
    last.load_state_dict(plain.state_dict())
    last.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    gradient = torch.randn(24, 16, 3, 3)
    steps = [_stepped(layer, gradient) for layer in (plain, last)]
    assert float((steps[0] * gradient).sum()) < 0
    assert last.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(*steps)


@pytest.mark.parametrize(("layer", "name"), [(nn.Conv2d(3, 24, 3), "net"), (nn.Conv2d(24, 1, 3), "net"),
                                             (nn.Linear(24, 24), "net"), (nn.Conv2d(24, 24, 3), "other")])
@pytest.mark.parametrize("decoupled", [True, False])
def test_all_else_steps_as_before(layer: nn.Module, name: str, decoupled: bool) -> None:
    """What reads images, what gives the answer, biases, plain matrices, and the networks that are not named."""
    first, results = {key: value.clone() for key, value in layer.state_dict().items()}, []
    method = nn.ModuleDict({"net": nn.Identity(), name: layer})
    for muon in ((), ("net",)):
        layer.load_state_dict(first)
        optimizer = make_optimizer(method, OptimConfig(lr=0.01, weight_decay=0.1, decoupled_weight_decay=decoupled,
                                                       muon=muon), rates={})
        for gradient in (1.0, 2.0, -1.0):
            for parameter in layer.parameters():
                parameter.grad = torch.full_like(parameter, gradient)
            optimizer.step()
        results.append({key: value.clone() for key, value in layer.state_dict().items()})
    assert all(torch.equal(value, results[1][key]) for key, value in results[0].items())
    assert not all(torch.equal(value, first[key]) for key, value in results[0].items())


def test_weights_shrink_beside_the_step() -> None:
    layer = nn.Conv2d(16, 16, 3, bias=False)
    config = OptimConfig(muon=("net",), lr=0.01, weight_decay=0.5)
    before = layer.weight.detach().clone()
    _stepped(layer, torch.zeros_like(layer.weight), config)
    torch.testing.assert_close(layer.weight.detach(), before * (1 - 0.01 * 0.5))


def test_a_weight_without_a_gradient_stays() -> None:
    layer = nn.Conv2d(16, 16, 3)
    before = layer.weight.detach().clone()
    make_optimizer(_method(layer), MUON, rates={}).step()
    assert torch.equal(layer.weight.detach(), before)


def test_the_rate_of_a_network_counts() -> None:
    torch.manual_seed(0)
    layers = {name: nn.Conv2d(16, 16, 3, bias=False) for name in ("net", "fast")}
    before = {name: layer.weight.detach().clone() for name, layer in layers.items()}
    gradient = torch.randn(16, 16, 3, 3)
    for layer in layers.values():
        layer.weight.grad = gradient.clone()
    optimizer = make_optimizer(nn.ModuleDict(layers), OptimConfig(muon=("net", "fast")), rates={"fast": 3.0})
    set_rate(optimizer, 0.01)
    optimizer.step()
    slow, fast = (layers[name].weight.detach() - before[name] for name in layers)
    torch.testing.assert_close(fast, 3 * slow)


def test_an_unknown_network_is_named() -> None:
    with pytest.raises(ConfigError, match="optim.muon=depth: no network of this method; it has net"):
        make_optimizer(_method(nn.Conv2d(16, 16, 3)), OptimConfig(muon=("depth",)), rates={})
