"""The convolution to few maps against the library's own, values and gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from egoflow.networks.narrow import NarrowConv2d

SIZES = [(1, 1), (1, 5), (4, 1), (2, 2), (7, 9)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("outputs", [1, 2])
def test_convolution_to_few_maps_equals_conv2d_with_its_gradients(size: tuple[int, int], outputs: int) -> None:
    torch.manual_seed(0)
    layer = NarrowConv2d(5, outputs).double()
    image = torch.randn(3, 5, *size, dtype=torch.float64, requires_grad=True)
    plain = F.conv2d(image, layer.weight, layer.bias, padding=1)
    found = layer(image)
    torch.testing.assert_close(found, plain)
    weight = torch.randn_like(plain)
    inputs = (image, layer.weight, layer.bias)
    for ours, theirs in zip(torch.autograd.grad((found * weight).sum(), inputs),
                            torch.autograd.grad((plain * weight).sum(), inputs), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_library_computes_them_where_no_gradient_is_asked() -> None:
    torch.manual_seed(0)
    layer, image = NarrowConv2d(4, 1), torch.randn(1, 4, 6, 6)
    with torch.no_grad():
        assert torch.equal(layer(image), nn.Conv2d.forward(layer, image))
