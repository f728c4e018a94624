"""Motions of a long video keep every bit, in little memory."""

import torch

from egoflow.geometry.se3 import SE3, rotation_exp
from egoflow.inference.motions import Motions


def test_every_bit_is_kept() -> None:
    torch.manual_seed(0)
    given = SE3(rotation_exp(torch.randn(5, 3, dtype=torch.float64)), torch.randn(5, 3, dtype=torch.float64))
    kept = Motions()
    assert kept.stacked().t.shape == (0, 3)
    for k in range(5):
        kept.append(given[k])
    assert len(kept) == 5
    assert torch.equal(kept.stacked().R, given.R)
    assert torch.equal(kept.stacked().t, given.t)
    # What is added afterwards does not change what was given out.
    before = kept.stacked()
    kept.append(given[0])
    assert len(before.t) == 5
    assert kept._numbers.itemsize * len(kept._numbers) == 6 * 96
