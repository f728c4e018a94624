"""Still Box (Pinard 2017): abstract solids in a closed room, a camera that translates at constant velocity.

Shapes, sizes and textures are random, so that only parallax tells depth. Differs from the published set: the scene is
closed by a room so that every pixel has a depth, and solids are boxes, ellipsoids and cylinders instead of meshes. By
choice the camera also turns to and fro, as in a hand, or does nothing else, and solids drift about.
"""

import math

import numpy as np
import torch
from torch import Tensor

from egoflow.errors import ConfigError
from egoflow.geometry.camera import Camera
from egoflow.geometry.se3 import SE3, rotation_exp
from egoflow.worlds.base import FRAME_TIME_S, World, check_options
from egoflow.worlds.paths import constant, hand_held
from egoflow.worlds.props import Builder
from egoflow.worlds.scene import Kind, Light, Motion, Scene, upright
from egoflow.worlds.textures import Colour, Texture, Tiles

_FAR_M = 100.0
_DRIFT_M_PER_S = 8.0


def world(seed: int, *, frames: int = 10, height: int = 64, width: int = 64, movers: int = 0, samples: int = 1,
          solids: int = 20, texture_ratio: float = 0.5, speed: float = 1.0, turn_deg: float = 0.0,
          shadows: bool = False, device: str = "cpu") -> World:
    """Build a scene of ``solids`` seen with a 90 degree field of view at a tenth of ``speed`` metres a frame.

    ``texture_ratio`` of the solids are textured, the others are plain; the first ``movers`` of them drift at up to 8
    m/s. The camera turns to and fro about each axis in waves of ``turn_deg`` every 3 seconds; 0: not at all. Depth is
    at most 100 m. Raises ConfigError for an option out of range.
    """
    check_options("boxes", seed=seed, frames=frames, height=height, width=width, movers=movers, samples=samples,
                  most_movers=solids)
    if not 0 <= speed <= 50 or not 0 <= turn_deg <= 30:
        raise ConfigError(f"world boxes: speed must be from 0 to 50 and turn_deg from 0 to 30, got {speed}, {turn_deg}")
    random = np.random.default_rng([seed, 2])
    direction = random.normal(size=3)
    velocity = direction / np.linalg.norm(direction) * speed
    travel = velocity * FRAME_TIME_S * (frames - 1)
    builder = Builder(random)
    _room(builder, travel)
    for number in range(solids):
        _solid(builder, travel, textured=random.uniform() < texture_ratio, moves=number < movers)
    scene = Scene(solids=tuple(builder.solids), textures=tuple(builder.textures), motions=tuple(builder.motions),
                  light=Light(to_sun=(-0.45, -0.75, -0.48), shadows=shadows, ambient=0.55, sun=0.5, floor_y=_FAR_M))
    camera = Camera.create(width / 2, width / 2, (width - 1) / 2, (height - 1) / 2, height=height, width=width)
    path = constant((*velocity.tolist(), 0.0, 0.0, 0.0))
    if turn_deg > 0:
        path = hand_held(random, path, turn_deg=turn_deg)
    options = {"solids": solids, "texture_ratio": texture_ratio, "movers": movers, "speed": speed, "turn_deg": turn_deg,
               "shadows": shadows}
    return World("boxes", scene=scene, path=path, camera=camera, frames=frames, samples=samples, seed=seed,
                 device=device, options=options)


def _room(builder: Builder, travel: np.ndarray) -> None:
    """Add a textured room whose far wall is never more than 100 m from the camera."""
    far = _FAR_M + min(0.0, float(travel[2]))
    texture = _random_texture(builder.random, cell=30.0, textured=True)
    # Beyond its velocity's reach the camera would leave the room: it grows with the travel.
    half = (_FAR_M * 0.8 + abs(float(travel[0])), _FAR_M * 0.6 + abs(float(travel[1])), _FAR_M + abs(float(travel[2])))
    builder.solid(Kind.ROOM, upright(0.0, 0.0, far - half[2]), half, builder.texture(texture), casts_shadow=False)


def _solid(builder: Builder, travel: np.ndarray, *, textured: bool, moves: bool) -> None:
    """Add one solid of 4 to 15 m, somewhere in view and off the camera's way; one that ``moves`` drifts from there."""
    random = builder.random
    size = random.uniform(4, 15, 3) / 2
    depth = random.uniform(6, 88)
    centre = np.array([random.uniform(-0.9, 0.9) * depth, random.uniform(-0.8, 0.8) * min(depth, 60), depth])
    bounding = float(np.linalg.norm(size))
    nearest = min(float(np.linalg.norm(centre - share * travel)) for share in np.linspace(0, 1, 16))
    if nearest < bounding + 1.0:
        centre *= (bounding + 1.0 + float(np.linalg.norm(travel))) / float(np.linalg.norm(centre))
    turn = rotation_exp(torch.from_numpy(random.normal(size=3)))
    kind = (Kind.BOX, Kind.ELLIPSOID, Kind.CYLINDER)[int(random.integers(3))]
    texture = builder.texture(_random_texture(random, cell=float(random.uniform(2, 6)), textured=textured))
    body = 0
    if moves:
        drift = random.normal(size=3) * [1.0, 1.0, 0.3]
        drift *= random.uniform(0.3, 1.0) * _DRIFT_M_PER_S / np.linalg.norm(drift)
        body = builder.mover(_drifting(torch.from_numpy(drift)))
    builder.solid(kind, SE3(turn, torch.from_numpy(centre)), (float(size[0]), float(size[1]), float(size[2])), texture,
                  body=body)


def _drifting(velocity: Tensor) -> Motion:
    """Return the motion of a body that keeps its velocity [3] in m/s."""
    return lambda time_s: SE3(torch.eye(3, dtype=torch.float64), velocity * time_s)


def _random_texture(random: np.random.Generator, *, cell: float, textured: bool) -> Texture:
    """Return plain colour, noise, stripes, checks or bricks in random colours."""
    low, high, third = (_colour(random) for _ in range(3))
    if not textured:
        return Texture(low=low, high=low, contrast=0.0)
    layers = ()
    pattern = random.integers(4)
    if pattern == 1:
        layers = (Tiles(colour=third, width=cell / 2, height=math.inf, duty=(0.5, 1.0), jitter=0.0),)
    elif pattern == 2:
        layers = (Tiles(colour=third, width=cell / 2, height=cell / 2, checker=True, jitter=0.0),)
    elif pattern == 3:
        layers = (Tiles(colour=third, width=cell / 2, height=cell / 4, duty=(0.85, 0.8), stagger=0.5, jitter=0.4),)
    return Texture(low=low, high=high, cell=cell, roughness=float(random.uniform(0.5, 0.95)), layers=layers)


def _colour(random: np.random.Generator) -> Colour:
    """Return a random colour."""
    red, green, blue = random.uniform(0.05, 0.95, 3)
    return float(red), float(green), float(blue)
