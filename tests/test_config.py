"""Settings: what ``--set`` takes and refuses, and the run as JSON."""

import json
from typing import Any

import pytest

from egoflow.config import Run, run_from_json, run_to_json, with_settings
from egoflow.errors import ConfigError
from egoflow.registry import load_preset


def tiny() -> Run:
    return load_preset("sfmlearner:tiny")[1]


def value(run: Run, key: str) -> Any:
    node: Any = run
    for part in key.split("."):
        node = getattr(node, part)
    return node


@pytest.mark.parametrize(("setting", "expected"), [
    ("optim.lr=1e-4", 1e-4), ("optim.lr=0.5", 0.5), ("loop.steps=7", 7), ("optim.clip_norm=null", None),
    ("optim.betas=[0.5, 0.9]", (0.5, 0.9)), ("data.augment.flip=false", False), ("start=none", "none"),
    ("config.masks=true", True), ("config.smooth_weight=0", 0.0), ("loop.minutes=10", 10.0),
    ("data.camera=fov=70", "fov=70"), ("data.camera=700,700,320,240", "700,700,320,240"), ("data.camera=null", None),
    ("data.paths=[a.mp4, b]", ("a.mp4", "b")), (" loop.seed = 3", 3),
    # YAML would read these as a number in base 60, a mapping and a number.
    ("data.frames=10:50", "10:50"), ("data.frames=100:", "100:"), ("data.frames=0:200:2", "0:200:2"),
    ("data.frames=:-10", ":-10"), ("loop.device=0", "0")])
def test_a_setting_changes_one_field(setting: str, expected: object) -> None:
    before, after = tiny(), with_settings(tiny(), [setting])
    key = setting.partition("=")[0].strip()
    assert value(after, key) == expected
    assert type(value(after, key)) is type(expected)
    # Put back, nothing else has changed.
    def flat(node: Any, prefix: str = "") -> dict[str, Any]:
        return {k: v for name, item in node.items() for k, v in (
            flat(item, f"{prefix}{name}.") if isinstance(item, dict) else {prefix + name: item}).items()}
    one, two = (flat(json.loads(run_to_json(run))) for run in (before, after))
    assert {k for k in one if one[k] != two[k]} <= {key}


def test_later_settings_win() -> None:
    assert with_settings(tiny(), ["loop.steps=5", "loop.steps=6"]).loop.steps == 6


@pytest.mark.parametrize(("setting", "message"), [
    ("optim.lr", "expected key=value"), ("", "expected key=value"),
    ("optim.rl=1", "unknown key 'rl'; known here: lr, betas"), ("optm.lr=1", "perhaps you meant optim"),
    ("loop.step=1", "perhaps you meant steps"), ("config.mask=1", "perhaps you meant masks"),
    ("data.augment.flop=1", "perhaps you meant flip"), ("xyzzy=1", "known here: method, config"),
    ("=1", "unknown key ''"), ("data.=1", "unknown key ''"),
    ("optim=1", "is a group; set one of lr, betas"), ("config=1", "is a group; set one of frames"),
    ("optim.lr.x=1", "lr has no parts"),
    ("loop.steps=many", "valid integer"), ("loop.steps=1.5", "valid integer"), ("loop.steps=", "valid integer"),
    ("optim.lr=fast", "valid number"), ("optim.lr=[1]", "valid number"), ("optim.lr=[1", "not YAML"),
    ("loop.watchdog=perhaps", "valid boolean"), ("start=three_view", "'two_view' or 'none'"),
    ("config.network=huge", "'paper' or 'tiny'"), ("optim.betas=[0.5]", "required"), ("data.paths=a.mp4", "tuple"),
    ("loop.steps=0", "greater than or equal to 1"), ("data.height=-3", "greater than or equal to 1"),
    ("optim.lr=nan", ""), ("optim.lr=-1", "greater than 0"), ("optim.batch_size=0", "greater than or equal to 1"),
    ("optim.betas=[0.5, 1]", "less than 1"), ("config.frames=1", "greater than or equal to 2"),
    ("loop.steps=!!python/object/apply:os.getcwd []", "not YAML"), ("loop.steps=2001-99-99", "not YAML"),
    ("method=dfnet", "METHOD:PRESET"), ("preset=kitti", "METHOD:PRESET")])
def test_a_wrong_setting_is_one_line(setting: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        with_settings(tiny(), [setting])
    text = str(error.value)
    assert text.startswith(f"--set {setting}: ")
    assert message in text
    assert "\n" not in text


def test_run_goes_through_json() -> None:
    run = with_settings(tiny(), ["data.paths=[a b, ü]", "loop.minutes=2.5", "optim.clip_norm=null", "data.frames=0:9"])
    assert run_from_json(run_to_json(run), type(run.config)) == run


def changed(**top: object) -> str:
    return json.dumps({**json.loads(run_to_json(tiny())), **top})


@pytest.mark.parametrize(("text", "message"), [
    ("", "not a run"), ("{", "not a run"), ("[]", "not a run"), ("null", "not a run"), ("3", "not a run"),
    ("{}", "not a run"), ("[" * 100_000, "not a run"), ('{"config": null}', "not a run"),
    ('{"config": 3}', "not a run"), ('{"config": {}}', "method"),
    (changed(colour=1), "colour"), (changed(start="maybe"), "start"),
    (changed(optim={"lr": "x"}), "optim.lr"), (changed(optim={"lr": -1}), "optim.lr"),
    (changed(config={"frames": "x"}), "frames"), (changed(config={"wings": 2}), "config.wings"),
    (changed(config=[["frames", 3]]), "")])
def test_json_that_is_no_run_is_one_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        run_from_json(text, type(tiny().config), name="somewhere/run.json")
    assert str(error.value).startswith("somewhere/run.json: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
