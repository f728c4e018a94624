"""Images that look different: ranges, one draw for all frames of a sample, and nothing where nothing is asked."""

import pytest
import torch

from egoflow.data.appearance import Appearance, altered


def clip(value: float = 0.5, *, batch: int = 200) -> torch.Tensor:
    return torch.full((batch, 2, 3, 8, 8), value)


def test_nothing_asked_nothing_done() -> None:
    images = torch.rand(2, 2, 3, 5, 7)
    state = torch.get_rng_state()
    assert altered(images, Appearance()) is images
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("appearance", "low", "high"), [
    (Appearance(contrast=0.3), 0.35, 0.65), (Appearance(colour=0.1), 0.45, 0.55),
    (Appearance(gamma=(0.5, 2.0)), 0.25, 0.7072)])
def test_ranges(appearance: Appearance, low: float, high: float) -> None:
    torch.manual_seed(0)
    found = altered(clip(), appearance)
    assert low - 1e-6 <= found.min() < low + 0.02
    assert high - 0.02 < found.max() <= high + 1e-6
    # All frames and pixels of a sample alike; channels only where colour is asked for.
    assert torch.equal(found, found[:, :1, :, :1, :1].expand_as(found))
    assert bool(found.std(2).max() > 0.01) is (appearance.colour > 0)


def test_brightness_and_noise() -> None:
    torch.manual_seed(0)
    bright = altered(clip(), Appearance(brightness=0.05))
    assert bright[:, 0, 0, 0, 0].std().item() == pytest.approx(0.05, rel=0.2)
    assert torch.equal(bright, bright[:, :1, :1, :1, :1].expand_as(bright))
    noisy = altered(clip(), Appearance(noise=0.04))
    assert noisy.std().item() == pytest.approx(0.04, rel=0.02)
    assert (noisy[:, 0] - noisy[:, 1]).std().item() == pytest.approx(0.04 * 2**0.5, rel=0.02)


def test_erasing() -> None:
    torch.manual_seed(0)
    images = torch.rand(200, 2, 3, 32, 48)
    found = altered(images, Appearance(erase=0.5))
    gone = (found != images).any(2)
    share = gone.flatten(2).any(2).float().mean()
    assert share.item() == pytest.approx(0.5, abs=0.06)
    # One rectangle of an eighth to a quarter of each side, cut off where it leaves the image.
    assert gone.any(-1).sum(-1).max() <= 32 / 4 + 1
    assert gone.any(-2).sum(-1).max() <= 48 / 4 + 1
    assert gone.any(-2).sum(-1).max() > 48 / 8
    frame = gone.flatten(2).any(2).nonzero()[0].tolist()
    there = gone[frame[0], frame[1]]
    expected = images[frame[0], frame[1]].mean((-2, -1))
    torch.testing.assert_close(found[frame[0], frame[1]][:, there], expected[:, None].expand(-1, int(there.sum())))


def test_images_stay_images() -> None:
    torch.manual_seed(0)
    strong = Appearance(noise=0.2, brightness=0.5, contrast=0.9, colour=0.9, gamma=(0.3, 3.0), erase=0.9)
    for size in ((1, 1), (7, 5)):
        found = altered(torch.rand(3, 2, 3, *size), strong)
        assert found.shape == (3, 2, 3, *size)
        assert found.min() >= 0
        assert found.max() <= 1
