"""The whole way as a user goes it: train, predict, evaluate, interrupt, resume; and the demo that shows it."""

import json
import math
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from commands.clips import CAMERA, SMALL, image_folder, listing, video_file
from egoflow.cli import main
from egoflow.config import DataConfig
from egoflow.data.cameras import read_camera
from egoflow.data.formats import read_image
from egoflow.data.trajectories import read_trajectory
from egoflow.training.checkpoint import read
from egoflow.training.session import open_sources

SFM = "sfmlearner:tiny"


def _run(*words: object) -> None:
    assert main([str(word) for word in words]) == 0


def _train(data: Path | str, out: Path, *words: str, settings: tuple[str, ...] = ()) -> Path:
    _run("train", SFM, "--data", data, "--out", out, *words, "--set", *SMALL, "loop.steps=2", *settings)
    return out


def _json(capsys, *words: object) -> dict:
    capsys.readouterr()
    _run(*words, "--json")
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def drive(tmp_path_factory) -> Path:
    """Return a rendered drive of 8 frames with its truth."""
    folder = tmp_path_factory.mktemp("world") / "drive"
    _run("render", "drive", "--out", folder, "--frames", 8, "--size", "48x96", "--samples", 1, "--seed", 2)
    return folder


def test_from_a_rendered_drive_to_its_scores(drive: Path, tmp_path: Path, capsys) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    _run("train", SFM, "--data", drive, "--out", run, "--set", "data.height=48", "data.width=96", "loop.steps=6",
         "optim.batch_size=2", "loop.device=cpu")
    assert {p.name for p in run.iterdir()} >= {"run.json", "log.jsonl", "last.safetensors", "cache"}
    _run("predict", run, drive, "--out", out)
    depth = _json(capsys, "evaluate", "depth", "--prediction", out, "--truth", drive, "--crop", "none")
    assert depth["images"] == 8
    assert all(math.isfinite(depth[key]) for key in ("abs_rel", "rmse", "a1"))
    for truth in (drive, out):
        path = _json(capsys, "evaluate", "odometry", "--prediction", out, "--truth", truth)
        assert path["frames"] == 8
        assert math.isfinite(path["ate_rmse_m"])
        assert "two-view chain" in path["baselines"]


def test_a_two_view_chain_that_stands_still_is_no_error(tmp_path: Path, trained: Path, capsys) -> None:
    _run("render", "boxes", "--out", tmp_path / "boxes", "--frames", 6, "--size", "32x64", "--samples", 1)
    _run("predict", trained, tmp_path / "boxes", "--out", tmp_path / "out")
    chain = read_trajectory(tmp_path / "out" / "two_view_tum.txt", format="tum").world_from_cam.t
    assert chain.abs().max() == 0
    found = _json(capsys, "evaluate", "odometry", "--prediction", tmp_path / "out", "--truth", tmp_path / "boxes")
    assert found["baselines"]["two-view chain"] == {}


def test_a_world_is_rendered_while_training(tmp_path: Path, capsys) -> None:
    world = "world:boxes?frames=4&seed=1&samples=1"
    run = _train(world, tmp_path / "run")
    said = capsys.readouterr().out.splitlines()
    # The next command can be typed as it stands: the shell must not read ? and &.
    assert shlex.split(said[-1])[1:] == ["egoflow", "predict", str(run), world, "--out", str(run / "prediction")]
    _run(*shlex.split(said[-1])[2:])
    assert "4 frames" in capsys.readouterr().out
    assert (run / "prediction" / "truth_kitti.txt").exists()


def test_from_a_video_with_a_stated_camera(tmp_path: Path, capsys) -> None:
    video = video_file(tmp_path / "my clip.mp4")
    run = _train(video, tmp_path / "run", "--camera", CAMERA)
    capsys.readouterr()
    _run("predict", run, video, "--out", tmp_path / "out")
    assert capsys.readouterr().err == f"{video} brings no camera: the run's own, --camera {CAMERA}, is taken\n"
    assert float(read_camera(tmp_path / "out" / "camera.json").fx) == 60
    assert len(read_trajectory(tmp_path / "out" / "trajectory_tum.txt", format="tum").time_s) == 8
    _run("predict", run, video, "--out", tmp_path / "out2", "--camera", "fov=90", "--frames", "2:7")
    assert float(read_camera(tmp_path / "out2" / "camera.json").fx) == pytest.approx(32)
    assert sorted(p.name for p in (tmp_path / "out2" / "depth").glob("*.png")) == [f"{i:06d}.png" for i in range(2, 7)]


def test_a_camera_file_is_found_from_anywhere(tmp_path: Path, monkeypatch) -> None:
    video, here = video_file(tmp_path / "a.mp4"), tmp_path / "here"
    image_folder(here)
    monkeypatch.chdir(here)
    run = _train(video, tmp_path / "run", "--camera", "camera.json")
    monkeypatch.chdir(tmp_path)
    _run("predict", run, video, "--out", "out")
    assert float(read_camera(tmp_path / "out" / "camera.json").fx) == pytest.approx(0.9 * 64)


def test_the_runs_camera_is_not_taken_for_images_of_another_size(tmp_path: Path, capsys) -> None:
    run = _train(video_file(tmp_path / "a.mp4"), tmp_path / "run", "--camera", CAMERA)
    other = image_folder(tmp_path / "b", camera=False, height=64, width=128)
    capsys.readouterr()
    assert main(["predict", str(run), str(other), "--out", str(tmp_path / "out")]) == 2
    assert "the run's camera is not that of 64x128 images" in capsys.readouterr().err.splitlines()[-1]


def test_a_clips_own_camera_wins_over_the_runs(tmp_path: Path, capsys) -> None:
    run = _train(video_file(tmp_path / "a.mp4"), tmp_path / "run", "--camera", CAMERA)
    capsys.readouterr()
    _run("predict", run, image_folder(tmp_path / "b"), "--out", tmp_path / "out")
    assert capsys.readouterr().err == ""
    assert float(read_camera(tmp_path / "out" / "camera.json").fx) == pytest.approx(0.9 * 64)


def test_from_an_image_folder_of_another_size(tmp_path: Path, trained: Path) -> None:
    clip = image_folder(tmp_path / "clip", camera=False, height=45, width=77)
    _run("predict", trained, clip, "--camera", "fov=60", "--out", tmp_path / "out", "--depth-format", "npz",
         "--no-video", "--no-two-view")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "camera.json", "depth", "prediction.json", "trajectory_kitti.txt", "trajectory_tum.txt"]
    assert np.load(tmp_path / "out" / "depth" / "000003.npz")["depth"].shape == (45, 77)


def test_a_broken_frame_is_named_once_and_passed_over(tmp_path: Path, trained: Path, capsys) -> None:
    clip = image_folder(tmp_path / "clip", count=7)
    (clip / "000003.png").write_bytes((clip / "000003.png").read_bytes()[:100])
    capsys.readouterr()
    _run("predict", trained, clip, "--out", tmp_path / "out")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"skipped: {clip / '000003.png'}: ")
    assert len(read_trajectory(tmp_path / "out" / "trajectory_kitti.txt", format="kitti").time_s) == 7
    assert len(list((tmp_path / "out" / "depth").glob("*.png"))) == 6


def test_training_names_a_broken_frame_once_and_passes_over_it(tmp_path: Path, caplog) -> None:
    clip = image_folder(tmp_path / "clip", count=9)
    (clip / "000001.png").write_bytes(b"no image")
    _train(clip, tmp_path / "run", settings=("start=two_view",))
    assert [record.message.split(": ")[:2] for record in caplog.records] == [["skipped", str(clip / "000001.png")]]


def test_held_out_frames_choose_the_best_checkpoint(tmp_path: Path) -> None:
    clip = image_folder(tmp_path / "clip", count=60)
    run = _train(clip, tmp_path / "run", settings=("data.validation=0.1", "loop.save_every=1"))
    _, state, _ = read(run / "best.safetensors")
    scores = [json.loads(line).get("held_out/loss") for line in (run / "log.jsonl").read_text().splitlines()]
    assert state.best == min(s for s in scores if s is not None)
    _run("predict", run, clip, "--out", tmp_path / "out", "--checkpoint", "best", "--frames", ":4")


def test_predictions_keep_the_distance_that_was_trained(tmp_path: Path) -> None:
    clip = image_folder(tmp_path / "clip", count=9)
    run = _train(clip, tmp_path / "run", settings=("data.gap=2",))
    _run("predict", run, clip, "--out", tmp_path / "out")
    assert sorted(p.stem for p in (tmp_path / "out" / "depth").glob("*.png")) == [f"{i:06d}" for i in range(0, 9, 2)]
    assert read_trajectory(tmp_path / "out" / "trajectory_tum.txt", format="tum").time_s.tolist() == pytest.approx(
        [0, 0.2, 0.4, 0.6, 0.8])


def test_clips_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder in "ab":
        image_folder(tmp_path / folder / "clip")
    paths = tuple(str(tmp_path / folder / "clip") for folder in "ab")
    worlds = ("world:boxes?seed=1&frames=3", "world:boxes?seed=2&frames=3")
    names = [source.name for source in open_sources(DataConfig(paths=(*paths, *worlds, worlds[0])))]
    assert len(set(names)) == 5
    assert [source.name for source in open_sources(DataConfig(paths=paths[:1]))] == ["clip"]


def test_a_terminated_training_is_saved_and_goes_on(tmp_path: Path) -> None:
    clip, out = image_folder(tmp_path / "clip"), tmp_path / "run"
    words = ["train", SFM, "--data", str(clip), "--out", str(out), "--set", *SMALL, "loop.log_every=1"]
    with subprocess.Popen([sys.executable, "-m", "egoflow", *words, "loop.steps=5000"], text=True,
                          stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        log, end = out / "log.jsonl", time.monotonic() + 60
        while not (log.exists() and log.read_text().count("\n") > 3) and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert said.splitlines()[-1] == "stopped by SIGTERM and saved; the same command with --resume goes on"
    _, state, _ = read(out / "last.safetensors")
    assert 3 < state.step < 5000
    _run(*words, f"loop.steps={state.step + 2}", "--resume")
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert steps == list(range(1, state.step + 3))
    assert [path for path in listing(out) if path.startswith(".") or "partial" in path] == []


def test_resuming_where_nothing_is_starts_anew(tmp_path: Path, capsys) -> None:
    _train(image_folder(tmp_path / "clip"), tmp_path / "run", "--resume")
    assert "nothing is saved there yet; starting at step 0" in capsys.readouterr().err


def test_the_demo_shows_commands_that_can_be_typed_again(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    _run("demo", "--out", "my demo", "--frames", 6, "--steps", 2, "--size", "40x80", "--seed", 2)
    said = capsys.readouterr().out.splitlines()
    commands = [shlex.split(line.removeprefix("$ ")) for line in said if line.startswith("$ ")]
    assert [words[:2] for words in commands] == [["egoflow", name] for name in (
        "render", "train", "predict", "evaluate", "evaluate")]
    assert sorted(p.name for p in Path("my demo").iterdir()) == ["depth.png", "drive", "path.png", "prediction", "run"]
    for words in commands[-2:]:
        table = said[said.index(f"$ {shlex.join(words)}") + 1:]
        capsys.readouterr()
        assert main(words[1:]) == 0
        again = capsys.readouterr().out.splitlines()
        assert again == table[:len(again)]
    depth, path = read_image("my demo/depth.png"), read_image("my demo/path.png")
    assert depth.shape[1] > 3 * 240
    assert path.shape[0] == path.shape[1] >= 480
