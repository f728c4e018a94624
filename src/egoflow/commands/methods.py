"""``egoflow methods``: what can be trained."""

import argparse
import json
from typing import Any

NAME = "methods"
HELP = "list the methods and their presets"
EXAMPLE = "egoflow methods"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--json", action="store_true", help="write the list as JSON")


def run(args: argparse.Namespace) -> int:
    """Write every method, also those whose file is broken, with the reason."""
    from egoflow.console import say
    from egoflow.registry import available_methods

    rows = [describe(name) for name in available_methods()]
    if args.json:
        say(json.dumps(rows, indent=1))
        return 0
    for row in rows:
        say(f"{row['name']}: {row['summary']}")
        if row["broken"]:
            say(f"    broken: {row['broken']}")
        else:
            say(f"    presets: {', '.join(str(row['name']) + ':' + preset for preset in row['presets'])}")
    return 0


def describe(name: str) -> dict[str, Any]:
    """Return a method's name, first docstring line and presets; ``broken`` is the reason why it cannot be loaded."""
    import inspect
    import sys

    from egoflow.registry import load_method

    row: dict[str, Any] = {"name": name, "summary": "", "presets": [], "broken": None}
    try:
        entry = load_method(name)
    # A broken file may raise anything, and must not hide the other methods.
    except Exception as error:
        return {**row, "broken": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    summary = (inspect.getdoc(sys.modules[entry.method_type.__module__]) or "").split("\n", 1)[0]
    return {**row, "summary": summary, "presets": list(entry.presets)}
