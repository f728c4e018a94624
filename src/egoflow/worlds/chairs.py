"""FlyingChairs by procedure: chairs and other flat shapes that fly over a moving background, with exact flow.

The law of motion, the 16 to 24 objects and their sizes are those of Dosovitskiy 2015 (supplementary material), all
lengths times width / 512. It differs from the published set in its pictures, which need no download: procedural
textures for photographs, and chairs, polygons and ellipses drawn flat for renderings of chairs. Renderings have a
margin: an object spans 0.6 of the drawn size. Clips may be longer than a pair: every step repeats the pair's motion.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from egoflow.errors import ConfigError
from egoflow.worlds.affine import PUBLISHED_BACKGROUND, PUBLISHED_OBJECT, Law, MotionLaw, similarity
from egoflow.worlds.base import check_options, nearest_hint
from egoflow.worlds.layered_world import LayeredWorld
from egoflow.worlds.layers import Layer
from egoflow.worlds.shapes import Maker, chair, ellipse, lattice, polygon, ring, wire
from egoflow.worlds.textures import Colour, Texture, Tiles

_PUBLISHED_WIDTH = 512
_MOST_FRAMES = 32  # In longer clips the objects have left, and the background's zoom has no end.
_SPAN = 0.6
_FIELD = 1.5
"""Objects stand in a field so many times the image's sides: of 16 to 24 the published pairs show about eight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What scenes of one difficulty are made of; lengths are pixels of an image 512 wide.

    ``sizes`` are mean, deviation, least and most; ``plain`` is the share of objects without texture and
    ``plain_background`` the chance that the background has none.
    """

    objects: tuple[int, int] = (16, 24)
    sizes: tuple[float, float, float, float] = (200.0, 200.0, 50.0, 640.0)
    makers: tuple[Maker, ...] = (chair, chair, polygon, ellipse)
    background: MotionLaw = PUBLISHED_BACKGROUND
    relative: MotionLaw = PUBLISHED_OBJECT
    plain: float = 0.1
    plain_background: float = 0.0


def _small(translation_px: float) -> MotionLaw:
    """Return a law of small motions: turns and zooms move the image's corners by less than 0.7 px."""
    return MotionLaw(translation_px=Law(0.0, translation_px, -translation_px, translation_px, 1.0, 1.0),
                     rotation_deg=Law(0.0, 0.08, -0.08, 0.08, 1.0, 0.5),
                     zoom=Law(1.0, 0.0015, 0.9985, 1.0015, 1.0, 0.5))


def _wider(law: MotionLaw, deviation: float) -> MotionLaw:
    """Return a law whose translations spread more, within the same limits."""
    return replace(law, translation_px=replace(law.translation_px, deviation=deviation))


DIFFICULTIES: dict[str, Recipe] = {
    "mixed": Recipe(),
    "homogeneous": Recipe(plain=0.9, plain_background=0.9),
    "thin": Recipe(makers=(wire,)),
    "holes": Recipe(makers=(ring, lattice)),
    "occlusion": Recipe(objects=(28, 36), sizes=(320.0, 100.0, 160.0, 640.0), relative=_wider(PUBLISHED_OBJECT, 3.5)),
    "speed": Recipe(background=_wider(PUBLISHED_BACKGROUND, 1.9), relative=_wider(PUBLISHED_OBJECT, 3.8)),
    "small": Recipe(background=_small(0.7), relative=_small(0.6), plain_background=0.7),
}
"""Recipes by the name that the option ``difficulty`` takes; "small" is in the spirit of ChairsSDHom (Ilg 2017)."""


def world(seed: int, *, frames: int = 2, height: int = 96, width: int = 128, samples: int = 1,
          difficulty: str = "mixed") -> LayeredWorld:
    """Build a pair, or a clip of up to 32 frames, of FlyingChairs' kind.

    ``difficulty`` is mixed (the published law), homogeneous (little texture), thin (wires of 1 to 3 pixels), holes
    (rings and window frames), occlusion (many large objects), speed (wider spread of motions) or small (below 3 px).
    Raises ConfigError for an option out of range.
    """
    check_options("chairs", seed=seed, frames=frames, height=height, width=width, samples=samples,
                  most_frames=_MOST_FRAMES)
    if difficulty not in DIFFICULTIES:
        raise ConfigError(f"world chairs: unknown difficulty '{difficulty}'{nearest_hint(difficulty, DIFFICULTIES)}; "
                          f"choose {', '.join(DIFFICULTIES)}")
    recipe, random = DIFFICULTIES[difficulty], np.random.default_rng([seed, 4])
    background = _background(recipe, random, height=height, width=width)
    count = int(random.integers(recipe.objects[0], recipe.objects[1] + 1))
    objects = (_object(recipe, random, background, height=height, width=width) for _ in range(count))
    return LayeredWorld("chairs", scene=(background, *objects), height=height, width=width, frames=frames,
                        samples=samples, seed=seed, options={"difficulty": difficulty})


def _background(recipe: Recipe, random: np.random.Generator, *, height: int, width: int) -> Layer:
    """Return the lowest layer, which turns and zooms about the image's centre."""
    scale, centre = width / _PUBLISHED_WIDTH, ((width - 1) / 2, (height - 1) / 2)
    motion = recipe.background.draw(random, about=centre, scale=scale)
    make = _plain if random.uniform() < recipe.plain_background else _textured
    return Layer(shape=None, texture=make(random, scale * random.uniform(60, 200)), motion=motion,
                 image_from_layer=similarity((0.0, 0.0), shift=centre, turn_rad=random.uniform(-0.3, 0.3)),
                 shift=random.uniform(0, 256))


def _object(recipe: Recipe, random: np.random.Generator, background: Layer, *, height: int, width: int) -> Layer:
    """Return one object in the image or near it; its motion about its own middle comes before the background's."""
    scale = width / _PUBLISHED_WIDTH
    mean, deviation, least, most = recipe.sizes
    span = _SPAN * scale * min(max(random.normal(mean, deviation), least), most)
    shape = recipe.makers[int(random.integers(len(recipe.makers)))](random, span)
    x, y = ((0.5 + _FIELD * random.uniform(-0.5, 0.5)) * side - 0.5 for side in (width, height))
    # Chairs stand more or less upright.
    place = similarity((0.0, 0.0), shift=(x, y), turn_rad=random.normal(0.0, 0.25))
    own = recipe.relative.draw(random, about=(x, y), scale=scale)
    make: Callable[[np.random.Generator, float], Texture] = _plain if random.uniform() < recipe.plain else _textured
    return Layer(shape=shape, texture=make(random, span * random.uniform(0.15, 0.6)), image_from_layer=place,
                 motion=background.motion @ own, shift=random.uniform(0, 256))


def _plain(random: np.random.Generator, cell: float) -> Texture:
    """Return one colour."""
    colour = _colour(random)
    return Texture(low=colour, high=colour, cell=cell, contrast=0.0)


def _textured(random: np.random.Generator, cell: float) -> Texture:
    """Return noise with cells of ``cell`` pixels, in half of the cases under stripes, checks or bricks."""
    low, high, third = (_colour(random) for _ in range(3))
    size, pattern = cell * random.uniform(0.3, 0.7), random.integers(6)
    layers: tuple[Tiles, ...] = ()
    if pattern == 0:
        layers = (Tiles(colour=third, width=size, height=1e6, duty=(random.uniform(0.3, 0.7), 1.0), jitter=0.3),)
    elif pattern == 1:
        layers = (Tiles(colour=third, width=2 * size, height=2 * size, checker=True, jitter=0.2),)
    elif pattern == 2:
        layers = (Tiles(colour=third, width=size, height=size / 2, duty=(0.85, 0.8), stagger=0.5, jitter=0.4),)
    return Texture(low=low, high=high, cell=cell, roughness=random.uniform(0.4, 0.9),
                   contrast=random.uniform(0.5, 1.0), layers=layers)


def _colour(random: np.random.Generator) -> Colour:
    """Return a random colour."""
    red, green, blue = random.uniform(0.05, 0.95, 3)
    return float(red), float(green), float(blue)
