"""``egoflow evaluate sceneflow`` end to end: a rendered drive, scales, parts, and every mistake in one line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from egoflow.cli import main
from egoflow.data.formats import read_depth_png, write_depth_npz, write_mask, write_pfm
from egoflow.data.scene_flow import read_scene_flow, write_scene_flow

NAMES = [f"{i:06d}" for i in range(3)]
FACTORS = (0.2, 0.25, 0.5)


def _json(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    assert main(["evaluate", "sceneflow", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def _refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["evaluate", "sceneflow", *map(str, words)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sceneflow") / "drive"
    words = ["--frames", "4", "--size", "48x144", "--seed", "3", "--movers", "4", "--samples", "1"]
    assert main(["render", "drive", "--out", str(out), *words]) == 0
    return out


@pytest.fixture
def drive(rendered: Path, tmp_path: Path) -> Path:
    """A drive, and a prediction of it: the truth, each pair in a unit of its own."""
    shutil.copytree(rendered, tmp_path / "drive")
    for name, factor in zip(NAMES, FACTORS, strict=True):
        flow, known = read_scene_flow(tmp_path / "drive" / "scene_flow" / f"{name}.npz")
        depth, valid = read_depth_png(tmp_path / "drive" / "depth" / f"{name}.png")
        write_scene_flow(tmp_path / "out" / "scene_flow" / f"{name}.npz", factor * flow, known)
        write_depth_npz(tmp_path / "out" / "depth" / f"{name}.npz", factor * depth, valid)
    return tmp_path


def test_the_truth_scores_perfectly(drive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for scale in ("pair", "set", "none"):
        found = _json(capsys, "--prediction", drive / "drive", "--truth", drive / "drive", "--scale", scale)
        for row in (found, found["baselines"]["prediction, static"], found["baselines"]["prediction, moving"]):
            assert [row[key] for key in ("epe_m", "strict_percent", "relaxed_percent", "outliers_percent")] == [
                0, 100, 100, 0]
        assert found["baselines"]["nothing moves, static"]["epe_m"] == 0
        assert found["baselines"]["nothing moves, moving"]["epe_m"] > 0.3
        assert found["pairs"] == 3


def test_one_factor_a_pair_or_for_the_set(drive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The units differ by up to 2.5: a factor a pair hides it, one for the set (that of the middle pair) does not."""
    words = ["--prediction", drive / "out", "--truth", drive / "drive"]
    lengths = []
    for name in NAMES:
        flow, known = read_scene_flow(drive / "drive" / "scene_flow" / f"{name}.npz")
        lengths.append(np.linalg.norm(flow[known].astype(float), axis=1).mean())
    pair = _json(capsys, *words)
    assert pair["epe_m"] == pytest.approx(0, abs=1e-5)
    assert pair["scale_factor_median"] == pytest.approx(4, rel=1e-4)
    assert pair["scale_factor_spread"] > 0.1
    for scale, common in (("set", 4.0), ("none", 1.0)):
        found = _json(capsys, *words, "--scale", scale)
        assert found["scale_factor_spread"] == 0
        for name, factor, length in zip(NAMES, FACTORS, lengths, strict=True):
            assert found["per_pair"][name]["epe_m"] == pytest.approx(abs(common * factor - 1) * length, rel=1e-3)


def test_other_layouts_and_formats(drive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = _json(capsys, "--prediction", drive / "out", "--truth", drive / "drive")
    assert _json(capsys, "--prediction", drive / "out/scene_flow", "--truth", drive / "drive/scene_flow") == found
    for name in NAMES[:2]:
        flow, known = read_scene_flow(drive / "out" / "scene_flow" / f"{name}.npz")
        write_pfm(drive / "pfm" / f"{name}.pfm", np.where(known[..., None], flow, np.nan).astype(np.float32))
        write_mask(drive / "half" / f"{name}.png", np.broadcast_to(np.arange(144) < 72, (48, 144)))
    some = _json(capsys, "--prediction", drive / "pfm", "--truth", drive / "drive", "--scale", "none", "--static",
                 drive / "half")
    assert some["per_pair"]["000001"]["epe_m"] == pytest.approx(
        _json(capsys, "--prediction", drive / "out", "--truth", drive / "drive", "--scale", "none")[
            "per_pair"]["000001"]["epe_m"])
    assert some["pairs"] == 2
    assert "nothing moves, moving" in some["baselines"]
    single = _json(capsys, "--prediction", drive / "pfm/000000.pfm", "--truth",
                   drive / "drive/scene_flow/000001.npz", "--scale", "none")
    assert single["pairs"] == 1
    assert "nothing moves, moving" not in single["baselines"]


def test_the_table_names_protocol_and_rows(drive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "sceneflow", "--prediction", str(drive / "out"), "--truth", str(drive / "drive")]
    assert main([*words, "--scale", "set"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for word in ("own motion in the axes of camera a", "one factor for the set, 4 ", "95 % interval",
                 "prediction, moving", "nothing moves", "3 scene flow files of the truth", "pairs: 3"):
        assert word in text
    assert main([*words, "--markdown"]) == 0
    text = capsys.readouterr().out
    assert "| nothing moves, moving |" in text
    assert "one factor a pair" in text


def test_holes_are_told(drive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in NAMES:
        path = drive / "out" / "scene_flow" / f"{name}.npz"
        flow, known = read_scene_flow(path)
        write_scene_flow(path, flow, known & (np.arange(144) < 72))
    found = _json(capsys, "--prediction", drive / "out", "--truth", drive / "drive")
    assert 30 < found["density_percent"] < 70
    assert found["baselines"]["nothing moves"]["density_percent"] == 100


def test_mistakes_are_one_line(drive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, none = ["--truth", drive / "drive"], ["--scale", "none"]
    zero = np.zeros((48, 144, 3), np.float32)
    write_scene_flow(drive / "small" / "000000.npz", zero[:4, :5])
    write_scene_flow(drive / "renamed" / "first.npz", zero)
    write_scene_flow(drive / "unknown" / "000000.npz", np.full_like(zero, np.nan))
    write_depth_npz(drive / "wrong" / "000000.npz", zero[..., 0] + 1)
    (drive / "void").mkdir()
    (drive / "flat").mkdir()
    (drive / "flat" / "prediction.json").write_text("{}")
    for name, message in (("none", "there is none of this name"), ("void", "holds no scene flow files (.npz, .pfm)"),
                          ("renamed", "no names match"), ("small", "small/000000.npz is 4x5"),
                          ("wrong", "expected an array 'scene_flow'"), ("unknown", "no pixel can be scored"),
                          ("flat", "knows of no scene flow")):
        assert message in _refused(capsys, "--prediction", drive / name, *truth, *none), name
    single = ["--prediction", drive / "drive/camera.json", "--truth", drive / "drive/scene_flow/000000.npz", *none]
    assert "camera.json: expected scene flow as .npz" in _refused(capsys, *single)
    assert "holds no folder depth, which --scale pair" in _refused(capsys, "--prediction", drive / "small", *truth)
    good = ["--prediction", drive / "out", *truth]
    write_mask(drive / "masks" / "000000.png", np.ones((48, 144), bool))
    write_mask(drive / "small_masks" / "000000.png", np.ones((4, 5), bool))
    for words, message in ((["--scale", "median"], "invalid choice"), (["--seed", "-1"], "0 or more"),
                           (["--static", drive / "void"], "holds no masks"),
                           (["--static", drive / "masks"], "holds no mask for the pair 000001"),
                           (["--static", drive / "masks/000000.png"], "one mask for 3 pairs"),
                           (["--static", drive / "small_masks"], "is 4x5")):
        assert message in _refused(capsys, *good, *words), words
    write_depth_npz(drive / "out" / "depth" / "000001.npz", zero[..., 0])
    assert "shares no pixel of known depth" in _refused(capsys, *good)
    write_depth_npz(drive / "out" / "depth" / "000001.npz", zero[:4, :5, 0] + 1)
    assert "out/depth/000001.npz is 4x5" in _refused(capsys, *good)
    (drive / "out" / "depth" / "000001.npz").unlink()
    assert "holds no depth map for the pair 000001" in _refused(capsys, *good)
