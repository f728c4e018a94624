"""Methods by name: built in, from another package, misspelt, broken."""

from pathlib import Path

import pytest

from egoflow.errors import ConfigError
from egoflow.registry import available_methods, load_method, load_preset

OUTSIDE = '''"""A method of another package."""
from dataclasses import dataclass
import torch
from egoflow.config import Run
from egoflow.geometry.se3 import SE3
from egoflow.methods.base import Method
from egoflow.types import Clip, LossTerms, Prediction
@dataclass(frozen=True)
class Config:
    speed: float = 1.0
class Straight(Method):
    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.clip_length, self.target = 2, 0
        self.speed = torch.nn.Parameter(torch.tensor(config.speed))
    def predict(self, clip: Clip) -> Prediction:
        ahead = torch.stack((self.speed * 0, self.speed * 0, -self.speed)).expand(clip.images.shape[0], 3)
        return Prediction(motion={(0, 1): SE3(torch.eye(3).expand(clip.images.shape[0], 3, 3), ahead)})
    def losses(self, clip: Clip, prediction: Prediction, progress: float) -> LossTerms:
        return LossTerms({"loss/speed": (1.0, self.speed.square())})
def slow() -> Run:
    return Run(method="other_package.straight", preset="slow", config=Config())
def fast() -> Run:
    return Run(method="other_package.straight", preset="fast", config=Config(speed=2.0))
def helper() -> int:
    return 3
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of an importable package."""
    folder = tmp_path / "other_package"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder  # type: ignore[misc]
    import sys

    for name in [n for n in sys.modules if n.split(".")[0] == "other_package"]:
        del sys.modules[name]


def test_the_first_preset_is_the_default() -> None:
    assert load_preset("sfmlearner")[1] == load_preset("sfmlearner:kitti")[1]
    assert "sfmlearner" in available_methods()
    assert not {"base", "start"} & set(available_methods())


def test_a_method_of_another_package(package: Path) -> None:
    (package / "straight.py").write_text(OUTSIDE)
    entry, run = load_preset("other_package.straight:fast")
    assert list(entry.presets) == ["slow", "fast"]
    assert entry.method_type(run.config).speed == 2
    assert load_preset("other_package.straight")[1].preset == "slow"


@pytest.mark.parametrize(("name", "message"), [
    ("sfmlerner", "perhaps you meant sfmlearner"), ("xyzzy", "known: "), ("", "unknown method"),
    ("base", "unknown method"),
    ("no_such_package.method", "cannot import no_such_package"), ("os.path", "must define Config"),
    (".relative", "expected a name"), ("a..b", "expected a name"), ("a/b.c", "expected a name"),
    ("..", "expected a name")])
def test_an_unknown_method_is_one_line(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        load_method(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("preset", "message"), [("kiti", "perhaps you meant kitti"), ("xyzzy", "known: kitti")])
def test_an_unknown_preset_is_one_line(preset: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_preset(f"sfmlearner:{preset}")


@pytest.mark.parametrize(("old", "new", "message"), [
    ("class Config:", "class Settings:\n    pass\nclass Unused:", "must define Config"),
    ("-> Run", "-> int", "at least one preset"),
    ("class Straight(Method)", "class Straight(object)", "exactly one Method"),
    ("import torch\n", "import no_such_library\n", "cannot import no_such_library"),
    ("import torch\n", "from torch import no_such_name\n", "no_such_name"),
    ("import torch\n", "import torch torch\n", "invalid syntax")])
def test_a_broken_method_file_is_one_line(package: Path, old: str, new: str, message: str) -> None:
    (package / "straight.py").write_text(OUTSIDE.replace(old, new).replace("config: Config", "config"))
    with pytest.raises(ConfigError, match=message) as error:
        load_method("other_package.straight")
    assert "\n" not in str(error.value)
    # It breaks nothing but itself.
    assert load_method("sfmlearner").name == "sfmlearner"
