"""The command line: finds the command, reads its words, and turns a user's mistake into one line.

argparse, because it starts in no time and lets an error be one line. Only the chosen command's module is imported, so
a missing or broken command breaks only itself.
"""

import argparse
import difflib
import errno
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn

from egoflow.errors import EgoflowError

COMMANDS = {
    "doctor": "tell what footage can teach, and what is the matter with it, before anything is trained",
    "fit": "learn depth, motion and flow from your own clips and write everything: maps, path, cloud, report, model",
    "train": "train a method on video and write a run folder",
    "predict": "predict depth, motion and trajectory, or flow, of a video or folder with a trained run",
    "evaluate": "score a run, or anyone's files, against ground truth",
    "compare": "train methods under one budget on the same clips and compare them on unseen ones",
    "scale": "turn the unit of a fit into metres, from a speed, a camera height, a GPS track or a known distance",
    "export": "write a trained run as ONNX or a torch program, verified, with a runner without torch and a model card",
    "view": "show the report of a fit or a prediction in the browser, served to this machine alone",
    "render": "render a procedural world with exact ground truth",
    "demo": "render, train, predict and evaluate a small example in minutes",
    "methods": "list the methods and their presets",
    "worlds": "list the procedural worlds",
}
"""Every command with its help line, so that ``egoflow --help`` imports none of them (a test compares)."""

USER_MISTAKE, INTERRUPTED, BROKEN_PIPE = 2, 130, 141
_PATH_ERRORS = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help that names each default once and leaves the example's line breaks alone."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=min(100, _terminal_width()))

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        silent = action.default is False or action.default in (None, argparse.SUPPRESS) or action.default == []
        return text if silent or "%(default)" in text or not action.option_strings else text + " (default: %(default)s)"


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, with the nearest word that it knows."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", _Help)
        super().__init__(*args, **kwargs)
        self._given: tuple[str, ...] = ()

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Remember the words for the hint of ``error`` and parse them."""
        self._given = tuple(sys.argv[1:] if args is None else args)
        return super().parse_known_args(self._given, namespace)

    def error(self, message: str) -> NoReturn:
        """Write one line and exit with 2."""
        known = sorted(_options_of(self))
        asked = [word.split("=", 1)[0] for word in self._given if word.startswith("--") and word != "--"]
        hint = next((nearest(word, known) for word in asked if word not in known), "")
        self.exit(USER_MISTAKE, f"{self.prog}: error: {one_line(message)}{hint or f'; see {self.prog} --help'}\n")


def _options_of(parser: argparse.ArgumentParser) -> set[str]:
    """Return the options of a parser and of all parsers below it."""
    return set(parser._option_string_actions).union(*map(_options_of, _below(parser)))


def _below(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    actions = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return [below for action in actions for below in action.choices.values()]


def _terminal_width() -> int:
    try:
        return int(os.environ.get("COLUMNS") or os.get_terminal_size().columns) - 2
    except (OSError, ValueError):
        return 100


def one_line(text: object) -> str:
    """Return ``text`` as one line."""
    return " ".join(part.strip() for part in str(text).splitlines() if part.strip())


def nearest(word: str, known: Iterable[str]) -> str:
    """Return " (perhaps you meant X)" where a known word is near ``word``, else an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (perhaps you meant {near[0]})" if near else ""


def command_parser(name: str) -> tuple[Parser, Any]:
    """Import the command ``name`` and return its parser and module."""
    module = import_module(f"egoflow.commands.{name}")
    parser = Parser(prog=f"egoflow {name}", description=module.HELP)
    module.add_arguments(parser)
    lines = [line.strip() for line in module.EXAMPLE.splitlines()]
    for each in (parser, *_below(parser)):
        each.epilog = "example:\n" + "\n".join(f"  {line}" for line in lines if line.startswith(each.prog))
    return parser, module


def _top_parser() -> Parser:
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    parser = Parser(prog="egoflow", usage="egoflow COMMAND [words]", add_help=False,
                    description="Learn depth, camera motion and optical flow from plain, unlabelled video.",
                    epilog=f"commands:\n{listing}\n\n'egoflow COMMAND --help' shows a command's options and an "
                           f"example.\n\nexample:\n  egoflow demo")
    parser.add_argument("-h", "--help", action="help", help="show this text and exit")
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    return parser


def _dispatch(words: list[str]) -> int:
    if not words or words[0] not in COMMANDS:
        parser = _top_parser()
        args, _ = parser.parse_known_args(words)
        if args.version:
            from importlib.metadata import version

            sys.stdout.write(f"egoflow {version('egoflow')}\n")
            return 0
        if args.command is None:
            parser.error("name a command" if not words else f"unrecognized arguments: {' '.join(words)}")
        if args.command in COMMANDS:
            parser.exit(USER_MISTAKE, f"egoflow: error: write {words[0]} after the command: egoflow {args.command}\n")
        parser.error(f"unknown command {args.command!r}{nearest(args.command, COMMANDS)}")
    parser, module = command_parser(words[0])
    return int(module.run(parser.parse_args(words[1:])) or 0)


def _complain(text: object) -> int:
    sys.stderr.write(f"egoflow: {one_line(text)}\n")
    return USER_MISTAKE


def _told(error: EgoflowError) -> str:
    """Return the error's own text, also where a data loader's worker has wrapped its trace around it."""
    text = str(error)
    return text.rstrip().splitlines()[-1].partition(": ")[2] if "\nOriginal Traceback" in text else text


def _is_full(error: BaseException) -> bool:
    """Say whether a write failed for want of space; libraries hide the number and keep only its text."""
    return getattr(error, "errno", None) in _FULL or os.strerror(errno.ENOSPC) in str(error)


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does: what is half written is removed. (Training saves itself instead.)"""
    def end(number: int, frame: Any) -> NoReturn:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that ``argv`` (default: the process's words) names and return its exit code.

    2 is a user's mistake, told in one line; 130 an interrupt; any other failure is a defect and keeps its trace.
    """
    try:
        with _ending_on_sigterm():
            code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except SystemExit as stop:
        return _complain(stop.code) if isinstance(stop.code, str) else int(stop.code or 0)
    except EgoflowError as error:
        return _complain(_told(error))
    except KeyboardInterrupt:
        sys.stderr.write("\negoflow: interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has gone: point stdout elsewhere, or Python complains once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        if _is_full(error):
            name = getattr(error, "filename", None)
            return _complain(f"{f'{name}: ' if name else ''}cannot write: {_reason(error)}; free some space or write "
                             f"elsewhere")
        if isinstance(error, _PATH_ERRORS) and error.filename is not None:
            return _complain(f"{os.fsdecode(error.filename)}: {error.strerror}")
        raise


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or os.strerror(errno.ENOSPC)
