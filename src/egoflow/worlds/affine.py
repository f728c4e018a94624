"""Planar affine motions drawn by the law of FlyingChairs (Dosovitskiy 2015, supplementary material).

A motion is a 3x3 matrix that takes homogeneous pixels (x, y, 1) of one frame to where they are in the next.
"""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Law:
    """How one parameter is drawn: ``clip(mean + sign(g) |g|^power, least, most)`` with a ``chance``, else ``mean``.

    g is normal with ``deviation``. The paper's text raises the zoom itself to the power, mean included; then three
    zooms of four would stand on their limits. About the mean all limits are where 2 to 2.6 deviations lead.
    """

    mean: float
    deviation: float
    least: float
    most: float
    power: float
    chance: float

    def draw(self, random: np.random.Generator) -> float:
        """Return one parameter."""
        value = random.normal(0.0, self.deviation)
        moves = random.uniform() < self.chance
        powered = self.mean + math.copysign(abs(value) ** self.power, value)
        return min(max(powered, self.least), self.most) if moves else self.mean


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionLaw:
    """The laws of a layer's motion: ``translation_px`` of either axis in an image 512 wide, rotation and zoom."""

    translation_px: Law
    rotation_deg: Law
    zoom: Law

    def draw(self, random: np.random.Generator, *, about: tuple[float, float], scale: float) -> np.ndarray:
        """Return a motion [3, 3] that turns and zooms about the point ``about``, translations times ``scale``."""
        shift = (scale * self.translation_px.draw(random), scale * self.translation_px.draw(random))
        turn_deg, zoom = self.rotation_deg.draw(random), self.zoom.draw(random)
        return similarity(about, shift=shift, turn_rad=math.radians(turn_deg), zoom=zoom)


PUBLISHED_BACKGROUND = MotionLaw(translation_px=Law(0.0, 1.3, -40.0, 40.0, 4.0, 1.0),
                                 rotation_deg=Law(0.0, 1.3, -10.0, 10.0, 2.0, 0.3),
                                 zoom=Law(1.0, 0.1, 0.93, 1.07, 2.0, 0.6))
PUBLISHED_OBJECT = MotionLaw(translation_px=Law(0.0, 2.3, -120.0, 120.0, 3.0, 1.0),
                             rotation_deg=Law(0.0, 2.3, -30.0, 30.0, 2.0, 0.7),
                             zoom=Law(1.0, 0.18, 0.8, 1.2, 2.0, 0.7))
"""An object's motion relative to the background, whose own comes on top."""


def similarity(about: tuple[float, float], *, shift: tuple[float, float] = (0.0, 0.0), turn_rad: float = 0.0,
               zoom: float = 1.0) -> np.ndarray:
    """Return the matrix [3, 3] that turns (x towards y) and zooms about a point, then shifts."""
    cosine, sine = zoom * math.cos(turn_rad), zoom * math.sin(turn_rad)
    x, y = about
    return np.array([[cosine, -sine, x - cosine * x + sine * y + shift[0]],
                     [sine, cosine, y - sine * x - cosine * y + shift[1]],
                     [0.0, 0.0, 1.0]])


def zoom_of(motion: np.ndarray) -> float:
    """Return the factor by which a motion [3, 3] enlarges lengths, in the mean over directions."""
    return math.sqrt(abs(float(motion[0, 0] * motion[1, 1] - motion[0, 1] * motion[1, 0])))


def moved(motion: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where a motion [3, 3] takes points; ``x`` and ``y`` broadcast."""
    return (motion[0, 0] * x + (motion[0, 1] * y + motion[0, 2]),
            motion[1, 0] * x + (motion[1, 1] * y + motion[1, 2]))
