"""Windows, splits and the data set: no clip crosses a gap, no frame is in both parts, no broken frame ends a run."""

import logging
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from egoflow.config import Augment
from egoflow.data.clips import ClipDataset, collate, split, windows
from egoflow.data.open import FrameSlice, continuous_runs, parse_frames
from egoflow.errors import ConfigError, DataError
from egoflow.geometry.camera import Camera
from egoflow.geometry.se3 import SE3
from egoflow.types import FlowTruth, FrameSource, FrameTruth, Scale, TwoView


class Fake:
    """A source whose frame i is grey level i, with chosen numbers, times and broken frames."""

    def __init__(self, numbers: list[int] | int = 30, *, broken: tuple[int, ...] = (), time_s: np.ndarray | None = None,
                 named: bool = True) -> None:
        self.numbers = list(range(numbers)) if isinstance(numbers, int) else numbers
        self.name, self.named, self.broken, self.reads = "fake", named, broken, 0
        self.camera = Camera.create(20, 20, 11.5, 7.5, height=16, width=24)
        self.time_s: np.ndarray = np.array(self.numbers) * 0.1 if time_s is None else time_s
        self.scale: Scale = "metric"

    def __len__(self) -> int:
        return len(self.numbers)

    def image(self, index: int) -> np.ndarray:
        self.reads += 1
        if index in self.broken:
            raise DataError(f"fake/{self.numbers[index]:06d}.png: not a readable image")
        return np.full((16, 24, 3), self.numbers[index], np.uint8)

    def truth(self, index: int) -> FrameTruth:
        depth = np.full((32, 48), 2.0, np.float32) if index % 2 else None
        return FrameTruth(depth=depth, valid_depth=None if depth is None else depth > 0,
                          world_from_cam=SE3.exp(torch.tensor([0, 0, float(index), 0, 0, 0], dtype=torch.float64)))

    def frame_name(self, index: int) -> str:
        return f"{self.numbers[index]:06d}" if self.named else "abcdefghijklmnopqrstuvwxyzABCDEFGH"[index]


def _dataset(source: FrameSource, **options: object) -> ClipDataset:
    return ClipDataset([source], **{"length": 3, "target": 1, "height": 8, "width": 12, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(("source", "runs"), [
    (Fake(6), [range(6)]),
    (Fake([24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 60, 61, 62]), [range(11), range(11, 14)]),
    (Fake([*range(10), *range(11, 20)]), [range(10), range(10, 19)]),
    (Fake([0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 24, 26]), [range(11), range(11, 13)]),
    (Fake(8, time_s=np.array([0, 0.1, 0.2, 0.3, 0.9, 1.0, 1.1, 1.2])), [range(4), range(4, 8)]),
    (Fake(8, time_s=np.array([0, 0.03, 0.1, 0.13, 0.2, 0.23, 0.3, 0.4])), [range(8)]),
    (FrameSlice(Fake(12, named=False), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11]), [range(10), range(10, 11)]),
    (Fake(0), []),
])
def test_continuous_runs(source: FrameSource, runs: list[range]) -> None:
    assert continuous_runs(source) == runs


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(0, 80), min_size=30), st.integers(1, 5), st.integers(1, 3), st.integers(1, 4))
def test_windows_never_cross_a_gap(numbers: set[int], length: int, gap: int, stride: int) -> None:
    source = Fake(sorted(numbers))
    found = windows(source, length=length, gap=gap, stride=stride)
    runs = continuous_runs(source)
    for window in found:
        assert len(window) == length
        assert all(b - a == gap for a, b in zip(window, window[1:], strict=False))
        assert any(window[0] in run and window[-1] in run for run in runs)
    expected = sum(max(0, -(-(len(run) - (length - 1) * gap) // stride)) for run in runs)
    assert len(found) == expected


def test_windows_by_hand() -> None:
    assert windows(Fake(7), length=3, gap=2, stride=2) == [(0, 2, 4), (2, 4, 6)]
    assert windows(Fake(5), length=3, exclude={0}) == [(1, 2, 3), (2, 3, 4)]
    assert windows(Fake(5), length=3, exclude={0}, target=1) == [(0, 1, 2), (1, 2, 3), (2, 3, 4)]
    with pytest.raises(ConfigError, match="at least 1"):
        windows(Fake(5), length=3, gap=0)


@settings(max_examples=40, deadline=None)
@given(st.integers(120, 900), st.sampled_from([0.05, 0.1, 0.2]), st.integers(3, 5))
def test_split_shares_no_frame_and_keeps_a_margin(length: int, share: float, window: int) -> None:
    source = Fake(length)
    try:
        parts = split(source, validation=share, margin=window)
    except DataError:
        assert length < 200
        return
    train, held = ({i for w in windows(p, length=window) for i in (p.indices[j] for j in w)} for p in parts)
    assert train.isdisjoint(held)
    assert min(abs(a - b) for a in train for b in held) > window
    assert len(parts[1]) == pytest.approx(length * share, abs=5)
    assert len(parts[0]) + len(parts[1]) >= length - 2 * 4 * window


def test_split_of_too_few_frames_names_the_remedy() -> None:
    with pytest.raises(DataError, match="validation=0"):
        split(Fake(12), validation=0.5)
    train, held = split(Fake(12), validation=0)
    assert (len(train), len(held)) == (12, 0)


def test_items_hold_the_window_and_its_names() -> None:
    clip = _dataset(Fake([5, 6, 7, 8]))[1]
    assert clip.images.shape == (1, 3, 3, 8, 12)
    torch.testing.assert_close(clip.images[0, :, 0, 0, 0] * 255, torch.tensor([6.0, 7.0, 8.0]))
    assert clip.key == ("fake/000007",)
    assert clip.time_s[0].tolist() == pytest.approx([0.6, 0.7, 0.8])
    assert (clip.camera.height, clip.camera.width, float(clip.camera.fx), float(clip.camera.cx)) == (8, 12, 10, 5.5)
    assert clip.truth is None


def test_a_seed_decides_the_augmentation() -> None:
    augment = Augment(flip=True, scale_crop=0.15, colour=0.3)
    one, two = _dataset(Fake(9), augment=augment), _dataset(Fake(9), augment=augment)
    two[3, 1]
    torch.testing.assert_close(one[4, 7].images, two[4, 7].images, rtol=0, atol=0)
    assert not torch.equal(one[4, 7].images, one[4, 8].images)
    assert not torch.equal(one[4, 7].camera.fy, one[4].camera.fy)
    torch.testing.assert_close(one[4].images, _dataset(Fake(9))[4].images)
    assert one[2, 2**62].images.shape == (1, 3, 3, 8, 12)


def test_frames_are_read_once_while_they_fit() -> None:
    source = Fake(10)
    dataset = _dataset(source)
    for _ in range(3):
        for index in range(len(dataset)):
            dataset[index]
    assert source.reads == 10
    small = _dataset(source, cache_bytes=4 * 3 * 8 * 12)
    for index in range(len(small)):
        small[index]
    assert source.reads > 20


class Flowing(Fake):
    """A source of which flow is known, but for pairs that begin at frame 5: 2 (b - a) pixels to the right."""

    def flow_truth(self, a: int, b: int) -> FlowTruth | None:
        self.reads += 1
        seen = np.ones((16, 24), bool)
        flow = np.stack([2.0 * (b - a) * seen, 0.0 * seen]).astype(np.float32)
        return None if a == 5 else FlowTruth(flow_ab=flow, valid=seen, visible=seen)


def test_true_flow_is_asked_once_while_it_fits() -> None:
    pixels, reads = 8 * 12, []
    for cache_bytes in (2**20, 4 * 3 * pixels):
        source = Flowing(10)
        dataset = _dataset(source, with_truth=True, cache_bytes=cache_bytes)
        for _ in range(3):
            for index in range(len(dataset)):
                truth = dataset[index].truth
                assert truth is not None
                # At half the size; frame 5 is the target of clip 4.
                known = {pair for pair in ((1, 0), (0, 1), (1, 2), (2, 1)) if index + pair[0] != 5}
                assert set(truth.flow) == set(truth.valid_flow) == set(truth.visible) == known
                for (a, b), flow in truth.flow.items():
                    assert flow[0, :, 0, 0].tolist() == [b - a, 0]
        reads.append(source.reads)
    frames, pairs = 10, 2 * 9
    assert reads[0] == frames + pairs
    assert reads[1] > 3 * pairs


def test_a_broken_frame_is_named_once_and_its_clips_replaced(caplog: pytest.LogCaptureFixture) -> None:
    dataset = _dataset(Fake(10, broken=(4,)))
    with caplog.at_level(logging.WARNING, "egoflow"):
        keys = [dataset[i].key[0] for i in range(len(dataset))]
        keys += [dataset[i].key[0] for i in range(len(dataset))]
    assert caplog.text.count("fake/000004.png") == 1
    # Windows 2, 3, 4 hold frame 4; their nearest readable ones are 1, then 1 (earlier first), then 5.
    assert [k[-1] for k in keys[:8]] == ["1", "2", "2", "2", "6", "6", "7", "8"]
    assert keys[:8] == keys[8:]


def test_a_broken_frame_is_refused_where_asked() -> None:
    dataset = _dataset(Fake(10, broken=(4,)), on_broken="refuse")
    dataset[0]
    with pytest.raises(DataError, match="fake/000004.png"):
        dataset[3]


def test_nothing_readable_is_one_line() -> None:
    with pytest.raises(DataError, match="none of the 4 clips can be read; the first broken frame: fake/"):
        _dataset(Fake(6, broken=tuple(range(6))))[2]


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"length": 9}, DataError, "no clip of 9 consecutive frames"), ({"target": 3}, ConfigError, "outside a clip of 3")])
def test_what_cannot_make_a_clip_says_why(options: dict[str, int], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _dataset(Fake(5), **options)


def test_truth_of_frames_with_and_without_depth() -> None:
    dataset = _dataset(Fake(6), with_truth=True)
    truth = dataset[1].truth
    assert truth is not None
    assert truth.depth is not None
    assert truth.valid_depth is not None
    assert truth.world_from_cam is not None
    assert truth.depth.shape == truth.valid_depth.shape == (1, 3, 1, 32, 48)
    assert truth.valid_depth.flatten(2).all(2).tolist() == [[True, False, True]]
    assert truth.world_from_cam.t[0, :, 2].tolist() == [1, 2, 3]


def test_collate_joins_everything() -> None:
    def start(source: FrameSource, a: int, b: int) -> TwoView:
        motion = SE3.identity(1)
        return TwoView(flow_ab=torch.full((1, 2, 8, 12), float(b - a)), b_from_a=motion,
                       usable=torch.ones(1, 1, 8, 12, dtype=torch.bool), weight=torch.tensor([float(a)]))
    dataset = _dataset(Fake(9), start=start, with_truth=True)
    batch = collate([dataset[2], dataset[5]])
    assert batch.images.shape == (2, 3, 3, 8, 12)
    assert batch.key == ("fake/000003", "fake/000006")
    assert batch.camera.fx.shape == (2,)
    assert set(batch.start) == {(1, 0), (0, 1), (1, 2), (2, 1)}
    assert batch.start[1, 0].weight.tolist() == [3, 6]
    assert batch.start[1, 2].flow_ab[:, 0, 0, 0].tolist() == [1, 1]
    assert batch.truth is not None
    assert batch.truth.world_from_cam is not None
    assert batch.truth.world_from_cam.t.shape == (2, 3, 3)
    with pytest.raises(DataError, match="cannot share a batch"):
        collate([dataset[0], _dataset(Fake(9), height=16)[0]])


def test_collate_keeps_depth_that_only_some_clips_have() -> None:
    dataset = _dataset(Fake(6), length=1, target=0, with_truth=True)
    truth = collate([dataset[0], dataset[1]]).truth
    assert truth is not None
    assert truth.valid_depth is not None
    assert truth.valid_depth.flatten(1).all(1).tolist() == [False, True]


def test_workers_give_the_same_clips() -> None:
    dataset = _dataset(Fake(12), augment=Augment(scale_crop=0.1))
    keys = [[(1, 5), (2, 6)], [(3, 7), (0, 8)]]
    here, there = ([c.images for c in DataLoader(dataset, batch_sampler=keys, collate_fn=collate, num_workers=n)]
                   for n in (0, 1))
    for a, b in zip(here, there, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert pickle.loads(pickle.dumps(dataset))[0].key == dataset[0].key


@pytest.mark.parametrize(("text", "expected"), [("0:3", range(3)), ("-2:", range(8, 10)), (":7:3", range(0, 7, 3)),
                                                (":", range(10)), (" 2 : 4 ", range(2, 4))])
def test_frames_option(text: str, expected: range) -> None:
    assert parse_frames(text, length=10, name="x") == expected


@pytest.mark.parametrize("text", ["5", "a:b", "1:2:0", "9:2", "1:2:3:4", "::-1", "20:30"])
def test_frames_option_refuses(text: str) -> None:
    with pytest.raises(DataError, match="frames"):
        parse_frames(text, length=10, name="x")


def test_a_slice_of_a_slice_keeps_names_and_gaps() -> None:
    inner = FrameSlice(Fake(20, named=False), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13])
    outer = FrameSlice(inner, range(2, 12))
    assert outer.frame_name(0) == "c"
    assert outer.indices == [2, 3, 4, 5, 6, 7, 8, 9, 12, 13]
    assert outer.time_s[-1] == pytest.approx(1.3)
    assert windows(outer, length=2)[-1] == (8, 9)
    assert (7, 8) not in windows(outer, length=2)
