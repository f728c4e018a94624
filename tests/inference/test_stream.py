"""The stream of predictions: which frames a clip holds, what a broken frame does, and how much memory it takes."""

import math
import tracemalloc
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from egoflow.errors import CheckpointError, DataError
from egoflow.geometry.se3 import SE3
from egoflow.inference.flow_stream import flow_pairs
from egoflow.inference.path import PathBuilder
from egoflow.inference.stream import FramePrediction, predict_stream, predicted_frames
from egoflow.types import Prediction
from inference.stubs import Numbers, Oracle, run_of


def _stream(source: Numbers, *, gap: int = 1, length: int = 3, target: int = 1) -> tuple[list[FramePrediction], Oracle]:
    method = Oracle(source, length=length, target=target)
    return list(predict_stream(method, run_of(source, gap=gap), source)), method


def _is(found: SE3 | None, a: int, b: int, source: Numbers) -> bool:
    """Say whether ``found`` is b_from_a of the source."""
    expected = source.path[b].inverse() @ source.path[a]
    return found is not None and torch.allclose(found.t, expected.t, atol=1e-6) and torch.allclose(
        found.R, expected.R, atol=1e-6)


@pytest.mark.parametrize(("length", "target", "asked"), [
    (1, 0, [[0], [1], [2], [3]]),
    (2, 0, [[0, 1], [1, 2], [2, 3], [3, 3]]),
    (2, 1, [[0, 0], [0, 1], [1, 2], [2, 3]]),
    (3, 1, [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3]]),
    (5, 2, [[0, 0, 0, 1, 2], [0, 0, 1, 2, 3], [0, 1, 2, 3, 3], [1, 2, 3, 3, 3]]),
    (9, 4, [[0, 0, 0, 0, 0, 1, 2, 3, 3], [0, 0, 0, 0, 1, 2, 3, 3, 3], [0, 0, 0, 1, 2, 3, 3, 3, 3],
            [0, 0, 1, 2, 3, 3, 3, 3, 3]]),
])
def test_the_ends_repeat_the_outermost_frame(length: int, target: int, asked: list[list[int]]) -> None:
    source = Numbers(4)
    frames, method = _stream(source, length=length, target=target)
    assert method.asked == asked
    assert source.read == [0, 1, 2, 3]
    # No motion to a frame that stands in for one that is not there.
    back, on = target > 0, target < length - 1
    assert [f.previous_from_this is not None for f in frames] == [False, back, back, back]
    assert [f.next_from_this is not None for f in frames] == [on, on, on, False]
    assert all(_is(f.next_from_this, f.index, f.index + 1, source) for f in frames[:-1] if on)
    assert all(_is(f.previous_from_this, f.index, f.index - 1, source) for f in frames[1:] if back)


def test_a_gap_takes_every_so_manieth_frame() -> None:
    source = Numbers(11)
    frames, method = _stream(source, gap=4)
    assert [f.index for f in frames] == [0, 4, 8] == list(predicted_frames(run_of(source, gap=4), source))
    assert method.asked == [[0, 0, 4], [0, 4, 8], [4, 8, 8]]
    assert _is(frames[1].next_from_this, 4, 8, source)


@pytest.mark.parametrize("broken", [(4,), (4, 5), (0,), (9,), (0, 3, 4, 8, 9)])
def test_a_broken_frame_is_named_and_its_neighbours_see_each_other(broken: tuple[int, ...], capsys) -> None:
    source = Numbers(10, broken=broken)
    frames, _ = _stream(source)
    assert [f.index for f in frames] == [i for i in range(10) if i not in broken]
    assert all(_is(a.next_from_this, a.index, b.index, source) and _is(b.previous_from_this, b.index, a.index, source)
               for a, b in pairwise(frames))
    said = capsys.readouterr().err.splitlines()
    assert said[:3] == [f"skipped: numbers/{i:03d}: broken" for i in broken[:3]]
    assert len(said) == min(len(broken), 3) + (len(broken) > 3)
    assert len(broken) <= 3 or said[3] == "skipped: 2 more of the 10 frames of numbers cannot be read"


def test_frames_that_are_too_few_or_all_broken_are_refused() -> None:
    with pytest.raises(DataError, match="numbers: one frame of 1; camera motion needs at least 2"):
        _stream(Numbers(1))
    with pytest.raises(DataError, match="numbers: one frame of 5, data.gap=9 apart"):
        _stream(Numbers(5), gap=9)
    with pytest.raises(DataError, match="numbers: none of its 3 frames can be read; the first: numbers/000: broken"):
        _stream(Numbers(3, broken=(0, 1, 2)))
    assert len(_stream(Numbers(1), length=1, target=0)[0]) == 1


@pytest.mark.parametrize("what", ["depth", "motion"])
def test_a_diverged_network_is_refused_by_name(what: str, monkeypatch) -> None:
    source = Numbers(4)
    method = Oracle(source)
    predict = method.predict

    def diverged(clip):
        found = predict(clip)
        bad = found.inv_depth[1][0] if what == "depth" else found.motion[1, 2].t
        if len(method.asked) == 3:
            bad[..., -1] = math.nan
        return found
    monkeypatch.setattr(method, "predict", diverged)
    with pytest.raises(CheckpointError, match=r"predicts NaN for numbers/002: .*diverged"):
        list(predict_stream(method, run_of(source), source))


def test_rotations_come_out_orthonormal(monkeypatch) -> None:
    source = Numbers(3)
    method = Oracle(source)
    predict = method.predict

    def rounded(clip) -> Prediction:
        found = predict(clip)
        for motion in found.motion.values():
            motion.R.mul_(1 + 3e-5)
        return found
    monkeypatch.setattr(method, "predict", rounded)
    motion = list(predict_stream(method, run_of(source), source))[0].next_from_this
    assert motion is not None
    assert (motion.R @ motion.R.mT - torch.eye(3, dtype=torch.float64)).abs().max() < 1e-12


@pytest.mark.parametrize(("length", "target"), [(3, 1), (5, 2)])
def test_only_the_frames_of_one_clip_are_held(length: int, target: int) -> None:
    source = Numbers(300)
    count = sum(1 for _ in predict_stream(Oracle(source, length=length, target=target), run_of(source), source))
    assert count == 300
    # The clip, the frame that is being read, and the one that the loop still names.
    assert source.most_alive <= length + 2


def test_memory_does_not_grow_with_the_video() -> None:
    def peak(frames: int) -> int:
        source = Numbers(frames, size=(48, 64))
        stream = predict_stream(Oracle(source), run_of(source), source)
        next(stream)
        tracemalloc.start()
        for frame in stream:
            assert isinstance(frame.image, np.ndarray)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most
    peak(20)
    short, long = peak(60), peak(320)
    # The stub's own list of what was asked grows by some 300 bytes a frame; one held picture would be 9 kB.
    assert long - short < 260 * 1000


def test_every_frame_is_predicted_by_neighbours_as_far_away_as_in_training() -> None:
    source = Numbers(12)
    run = replace(run_of(source, gap=3), every_frame=True)
    method, path = Oracle(source), PathBuilder()
    frames = list(predict_stream(method, run, source))
    for frame in frames:
        path.add(frame)
    assert [f.index for f in frames] == list(range(12))
    assert [f.key for f in frames] == [i % 3 == 0 for i in range(12)]
    assert method.asked[0] == [0, 0, 3]
    assert method.asked[5] == [2, 5, 8]
    assert [f.neighbours for f in (frames[0], frames[5], frames[11])] == [(None, 3), (2, 8), (8, None)]
    assert flow_pairs(run, source) == [(i, i + 3) for i in range(9)]
    said = path.trajectory(range(12), source.time_s)
    assert said is not None
    truth = source.path[0].inverse() @ SE3.stack(source.path)
    # Key frames, and those after the last one, which stand nowhere in between.
    for index in (0, 3, 6, 9, 10, 11):
        torch.testing.assert_close(said.world_from_cam[index].t, truth[index].t, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(said.world_from_cam[index].R, truth[index].R, atol=1e-5, rtol=1e-5)
    assert float((said.world_from_cam.t - truth.t).norm(dim=1).max()) < 0.02 * float(truth.t[-1].norm())
