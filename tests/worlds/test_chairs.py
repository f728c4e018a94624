"""World chairs: scenes by the published law, exact flow and occlusion, and difficulties that are what they say."""

import math
from functools import cache

import cv2
import numpy as np
import pytest
import torch

from egoflow.geometry.flow import backward_warp, forward_backward_error
from egoflow.types import FlowTruth
from egoflow.worlds.affine import similarity
from egoflow.worlds.base import load_world
from egoflow.worlds.layered_world import LayeredWorld
from egoflow.worlds.layers import Layer, labels, render
from egoflow.worlds.shapes import Block, Shape, Star
from egoflow.worlds.textures import Texture

SIZE = {"height": 96, "width": 128}
PUBLISHED_SIZE = {"height": 384, "width": 512}
SEEDS = range(8)


@cache
def scene(seed: int, difficulty: str = "mixed", *, published: bool = False) -> LayeredWorld:
    return load_world("chairs", seed=seed, difficulty=difficulty, **(PUBLISHED_SIZE if published else SIZE))


@cache
def truth(seed: int, difficulty: str = "mixed") -> FlowTruth:
    return scene(seed, difficulty).flow_truth(0, 1)


def top(world: LayeredWorld, frame: int) -> np.ndarray:
    return labels(world.scene, frame, height=world.camera.height, width=world.camera.width)


def inner(label: np.ndarray) -> np.ndarray:
    """Return the pixels whose eight neighbours belong to the same layer."""
    high = np.pad(label, 1, mode="edge")
    return np.all([high[dy:dy + label.shape[0], dx:dx + label.shape[1]] == label for dy in range(3) for dx in range(3)],
                  axis=0)


def test_scenes_move_by_the_law() -> None:
    worlds = [load_world("chairs", seed=seed, **SIZE) for seed in range(300)]
    motions = np.stack([world.scene[0].motion for world in worlds])
    # Translation is what happens to the image's centre, in pixels of a width of 512.
    centre = np.array([63.5, 47.5, 1.0])
    shift = (motions @ centre - centre)[:, :2] * 4
    assert (np.abs(shift) <= 40 + 1e-9).mean() >= 0.99
    assert (np.abs(shift) < 1).mean() == pytest.approx(math.erf(1 / 1.3 / math.sqrt(2)), abs=0.07)
    turn = np.degrees(np.arctan2(motions[:, 1, 0], motions[:, 0, 0]))
    assert (turn == 0).mean() == pytest.approx(0.7, abs=0.08)
    assert np.abs(turn).max() <= 10 + 1e-9
    # An object's own motion, about its own middle, comes before the background's.
    shifts, turns = [], []
    for world in worlds[::10]:
        for layer in world.scene[1:]:
            own = np.linalg.inv(world.scene[0].motion) @ layer.motion
            middle = layer.image_from_layer[:, 2]
            shifts.append((own @ middle - middle)[:2] * 4)
            turns.append(math.degrees(math.atan2(own[1, 0], own[0, 0])))
    assert np.abs(shifts).max() <= 120 + 1e-6
    assert (np.abs(shifts) < 1).mean() == pytest.approx(math.erf(1 / 2.3 / math.sqrt(2)), abs=0.05)
    assert (np.abs(turns) < 1e-9).mean() == pytest.approx(0.3, abs=0.08)
    assert np.abs(turns).max() <= 30 + 1e-6
    counts = [len(world.scene) - 1 for world in worlds]
    assert (min(counts), max(counts)) == (16, 24)


# Pictures, flow, occlusion.

@pytest.mark.parametrize("seed", range(3))
def test_the_second_image_warps_onto_the_first(seed: int) -> None:
    world = scene(seed, published=True)
    flow, (first, second) = world.flow_truth(0, 1), world.colours([0, 1]).split(1)
    warped, _ = backward_warp(second, torch.from_numpy(flow.flow_ab)[None])
    error = (warped - first).abs().mean(1)[0].numpy()
    usable = flow.visible & inner(top(world, 0))
    assert usable.mean() > 0.4
    assert error[usable].mean() < 0.01
    # The picture is no plain field: without the flow the error is many times larger.
    assert (second - first).abs().mean(1)[0].numpy()[usable].mean() > 8 * error[usable].mean()


@pytest.mark.parametrize(("seed", "difficulty"), [(0, "mixed"), (1, "thin"), (2, "speed")])
def test_there_and_back_is_no_motion(seed: int, difficulty: str) -> None:
    world = scene(seed, difficulty)
    there, back = world.flow_truth(0, 1), world.flow_truth(1, 0)
    error, _, _ = forward_backward_error(torch.from_numpy(there.flow_ab)[None].double(),
                                         torch.from_numpy(back.flow_ab)[None].double())
    # A flow that is affine over the four pixels about a point is sampled there without error.
    x, y = (there.flow_ab + np.stack(np.meshgrid(np.arange(128), np.arange(96)))).round(4)
    here, other = top(world, 0), np.pad(top(world, 1), ((0, 1), (0, 1)), mode="edge")
    x0, y0 = np.floor(x.clip(0, 127)).astype(int), np.floor(y.clip(0, 95)).astype(int)
    same = there.visible & np.all([other[y0 + dy, x0 + dx] == here for dy in (0, 1) for dx in (0, 1)], axis=0)
    assert same.mean() > 0.4
    assert error[0, 0].numpy()[same].max() < 1e-8


def holds(layer: Layer, frame: int, point: np.ndarray) -> bool:
    """Say whether a layer holds a point of a frame, by other means than the world's: even-odd rule and equations."""
    placed = np.linalg.matrix_power(layer.motion, frame) @ layer.image_from_layer
    x, y, _ = np.linalg.solve(placed, (*point, 1.0))

    def within(part: Block | Star) -> bool:
        if isinstance(part, Star):
            inside = False
            for (x0, y0), (x1, y1) in zip(part.corners, np.roll(part.corners, -1, 0), strict=True):
                if (y0 > y) != (y1 > y) and x < x0 + (x1 - x0) * (y - y0) / (y1 - y0):
                    inside = not inside
            return inside
        local = complex(x - part.x, y - part.y) * complex(math.cos(part.turn_rad), -math.sin(part.turn_rad))
        across, down = abs(local.real) / part.a, abs(local.imag) / part.b
        return across ** 2 + down ** 2 <= 1 if part.rounded else max(across, down) <= 1

    shape = layer.shape
    return shape is None or any(map(within, shape.parts)) and not any(map(within, shape.holes))


@pytest.mark.parametrize("difficulty", ["mixed", "thin", "holes", "occlusion"])
def test_layers_and_occlusion_by_brute_force(difficulty: str) -> None:
    random = np.random.default_rng(0)
    hidden = outside = 0
    for seed in (5, 6, 7):
        world, flow = scene(seed, difficulty), truth(seed, difficulty)
        here = top(world, 0)
        for x, y in random.integers((0, 0), (128, 96), (150, 2)):
            owner = max(k for k, layer in enumerate(world.scene) if holds(layer, 0, np.array([x, y])))
            assert here[y, x] == owner
            to = (world.scene[owner].motion @ (x, y, 1.0))[:2]
            assert flow.flow_ab[:, y, x] == pytest.approx(to - (x, y), abs=1e-4)
            out = not (0 <= to[0] <= 127 and 0 <= to[1] <= 95)
            covered = any(holds(layer, 1, to) for layer in world.scene[owner + 1:])
            assert flow.visible[y, x] == (not out and not covered)
            outside, hidden = outside + out, hidden + (covered and not out)
    assert hidden > 10
    assert outside < 225


def test_coverage_is_the_shapes_area() -> None:
    black, white = (Texture(low=(c,) * 3, high=(c,) * 3, contrast=0.0) for c in (0.0, 1.0))
    still = np.eye(3)
    ground = Layer(shape=None, texture=black, image_from_layer=still, motion=still)
    square = np.array([(-9.0, -9.0), (9.0, -9.0), (9.0, 9.0), (-9.0, 9.0)])
    for shape, area in ((Block(0, 0, 14.0, 7.0, rounded=True), math.pi * 98), (Block(0, 0, 12.0, 0.5, 0.3), 24.0),
                        (Star(square), 324.0)):
        for place in (similarity((0, 0), shift=(31.3, 20.6)), similarity((0, 0), shift=(30, 21.5), turn_rad=0.7)):
            thing = Layer(shape=Shape((shape,)), texture=white, image_from_layer=place, motion=still)
            for samples in (1, 9):
                image = render((ground, thing), 0, height=42, width=64, samples=samples)
                assert float(image[0].sum()) == pytest.approx(area, rel=0.04)
            assert float(image.max()) <= 1


def test_longer_clips_repeat_the_pairs_motion() -> None:
    pair, clip = scene(4), load_world("chairs", seed=4, frames=5, **SIZE)
    assert np.array_equal(pair.image(1), clip.image(1))
    first, later = clip.flow_truth(0, 1), clip.flow_truth(3, 4)
    same = top(clip, 0) == top(clip, 3)
    assert same.mean() > 0.3
    assert np.array_equal(first.flow_ab[:, same], later.flow_ab[:, same])
    assert not np.array_equal(first.flow_ab, later.flow_ab)
    # Two steps at once are one step after the other.
    for number, layer in enumerate(clip.scene):
        y, x = np.nonzero(top(clip, 1) == number)
        if len(x):
            twice = layer.motion @ layer.motion @ (x[0], y[0], 1.0)
            assert clip.flow_truth(1, 3).flow_ab[:, y[0], x[0]] == pytest.approx(twice[:2] - (x[0], y[0]), abs=1e-4)


# Difficulties.

def flat_share(difficulty: str) -> float:
    """Return the share of pixels whose grey value changes by less than 1/255 to either neighbour."""
    shares = []
    for seed in SEEDS:
        grey = scene(seed, difficulty).colours([0])[0].mean(0)
        slope = torch.maximum(grey.diff(dim=0)[:, 1:].abs(), grey.diff(dim=1)[1:].abs())
        shares.append(float((slope < 1 / 255).float().mean()))
    return float(np.mean(shares))


def speeds(difficulty: str) -> np.ndarray:
    """Return all displacements in pixels of an image 512 wide."""
    return np.concatenate([4 * np.hypot(*truth(seed, difficulty).flow_ab).ravel() for seed in SEEDS])


def hidden_share(difficulty: str) -> float:
    return float(np.mean([1 - truth(seed, difficulty).visible.mean() for seed in SEEDS]))


def thick_share(difficulty: str) -> float:
    """Return the share of the objects' pixels, each object alone, that lie in some square of 5 pixels within it."""
    kept = total = 0
    for seed in SEEDS:
        for layer in scene(seed, difficulty, published=True).scene[1::4]:
            mask = labels((layer, layer), 0, **PUBLISHED_SIZE).astype(np.uint8)
            total += int(mask.sum())
            kept += int(cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)).sum())
    return kept / total


def open_share(difficulty: str) -> float:
    """Return the share of the objects' areas, holes filled, that is hole."""
    shares = []
    for seed in SEEDS:
        for layer in scene(seed, difficulty).scene[1:]:
            x0, y0, x1, y1 = layer.shape.bounds
            x, y = np.meshgrid(np.linspace(x0, x1, 80), np.linspace(y0, y1, 80))
            filled = Shape(layer.shape.parts).edge(x, y) <= 0
            shares.append(1 - (layer.shape.edge(x, y) <= 0).sum() / filled.sum())
    return float(np.mean(shares))


def test_homogeneous_is_flat() -> None:
    assert flat_share("homogeneous") > 0.6 > 0.4 > flat_share("mixed")


def test_thin_is_thin() -> None:
    assert thick_share("thin") < 0.05 < 0.9 < thick_share("mixed")


def test_holes_are_open() -> None:
    assert open_share("holes") > 0.4 > 0.2 > open_share("mixed")


def test_occlusion_hides() -> None:
    assert hidden_share("occlusion") > 1.6 * hidden_share("mixed")


def test_speeds_spread() -> None:
    wide, usual = speeds("speed"), speeds("mixed")
    # Subpixel motion is still there, while twice as many pixels and more are fast.
    assert (wide < 1).mean() > 0.01
    assert np.percentile(wide, 95) > 1.8 * np.percentile(usual, 95)
    assert (wide > 40).mean() > 2 * (usual > 40).mean()
    assert wide.max() < 2 * math.hypot(160, 160)


def test_small_is_small() -> None:
    moved = [4 * float(np.hypot(*truth(seed, "small").flow_ab).max()) for seed in range(24)]
    assert 1 < np.median(moved) < max(moved) < 3
    assert flat_share("small") > flat_share("mixed") + 0.1
