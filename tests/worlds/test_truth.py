"""A rendered pair obeys the geometry: rigid flow, warping, occlusion, motion of its own."""

import math

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from egoflow.geometry import depth as depth_maps
from egoflow.geometry.camera import Camera
from egoflow.geometry.flow import backward_warp, pixels_from_flow, reproject, rigid_flow, scene_flow
from egoflow.geometry.pixels import sample
from egoflow.geometry.se3 import SE3
from egoflow.losses.masks import depth_test_visible, forward_backward_visible, in_view
from egoflow.worlds.base import World, load_world
from egoflow.worlds.paths import constant
from egoflow.worlds.scene import Kind, Light, Scene, Solid, upright
from egoflow.worlds.shadows import in_sun
from egoflow.worlds.textures import Texture
from egoflow.worlds.truth import PairTruth


@pytest.fixture(scope="module")
def drive() -> World:
    return load_world("drive", seed=3, frames=60, height=128, width=416)


@pytest.fixture(scope="module")
def pair(drive: World) -> PairTruth:
    return drive.pair_truth(20, 21)


@pytest.fixture(scope="module")
def images(drive: World) -> tuple[Tensor, Tensor]:
    """The two frames as a user's files hold them: 8 bits a channel."""
    first, second = (torch.from_numpy(drive.image(i)).permute(2, 0, 1)[None].float() / 255 for i in (20, 21))
    return first, second


def iou(mask: Tensor, truth: Tensor) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())


def test_true_depth_and_motion_give_the_rendered_flow(drive: World, pair: PairTruth) -> None:
    assert bool(pair.static_a.all())
    flow, in_front = rigid_flow(pair.depth_a, drive.camera, pair.b_from_a)
    error = (flow - pair.flow_ab).norm(dim=1, keepdim=True)
    assert in_front[pair.visible_ab].all()
    assert 0.7 < pair.visible_ab.float().mean() < 0.99
    assert pair.flow_ab.norm(dim=1, keepdim=True)[pair.visible_ab].max() > 10
    assert error[pair.visible_ab].max() < 1e-3
    back, _ = rigid_flow(pair.depth_b, drive.camera, pair.b_from_a.inverse())
    assert (back - pair.flow_ba).norm(dim=1, keepdim=True)[pair.visible_ba].max() < 1e-3


def smooth_surfaces(pair: PairTruth) -> Tensor:
    """Pixels whose 5x5 neighbours lie on the same smooth surface."""
    spread = F.max_pool2d(pair.depth_a, 5, 1, 2) / -F.max_pool2d(-pair.depth_a, 5, 1, 2)
    turn = F.max_pool2d(pair.normals_a, 5, 1, 2) + F.max_pool2d(-pair.normals_a, 5, 1, 2)
    return (spread < 1.15) & (turn.amax(1, keepdim=True) < 0.3) & pair.valid_depth_a


def test_warping_the_drive_by_the_truth(pair: PairTruth, images: tuple[Tensor, Tensor]) -> None:
    first, second = images
    warped, _ = backward_warp(second, pair.flow_ab)
    # Nothing moves by itself here, so no shadow does either.
    use = pair.visible_ab & smooth_surfaces(pair)
    assert use.float().mean() > 0.3
    left, before = ((image - first).abs().mean(1, keepdim=True)[use].mean() for image in (warped, second))
    assert before > 0.03
    assert left < 0.15 * before


def test_classical_flow_works_on_the_textures(pair: PairTruth, images: tuple[Tensor, Tensor]) -> None:
    grey = [cv2.cvtColor((i[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8), cv2.COLOR_RGB2GRAY)
            for i in images]
    found = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(grey[0], grey[1], None)
    error = (torch.from_numpy(found).permute(2, 0, 1)[None] - pair.flow_ab).norm(dim=1, keepdim=True)
    use = pair.visible_ab & pair.valid_depth_a
    assert pair.flow_ab.norm(dim=1, keepdim=True)[use].median() > 3
    assert error[use].median() < 0.5


def test_surfaces_have_local_contrast(pair: PairTruth, images: tuple[Tensor, Tensor]) -> None:
    grey = images[0].mean(1, keepdim=True)
    mean = F.avg_pool2d(grey, 9, 1, 4, count_include_pad=False)
    deviation = (F.avg_pool2d(grey * grey, 9, 1, 4, count_include_pad=False) - mean * mean).clamp_min(0).sqrt()
    assert (deviation[pair.valid_depth_a] > 0.02).float().mean() > 0.85
    assert deviation[~F.max_pool2d(pair.valid_depth_a.float(), 9, 1, 4).bool()].median() < 0.01


def test_a_textured_plane_warps_to_two_percent() -> None:
    world = load_world("plane", seed=6)
    pair = world.pair_truth(0, 1)
    first, second = world.colours([0, 1]).split(1)
    errors = {}
    for scale in (0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25):
        flow, _ = rigid_flow(pair.depth_a * scale, world.camera, pair.b_from_a)
        warped, inside = backward_warp(second, flow)
        errors[scale] = float((warped - first).abs().mean(1, keepdim=True)[pair.visible_ab & inside].mean())
    unwarped = float((second - first).abs().mean(1, keepdim=True)[pair.visible_ab].mean())
    assert 0.02 < unwarped < 0.06
    assert errors[1.0] < 0.02 * unwarped
    assert errors[0.8] > errors[0.9] > errors[0.95] > 3 * errors[1.0]
    assert errors[1.25] > errors[1.1] > errors[1.05] > 3 * errors[1.0]


def box_before_a_wall(*, moves: bool) -> World:
    """A box before a wall; either the camera moves sideways, or the box does."""
    textures = (Texture(low=(0.1, 0.2, 0.3), high=(0.9, 0.8, 0.7), cell=1.0), Texture(low=(0.4, 0, 0), high=(1, 1, 0)))
    wall = Solid(kind=Kind.BOX, body_from_solid=upright(0, 0, 11), size=(20.0, 20.0, 1.0), texture=0)
    box = Solid(kind=Kind.BOX, body_from_solid=upright(0, 0, 4.5), size=(0.8, 0.8, 0.5), texture=1, body=int(moves))
    scene = Scene(solids=(wall, box), textures=textures, light=Light(shadows=False),
                  motions=(lambda t: upright(8.0 * t, 0, 0),) if moves else ())
    camera = Camera.create(100.0, 100.0, 63.5, 47.5, height=96, width=128)
    path = constant((0.0 if moves else 12.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    return World("box", scene=scene, path=path, camera=camera, frames=2, samples=1, seed=0)


def occluded_by(pair: PairTruth, visible: Tensor) -> float:
    """IoU of the occluded pixels that a mask finds with the caster's, among those that stay in view."""
    view = in_view(pair.flow_ab)
    return iou(~visible & view, ~pair.visible_ab & view)


def by_depth(pair: PairTruth) -> Tensor:
    xy, z, _ = reproject(pair.depth_a, pair.camera, pair.b_from_a)
    return depth_test_visible(z, pair.depth_b, xy)


def test_occlusion_masks_before_a_wall() -> None:
    pair = box_before_a_wall(moves=False).pair_truth(0, 1)
    hidden = ~pair.visible_ab & in_view(pair.flow_ab)
    # The box front is 40 px wide and 4 m away; it moves 30 px to the left, the wall behind it 12 px.
    assert int(hidden[0, 0, 48].sum()) == 18
    assert occluded_by(pair, by_depth(pair)) > 0.9
    assert occluded_by(pair, forward_backward_visible(pair.flow_ab, pair.flow_ba)) > 0.9


def test_occlusion_by_a_moving_box() -> None:
    pair = box_before_a_wall(moves=True).pair_truth(0, 1)
    # The strip that the box (40 px, by 20 px to the right) newly covers.
    assert int((~pair.visible_ab)[0, 0, 48].sum()) == 20
    assert occluded_by(pair, forward_backward_visible(pair.flow_ab, pair.flow_ba)) > 0.9


def test_masks_on_the_drive_keep_what_is_visible(pair: PairTruth) -> None:
    for mask in (by_depth(pair), forward_backward_visible(pair.flow_ab, pair.flow_ba)):
        assert iou(mask, pair.visible_ab) > 0.95
        assert occluded_by(pair, mask) > 0.4


def test_movers_have_motion_of_their_own() -> None:
    world = box_before_a_wall(moves=True)
    pair = world.pair_truth(0, 1)
    on_box = ~pair.static_a
    assert torch.equal(pair.mover_id_a == 1, on_box)
    assert 1500 < int(on_box.sum()) < 1700
    motion = pair.scene_flow_ab.permute(0, 2, 3, 1)
    torch.testing.assert_close(motion[on_box[:, 0]], torch.tensor([0.8, 0.0, 0.0]).expand(int(on_box.sum()), 3))
    assert motion[pair.static_a[:, 0]].abs().max() == 0
    # The same from depths and flow, by geometry's own formula.
    found, inside = scene_flow(pair.depth_a, pair.depth_b, pair.flow_ab, world.camera, pair.b_from_a)
    use = pair.visible_ab & inside & on_box
    assert (found - pair.scene_flow_ab).norm(dim=1, keepdim=True)[use].median() < 1e-3
    assert not world.truth(0).static[48, 64]


def test_moving_cars_follow_their_path() -> None:
    world = load_world("drive", seed=8, frames=40, height=96, width=320, movers=4)
    pair = world.pair_truth(10, 11)
    still, _ = rigid_flow(pair.depth_a, world.camera, pair.b_from_a)
    error = (still - pair.flow_ab).norm(dim=1, keepdim=True)
    assert error[pair.static_a & pair.visible_ab].max() < 1e-3
    moving = pair.mover_id_a == 1
    assert int(moving.sum()) > 100
    # The car ahead drives at 5 to 12 m/s, so it moves by 0.3 to 1.4 m between frames, along the street.
    speed = pair.scene_flow_ab.norm(dim=1, keepdim=True)[moving]
    assert speed.min() > 0.3
    assert speed.max() < 1.4
    assert (pair.scene_flow_ab[:, 2:][moving] > 0.2).all()


def test_normals_are_those_of_the_depth(drive: World, pair: PairTruth) -> None:
    found = depth_maps.normals(pair.depth_a, drive.camera)
    cosine = (found * pair.normals_a).sum(1, keepdim=True)
    assert cosine[smooth_surfaces(pair)].median() > 0.999
    assert pair.normals_a.norm(dim=1, keepdim=True)[pair.valid_depth_a].sub(1).abs().max() < 1e-5


def test_the_sky_is_at_infinity(drive: World, pair: PairTruth) -> None:
    sky = ~pair.valid_depth_a
    assert sky.float().mean() > 0.01
    rotation = SE3(pair.b_from_a.R, torch.zeros_like(pair.b_from_a.t))
    flow, _ = rigid_flow(torch.full_like(pair.depth_a, 5.0), drive.camera, rotation)
    assert (flow - pair.flow_ab).norm(dim=1, keepdim=True)[sky].max() < 1e-3
    there, _ = sample((~pair.valid_depth_b).float(), pixels_from_flow(pair.flow_ab), mode="nearest")
    assert there[sky & pair.visible_ab].mean() > 0.97


def test_the_flow_back_and_forth_cancels(pair: PairTruth) -> None:
    back, _ = backward_warp(pair.flow_ba, pair.flow_ab)
    error = (pair.flow_ab + back).norm(dim=1, keepdim=True)
    assert error[pair.visible_ab & smooth_surfaces(pair)].median() < 0.02


def test_a_ball_throws_a_round_shadow() -> None:
    ground = Solid(kind=Kind.GROUND, body_from_solid=upright(0, 2, 0), size=(math.inf, 0, math.inf), texture=0)
    ball = Solid(kind=Kind.ELLIPSOID, body_from_solid=upright(0.5, 0, 8), size=(1.0, 1.0, 1.0), texture=0)
    light = Light(to_sun=(0.48, -0.64, 0.6), floor_y=2.0)
    grey = (Texture(low=(0.5, 0.5, 0.5), high=(0.5, 0.5, 0.5)),)
    camera = Camera.create(60.0, 60.0, 63.5, 31.5, height=64, width=128)
    world = World("ball", scene=Scene(solids=(ground, ball), textures=grey, light=light), path=constant((0.0,) * 6),
                  camera=camera, frames=1, samples=1, seed=0)
    from egoflow.worlds.raycast import pixel_rays

    geometry = world._geometry(0)
    rays = pixel_rays(camera, samples=1, rows=(0, 64), device=world.device, dtype=torch.float64)
    on_ground = geometry.hits.solid == 0
    lit = in_sun(geometry.view, rays, geometry.hits, facing=on_ground)
    points = camera.unproject(geometry.hits.depth.clamp_max(1e3))[0]
    to_ball = torch.tensor([0.5, 0.0, 8.0], dtype=torch.float64) - points
    sun = torch.tensor(light.to_sun, dtype=torch.float64)
    shaded = torch.linalg.cross(to_ball, sun.expand_as(to_ball)).norm(dim=-1) < 1
    assert int((shaded & on_ground[0, 0]).sum()) > 30
    assert torch.equal(lit[0, 0], on_ground[0, 0] & ~shaded)
    image = world.colours([0])[0, 0]
    assert image[shaded & on_ground[0, 0]].max() < image[~shaded & on_ground[0, 0]].min()
