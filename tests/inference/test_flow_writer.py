"""Folders of flow: what is read back from them is what was predicted, and what it means is written beside."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from egoflow.data.flow_frames import FlowFrames, Shot
from egoflow.data.formats import read_flo, read_flow_png, read_image, read_mask
from egoflow.data.open import FrameSlice
from egoflow.data.video import VideoFile
from egoflow.errors import DataError
from egoflow.inference import flow_writer
from egoflow.inference.flow_stream import FlowPrediction, flow_stream
from egoflow.inference.flow_writer import FlowWriter, confidence
from egoflow.types import FlowTruth, FrameSource
from egoflow.worlds.base import RenderedWorld, load_world
from inference.flow_stubs import Config, Shift
from inference.stubs import HEIGHT, WIDTH, Numbers, run_of


def _write(folder: Path, sources: Sequence[FrameSource], *, method: Shift | None = None, gap: int = 1,
           **options) -> Path:
    folder.mkdir()
    run = run_of(sources[0], gap=gap)
    with FlowWriter(folder, sources=sources, run=run, **options) as writer:
        for pair in flow_stream(method or Shift(Config()), run, sources):
            writer.add(pair)
        assert writer.finish() == len(list((folder / "occlusion").rglob("*.png")))
    return folder


def _files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def _about(folder: Path) -> dict:
    return json.loads((folder / "prediction.json").read_text())


def _vector(x: float, y: float, *, size: tuple[int, int] = (HEIGHT, WIDTH)) -> torch.Tensor:
    return torch.tensor([x, y], dtype=torch.float32).view(1, 2, 1, 1).expand(1, 2, *size)


@pytest.fixture(scope="module")
def drive() -> RenderedWorld:
    return load_world("drive", seed=1, frames=4, height=48, width=96, samples=1)


def test_flo_is_read_back_equal(drive: RenderedWorld, tmp_path: Path) -> None:
    method = Shift(Config())
    method.source = drive
    out = _write(tmp_path / "out", [drive], method=method)
    for a in range(3):
        truth = drive.flow_truth(a, a + 1)
        assert truth.visible is not None
        assert np.abs(truth.flow_ab).max() > 10
        for folder in ("flow", "truth"):
            found, valid = read_flo(out / folder / f"{a:06d}.flo")
            assert valid.all()
            np.testing.assert_array_equal(found, truth.flow_ab.transpose(1, 2, 0))
        np.testing.assert_array_equal(read_mask(out / "truth_visible" / f"{a:06d}.png"), truth.visible)
        # With the true flow both ways, forward and backward disagree where something is hidden: measured 0.94 to 0.96.
        hidden = read_mask(out / "occlusion" / f"{a:06d}.png")
        assert (hidden & ~truth.visible).sum() / (hidden | ~truth.visible).sum() > 0.9
    assert _about(out)["flow"]["with_truth"] == 3


def test_kitti_is_read_back_to_its_steps(drive: RenderedWorld, tmp_path: Path, capsys) -> None:
    method = Shift(Config())
    method.source = drive
    out = _write(tmp_path / "out", [drive], method=method, flow_format="kitti")
    found, valid = read_flow_png(out / "flow" / "000001.png")
    assert valid.all()
    np.testing.assert_allclose(found, drive.flow_truth(1, 2).flow_ab.transpose(1, 2, 0), atol=1 / 128 + 1e-6)
    assert capsys.readouterr().err == ""
    assert _about(out)["flow"]["format"] == "kitti"


@pytest.mark.parametrize(("x", "fits"), [(-512.0, True), (511.98, True), (-512.02, False), (512.0, False)])
def test_what_kitti_cannot_hold_is_unknown_and_said_once(x: float, fits: bool, tmp_path: Path, capsys) -> None:
    out = _write(tmp_path / "out", [Numbers(3)], method=Shift(Config(x=x)), flow_format="kitti", video=False)
    _, valid = read_flow_png(out / "flow" / "000.png")
    assert valid.all() == valid.any() == fits
    said = "" if fits else (f"{2 * HEIGHT * WIDTH} pixels move by 512 px or more, which KITTI's format cannot hold; "
                            "they are written as unknown (--flow-format flo holds them)\n")
    assert capsys.readouterr().err == said


def test_a_constant_flow_hides_the_strip_that_leaves_the_image(tmp_path: Path) -> None:
    out = _write(tmp_path / "out", [Numbers(2)])
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    leaves = (x + 3 > WIDTH - 1) | (y - 1 < 0)
    np.testing.assert_array_equal(read_mask(out / "occlusion" / "000.png"), leaves)
    grey = read_image(out / "confidence" / "000.png")
    np.testing.assert_array_equal(grey, np.where(leaves, 0, 255)[..., None].repeat(3, axis=2))


@pytest.mark.parametrize(("x", "y", "expected"), [(0, 0, 255), (0, 2, 85), (3, 4, 42), (-12, 16, 12), (300, 400, 1)])
def test_confidence_falls_with_the_return_error(x: float, y: float, expected: int) -> None:
    # 255 / (1 + e) for e = 0, 2, 5, 20 and 500 pixels: 255, 85, 42.5, 12.1, 0.5.
    flow_ab = _vector(1, 0)
    found = confidence(flow_ab, _vector(x - 1, y))
    inside = np.arange(WIDTH) < WIDTH - 1
    assert (found[:, ~inside] == 0).all()
    assert np.abs(found[:, inside].astype(int) - expected).max() <= (1 if expected == 1 else 0)


def test_what_is_written(tmp_path: Path) -> None:
    source = Numbers(4)
    out = _write(tmp_path / "out", [source])
    maps = [f"{kind}/{i:03d}.{suffix}" for kind, suffix in (
        ("confidence", "png"), ("flow", "flo"), ("occlusion", "png")) for i in range(3)]
    assert _files(out) == sorted([*maps, "flow.mp4", "flow_legend.png", "prediction.json"])
    about = _about(out)
    assert (about["method"], about["source"], about["gap"]) == ("stub:", "numbers", 1)
    flow = about["flow"]
    assert (flow["pairs"], flow["not_readable"], flow["with_truth"], flow["computed_at"]) == (3, [], 0, "native")
    assert (flow["alpha"], flow["beta_px2"]) == (0.01, 0.5)
    assert flow["full_colour_px"] == pytest.approx([10**0.5, 10**0.5])
    assert _files(_write(tmp_path / "no_video", [source], video=False)) == sorted([*maps, "prediction.json"])


def test_the_video_shows_the_image_above_its_flow(tmp_path: Path) -> None:
    out = _write(tmp_path / "out", [Numbers(100, size=(32, 48))], method=Shift(Config(x=4, y=0)))
    video = VideoFile(out / "flow.mp4", "fov=70")
    assert len(video) == 99
    np.testing.assert_allclose(video.time_s, 0.1 * np.arange(99), atol=1e-3)
    picture = video.image(60).astype(float)
    assert picture.shape == (64, 48, 3)
    np.testing.assert_allclose(picture[4:28].mean(), 60, atol=4)
    # To the right is red, and all of the flow is of the full colour's length.
    np.testing.assert_allclose(picture[36:60, 4:44].mean((0, 1)), [255, 0, 0], atol=12)


def test_broken_frames_are_listed_and_their_time_is_held(tmp_path: Path) -> None:
    out = _write(tmp_path / "out", [Numbers(100, broken=(0, *range(40, 60)))])
    missing = ["000", *(f"{i:03d}" for i in range(39, 60))]
    assert _about(out)["flow"]["not_readable"] == missing
    assert sorted(p.stem for p in (out / "flow").iterdir()) == sorted({f"{i:03d}" for i in range(99)} - set(missing))
    video = VideoFile(out / "flow.mp4", "fov=70")
    shades = [float(video.image(i)[:HEIGHT].mean()) for i in range(len(video))]
    np.testing.assert_allclose(shades, [1, *range(1, 39), *[38] * 21, *range(60, 99)], atol=5)


def test_a_gap_names_the_first_frame(tmp_path: Path) -> None:
    out = _write(tmp_path / "out", [Numbers(11)], gap=4)
    assert sorted(p.name for p in (out / "flow").iterdir()) == ["000.flo", "004.flo"]
    np.testing.assert_allclose(VideoFile(out / "flow.mp4", "fov=70").time_s, [0, 0.4], atol=1e-3)


def test_the_truth_is_that_of_the_pair_of_a_slice(drive: RenderedWorld, tmp_path: Path) -> None:
    out = _write(tmp_path / "out", [FrameSlice(drive, [1, 3])], video=False)
    assert [p.name for p in (out / "truth").iterdir()] == ["000001.flo"]
    found, _ = read_flo(out / "truth" / "000001.flo")
    np.testing.assert_array_equal(found, drive.flow_truth(1, 3).flow_ab.transpose(1, 2, 0))


def test_truth_that_is_sparse_unknown_or_damaged(tmp_path: Path, capsys) -> None:
    source, known = Numbers(4), np.zeros((HEIGHT, WIDTH), bool)
    known[3, 5] = True

    def flow_truth(a: int, b: int) -> FlowTruth | None:
        if a == 1:
            raise DataError("flow/001.flo: truncated")
        flow = np.where(known, np.float32(2), np.float32(np.nan))
        return FlowTruth(flow_ab=np.stack((flow, flow)), valid=known) if a == 0 else None
    source.flow_truth = flow_truth  # type: ignore[attr-defined]
    out = _write(tmp_path / "out", [source], video=False)
    assert _files(out / "truth") == ["000.flo"]
    assert not (out / "truth_visible").exists()
    found, valid = read_flo(out / "truth" / "000.flo")
    np.testing.assert_array_equal(valid, known)
    np.testing.assert_array_equal(found[3, 5], [2, 2])
    assert capsys.readouterr().err == "no true flow: flow/001.flo: truncated\n"
    assert len(list((out / "flow").iterdir())) == 3


def _named(name: str, frames: tuple[str, ...] = ("a", "b"), *, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Numbers:
    source = Numbers(len(frames), size=size)
    source.name, source.frame_name = name, lambda index: frames[index]  # type: ignore[method-assign]
    return source


@pytest.mark.parametrize(("names", "folders"), [
    (["sintel/clean/alley_1", "sintel/clean/alley_2"], ["alley_1", "alley_2"]),
    (["sintel/clean/alley_1", "sintel/final/alley_1"], ["clean/alley_1", "final/alley_1"]),
    (["world:boxes?scenes=2#0", "world:boxes?scenes=2#1"], ["world_boxes_scenes_2_0", "world_boxes_scenes_2_1"]),
    (["../a/clip", "./b/clip"], ["_/a/clip", "_/b/clip"]),
    (["a+b", "a-b", "a&b"], ["a_b_0", "a-b", "a_b_2"]),
    (["clip", "clip"], ["clip_0", "clip_1"])])
def test_frames_of_one_name_lie_below_their_sources(names: list[str], folders: list[str], tmp_path: Path) -> None:
    out = _write(tmp_path / "out", [_named(name) for name in names], video=False)
    assert _files(out / "flow") == sorted(f"{folder}/a.flo" for folder in folders)
    assert _about(out)["sources"] == names


def test_frames_that_their_names_tell_apart_lie_in_one_folder(tmp_path: Path) -> None:
    # The last frames begin no pair: their names may repeat.
    sources = [_named("chairs/1", ("1", "end"), size=(32, 48)), _named("chairs/2", ("2", "end"))]
    out = _write(tmp_path / "out", sources)
    assert _files(out / "flow") == ["1.flo", "2.flo"]
    assert read_flo(out / "flow" / "2.flo")[0].shape == (HEIGHT, WIDTH, 2)
    # One video of all, at the size of the first.
    video = VideoFile(out / "flow.mp4", "fov=70")
    assert [video.image(i).shape for i in range(len(video))] == [(64, 48, 3)] * 2


def test_the_colours_scale_moves_slowly_and_is_written(tmp_path: Path, monkeypatch) -> None:
    scales: list[float] = []

    def colours(flow: np.ndarray, *, largest: float) -> np.ndarray:
        scales.append(largest)
        return np.zeros((*flow.shape[1:], 3), np.uint8)
    monkeypatch.setattr(flow_writer, "flow_colours", colours)
    source, run = Numbers(4), run_of(Numbers(4))
    (tmp_path / "out").mkdir()
    with FlowWriter(tmp_path / "out", sources=[source], run=run) as writer:
        for a, length in enumerate((10.0, 20.0, 0.0)):
            writer.add(FlowPrediction(source=source, a=a, b=a + 1, image=source.image(a),
                                      flow_ab=_vector(0.6 * length, 0.8 * length), flow_ba=_vector(0, 0)))
        writer.finish()
    assert scales == pytest.approx([10, 11, 9.9])
    assert _about(tmp_path / "out")["flow"]["full_colour_px"] == pytest.approx([9.9, 11])


def test_a_writer_holds_no_more_pictures_with_time(tmp_path: Path) -> None:
    source = Numbers(120)
    _write(tmp_path / "out", [source])
    # Those of the stream, the one in the writer's hand, and the one that the test still names.
    assert source.most_alive <= 4 + 1


def test_two_images_anywhere_are_a_source(tmp_path: Path) -> None:
    from egoflow.data.formats import write_image
    files = [tmp_path / "left" / "im.png", tmp_path / "right" / "im.png"]
    for shade, file in enumerate(files):
        write_image(file, np.full((HEIGHT, WIDTH, 3), shade, np.uint8))
    source = FlowFrames(Shot(name="im", folder=Path(), frames=tuple(map(str, files))), "fov=60")
    out = _write(tmp_path / "out", [source], video=False)
    assert _files(out / "flow") == ["im.flo"]
