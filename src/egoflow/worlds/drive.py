"""A winding street, driven along by a car: houses, trees, lamp posts, parked and moving cars under a low sun."""

import math

import numpy as np

from egoflow.errors import ConfigError
from egoflow.geometry.camera import Camera
from egoflow.geometry.se3 import SE3
from egoflow.worlds.base import FRAME_TIME_S, World, check_options
from egoflow.worlds.paths import Centreline, Drive, Waves
from egoflow.worlds.props import Builder
from egoflow.worlds.scene import Kind, Light, Motion, Scene, upright
from egoflow.worlds.street import LANE_M, PARKING_M, PAVEMENT_M, StreetPaint
from egoflow.worlds.textures import Texture

_EYE_M = 1.65
_AHEAD_M = 190.0
_CROSSING_M = 6.0  # Half the width of the gap that a crossing car drives through.


def world(seed: int, *, frames: int = 200, height: int = 128, width: int = 416, movers: int = 0, samples: int = 4,
          shadows: bool = True, density: float = 1.0, device: str = "cpu") -> World:
    """Build a drive of ``frames`` at 10 Hz, 0.5 to 1.2 m a frame, on a street that turns by 30 to 50 degrees.

    ``movers`` cars move (one ahead, then oncoming and crossing ones), the others are parked; ``density`` scales how
    many trees, posts and parked cars there are. The camera looks ahead from 1.65 m with KITTI's field of view.
    Raises ConfigError for an option out of range.
    """
    check_options("drive", seed=seed, frames=frames, height=height, width=width, movers=movers, samples=samples)
    if not 0.05 <= density <= 5:
        raise ConfigError(f"world drive: density must be from 0.05 to 5, got {density}")
    random = np.random.default_rng([seed, 1])
    speed_limit_m = 12.0 * FRAME_TIME_S * frames
    street = Centreline.winding(random, length_m=speed_limit_m + _AHEAD_M)
    drive = Drive.random(random, street, lane_m=LANE_M, height_m=_EYE_M)
    end_m = drive.station(frames * FRAME_TIME_S) + _AHEAD_M - 10
    builder = Builder(random)
    ground = builder.texture(Texture(low=(0, 0, 0), high=(1, 1, 1), paint=StreetPaint(street)))
    builder.solid(Kind.GROUND, upright(0, 0, 0), (math.inf, 0.0, math.inf), ground)
    crossings = _movers(builder, drive, movers=movers, duration_s=frames * FRAME_TIME_S)
    for side in (-1, 1):
        _houses(builder, street, side, end_m=end_m, gaps=crossings)
        _woods(builder, street, side, end_m=end_m, gaps=crossings)
        _kerbside(builder, street, side, end_m=end_m, gaps=crossings, density=density)
    scene = Scene(solids=tuple(builder.solids), textures=tuple(builder.textures), motions=tuple(builder.motions),
                  light=Light(to_sun=_sun(random), shadows=shadows))
    focal = 0.58 * width
    camera = Camera.create(focal, focal, (width - 1) / 2, (height - 1) / 2, height=height, width=width)
    return World("drive", scene=scene, path=drive, camera=camera, frames=frames, samples=samples, seed=seed,
                 device=device, options={"movers": movers, "shadows": shadows, "density": density})


def _sun(random: np.random.Generator) -> tuple[float, float, float]:
    """Return the direction to a sun 48 to 62 degrees high, at the side or behind."""
    high = math.radians(random.uniform(48, 62))
    aside = math.radians(random.choice([-1, 1]) * random.uniform(50, 140))
    return math.cos(high) * math.sin(aside), -math.sin(high), math.cos(high) * math.cos(aside)


def _on(street: Centreline, station_m: float, offset_m: float, *, turn_rad: float = 0.0) -> SE3:
    """Return world_from_prop on the ground beside the street, looking along it."""
    x, z, heading = street.at(station_m, offset_m)
    return upright(x, 0.0, z, heading + turn_rad)


def _free(station_m: float, half_m: float, gaps: list[float]) -> bool:
    """Return whether a prop of that half length leaves all crossings open."""
    return all(abs(station_m - gap) > _CROSSING_M + half_m for gap in gaps)


def _houses(builder: Builder, street: Centreline, side: int, *, end_m: float, gaps: list[float]) -> None:
    """Line one side of the street with houses, with hedges before the gaps between them."""
    random, station = builder.random, -25.0
    while station < end_m:
        front, depth = random.uniform(9, 18), random.uniform(8, 12)
        middle, setback = station + front / 2, PAVEMENT_M + random.uniform(0.4, 3.0)
        if _free(middle, front / 2, gaps):
            # The house's own x axis is its front: a quarter turn from the street's direction.
            plot = _on(street, middle, side * (setback + depth / 2), turn_rad=-math.pi / 2)
            builder.house(plot, front_m=front, depth_m=depth)
        gap = random.uniform(1.0, 6.0)
        if gap > 3 and _free(station + front + gap / 2, gap / 2, gaps):
            builder.hedge(_on(street, station + front + gap / 2, side * (PAVEMENT_M + 0.6)), length_m=gap,
                          height_m=random.uniform(1.0, 1.6))
            builder.tree(_on(street, station + front + gap / 2, side * (PAVEMENT_M + random.uniform(2.5, 5))))
        station += front + gap


def _woods(builder: Builder, street: Centreline, side: int, *, end_m: float, gaps: list[float]) -> None:
    """Close the view between the houses with tall hedges behind them, so that no far, empty plain is seen."""
    random, station = builder.random, -30.0
    while station < end_m:
        length = random.uniform(9, 13)
        if _free(station + length / 2, length / 2, gaps):
            place = _on(street, station + length / 2, side * random.uniform(26, 32))
            builder.hedge(place, length_m=length + 2, height_m=random.uniform(3, 6))
        station += length


def _kerbside(builder: Builder, street: Centreline, side: int, *, end_m: float, gaps: list[float],
              density: float) -> None:
    """Put parked cars, trees and lamp posts along one side."""
    random = builder.random

    def car(station: float) -> None:
        if random.uniform() < 0.6:
            offset = side * (PARKING_M + random.uniform(-0.1, 0.15))
            builder.car(_on(street, station, offset, turn_rad=0.0 if side > 0 else math.pi))

    def tree(station: float) -> None:
        builder.tree(_on(street, station, side * random.uniform(6.3, 6.9)))

    def lamp(station: float) -> None:
        builder.lamp(_on(street, station, side * 6.1), arm_m=-1.6 * side)

    for spacing, first, put in ((8.0, 6.0, car), (13.0, 2.0, tree), (29.0, 11.0, lamp)):
        station = -20.0 + first + random.uniform(0, 5)
        while station < end_m:
            if _free(station, 3.0, gaps):
                put(station)
            station += spacing / density * random.uniform(0.8, 1.3)


def _movers(builder: Builder, drive: Drive, *, movers: int, duration_s: float) -> list[float]:
    """Add moving cars and return the stations of the side streets that they cross by."""
    random, crossings = builder.random, []
    lead_gap = Waves.random(random, [2.5, 1.2], [0.07, 0.19], offset=random.uniform(13, 18))
    for number in range(movers):
        # Meetings are spread over the clip, each some metres ahead of the camera.
        meet_s = duration_s * (number + 0.5) / max(movers, 1)
        if number == 0:
            motion = _leading(drive, lead_gap)
        elif number % 3 == 0:
            crossings.append(drive.station(meet_s) + random.uniform(22, 30))
            motion = _crossing(drive.street, crossings[-1], meet_s, speed=random.choice([-1, 1]) * random.uniform(5, 8))
        else:
            motion = _oncoming(drive, meet_s, ahead_m=random.uniform(8, 16))
        builder.car(upright(0, 0, 0), body=builder.mover(motion))
    return crossings


def _leading(drive: Drive, gap: Waves) -> Motion:
    """Return the motion of a car ahead in the same lane, at a changing distance."""
    return lambda time_s: _on(drive.street, drive.station(time_s) + gap.at(time_s), LANE_M)


def _oncoming(drive: Drive, meet_s: float, *, ahead_m: float) -> Motion:
    """Return the motion of a car in the other lane that is ``ahead_m`` before the camera at ``meet_s``."""
    station = drive.station(meet_s) + ahead_m
    return lambda time_s: _on(drive.street, station - 8.0 * (time_s - meet_s), -LANE_M, turn_rad=math.pi)


def _crossing(street: Centreline, station_m: float, meet_s: float, *, speed: float) -> Motion:
    """Return the motion of a car that crosses the street at a right angle, over its middle at ``meet_s``."""
    x, z, heading = street.at(station_m)
    turned = heading + math.copysign(math.pi / 2, speed)
    forward = math.sin(turned), math.cos(turned)

    def motion(time_s: float) -> SE3:
        travelled = abs(speed) * (time_s - meet_s)
        return upright(x + forward[0] * travelled, 0.0, z + forward[1] * travelled, turned)

    return motion
