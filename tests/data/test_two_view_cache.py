"""The two-view start on disk: read back, made anew when damaged, never that of another picture or camera."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from egoflow.data import two_view_cache
from egoflow.data.two_view_cache import TwoViewCache
from egoflow.geometry.se3 import SE3, rotation_angle
from egoflow.geometry.two_view import pair_geometry
from egoflow.types import FrameTruth, TwoView
from egoflow.worlds.base import World, load_world

HEIGHT, WIDTH = 48, 144


class Frames:
    """The first frames of a drive, rendered once; ``images`` and ``camera`` may be changed."""

    scale = "metric"

    def __init__(self, world: World, *, name: str = "drive") -> None:
        self.name, self.camera, self.time_s = name, world.camera, world.time_s
        self.images = [world.image(i) for i in range(len(world))]

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> np.ndarray:
        return self.images[index]

    def truth(self, index: int) -> FrameTruth:
        return FrameTruth()

    def frame_name(self, index: int) -> str:
        return f"{index:06d}"


@pytest.fixture(scope="module")
def world() -> World:
    return load_world("drive", seed=3, frames=3, height=96, width=288, movers=0)


@pytest.fixture
def frames(world: World) -> Frames:
    return Frames(world)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows with every pair that is computed."""
    calls: list[int] = []

    def counted(*args, **kwargs):  # noqa: ANN002, ANN003, ANN202
        calls.append(1)
        return pair_geometry(*args, **kwargs)
    monkeypatch.setattr(two_view_cache, "pair_geometry", counted)
    return calls


def cache(folder: Path | None, *, height: int = HEIGHT, width: int = WIDTH) -> TwoViewCache:
    return TwoViewCache(height=height, width=width, folder=folder)


def same(a: TwoView, b: TwoView) -> bool:
    return all(torch.equal(x, y) for x, y in (
        (a.flow_ab, b.flow_ab), (a.usable, b.usable), (a.b_from_a.R, b.b_from_a.R), (a.b_from_a.t, b.b_from_a.t),
        (a.weight, b.weight)))


def test_answer_is_the_geometry_on_the_working_grid(world: World, frames: Frames) -> None:
    view, truth = cache(None)(frames, 0, 1), world.pair_truth(0, 1)
    assert (tuple(view.flow_ab.shape), view.flow_ab.dtype) == ((1, 2, HEIGHT, WIDTH), torch.float32)
    assert (tuple(view.usable.shape), view.usable.dtype) == ((1, 1, HEIGHT, WIDTH), torch.bool)
    assert float(view.weight) > 0.8
    assert float(view.b_from_a.t.norm()) == pytest.approx(1, abs=1e-6)
    turn = rotation_angle(view.b_from_a.R[0].double() @ truth.b_from_a.R.reshape(3, 3).double().mT)
    assert float(torch.rad2deg(turn)) < 0.15
    # Half the size, half the flow.
    half = torch.nn.functional.avg_pool2d(truth.flow_ab, 2) / 2
    error = (view.flow_ab - half).norm(dim=1, keepdim=True)[view.usable]
    assert error.median() < 0.3


def test_both_directions_are_one_motion_computed_once(frames: Frames, computed: list[int]) -> None:
    views = cache(None)
    there, back = views(frames, 0, 1).b_from_a, views(frames, 1, 0).b_from_a
    assert len(computed) == 1
    identity = SE3(there.R, there.t) @ SE3(back.R, back.t)
    assert float(rotation_angle(identity.R)) < 1e-3
    assert float(identity.t.norm()) < 1e-6


def test_a_second_session_reads_the_file(frames: Frames, computed: list[int], tmp_path: Path) -> None:
    first = cache(tmp_path / "new" / "folder")
    answers = [first(frames, *pair) for pair in ((0, 1), (1, 0), (2, 1))]
    assert len(computed) == 2
    second = cache(tmp_path / "new" / "folder")
    assert all(same(second(frames, *pair), answer)
               for pair, answer in zip(((0, 1), (1, 0), (2, 1)), answers, strict=True))
    assert len(computed) == 2
    assert sorted(p.suffix for p in (tmp_path / "new" / "folder").iterdir()) == [".npz", ".npz"]


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "foreign", "lacking"])
def test_a_damaged_file_is_made_anew(frames: Frames, computed: list[int], tmp_path: Path, damage: str) -> None:
    answer = cache(tmp_path)(frames, 0, 1)
    path = next(tmp_path.iterdir())
    whole = path.read_bytes()
    middle = len(whole) // 2
    if damage == "lacking":
        with path.open("wb") as file:
            np.savez(file, f_flow=np.zeros((1, 2, 3, 3), np.float32))
    else:
        path.write_bytes({"empty": b"", "cut": whole[:middle], "foreign": b"not a zip file at all",
                          "flipped": whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1:]}[damage])
    assert same(cache(tmp_path)(frames, 0, 1), answer)
    assert len(computed) == 2
    # And written again.
    assert same(cache(tmp_path)(frames, 0, 1), answer)
    assert len(computed) == 2


def test_a_changed_picture_camera_or_size_is_another_question(frames: Frames, computed: list[int], world: World,
                                                              tmp_path: Path) -> None:
    cache(tmp_path)(frames, 0, 1)
    other = Frames(world)
    other.images[1] = other.images[1].copy()
    other.images[1][40, 100, 0] ^= 1
    cache(tmp_path)(other, 0, 1)
    assert len(computed) == 2
    zoomed = Frames(world)
    zoomed.camera = replace(zoomed.camera, fx=zoomed.camera.fx * 1.01)
    cache(tmp_path)(zoomed, 0, 1)
    assert len(computed) == 3
    assert cache(tmp_path, height=24, width=72)(frames, 0, 1).flow_ab.shape[-2:] == (24, 72)
    assert len(computed) == 4
    # The name of a source is no part of the question.
    cache(tmp_path)(Frames(world, name="the same under another name"), 0, 1)
    assert len(computed) == 4


def test_a_folder_that_cannot_be_written_is_no_error(frames: Frames, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert float(cache(tmp_path / "file")(frames, 0, 1).weight) > 0.8
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_pair_without_motion_is_kept_with_weight_0(frames: Frames, computed: list[int], tmp_path: Path) -> None:
    frames.images[1] = frames.images[0]
    for _ in range(2):
        view = cache(tmp_path)(frames, 0, 1)
        assert float(view.weight) == 0
        assert not view.b_from_a.t.any()
    assert len(computed) == 1
