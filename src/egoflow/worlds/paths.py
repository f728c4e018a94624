"""Camera paths: where a camera is at a time, as world_from_cam in float64."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from egoflow.geometry.se3 import SE3, rotation_from_euler_xyz
from egoflow.worlds.scene import upright

Path = Callable[[float], SE3]
"""world_from_cam (unbatched, float64) at a time in seconds."""


def constant(tangent_per_s: tuple[float, ...], *, start: SE3 | None = None) -> Path:
    """Return a camera that keeps its velocity: ``tangent_per_s`` = (v m/s, omega rad/s) in the camera's axes."""
    rate = torch.tensor(tangent_per_s, dtype=torch.float64)
    first = start if start is not None else SE3.identity(dtype=torch.float64)
    return lambda time_s: first @ SE3.exp(rate * time_s)


@dataclass(frozen=True, slots=True)
class Waves:
    """A smooth signal and its integral: offset + sum of amplitude sin(2 pi frequency t + phase)."""

    offset: float
    amplitude: np.ndarray
    frequency: np.ndarray
    phase: np.ndarray

    @staticmethod
    def random(random: np.random.Generator, amplitude: list[float], frequency: list[float], *,
               offset: float = 0.0) -> "Waves":
        """Return waves of these amplitudes and frequencies (varied by a tenth) with random phases."""
        rate = np.array(frequency) * random.uniform(0.9, 1.1, len(frequency))
        return Waves(offset, np.array(amplitude), rate, random.uniform(0, 2 * math.pi, len(frequency)))

    def at(self, t: float) -> float:
        """Return the signal at ``t``."""
        return self.offset + float(np.sum(self.amplitude * np.sin(2 * math.pi * self.frequency * t + self.phase)))

    def integral(self, t: float) -> float:
        """Return the integral of the signal from 0 to ``t``."""
        rate = 2 * math.pi * self.frequency
        swing = np.cos(self.phase) - np.cos(rate * t + self.phase)
        return self.offset * t + float(np.sum(self.amplitude / rate * swing))


def hand_held(random: np.random.Generator, path: Path, *, turn_deg: float) -> Path:
    """Return ``path`` seen from a camera that turns to and fro in waves of ``turn_deg`` about each of its axes.

    At time 0 it looks along the path, wherever in the waves that is.
    """
    amplitude = math.radians(turn_deg)
    waves = [Waves.random(random, [amplitude, amplitude / 4], [0.3, 0.8]) for _ in range(3)]

    def turned(time_s: float) -> SE3:
        angles = torch.tensor([wave.at(time_s) - wave.at(0.0) for wave in waves], dtype=torch.float64)
        return path(time_s) @ SE3(rotation_from_euler_xyz(angles), torch.zeros_like(angles))

    return turned


@dataclass(frozen=True, slots=True, kw_only=True)
class Centreline:
    """A smooth curve on the ground: ``x``, ``z`` and ``heading`` (0 = +z) every ``step_m`` from station ``first_m`` on.

    Lateral offsets are positive to the right.
    """

    x: np.ndarray
    z: np.ndarray
    heading: np.ndarray
    step_m: float
    first_m: float

    @staticmethod
    def winding(random: np.random.Generator, *, length_m: float, behind_m: float = 40.0,
                step_m: float = 0.05) -> "Centreline":
        """Return a street that winds left and right by 18 to 24 degrees about every 190 m, starting at the origin."""
        station = np.arange(-behind_m, length_m + step_m, step_m)
        swing, wavelength = math.radians(random.uniform(18, 24)), random.uniform(170, 210)
        phase, side = random.uniform(-0.5, 0.5), random.choice([-1.0, 1.0])
        heading = side * swing * np.sin(2 * math.pi * station / wavelength + phase)
        heading += math.radians(3) * np.sin(2 * math.pi * station / 67 + random.uniform(0, 6))
        along = np.stack((np.sin(heading), np.cos(heading)))
        steps = (along[:, 1:] + along[:, :-1]) / 2 * step_m
        path = np.concatenate((np.zeros((2, 1)), np.cumsum(steps, axis=1)), axis=1)
        path -= path[:, [round(behind_m / step_m)]]
        return Centreline(x=path[0], z=path[1], heading=heading, step_m=step_m, first_m=-behind_m)

    def at(self, station_m: float, offset_m: float = 0.0) -> tuple[float, float, float]:
        """Return (x, z, heading in radians) at a station, ``offset_m`` to the right."""
        grid = (station_m - self.first_m) / self.step_m
        index = int(np.clip(np.floor(grid), 0, len(self.x) - 2))
        tables, share = (self.x, self.z, self.heading), grid - index
        x, z, heading = (float(v[index] + share * (v[index + 1] - v[index])) for v in tables)
        return x + math.cos(heading) * offset_m, z - math.sin(heading) * offset_m, heading


@dataclass(frozen=True, slots=True, kw_only=True)
class Drive:
    """A car's camera on a street: changing speed, its lane, and the small bumps of the road."""

    street: Centreline
    speed: Waves
    offset: Waves
    height: Waves
    pitch: Waves
    roll: Waves
    yaw: Waves

    @staticmethod
    def random(random: np.random.Generator, street: Centreline, *, lane_m: float, height_m: float) -> "Drive":
        """Return a drive at 5 to 12 m/s, ``height_m`` above the ground in the lane at ``lane_m``."""
        degree = math.radians(1)
        return Drive(street=street, speed=Waves.random(random, [2.4, 0.8], [0.055, 0.16], offset=8.5),
                     offset=Waves.random(random, [0.25, 0.08], [0.05, 0.13], offset=lane_m),
                     height=Waves.random(random, [0.015, 0.01], [0.9, 2.1], offset=-height_m),
                     pitch=Waves.random(random, [0.25 * degree, 0.12 * degree], [0.8, 1.9]),
                     roll=Waves.random(random, [0.3 * degree, 0.1 * degree], [0.3, 1.1]),
                     yaw=Waves.random(random, [0.8 * degree, 0.25 * degree], [0.11, 0.6]))

    def station(self, time_s: float) -> float:
        """Return how far along the street the camera is, in metres."""
        return self.speed.integral(time_s)

    def __call__(self, time_s: float) -> SE3:
        """Return world_from_cam at ``time_s``."""
        x, z, heading = self.street.at(self.station(time_s), self.offset.at(time_s))
        tilt = torch.tensor([self.pitch.at(time_s), self.yaw.at(time_s), self.roll.at(time_s)], dtype=torch.float64)
        bump = SE3(rotation_from_euler_xyz(tilt), torch.zeros_like(tilt))
        return upright(x, self.height.at(time_s), z, heading) @ bump
