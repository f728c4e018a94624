"""Imports run one way: from later layers to earlier ones, without cycles and past no package's ``__init__``."""

import ast

import pytest

from architecture import rules

FILES = rules.source_files()
MODULES = frozenset(FILES)
PACKAGES = frozenset(".".join(path.parent.relative_to(rules.SRC.parent).parts)
                     for path in rules.SRC.rglob("__init__.py"))
INNER = sorted(MODULES - {"egoflow"})


@pytest.mark.parametrize("module", INNER)
def test_imports_come_from_earlier_layers(module: str) -> None:
    assert rules.layer_breaches(module, FILES[module], modules=MODULES) == []


@pytest.mark.parametrize("module", INNER)
def test_nothing_is_taken_from_a_package_init(module: str) -> None:
    assert rules.init_breaches(module, FILES[module], modules=MODULES, packages=PACKAGES) == []


def test_there_is_no_cycle() -> None:
    graph = {module: {target for target, _ in rules.imported_modules(FILES[module], modules=MODULES)} - {module}
             for module in INNER}
    assert rules.cycle(graph) == []


@pytest.mark.parametrize("package", sorted(PACKAGES - {"egoflow"}))
def test_a_package_init_holds_a_docstring_alone(package: str) -> None:
    body = ast.parse(FILES[package]).body
    assert len(body) == 1
    assert ast.get_docstring(ast.parse(FILES[package]))


@pytest.mark.parametrize(("module", "source"), [
    ("egoflow.geometry.flow", "from egoflow.losses.reduce import masked_mean"),
    ("egoflow.losses.reduce", "from egoflow.networks import blocks"),
    ("egoflow.data.clips", "def f():\n    import egoflow.training.trainer"),
    ("egoflow.geometry.flow", "from .camera import Camera"),
    ("egoflow.errors", "from egoflow.console import say"),
])
def test_the_layer_rule_can_fail(module: str, source: str) -> None:
    modules = MODULES | {"egoflow.losses.reduce", "egoflow.networks.blocks", "egoflow.training.trainer"}
    assert len(rules.layer_breaches(module, source, modules=modules)) == 1


def test_an_unlisted_part_of_the_package_is_refused() -> None:
    with pytest.raises(KeyError, match="egoflow.utils.things: utils is in no layer"):
        rules.layer_breaches("egoflow.utils.things", "", modules=MODULES)


def test_the_init_and_cycle_rules_can_fail() -> None:
    source = "from egoflow.geometry import Camera"
    assert rules.init_breaches("egoflow.types", source, modules=MODULES, packages=PACKAGES) == [
        "egoflow.types takes Camera from the package egoflow.geometry"]
    assert rules.init_breaches("egoflow.types", "from egoflow.geometry import camera",
                               modules=MODULES, packages=PACKAGES) == []
    assert rules.cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert rules.cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
