"""One textured wall seen by a moving camera: depth and flow have closed forms, and nothing is ever hidden."""

import math

import numpy as np
import torch

from egoflow.geometry.camera import Camera
from egoflow.geometry.se3 import SE3, rotation_exp
from egoflow.worlds.base import World, check_options
from egoflow.worlds.paths import constant
from egoflow.worlds.scene import Kind, Light, Scene, Solid
from egoflow.worlds.textures import Texture


def world(seed: int, *, frames: int = 2, height: int = 48, width: int = 64, movers: int = 0, samples: int = 1,
          distance_m: float = 8.0, tilt_deg: float = 20.0, cell_m: float = 3.0, roughness: float = 0.0,
          device: str = "cpu") -> World:
    """Build a wall ``distance_m`` ahead, tilted by ``tilt_deg`` about the vertical, with cells of ``cell_m``.

    They are smooth at a ``roughness`` of 0, and have ever finer detail towards 1.

    The camera moves by 0.4 m and turns by up to 0.3 degrees a frame. Raises ConfigError for ``movers`` > 0.
    """
    check_options("plane", seed=seed, frames=frames, height=height, width=width, movers=movers, samples=samples,
                  most_movers=0)
    random = np.random.default_rng([seed, 3])
    texture = Texture(low=(0.15, 0.2, 0.3), high=(0.9, 0.8, 0.6), cell=cell_m, roughness=roughness, contrast=0.55)
    place = _wall(distance_m, math.radians(tilt_deg), cut_m=float(random.uniform(0, 50)))
    wall = Solid(kind=Kind.GROUND, body_from_solid=place, size=(math.inf, 0.0, math.inf), texture=0)
    scene = Scene(solids=(wall,), textures=(texture,), light=Light(sun=0.0, ambient=1.0, shadows=False))
    camera = Camera.create(0.9 * width, 0.9 * width, (width - 1) / 2, (height - 1) / 2, height=height, width=width)
    heading = random.normal(size=3) * (1.0, 1.0, 0.5)
    velocity, turn = 4.0 * heading / np.linalg.norm(heading), np.radians(random.uniform(-3, 3, 3))
    path = constant((*velocity.tolist(), *turn.tolist()))
    return World("plane", scene=scene, path=path, camera=camera, frames=frames, samples=samples, seed=seed,
                 device=device, options={"distance_m": distance_m, "tilt_deg": tilt_deg, "cell_m": cell_m,
                                                 "roughness": roughness})


def _wall(distance_m: float, tilt_rad: float, *, cut_m: float) -> SE3:
    """Return where the wall stands: ``distance_m`` ahead, its texture cut out ``cut_m`` from the origin."""
    # The ground's y axis is its inward normal: turn it to look along +z, then tilt the wall.
    facing = rotation_exp(torch.tensor([math.pi / 2, 0.0, 0.0], dtype=torch.float64))
    R = rotation_exp(torch.tensor([0.0, tilt_rad, 0.0], dtype=torch.float64)) @ facing
    along = R @ torch.tensor([cut_m, 0.0, cut_m], dtype=torch.float64)
    return SE3(R, torch.tensor([0.0, 0.0, distance_m], dtype=torch.float64) + along)
