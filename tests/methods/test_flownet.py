"""FlowNet as a method: units of its levels, one network after the other, settings of the papers."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from egoflow.data.clips import collate
from egoflow.geometry.camera import Camera
from egoflow.methods import flownet
from egoflow.methods.flownet import Config, FlowNetMethod
from egoflow.networks.flownet2 import PARTS
from egoflow.training.optim import learning_rate
from egoflow.types import Clip, Truth
from egoflow.worlds.base import load_world

THIN = 1 / 32
STEPS = 70


def clip_of(flow: Tensor | None = None, *, size: tuple[int, int] = (64, 128)) -> Clip:
    height, width = size
    camera = Camera.create(100, 100, 20, 30, height=height, width=width)
    clip = Clip(images=torch.rand(1, 2, 3, height, width), camera=camera, time_s=torch.tensor([[0.0, 0.1]]), target=0)
    return clip if flow is None else replace(clip, truth=Truth(flow={(0, 1): flow}))


def says(method: FlowNetMethod, part: str, raw: tuple[float, float]) -> None:
    """Let one network answer the same everywhere."""
    for predict in method.network.parts[part].refinement.predict:  # type: ignore[union-attr]
        nn.init.zeros_(predict.weight)  # type: ignore[arg-type]
        predict.bias.data = torch.tensor(raw)  # type: ignore[union-attr]


@torch.no_grad()
@pytest.mark.parametrize(("variant", "part", "raw"), [
    ("s", "simple", (0.4, -0.2)), ("sd", "small", (160.0, -80.0)), ("2", "fusion", (8.0, -4.0))])
def test_levels_are_in_pixels_of_their_own_size(variant, part: str, raw: tuple[float, float]) -> None:
    """Eight pixels to the right and four up, as each network writes it, and no loss where that is the truth."""
    method = FlowNetMethod(Config(variant=variant, width=THIN))
    says(method, part, raw)
    wanted = torch.tensor([8.0, -4.0]).view(1, 2, 1, 1)
    clip = clip_of(wanted.expand(1, 2, 64, 128))
    prediction = method.predict(clip)
    flows = prediction.flow[0, 1]
    assert len(flows) == (3 if part == "fusion" else 6)
    for flow in flows:
        torch.testing.assert_close(flow, (wanted * flow.shape[2] / 64).expand_as(flow))
    assert float(method.losses(clip, prediction, 0.0).total) < 1e-3
    wrong = replace(clip, truth=Truth(flow={(0, 1): wanted.expand(1, 2, 64, 128) + 1}))
    assert float(method.losses(wrong, prediction, 0.0).total) > 0.1


@torch.no_grad()
def test_both_directions_out_of_training() -> None:
    method, clip = FlowNetMethod(Config(width=THIN)), clip_of()
    assert set(method.predict(clip).flow) == {(0, 1)}
    both = method.eval().predict(clip).flow
    assert set(both) == {(0, 1), (1, 0)}
    reversed_ = method.predict(replace(clip, images=clip.images.flip(1))).flow
    torch.testing.assert_close(both[1, 0][0], reversed_[0, 1][0])
    assert not torch.allclose(both[0, 1][0], both[1, 0][0])


@pytest.mark.parametrize("variant", PARTS)
def test_one_network_learns_after_the_other(variant) -> None:
    """In the phase of a network only its weights move, and nothing behind it is asked."""
    method = FlowNetMethod(Config(variant=variant, width=THIN))
    clip = clip_of(torch.randn(1, 2, 64, 128))
    assert [phase.name for phase in method.phases()] == list(PARTS[variant])
    for phase in method.phases():
        for name, parameter in method.named_parameters():
            parameter.requires_grad_(name.startswith(phase.trains))
        method.zero_grad(set_to_none=True)
        terms, prediction = method(clip, 0.5)
        terms.total.backward()
        moved = {name.split(".")[2] for name, p in method.named_parameters() if p.grad is not None}
        assert moved == {phase.name}
        expected = method.network(clip.images[:, 0], clip.images[:, 1], part=phase.name)[0]
        torch.testing.assert_close(prediction.flow[0, 1][1 if phase.name != "fusion" else 0] * (
            4 if phase.name != "fusion" else 1), expected)


@torch.no_grad()
def test_a_loaded_run_speaks_through_the_last_network_that_was_trained() -> None:
    method, clip = FlowNetMethod(Config(variant="cs", width=THIN)).eval(), clip_of()
    whole = method.predict(clip).flow[0, 1][0]
    method.network.parts["second"].requires_grad_(False)
    assert torch.equal(method.predict(clip).flow[0, 1][0], whole)
    stopped = method.train()
    stopped.predict(clip)
    loaded = FlowNetMethod(Config(variant="cs", width=THIN)).eval()
    loaded.load_state_dict(stopped.state_dict())
    first = loaded.network(clip.images[:, 0], clip.images[:, 1], part="correlation")[0]
    torch.testing.assert_close(loaded.predict(clip).flow[0, 1][1] * 4, first)
    assert not torch.allclose(loaded.predict(clip).flow[0, 1][0], whole)


def test_sparse_truth_is_pooled_by_its_largest_values() -> None:
    flow = torch.zeros(1, 2, 64, 128)
    flow[:, :, ::4, ::4] = 16.0
    clip = clip_of(flow)
    values = []
    for sparse in (False, True):
        method = FlowNetMethod(Config(width=THIN, sparse=sparse))
        says(method, "simple", (0.8, 0.8))
        values.append(float(method(clip, 0.0)[0].total.detach()))
    assert values[1] < 1e-3 < values[0]


def test_it_learns_four_pairs_by_heart() -> None:
    """Zero flow is 1.86 px off; 70 steps of the tiny network end at 0.58 px."""
    method, clips = FlowNetMethod(flownet.tiny().config), []
    for seed in range(4):
        world = load_world("chairs", seed=seed, frames=2, height=64, width=64)
        images = torch.stack([torch.from_numpy(world.image(i)).permute(2, 0, 1) for i in (0, 1)]).float() / 255
        truth = world.flow_truth(0, 1)  # type: ignore[attr-defined]
        clips.append(replace(clip_of(torch.from_numpy(truth.flow_ab)[None], size=(64, 64)), images=images[None]))
    clip = collate(clips)
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-3)
    for _ in range(STEPS):
        optimizer.zero_grad()
        method(clip, 0.0)[0].total.backward()
        optimizer.step()
    with torch.no_grad():
        flow_true, found = clip.truth.flow[0, 1], method.predict(clip).flow[0, 1][0]  # type: ignore[union-attr]
    assert (found - flow_true).norm(dim=1).mean() < 0.5 * flow_true.norm(dim=1).mean()


def test_rates_of_the_papers() -> None:
    s, c, css = flownet.s(), flownet.c(), flownet.css()
    rates = [learning_rate(s.optim, step / 600_000) for step in (0, 299_999, 300_001, 400_001, 500_001)]
    assert rates == pytest.approx([1e-4, 1e-4, 5e-5, 2.5e-5, 1.25e-5])
    rates = [learning_rate(c.optim, step / 600_000) for step in (0, 5_000, 10_000)]
    assert rates == pytest.approx([1e-6, 5.05e-5, 1e-4])
    # The third network of CSS, in the middle of the whole run's last phase: its own 600k of 1.2 million steps.
    assert css.loop.steps == 3_600_000
    assert learning_rate(css.optim, 2.5 / 3, 0.5001) == pytest.approx(2.5e-5)
    assert (s.optim.batch_size, s.optim.weight_decay, s.optim.betas, s.optim.clip_norm) == (8, 4e-4, (0.9, 0.999), None)
