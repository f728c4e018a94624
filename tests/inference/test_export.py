"""An exported model says what torch says at any size, and its runner writes what egoflow predict writes."""

import ast
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from egoflow.cli import main
from egoflow.data.formats import read_depth_png, read_flo, read_image, write_image
from egoflow.inference import onnx_runner
from egoflow.inference.export import SIGNATURES, Graph, largest_difference
from egoflow.inference.model_card import trained_cameras
from egoflow.registry import load_preset
from egoflow.training.checkpoint import State, load_run, save
from egoflow.worlds.base import load_world

onnx = pytest.mark.skipif(any(__import__("importlib.util").util.find_spec(name) is None for name in (
    "onnx", "onnxscript", "onnxruntime")), reason="egoflow[export] is not installed")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an untrained joint at 64x96, whose unit is 3 m."""
    folder = tmp_path_factory.mktemp("export") / "run"
    entry, run = load_preset("joint:tiny")
    run = replace(run, metres_per_unit=3.0, data=replace(run.data, height=64, width=96, camera="fov=60"))
    save(folder / "last.safetensors", run, entry.method_type(run.config), State())
    return folder


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    world = load_world("boxes", frames=3, height=90, width=150, samples=1, texture_ratio=1.0)
    for index in range(3):
        write_image(folder / f"{index:06d}.png", world.image(index))
    return folder


@onnx
@pytest.mark.parametrize("what", ["motion"])
def test_onnx_agrees_with_torch_at_three_sizes(run: Path, tmp_path: Path, what: str) -> None:
    out = tmp_path / "deploy"
    assert main(["export", str(run), "--what", what, "--out", str(out)]) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert set(manifest["largest_difference"]) == {"64x96", "96x160", "57x109"}
    assert max(v for found in manifest["largest_difference"].values() for v in found.values()) < 1e-4
    assert min(manifest["frames_per_s"].values()) > 0
    assert manifest["scale"] == "metric"
    card = (out / "README.md").read_text()
    assert "metres" in card
    assert "fov" not in card
    assert f"{manifest['camera']['trained_fov_deg'][0]:g}" in card


def test_a_translation_in_small_units_is_verified_too() -> None:
    turn = torch.eye(3).expand(1, 3, 3)
    said = [torch.cat((turn, torch.full((1, 3, 1), length)), dim=-1) for length in (5e-5, 0.0)]
    graph, loaded = (lambda *images: (said[0],)), (lambda *images: [said[1].numpy()])
    graph.what = "motion"  # type: ignore[attr-defined]
    found = largest_difference(graph, loaded, [(32, 32)])  # type: ignore[arg-type]
    assert found["32x32"]["b_from_a"] == 1.0


@onnx
def test_the_runner_writes_what_predict_writes(run: Path, frames: Path, tmp_path: Path) -> None:
    assert main(["export", str(run), "--what", "depth", "--out", str(tmp_path / "deploy")]) == 0
    done = subprocess.run([sys.executable, str(tmp_path / "deploy" / "run_onnx.py"), str(frames), "--out",
                           str(tmp_path / "ours"), "--fov", "120"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "warning: trained with a field of view of 60 degrees, not 120" in done.stderr
    assert main(["predict", str(run), str(frames), "--camera", "fov=60", "--out", str(tmp_path / "theirs"),
                 "--no-video", "--motion", "net"]) == 0
    unit = json.loads((tmp_path / "ours" / "depth" / "depth.json").read_text())
    assert unit == json.loads((tmp_path / "theirs" / "depth" / "depth.json").read_text())
    for index in range(3):
        (ours, _), (theirs, _) = (read_depth_png(tmp_path / side / "depth" / f"{index:06d}.png",
                                                 unit["png_units_per_depth_unit"]) for side in ("ours", "theirs"))
        # One step of 16 bits, and what 1e-4 is of the depth.
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1.01 / unit["png_units_per_depth_unit"])


class Session:
    """Stands in for a session of onnxruntime of a model that gives all: torch itself."""

    def __init__(self, run: Path) -> None:
        settings, method, _ = load_run(run)
        self.graph = Graph(method, "joint", metres_per_unit=settings.metres_per_unit or 1.0)

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=name) for name in SIGNATURES["joint"].inputs]

    def get_outputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=name) for name in SIGNATURES["joint"].outputs]

    def run(self, names: list[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            return [value.numpy() for value in self.graph(*map(torch.from_numpy, given.values()))]


def test_the_runner_writes_flow_and_motion(run: Path, frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                           ) -> None:
    stand_in = SimpleNamespace(InferenceSession=lambda *args, **kwargs: Session(run))
    monkeypatch.setitem(sys.modules, "onnxruntime", stand_in)
    manifest = {"size": [64, 96], "gap": 1, "depth_png": {"png_units_per_depth_unit": 170.0, "largest": 380.0}}
    onnx_runner.run(manifest, Path("model.onnx"), sorted(frames.iterdir()), tmp_path / "ours")
    assert main(["predict", str(run), str(frames), "--camera", "fov=60", "--out", str(tmp_path / "theirs"),
                 "--no-video", "--quantity", "all", "--motion", "net", "--size", "trained"]) == 0
    for index in range(2):
        (ours, _), (theirs, _) = (read_flo(tmp_path / side / "flow" / f"{index:06d}.flo") for side in (
            "ours", "theirs"))
        np.testing.assert_allclose(ours, theirs, atol=2e-3)
    ours, theirs = (np.loadtxt(tmp_path / side / "trajectory_kitti.txt") for side in ("ours", "theirs"))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_a_torch_program_agrees_too(run: Path, tmp_path: Path) -> None:
    assert main(["export", str(run), "--what", "depth", "--format", "torch", "--out", str(tmp_path / "deploy")]) == 0
    assert (tmp_path / "deploy" / "model.pt2").stat().st_size > 1e6
    assert not (tmp_path / "deploy" / "run_onnx.py").exists()


@pytest.mark.parametrize(("frames", "said"), [("gone", "expected a folder of images"), ("", "expected images")])
def test_the_runner_says_what_it_cannot_read(frames: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                             ) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    monkeypatch.setattr(sys, "argv", ["run_onnx.py", str(tmp_path / frames), "--out", str(tmp_path / "out"), "--model",
                                      str(tmp_path)])
    with pytest.raises(SystemExit, match=said):
        onnx_runner.main()


def test_the_runner_asks_for_the_folder_of_an_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["run_onnx.py", str(tmp_path), "--out", str(tmp_path / "out"), "--model", "nowhere"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit, match="nowhere: expected the folder of an export"):
        onnx_runner.main()


@pytest.mark.parametrize("name", ["a.png", "a.ppm", "a.npy"])
def test_the_runner_names_a_damaged_picture(name: str, tmp_path: Path) -> None:
    image, file = np.zeros((9, 11, 3), np.uint8), tmp_path / name
    if file.suffix == ".npy":
        np.save(file, image)
    elif file.suffix == ".png":
        write_image(file, image)
    else:
        file.write_bytes(b"P6\n11 9\n255\n" + image.tobytes())
    assert onnx_runner.read_image(file).shape == (9, 11, 3)
    whole = file.read_bytes()
    for kept in (len(whole) - 20, len(whole) // 2, 20):
        file.write_bytes(whole[:kept])
        with pytest.raises(SystemExit, match=name):
            onnx_runner.read_image(file)
    np.save(tmp_path / "grey.npy", image[..., 0])
    with pytest.raises(SystemExit, match="no image of 8 bits in three colours"):
        onnx_runner.read_image(tmp_path / "grey.npy")


def test_the_runner_needs_numpy_and_onnxruntime_alone() -> None:
    tree = ast.parse(Path(onnx_runner.__file__).read_text())
    names = {alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import)
             for alias in node.names}
    names |= {str(node.module).split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names - set(sys.stdlib_module_names) == {"numpy", "onnxruntime"}


@pytest.mark.parametrize("shape", [(5, 7, 3), (33, 40, 3)])
def test_the_runner_reads_pictures_as_they_are(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, shape, np.uint8)
    # A smooth picture makes an encoder use every filter.
    ramp = np.linspace(0, 255, shape[0] * shape[1] * 3).reshape(shape).astype(np.uint8)
    for name, image in (("noise", noise), ("ramp", ramp)):
        write_image(tmp_path / f"{name}.png", image)
        assert np.array_equal(onnx_runner.read_image(tmp_path / f"{name}.png"), read_image(tmp_path / f"{name}.png"))
    (tmp_path / "a.ppm").write_bytes(b"P6\n%d %d\n255\n" % (shape[1], shape[0]) + noise.tobytes())
    assert np.array_equal(onnx_runner.read_image(tmp_path / "a.ppm"), noise)


@pytest.mark.parametrize("kind", [1, 2, 3, 4])
def test_every_filter_of_a_png_is_undone(kind: int) -> None:
    random = np.random.default_rng(kind)
    line, above = random.integers(0, 256, (2, 12), np.uint8)
    filtered = []
    for x in range(12):
        a, b, c = (int(line[x - 3]) if x >= 3 else 0, int(above[x]), int(above[x - 3]) if x >= 3 else 0)
        p = a + b - c
        paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
        filtered.append((int(line[x]) - {1: a, 2: b, 3: (a + b) // 2, 4: paeth}[kind]) % 256)
    assert np.array_equal(onnx_runner.unfiltered(kind, np.array(filtered, np.uint8), above, 3), line)


def test_resizing_is_that_of_torch() -> None:
    from egoflow.geometry.pixels import resize_image, resize_map

    random = np.random.default_rng(0)
    image = random.integers(0, 256, (50, 70, 3), np.uint8)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].double() / 255
    for height, width in ((20, 31), (64, 96), (50, 33)):
        theirs = resize_image(tensor, height=height, width=width)[0].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(onnx_runner.resized_image(image, height, width), theirs, atol=1e-6)
    value = random.random((16, 24))
    theirs = resize_map(torch.from_numpy(value)[None, None], height=37, width=50)[0, 0].numpy()
    np.testing.assert_allclose(onnx_runner.resized_map(value, 37, 50), theirs, atol=1e-6)


def test_what_a_method_has_not_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry, run = load_preset("sfmlearner:tiny")
    save(tmp_path / "run" / "last.safetensors", run, entry.method_type(run.config), State())
    assert main(["export", str(tmp_path / "run"), "--what", "flow", "--out", str(tmp_path / "deploy")]) == 2
    assert "this method gives no flow; choose depth, motion" in capsys.readouterr().err
    assert not (tmp_path / "deploy").exists()


def test_cameras_of_training_bound_those_of_use(tmp_path: Path) -> None:
    _, run = load_preset("joint:tiny")
    assert trained_cameras(run, tmp_path)["fov_deg"] == [1.0, 175.0]
    for words, degrees in (("long_fov=60", 60), ("400,400,319.5,99.5", 2 * np.degrees(np.arctan(0.8)))):
        found = trained_cameras(replace(run, data=replace(run.data, camera=words)), tmp_path)["trained_fov_deg"]
        assert found == pytest.approx([degrees, degrees], abs=0.01)
    low, high = trained_cameras(replace(run, data=replace(run.data, camera="fov=60")), tmp_path)["fov_deg"]
    for degrees, factor in ((low, 1.15), (high, 1 / 1.15)):
        assert np.tan(np.radians(30)) / np.tan(np.radians(degrees / 2)) == pytest.approx(factor, rel=2e-3)
