"""World chairs as a source of frames, as a data set and as folders; what is asked wrongly is one line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from egoflow.cli import main
from egoflow.data.clips import ClipDataset
from egoflow.data.formats import write_mask
from egoflow.data.open import open_shots, open_source
from egoflow.errors import ConfigError, DataError
from egoflow.types import FlowSource
from egoflow.worlds.base import load_world
from egoflow.worlds.chairs import DIFFICULTIES
from egoflow.worlds.layered_world import LayeredWorld

SIZE = {"height": 96, "width": 128}


def chairs(seed: int, difficulty: str = "mixed") -> LayeredWorld:
    return load_world("chairs", seed=seed, difficulty=difficulty, **SIZE)


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_the_seed_decides(difficulty: str) -> None:
    one, same, other = (load_world("chairs", seed=seed, difficulty=difficulty, **SIZE) for seed in (7, 7, 8))
    second, first = same.image(1), same.image(0)
    assert np.array_equal(one.image(0), first)
    assert np.array_equal(one.image(1), second)
    assert np.array_equal(one.flow_truth(0, 1).flow_ab, same.flow_truth(0, 1).flow_ab)
    assert not np.array_equal(one.image(0), other.image(0))


def test_the_same_seed_is_the_same_scene_at_another_size() -> None:
    small, large = chairs(6), load_world("chairs", seed=6, height=192, width=256)
    close = np.abs(large.flow_truth(0, 1).flow_ab[:, ::2, ::2] - 2 * small.flow_truth(0, 1).flow_ab).max(0) < 1.5
    assert close.mean() > 0.9


def test_it_is_a_source_of_frames_and_of_flow() -> None:
    world = chairs(0)
    assert isinstance(world, FlowSource)
    assert (len(world), world.frame_name(1), world.scale) == (2, "000001", "relative")
    assert (world.image(0).dtype, world.image(0).shape) == (np.uint8, (96, 128, 3))
    assert (world.camera.height, world.camera.width) == (96, 128)
    assert world.truth(0).depth is None
    assert world.truth(0).world_from_cam is None
    known = world.flow_truth(0, 1)
    assert (known.flow_ab.dtype, known.flow_ab.shape, known.valid.shape) == (np.float32, (2, 96, 128), (96, 128))
    assert known.valid.all()
    with pytest.raises(ConfigError, match="world chairs has frames 0 to 1, frame 2"):
        world.flow_truth(0, 2)


def test_clips_carry_the_flow_both_ways() -> None:
    dataset = ClipDataset([chairs(seed) for seed in range(3)], length=2, target=0, with_truth=True, **SIZE)
    clip = dataset[2]
    assert len(dataset) == 3
    for a, b in ((0, 1), (1, 0)):
        known = chairs(2).flow_truth(a, b)
        assert np.array_equal(clip.truth.flow[a, b][0].numpy(), known.flow_ab)
        assert np.array_equal(clip.truth.visible[a, b][0, 0].numpy(), known.visible)


@pytest.mark.parametrize(("options", "message"), [
    ({"difficulty": "thn"}, r"unknown difficulty 'thn' \(did you mean 'thin'\?\); choose mixed, homogeneous"),
    ({"difficulty": 3}, "difficulty must be a str"),
    ({"frames": 33}, "frames must be a whole number from 1 to 32"),
    ({"height": 7}, "height must be a whole number from 8"),
    ({"seed": -1}, "seed must be"),
    ({"movers": 1}, "world chairs has no option 'movers'"),
])
def test_wrong_options_are_one_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        load_world("chairs", **options)
    assert "\n" not in str(error.value)


def test_odd_sizes_render() -> None:
    for height, width in ((8, 8), (9, 31), (64, 8)):
        world = load_world("chairs", seed=3, height=height, width=width, difficulty="thin", samples=4)
        assert world.image(1).shape == (height, width, 3)
        assert world.flow_truth(1, 0).flow_ab.shape == (2, height, width)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("render") / "chairs"
    words = ["--frames", "2", "--seed", "3", "--scenes", "2", "--difficulty", "holes", "--size", "96x128"]
    assert main(["render", "chairs", "--out", str(out), *words]) == 0
    return out


def test_scenes_are_written_as_folders_and_read_again(rendered: Path) -> None:
    assert sorted(p.name for p in rendered.iterdir()) == ["000000", "000001"]
    found = sorted(str(p.relative_to(rendered / "000001")) for p in (rendered / "000001").rglob("*") if p.is_file())
    assert found == ["camera.json", "flow/000000.flo", "flow_backward/000001.flo", "image/000000.png",
                     "image/000001.png", "visible/000000.png", "world.json"]
    about = json.loads((rendered / "000001" / "world.json").read_text())
    assert (about["world"], about["seed"], about["options"]) == ("chairs", 4, {"difficulty": "holes"})
    source, world = open_source(rendered / "000001"), chairs(4, "holes")
    assert np.array_equal(source.image(1), world.image(1))
    assert isinstance(source, FlowSource)
    for a, b in ((0, 1), (1, 0)):
        assert np.array_equal(source.flow_truth(a, b).flow_ab, world.flow_truth(a, b).flow_ab)
    assert np.array_equal(source.flow_truth(0, 1).visible, world.flow_truth(0, 1).visible)
    # Only what is seen onwards is written.
    assert source.flow_truth(1, 0).visible is None


def test_a_folder_of_scenes_is_opened_as_all_of_them(rendered: Path) -> None:
    scenes = open_shots(rendered)
    assert [scene.name for scene in scenes] == ["000000", "000001"]
    assert np.array_equal(scenes[1].image(1), chairs(4, "holes").image(1))
    with pytest.raises(DataError, match=r"holds 2 clips; name one of them, for instance .*000000$"):
        open_source(rendered)


def test_scenes_of_another_world_are_its_seeds(tmp_path: Path) -> None:
    words = ["--frames", "2", "--size", "16x24", "--seed", "5", "--samples", "1"]
    assert main(["render", "boxes", "--out", str(tmp_path / "many"), "--scenes", "2", *words]) == 0
    source = open_source(tmp_path / "many" / "000001")
    world = load_world("boxes", seed=6, frames=2, height=16, width=24)
    assert np.array_equal(source.image(0), world.image(0))
    assert source.truth(0).depth is not None
    assert np.array_equal(source.flow_truth(1, 0).flow_ab, world.flow_truth(1, 0).flow_ab)
    assert source.flow_truth(0, 0) is None


@pytest.mark.parametrize(("words", "message"), [
    (["drive", "--difficulty", "thin"], "world drive has no option 'difficulty'"),
    (["chairs", "--difficulty", "wide"], "choose mixed, homogeneous, thin"),
    (["chairs", "--movers", "2"], "world chairs has no option 'movers'"),
    (["chairs", "--scenes", "0"], "expected a number of scenes"),
])
def test_wrong_words_are_one_line(words: list[str], message: str, tmp_path: Path,
                                  capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", *words, "--out", str(tmp_path / "new")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_damaged_flow_names_its_file(rendered: Path, tmp_path: Path) -> None:
    clip = shutil.copytree(rendered / "000000", tmp_path / "clip")
    write_mask(clip / "visible" / "000000.png", np.ones((5, 6), bool))
    with pytest.raises(DataError, match="visible/000000.png: 5x6 pixels, but the flow beside it has 96x128"):
        open_source(clip).flow_truth(0, 1)
    (clip / "flow" / "000000.flo").write_bytes(b"PIEH")
    with pytest.raises(DataError, match=r"flow/000000\.flo"):
        open_source(clip).flow_truth(0, 1)
