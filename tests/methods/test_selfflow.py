"""Flow without labels: settings of the papers, what the network sees, and what each term is of and teaches."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from egoflow.data.appearance import Appearance
from egoflow.data.transforms import crop
from egoflow.errors import ConfigError
from egoflow.geometry.camera import Camera
from egoflow.losses.self_distillation import Distillation
from egoflow.losses.unlabelled_flow import Stage, on_level, stage_at
from egoflow.methods import selfflow
from egoflow.methods.selfflow import Config, SelfFlow
from egoflow.registry import load_preset
from egoflow.types import Clip, LossTerms, Prediction

HEIGHT, WIDTH = 32, 48
PLAIN = Config(network="pwc_tiny", width=0.1, stages=(Stage(error="l1"),), smooth_weight=0.0)


def clip_of(images: Tensor) -> Clip:
    batch, count, _, height, width = images.shape
    camera = Camera.create(50, 50, 20, 15, height=height, width=width).repeated(batch)
    return Clip(images=images, camera=camera, time_s=torch.zeros(batch, count), target=count // 3)


def sliding(step: int = 4, *, frames: int = 2, batch: int = 2) -> Clip:
    """Return pictures that slide ``step`` pixels to the left a frame, so that the true flow is (-step, 0)."""
    rng = torch.Generator().manual_seed(0)
    noise = torch.rand(batch, 3, HEIGHT // 4, (WIDTH + 4 * step) // 4, generator=rng)
    wide = nn.functional.interpolate(noise, (HEIGHT, WIDTH + frames * step), mode="bicubic").clamp(0, 1)
    return clip_of(torch.stack([wide[..., i * step:i * step + WIDTH] for i in range(frames)], dim=1))


class Told(nn.Module):
    """A network that says (x, 0) at full size; a number of its own for every time it is asked."""

    def __init__(self, *x: float, reverse: bool = True) -> None:
        super().__init__()
        self.x = nn.ParameterList(torch.tensor(v) for v in x)
        self.calls, self.seen, self.reverse = 0, [], reverse

    def forward(self, a: Tensor, b: Tensor) -> list[Tensor]:
        x = self.x[min(self.calls, len(self.x) - 1)]
        self.calls += 1
        self.seen.append((a, b))
        half = a.shape[0] // 2
        sign = torch.cat((a.new_ones(half), -a.new_ones(half))).view(-1, 1, 1, 1)
        flow = torch.cat((x * sign * torch.ones_like(a[:, :1]), torch.zeros_like(a[:, :1])), dim=1)
        small = [nn.functional.avg_pool2d(flow, 2**s, ceil_mode=True) / 2**s for s in (2, 3, 4, 5)]
        return [flow, *small]


def told(config: Config, *x: float) -> tuple[SelfFlow, Told]:
    method = SelfFlow(config)
    method.network = Told(*x)
    return method, method.network


def prediction_of(quarter_ab: Tensor, quarter_ba: Tensor) -> Prediction:
    """Return flows at a quarter of the image's size, and full."""
    def levels(quarter: Tensor) -> list[Tensor]:
        return [4 * nn.functional.interpolate(quarter, scale_factor=4, mode="bilinear"), quarter]

    return Prediction(flow={(0, 1): levels(quarter_ab), (1, 0): levels(quarter_ba)})


def constant(x: float, *, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Tensor:
    """Return a flow of x pixels of the image at a quarter of its size."""
    return torch.tensor([x / 4, 0]).view(1, 2, 1, 1).expand(2, 2, size[0] // 4, size[1] // 4).clone()


def values(terms: LossTerms) -> dict[str, float]:
    return {name: weight * value.item() for name, (weight, value) in terms.items()}


# Settings.

def test_presets_have_the_papers_networks_and_settings() -> None:
    runs = {name: load_preset(f"selfflow:{name}")[1] for name in ("unflow", "arflow", "uflow", "smurf", "tiny")}
    counts = {name: sum(p.numel() for p in SelfFlow(run.config).parameters()) for name, run in runs.items()}
    assert counts["unflow"] == counts["arflow"] == counts["uflow"] == 2_236_660
    assert counts["smurf"] == 5_257_536
    assert 3e5 < counts["tiny"] < 6e5
    assert (runs["unflow"].data.crop, runs["unflow"].optim.clip_norm, runs["unflow"].optim.lr) == (
        (320, 1152), None, 1e-5)
    assert runs["unflow"].config.level_weights == (12.7, 4.35, 3.9, 3.4, 1.1)
    assert (runs["arflow"].data.crop, runs["arflow"].optim.clip_norm, runs["arflow"].optim.batch_size) == (
        (384, 832), None, 4)
    assert (runs["uflow"].data.height, runs["uflow"].loop.steps, runs["uflow"].optim.lr) == (640, 1_000_000, 1e-4)
    assert (runs["smurf"].config.crop, runs["smurf"].loop.steps, runs["smurf"].optim.lr) == ((296, 696), 75_000, 2e-4)
    # No occlusion in the first part of training, or masks collapse; no minimum over sources by default.
    assert runs["tiny"].config.stages[0].occlusion == "none"
    assert {run.config.minimum for run in runs.values()} == {"none"}


def test_the_supervised_twin_has_the_same_network_size_and_batch_and_no_more_steps() -> None:
    mine, theirs = load_preset("selfflow:tiny")[1], load_preset("pwcnet:tiny")[1]
    assert (mine.data, mine.optim.batch_size) == (theirs.data, theirs.optim.batch_size)
    assert mine.loop.steps >= theirs.loop.steps
    networks = [load_preset(spec)[0].method_type(run.config).network for spec, run in (
        ("selfflow:tiny", mine), ("pwcnet:tiny", theirs))]
    assert repr(networks[0]) == repr(networks[1])
    assert networks[0].normalise == networks[1].normalise


# What is predicted, and from what.

@torch.no_grad()
def test_both_directions_from_one_network() -> None:
    method, clip = SelfFlow(replace(PLAIN, width=0.5)).eval(), sliding()
    flow = method.predict(clip).flow
    assert list(flow) == [(0, 1), (1, 0)]
    exchanged = method.predict(replace(clip, images=clip.images.flip(1))).flow
    torch.testing.assert_close(exchanged[0, 1][0], flow[1, 0][0])
    torch.testing.assert_close(method.network(clip.images[:, 0], clip.images[:, 1])[0], flow[0, 1][0])


@torch.no_grad()
def test_only_the_network_sees_altered_images() -> None:
    method, network = told(replace(PLAIN, appearance=Appearance(noise=0.3, erase=0.5)), -4.0)
    clip = sliding()
    terms, _ = method(clip, 0.0)
    assert values(terms)["loss/photometric"] < 1e-6
    assert (network.seen[0][0] - torch.cat((clip.images[:, 0], clip.images[:, 1]))).abs().mean() > 0.05
    method.eval()
    method.predict(clip)
    assert torch.equal(network.seen[1][0], torch.cat((clip.images[:, 0], clip.images[:, 1])))


# The terms.

def loss_of(config: Config, clip: Clip, x: float, progress: float = 0.0) -> dict[str, float]:
    with torch.no_grad():
        return values(told(config, x)[0](clip, progress)[0])


@pytest.mark.parametrize("enlarged", [4, 2, 1])
def test_the_true_flow_costs_least_at_every_size(enlarged: int) -> None:
    config = replace(PLAIN, enlarged=enlarged, level_weights=(1.0, 1.0))  # type: ignore[arg-type]
    costs = [loss_of(config, sliding(8), x)["loss/photometric"] for x in (-16.0, -12.0, -8.0, -4.0, 0.0)]
    assert costs[2] < 0.25 * min(costs[1], costs[3])
    assert costs[0] > costs[1]
    assert costs[4] > costs[3]


@pytest.mark.parametrize(("cell", "size"), [(4, (33, 65)), (8, (33, 65)), (4, (37, 69)), (8, (32, 64)), (8, (1, 1))])
def test_a_levels_pixels_are_cells_where_the_sides_do_not_divide(cell: int, size: tuple[int, int]) -> None:
    height, width = (-(-side // cell) for side in size)
    ramp = torch.arange(size[1], dtype=torch.float32).expand(1, 3, *size)
    found = on_level(ramp, cell)
    assert found.shape[-2:] == (height, width)
    # Away from the borders a cell's value is the mean of its columns, whatever is left over at the end.
    whole = torch.arange(1, max(size[1] // cell - 1, 1), dtype=torch.float32)
    if size[1] > cell:
        torch.testing.assert_close(found[0, 0, 0, 1:len(whole) + 1], whole * cell + (cell - 1) / 2, rtol=0, atol=1e-3)


def test_affine_students_are_taught_at_any_level() -> None:
    config = replace(PLAIN, enlarged=2, level_weights=(1.0, 1.0), distillation=Distillation(view="affine", begins=0.0))
    method, clip = SelfFlow(config).train(), sliding()
    assert torch.isfinite(method(clip, 0.5)[0]["loss/distillation"][1])


def test_more_weights_than_levels_are_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"config.level_weights has 9 values, the network \d levels") as found:
        SelfFlow(replace(PLAIN, level_weights=(1.0,) * 9))
    assert "\n" not in str(found.value)


def test_the_stage_that_began_last_counts_in_any_order() -> None:
    late, early = Stage(begins=0.5, error="ssim"), Stage(error="census")
    assert [stage_at((late, early), p).error for p in (0.0, 0.4, 0.5, 1.0)] == ["census", "census", "ssim", "ssim"]


def test_levels_are_weighted() -> None:
    dark, bright = torch.zeros(1, 2, 3, HEIGHT, WIDTH), torch.full((1, 2, 3, HEIGHT, WIDTH), 0.4)
    clip = clip_of(torch.stack((dark[:, 0], bright[:, 0]), dim=1))
    assert loss_of(replace(PLAIN, level_weights=(3.0, 2.0, 0.5)), clip, 0.0)["loss/photometric"] == pytest.approx(
        0.4 * 5.5)
    assert loss_of(replace(PLAIN, gradient_weighted=True), clip, 0.0)["loss/photometric"] == 0


def test_occlusion_begins_with_its_stage() -> None:
    """Flows that contradict each other are hidden everywhere, once that counts."""
    config = replace(PLAIN, stages=(Stage(error="l1"), Stage(begins=0.5, error="l1", occlusion="forward_backward")))
    method, clip = SelfFlow(config).eval(), sliding()
    prediction = prediction_of(constant(5), constant(5))
    before, after = (values(method.losses(clip, prediction, p))["loss/photometric"] for p in (0.49, 0.5))
    assert before > 0.05
    assert after == 0


@pytest.mark.parametrize(("size", "bend", "columns"), [("own", 0.08, 12), ("quarter", 0.08, 12),
                                                       ("normalised", 0.02 / HEIGHT, 48)])
def test_smoothness_is_taken_where_the_configuration_says(size: str, bend: float, columns: int) -> None:
    """A flow that bends by 0.02 a pixel squared bends by four times that at a quarter of the size."""
    x = torch.arange(WIDTH).square().expand(2, HEIGHT, WIDTH) / 100
    flow = torch.stack((x, 0 * x), dim=1)
    prediction = Prediction(flow={pair: [flow, flow[..., ::4, ::4] / 4] for pair in ((0, 1), (1, 0))})
    config = replace(PLAIN, smoothness="second", smooth_weight=1.0, smooth_size=size, enlarged=1)  # type: ignore[arg-type]
    clip = clip_of(torch.full((2, 2, 3, HEIGHT, WIDTH), 0.5))
    found = values(SelfFlow(config).losses(clip, prediction, 0.0))["loss/smoothness"]
    # The mean over both components and both axes; nothing on the border.
    assert found == pytest.approx(bend / 4 * (columns - 2) / columns, rel=1e-3)


def test_the_way_back_is_counted_if_asked_for() -> None:
    method = SelfFlow(replace(PLAIN, return_weight=0.2))
    for miss, cost in ((0.0, (1e-6) ** 0.45), (1.0, (1.0**0.9 + (1e-6) ** 0.45) / 2)):
        found = values(method.losses(sliding(), prediction_of(constant(2), constant(miss - 2)), 0.0))["loss/return"]
        assert found == pytest.approx(0.2 * cost, rel=1e-3)


# The lecture's minimum.

def test_three_frames_hide_nothing_from_the_middle_one() -> None:
    """Neighbours with a dark bar each, at other places: with the least of both errors the true flow costs nothing."""
    clip = sliding(0, frames=3)
    clip.images[:, 0, :, :, 10:14], clip.images[:, 2, :, :, 30:34] = 0.0, 0.0
    method, _ = told(replace(PLAIN, minimum="sources"), 0.0)
    assert (method.clip_length, method.target) == (3, 1)
    assert method.pairs == ((1, 0), (1, 2), (0, 1), (2, 1))
    plain = float((clip.images[:, 0] - clip.images[:, 1]).abs().mean() + (clip.images[:, 2] - clip.images[:, 1]).abs(
        ).mean()) / 2
    with torch.no_grad():
        found = values(method(clip, 0.0)[0])["loss/photometric"]
    # The pairs on the grids of the neighbours, half of all, have one source each and pay in full.
    assert plain > 0.02
    assert found == pytest.approx(plain / 2, rel=1e-4)


def test_the_lesser_error_of_both_directions_never_costs_more() -> None:
    clip = sliding()
    for x in (-4.0, -2.0, 3.0):
        one, two = (loss_of(replace(PLAIN, minimum=m), clip, x)["loss/photometric"] for m in ("none", "directions"))
        assert two <= one * 1.02


# Windows of larger images.

@torch.no_grad()
@pytest.mark.parametrize(("enlarged", "border"), [(4, 1e-6), (2, 6e-3), (1, 1.5e-2)])
def test_warps_reach_beyond_the_window_that_the_network_sees(enlarged: int, border: float) -> None:
    """What is wrong with pixels that leave the window, the images around it show, also at less than full size.

    There the window's outermost pixels were made smaller without their neighbours, which costs something.
    """
    clip, size, left, top = sliding(8), (16, 24), 16, 8
    method = SelfFlow(replace(PLAIN, crop=size, enlarged=enlarged))  # type: ignore[arg-type]
    window = crop(clip, top=top, left=left, height=size[0], width=size[1])
    wrong = constant(-8, size=size)
    wrong[:, 1, :, 0] = 1.0
    costs = []
    for there in (constant(-8, size=size), wrong):
        prediction = prediction_of(there, constant(8, size=size))
        alone = method.losses(window, prediction, 0.0)
        whole = method._terms(window, clip.images, (left, top), prediction, 0.0)
        costs += [values(terms)["loss/photometric"] for terms in (alone, whole)]
    assert costs[:3] == pytest.approx([0, 0, 0], abs=border)
    assert costs[3] > costs[1] + 1e-2


@torch.no_grad()
def test_the_window_is_drawn_inside_the_image() -> None:
    method, network = told(replace(PLAIN, crop=(16, 500)), 0.0)
    torch.manual_seed(0)
    tops = set()
    for _ in range(40):
        _, prediction = method(sliding(), 0.0)
        assert prediction.flow[0, 1][0].shape == (2, 2, 16, WIDTH)
        tops.add(float(network.seen[-1][0][0, 0, 0, 0]))
    assert 5 < len(tops) <= HEIGHT - 16 + 1


# Its own teacher.

@pytest.fixture
def same_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the student see exactly what the teacher saw."""
    def unchanged(images: Tensor) -> tuple[Tensor, Tensor]:
        return images, torch.eye(2, 3).expand(*images.shape[:2], 2, 3)

    monkeypatch.setattr(selfflow, "clip_through_random_views", unchanged)


TAUGHT = replace(PLAIN, distillation=Distillation(view="affine", weight=1.0, begins=0.5))


@pytest.mark.usefixtures("same_view")
def test_the_same_view_and_weights_teach_nothing() -> None:
    method = SelfFlow(replace(TAUGHT, width=0.5))
    for progress in (0.5, 1.0):
        assert values(method(sliding(), progress)[0])["loss/distillation"] == pytest.approx(0, abs=1e-5)
    assert "loss/distillation" not in method(sliding(), 0.49)[0]
    method.eval()
    assert "loss/distillation" not in method(sliding(), 1.0)[0]


@pytest.mark.usefixtures("same_view")
@pytest.mark.parametrize("view", ["affine", "crop"])
def test_only_the_student_learns(view: str) -> None:
    """The teacher says -1, the student -3; in the crop the student's own flows agree, so nothing is asked of it."""
    distillation = Distillation(view=view, weight=1.0, begins=0.5, margin=4)  # type: ignore[arg-type]
    method, network = told(replace(PLAIN, distillation=distillation), -1.0, -3.0)
    weight, value = method(sliding(), 1.0)[0]["loss/distillation"]
    teacher, student = torch.autograd.grad(weight * value, list(network.x), allow_unused=True)
    assert teacher is None
    assert student is not None
    assert student != 0
    if view == "affine":
        assert value.item() == pytest.approx(1.0, rel=1e-4)  # 2 px in x, 0 in y
    else:
        # Three columns of each direction leave the crop of 40 columns, and the teacher, who sees beyond, is sure.
        assert 0 < value.item() < 2 * 4 / 40


def test_gradients_reach_every_parameter_through_photometry_alone() -> None:
    torch.manual_seed(0)
    method = SelfFlow(replace(PLAIN, width=0.5, level_weights=(1.0, 1.0)))
    for head in (method.network.decoder.head, method.network.context[-1]):
        nn.init.normal_(head.weight, std=0.05)
    terms, _ = method(sliding(), 0.0)
    terms["loss/photometric"][1].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in method.parameters())


@pytest.mark.parametrize("change", [lambda c: replace(c, minimum="directions"), lambda c: replace(c, return_weight=1.0),
                                    lambda c: replace(c, stages=(Stage(occlusion="range_map"),))])
@torch.no_grad()
def test_a_batch_is_the_mean_of_its_samples(change: Callable[[Config], Config]) -> None:
    method, clip = SelfFlow(change(replace(PLAIN, width=0.5))).eval(), sliding(batch=3)
    whole = values(method(clip, 0.0)[0])
    single = [values(method(clip[i:i + 1], 0.0)[0]) for i in range(3)]
    for name, value in whole.items():
        assert sum(s[name] for s in single) / 3 == pytest.approx(value, rel=1e-4, abs=1e-6)
