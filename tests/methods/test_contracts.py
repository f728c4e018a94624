"""What every method keeps, for every preset: shapes, no peeking at the truth, gradients, repeatability, any size."""

import math
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from egoflow.config import Run, run_from_json, run_to_json
from egoflow.geometry.camera import Camera
from egoflow.geometry.se3 import SE3, rotation_exp
from egoflow.methods.base import Method
from egoflow.registry import available_methods, load_method, load_preset
from egoflow.types import Clip, LossTerms, Prediction, Truth, TwoView

THIN, MOST = 1 / 8, 10_000_000
CHEAP = {"iterations": 2, "iterations_predict": 3, "frames": 3}


@cache
def config_of(spec: str) -> Any:
    """Return the method's part of a preset, made cheap: few refinements, three frames, few channels if many.

    FlowNet 2.0 has 160 million parameters; that networks are as large as their papers' is tested where they stand.
    """
    entry, run = load_preset(spec)
    config = replace(run.config, **{name: few for name, few in CHEAP.items() if hasattr(run.config, name)})
    if not hasattr(config, "width"):
        return config
    with torch.device("meta"):
        count = sum(p.numel() for p in entry.method_type(config).parameters())
    return replace(config, width=THIN) if count > MOST else config


SPECS = [f"{name}:{preset}" for name in available_methods() for preset in load_method(name).presets]
DISTINCT = list({(spec.partition(":")[0], repr(config_of(spec))): spec for spec in SPECS}.values())
"""One preset of each set that differs only in data, schedule or width."""
STARTS = [pytest.param(spec, start, id=f"{spec}-{'two_view' if start else 'alone'}") for spec in DISTINCT
          for start in (False, True) if not start or load_preset(spec)[0].method_type.needs_camera]
"""The two-view start teaches depth and motion; methods of flow alone have none."""
SMALL = (32, 48)
SIZES = [(1, 1), (1, 9), (7, 5), (65, 130)]
SLIDE = 2
"""The pictures slide by so many pixels to the left a frame."""

every_preset = pytest.mark.parametrize("spec", SPECS)
every_network = pytest.mark.parametrize("spec", DISTINCT)
every_start = pytest.mark.parametrize(("spec", "start"), STARTS)


@cache
def built(spec: str) -> tuple[Run, Method]:
    """Return the run and its method, untrained; tests that change it make their own."""
    return load_preset(spec)[1], fresh(spec)


def fresh(spec: str, *, seed: int = 0) -> Method:
    torch.manual_seed(seed)
    return load_preset(spec)[0].method_type(config_of(spec))


def clip_for(method: Method, *, size: tuple[int, int] = SMALL, batch: int = 2, start: bool = False) -> Clip:
    """Return smooth pictures that slide, with a camera of their size for every sample, and the truth if it is needed.
    """
    height, width = size
    noise = torch.rand(batch, 3, height // 4 + 2, (width + 4 * method.clip_length) // 4 + 2)
    wide = torch.nn.functional.interpolate(noise, (height, width + SLIDE * method.clip_length), mode="bilinear")
    images = torch.stack([wide[..., SLIDE * i:SLIDE * i + width] for i in range(method.clip_length)], dim=1)
    focal = float(max(height, width))
    # Unlike cameras: a method that takes the first one for all is found out.
    x, y = (width - 1) / 2, (height - 1) / 2
    cameras = [Camera.create(focal * (1 + 0.1 * i), focal, x, y, height=height, width=width) for i in range(batch)]
    clip = Clip(images=images, camera=Camera.cat(cameras), target=method.target,
                key=tuple(f"made/{i}" for i in range(batch)),
                time_s=torch.arange(method.clip_length, dtype=torch.float64).expand(batch, -1) / 10)
    clip = replace(clip, truth=truth_of(clip)) if method.supervised else clip
    return replace(clip, start=two_view_of(clip)) if start else clip


def pairs_of(clip: Clip) -> list[tuple[int, int]]:
    """Return every ordered pair of frames."""
    count = clip.images.shape[1]
    return [(a, b) for a in range(count) for b in range(count) if a != b]


def truth_of(clip: Clip) -> Truth:
    """Return what is true of the pictures that slide, a wall at depth 2: known at 80 % of the pixels, NaN elsewhere."""
    images = clip.images
    shape = (*images.shape[:2], 1, *images.shape[-2:])
    known = torch.rand(shape) < 0.8
    x = torch.arange(shape[-1])
    truth = Truth(depth=torch.where(known, 2.0, torch.nan), valid_depth=known)
    for a, b in pairs_of(clip):
        slide = torch.tensor([SLIDE * float(a - b), 0]).view(1, 2, 1, 1).expand_as(images[:, a, :2])
        inside = (x + SLIDE * (a - b) >= 0) & (x + SLIDE * (a - b) < shape[-1])
        truth.flow[a, b] = torch.where(known[:, a], slide, torch.nan)
        truth.valid_flow[a, b] = known[:, a]
        truth.visible[a, b] = inside.expand_as(known[:, a])
    return truth


def two_view_of(clip: Clip) -> dict[tuple[int, int], TwoView]:
    """Return a start for all pairs with the target; the second sample is degenerate."""
    batch, height, width = clip.images.shape[0], clip.camera.height, clip.camera.width
    weight = torch.ones(batch)
    weight[1:2] = 0
    found = {}
    for s in clip.sources:
        motion = SE3(rotation_exp(torch.full((batch, 3), 0.004)), torch.tensor([[0.0, 0.6, 0.8]]).repeat(batch, 1))
        found[clip.target, s] = TwoView(flow_ab=torch.randn(batch, 2, height, width), b_from_a=motion, weight=weight,
                                        usable=torch.rand(batch, 1, height, width) > 0.3)
    return found


def leaves(value: Any) -> Iterator[Tensor]:
    """Yield every tensor of a prediction or of loss terms."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            yield from leaves(value[key])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, SE3 | Camera | Prediction):
        for field in fields(value):
            yield from leaves(getattr(value, field.name))


def same(a: Any, b: Any) -> bool:
    mine, theirs = list(leaves(a)), list(leaves(b))
    return len(mine) == len(theirs) > 0 and all(torch.equal(x, y) for x, y in zip(mine, theirs, strict=True))


def detached(terms: LossTerms) -> dict[str, float]:
    return {name: weight * value.item() for name, (weight, value) in terms.items()}


def check_levels(levels: list[Tensor], batch: int, channels: int, size: tuple[int, int]) -> None:
    """Assert that the maps go from full size to halves, rounded up."""
    assert levels
    for s, level in enumerate(levels):
        assert tuple(level.shape) == (batch, channels, math.ceil(size[0] / 2**s), math.ceil(size[1] / 2**s))
        assert level.dtype == torch.float32
        assert torch.isfinite(level).all()


def check_flows(levels: list[Tensor], batch: int, size: tuple[int, int]) -> None:
    """Assert that the best flow is at full size, and the others no larger."""
    assert tuple(levels[0].shape) == (batch, 2, *size)
    for level in levels:
        assert level.shape[:2] == (batch, 2)
        assert 0 < level.shape[2] <= size[0]
        assert 0 < level.shape[3] <= size[1]
        assert level.dtype == torch.float32
        assert torch.isfinite(level).all()


def check_prediction(prediction: Prediction, clip: Clip) -> None:
    batch, count = clip.images.shape[:2]
    size = (clip.camera.height, clip.camera.width)
    assert prediction.inv_depth or prediction.motion or prediction.flow
    for frame, levels in prediction.inv_depth.items():
        assert 0 <= frame < count
        check_levels(levels, batch, 1, size)
        assert all((level > 0).all() for level in levels)
    for pair in (*prediction.motion, *prediction.flow, *prediction.weight):
        assert pair[0] != pair[1]
        assert all(0 <= frame < count for frame in pair)
    for motion in prediction.motion.values():
        assert (tuple(motion.R.shape), tuple(motion.t.shape)) == ((batch, 3, 3), (batch, 3))
        torch.testing.assert_close(motion.R @ motion.R.mT, torch.eye(3).expand(batch, 3, 3), rtol=0, atol=1e-5)
        assert torch.isfinite(motion.t).all()
    for levels in prediction.flow.values():
        check_flows(levels, batch, size)
    for levels in prediction.weight.values():
        check_levels(levels, batch, 1, size)
        assert all(((level >= 0) & (level <= 1)).all() for level in levels)
    assert prediction.scale in ("relative", "metric")


@every_network
@torch.no_grad()
def test_prediction_has_the_promised_shapes(spec: str) -> None:
    method = fresh(spec)
    clip = clip_for(method)
    check_prediction(method.predict(clip), clip)
    check_prediction(method.eval().predict(clip), clip)
    assert 0 <= method.target < method.clip_length


@every_network
@torch.no_grad()
def test_the_truth_is_never_read(spec: str) -> None:
    """Neither the truth nor the two-view start changes a prediction."""
    _, method = built(spec)
    clip = clip_for(method)
    nan = torch.full((*clip.images.shape[:2], 1, *SMALL), float("nan"))
    everywhere = torch.ones_like(nan, dtype=torch.bool)
    truth = Truth(depth=nan, valid_depth=everywhere, static=~everywhere,
                  world_from_cam=SE3(torch.full((*nan.shape[:2], 3, 3), float("nan")), nan[:, :, 0, 0, :3]),
                  flow={pair: nan[:, 0].repeat(1, 2, 1, 1) for pair in pairs_of(clip)},
                  valid_flow={pair: everywhere[:, 0] for pair in pairs_of(clip)})
    told = replace(clip, truth=truth, start=two_view_of(clip))
    torch.manual_seed(5)
    before = method.predict(replace(clip, truth=None))
    torch.manual_seed(5)
    assert same(before, method.predict(told))


@every_start
def test_every_parameter_learns(spec: str, start: bool) -> None:
    """Finite gradients everywhere, none zero but for 1 % of the tensors, in the phase that trains them."""
    method = fresh(spec)
    clip = clip_for(method, size=(64, 96), start=start)
    named = dict(method.named_parameters())
    learnt: set[str] = set()
    for phase in method.phases():
        method.zero_grad()
        for name, parameter in named.items():
            parameter.requires_grad_(name.startswith(phase.trains))
        terms, _ = method(clip, 0.5)
        assert isinstance(terms, LossTerms)
        assert terms.total.dim() == 0
        terms.total.backward()
        for name in (n for n in named if n.startswith(phase.trains)):
            gradient = named[name].grad
            assert gradient is not None, name
            assert torch.isfinite(gradient).all(), name
            learnt |= {name} if gradient.any() else set()
    trained = {n for n in named if any(n.startswith(phase.trains) for phase in method.phases())}
    assert len(trained - learnt) <= 0.01 * len(trained), sorted(trained - learnt)


@every_preset
def test_phases_make_a_whole_and_name_parameters(spec: str) -> None:
    _, method = built(spec)
    phases = method.phases()
    assert sum(phase.share for phase in phases) == pytest.approx(1)
    assert len({phase.name for phase in phases}) == len(phases)
    names = [name for name, _ in method.named_parameters()]
    for phase in phases:
        assert phase.share > 0
        for prefix in phase.trains:
            assert any(name.startswith(prefix) for name in names), prefix


@every_network
def test_one_seed_gives_one_result(spec: str) -> None:
    one, two, other = fresh(spec), fresh(spec), fresh(spec, seed=1)
    clip = clip_for(one)
    results = []
    for method in (one, two):
        torch.manual_seed(5)
        terms, prediction = method(clip, 0.5)
        terms.total.backward()
        results.append((detached(terms), prediction, [p.grad for p in method.parameters()]))
    assert results[0][0] == results[1][0]
    assert same(results[0][1], results[1][1])
    assert same(results[0][2], results[1][2])
    with torch.no_grad():
        assert not same(one.predict(clip), other.predict(clip))


@every_network
@torch.no_grad()
def test_state_goes_round(spec: str) -> None:
    one, two = fresh(spec), fresh(spec, seed=1)
    clip = clip_for(one)
    two.load_state_dict(one.state_dict())
    assert same(one.eval().predict(clip), two.eval().predict(clip))


@every_start
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_any_image_size(spec: str, size: tuple[int, int], start: bool) -> None:
    _, method = built(spec)
    clip = clip_for(method, size=size, start=start)
    with torch.no_grad():
        check_prediction(method.predict(clip), clip)
    method.zero_grad()
    terms, _ = method(clip, 0.5)
    terms.total.backward()
    assert all(torch.isfinite(value) for _, value in terms.values()), terms
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)
    method.zero_grad()


@every_start
@torch.no_grad()
def test_a_batch_is_the_mean_of_its_samples(spec: str, start: bool) -> None:
    """So that two processes with half a batch each take the step of one with the whole.

    Only where chance and the statistics of a batch play no part: not in training.
    """
    method = fresh(spec).eval()
    clip = clip_for(method, batch=3, start=start)
    whole = detached(method(clip, 0.5)[0])
    single = [detached(method(clip[i:i + 1], 0.5)[0]) for i in range(3)]
    for name, value in whole.items():
        assert sum(s[name] for s in single) / 3 == pytest.approx(value, rel=1e-4, abs=1e-6), name


@every_network
@torch.no_grad()
def test_pictures_matter(spec: str) -> None:
    """Every frame of the clip has a say in some output, or the contract tests above would pass for a constant."""
    _, method = built(spec)
    clip = clip_for(method)
    for frame in range(method.clip_length):
        images = clip.images.clone()
        images[:, frame] = images[:, frame].flip(-1) * 0.5
        assert not same(method.predict(clip), method.predict(replace(clip, images=images)))


@every_network
@torch.no_grad()
def test_loss_names_are_paths_and_weights_finite(spec: str) -> None:
    _, method = built(spec)
    clip = clip_for(method)
    for progress in (0.0, 0.5, 1.0):
        terms = method.losses(clip, method.predict(clip), progress)
        assert all(name.startswith("loss/") for name in terms)
        assert all(math.isfinite(weight) and value.dim() == 0 for weight, value in terms.values())


@every_preset
def test_run_goes_through_json(spec: str) -> None:
    run, _ = built(spec)
    entry = load_method(run.method)
    assert run_from_json(run_to_json(run), entry.config_type) == run
    changed = replace(run, start="none", data=replace(run.data, paths=("a.mp4", "b"), frames="0:200", camera="fov=70"))
    assert run_from_json(run_to_json(changed), entry.config_type) == changed != run
