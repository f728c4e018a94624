"""``./run``: one clear line where it cannot work, and half an installation is none."""

import importlib.util
import os
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(tmp_path: Path, monkeypatch) -> ModuleType:
    """Load ./run with its folder moved to a temporary one and no installer behind it."""
    loader = SourceFileLoader("run_script", str(ROOT / "run"))
    spec = importlib.util.spec_from_loader("run_script", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader.exec_module(module)
    venv = tmp_path / ".venv"
    (tmp_path / "requirements.lock").write_text("# pins\nnumpy==2.0\ntorch==2.13.0\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    for name, path in {"ROOT": tmp_path, "VENV": venv, "BIN": venv / "bin", "PYTHON": venv / "bin" / "python",
                       "LOCK": tmp_path / "requirements.lock", "STAMP": venv / "egoflow-stamp",
                       "TORCH": venv / "egoflow-torch"}.items():
        monkeypatch.setattr(module, name, path)
    monkeypatch.delenv("TORCH_SPEC", raising=False)
    return module


@pytest.fixture
def installs(script: ModuleType, monkeypatch) -> list[tuple[str, ...]]:
    """Record what would be installed."""
    calls: list[tuple[str, ...]] = []

    def make_venv() -> list[str]:
        script.BIN.mkdir(parents=True, exist_ok=True)
        script.PYTHON.touch()
        return ["pip"]

    monkeypatch.setattr(script, "make_venv", make_venv)
    monkeypatch.setattr(script, "install", lambda pip, *words: calls.append(words))
    monkeypatch.setattr(script, "torch_words", lambda pip, locked: [script.torch_spec() or locked])
    return calls


def test_torch_comes_first_and_is_not_asked_for_again(script, installs) -> None:
    script.set_up()
    assert [words[0] for words in installs] == ["torch==2.13.0", "-r", "--no-deps"]
    assert (script.VENV / "requirements.txt").read_text() == "# pins\nnumpy==2.0\n"
    script.set_up()
    assert len(installs) == 3


def test_a_changed_lock_installs_anew(script, installs) -> None:
    script.set_up()
    script.LOCK.write_text("torch==2.14.0\n")
    assert not script.ready()
    script.set_up()
    assert installs[3] == ("torch==2.14.0",)


def test_half_an_installation_is_none(script, installs, monkeypatch) -> None:
    script.set_up()
    script.LOCK.write_text("torch==2.14.0\n")

    def broken(pip, *words):
        raise SystemExit(2)

    monkeypatch.setattr(script, "install", broken)
    with pytest.raises(SystemExit):
        script.set_up()
    script.LOCK.write_text("# pins\nnumpy==2.0\ntorch==2.13.0\n")
    assert not script.ready()


def test_the_chosen_torch_is_remembered(script, installs, monkeypatch) -> None:
    monkeypatch.setenv("TORCH_SPEC", "torch==2.9.0")
    script.set_up()
    assert installs[0] == ("torch==2.9.0",)
    monkeypatch.delenv("TORCH_SPEC")
    assert script.ready()
    monkeypatch.setenv("TORCH_SPEC", "torch==2.8.0")
    assert not script.ready()


def test_torch_words(script, monkeypatch) -> None:
    told = SimpleNamespace(stdout="")
    monkeypatch.setattr(script.subprocess, "run", lambda *args, **options: told)
    monkeypatch.setattr(script, "answers", lambda url: True)
    monkeypatch.setattr(script.sys, "platform", "linux")
    monkeypatch.setattr(script.Path, "exists", lambda path: False)
    assert script.torch_words(["pip"], "torch==1") == ["torch==1", "--extra-index-url", script.CPU_INDEX]
    told.stdout = "global.find-links='wheels'"
    assert script.torch_words(["pip"], "torch==1") == ["torch==1"]
    told.stdout = ""
    monkeypatch.setattr(script, "answers", lambda url: False)
    assert script.torch_words(["pip"], "torch==1") == ["torch==1"]
    monkeypatch.setenv("TORCH_SPEC", "torch==3 --index-url 'http://a b'")
    assert script.torch_words(["pip"], "torch==1") == ["torch==3", "--index-url", "http://a b"]


def test_no_pip_and_no_ensurepip_is_one_line(script, monkeypatch, capsys) -> None:
    monkeypatch.setattr(script.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stop:
        script.make_venv()
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert "neither pip 22.3 or later nor ensurepip" in err
    assert err.count("\n") == 1


def test_pip_that_fails_is_told(script, capsys) -> None:
    pip = [sys.executable, "-c", "import sys; sys.stderr.write('no such wheel\\n'); sys.exit(1)"]
    with pytest.raises(SystemExit):
        script.install(pip, "torch==0")
    assert "no such wheel\nrun: pip could not install torch==0" in capsys.readouterr().err


def test_an_old_python_is_told(script, monkeypatch, capsys) -> None:
    monkeypatch.setattr(script.sys, "version_info", (3, 10))
    with pytest.raises(SystemExit):
        script.main(["test"])
    assert "Python 3.11 or later is needed" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), ([], 2), (["bogus"], 2)])
def test_words(words: list[str], code: int) -> None:
    done = subprocess.run([str(ROOT / "run"), *words], capture_output=True, text=True)
    assert done.returncode == code
    assert "demo" in done.stdout + done.stderr


def test_the_scripts_can_be_executed() -> None:
    assert os.access(ROOT / "run", os.X_OK)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
