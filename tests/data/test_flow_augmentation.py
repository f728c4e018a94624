"""Augmentation of flow clips: a smooth texture that an affine motion carries, whose flow is known at every point."""

import math
from collections.abc import Callable
from dataclasses import replace

import pydantic
import pytest
import torch
from torch import Tensor

from egoflow.config import Augment, DataConfig, Run, run_from_json, run_to_json, with_settings
from egoflow.data.affine import affine, affine_settings, drawn_affine, new_from_old
from egoflow.data.clips import ClipDataset
from egoflow.data.disturbance import Box, drawn_boxes, erased
from egoflow.data.transforms import augmented, crop, flip, recolour, scale_crop
from egoflow.data.two_view_cache import TwoViewCache
from egoflow.errors import ConfigError
from egoflow.geometry.camera import Camera
from egoflow.geometry.flow import backward_warp, flow_from_pixels, pixels_from_flow
from egoflow.geometry.pixels import inside_image, pixel_grid
from egoflow.geometry.se3 import SE3
from egoflow.registry import load_method
from egoflow.training.session import make_dataset
from egoflow.types import Clip, Truth
from egoflow.worlds.base import load_world

HEIGHT, WIDTH = 96, 128
CENTRE = ((WIDTH - 1) / 2, (HEIGHT - 1) / 2)
MOTION = new_from_old(angle_deg=4, zoom=(1.05, 1.05), shift=(3, -2), centre=CENTRE)
"""The affine motion that carries the texture from frame 0 to frame 1."""
FULL = Augment(flip=True, flip_vertical=True, zoom=(0.9, 2.0), stretch=0.2, rotate_deg=17, translate=0.2,
               relative_zoom=0.03, relative_rotate_deg=5, relative_translate=0.03)


def _mapped(xy: Tensor, matrix: Tensor) -> Tensor:
    return xy @ matrix[:2, :2].T + matrix[:2, 2]


def _texture(xy: Tensor) -> Tensor:
    """Return colours [1, 3, H, W] that are smooth in x and y, a period of about 25 pixels."""
    x, y = xy.unbind(-1)
    waves = [(0.26 * x + i).sin() + (0.23 * y - 0.08 * x + 2 * i).cos() for i in range(3)]
    return 0.5 + 0.2 * torch.stack(waves)[None]


def _clip(*, dtype: torch.dtype = torch.float64) -> Clip:
    grid = pixel_grid(HEIGHT, WIDTH, dtype=torch.float64)
    back = torch.linalg.inv(MOTION)
    ends = {(0, 1): _mapped(grid, MOTION)[None], (1, 0): _mapped(grid, back)[None]}
    images = torch.stack((_texture(grid), _texture(_mapped(grid, back))), dim=1)
    truth = Truth(flow={k: flow_from_pixels(v).to(dtype) for k, v in ends.items()},
                  valid_flow={k: torch.ones(1, 1, HEIGHT, WIDTH, dtype=torch.bool) for k in ends},
                  visible={k: inside_image(v, height=HEIGHT, width=WIDTH) for k, v in ends.items()})
    return Clip(images=images.to(dtype), camera=Camera.create(90, 90, 63.5, 47.5, height=HEIGHT, width=WIDTH), target=0,
                time_s=torch.tensor([[0.0, 0.1]], dtype=torch.float64), key=("texture/0",), truth=truth)


def _truth(clip: Clip) -> Truth:
    assert clip.truth is not None
    return clip.truth


def _warp_error(clip: Clip, a: int, b: int) -> float:
    """Return the mean difference of frame a to frame b warped by the true flow, where the truth says it is seen."""
    truth = _truth(clip)
    warped, _ = backward_warp(clip.images[:, b], truth.flow[a, b])
    use = (truth.visible[a, b] & truth.valid_flow[a, b]).expand_as(warped)
    assert float(use.float().mean()) > 0.05
    return float((warped - clip.images[:, a]).abs()[use].mean())


def _still_error(clip: Clip) -> float:
    return float((clip.images[:, 0] - clip.images[:, 1]).abs().mean())


def _constant(x: float, y: float, *, size: int = 9) -> Clip:
    """Return a square clip of constant flow."""
    flow = torch.tensor([x, y], dtype=torch.float64).view(1, 2, 1, 1).expand(1, 2, size, size).clone()
    known = torch.ones(1, 1, size, size, dtype=torch.bool)
    images = torch.arange(size * size, dtype=torch.float64).view(1, 1, 1, size, size).repeat(1, 2, 3, 1, 1) / size**2
    return Clip(images=images, camera=Camera.create(8, 8, 4, 4, height=size, width=size), target=0,
                time_s=torch.tensor([[0.0, 0.1]]),
                truth=Truth(flow={(0, 1): flow}, valid_flow={(0, 1): known}, visible={(0, 1): known}))


def _everywhere(matrix: Tensor) -> Tensor:
    return torch.stack((matrix, matrix))


def test_a_quarter_turn_takes_x_to_y() -> None:
    """Clockwise on the screen, as rotations about the viewing axis (docs/conventions.md, 12)."""
    clip = affine(_constant(1, 0), _everywhere(new_from_old(angle_deg=90, centre=(4, 4))))
    flow = _truth(clip).flow[0, 1]
    torch.testing.assert_close(flow, torch.tensor([0.0, 1.0], dtype=torch.float64).view(1, 2, 1, 1).expand_as(flow))
    torch.testing.assert_close(clip.images, _constant(1, 0).images.rot90(-1, (-2, -1)))
    assert bool(_truth(clip).valid_flow[0, 1].all())


@pytest.mark.parametrize(("matrix", "expected"), [
    (new_from_old(zoom=(2, 2), centre=(4, 4)), (2.0, -1.0)),
    (new_from_old(zoom=(2, 0.5), centre=(1, 7)), (2.0, -0.25)),
    (new_from_old(shift=(3, -2)), (1.0, -0.5)),
    (new_from_old(angle_deg=180, centre=(4, 4)), (-1.0, 0.5)),
])
def test_common_changes_of_a_constant_flow(matrix: Tensor, expected: tuple[float, float]) -> None:
    flow = _truth(affine(_constant(1, -0.5), _everywhere(matrix))).flow[0, 1]
    torch.testing.assert_close(flow, torch.tensor(expected, dtype=torch.float64).view(1, 2, 1, 1).expand_as(flow))


@pytest.mark.parametrize("step", [new_from_old(shift=(2, -1)), new_from_old(zoom=(1.5, 1.5), centre=(4, 4)),
                                  new_from_old(angle_deg=30, centre=(4, 4))])
def test_relative_motion_adds_to_the_flow(step: Tensor) -> None:
    """f'(x') = B (x + f) - x' where frame 0 stays, x' = x."""
    clip = _constant(1, -0.5)
    flow = _truth(affine(clip, torch.stack((torch.eye(3, dtype=torch.float64), step)))).flow[0, 1]
    grid = pixel_grid(9, 9, dtype=torch.float64)
    expected = _mapped(grid + torch.tensor([1, -0.5], dtype=torch.float64), step) - grid
    torch.testing.assert_close(flow[0].permute(1, 2, 0), expected)


def test_what_comes_from_or_goes_outside_is_marked() -> None:
    truth = _truth(affine(_constant(2, 0), _everywhere(new_from_old(shift=(3, 0)))))
    # Columns 0 to 2 come from outside; old columns from 7 on leave the old image, new columns from 7 on the new one.
    assert truth.valid_flow[0, 1][0, 0, 4].nonzero().flatten().tolist() == [3, 4, 5, 6, 7, 8]
    assert truth.visible[0, 1][0, 0, 4].nonzero().flatten().tolist() == [3, 4, 5, 6]
    truth = _truth(affine(_constant(2, 0), _everywhere(new_from_old(shift=(-3, 0)))))
    assert truth.valid_flow[0, 1][0, 0, 4].nonzero().flatten().tolist() == [0, 1, 2, 3, 4, 5]
    # New column 4 was 7: it left the old image, though its end, 6, is in the new one.
    assert truth.visible[0, 1][0, 0, 4].nonzero().flatten().tolist() == [0, 1, 2, 3]


CHANGES: dict[str, Callable[[Clip], Clip]] = {
    "none": lambda c: c,
    "mirrored": flip,
    "upside down": lambda c: flip(c, vertical=True),
    "turned": lambda c: affine(c, _everywhere(new_from_old(angle_deg=17, centre=CENTRE))),
    "zoomed and stretched": lambda c: affine(c, _everywhere(new_from_old(zoom=(1.9, 1.6), centre=(20, 70)))),
    "shifted": lambda c: affine(c, _everywhere(new_from_old(shift=(25, -19)))),
    "relative": lambda c: affine(c, torch.stack((new_from_old(zoom=(1.2, 1.2), centre=CENTRE),
                                                 new_from_old(angle_deg=5, shift=(4, -3), zoom=(1.3, 1.3))))),
    "cut": lambda c: crop(c, top=11, left=17, height=60, width=80),
}


@pytest.mark.parametrize("name", CHANGES)
def test_photo_consistency_is_unchanged(name: str) -> None:
    clip = CHANGES[name](_clip())
    for a, b in ((0, 1), (1, 0)):
        # The texture is sampled once more, with the same small error: about 0.003 of a contrast of 0.4.
        assert _warp_error(clip, a, b) < 0.008
        assert _warp_error(clip, a, b) < 0.1 * _still_error(clip)


def test_random_changes_keep_photo_consistency() -> None:
    errors, original = [], _clip(dtype=torch.float32)
    for seed in range(40):
        clip = augmented(original, FULL, generator=torch.Generator().manual_seed(seed), crop_to=(64, 96))
        assert clip.images.shape == (1, 2, 3, 64, 96)
        assert (clip.camera.height, clip.camera.width) == (64, 96)
        assert bool((_truth(clip).visible[0, 1] <= _truth(clip).valid_flow[0, 1]).all())
        if float(_truth(clip).visible[0, 1].float().mean()) > 0.2:
            errors += [_warp_error(clip, 0, 1), _warp_error(clip, 1, 0)]
    assert len(errors) > 50
    assert max(errors) < 0.012
    assert _still_error(original) > 0.13


@pytest.mark.parametrize("name", CHANGES)
def test_true_flow_stays_its_own_inverse(name: str) -> None:
    """There and back again: the pair (1, 0) is changed on its own grid, and must undo (0, 1)."""
    truth = _truth(CHANGES[name](_clip()))
    back, _ = backward_warp(truth.flow[1, 0], truth.flow[0, 1])
    use = truth.visible[0, 1].expand_as(back)
    # Affine flow is interpolated without error; rows of unknown flow are next to what is sampled.
    known, _ = backward_warp(truth.valid_flow[1, 0].double(), truth.flow[0, 1])
    use = use & (known > 1 - 1e-12)
    assert float(use.float().mean()) > 0.2
    torch.testing.assert_close(back[use], -truth.flow[0, 1][use], atol=1e-9, rtol=0)


def test_nothing_is_changed_by_default() -> None:
    clip = _clip(dtype=torch.float32)
    same = augmented(clip, Augment(), generator=torch.Generator().manual_seed(3))
    assert torch.equal(same.images, clip.images)
    assert torch.equal(_truth(same).flow[0, 1], _truth(clip).flow[0, 1])
    assert affine_settings(Augment(flip=True, colour=0.3, noise=0.1, erase=1)) == []
    assert affine_settings(replace(Augment(), rotate_deg=3, translate=0.1)) == ["rotate_deg", "translate"]


def test_the_older_changes_are_drawn_as_before() -> None:
    """The first ten numbers of the generator: flip, scale_crop, colour (data of runs from before must not change)."""
    clip, change = _clip(), Augment(flip=True, scale_crop=0.15, colour=0.2)
    draw = torch.rand(10, generator=torch.Generator().manual_seed(1), dtype=torch.float64).tolist()
    assert draw[0] < 0.5
    changed = augmented(clip, change, generator=torch.Generator().manual_seed(1))
    expected = scale_crop(flip(clip), scale_x=1 + 0.15 * draw[1], scale_y=1 + 0.15 * draw[2], top=draw[3], left=draw[4])
    factor = [1 + 0.2 * (2 * d - 1) for d in draw[5:]]
    expected = recolour(expected, brightness=factor[0], contrast=factor[1], gamma=factor[2], saturation=factor[3],
                        hue=factor[4] - 1)
    torch.testing.assert_close(changed.images, expected.images, rtol=0, atol=0)
    # Switching the new ones on leaves them as they were.
    turned = augmented(clip, replace(change, erase=1.0), generator=torch.Generator().manual_seed(1))
    assert torch.equal(turned.images[:, 0], expected.images[:, 0])
    assert not torch.equal(turned.images[:, 1], expected.images[:, 1])


def test_the_same_seed_gives_the_same_clip() -> None:
    clip, change = _clip(dtype=torch.float32), replace(FULL, colour=0.4, asymmetric=0.5, noise=0.04, erase=0.5)
    first, again, other = (augmented(clip, change, generator=torch.Generator().manual_seed(s), crop_to=(50, 60))
                           for s in (1, 1, 2))
    assert torch.equal(first.images, again.images)
    assert torch.equal(_truth(first).flow[0, 1], _truth(again).flow[0, 1])
    assert not torch.equal(first.images, other.images)


def test_unknown_flow_may_hold_nan() -> None:
    clip = _clip(dtype=torch.float32)
    known = torch.rand(1, 1, HEIGHT, WIDTH) < 0.4
    flow = {(0, 1): torch.where(known, _truth(clip).flow[0, 1], torch.nan)}
    seen = known & _truth(clip).visible[0, 1]
    clip = replace(clip, truth=Truth(flow=flow, valid_flow={(0, 1): known}, visible={(0, 1): seen}))
    plain = replace(clip, truth=replace(_truth(clip), flow={(0, 1): torch.where(known, flow[0, 1], 0.0)}))
    for seed in range(5):
        one, other = (augmented(c, replace(FULL, erase=1.0), generator=torch.Generator().manual_seed(seed))
                      for c in (clip, plain))
        valid, seen = (getattr(_truth(one), name)[0, 1] for name in ("valid_flow", "visible"))
        assert torch.equal(valid, _truth(other).valid_flow[0, 1])
        assert torch.equal(seen, _truth(other).visible[0, 1])
        use = valid.expand(1, 2, -1, -1)
        assert bool(torch.isfinite(_truth(one).flow[0, 1][use]).all())
        assert torch.equal(_truth(one).flow[0, 1][use], _truth(other).flow[0, 1][use])


def test_sparse_flow_is_never_interpolated() -> None:
    clip = _constant(1, 0)
    known = torch.zeros(1, 1, 9, 9, dtype=torch.bool)
    known[..., 4, 4] = True
    flow = torch.where(known, torch.tensor([1.0, 0.0], dtype=torch.float64).view(1, 2, 1, 1), 100.0)
    clip = replace(clip, truth=Truth(flow={(0, 1): flow}, valid_flow={(0, 1): known}))
    truth = _truth(affine(clip, _everywhere(new_from_old(zoom=(3, 3), centre=(4, 4)))))
    assert truth.valid_flow[0, 1][0, 0].nonzero().tolist() == [[y, x] for y in (3, 4, 5) for x in (3, 4, 5)]
    use = truth.valid_flow[0, 1].expand(1, 2, 9, 9)
    torch.testing.assert_close(truth.flow[0, 1][use], torch.tensor([3.0] * 9 + [0.0] * 9, dtype=torch.float64))
    assert (0, 1) not in truth.visible


def test_draws_stay_within_their_limits() -> None:
    size = {"frames": 3, "height": HEIGHT, "width": WIDTH}
    for seed in range(50):
        draw = torch.rand(12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()
        first, second, third = drawn_affine(replace(FULL, stretch=0.0), draw=draw, **size)
        zoom = math.sqrt(float(torch.linalg.det(first[:2, :2])))
        assert 0.9 <= zoom <= 2.0
        assert abs(math.degrees(math.atan2(float(first[1, 0]), float(first[0, 0])))) <= 17
        # What is relative repeats from frame to frame.
        step = second @ torch.linalg.inv(first)
        torch.testing.assert_close(third @ torch.linalg.inv(second), step)
        assert 1 / 1.03 <= math.sqrt(float(torch.linalg.det(step[:2, :2]))) <= 1.03
        assert abs(math.degrees(math.atan2(float(step[1, 0]), float(step[0, 0])))) <= 5
        middle = torch.tensor(CENTRE, dtype=torch.float64)
        assert float((_mapped(middle, step) - middle).abs().max()) <= 0.03 * WIDTH
        # Only the zoom and the shift move the centre: a zoom of z about a point of the image by |z - 1| half a side.
        moved = (_mapped(middle, first) - middle).abs()
        assert float(moved.max()) <= 0.2 * WIDTH + abs(zoom - 1) * math.hypot(*CENTRE) + 1e-9
    neutral = drawn_affine(Augment(), draw=[0.7] * 12, **size)
    torch.testing.assert_close(neutral, torch.eye(3, dtype=torch.float64).repeat(3, 1, 1))
    high = drawn_affine(Augment(zoom=(0.5, 2.0), stretch=1.0), draw=[0.5, 0.5, 0.5, 1.0, 0.0, *[0.5] * 7], **size)[0]
    torch.testing.assert_close(high.diagonal(), torch.tensor([2.0, 0.5, 1.0], dtype=torch.float64))


def test_a_tenth_is_upside_down() -> None:
    clip = _clip()
    changed = [augmented(clip, Augment(flip_vertical=True), generator=torch.Generator().manual_seed(s))
               for s in range(300)]
    mirrored = [c for c in changed if not torch.equal(c.images, clip.images)]
    assert 15 < len(mirrored) < 50
    torch.testing.assert_close(mirrored[0].images, clip.images.flip(-2))
    torch.testing.assert_close(_truth(mirrored[0]).flow[0, 1][:, 1], -_truth(clip).flow[0, 1][:, 1].flip(-2))
    torch.testing.assert_close(_truth(mirrored[0]).flow[0, 1][:, 0], _truth(clip).flow[0, 1][:, 0].flip(-2))


def test_upside_down_is_mirrored_and_turned_by_half() -> None:
    """Of camera, motion and depth too: turned by half a turn, a picture mirrored in x is one mirrored in y."""
    motion = SE3.exp(torch.tensor([[0.3, -0.2, 0.5, 0.05, -0.07, 0.1]], dtype=torch.float64))
    clip = _clip()
    world = SE3.stack([SE3.identity(dtype=torch.float64), motion.inverse()[0]])[None]
    clip = replace(clip, truth=replace(_truth(clip), world_from_cam=world))
    one, other = flip(clip, vertical=True), flip(clip)
    torch.testing.assert_close(one.images, other.images.rot90(2, (-2, -1)))
    assert float(one.camera.cy) == pytest.approx(HEIGHT - 1 - float(clip.camera.cy))
    half = SE3.exp(torch.tensor([0, 0, 0, 0, 0, math.pi], dtype=torch.float64))
    seen, expected = (_truth(c).world_from_cam for c in (one, other))
    assert seen is not None
    assert expected is not None
    turned = half @ expected[0, 1] @ half.inverse()
    torch.testing.assert_close(seen[0, 1].R, turned.R)
    torch.testing.assert_close(seen[0, 1].t, turned.t)


def test_colours_of_each_frame_on_its_own() -> None:
    images = torch.full((1, 2, 3, HEIGHT, WIDTH), 0.4, dtype=torch.float64)
    clip = replace(_clip(), images=images)
    differ = 0
    for seed in range(100):
        change = Augment(colour=0.3, asymmetric=0.2)
        out = augmented(clip, change, generator=torch.Generator().manual_seed(seed)).images
        same = augmented(clip, replace(change, asymmetric=0), generator=torch.Generator().manual_seed(seed)).images
        differ += int(not torch.equal(out[:, 0], out[:, 1]))
        assert torch.equal(same[:, 0], same[:, 1])
    assert 8 < differ < 35


def test_noise_has_a_drawn_deviation() -> None:
    clip = replace(_clip(), images=torch.full((1, 2, 3, HEIGHT, WIDTH), 0.5))
    deviations = []
    for seed in range(30):
        out = augmented(clip, Augment(noise=0.04), generator=torch.Generator().manual_seed(seed)).images - 0.5
        deviations.append(float(out.std()))
        assert abs(float(out.mean())) < 1e-3
        assert abs(float((out[:, 0] * out[:, 1]).mean())) < 1e-4
    assert 0 < min(deviations) < 0.01
    assert 0.03 < max(deviations) <= 0.0405


def test_erased_rectangles_take_the_mean_and_hide() -> None:
    clip = _clip()
    box = Box(frame=1, top=30, left=40, height=20, width=25)
    out = erased(clip, [box])
    assert torch.equal(out.images[:, 0], clip.images[:, 0])
    inside = out.images[0, 1, :, 30:50, 40:65]
    torch.testing.assert_close(inside, clip.images[0, 1].mean((1, 2))[:, None, None].expand_as(inside))
    end = pixels_from_flow(_truth(clip).flow[0, 1])[0]
    deep = ((end - torch.tensor([52.0, 39.5])).abs() <= torch.tensor([12.0, 9.5])).all(-1)
    seen, before = _truth(out).visible[0, 1][0, 0], _truth(clip).visible[0, 1][0, 0]
    assert not bool(seen[deep].any())
    # Only what ends in the box is hidden, a rim of one pixel included.
    rim = ((end - torch.tensor([52.0, 39.5])).abs() <= torch.tensor([13.0, 10.5])).all(-1)
    assert torch.equal(seen[~rim], before[~rim])
    assert not bool(_truth(out).visible[1, 0][0, 0, 30:50, 40:65].any())
    assert bool(_truth(out).valid_flow[0, 1].all())


def test_rectangles_are_drawn_as_published() -> None:
    clip = replace(_clip(), images=torch.zeros(1, 3, 3, HEIGHT, WIDTH), time_s=torch.zeros(1, 3))
    counts, boxes = [], []
    for seed in range(300):
        draw = torch.rand(30, generator=torch.Generator().manual_seed(seed)).tolist()
        found = drawn_boxes(clip, 0.5, draw=draw)
        counts.append(sum(box.frame == 1 for box in found))
        boxes += found
    assert {box.frame for box in boxes} == {1, 2}
    assert 0.4 < counts.count(0) / 300 < 0.6
    assert 0.18 < counts.count(2) / 300 < 0.32
    # A quarter of 384 px: 50 to 100 px become 12.5 to 25.
    sides = [side for box in boxes for side in (box.height, box.width)]
    assert 12 <= min(sides) <= 14 < 23 <= max(sides) <= 25
    assert all(0 <= box.top < HEIGHT and 0 <= box.left < WIDTH for box in boxes)


def test_a_data_set_cuts_augmented_clips_alone() -> None:
    world = load_world("boxes", seed=0, frames=3, height=32, width=48)
    dataset = ClipDataset([world], length=2, target=0, height=32, width=48, crop=(20, 31), with_truth=True)
    whole, cut, again = dataset[0], dataset[0, 7], dataset[0, 7]
    assert whole.images.shape[-2:] == (32, 48)
    assert cut.images.shape[-2:] == _truth(cut).flow[0, 1].shape[-2:] == (20, 31)
    assert torch.equal(cut.images, again.images)
    corners = {(int(x), int(y)) for seed in range(60) for x, y in [_corner(dataset[0, seed], whole)]}
    assert {x for x, _ in corners} > {0, 17}
    assert {y for _, y in corners} == set(range(13))
    with pytest.raises(ConfigError, match="data.crop 33x31 is larger than the clips of 32x48"):
        ClipDataset([world], length=2, target=0, height=32, width=48, crop=(33, 31))


def _corner(cut: Clip, whole: Clip) -> tuple[float, float]:
    """Return where the window of a clip begins in the whole one, by its camera."""
    return round(float(whole.camera.cx - cut.camera.cx)), round(float(whole.camera.cy - cut.camera.cy))


def test_depth_and_motion_are_left_out_of_a_turned_clip() -> None:
    world = load_world("boxes", seed=0, frames=3, height=32, width=48)
    dataset = ClipDataset([world], length=2, target=0, height=32, width=48, with_truth=True,
                          augment=Augment(rotate_deg=5))
    before, after = _truth(dataset[0]), _truth(dataset[0, 1])
    assert before.depth is not None
    assert before.static is not None
    assert after.depth is None
    assert after.world_from_cam is None
    assert after.static is not None
    assert after.static.shape == before.static.shape


def test_methods_of_cameras_refuse_affine_changes() -> None:
    world = load_world("boxes", seed=0, frames=6, height=32, width=48)
    config = load_method("sfmlearner").config_type()
    run = Run(method="sfmlearner", config=config, data=DataConfig(height=32, width=48))
    make_dataset(with_settings(run, ["data.augment.flip_vertical=true", "data.augment.noise=0.1"]), [world], cache=None)
    with pytest.raises(ConfigError, match="data.augment.zoom moves pixels as no camera does, and sfmlearner learns"):
        make_dataset(with_settings(run, ["data.augment.zoom=[1, 2]"]), [world], cache=None)
    with pytest.raises(ConfigError, match="data.augment.rotate_deg .* two-view start"):
        ClipDataset([world], length=2, target=0, height=32, width=48, augment=Augment(rotate_deg=1),
                    start=TwoViewCache(height=32, width=48, folder=None))


def test_settings_are_checked_and_saved() -> None:
    config = load_method("sfmlearner").config_type()
    run = Run(method="sfmlearner", config=config)
    run = with_settings(run, ["data.crop=[320, 448]", "data.augment.zoom=[0.9, 2]", "data.augment.erase=0.5"])
    assert run.data.crop == (320, 448)
    assert run_from_json(run_to_json(run), type(config)) == run
    for setting in ("data.crop=[0, 4]", "data.augment.zoom=[0, 2]", "data.augment.erase=1.5", "data.augment.noise=-1",
                    "data.augment.translate=1", "data.augment.rotate_deg=.inf"):
        with pytest.raises(ConfigError, match=setting.partition("=")[0]):
            with_settings(run, [setting])
    assert pydantic.TypeAdapter(Augment).validate_python({}) == Augment()
