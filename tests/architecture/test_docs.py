"""The pages keep their word: their samples run, the tests that they name exist."""

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from architecture import rules
from egoflow.geometry.camera import Camera
from egoflow.types import Clip

DOCS = rules.ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *rules.ROOT.glob("*.md")])


def _samples(section: str) -> str:
    """Return the first python block below a heading of docs/extending.md."""
    text = (DOCS / "extending.md").read_text().split(f"\n## {section}\n", 1)[1]
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found.group(1)


@pytest.fixture
def module(tmp_path: Path, monkeypatch):
    """Write a sample as a module of a package of one's own and import it."""
    def load(section: str, name: str) -> ModuleType:
        package = tmp_path / "sample_package"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / f"{name}.py").write_text(_samples(section))
        monkeypatch.syspath_prepend(str(tmp_path))
        __import__(f"sample_package.{name}")
        return sys.modules[f"sample_package.{name}"]
    yield load
    for name in [name for name in sys.modules if name.startswith("sample_package")]:
        del sys.modules[name]


def test_the_sample_method_trains_from_outside(module) -> None:
    from egoflow.registry import load_preset

    module("A method", "two_frames")
    assert rules.method_file_faults(_samples("A method")) == []
    entry, run = load_preset("sample_package.two_frames:tiny")
    method = entry.method_type(run.config)
    camera = Camera.create(20, 20, 15.5, 9.5, height=20, width=32)
    clip = Clip(images=torch.rand(1, 2, 3, 20, 32), camera=camera, time_s=torch.tensor([[0.0, 0.1]]), target=0)
    terms = method.losses(clip, method.predict(clip), 0.0)
    assert set(terms) == {"loss/photometric", "loss/smoothness"}
    terms.total.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.parameters())


def test_the_sample_loss_is_a_map(module) -> None:
    value = module("A loss", "log_loss").log_map(torch.full((2, 3, 4, 5), 2.0), torch.ones(2, 3, 4, 5))
    assert value.shape == (2, 1, 4, 5)
    assert torch.allclose(value, torch.tensor(2.0).log())


def test_the_sample_world_has_a_ball_three_metres_away(module) -> None:
    world = module("A world", "ball").world(1, frames=2, height=49, width=65)
    assert world.image(0).shape == (49, 65, 3)
    depth = world.truth(0).depth
    assert depth[24, 32] == pytest.approx(3.0, abs=1e-6)
    assert depth[0, 32] > 5


def test_the_sample_source_is_one(module) -> None:
    source = module("A data set", "grey").GreyFrames(3)
    assert (len(source), source.image(2).dtype, source.frame_name(2)) == (3, np.uint8, "000002")
    assert (source.camera.height, source.camera.width) == source.image(0).shape[:2]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    tests = "\n".join(path.read_text() for path in (rules.ROOT / "tests").rglob("test_*.py"))
    assert [name for name in re.findall(r"`(test_\w+)`", text) if f"def {name}(" not in tests] == []
    paths = re.findall(r"`((?:tests|src|docs|examples|benchmarks)/[\w./]+\.\w+)`", text)
    assert [path for path in paths if not (rules.ROOT / path).exists()] == []
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if not link.startswith(("http", "mailto"))]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_to_a_line_leads_to_what_it_names(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+\.py)#L(\d+)\)[\s|]*`(\w+)`", page.read_text())
    assert page.name != "methods.md" or links
    for path, line, name in links:
        lines = (page.parent / path).resolve().read_text().splitlines()
        found = [i for i, text in enumerate(lines, 1) if re.match(rf"\s*(def|class) {name}\b|{name}\b.* = ", text)]
        assert int(line) in found, f"{path}: {name} is at line {found}, the page says {line}"


def test_every_convention_names_its_test() -> None:
    sections = re.split(r"\n## \d+\. ", (DOCS / "conventions.md").read_text())[1:]
    assert len(sections) == 15
    assert [section.split("\n")[0] for section in sections if "\nTest: `test_" not in section] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_no_command_of_a_page_writes_to_a_file_of_the_repository(page: Path) -> None:
    """``--out run/`` in a clone is the script ./run."""
    for out in re.findall(r"egoflow .*--out ([\w./-]+)", page.read_text()):
        assert not (rules.ROOT / out.rstrip("/")).is_file(), out
