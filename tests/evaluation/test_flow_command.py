"""``egoflow evaluate flow`` end to end: every format and layout, baselines, pictures, and every mistake in one line."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from egoflow.cli import main
from egoflow.data.formats import read_image, write_flo, write_flow_png, write_image, write_mask, write_pfm

KEYS = {"epe_px", "fl_all_percent", "epe_noc_px", "pairs"}
NAMES = ("000000_10", "000001_10", "000002_10")


def _truth(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-80, 80, (12, 20, 2)).astype(np.float32) / 8


@pytest.fixture
def flows(tmp_path: Path) -> Path:
    """Truths in each format; a prediction off by (0.5, 0) where visible and (4, 3) where occluded, at the left."""
    occluded = np.arange(20)[None] < np.full((12, 1), 5)
    for seed, name in enumerate(NAMES):
        truth = _truth(seed)
        guess = truth + np.where(occluded[..., None], (4.0, 3.0), (0.5, 0.0))
        write_flow_png(tmp_path / "occ" / f"{name}.png", truth)
        write_flow_png(tmp_path / "noc" / f"{name}.png", truth, ~occluded)
        write_flo(tmp_path / "flo" / f"{name}.flo", truth)
        write_pfm(tmp_path / "pfm" / f"{name}.pfm", np.concatenate((truth, 0 * truth[..., :1]), axis=2))
        write_mask(tmp_path / "occluded" / f"{name}.png", occluded)
        write_flo(tmp_path / "run" / "flow" / f"{name}.flo", guess)
    return tmp_path


def _json(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    assert main(["evaluate", "flow", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def _refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["evaluate", "flow", *map(str, words)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("kind", ["occ", "flo", "pfm"])
def test_every_format_gives_the_same_figures(flows: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    found = _json(capsys, "--prediction", flows / "run", "--truth", flows / kind)
    assert set(found) >= KEYS
    assert found["pairs"] == 3
    assert found["epe_px"] == pytest.approx(0.25 * 5 + 0.75 * 0.5)
    assert found["fl_all_percent"] == pytest.approx(25)
    assert found["epe_noc_px"] is None
    assert set(found["baselines"]) == {"zero"}
    assert found["baselines"]["zero"]["epe_px"] == pytest.approx(
        np.mean([np.hypot(*np.moveaxis(_truth(seed), 2, 0)).mean() for seed in range(3)]), rel=1e-6)


@pytest.mark.parametrize("words", [["--noc", "noc"], ["--occluded", "occluded"]])
def test_visible_and_occluded_parts(flows: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    found = _json(capsys, "--prediction", flows / "run", "--truth", flows / "occ", words[0], flows / words[1],
                  "--protocol", "kitti2015")
    assert (found["epe_noc_px"], found["epe_occ_px"]) == pytest.approx((0.5, 5))
    assert found["fl_noc_percent"] == 0
    assert found["protocol"]["protocol"] == "kitti2015"


def test_what_lies_beside_is_found(flows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A world keeps flow/ and visible/, a prediction confidence/ and its own truth."""
    for seed, name in enumerate(NAMES):
        visible = np.arange(20)[None] >= np.full((12, 1), 5)
        for folder, masks in (("world/flow", "world/visible"), ("run/truth", "run/truth_visible")):
            write_flo(flows / folder / f"{name}.flo", _truth(seed))
            write_mask(flows / masks / f"{name}.png", visible)
        write_mask(flows / "run" / "confidence" / f"{name}.png", visible)
    for truth in ("world", "run", "run/truth"):
        found = _json(capsys, "--prediction", flows / "run", "--truth", flows / truth)
        assert found["epe_noc_px"] == pytest.approx(0.5), truth
        oracle, area, chance = (found[f"sparsification_{k}px"] for k in ("oracle_", "", "random_"))
        assert oracle == pytest.approx(area)
        assert chance == pytest.approx(1.625)
    given = _json(capsys, "--prediction", flows / "run/flow", "--truth", flows / "flo", "--confidence",
                  flows / "occluded")
    assert given["sparsification_px"] > given["sparsification_random_px"]


def test_folders_below_a_folder_keep_pairs_apart(flows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for scene, error in (("alley_1", 1.0), ("bamboo_2", 3.0)):
        write_flo(flows / "sintel" / scene / "frame_0001.flo", _truth(0))
        write_flo(flows / "guess" / scene / "frame_0001.flo", _truth(0) + (error, 0))
    found = _json(capsys, "--prediction", flows / "guess", "--truth", flows / "sintel", "--protocol", "sintel")
    assert found["per_pair"]["bamboo_2_frame_0001"]["epe_px"] == pytest.approx(3)
    assert (found["pairs"], found["epe_px"]) == (2, pytest.approx(2))


def test_single_files_need_no_common_name(flows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = _json(capsys, "--prediction", flows / "run/flow/000000_10.flo", "--truth", flows / "pfm/000000_10.pfm",
                  "--noc", flows / "noc" / "000000_10.png")
    assert (found["pairs"], found["epe_noc_px"]) == (1, pytest.approx(0.5))
    (flows / "run/flow/000000_10.flo").rename(flows / "other.flo")
    assert _json(capsys, "--prediction", flows / "other.flo", "--truth", flows / "pfm/000000_10.pfm")["pairs"] == 1
    assert _json(capsys, "--prediction", flows / "run", "--truth", flows / "occ")["pairs"] == 2


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Three frames of a texture that moves by (2, 1), their flow, and the same pairs in other layouts."""
    noise = np.random.default_rng(0).uniform(0, 255, (140, 160, 3)).astype(np.float32)
    texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2.5), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    images = [texture[20 - i:116 - i, 20 - 2 * i:148 - 2 * i] for i in range(3)]
    flow = np.full((96, 128, 2), (2, 1), np.float32)
    for i, image in enumerate(images):
        write_image(tmp_path / "clip" / "image" / f"{i:03d}.png", image)
    for i in range(2):
        write_flo(tmp_path / "clip" / "flow" / f"{i:03d}.flo", flow)
        for k in (0, 1):
            write_image(tmp_path / "chairs" / f"0000{i}_img{k + 1}.png", images[i + k])
            write_image(tmp_path / ("first", "second")[k] / f"{i + 10 * k}.png", images[i + k])
        write_flo(tmp_path / "chairs" / f"0000{i}_flow.flo", flow)
        write_flo(tmp_path / "by_first" / f"{i}.flo", flow)
    return tmp_path


def test_baselines_on_every_layout_of_images(frames: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for images, truth in ((["clip"], "clip"), (["clip/image"], "clip/flow"), (["chairs"], "chairs"),
                          (["first", "second"], "by_first"),
                          (["first/0.png", "second/10.png"], "chairs/00000_flow.flo")):
        found = _json(capsys, "--baseline", "dis", "farneback", "--images", *(frames / name for name in images),
                      "--truth", frames / truth)
        assert found["pairs"] == (1 if "flo" in truth.split(".")[1:] else 2), images
        assert found["epe_px"] < 0.2, images
        assert list(found["baselines"]) == ["farneback", "zero"]
        assert found["baselines"]["farneback"]["epe_px"] < 0.4
        assert found["baselines"]["zero"]["epe_px"] == pytest.approx(5**0.5)


def test_a_folder_of_worlds_is_one_evaluation(frames: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for scene in ("chairs-000", "chairs-001"):
        shutil.copytree(frames / "clip", frames / "worlds" / scene)
        shutil.copytree(frames / "clip" / "flow", frames / "worlds" / scene / "flow_backward")
        for i in range(2):
            write_mask(frames / "worlds" / scene / "visible" / f"{i:03d}.png", np.ones((96, 128), bool))
            write_flo(frames / "out" / "flow" / f"{scene}_{i:03d}.flo", np.full((96, 128, 2), (2, 1), np.float32))
    found = _json(capsys, "--baseline", "dis", "--images", frames / "worlds", "--truth", frames / "worlds",
                  "--prediction", frames / "out")
    assert set(found["per_pair"]) == {f"chairs-00{k}_00{i}" for k in (0, 1) for i in (0, 1)}
    assert (found["epe_px"], found["epe_noc_px"]) == (0, 0)
    assert found["baselines"]["dis"]["epe_px"] < 0.2


def test_a_baseline_stands_beside_a_prediction(frames: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--prediction", frames / "clip/flow", "--truth", frames / "clip"]
    found = _json(capsys, *words, "--baseline", "dis", "--images", frames / "clip")
    assert found["epe_px"] == 0
    assert list(found["baselines"]) == ["dis", "zero"]
    assert list(_json(capsys, *words, "--baseline", "zero")["baselines"]) == ["zero"]
    assert _json(capsys, "--baseline", "zero", "--truth", frames / "clip")["epe_px"] == pytest.approx(5**0.5)


def test_the_sparse_baseline_says_how_much_it_answers(frames: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("egoflow.geometry.epipolar_flow")
    words = ["--baseline", "epipolar", "--images", frames / "clip", "--truth", frames / "clip"]
    found = _json(capsys, *words)
    assert 0 < found["density_percent"] < 20
    assert found["baselines"]["zero"]["density_percent"] == 100
    assert main(["evaluate", "flow", *map(str, words)]) == 0
    assert "density" in capsys.readouterr().out


def test_pictures_are_written_whole_or_not_at_all(frames: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--baseline", "dis", "--images", frames / "clip", "--truth", frames / "clip", "--pictures"]
    _json(capsys, *words, frames / "out")
    assert sorted(path.name for path in (frames / "out").iterdir()) == ["000.png", "001.png"]
    assert read_image(frames / "out" / "000.png").shape[1] > 3 * 128
    assert "exists already" in _refused(capsys, *words, frames / "out")
    (frames / "clip" / "flow" / "001.flo").write_bytes(b"no flow")
    assert "001.flo" in _refused(capsys, *words, frames / "late")
    assert not (frames / "late").exists()


def test_the_table_names_protocol_and_rows(frames: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "flow", "--baseline", "dis", "--images", str(frames / "clip"), "--truth",
             str(frames / "clip"), "--protocol", "sintel"]
    assert main(words) == 0
    text = capsys.readouterr().out
    for word in ("protocol: sintel", "over the pixels of all pairs", "s0-10", "95 % interval", "zero", "pairs: 2",
                 "2 flows of the truth, 2 image pairs"):
        assert word in text
    assert main([*words, "--markdown"]) == 0
    assert "| dis |" in capsys.readouterr().out


def test_mistakes_are_one_line(flows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = ["--truth", flows / "occ"]
    write_flo(flows / "small" / "000000_10.flo", np.zeros((3, 4, 2), np.float32))
    write_flo(flows / "renamed" / "frame.flo", np.zeros((12, 20, 2), np.float32))
    write_mask(flows / "one_mask" / "000000_10.png", np.ones((12, 20), bool))
    write_mask(flows / "small_mask" / "000000_10.png", np.ones((2, 2), bool))
    (flows / "broken").mkdir()
    (flows / "broken" / "000000_10.flo").write_bytes(b"PIEH")
    (flows / "void").mkdir()
    write_image(flows / "eight_bit" / "000000_10.png", np.zeros((12, 20, 3), np.uint8))
    for name, message in (("none", "there is none of this name"), ("void", "holds no flows (.flo, .pfm, .png)"),
                          ("renamed", "(such as frame)"), ("broken", "expected a .flo"),
                          ("eight_bit", "expected a 16-bit PNG")):
        assert message in _refused(capsys, "--prediction", flows / name, *truth), name
    small = _refused(capsys, "--prediction", flows / "small", *truth)
    for part in ("small/000000_10.flo is 3x4", "occ/000000_10.png is 12x20"):
        assert part in small
    good = ["--prediction", flows / "run", *truth]
    for words, message in (
            (["--protocol", "kitti"], "invalid choice"), (["--baseline", "lucas"], "invalid choice"),
            (["--seed", "-1"], "0 or more"), (["--baseline", "dis"], "need --images"),
            (["--images", flows / "occ"], "needs one of them"), (["--noc", flows / "none"], "there is none"),
            (["--occluded", flows / "one_mask"], "holds no mask for the pair 000001_10"),
            (["--occluded", flows / "one_mask/000000_10.png"], "one mask for 3 pairs"),
            (["--noc", flows / "noc", "--occluded", flows / "occluded"], "not allowed with"),
            (["--confidence", flows / "small_mask"], "is 2x2"),
            (["--baseline", "dis", "--images", flows / "a", flows / "b", flows / "c"], "expected two image files"),
            (["--baseline", "dis", "--images", flows / "void"], "holds no pair"),
            (["--baseline", "dis", "--images", flows / "eight_bit", flows / "void"], "no names match; give as many")):
        assert message in _refused(capsys, *good, *words), words
    assert "give --prediction, or --baseline" in _refused(capsys, *truth)
    assert "give both" in _refused(capsys, *truth, "--baseline", "zero", "--confidence", flows / "occluded")


def _scored(capsys: pytest.CaptureFixture[str], images: list[Path], truth: Path) -> dict[str, float]:
    found = _json(capsys, "--baseline", "dis", "farneback", "--images", *images, "--truth", truth)
    return {"dis": found["epe_px"], **{name: row["epe_px"] for name, row in found["baselines"].items()}}


def test_rubber_whale(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Measured: DIS 0.225 px, Farnebäck 0.327, zero 1.256, without the 2 % of pixels of unknown flow."""
    folder = shared_data / "middlebury-rubberwhale"
    found = _scored(capsys, [folder / "frame10.png", folder / "frame11.png"], folder / "flow10.flo")
    assert 0.1 < found["dis"] < 0.3 < found["farneback"] < 0.4
    assert found["zero"] == pytest.approx(1.256, abs=1e-3)
    assert _scored(capsys, [folder], folder) == found  # frame10 and flow10 are one pair


def test_flying_chairs(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Measured over four pairs: DIS 3.644 px, Farnebäck 5.099, zero 5.227."""
    folder = shared_data / "flyingchairs-6"
    found = _scored(capsys, [folder], folder)
    assert 3.0 < found["dis"] < 4.3 < found["farneback"] < 5.2
    assert found["zero"] == pytest.approx(5.227, abs=1e-3)
