"""Clips to examine, rendered once: the doctor reads frames again and again."""

from functools import cache

from egoflow.worlds.base import load_world
from egoflow.worlds.defects import Kept

HEIGHT, WIDTH, FRAMES = 128, 384, 26


@cache
def drive(seed: int) -> Kept:
    """Return a drive without movers."""
    return Kept(load_world("drive", seed=seed, frames=FRAMES, height=HEIGHT, width=WIDTH, samples=1, shadows=False))


@cache
def hand_held(seed: int, *, turn_deg: float = 6.0, frames: int = FRAMES) -> Kept:
    """Return a still room seen from a hand, or with ``turn_deg`` 0 from a rail."""
    return Kept(load_world("boxes", seed=seed, frames=frames, height=160, width=240, speed=5.0, turn_deg=turn_deg,
                           texture_ratio=1.0))
