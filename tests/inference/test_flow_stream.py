"""The stream of flows: which pairs there are, both ways, at which size, and how much memory it takes."""

import math
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from egoflow.data.open import FrameSlice
from egoflow.errors import CheckpointError, ConfigError, DataError
from egoflow.inference.flow_stream import FlowPrediction, flow_pairs, flow_stream
from egoflow.methods.base import both_flows
from egoflow.types import FrameSource
from inference.flow_stubs import Config, Shift
from inference.stubs import HEIGHT, WIDTH, Numbers, Oracle, run_of


def _stream(sources: Sequence[FrameSource], *, gap: int = 1, size: tuple[int, int] | None = None,
            **config) -> tuple[list[FlowPrediction], Shift]:
    method = Shift(Config(**config))
    return list(flow_stream(method, run_of(sources[0], gap=gap), sources, size=size)), method


def _constant(flow: torch.Tensor, x: float, y: float) -> bool:
    expected = torch.tensor([x, y]).view(1, 2, 1, 1).expand(1, 2, HEIGHT, WIDTH)
    return torch.equal(flow, expected)


@pytest.mark.parametrize("both", [True, False])
def test_every_pair_of_neighbours_both_ways(both: bool) -> None:
    pairs, method = _stream([Numbers(4)], both=both)
    assert [(p.a, p.b) for p in pairs] == [(0, 1), (1, 2), (2, 3)]
    assert [int(p.image[0, 0, 0]) for p in pairs] == [0, 1, 2]
    assert all(_constant(p.flow_ab, 3, -1) and _constant(p.flow_ba, -3, 1) for p in pairs)
    # A method that gives one way alone is asked again with the frames exchanged.
    assert method.asked == ([[0, 1], [1, 2], [2, 3]] if both else [[0, 1], [1, 0], [1, 2], [2, 1], [2, 3], [3, 2]])


def test_the_exchanged_clip_brings_its_images_along(monkeypatch) -> None:
    seen = []
    method = Shift(Config(both=False, length=4, target=1))
    predict = method.predict

    def watched(clip):
        seen.append((255 * clip.images[0, :, 0, 0, 0]).round().int().tolist())
        return predict(clip)
    monkeypatch.setattr(method, "predict", watched)
    list(flow_stream(method, run_of(Numbers(4)), [Numbers(4)]))
    assert seen == method.asked == [[0, 0, 1, 2], [0, 1, 0, 2], [0, 1, 2, 3], [0, 2, 1, 3], [1, 2, 3, 3], [1, 3, 2, 3]]


@pytest.mark.parametrize(("length", "target", "asked"), [
    (3, 0, [[0, 1, 2], [1, 2, 2]]), (3, 1, [[0, 0, 1], [0, 1, 2]]), (5, 2, [[0, 0, 0, 1, 2], [0, 0, 1, 2, 2]])])
def test_longer_clips_give_the_pair_of_target_and_next(length: int, target: int, asked: list[list[int]]) -> None:
    pairs, method = _stream([Numbers(3)], length=length, target=target)
    assert [(p.a, p.b) for p in pairs] == [(0, 1), (1, 2)]
    assert method.asked == asked
    assert all(_constant(p.flow_ab, 3, -1) for p in pairs)


def test_a_gap_takes_every_so_manieth_frame() -> None:
    pairs, method = _stream([Numbers(11)], gap=4)
    assert [(p.a, p.b) for p in pairs] == [(0, 4), (4, 8)] == flow_pairs(run_of(Numbers(11), gap=4), Numbers(11))
    assert method.asked == [[0, 4], [4, 8]]


@pytest.mark.parametrize("broken", [(4,), (4, 5), (0,), (9,)])
def test_a_broken_frame_is_named_and_leaves_its_pairs_out(broken: tuple[int, ...], capsys) -> None:
    pairs, _ = _stream([Numbers(10, broken=broken)])
    assert [(p.a, p.b) for p in pairs] == [(i, i + 1) for i in range(9) if not {i, i + 1} & set(broken)]
    assert capsys.readouterr().err.splitlines() == [f"skipped: numbers/{i:03d}: broken" for i in broken]


def test_no_pair_crosses_a_jump(capsys) -> None:
    pairs, _ = _stream([FrameSlice(Numbers(20), [0, 1, 2, 9, 10, 11])])
    assert [(p.a, p.b) for p in pairs] == [(0, 1), (1, 2), (3, 4), (4, 5)]
    assert capsys.readouterr().err == "numbers: 1 of 5 pairs lie across a jump in names or time stamps; left out\n"


@pytest.mark.parametrize("size", [(8, 12), (32, 24), (16, 24), None])
def test_flow_comes_back_in_pixels_of_the_frames(size: tuple[int, int] | None) -> None:
    pairs, method = _stream([Numbers(2)], size=size)
    height, width = size or (HEIGHT, WIDTH)
    assert method.sizes == {(height, width)}
    assert _constant(pairs[0].flow_ab, 3 * WIDTH / width, -HEIGHT / height)
    assert _constant(pairs[0].flow_ba, -3 * WIDTH / width, HEIGHT / height)
    assert pairs[0].image.shape == (HEIGHT, WIDTH, 3)


def test_frames_keep_their_own_size_whatever_the_run_was_trained_at() -> None:
    run = run_of(Numbers(2))
    method = Shift(Config())
    pair = next(flow_stream(method, run, [Numbers(3, size=(20, 31))]))
    assert method.sizes == {(20, 31)}
    assert pair.flow_ab.shape == (1, 2, 20, 31)


def test_several_sources_come_one_after_the_other(capsys) -> None:
    sources: list[FrameSource] = [Numbers(2), Numbers(3, broken=(0, 1, 2)), Numbers(3, size=(8, 8))]
    pairs, _ = _stream(sources)
    assert [(sources.index(p.source), p.a) for p in pairs] == [(0, 0), (2, 0), (2, 1)]
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == "skipped: numbers: none of its 3 frames can be read; the first: numbers/000: broken"


@pytest.mark.parametrize(("source", "gap", "says"), [
    (Numbers(1), 1, "numbers: no two neighbouring frames, data.gap=1 apart"),
    (Numbers(5), 5, "numbers: no two neighbouring frames, data.gap=5 apart"),
    (Numbers(4, broken=(1, 3)), 1, "no two neighbouring frames"),
    (Numbers(3, broken=(0, 1, 2)), 1, "none of its 3 frames can be read; the first: numbers/000: broken")])
def test_footage_without_a_pair_is_refused(source: Numbers, gap: int, says: str) -> None:
    with pytest.raises(DataError, match=says):
        _stream([source], gap=gap)


@pytest.mark.parametrize(("length", "target"), [(3, 1), (2, 1), (1, 0)])
def test_a_method_without_flow_is_refused(length: int, target: int) -> None:
    source = Numbers(4)
    method = Oracle(source, length=length, target=target)
    with pytest.raises(ConfigError, match="stubs: this method gives no flow"):
        next(flow_stream(method, run_of(source), [source]))
    assert len(method.asked) == 1


@pytest.mark.parametrize("way", [(0, 1), (1, 0)])
def test_a_diverged_network_is_refused_by_name(way: tuple[int, int], monkeypatch) -> None:
    method = Shift(Config())
    predict = method.predict

    def diverged(clip):
        found = predict(clip)
        if len(method.asked) == 3:
            found.flow[way][0][..., -1, -1] = math.nan
        return found
    monkeypatch.setattr(method, "predict", diverged)
    with pytest.raises(CheckpointError, match=r"predicts NaN for numbers/002: .*diverged"):
        list(flow_stream(method, run_of(Numbers(4)), [Numbers(4)]))


def test_both_flows_keep_the_batch_and_forget_the_truth() -> None:
    source = Numbers(3)
    method = Shift(Config())
    clips = []
    method.predict = lambda clip: clips.append(clip) or Shift.predict(method, clip)  # type: ignore[method-assign]
    next(flow_stream(method, run_of(source), [source]))
    batch = replace(clips[0], images=torch.rand(2, 2, 3, HEIGHT, WIDTH), time_s=torch.tensor([[0.1, 0.2], [0.5, 0.6]]))
    seen = []
    method.predict = lambda clip: seen.append(clip) or replace(  # type: ignore[method-assign]
        Shift.predict(method, clip), flow={(0, 1): [clip.images[:, 0, :2]]})
    flow_ab, flow_ba = both_flows(method, batch)
    assert torch.equal(flow_ab, batch.images[:, 0, :2])
    assert torch.equal(flow_ba, batch.images[:, 1, :2])
    assert torch.equal(seen[1].time_s, batch.time_s.flip(1))
    assert seen[1].truth is None


def test_only_the_frames_of_one_pair_are_held() -> None:
    source = Numbers(300)
    assert sum(1 for _ in flow_stream(Shift(Config()), run_of(source), [source])) == 299
    # The pair, the frame that is being read, and the one that the loop still names.
    assert source.most_alive <= 4


def test_memory_does_not_grow_with_the_video() -> None:
    def peak(frames: int) -> int:
        source = Numbers(frames, size=(48, 64))
        stream = flow_stream(Shift(Config()), run_of(source), [source])
        next(stream)
        tracemalloc.start()
        for pair in stream:
            assert isinstance(pair.image, np.ndarray)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most
    peak(20)
    short, long = peak(60), peak(320)
    # The stub's own list of what was asked grows by some 300 bytes a pair; one held picture would be 9 kB.
    assert long - short < 260 * 1000
