"""One textured wall seen by a moving camera: depth and flow have closed forms, and nothing is ever hidden."""

import math

import numpy as np
import torch

from egoflow.errors import ConfigError
from egoflow.geometry.camera import Camera
from egoflow.geometry.se3 import SE3, rotation_exp
from egoflow.worlds.base import World
from egoflow.worlds.paths import constant
from egoflow.worlds.scene import Kind, Light, Scene, Solid
from egoflow.worlds.textures import Texture


def world(seed: int, *, frames: int = 2, height: int = 48, width: int = 64, movers: int = 0, samples: int = 1,
          distance_m: float = 8.0, tilt_deg: float = 20.0, cell_m: float = 2.5, device: str = "cpu") -> World:
    """Build a wall ``distance_m`` ahead, tilted by ``tilt_deg`` about the vertical, with smooth cells of ``cell_m``.

    The camera moves by some 0.2 m and 0.2 degrees a frame. Raises ConfigError for ``movers`` > 0.
    """
    if movers:
        raise ConfigError(f"world plane has one still wall, movers must be 0, got {movers}; use the world drive for movers")
    random = np.random.default_rng([seed, 3])
    shift = float(random.uniform(0, 50))
    # The ground's y axis is its inward normal: turn it to look along +z, then tilt the wall.
    facing = rotation_exp(torch.tensor([math.pi / 2, 0.0, 0.0], dtype=torch.float64))
    tilt = rotation_exp(torch.tensor([0.0, math.radians(tilt_deg), 0.0], dtype=torch.float64))
    R = tilt @ facing
    along = R @ torch.tensor([shift, 0.0, shift], dtype=torch.float64)
    place = SE3(R, torch.tensor([0.0, 0.0, distance_m], dtype=torch.float64) + along)
    texture = Texture(low=(0.15, 0.2, 0.3), high=(0.9, 0.8, 0.6), cell=cell_m, roughness=0.0, contrast=0.55)
    wall = Solid(kind=Kind.GROUND, body_from_solid=place, size=(math.inf, 0.0, math.inf), texture=0, casts_shadow=False)
    scene = Scene(solids=(wall,), textures=(texture,), light=Light(sun=0.0, ambient=1.0, shadows=False))
    camera = Camera.create(0.9 * width, 0.9 * width, (width - 1) / 2, (height - 1) / 2, height=height, width=width, name="plane")
    tangent = (*random.uniform(-2, 2, 3).tolist(), *np.radians(random.uniform(-2, 2, 3)).tolist())
    return World("plane", scene=scene, path=constant(tangent), camera=camera, frames=frames, samples=samples, seed=seed,
                 device=device, options={"distance_m": distance_m, "tilt_deg": tilt_deg, "cell_m": cell_m})
