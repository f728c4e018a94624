"""Planar motions: draws follow the published law, matrices do what their names say."""

import math

import numpy as np
import pytest

from egoflow.worlds.affine import PUBLISHED_BACKGROUND, PUBLISHED_OBJECT, Law, moved, similarity, zoom_of


def test_the_law_is_the_published_table() -> None:
    assert (PUBLISHED_BACKGROUND.translation_px, PUBLISHED_BACKGROUND.rotation_deg, PUBLISHED_BACKGROUND.zoom) == (
        Law(0, 1.3, -40, 40, 4, 1), Law(0, 1.3, -10, 10, 2, 0.3), Law(1, 0.1, 0.93, 1.07, 2, 0.6))
    assert (PUBLISHED_OBJECT.translation_px, PUBLISHED_OBJECT.rotation_deg, PUBLISHED_OBJECT.zoom) == (
        Law(0, 2.3, -120, 120, 3, 1), Law(0, 2.3, -30, 30, 2, 0.7), Law(1, 0.18, 0.8, 1.2, 2, 0.7))


@pytest.mark.parametrize("law", [PUBLISHED_BACKGROUND.translation_px, PUBLISHED_OBJECT.translation_px,
                                 PUBLISHED_BACKGROUND.rotation_deg, PUBLISHED_OBJECT.rotation_deg])
def test_draws_follow_the_law(law: Law) -> None:
    random = np.random.default_rng(1)
    drawn = np.array([law.draw(random) for _ in range(20_000)])

    def below(value: float) -> float:
        return math.erf(value ** (1 / law.power) / (law.deviation * math.sqrt(2)))

    assert np.abs(drawn).max() == law.most
    for value in (0.1, 1.0, 0.5 * law.most, 0.99 * law.most):
        assert (np.abs(drawn) < value).mean() == pytest.approx(1 - law.chance * (1 - below(value)), abs=0.012)
    assert (drawn > 0).mean() == pytest.approx(law.chance / 2, abs=0.012)


def test_zooms_stay_within_the_law() -> None:
    random = np.random.default_rng(2)
    drawn = np.array([PUBLISHED_BACKGROUND.zoom.draw(random) for _ in range(20_000)])
    assert (drawn == 1).mean() == pytest.approx(0.4, abs=0.012)
    assert (drawn.min(), drawn.max()) == (0.93, 1.07)
    # (.1 g)^2 is above .07 from g = 2.646 on.
    assert (drawn == 1.07).mean() == pytest.approx(0.6 * 0.5 * (1 - math.erf(2.646 / math.sqrt(2))), abs=0.001)
    assert np.median(np.abs(drawn[drawn != 1] - 1)) == pytest.approx((0.1 * 0.6745) ** 2, rel=0.05)


def test_a_motion_turns_about_its_point_and_then_shifts() -> None:
    motion = similarity((3.0, 2.0), shift=(0.5, -1.0), turn_rad=math.pi / 2, zoom=2.0)
    assert motion @ (3.0, 2.0, 1.0) == pytest.approx([3.5, 1.0, 1.0])
    assert zoom_of(motion) == pytest.approx(2)
    # A point to the right goes down: x turns towards y.
    assert motion @ (4.0, 2.0, 1.0) == pytest.approx([3.5, 3.0, 1.0])
    assert moved(motion, np.array(4.0), np.array(2.0)) == pytest.approx((3.5, 3.0))
