"""Footage without bars and writing: what is left is what was there, and the camera goes along."""

import numpy as np
import pytest
import torch

from egoflow.data.cleaned import Cleaned
from egoflow.errors import DataError
from egoflow.worlds.base import World, load_world
from egoflow.worlds.defects import letterbox, overlay


@pytest.fixture(scope="module")
def clip() -> World:
    return load_world("boxes", seed=1, frames=3, height=80, width=120, texture_ratio=1.0)


def test_a_window_shows_the_same_pixels_and_rays(clip: World) -> None:
    cut = Cleaned(letterbox(0, clip), window=(8, 0, 64, 120))
    assert np.array_equal(cut.image(1), clip.image(1)[8:72])
    assert (len(cut), cut.frame_name(2), cut.camera.height, cut.camera.width) == (3, "000002", 64, 120)
    torch.testing.assert_close(cut.camera.rays(), clip.camera.rays()[:, 8:72])
    known, whole = cut.truth(1), clip.truth(1)
    assert known.depth is not None
    np.testing.assert_array_equal(known.depth, whole.depth[8:72])
    assert torch.equal(known.world_from_cam.t, whole.world_from_cam.t)


def test_writing_is_painted_over_from_around(clip: World) -> None:
    written = overlay(1, clip)
    fixed = (written.image(0) != clip.image(0)).any(2) & (written.image(1) != clip.image(1)).any(2)
    clean = Cleaned(written, window=(0, 0, 80, 120), fixed=fixed)
    error, before = (np.abs(v.astype(float) - clip.image(1)).mean(2)[fixed].mean() for v in (clean.image(1),
                                                                                              written.image(1)))
    assert error < 0.5 * before
    assert not clean.truth(1).valid_depth[fixed].any()
    far = np.ones((80, 120), bool)
    ys, xs = np.nonzero(fixed)
    far[max(0, ys.min() - 6):ys.max() + 7, max(0, xs.min() - 6):xs.max() + 7] = False
    assert np.array_equal(clean.image(1)[far], clip.image(1)[far])


def test_a_mask_of_another_size_is_enlarged(clip: World) -> None:
    small = np.zeros((40, 60), bool)
    small[30:, :] = True
    clean = Cleaned(clip, window=(0, 0, 40, 120), fixed=small)
    assert np.array_equal(clean.image(0), clip.image(0)[:40])


@pytest.mark.parametrize("window", [(-1, 0, 40, 120), (0, 0, 81, 120), (0, 10, 40, 120), (0, 0, 4, 120)])
def test_a_window_beyond_the_frame_is_refused(window: tuple[int, int, int, int], clip: World) -> None:
    with pytest.raises(DataError, match="is no part of the 80x120 frames"):
        Cleaned(clip, window=window)
