"""The conventions that hold where values enter and leave: images, units, log keys (docs/conventions.md 11, 13, 15)."""

import ast
import re

import numpy as np
import pytest
from PIL import Image

from architecture import rules

FILES = rules.source_files()
EDGES = ("data", "evaluation", "inference", "commands", "report", "types", "config")
# Lengths are missing on purpose: of a scene without a scale they have no unit to name.
UNITLESS = frozenset({"time", "timestamp", "angle", "speed", "velocity", "focal"})
KEY = re.compile(r"[a-z_]+(/[a-z0-9_]+)+")


def _unitless(source: str) -> list[str]:
    """Return public functions' arguments and classes' fields that carry a unit and do not say which."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            names += [(inner.lineno, inner.arg) for inner in ast.walk(node.args) if isinstance(inner, ast.arg)]
        elif isinstance(node, ast.ClassDef):
            names += [(inner.lineno, inner.target.id) for inner in node.body
                      if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name)]
    return [f"line {line}: {name}" for line, name in names if name.rstrip("s") in UNITLESS]


def _log_keys(source: str) -> list[str]:
    """Return the keys under which a method's file puts loss terms."""
    keys: list[ast.expr | None] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "LossTerms":
            keys += [key for inner in node.args if isinstance(inner, ast.Dict) for key in inner.keys]
        elif isinstance(node, ast.Assign):
            keys += [target.slice for target in node.targets if isinstance(target, ast.Subscript)
                     and getattr(target.value, "id", "") in {"terms", "result"}]
    return sorted(key.value for key in keys if isinstance(key, ast.Constant))


def test_images(tmp_path) -> None:
    """11. Images are RGB, uint8 at rest."""
    from egoflow.data.open import open_source

    for index in range(2):
        Image.new("RGB", (24, 16), (255, 0, 10)).save(tmp_path / f"{index:06d}.png")
    image = open_source(tmp_path, camera="20,20,11.5,7.5").image(0)
    assert image.dtype == np.uint8
    assert image.shape == (16, 24, 3)
    assert image[3, 4].tolist() == [255, 0, 10]


@pytest.mark.parametrize("module", sorted(name for name in FILES if name.split(".")[1:2] in [[edge] for edge in EDGES]))
def test_units(module: str) -> None:
    """13. Where values enter or leave, the unit stands in the name."""
    assert _unitless(FILES[module]) == []


@pytest.mark.parametrize("module", sorted(name for name in FILES if name.startswith("egoflow.methods.")))
def test_log_keys(module: str) -> None:
    """15. Log keys are paths."""
    assert [key for key in _log_keys(FILES[module]) if not KEY.fullmatch(key)] == []


def test_the_rules_can_fail() -> None:
    source = "def f(angle, time_s):\n    x: int = 1\nclass C:\n    speed: float\ndef _g(angle): pass"
    assert _unitless(source) == ["line 1: angle", "line 4: speed"]
    assert _log_keys('LossTerms({"total": 1, "loss/x": 2})\nterms["Loss"] = 3') == ["Loss", "loss/x", "total"]
    assert [key for key in ("total", "loss/", "loss/x", "depth/abs_rel", "Loss/x") if KEY.fullmatch(key)] == [
        "loss/x", "depth/abs_rel"]
