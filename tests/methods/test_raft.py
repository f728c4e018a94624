"""RAFT as a method: its settings, what it predicts when, its loss, and that it learns."""

from dataclasses import replace

import pytest
import torch

from egoflow.config import Run
from egoflow.errors import DataError
from egoflow.geometry.camera import Camera
from egoflow.methods.raft import Config, Raft, chairs, kitti, sintel, small, things, tiny
from egoflow.types import Clip, Prediction, Truth

THIN = Config(small=True, width=0.1, iterations=3, iterations_predict=5)


def clip_of(flow_ab: torch.Tensor | None = None, valid: torch.Tensor | None = None) -> Clip:
    batch = 2 if flow_ab is None else flow_ab.shape[0]
    camera = Camera.create(50, 50, 31.5, 31.5, height=64, width=64).repeated(batch)
    known = {} if valid is None else {(0, 1): valid}
    truth = None if flow_ab is None else Truth(flow={(0, 1): flow_ab}, valid_flow=known)
    return Clip(images=torch.rand(batch, 2, 3, 64, 64), camera=camera, time_s=torch.zeros(batch, 2), target=0,
                truth=truth, key=tuple(f"made/{i}" for i in range(batch)))


@torch.no_grad()
def test_training_gives_every_refinement_and_evaluation_the_last_one_both_ways() -> None:
    method, clip = Raft(THIN), clip_of()
    training = method.predict(clip).flow
    assert {pair: len(flows) for pair, flows in training.items()} == {(0, 1): 3}
    method.eval()
    flows = method.predict(clip).flow
    assert {pair: len(flows) for pair, flows in flows.items()} == {(0, 1): 1, (1, 0): 1}
    exchanged = replace(clip, images=clip.images.flip(1))
    torch.testing.assert_close(method.predict(exchanged).flow[0, 1], flows[1, 0])
    method.network.iterations_predict = 3
    torch.testing.assert_close(method.predict(clip).flow[0, 1][0], training[0, 1][0])


def test_the_loss_is_that_of_the_paper() -> None:
    """Off by one in both channels at half of the pixels, three refinements: (1 + .8 + .64) / 2; NaN elsewhere."""
    truth = torch.randn(2, 2, 64, 64)
    valid = torch.zeros(2, 1, 64, 64, dtype=torch.bool)
    valid[..., :32] = True
    told = torch.where(valid, truth, torch.nan)
    prediction = Prediction(flow={(0, 1): [truth + 1] * 3})
    for clip in (clip_of(told, valid), clip_of(told)):  # a truth without a mask is valid where it is finite
        terms = Raft(THIN).losses(clip, prediction, 0.5)
        assert list(terms) == ["loss/sequence"]
        assert float(terms.total) == pytest.approx(1.22)
    assert float(Raft(replace(THIN, gamma=0.5)).losses(clip_of(told, valid), prediction, 0.5).total) == pytest.approx(
        1.75 / 2)


def test_clips_without_true_flow_are_refused_by_name() -> None:
    method, clip = Raft(THIN), clip_of()
    for bare in (clip, replace(clip, truth=Truth())):
        with pytest.raises(DataError, match="made/0, made/1: its true flow is not known"):
            method.losses(bare, method.predict(bare), 0.0)


@pytest.mark.parametrize(("preset", "steps", "batch", "lr", "decay", "gamma", "predict", "frozen", "crop", "zoom"), [
    (chairs, 100_000, 10, 4e-4, 1e-4, 0.8, 24, False, (368, 496), (-0.1, 1.0)),
    (things, 100_000, 6, 1.25e-4, 1e-4, 0.8, 32, True, (400, 720), (-0.4, 0.8)),
    (sintel, 100_000, 6, 1.25e-4, 1e-5, 0.85, 32, True, (368, 768), (-0.2, 0.6)),
    (kitti, 50_000, 6, 1e-4, 1e-5, 0.85, 24, True, (288, 960), (-0.2, 0.4)),
])
def test_published_settings(preset, steps: int, batch: int, lr: float, decay: float, gamma: float, predict: int,
                            frozen: bool, crop: tuple[int, int], zoom: tuple[float, float]) -> None:
    run: Run = preset()
    assert run.data.crop == crop
    assert run.data.augment.zoom == pytest.approx((2 ** zoom[0], 2 ** zoom[1]))
    assert (run.loop.steps, run.optim.batch_size, run.optim.lr, run.optim.weight_decay) == (steps, batch, lr, decay)
    assert (run.optim.schedule, run.optim.clip_norm, run.optim.decoupled_weight_decay) == ("one_cycle_linear", 1, True)
    assert run.config == Config(gamma=gamma, iterations_predict=predict, freeze_batch_norm=frozen)
    assert Raft(replace(run.config, width=0.1)).network.freeze_batch_norm == frozen


def test_sizes_of_the_presets() -> None:
    def count(run: Run) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in Raft(run.config).parameters())
    assert [count(chairs()), count(small())] == [5_257_536, 990_162]
    assert 2e5 < count(tiny()) < 3e5


def test_a_thin_raft_learns_a_shift() -> None:
    """Noise that moves by (5, -3): 60 steps leave .78 of zero flow's 5.83 px; asked for is a third."""
    torch.manual_seed(0)
    method = Raft(replace(THIN, width=0.25, iterations=4))
    wide = torch.nn.functional.interpolate(torch.rand(2, 3, 24, 24), (80, 80), mode="bicubic").clamp(0, 1)
    images = torch.stack((wide[..., 8:72, 8:72], wide[..., 11:75, 3:67]), dim=1)
    truth = torch.tensor([5.0, -3.0]).view(1, 2, 1, 1).expand(2, 2, 64, 64)
    clip = replace(clip_of(truth), images=images)
    optimizer = torch.optim.AdamW(method.parameters(), lr=2e-3)
    prediction = Prediction()
    for _ in range(60):
        terms, prediction = method(clip, 0.5)
        optimizer.zero_grad()
        terms.total.backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 1.0)
        optimizer.step()
    error = (prediction.flow[0, 1][0].detach() - truth).norm(dim=1).mean()
    assert error < 34**0.5 / 3
