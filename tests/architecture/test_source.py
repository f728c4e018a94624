"""What every source file keeps to: sizes, one sampler, no print, names that cannot be misread."""

import subprocess

import pytest

from architecture import rules

FILES = rules.source_files()


@pytest.mark.parametrize("module", sorted(FILES))
def test_sizes(module: str) -> None:
    assert len(FILES[module].splitlines()) <= rules.MAX_FILE_LINES
    assert rules.long_functions(FILES[module]) == []


@pytest.mark.parametrize("module", sorted(FILES))
def test_nothing_prints(module: str) -> None:
    assert rules.mentions(FILES[module], name="print") == []


@pytest.mark.parametrize("module", sorted(FILES))
def test_no_name_invites_an_inverted_transform(module: str) -> None:
    assert rules.banned_names(FILES[module]) == []


def test_there_is_one_sampler() -> None:
    assert [module for module in FILES if rules.mentions(FILES[module], name="grid_sample")] == [
        "egoflow.geometry.pixels"]


def test_examples_are_short() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in (rules.ROOT / "examples").glob("*.py")}
    assert {name: lines for name, lines in lengths.items() if lines >= rules.MAX_EXAMPLE_LINES} == {}


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=rules.ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    found = {}
    for name in filter(None, listed.stdout.split("\0")):
        path = rules.ROOT / name
        if path.is_file() and path.suffix not in {".png", ".jpg", ".gif", ".mp4", ".npz"}:
            found[name] = rules.machine_paths(path.read_text(errors="replace"))
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_the_rules_can_fail() -> None:
    assert rules.mentions("def f():\n    print('x')", name="print") == [2]
    assert rules.mentions("import torch\ntorch.nn.functional.grid_sample(a, b)", name="grid_sample") == [2]
    assert rules.mentions("from torch.nn.functional import grid_sample", name="grid_sample") == [1]
    assert rules.mentions("text = 'print grid_sample'", name="print") == []
    assert rules.banned_names("def f(pose, x):\n    Tcw = x\n    for c2w in x:\n        pass") == [
        "line 1: pose", "line 2: Tcw", "line 3: c2w"]
    assert rules.banned_names("cam_from_world = pose_net(x).T") == []
    assert rules.long_functions("def f():\n" + "    x = 1\n" * 60) == ["f has 61 lines"]
    assert rules.long_functions("def f():\n" + "    x = 1\n" * 59) == []
    assert rules.machine_paths("a\nopen('/" + "root/x')\nb") == ["open('/" + "root/x')"]
    assert rules.machine_paths("network/workers and ./work and src/root.py") == []
