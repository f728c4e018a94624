"""The report of a prediction: what the page asks for is there, and its numbers are those of the prediction."""

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest

from egoflow.cli import main
from egoflow.data.formats import read_image
from egoflow.data.ply import read_ply
from egoflow.data.trajectories import read_trajectory
from egoflow.errors import DataError
from egoflow.inference.written_depth import read_inv_depth
from egoflow.registry import load_preset
from egoflow.report.prediction_page import write_report
from egoflow.training.checkpoint import State, save
from egoflow.worlds.base import load_world


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the prediction of an untrained joint on a room, with everything."""
    folder = tmp_path_factory.mktemp("report")
    entry, run = load_preset("joint:tiny")
    save(folder / "run" / "last.safetensors", run, entry.method_type(run.config), State())
    world = "world:boxes?frames=5&height=48&width=64&speed=5&texture_ratio=1&samples=1"
    assert main(["predict", str(folder / "run"), world, "--out", str(folder / "out"), "--quantity", "all", "--no-video",
                 "--also", "report"]) == 0
    return folder / "out"


def told(report: Path) -> dict:
    text = (report / "data.js").read_text()
    assert text.startswith("window.EGOFLOW = ")
    return json.loads(text.removeprefix("window.EGOFLOW = ").rstrip().rstrip(";"))


def test_every_picture_is_there(out: Path) -> None:
    content = told(out / "report")
    assert content["names"] == [f"{k:06d}" for k in range(5)]
    assert [layer["label"] for layer in content["layers"]][:2] == ["image", "depth"]
    assert {"optical flow", "flow of the camera", "what moves"} <= {layer["label"] for layer in content["layers"]}
    for layer in content["layers"]:
        for name in content["names"]:
            assert read_image(out / "report" / layer["folder"] / f"{name}.jpg").shape == (48, 64, 3)
        assert layer["legend"] is None or layer["legend"]["words"]


def test_the_page_needs_nothing_from_outside(out: Path) -> None:
    page = (out / "report" / "index.html").read_text()
    for name in re.findall(r"(?:src|href)=\"([^\"]+)\"", page):
        assert (out / "report" / name).is_file(), name
    for name in ("index.html", "viewer.js", "viewer.css"):
        assert "http" not in (out / "report" / name).read_text()
    assert "$" not in page
    ids = set(re.findall(r"id=\"([a-z0-9]+)\"", page))
    asked = set(re.findall(r"\$\(\"([a-z0-9]+)\"\)", (out / "report" / "viewer.js").read_text()))
    assert asked <= ids


def test_the_scene_is_that_of_the_prediction(out: Path) -> None:
    content = told(out / "report")
    points, colours, _ = read_ply(out / "cloud.ply")
    found = np.frombuffer(base64.b64decode(content["cloud"]["points"]), "<f4").reshape(-1, 3)
    assert len(found) == len(points) == len(base64.b64decode(content["cloud"]["colours"])) // 3
    np.testing.assert_allclose(np.sort(found, axis=0), np.sort(points, axis=0))
    path = read_trajectory(out / "trajectory_kitti.txt", format="kitti").world_from_cam
    np.testing.assert_allclose(content["paths"][0]["places"], path.t.numpy(), atol=1e-5)
    np.testing.assert_allclose(np.array(content["world_from_cam"])[:, :, :3], path.R.numpy(), atol=1e-5)
    assert {entry["label"] for entry in content["paths"]} >= {"predicted path", "true path"}


def test_the_depth_legend_is_of_the_pictures(out: Path) -> None:
    legend = next(layer["legend"] for layer in told(out / "report")["layers"] if layer["label"] == "depth")
    inverse = np.concatenate([read_inv_depth(out, f"{k:06d}").ravel() for k in range(5)])
    low, high = np.percentile(1 / inverse, (1, 99))
    assert float(legend["high"].split()[0]) == pytest.approx(low, rel=0.05)
    assert float(legend["low"]) == pytest.approx(high, rel=0.05)
    assert "(relative)" in legend["high"]
    assert len(set(legend["colours"])) == len(legend["colours"]) > 5


def test_nothing_to_show_is_said(tmp_path: Path) -> None:
    world = load_world("boxes", frames=3, height=16, width=24)
    with pytest.raises(DataError, match="neither depth nor flow"):
        write_report(tmp_path / "report", tmp_path, world, range(3), title="nothing")
    assert not (tmp_path / "report").exists()
