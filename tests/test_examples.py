"""Every example runs, says what it promises, and leaves its files where it was told to."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from egoflow.data.formats import read_image
from egoflow.data.open import open_source
from egoflow.data.trajectories import read_trajectory

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture
def example(tmp_path: Path, capsys, monkeypatch):
    """Run an example with an output folder and further words; return what it said and the folder."""
    def run(number: int, *words: str) -> tuple[str, Path]:
        script, = EXAMPLES.glob(f"{number:02d}_*.py")
        # As python does for a script: its own folder comes first.
        monkeypatch.syspath_prepend(str(EXAMPLES))
        monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path / "out"), *words])
        runpy.run_path(str(script), run_name="__main__")
        return capsys.readouterr().out, tmp_path / "out"
    return run


def test_there_is_a_test_for_every_example() -> None:
    numbers = [int(path.name[:2]) for path in sorted(EXAMPLES.glob("*.py"))]
    assert numbers == list(range(1, len(numbers) + 1))
    assert all(f"example({number}" in Path(__file__).read_text() for number in numbers)


def test_warp_by_hand(example) -> None:
    said, out = example(1)
    before, after, wrong = (float(found) for found in re.findall(
        r"error ([\d.]+) unwarped, ([\d.]+) warped.*inverse motion ([\d.]+)", said, re.DOTALL)[0])
    # Measured 16 % left; what is left is the edges, where a pixel holds two surfaces.
    assert after < 0.25 * before < 0.25 * wrong
    assert read_image(out / "b_on_a.png").shape == (96, 288, 3)


def test_render_a_world(example) -> None:
    said, out = example(2)
    clip = open_source(out)
    assert (len(clip), clip.scale) == (4, "metric")
    assert "drive" in said.splitlines()[0]
    assert f"read back {out.name}: 4 frames" in said


def test_own_loss_and_scores(example) -> None:
    said, out = example(3)
    for line in said.splitlines()[:2]:
        values = [float(value) for value in re.findall(r": ([\d.]+)(?:  |$)", line)]
        assert len(values) == 5
        assert min(values) == values[2]
        assert values[0] > values[1] > values[2] < values[3] < values[4]
    assert (out / "scores.md").read_text().startswith("align: sim3")
    assert len(read_trajectory(out / "guess_tum.txt", format="tum").time_s) == 12


def test_train_from_python(example) -> None:
    said, out = example(4, "2")
    assert "step 2; the log is" in said
    assert said.count("next_from_this") == 5
    assert len(list((out / "prediction" / "depth").glob("*.png"))) == 6
    assert (out / "run" / "last.safetensors").exists()


def test_two_view_geometry(example) -> None:
    said, out = example(5)
    directions = [[float(v) for v in found] for found in re.findall(r"direction \(([^,]+), ([^,]+), ([^)]+)\)", said)]
    assert len(directions) == 4
    # A camera that drives ahead: b_from_a points back.
    assert (np.array(directions)[:, 2] < -0.99).all()
    assert (out / "two_view_tum.txt").exists()


def test_two_view_geometry_of_a_clip_of_ones_own(example, shared_data: Path) -> None:
    said, _ = example(5, str(shared_data / "kitti-odom-06-f000-050"))
    assert said.count("direction") > 10


def test_own_method(example) -> None:
    said, out = example(6, "2")
    assert said.startswith("RowDepth: presets tiny")
    assert "after 2 steps" in said
    assert (out / "run" / "last.safetensors").exists()
