"""``egoflow predict`` of what moves by itself: files that ``egoflow evaluate`` scores as they are."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from egoflow.cli import main
from egoflow.data.formats import read_flo, read_image, write_image
from egoflow.data.scene_flow import read_scene_flow
from egoflow.data.video import VideoFile
from egoflow.inference.stream import predict_stream
from egoflow.inference.writer import PredictionWriter
from egoflow.registry import load_method, load_preset
from egoflow.training.checkpoint import State, save
from inference import mover_stubs
from inference.mover_stubs import FRAMES, HEIGHT, WIDTH, Config
from inference.stubs import Numbers

NAMES = [f"{i:06d}" for i in range(FRAMES)]
FILES = {"mover", "scene_flow", "movers.mp4"}


def _run(folder: Path, **config) -> Path:
    run = replace(mover_stubs.tiny(), config=Config(**config))
    save(folder / "run.safetensors", run, load_method(run.method).method_type(run.config), State())
    return folder / "run.safetensors"


def _predict(*words: object) -> int:
    return main(["predict", *map(str, words), "--device", "cpu", "--no-two-view"])


def _score(capsys: pytest.CaptureFixture[str], what: str, *words: object) -> dict:
    capsys.readouterr()
    assert main(["evaluate", what, *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def _inside(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("movers") / "drive"
    words = ["--frames", str(FRAMES), "--size", f"{HEIGHT}x{WIDTH}", "--seed", "11", "--movers", "4", "--samples", "1"]
    assert main(["render", "drive", "--out", str(out), *words]) == 0
    return out


@pytest.mark.parametrize("unit", [1.0, 0.3])
def test_the_truth_scores_well(unit: float, drive: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert _predict(_run(tmp_path, unit=unit), drive, "--out", out) == 0
    assert _inside(out) >= FILES
    assert not {"rigid_flow", "residual_flow", "flow"} & _inside(out)
    assert sorted(p.stem for p in (out / "mover").iterdir()) == NAMES
    assert sorted(p.stem for p in (out / "scene_flow").iterdir()) == NAMES[:-1]
    masks = _score(capsys, "motion", "--prediction", out, "--truth", drive)
    assert (masks["images"], masks["false_alarms"]) == (FRAMES, pytest.approx(0, abs=2e-3))
    assert masks["mover_iou"] > 0.9
    motion = _score(capsys, "sceneflow", "--prediction", out, "--truth", drive)
    assert motion["scale_factor_median"] == pytest.approx(1 / unit, rel=1e-3)
    # Measured .129 m of .881 m.
    assert motion["baselines"]["prediction, moving"]["epe_m"] < 0.2
    assert motion["baselines"]["nothing moves, moving"]["epe_m"] > 0.8
    assert motion["baselines"]["prediction, static"]["epe_m"] < 5e-3
    assert motion["baselines"]["prediction, static"]["density_percent"] > 60


def test_every_file_and_what_is_said_of_it(drive: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert _predict(_run(tmp_path), drive, "--quantity", "all", "--out", out) == 0
    assert f"wrote {out}: {FRAMES} frames, {FRAMES - 1} pairs; " in capsys.readouterr().out
    about = json.loads((out / "prediction.json").read_text())["movers"]
    assert (about["frames"], about["pairs"]) == (FRAMES, FRAMES - 1)
    assert {"mover", "scene_flow", "rigid_flow", "residual_flow"} <= about.keys() & _inside(out)
    for name in NAMES[:-1]:
        rigid, residual, flow = (read_flo(out / part / f"{name}.flo")[0] for part in (
            "rigid_flow", "residual_flow", "flow"))
        np.testing.assert_allclose(rigid + residual, flow, atol=1e-4)
        mover, (motion, valid) = read_image(out / "mover" / f"{name}.png"), read_scene_flow(
            out / "scene_flow" / f"{name}.npz")
        assert mover.shape == (HEIGHT, WIDTH, 3)
        assert motion.shape == mover.shape
        assert valid.any()
        # What moves in space is called moving, and leaves a residual.
        moves = (motion != 0).any(axis=2)
        assert moves.sum() > 300
        assert (mover[moves] >= 127).all()
        assert np.linalg.norm(residual, axis=2)[moves].min() > 0.05
    assert not (out / "residual_flow" / f"{NAMES[-1]}.flo").exists()
    video = VideoFile(out / "movers.mp4", "fov=70")
    assert len(video) == FRAMES
    picture, image = (value.astype(float) for value in (video.image(1), read_image(drive / "image" / "000001.png")))
    moving = read_image(out / "mover" / "000001.png")[..., 0] > 240
    assert (picture - image)[moving][:, 0].mean() > 30
    assert (picture - image)[moving][:, 2].mean() < -20
    assert np.abs((picture - image)[read_image(out / "mover" / "000001.png")[..., 0] == 0]).mean() < 8


def test_frames_of_another_size(drive: Path, tmp_path: Path) -> None:
    clip = tmp_path / "large"
    for name in NAMES:
        image = read_image(drive / "image" / f"{name}.png")
        write_image(clip / f"{name}.png", image.repeat(2, axis=0).repeat(2, axis=1))
    assert _predict(_run(tmp_path), clip, "--camera", "fov=70", "--quantity", "all", "--size", "trained", "--no-video",
                    "--out", tmp_path / "out") == 0
    assert read_image(tmp_path / "out" / "mover" / "000001.png").shape[:2] == (2 * HEIGHT, 2 * WIDTH)
    motion, valid = read_scene_flow(tmp_path / "out" / "scene_flow" / "000001.npz")
    assert valid.shape == (2 * HEIGHT, 2 * WIDTH)
    # Nearest pixels: nothing between what moves and what does not.
    np.testing.assert_array_equal(motion[::2, ::2], motion[1::2, 1::2])
    rigid, residual, flow = (read_flo(tmp_path / "out" / part / "000001.flo")[0] for part in (
        "rigid_flow", "residual_flow", "flow"))
    np.testing.assert_allclose(rigid + residual, flow, atol=1e-3)


def test_by_choice_and_where_nothing_is_known_nothing_is_written(drive: Path, tmp_path: Path) -> None:
    left_out = {*FILES, "rigid_flow", "residual_flow"}
    assert _predict(_run(tmp_path), drive, "--no-movers", "--no-video", "--out", tmp_path / "no") == 0
    assert _predict(_run(tmp_path, flow=False), drive, "--out", tmp_path / "without") == 0
    assert _predict(_run(tmp_path), drive, "--no-video", "--out", tmp_path / "quiet") == 0
    for folder in ("no", "without"):
        assert not left_out & _inside(tmp_path / folder)
        assert "movers" not in json.loads((tmp_path / folder / "prediction.json").read_text())
    assert "inv_depth.mp4" in _inside(tmp_path / "without")
    assert not {"movers.mp4", "inv_depth.mp4"} & _inside(tmp_path / "quiet")


def test_a_file_never_leads_past_a_frame_that_cannot_be_read(drive: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip"
    shutil.copytree(drive, clip)
    (clip / "image" / "000001.png").write_bytes(b"no image")
    assert _predict(_run(tmp_path), clip, "--out", tmp_path / "out") == 0
    assert sorted(p.stem for p in (tmp_path / "out" / "mover").iterdir()) == ["000000", "000002", "000003"]
    assert sorted(p.stem for p in (tmp_path / "out" / "scene_flow").iterdir()) == ["000002"]
    assert len(VideoFile(tmp_path / "out" / "movers.mp4", "fov=70")) == FRAMES


def test_two_frames_at_a_time_tell_nothing_of_the_last(drive: Path, tmp_path: Path) -> None:
    assert _predict(_run(tmp_path, frames=2), drive, "--no-video", "--out", tmp_path / "out") == 0
    for folder in ("mover", "scene_flow"):
        assert sorted(p.stem for p in (tmp_path / "out" / folder).iterdir()) == NAMES[:-1]


def test_an_untrained_network_runs(drive: Path, tmp_path: Path, capsys) -> None:
    entry, run = load_preset("dfnet:tiny")
    save(tmp_path / "run.safetensors", run, entry.method_type(run.config), State())
    assert _predict(tmp_path / "run.safetensors", drive, "--out", tmp_path / "out") == 0
    assert _inside(tmp_path / "out") >= FILES
    masks = _score(capsys, "motion", "--prediction", tmp_path / "out", "--truth", drive)
    motion = _score(capsys, "sceneflow", "--prediction", tmp_path / "out", "--truth", drive)
    assert (masks["images"], motion["pairs"]) == (FRAMES, FRAMES - 1)


@pytest.mark.parametrize("size", [(1, 1), (7, 5)])
def test_the_smallest_frames(size: tuple[int, int], tmp_path: Path) -> None:
    source = Numbers(5, broken=(2,), size=size)
    entry, run = load_preset("dfnet:tiny")
    run = replace(run, data=replace(run.data, height=size[0], width=size[1]))
    with PredictionWriter(tmp_path, source=source, run=run, flows=True) as writer:
        for frame in predict_stream(entry.method_type(run.config).eval(), run, source):
            assert frame.own_motion is not None
            assert np.isfinite(frame.own_motion.probability).all()
            assert np.isfinite(frame.own_motion.scene_flow).all()
            assert frame.own_motion.to_next == (frame.index < 4)
            writer.add(frame)
        writer.finish()
    assert read_image(tmp_path / "mover" / "004.png").shape[:2] == size
    assert sorted(p.stem for p in (tmp_path / "scene_flow").iterdir()) == ["000", "003"]
    assert sorted(p.stem for p in (tmp_path / "residual_flow").iterdir()) == ["000", "003"]
