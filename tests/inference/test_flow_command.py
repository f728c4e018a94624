"""``egoflow predict`` with a method of flow: sources, sizes, what is refused, and a folder that can be scored."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from egoflow.cli import main
from egoflow.config import Run
from egoflow.data.formats import read_flo, write_image
from egoflow.data.video_writer import VideoWriter
from egoflow.registry import load_method, load_preset
from egoflow.training.checkpoint import State, save
from inference import flow_stubs
from inference.flow_stubs import HEIGHT, WIDTH, Config


def _saved(path: Path, run: Run) -> Path:
    save(path, run, load_method(run.method).method_type(run.config), State())
    return path


def _flow_run(folder: Path, *, gap: int = 1, **config) -> Path:
    run = flow_stubs.tiny()
    return _saved(folder / "flow.safetensors", replace(run, config=Config(**config), data=replace(run.data, gap=gap)))


def _images(folder: Path, *, count: int = 3, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
    for i in range(count):
        write_image(folder / f"{i:03d}.png", np.full((*size, 3), 40 * i, np.uint8))
    return folder


def _predict(*words: object) -> int:
    return main(["predict", *map(str, words), "--device", "cpu"])


def _files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def _first(folder: Path) -> list[float]:
    """Return size and value of the first flow, which is constant."""
    flow, valid = read_flo(min((folder / "flow").iterdir()))
    assert valid.all()
    assert (flow == flow[0, 0]).all()
    return [*flow.shape[:2], *flow[0, 0]]


def test_a_folder_without_a_camera(tmp_path: Path, capsys) -> None:
    assert _predict(_flow_run(tmp_path), _images(tmp_path / "clip"), "--out", tmp_path / "out") == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out == (f"wrote {tmp_path / 'out'}: 2 pairs; confidence/, flow/, flow.mp4, flow_legend.png, "
                        f"occlusion/, prediction.json\n")
    assert _first(tmp_path / "out") == [HEIGHT, WIDTH, 3, -1]


def test_a_video(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4") as writer:
        for shade in range(5):
            writer.write(np.full((HEIGHT, WIDTH, 3), 20 * shade, np.uint8))
    words = (_flow_run(tmp_path), tmp_path / "a.mp4", "--frames", "1:", "--no-video", "--flow-format", "kitti")
    assert _predict(*words, "--out", tmp_path / "out") == 0
    assert _files(tmp_path / "out" / "flow") == ["000001.png", "000002.png", "000003.png"]
    assert not (tmp_path / "out" / "flow.mp4").exists()


@pytest.mark.parametrize(("size", "computed", "flow"), [
    ((), "native", (3, -1)), (("--size", "native"), "native", (3, -1)), (("--size", "trained"), "16x24", (6, -2)),
    (("--size", "16x48"), "16x48", (3, -2))])
def test_sizes(size: tuple[str, ...], computed: str, flow: tuple[float, float], tmp_path: Path) -> None:
    clip = _images(tmp_path / "clip", size=(2 * HEIGHT, 2 * WIDTH))
    assert _predict(_flow_run(tmp_path), clip, "--out", tmp_path / "out", *size) == 0
    assert _first(tmp_path / "out") == [2 * HEIGHT, 2 * WIDTH, *flow]
    assert json.loads((tmp_path / "out" / "prediction.json").read_text())["flow"]["computed_at"] == computed


def test_two_image_files_are_neighbours_whatever_the_gap(tmp_path: Path, capsys) -> None:
    a, b = _images(tmp_path / "a", count=1) / "000.png", _images(tmp_path / "b", count=2) / "001.png"
    assert _predict(_flow_run(tmp_path, gap=3), a, b, "--out", tmp_path / "out") == 0
    assert _files(tmp_path / "out" / "flow") == ["000.flo"]
    assert capsys.readouterr().out.startswith(f"wrote {tmp_path / 'out'}: 1 pair; ")


def test_worlds_bring_their_truth_under_the_same_names(tmp_path: Path) -> None:
    run = _flow_run(tmp_path)
    world = "world:boxes?scenes=2&frames=3&samples=1&height=16&width=24"
    assert _predict(run, world, "--out", tmp_path / "out", "--no-video") == 0
    names = _files(tmp_path / "out" / "flow")
    assert len(names) == 4
    assert _files(tmp_path / "out" / "truth") == names
    assert [name.replace("png", "flo") for name in _files(tmp_path / "out" / "truth_visible")] == names
    assert len(json.loads((tmp_path / "out" / "prediction.json").read_text())["sources"]) == 2


def test_a_data_set_is_predicted_pair_by_pair(tmp_path: Path, shared_data: Path) -> None:
    chairs = shared_data / "flyingchairs-6"
    assert _predict(_flow_run(tmp_path), chairs, "--no-video", "--out", tmp_path / "out") == 0
    truths = sorted(chairs.glob("*_flow.flo"))
    assert len(truths) > 1
    assert _files(tmp_path / "out" / "flow") == [t.name.replace("flow", "img0") for t in truths]
    for truth in truths:
        found, _ = read_flo(tmp_path / "out" / "truth" / truth.name.replace("flow", "img0"))
        np.testing.assert_array_equal(found, read_flo(truth)[0])


def test_depth_and_flow_share_a_folder(tmp_path: Path, capsys) -> None:
    run = _flow_run(tmp_path, depth=True)
    world = "world:boxes?scenes=2&frames=3&samples=1&height=16&width=24"
    assert _predict(run, world, "--quantity", "all", "--out", tmp_path / "out", "--no-two-view") == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"wrote {tmp_path / 'out'}: 3 frames, 2 pairs; ")
    assert said.err == f"{world}: of its 2 shots the first is predicted; flow alone can be of all\n"
    about = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert (about["frames"], about["flow"]["pairs"], about["scale"]) == (3, 2, "relative")
    assert {"depth", "flow", "flow.mp4", "inv_depth.mp4", "truth"} <= {p.name for p in (tmp_path / "out").iterdir()}
    # What it always was: a method that needs a camera gives depth.
    assert _predict(run, world, "--out", tmp_path / "depth", "--no-two-view") == 0
    assert not {"flow", "occlusion", "truth"} & {p.name for p in (tmp_path / "depth").iterdir()}
    assert _predict(run, world, "--quantity", "flow", "--out", tmp_path / "flow") == 0
    assert not (tmp_path / "flow" / "depth").exists()


@pytest.mark.parametrize(("words", "says"), [
    (["{flow}", "{clip}", "--quantity", "depth"], "its method gives flow alone, no depth; leave out --quantity depth"),
    (["{flow}", "{clip}", "--quantity", "all"], "its method gives flow alone, no depth; leave out --quantity all"),
    (["{depth}", "{clip}", "--camera", "fov=60", "--quantity", "flow"], "sfmlearner: this method gives no flow; use"),
    (["{depth}", "{clip}", "--camera", "fov=60", "--quantity", "all"], "sfmlearner: this method gives no flow; use"),
    (["{depth}", "{clip}", "--size", "native"], "--size is the size that flow is computed at"),
    (["{flow}", "{clip}", "--size", "large"], "expected HEIGHTxWIDTH in pixels"),
    (["{flow}", "{clip}", "{clip}"], "expected one source, or the two image files of a pair"),
    (["{flow}", "{clip}/000.png", "{clip}/001.png", "{clip}/002.png"], "expected one source, or the two image files"),
    (["{flow}", "{clip}/000.png", "{clip}/007.png"], "007.png: no such file"),
    (["{depth}", "{clip}/000.png", "{clip}/001.png"], "its camera is not known; give --camera"),
    (["{flow}", "{clip}", "--frames", "1:2"], "clip: no two neighbouring frames"),
    (["{flow}", "{d}/nothing"], "nothing: no such file or folder")])
def test_a_mistake_is_one_line_and_leaves_nothing(words: list[str], says: str, tmp_path: Path, capsys) -> None:
    _, preset = load_preset("sfmlearner:tiny")
    places = {"flow": _flow_run(tmp_path), "depth": _saved(tmp_path / "depth.safetensors", preset),
              "clip": _images(tmp_path / "clip"), "d": tmp_path}
    before = _files(tmp_path)
    assert _predict(*[word.format(**places) for word in words], "--out", tmp_path / "new" / "out") == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert len(output.err.splitlines()) == 1
    assert says in output.err
    assert _files(tmp_path) == before
    assert not (tmp_path / "new").exists()


def test_an_unreadable_image_of_a_pair_is_named(tmp_path: Path, capsys) -> None:
    clip = _images(tmp_path / "clip")
    (clip / "001.png").write_bytes(b"no image")
    assert _predict(_flow_run(tmp_path), clip / "000.png", clip / "001.png", "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[0].startswith(f"skipped: {clip / '001.png'}: ")
    assert "no two neighbouring frames" in said[1]
