"""The command line's shell: one line and exit 2 for the user's mistakes, a trace for ours."""

import argparse
import errno
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from egoflow import cli
from egoflow.errors import ConfigError, DataError


@pytest.fixture
def command(monkeypatch):
    """Put a command called ``probe`` in place, whose work is the function given."""
    def put(work):
        def add_arguments(parser):
            parser.add_argument("--data", required=True, metavar="PATH", help="what to read")
            parser.add_argument("--scale", type=float, default=0.5, help="how large")
            parser.add_argument("--mode", choices=("fast", "slow"), default="fast", help="100%% of which kind")
            parser.add_argument("--json", action="store_true", help="as JSON")
            kinds = parser.add_subparsers(dest="kind")
            kinds.add_parser("depth", help="depth").add_argument("--crop", default="garg", help="x")

        module = SimpleNamespace(HELP="probe things", EXAMPLE="egoflow probe --data clip.mp4\n"
                                 "  egoflow probe --data x depth --crop eigen", add_arguments=add_arguments,
                                 run=lambda args: work(args))
        monkeypatch.setitem(cli.COMMANDS, "probe", "probe things")
        monkeypatch.setitem(sys.modules, "egoflow.commands.probe", module)
    return put


def _failing(error):
    def work(_args):
        raise error
    return work


def test_the_words_reach_the_command(command) -> None:
    seen = []
    command(lambda args: seen.append(args) or 0)
    assert cli.main(["probe", "--data", "x", "--scale", "2"]) == 0
    assert seen == [argparse.Namespace(data="x", scale=2.0, mode="fast", json=False, kind=None)]
    command(lambda args: 7)
    assert cli.main(["probe", "--data=x"]) == 7


@pytest.mark.parametrize(("words", "line"), [
    ([], "egoflow: error: name a command; see egoflow --help"),
    (["prbe"], "egoflow: error: unknown command 'prbe' (perhaps you meant probe); see egoflow --help"),
    (["qqqq"], "egoflow: error: unknown command 'qqqq'; see egoflow --help"),
    (["--json", "probe"], "egoflow: error: write --json after the command: egoflow probe"),
    (["--versoin"], "egoflow: error: unrecognized arguments: --versoin (perhaps you meant --version)"),
    (["probe", "--dta=x"], "egoflow probe: error: the following arguments are required: --data "
                           "(perhaps you meant --data)"),
    (["probe", "--data", "x", "--scal=3"], "egoflow probe: error: unrecognized arguments: --scal=3 "
                                           "(perhaps you meant --scale)"),
    (["probe", "--data", "x", "--zzz"], "egoflow probe: error: unrecognized arguments: --zzz; "
                                        "see egoflow probe --help"),
    (["probe", "--data", "x", "--scale", "big"], "egoflow probe: error: argument --scale: invalid float value: 'big'; "
                                                 "see egoflow probe --help"),
    (["probe", "--data", "x", "depth", "--corp", "garg"], "egoflow probe: error: unrecognized arguments: --corp garg "
                                                          "(perhaps you meant --crop)"),
])
def test_a_wrong_word_is_one_line(command, capsys, words: list[str], line: str) -> None:
    command(lambda args: 0)
    assert cli.main(words) == 2
    assert capsys.readouterr() == ("", line + "\n")


@pytest.mark.parametrize("words", [["probe", "--data", "x", "--mode", "quick"],
                                   ["probe", "--data", "x", "dpth"], ["probe", "--data"],
                                   ["probe", "--data", "x", "--js"]])
def test_other_wrong_words_are_one_line_too(command, capsys, words: list[str]) -> None:
    command(lambda args: 0)
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("egoflow probe: error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(("error", "line"), [
    (DataError("clip.mp4: no frames"), "egoflow: clip.mp4: no frames"),
    (ConfigError("several\n  lines\n"), "egoflow: several lines"),
    (FileNotFoundError(errno.ENOENT, "No such file", "a.mp4"), "egoflow: a.mp4: No such file"),
    (PermissionError(errno.EACCES, "Permission denied", "out"), "egoflow: out: Permission denied"),
    (IsADirectoryError(errno.EISDIR, "Is a directory", b"bytes"), "egoflow: bytes: Is a directory"),
    (OSError(errno.ENOSPC, "No space left on device", "out.png"),
     "egoflow: out.png: cannot write: No space left on device; free some space or write elsewhere"),
    (OSError(errno.ENOSPC, "No space left on device"),
     "egoflow: cannot write: No space left on device; free some space or write elsewhere"),
    (RuntimeError("I/O error: No space left on device (os error 28)"),
     "egoflow: cannot write: No space left on device; free some space or write elsewhere"),
    (SystemExit("told by a library"), "egoflow: told by a library"),
])
def test_a_users_mistake_is_one_line(command, capsys, error: BaseException, line: str) -> None:
    command(_failing(error))
    assert cli.main(["probe", "--data", "x"]) == 2
    assert capsys.readouterr() == ("", line + "\n")


@pytest.mark.parametrize("error", [ValueError("defect"), FileNotFoundError("no name"), OSError(errno.EIO, "x", "f")])
def test_a_defect_keeps_its_trace(command, error: Exception) -> None:
    command(_failing(error))
    with pytest.raises(type(error)) as raised:
        cli.main(["probe", "--data", "x"])
    assert raised.value is error


def test_an_interrupt_is_130(command, capsys) -> None:
    command(_failing(KeyboardInterrupt()))
    assert cli.main(["probe", "--data", "x"]) == 130
    assert capsys.readouterr().err == "\negoflow: interrupted\n"


def test_help_names_defaults_and_the_example(command, capsys) -> None:
    command(lambda args: 0)
    assert cli.main(["probe", "--help"]) == 0
    text = capsys.readouterr().out
    assert "how large (default: 0.5)" in text
    assert "100% of which kind (default: fast)" in text
    assert "as JSON\n" in text
    assert "what to read\n" in text
    assert text.endswith("example:\n  egoflow probe --data clip.mp4\n  egoflow probe --data x depth --crop eigen\n")
    assert cli.main(["probe", "--data", "x", "depth", "--help"]) == 0
    assert "x (default: garg)" in capsys.readouterr().out


def test_version_and_top_help(capsys) -> None:
    from importlib.metadata import version

    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"egoflow {version('egoflow')}\n"
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text and line in text for name, line in cli.COMMANDS.items())


def test_a_closed_pipe_is_no_trace() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "egoflow", "--version"], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_methods_shows_a_broken_file_and_the_others(monkeypatch, capsys) -> None:
    from egoflow import registry

    load = registry.load_method

    def loading(name):
        if name == "broken":
            raise SyntaxError("invalid\nsyntax")
        return load(name)

    monkeypatch.setattr(registry, "available_methods", lambda: ["broken", "sfmlearner"])
    monkeypatch.setattr(registry, "load_method", loading)
    assert cli.main(["methods", "--json"]) == 0
    broken, whole = json.loads(capsys.readouterr().out)
    assert broken == {"name": "broken", "summary": "", "presets": [], "broken": "SyntaxError: invalid syntax"}
    assert whole["broken"] is None
    assert "tiny" in whole["presets"]
    assert whole["summary"]
    assert cli.main(["methods"]) == 0
    text = capsys.readouterr().out
    assert "broken: SyntaxError: invalid syntax" in text
    assert "sfmlearner:tiny" in text


def test_worlds_lists_each_with_its_summary(capsys) -> None:
    assert cli.main(["worlds", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"boxes", "drive"} <= set(rows)
    assert all(row["summary"] and row["broken"] is None for row in rows.values())
