"""scdepth: one motion for every pair, consistent at the truth, memory that begins afresh, one scale for a clip."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from egoflow.errors import ConfigError
from egoflow.geometry.camera import Camera
from egoflow.geometry.se3 import SE3
from egoflow.losses.consistency import depth_difference_map, depth_weight
from egoflow.methods.scdepth import Config, SCDepth, chained, pairs_of
from egoflow.methods.views import levels_of
from egoflow.types import Clip, Prediction, TwoView
from egoflow.worlds.base import World, load_world

TINY = Config(network="tiny", ssim_weight=0.5, smoothness="edge_aware", begins=0.0, ramp=0.0)
FACING = torch.tensor([0.02, -0.03, 1.0])
"""The normal of a wall, 6 away from the first camera."""


def steps_of(*tangents: tuple[float, ...]) -> SE3:
    return SE3.exp(torch.tensor(tangents)[None])


WAY = steps_of((0.02, 0.01, -0.2, 0.003, -0.004, 0.002), (0.1, -0.02, -0.15, -0.002, 0.006, 0.001))


def clip_of(images: Tensor, camera: Camera, *, target: int = 1) -> Clip:
    times = torch.arange(images.shape[1], dtype=torch.float64).expand(images.shape[0], -1) / 10
    return Clip(images=images, camera=camera, time_s=times, target=target)


def wall(*, height: int = 32, width: int = 48) -> tuple[Clip, Prediction]:
    """A slanted wall seen from three places, in closed form, on all four levels."""
    camera = Camera.create(40.0, 40.0, width / 2 - 0.5, height / 2 - 0.5, height=height, width=width)
    inv_depth: dict[int, list[Tensor]] = {}
    place, normal, offset = SE3.identity(), FACING, torch.tensor(6.0)
    for frame in range(3):
        turned = place.R @ normal
        inv_depth[frame] = [((camera.resized(height=height >> s, width=width >> s).rays() * turned).sum(-1)
                             / (offset + turned @ place.t)).unsqueeze(1) for s in range(4)]
        place = WAY[0, frame] @ place if frame < 2 else place
    motion = chained(WAY, pairs_of(3, 1))
    return clip_of(torch.rand(1, 3, 3, height, width), camera), Prediction(inv_depth=inv_depth, motion=motion)


def term(config: Config, clip: Clip, prediction: Prediction, name: str, *, progress: float = 1.0) -> Tensor:
    weight, value = SCDepth(config).losses(clip, prediction, progress)[f"loss/{name}"]
    assert weight > 0
    return value


def street(frames: int, *, movers: int = 0) -> tuple[World, Clip, Prediction]:
    """A rendered street with its true depth, on one level, and motion."""
    world = load_world("drive", seed=3, frames=frames, height=64, width=192, movers=movers)
    assert isinstance(world, World)
    steps = SE3.stack([world.world_from_cam(i + 1).inverse() @ world.world_from_cam(i) for i in range(frames - 1)])
    depths = [world.truth(i).depth for i in range(frames)]
    inv_depth = {i: [1 / torch.from_numpy(d)[None, None]] for i, d in enumerate(depths) if d is not None}
    clip = clip_of(world.colours(range(frames))[None], world.camera, target=frames // 2)
    motion = chained(SE3(steps.R[None].float(), steps.t[None].float()), pairs_of(frames, frames // 2))
    return world, clip, Prediction(inv_depth=inv_depth, motion=motion)


def test_the_papers_depth_network() -> None:
    with torch.device("meta"):
        method = SCDepth(Config())
    assert sum(p.numel() for p in method.depth_net.parameters()) == 31_596_900


def test_pairs_meet_both_ways() -> None:
    assert pairs_of(3, 1) == ((1, 0), (1, 2), (0, 1), (2, 1))
    five = pairs_of(5, 2)
    half = len(five) // 2
    assert set(five[:half]) == {(2, 0), (2, 1), (2, 3), (2, 4), (0, 1), (3, 4)}
    assert five[half:] == tuple((b, a) for a, b in five[:half])
    assert pairs_of(2, 1) == ((1, 0), (0, 1))


def test_every_motion_is_a_product_of_steps() -> None:
    steps = SE3.exp(0.1 * torch.randn(2, 4, 6, dtype=torch.float64))
    found = chained(steps, pairs_of(5, 2))
    expected = {(3, 4): steps[:, 3], (2, 4): steps[:, 3] @ steps[:, 2], (0, 1): steps[:, 0],
                (2, 0): (steps[:, 1] @ steps[:, 0]).inverse(), (4, 3): steps[:, 3].inverse()}
    for pair, motion in expected.items():
        assert torch.equal(found[pair].R, motion.R)
        assert torch.equal(found[pair].t, motion.t)
    for (a, b), motion in found.items():
        loop = found[b, a] @ motion
        assert (loop.R - torch.eye(3)).abs().max() < 1e-14
        assert loop.t.abs().max() < 1e-14


@torch.no_grad()
@pytest.mark.parametrize("network", ["tiny", "paper"])
def test_the_memory_begins_afresh_with_each_clip(network: str) -> None:
    """lu19_vo_depth.md, check 6: after a reset the first step is reproduced to the bit, without one it is not."""
    torch.manual_seed(0)
    method = SCDepth(Config(network=network)).eval()  # type: ignore[arg-type]
    first, other = torch.rand(1, 3, 3, 32, 48), torch.rand(1, 3, 3, 32, 48)
    steps = method.motion(first)
    assert steps.t.shape == (1, 2, 3)
    method.motion(other)
    again = method.motion(first)
    assert torch.equal(again.R, steps.R)
    assert torch.equal(again.t, steps.t)
    fresh, state = method.motion_net(first)
    kept, _ = method.motion_net(first, state)
    assert not torch.equal(kept[:, 0], fresh[:, 0])
    assert torch.equal(SE3.from_translation_euler(fresh).t, steps.t)


def test_the_truth_is_consistent_and_a_wrong_depth_is_not() -> None:
    """Checks 1 to 3: below 1e-4 at the truth; one depth 1.1 times too large costs .0476 in each of its pairs."""
    clip, truth = wall()
    assert term(TINY, clip, truth, "consistency") < 1e-4
    wrong = replace(truth, inv_depth={**truth.inv_depth, 0: [v / 1.1 for v in truth.inv_depth[0]]})
    # On four levels for two sources; of four pairs two see frame 0: one reads its depth, one reads with it.
    away = 4 * 2 * 0.1 / 2.1 * 0.5
    assert term(TINY, clip, wrong, "consistency").item() == pytest.approx(away, rel=0.05)
    common = replace(truth, inv_depth={i: [v / 7 for v in vs] for i, vs in truth.inv_depth.items()},
                     motion={pair: motion.scaled(7.0) for pair, motion in truth.motion.items()})
    for name in ("consistency", "photometric"):
        assert term(TINY, clip, common, name).item() == pytest.approx(term(TINY, clip, truth, name).item(), abs=1e-5)


def test_depths_of_two_surfaces_teach_nothing() -> None:
    """lu19_vo_depth.md, pitfall 5: what differs by more than .3 was read across an edge, or is hidden."""
    clip, truth = wall()
    patched = [v.clone() for v in truth.inv_depth[1]]
    for level in patched:
        height, width = level.shape[-2:]
        level[..., height // 4:height // 2, width // 4:width // 2] /= 3
    prediction = replace(truth, inv_depth={**truth.inv_depth, 1: patched})
    rigid = levels_of(clip, prediction, SCDepth(TINY).pairs)[0].rigid
    assert rigid is not None
    difference, use = depth_difference_map(rigid.depth_a_in_b, rigid.depth_b, rigid.xy_b)
    assert difference[use].max() > 0.4
    # What remains are mixtures along the rim of the patch.
    assert term(TINY, clip, prediction, "consistency") < 0.25 * 4 * 2 * difference[use].mean()


@torch.no_grad()
def test_the_weight_is_one_but_where_something_hides() -> None:
    world, clip, truth = street(3, movers=4)
    pairs = pairs_of(3, 1)
    rigid = levels_of(clip, truth, pairs)[0].rigid
    assert rigid is not None
    difference, use = depth_difference_map(rigid.depth_a_in_b, rigid.depth_b, rigid.xy_b)
    weight = depth_weight(difference, use)
    shown = [world.flow_truth(a, b).visible for a, b in pairs]
    visible = torch.from_numpy(np.stack([v for v in shown if v is not None]))[:, None]
    static = torch.from_numpy(np.stack([s for a, _ in pairs if (s := world.truth(a).static) is not None]))[:, None]
    seen, hidden = use & visible & static, use & ~visible & static
    assert hidden.sum() > 100
    # A few visible pixels are read across an edge of depth.
    assert weight[seen].median() > 0.999
    assert (weight[seen] > 0.95).float().mean() > 0.9
    assert difference[hidden].median() > 10 * difference[seen].median()
    assert (difference[hidden] > 0.05).float().mean() > 0.5


@pytest.mark.parametrize("which", [0, 1], ids=["photometric", "consistency"])
def test_what_is_not_used_may_be_nan(which: int) -> None:
    """A depth of NaN costs what one that is used nowhere costs: of its own pixel, and of those that would read it."""
    clip, truth = wall()
    values = []
    for nothing in (torch.nan, -1e-9):
        wrong = 1.2 * truth.inv_depth[1][0]
        wrong[..., 5, 5] = nothing
        wrong = wrong.requires_grad_()
        prediction = replace(truth, inv_depth={**truth.inv_depth, 1: [wrong, *truth.inv_depth[1][1:]]})
        value = SCDepth(TINY)._compared(levels_of(clip, prediction, ((1, 0), (0, 1)))[0])[which]
        value.backward()
        assert wrong.grad is not None
        elsewhere = wrong.grad[wrong.detach() > 0]
        assert elsewhere.isfinite().all()
        assert elsewhere.any()
        values.append(value.item())
    assert values[0] == values[1] > 0


def test_consistency_climbs_after_its_beginning() -> None:
    clip, truth = wall()
    method = SCDepth(replace(TINY, begins=0.2, ramp=0.4, consistency_weight=0.5))
    found = [method.losses(clip, truth, progress)["loss/consistency"][0] for progress in (0, 0.2, 0.3, 0.6, 1)]
    assert found == pytest.approx([0, 0, 0.125, 0.5, 0.5])
    # Without a ramp it steps.
    method = SCDepth(replace(TINY, begins=0.2, ramp=0.0, consistency_weight=0.5))
    assert [method.losses(clip, truth, progress)["loss/consistency"][0] for progress in (0.1, 0.3)] == [0, 0.5]


def test_frames_of_unlike_scale_find_one() -> None:
    """Check 5: each frame's depth in a unit of its own (15 % apart), the steps true to the first: one remains."""
    _, clip, truth = street(5)
    clip = replace(clip, images=torch.zeros_like(clip.images))
    logs = torch.tensor([0.0, 0.2, -0.15, 0.1, -0.2], requires_grad=True)
    method, optimizer = SCDepth(replace(TINY, frames=5)), torch.optim.Adam([logs], lr=0.02)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.93)

    def spread() -> float:
        scales = logs.detach().exp()
        return (scales.std() / scales.mean()).item()

    assert spread() > 0.15
    for _ in range(60):
        optimizer.zero_grad()
        scaled = {i: [levels[0] * logs[i].neg().exp()] for i, levels in truth.inv_depth.items()}
        method.losses(clip, replace(truth, inv_depth=scaled), 1.0)["loss/consistency"][1].backward()
        optimizer.step()
        schedule.step()
    assert spread() < 0.02
    assert logs.detach().abs().max() < 0.02


def test_the_photometric_error_knows_depth_and_motion() -> None:
    _, clip, truth = street(3)
    best = term(TINY, clip, truth, "photometric")
    flat = replace(truth, inv_depth={i: [torch.full_like(v, 0.05) for v in vs] for i, vs in truth.inv_depth.items()})
    backwards = replace(truth, motion={pair: motion.inverse() for pair, motion in truth.motion.items()})
    still = replace(truth, motion={pair: SE3.identity(1) for pair in truth.motion})
    for wrong in (flat, backwards, still):
        assert term(TINY, clip, wrong, "photometric") > 1.3 * best


def test_triangulated_depth_agrees_at_the_truth_and_needs_a_flow() -> None:
    world, clip, truth = street(3)
    config = replace(TINY, consistency="triangulated")
    with pytest.raises(ConfigError, match="start=two_view"):
        SCDepth(config).losses(clip, truth, 1.0)
    # Held-out clips bring none: they are compared as usual.
    assert SCDepth(config).eval().losses(clip, truth, 1.0)["loss/consistency"][1] > 0
    start = {}
    for s in (0, 2):
        known = world.flow_truth(1, s)
        assert known.visible is not None
        start[1, s] = TwoView(flow_ab=torch.from_numpy(known.flow_ab)[None], b_from_a=truth.motion[1, s],
                              usable=torch.from_numpy(known.visible)[None, None], weight=torch.ones(1))
    told = replace(clip, start=start)
    assert term(config, told, truth, "consistency") < 1e-3
    doubled = replace(truth, inv_depth={i: [v / 2 for v in vs] for i, vs in truth.inv_depth.items()})
    # Two pairs, ln 2 each.
    assert term(config, told, doubled, "consistency").item() == pytest.approx(2 * np.log(2), rel=0.01)
    degenerate = {pair: replace(view, weight=torch.zeros(1)) for pair, view in start.items()}
    assert term(config, replace(clip, start=degenerate), doubled, "consistency") == 0


def test_smoothness_reads_texture_only_when_told() -> None:
    clip, truth = wall()
    rough = {i: [v * (1 + 0.1 * torch.rand_like(v)) for v in vs] for i, vs in truth.inv_depth.items()}
    prediction, laplacian = replace(truth, inv_depth=rough), replace(TINY, smoothness="laplacian")
    plain, again, textured = (term(config, c, prediction, "smoothness") for config, c in (
        (laplacian, clip), (laplacian, replace(clip, images=torch.zeros_like(clip.images))),
        (replace(laplacian, texture=True), clip)))
    assert plain == again
    assert textured < plain
    # Of a plain picture the divisor is .1.
    grey = replace(clip, images=torch.full_like(clip.images, 0.5))
    assert term(replace(laplacian, texture=True), grey, prediction, "smoothness").item() == pytest.approx(
        10 * plain.item(), rel=1e-4)
