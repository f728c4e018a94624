"""The correlation pyramid and its two look-ups: exact means, an independent sampler, equal windows and gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from egoflow.geometry.pixels import pixel_grid
from egoflow.networks.all_pairs import CHUNK, LEVELS, DenseLookup, LeanLookup, Lookup

RADIUS = 4
SIDE = 2 * RADIUS + 1


def grid(batch: int, height: int, width: int) -> Tensor:
    return pixel_grid(height, width).expand(batch, height, width, 2)


def test_levels_and_channels_of_a_256_pixel_image() -> None:
    """Spec check: features 32x32, levels of 32, 16, 8 and 4, a look-up of 324 channels."""
    lookup = DenseLookup(torch.randn(1, 16, 32, 32), torch.randn(1, 16, 32, 32), radius=RADIUS)
    assert [tuple(level.shape) for level in lookup.pyramid] == [(1, 1024, s, s) for s in (32, 16, 8, 4)]
    assert lookup(grid(1, 32, 32)).shape == (1, 324, 32, 32)


def test_the_first_level_is_the_product_over_the_root_of_the_channels() -> None:
    a, b = torch.randn(2, 9, 8, 10, dtype=torch.float64), torch.randn(2, 9, 8, 10, dtype=torch.float64)
    volume = DenseLookup(a, b, radius=1).pyramid[0].view(2, 8, 10, 8, 10)
    torch.testing.assert_close(volume, torch.einsum("bcij,bckl->bijkl", a, b) / 3)


def test_a_level_is_the_mean_of_cells_of_the_first() -> None:
    """Spec check: level k = the mean of 4^k cells of level 0, also where the size is odd (the rest is left out)."""
    a, b = torch.randn(1, 8, 9, 17, dtype=torch.float64), torch.randn(1, 8, 19, 27, dtype=torch.float64)
    pyramid = DenseLookup(a, b, radius=1).pyramid
    for k, level in enumerate(pyramid):
        height, width = level.shape[-2:]
        cells = pyramid[0][..., :height * 2**k, :width * 2**k].unflatten(3, (width, 2**k)).unflatten(2, (height, 2**k))
        torch.testing.assert_close(level, cells.mean((3, 5)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (4, -4), (-3, 2), (0, 4), (1, -2)])
@pytest.mark.parametrize("kind", [DenseLookup, LeanLookup])
def test_the_best_match_sits_at_the_shift(kind: type, dx: int, dy: int) -> None:
    """Spec check: what stands at x in a stands at x + d in b; channel (dy + r) (2 r + 1) + dx + r of level 0."""
    a = F.normalize(torch.randn(1, 32, 16, 20), dim=1)
    windows = kind(a, torch.roll(a, (dy, dx), (2, 3)), radius=RADIUS)(grid(1, 16, 20))
    inner = windows[:, :SIDE**2, 5:-5, 5:-5]
    assert (inner.argmax(1) == (dy + RADIUS) * SIDE + dx + RADIUS).all()


def reference(a: Tensor, b: Tensor, xy: Tensor) -> Tensor:
    """Return the windows by definition: PyTorch's sampler on the padded volume, one pixel after the other."""
    volume = torch.einsum("bcij,bckl->bijkl", a, b) / a.shape[1] ** 0.5
    offsets = torch.stack(torch.meshgrid(*[torch.arange(-RADIUS, RADIUS + 1.0, dtype=a.dtype)] * 2, indexing="xy"), -1)
    levels, maps = [], volume.flatten(0, 2).unsqueeze(1)
    for k in range(LEVELS):
        size = torch.tensor([maps.shape[-1], maps.shape[-2]], dtype=a.dtype)
        place = xy.reshape(-1, 1, 1, 2) / 2**k + offsets
        found = F.grid_sample(maps, (2 * place + 1) / size - 1, padding_mode="zeros", align_corners=False)
        levels.append(found.view(*volume.shape[:3], -1))
        maps = F.avg_pool2d(maps, 2)
    return torch.cat(levels, -1).permute(0, 3, 1, 2)


def problem(height: int = 25, width: int = 31) -> tuple[Tensor, Tensor, Tensor]:
    """Return features with gradients and places up to 12 cells away, some far outside; more pixels than a chunk."""
    a, b = (torch.randn(2, 16, height, width, dtype=torch.float64, requires_grad=True) for _ in range(2))
    xy = grid(2, height, width).double() + torch.randn(2, height, width, 2, dtype=torch.float64) * 6
    xy[:, 0, 0] = torch.tensor([-1e6, 3e5])
    xy[:, 1, 1] = 7.0
    assert height * width > CHUNK
    return a, b, xy


@pytest.mark.parametrize("kind", [DenseLookup, LeanLookup])
def test_windows_and_gradients_agree_with_the_definition(kind: type) -> None:
    a, b, xy = problem()
    weight = torch.randn(2, LEVELS * SIDE**2, *xy.shape[1:3], dtype=torch.float64)
    results = []
    for windows in (kind(a, b, radius=RADIUS)(xy), reference(a, b, xy)):
        results.append((windows, *torch.autograd.grad((windows * weight).sum(), (a, b))))
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)
    assert (results[0][0][:, :, 0, 0] == 0).all()


def test_dense_and_lean_agree_in_single_precision() -> None:
    """To 1e-4, values and gradients, over several look-ups of one pyramid."""
    a, b, xy = problem()
    single = [v.detach().float().requires_grad_() for v in (a, b)]
    results = []
    for kind in (DenseLookup, LeanLookup):
        lookup = kind(*single, radius=RADIUS)
        windows = torch.stack([lookup(xy.float() + shift) for shift in (0.0, 0.3, -2.6)])
        results.append((windows, *torch.autograd.grad(windows.square().sum(), single)))
    for dense, lean in zip(*results, strict=True):
        torch.testing.assert_close(lean, dense, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [DenseLookup, LeanLookup])
def test_places_that_are_not_finite_harm_nobody_else(kind: type) -> None:
    a, b = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    xy = grid(1, 8, 8).clone()
    before = kind(a, b, radius=1)(xy)
    xy[0, 0, 0], xy[0, 0, 1] = torch.nan, torch.inf
    after = kind(a, b, radius=1)(xy)
    assert torch.equal(after[:, :, 1:], before[:, :, 1:])


def peak_bytes(kind: type, *, size: tuple[int, int]) -> int:
    """Return the most memory that a look-up and its windows hold at a time, by PyTorch's own count."""
    a, b, xy = torch.randn(1, 64, *size), torch.randn(1, 64, *size), grid(1, *size)

    def look(lookup: Lookup) -> None:
        for shift in (0.0, 1.5):
            lookup(xy + shift)

    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        look(kind(a, b, radius=RADIUS))
    held = peak = 0
    events = recorded.profiler.kineto_results.events()  # type: ignore[union-attr]
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        held += event.nbytes()  # type: ignore[attr-defined]
        peak = max(peak, held)
    return peak


def test_the_lean_lookup_needs_a_third_of_the_memory() -> None:
    """At 320x640 the dense pyramid is 55 MB; benchmarks/raft_lookup.py measures 436x1024."""
    dense, lean = (peak_bytes(kind, size=(40, 80)) for kind in (DenseLookup, LeanLookup))
    assert dense > 3200**2 * 4 * 4 / 3 * 0.99
    assert lean < dense / 3
