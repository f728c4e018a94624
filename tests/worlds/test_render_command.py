"""``egoflow render`` writes a whole folder or nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from egoflow.cli import main
from egoflow.data.cameras import read_camera
from egoflow.data.formats import read_depth_png, read_flo, read_image, read_mask
from egoflow.data.scene_flow import read_scene_flow
from egoflow.data.trajectories import read_trajectory
from egoflow.worlds.base import load_world

WORDS = ["--frames", "3", "--size", "32x96", "--seed", "4", "--movers", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("render") / "drive"
    assert main(["render", "drive", "--out", str(out), *WORDS]) == 0
    return out


def test_the_folder_holds_what_was_promised(folder: Path) -> None:
    names = {p.name: sorted(f.name for f in p.iterdir()) for p in folder.iterdir() if p.is_dir()}
    frames = ["000000", "000001", "000002"]
    assert names == {
        "image": [f"{n}.png" for n in frames], "depth": [f"{n}.png" for n in frames],
        "static": [f"{n}.png" for n in frames], "flow": [f"{n}.flo" for n in frames[:2]],
        "flow_backward": [f"{n}.flo" for n in frames[1:]], "visible": [f"{n}.png" for n in frames[:2]],
        "scene_flow": [f"{n}.npz" for n in frames[:2]]}
    assert sorted(p.name for p in folder.iterdir() if p.is_file()) == [
        "camera.json", "poses_kitti.txt", "trajectory_tum.txt", "world.json"]
    assert not [p for p in folder.parent.iterdir() if p != folder]


def test_the_files_are_the_worlds_frames(folder: Path) -> None:
    world = load_world("drive", seed=4, frames=3, height=32, width=96, movers=1)
    assert np.array_equal(read_image(folder / "image" / "000001.png"), world.image(1))
    depth, valid = read_depth_png(folder / "depth" / "000001.png")
    truth, pair = world.truth(1), world.pair_truth(1, 2)
    near = truth.valid_depth & (truth.depth < 250)
    assert np.array_equal(valid & near, near)
    assert not (valid & ~truth.valid_depth).any()
    assert np.abs(depth - truth.depth)[near].max() <= 0.5 / 256 + 1e-4
    assert np.array_equal(read_flo(folder / "flow" / "000001.flo")[0], pair.flow_ab[0].permute(1, 2, 0).numpy())
    back = read_flo(folder / "flow_backward" / "000002.flo")[0]
    assert np.array_equal(back, pair.flow_ba[0].permute(1, 2, 0).numpy())
    assert np.array_equal(read_mask(folder / "visible" / "000001.png"), pair.visible_ab[0, 0].numpy())
    motion, known = read_scene_flow(folder / "scene_flow" / "000001.npz")
    assert np.array_equal(motion, pair.scene_flow_ab[0].permute(1, 2, 0).numpy())
    assert np.array_equal(known, truth.valid_depth)
    assert np.linalg.norm(motion[~truth.static], axis=1).min() > 0.1
    static = read_mask(folder / "static" / "000001.png")
    assert np.array_equal(static, truth.static)
    assert not static.all()
    camera = read_camera(folder / "camera.json")
    assert (camera.height, camera.width, float(camera.fx)) == (32, 96, float(world.camera.fx))
    for name, form in (("poses_kitti.txt", "kitti"), ("trajectory_tum.txt", "tum")):
        path = read_trajectory(folder / name, format=form).world_from_cam
        torch.testing.assert_close(path.t, world.trajectory().world_from_cam.t, rtol=0, atol=1e-6)
    about = json.loads((folder / "world.json").read_text())
    assert (about["world"], about["seed"], about["options"]["movers"]) == ("drive", 4, 1)


@pytest.mark.parametrize(("words", "message"), [
    (["driv", "--out", "new"], "did you mean 'drive'"),
    (["drive", "--out", "new", "--size", "32"], "HEIGHTxWIDTH"),
    (["drive", "--out", "new", "--frames", "0"], "frames must be"),
    (["plane", "--out", "new", "--movers", "2"], "movers must be"),
    (["boxes", "--out", "new", "--device", "gpu"], "cannot be used"),
    (["boxes", "--out", "full"], "exists already"),
])
def test_mistakes_are_one_line_and_leave_nothing(words: list[str], message: str, tmp_path: Path,
                                                 capsys: pytest.CaptureFixture[str],
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    assert main(["render", *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["full"]


def test_an_interrupted_render_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from egoflow.worlds.base import World

    def stop(self: World, index: int) -> np.ndarray:
        raise KeyboardInterrupt

    monkeypatch.setattr(World, "image", stop)
    assert main(["render", "boxes", "--out", str(tmp_path / "out")]) == 130
    assert list(tmp_path.iterdir()) == []
