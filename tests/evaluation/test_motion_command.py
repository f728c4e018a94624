"""``egoflow evaluate motion`` end to end: a rendered drive, other people's masks, and every mistake in one line."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from egoflow.cli import main
from egoflow.data.formats import read_mask, write_image, write_mask

NAMES = [f"{i:06d}" for i in range(4)]


def _grey(path: Path, value: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), value)


def _json(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    assert main(["evaluate", "motion", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def _refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["evaluate", "motion", *map(str, words)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("motion") / "drive"
    words = ["--frames", "4", "--size", "48x144", "--seed", "3", "--movers", "4", "--samples", "1"]
    assert main(["render", "drive", "--out", str(out), *words]) == 0
    return out


@pytest.fixture
def drive(rendered: Path, tmp_path: Path) -> Path:
    """A drive, and a prediction of its first three frames that finds the movers' left halves at .8, and a corner."""
    shutil.copytree(rendered, tmp_path / "drive")
    for name in NAMES[:3]:
        moving = ~read_mask(tmp_path / "drive" / "static" / f"{name}.png")
        said = moving & (np.arange(144) < np.median(np.nonzero(moving)[1]))
        said[:2, :3] = True
        _grey(tmp_path / "out" / "mover" / f"{name}.png", np.where(said, 204, 51).astype(np.uint8))
    (tmp_path / "out" / "prediction.json").write_text("{}")
    return tmp_path


def test_a_drive_with_movers(drive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = _json(capsys, "--prediction", drive / "out", "--truth", drive / "drive")
    moving = [~read_mask(drive / "drive" / "static" / f"{name}.png") for name in NAMES[:3]]
    total, pixels = sum(int(mask.sum()) for mask in moving), 3 * 48 * 144
    hits = sum(int((mask & (np.arange(144) < np.median(np.nonzero(mask)[1]))).sum()) for mask in moving)
    assert total > 300
    assert found["mover_recall"] == pytest.approx(hits / total)
    assert found["false_alarms"] == pytest.approx(18 / (pixels - total))
    assert found["mover_iou"] == pytest.approx(hits / (total + 18))
    assert (found["images"], found["without_movers"]) == (3, [])
    assert found["baselines"]["everything moves"]["mover_iou"] == pytest.approx(total / pixels)
    assert found["baselines"]["nothing moves"]["mover_iou"] == 0
    assert found["average_precision"] > found["baselines"]["nothing moves"]["average_precision"]
    assert set(found["per_image"]) == set(NAMES[:3])
    low, high = found["intervals"]["mover_iou"]
    assert low <= found["mover_iou"] <= high
    # The folder of masks itself, or of a run, is as good; another threshold says other things.
    assert _json(capsys, "--prediction", drive / "out/mover", "--truth", drive / "drive/static") == found
    shutil.copytree(drive / "out", drive / "run" / "prediction")
    (drive / "run" / "run.json").write_text("{}")
    assert _json(capsys, "--prediction", drive / "run", "--truth", drive / "drive") == found
    all_of_it = _json(capsys, "--prediction", drive / "out", "--truth", drive / "drive", "--threshold", "0.2")
    assert (all_of_it["mover_recall"], all_of_it["false_alarms"]) == (1, 1)
    assert all_of_it["average_precision"] == found["average_precision"]
    assert _json(capsys, "--prediction", drive / "out", "--truth", drive / "drive", "--threshold", "0.81")[
        "mover_recall"] == 0


def test_the_truth_scores_perfectly(drive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in NAMES:
        moving = ~read_mask(drive / "drive" / "static" / f"{name}.png")
        write_mask(drive / "perfect" / f"{name}.png", moving)
    for words in (["--truth", drive / "drive"], ["--truth", drive / "perfect", "--white", "movers"]):
        found = _json(capsys, "--prediction", drive / "perfect", *words)
        assert [found[key] for key in ("mover_iou", "mover_recall", "false_alarms", "static_iou")] == [1, 1, 0, 1]


def test_object_maps_hold_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """KITTI 2015: 0 is the background, 1, 2, … are the cars that move."""
    ids = np.zeros((4, 5), np.uint8)
    ids[0, :2], ids[1, :2] = 1, 2
    _grey(tmp_path / "obj_map" / "000000_10.png", ids)
    _grey(tmp_path / "obj_map" / "000001_10.png", 0 * ids)
    for name in ("000000_10", "000001_10"):
        _grey(tmp_path / "guess" / f"{name}.png", np.where(ids == 1, 255, 0).astype(np.uint8))
    words = ["--prediction", tmp_path / "guess", "--truth", tmp_path / "obj_map", "--white", "movers"]
    found = _json(capsys, *words)
    assert (found["mover_recall"], found["mover_precision"]) == (0.5, 0.5)
    assert found["false_alarms"] == pytest.approx(2 / 36)
    assert found["without_movers"] == ["000001_10"]
    assert main(["evaluate", "motion", *map(str, words)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for word in ("without movers: 1 of 2 images (000001_10)", "above 0 moves", "95 % interval", "everything moves",
                 "of 2 masks of the truth, 2 mover masks", "images: 2"):
        assert word in text
    assert "AP" not in text
    assert main(["evaluate", "motion", *map(str, words), "--markdown"]) == 0
    assert "| nothing moves |" in capsys.readouterr().out


def test_a_folder_of_worlds_is_one_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moving = np.arange(12).reshape(3, 4) < 5
    for scene in ("000000", "000001"):
        write_mask(tmp_path / "worlds" / scene / "static" / "000000.png", ~moving)
        write_mask(tmp_path / "out" / "mover" / scene / "000000.png", moving)
        write_image(tmp_path / "worlds" / scene / "image" / "000000.png", np.zeros((3, 4, 3), np.uint8))
    found = _json(capsys, "--prediction", tmp_path / "out", "--truth", tmp_path / "worlds")
    assert (found["images"], found["mover_iou"]) == (2, 1)


def test_masks_of_0_and_1_are_noticed(drive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _grey(drive / "ones" / "000000.png", np.ones((48, 144), np.uint8))
    assert main(["evaluate", "motion", "--prediction", str(drive / "ones"), "--truth", str(drive / "drive")]) == 0
    assert "written as 0 and 255" in capsys.readouterr().err
    assert main(["evaluate", "motion", "--prediction", str(drive / "out"), "--truth", str(drive / "drive")]) == 0
    assert capsys.readouterr().err == ""


def test_mistakes_are_one_line(drive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = ["--truth", drive / "drive"]
    colours = np.zeros((48, 144, 3), np.uint8)
    colours[..., 0] = 9
    write_image(drive / "colours" / "000000.png", colours)
    _grey(drive / "small" / "000000.png", np.zeros((4, 5), np.uint8))
    _grey(drive / "renamed" / "first.png", np.zeros((48, 144), np.uint8))
    (drive / "void").mkdir()
    (drive / "broken").mkdir()
    (drive / "broken" / "000000.png").write_text("no image")
    (drive / "still").mkdir()
    (drive / "still" / "prediction.json").write_text("{}")
    for name, message in (("none", "there is none of this name"), ("void", "holds no mover masks (.png)"),
                          ("renamed", "no names match"), ("broken", "not a readable image"),
                          ("colours", "expected a grey image"), ("small", "small/000000.png is 4x5"),
                          ("still", "predicts no masks of what moves"), ("drive", "give the folder of the masks")):
        assert message in _refused(capsys, "--prediction", drive / name, *truth), name
    shutil.rmtree(drive / "drive" / "static")
    good = ["--prediction", drive / "out"]
    assert "no folder static of masks" in _refused(capsys, *good, *truth)
    assert "holds images" in _refused(capsys, *good, *truth, "--white", "movers")
    for words, message in ((["--white", "black"], "invalid choice"), (["--threshold", "0"], "a probability above 0"),
                           (["--threshold", "nan"], "a probability above 0"), (["--seed", "-1"], "0 or more")):
        assert message in _refused(capsys, *good, *truth, *words), words
    assert "--truth" in _refused(capsys, *good)
