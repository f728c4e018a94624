"""Lengths of steps from the points that both see: exact where flow is, robust where it is not."""

import numpy as np
import pytest
import torch

from egoflow.geometry.camera import Camera
from egoflow.geometry.flow import rigid_flow
from egoflow.geometry.se3 import SE3, rotation_exp
from egoflow.geometry.shared_points import LengthRatio, _solved, length_ratio, tied_lengths

HEIGHT, WIDTH = 24, 40


def seen(depth: torch.Tensor, camera: Camera, turn: list[float], shift: list[float]) -> tuple[torch.Tensor, SE3]:
    """Return the exact flow of a motion, and the motion without its length."""
    turned = rotation_exp(torch.tensor(turn, dtype=torch.float64))[None]
    motion = SE3(turned, torch.tensor([shift], dtype=torch.float64))
    return rigid_flow(depth, camera, motion)[0], SE3(motion.R, motion.t / motion.t.norm())


def test_exact_flow_gives_the_ratio() -> None:
    torch.manual_seed(0)
    depth = 4 + 8 * torch.rand(1, 1, HEIGHT, WIDTH, dtype=torch.float64)
    use = torch.ones_like(depth, dtype=torch.bool)
    camera = Camera.create(60.0, 60.0, 19.5, 11.5, height=HEIGHT, width=WIDTH)
    back, on = seen(depth, camera, [0, 0.01, 0], [0.9, 0, 0.3]), seen(depth, camera, [0, 0.02, 0], [-1.2, 0.1, -0.6])
    found = length_ratio(back, on, use, camera)
    assert found is not None
    expected = np.log(np.linalg.norm([-1.2, 0.1, -0.6]) / np.linalg.norm([0.9, 0, 0.3]))
    assert found.log == pytest.approx(expected, abs=1e-6)
    assert found.spread < 1e-6
    # The camera may be of the frames' own size.
    large, other_way = camera.resized(height=2 * HEIGHT, width=2 * WIDTH), length_ratio(on, back, use, camera)
    again = length_ratio(back, on, use, large)
    assert again is not None
    assert again.log == pytest.approx(expected, abs=1e-6)
    assert other_way is not None
    assert other_way.log == pytest.approx(-expected, abs=1e-6)


def test_nothing_is_said_of_too_few_points() -> None:
    depth = torch.full((1, 1, HEIGHT, WIDTH), 5.0, dtype=torch.float64)
    use = torch.ones_like(depth, dtype=torch.bool)
    camera = Camera.create(60.0, 60.0, 19.5, 11.5, height=HEIGHT, width=WIDTH)
    back, on, short = (seen(depth, camera, [0, 0, 0], [x, 0, 0]) for x in (0.5, -0.5, -0.01))
    assert length_ratio(back, on, use, camera) is not None
    assert length_ratio(back, short, use, camera) is None
    use[..., 1:, :] = False
    use[..., :, 16:] = False
    assert length_ratio(back, on, use, camera) is None


def test_noise_in_short_steps_does_not_make_them_longer() -> None:
    """Steps of a median parallax of 2 and 4 px; of 0.8 px, where noise would count as motion, nothing is said."""
    torch.manual_seed(0)
    depth = 4 + 4 * torch.rand(1, 1, 8 * HEIGHT, 8 * WIDTH, dtype=torch.float64)
    camera = Camera.create(60.0, 60.0, 160.0, 96.0, height=8 * HEIGHT, width=8 * WIDTH)
    use = torch.ones_like(depth, dtype=torch.bool)

    def noisy(shift: float) -> tuple[torch.Tensor, SE3]:
        flow, motion = seen(depth, camera, [0, 0, 0], [shift, 0, 0])
        return flow + 0.25 * torch.randn_like(flow), motion

    found = length_ratio(noisy(0.2), noisy(-0.4), use, camera)
    assert found is not None
    assert np.exp(found.log) == pytest.approx(2.0, rel=0.02)
    assert length_ratio(noisy(0.08), noisy(-0.4), use, camera) is None


def test_a_wandering_scale_is_held_by_ratios() -> None:
    """A network's lengths that wander by 15 % to and fro within 31 steps come within 5 %; without ratios they stay."""
    k = np.arange(200)
    true = 1 + 0.3 * np.sin(k / 9)
    wandering = true * np.exp(0.15 * np.sin(k / 5))
    exact = [LengthRatio(log=float(step), spread=0.02) for step in np.diff(np.log(true))]

    def spread(lengths: np.ndarray) -> float:
        return float(np.std(np.log(lengths / true)))

    assert spread(tied_lengths(wandering, exact)) < 0.5 * spread(wandering)
    assert np.array_equal(tied_lengths(wandering, [None] * 199), wandering)
    # A loose ratio ties less.
    loose = [LengthRatio(log=ratio.log, spread=0.5) for ratio in exact]
    assert spread(tied_lengths(wandering, exact)) < spread(tied_lengths(wandering, loose)) < spread(wandering)


def test_wrong_ratios_and_wrong_lengths_count_little() -> None:
    true = np.full(60, 2.0)
    ratios: list[LengthRatio | None] = [LengthRatio(log=0.0, spread=0.04)] * 59
    ratios[20], ratios[40] = LengthRatio(log=1.5, spread=0.04), None
    assert tied_lengths(true, ratios) == pytest.approx(true, rel=0.02)
    odd = true.copy()
    odd[30] = 6.0
    assert tied_lengths(odd, ratios)[30] == pytest.approx(2.0, rel=0.1)
    odd[10] = 0.0
    found = tied_lengths(odd, ratios)
    assert found[10] == 0
    assert np.isfinite(found).all()


def test_the_system_is_solved_as_by_a_dense_solver() -> None:
    random = np.random.default_rng(0)
    lengths = random.uniform(0.5, 2, 7)
    ratios: list[LengthRatio | None] = [LengthRatio(log=float(v), spread=0.3) for v in random.normal(size=6)]
    weight, tie, own, step = random.uniform(1, 2, 7), random.uniform(1, 2, 6), np.log(lengths), random.normal(size=6)
    across = np.diff(np.eye(7), axis=0)
    dense = np.linalg.solve(np.diag(weight) + across.T @ (tie[:, None] * across),
                            weight * own + across.T @ (tie * step))
    assert _solved(weight, tie, own, step) == pytest.approx(dense, rel=1e-12)
    assert np.isfinite(tied_lengths(lengths, ratios)).all()
