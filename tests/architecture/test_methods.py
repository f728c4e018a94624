"""Every method file is complete, and the docs know it."""

import pytest

from architecture import rules

NAMES = sorted(path.stem for path in (rules.SRC / "methods").glob("*.py") if path.stem not in rules.METHOD_SUPPORT)

COMPLETE = '''"""A system (Author 2020)."""
@dataclass(frozen=True)
class Config:
    width: int = 4
class System(Method):
    pass
def tiny() -> Run:
    """Return a small one."""
'''


@pytest.mark.parametrize("name", NAMES)
def test_the_method_file_is_complete(name: str) -> None:
    assert rules.method_file_faults((rules.SRC / "methods" / f"{name}.py").read_text()) == []


def test_the_registry_lists_the_files() -> None:
    from egoflow.registry import available_methods

    assert available_methods() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_method_loads_and_its_presets_name_it(name: str) -> None:
    from egoflow.registry import load_method

    entry = load_method(name)
    for preset, make in entry.presets.items():
        run = make()
        assert (run.method, run.preset) == (name, preset)
        assert isinstance(run.config, entry.config_type)


@pytest.mark.parametrize("name", NAMES)
def test_the_docs_mention_every_method(name: str) -> None:
    assert name in (rules.ROOT / "docs" / "methods.md").read_text()


@pytest.mark.parametrize(("change", "fault"), [
    (("", ""), []),
    (('"""A system (Author 2020)."""', "import torch"), ["no docstring that names the paper"]),
    (("(frozen=True)", ""), ["no frozen dataclass Config"]),
    (("class Config", "class Options"), ["no frozen dataclass Config"]),
    (("System(Method)", "System(nn.Module)"), ["0 Method classes instead of one"]),
    (("class Config:", "class Config(System):"), ["its Method class is inherited from"]),
    (("-> Run", "-> int"), ["no preset (a public function that returns Run)"]),
    (("def tiny", "def _tiny"), ["no preset (a public function that returns Run)"]),
    (('    """Return a small one."""', "    return 1"), ["a preset without a docstring"]),
])
def test_the_rule_can_fail(change: tuple[str, str], fault: list[str]) -> None:
    assert rules.method_file_faults(COMPLETE.replace(*change)) == fault
