"""What a killed run has left half written."""

import re
import shutil
from pathlib import Path

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}(\.\w+)?")


def is_leftover(path: Path) -> bool:
    """Say whether a name is one that ``data.files.atomic`` gives before it renames."""
    return _TEMPORARY.fullmatch(path.name) is not None


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders of ``data.files.atomic`` in and below ``folder``: they are nobody's."""
    for path in sorted(folder.rglob(".*")):
        if not is_leftover(path):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
