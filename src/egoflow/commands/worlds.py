"""``egoflow worlds``: what can be rendered."""

import argparse
import json
from typing import Any

NAME = "worlds"
HELP = "list the procedural worlds"
EXAMPLE = "egoflow worlds"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--json", action="store_true", help="write the list as JSON")


def run(args: argparse.Namespace) -> int:
    """Write every world, also those whose file is broken, with the reason."""
    from egoflow.console import say
    from egoflow.worlds.base import available_worlds

    rows = [describe(name) for name in available_worlds()]
    if args.json:
        say(json.dumps(rows, indent=1))
        return 0
    for row in rows:
        say(f"{row['name']}: {row['summary'] or 'broken: ' + str(row['broken'])}")
    return 0


def describe(name: str) -> dict[str, Any]:
    """Return a world's name and first docstring line; ``broken`` is the reason why it cannot be loaded."""
    import inspect
    from importlib import import_module

    try:
        module = import_module(f"egoflow.worlds.{name}")
    # A broken file may raise anything, and must not hide the other worlds.
    except Exception as error:
        return {"name": name, "summary": "", "broken": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    return {"name": name, "summary": (inspect.getdoc(module) or "").split("\n", 1)[0], "broken": None}
