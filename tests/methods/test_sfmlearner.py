"""SfMLearner: its size, its parts by themselves, the definition of its loss, and where the loss is least."""

import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from egoflow.config import with_settings
from egoflow.errors import ConfigError
from egoflow.geometry.camera import Camera
from egoflow.geometry.se3 import SE3
from egoflow.methods.sfmlearner import Config, SfMLearner
from egoflow.registry import load_preset
from egoflow.training.checkpoint import State, load_run, save
from egoflow.types import Clip, Prediction, TwoView
from egoflow.worlds.base import load_world

HEIGHT, WIDTH = 64, 192


def preset(name: str) -> SfMLearner:
    return SfMLearner(load_preset(f"sfmlearner:{name}")[1].config)


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("config", "motion"), [
    (Config(), 3_340_388), (Config(masks=False), 1_590_668), (Config(frames=5), 3_352_504),
    (Config(frames=5, masks=False), 1_598_456)])
def test_parameter_counts(config: Config, motion: int) -> None:
    method = SfMLearner(config)
    assert parameters(method.depth_net) == 31_596_900
    assert parameters(method.motion_net) == motion
    assert parameters(method) == 31_596_900 + motion


@pytest.mark.parametrize(("name", "frames", "motion"), [
    ("kitti", 3, 3_340_388), ("cityscapes", 3, 3_340_388), ("kitti_odometry", 5, 3_352_504)])
def test_paper_presets_have_the_papers_networks(name: str, frames: int, motion: int) -> None:
    method = preset(name)
    assert parameters(method) == 31_596_900 + motion
    assert (method.clip_length, method.target) == (frames, frames // 2)
    assert load_preset(f"sfmlearner:{name}")[1].start == "none"


def test_the_tiny_preset_is_tiny_and_starts_with_two_views() -> None:
    assert parameters(preset("tiny")) < 3e6
    assert load_preset("sfmlearner:tiny")[1].start == "two_view"


@torch.no_grad()
def test_depth_and_motion_work_without_each_other(tmp_path: Path) -> None:
    _, run = load_preset("sfmlearner:tiny")
    save(tmp_path / "last.safetensors", run, preset("tiny"), State())
    images = torch.rand(2, 3, 3, 32, 48)
    clip = Clip(images=images, camera=Camera.create(40, 40, 23.5, 15.5, height=32, width=48).repeated(2),
                time_s=torch.zeros(2, 3), target=1)
    whole = load_run(tmp_path)[1].predict(clip)
    depth_only, motion_only = (load_run(tmp_path)[1] for _ in range(2))
    assert isinstance(depth_only, SfMLearner)
    assert isinstance(motion_only, SfMLearner)
    del depth_only.motion_net, motion_only.depth_net
    for mine, theirs in zip(depth_only.depth(images[:, 1]), whole.inv_depth[1], strict=True):
        assert torch.equal(mine, theirs)
    motion, logits = motion_only.motion(images[:, 1], images[:, [0, 2]])
    assert logits == []
    for i, source in enumerate((0, 2)):
        assert torch.equal(motion.R[:, i], whole.motion[1, source].R)
        assert torch.equal(motion.t[:, i], whole.motion[1, source].t)


@torch.no_grad()
def test_each_source_has_its_own_mask_and_motion() -> None:
    method, images = built(Config()), torch.rand(1, 3, 3, 32, 48)
    clip = Clip(images=images, camera=Camera.create(40, 40, 23.5, 15.5, height=32, width=48), time_s=torch.zeros(1, 3),
                target=1)
    vectors, logits = method.motion_net(images[:, 1], images[:, [0, 2]])
    prediction = method.predict(clip)
    for i, source in enumerate((0, 2)):
        for level, mask in zip(logits, prediction.weight[1, source], strict=True):
            assert torch.equal(mask, level[:, i:i + 1].sigmoid())
        assert torch.equal(prediction.motion[1, source].t, vectors[:, i, :3])
    assert not torch.equal(logits[0][:, 0], logits[0][:, 1])


# The definition of the loss.

def grey_clip(*values: float) -> Clip:
    """Return a clip of uniform frames; the middle one is the target."""
    images = torch.stack([torch.full((3, 32, 48), v) for v in values])[None]
    return Clip(images=images, camera=Camera.create(40, 40, 23.5, 15.5, height=32, width=48),
                time_s=torch.zeros(1, len(values)), target=len(values) // 2)


def flat_prediction(*, sources: tuple[int, ...] = (0, 2), target: int = 1, weight: float | None = None) -> Prediction:
    """Return a plane at depth 10 seen by a camera that stands still."""
    sizes = [(math.ceil(32 / 2**s), math.ceil(48 / 2**s)) for s in range(4)]
    masks = {} if weight is None else {
        (target, s): [torch.full((1, 1, *size), weight) for size in sizes] for s in sources}
    return Prediction(inv_depth={target: [torch.full((1, 1, *size), 0.1) for size in sizes]}, weight=masks,
                      motion={(target, s): SE3.identity(1) for s in sources})


def values(config: Config, clip: Clip, prediction: Prediction) -> dict[str, float]:
    """Return the terms, weighted, of a method whose networks are not asked."""
    with torch.no_grad():
        terms = built(config).losses(clip, prediction, 1.0)
    return {name: weight * value.item() for name, (weight, value) in terms.items()}


@cache
def built(config: Config) -> SfMLearner:
    return SfMLearner(config)


def test_photometric_error_is_summed_over_levels_and_sources() -> None:
    found = values(Config(masks=False), grey_clip(0.5, 0.2, 0.6), flat_prediction())
    assert found == {"loss/photometric": pytest.approx(4 * (0.3 + 0.4), rel=1e-5), "loss/smoothness": 0.0}
    five = values(Config(frames=5, masks=False), grey_clip(0.5, 0.4, 0.2, 0.3, 0.6),
                  flat_prediction(sources=(0, 1, 3, 4), target=2))
    assert five["loss/photometric"] == pytest.approx(4 * (0.3 + 0.2 + 0.1 + 0.4), rel=1e-5)


def test_masks_discount_the_error_and_cost_their_cross_entropy() -> None:
    found = values(Config(), grey_clip(0.5, 0.2, 0.6), flat_prediction(weight=0.5))
    assert found["loss/photometric"] == pytest.approx(4 * 0.5 * (0.3 + 0.4), rel=1e-5)
    assert found["loss/explainability"] == pytest.approx(0.2 * 4 * 2 * math.log(2), rel=1e-5)
    assert values(Config(), grey_clip(0.2, 0.2, 0.2), flat_prediction(weight=1.0))["loss/explainability"] == 0


@pytest.mark.parametrize(("smoothness", "curved"), [
    ("second_order_depth", "depth"), ("second_order_inv_depth", "inverse")])
def test_smoothness_is_of_second_order_and_halves_per_level(smoothness: str, curved: str) -> None:
    """x^2 / 1000 has the second difference 0.002: 0.5 * 0.002 * (1 + 1/2 + 1/4 + 1/8)."""
    prediction, clip = flat_prediction(), grey_clip(0.2, 0.2, 0.2)
    shapes = [level.shape for level in prediction.inv_depth[1]]
    levels = [1 + torch.arange(shape[-1]).square().expand(shape) / 1000 for shape in shapes]
    inverse = [1 / level if curved == "depth" else level for level in levels]
    found = values(Config(masks=False, smoothness=smoothness), clip, replace(prediction, inv_depth={1: inverse}))  # type: ignore[arg-type]
    assert found["loss/smoothness"] == pytest.approx(0.5 * 0.002 * 1.875, rel=1e-3)
    # A ramp is smooth.
    ramp = [torch.arange(shape[-1]).add(10.0).expand(shape) for shape in shapes]
    flat = replace(prediction, inv_depth={1: [1 / r if curved == "depth" else r for r in ramp]})
    assert values(Config(masks=False, smoothness=smoothness), clip, flat)["loss/smoothness"] < 1e-4  # type: ignore[arg-type]


def test_pixels_that_leave_the_image_do_not_count() -> None:
    """Half of the pixels see nothing of the source; the error of the rest is what is reported."""
    prediction = flat_prediction()
    aside = SE3(torch.eye(3)[None], torch.tensor([[6.0, 0.0, 0.0]]))  # 6 m at 10 m and 40 px: 24 of 48 columns.
    moved = replace(prediction, motion={(1, 0): aside, (1, 2): aside})
    found = values(Config(masks=False), grey_clip(0.5, 0.2, 0.6), moved)
    assert found["loss/photometric"] == pytest.approx(4 * 0.7, rel=1e-4)
    behind = SE3(torch.eye(3)[None], torch.tensor([[0.0, 0.0, -20.0]]))
    nothing = replace(prediction, motion={(1, 0): behind, (1, 2): behind})
    assert values(Config(masks=False), grey_clip(0.5, 0.2, 0.6), nothing)["loss/photometric"] == 0


def test_what_the_start_calls_unusable_does_not_count() -> None:
    clip = grey_clip(0.5, 0.2, 0.6)
    images = clip.images.clone()
    images[:, 1, :, :, :16] = 1.0
    usable = torch.ones(1, 1, 32, 48, dtype=torch.bool)
    usable[..., :16] = False
    view = TwoView(flow_ab=torch.zeros(1, 2, 32, 48), usable=usable, b_from_a=SE3.identity(1), weight=torch.ones(1))
    clip = replace(clip, images=images, start={(1, 0): view, (1, 2): view})
    assert values(Config(masks=False), clip, flat_prediction())["loss/photometric"] == pytest.approx(4 * 0.7, rel=1e-4)


# Where the loss is least, on a rendered street.

@cache
def street() -> tuple[Clip, Prediction]:
    """Return three frames of the drive and their true depth and motion, as a prediction."""
    world = load_world("drive", seed=3, frames=8, height=HEIGHT, width=WIDTH, movers=0)
    forward, back = world.pair_truth(4, 5), world.pair_truth(4, 3)
    depth = forward.depth_a.clamp_max(200.0)
    levels = [torch.nn.functional.interpolate(1 / depth, scale_factor=0.5**s, mode="area") for s in range(4)]
    motion = {(1, s): SE3(t.b_from_a.R.reshape(1, 3, 3), t.b_from_a.t.reshape(1, 3)).to(torch.float32)
              for s, t in ((2, forward), (0, back))}
    clip = Clip(images=world.colours([3, 4, 5])[None], camera=world.camera, time_s=torch.zeros(1, 3), target=1)
    return clip, Prediction(inv_depth={1: levels}, motion=motion)


def photometric(prediction: Prediction, *, config: Config | None = None) -> float:
    return values(config or Config(masks=False), street()[0], prediction)["loss/photometric"]


@pytest.mark.parametrize("ssim", [0.0, 0.5])
@pytest.mark.parametrize("axis", range(6))
def test_loss_is_least_at_the_true_motion(axis: int, ssim: float) -> None:
    """0.3 m or 0.01 rad away, either way, costs more; so does twice as far."""
    config, (_, truth) = Config(masks=False, ssim_weight=ssim), street()
    losses = {}
    for step in (-2, -1, 0, 1, 2):
        twist = torch.zeros(1, 6)
        twist[0, axis] = step * (0.3 if axis < 3 else 0.01)
        losses[step] = photometric(replace(truth, motion={p: SE3.exp(twist) @ m for p, m in truth.motion.items()}),
                                   config=config)
    assert losses[0] < 0.95 * min(losses[-1], losses[1])
    assert losses[-2] > losses[-1]
    assert losses[2] > losses[1]


def scaled(prediction: Prediction, factor: float | Tensor) -> Prediction:
    return replace(prediction, inv_depth={1: [level / factor for level in prediction.inv_depth[1]]})


def test_loss_has_a_basin_at_the_true_depth() -> None:
    """Depth 0.8 to 1.25 times too large with the true motion: monotone on both sides of 1."""
    losses = [photometric(scaled(street()[1], factor)) for factor in (0.8, 0.9, 1.0, 1.1, 1.25)]
    assert losses[0] > losses[1] > losses[2] < losses[3] < losses[4]


def test_loss_sees_a_reversed_motion_and_a_constant_depth() -> None:
    clip, truth = street()
    at_truth = photometric(truth)
    reversed_ = replace(truth, motion={pair: m.inverse() for pair, m in truth.motion.items()})
    mean = truth.inv_depth[1][0].mean()
    constant = replace(truth, inv_depth={1: [torch.full_like(level, float(mean)) for level in truth.inv_depth[1]]})
    assert photometric(reversed_) > 1.5 * at_truth
    assert photometric(constant) > 1.2 * at_truth
    # Depth and translation share one unknown scale.
    both = replace(scaled(truth, 3.0), motion={pair: m.scaled(3.0) for pair, m in truth.motion.items()})
    assert photometric(both) == pytest.approx(at_truth, rel=1e-3)
    assert clip.sources == (0, 2)


@pytest.mark.parametrize("setting", ["config.masks=true", "config.batch_norm=true"])
def test_what_the_tiny_networks_lack_is_refused(setting: str) -> None:
    entry, run = load_preset("sfmlearner:tiny")
    with pytest.raises(ConfigError, match="tiny networks"):
        entry.method_type(with_settings(run, [setting]).config)
