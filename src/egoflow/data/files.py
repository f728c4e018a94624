"""Files opened, written whole and listed: every failure of the disk becomes one DataError line."""

import errno
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from egoflow.errors import ConfigError, DataError, EgoflowError, InUseError, WriteError

try:
    import fcntl
except ImportError:
    # Windows has none.
    fcntl = None  # type: ignore[assignment]

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}(\.\w+)?")
"""The names that ``atomic`` gives."""
MAX_PIXELS = 2**27
"""No image, flow or map may claim more pixels: a damaged header must not fill the memory."""

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EACCES: "permission denied; choose a folder that you may write",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.ENOTDIR: "a part of its path is a file; choose another folder",
    errno.EISDIR: "it is a folder; give a file name",
}


def _reason(error: OSError) -> str:
    """Say why the system refused, with the remedy where one is known."""
    return _REASONS.get(error.errno or 0, error.strerror or str(error) or type(error).__name__)


def _remove(path: Path) -> None:
    """Remove a half-written result, whatever it is."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        # Where it was never made, the reason why has been raised already.
        with suppress(OSError):
            path.unlink()


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it on success, remove it on failure.

    The temporary name keeps the suffix, which encoders choose their format by. Missing folders are made. A file that
    cannot be written (disk full, no permission) raises one WriteError that names ``path``.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem[:100]}.{uuid.uuid4().hex[:8]}{path.suffix}")
    with leave_no_trace(path.parent):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            os.replace(temporary, path)
        except OSError as error:
            raise WriteError(f"{path}: cannot be written: {_reason(error)}") from error
        finally:
            # After a success nothing is left under this name.
            _remove(temporary)


@contextmanager
def leave_no_trace(folder: str | Path, *, unless: Callable[[Exception], bool] = lambda error: False) -> Iterator[None]:
    """Remove ``folder`` if the block made it and failed; interrupts and errors that ``unless`` accepts leave it there.

    Folders above it go too where the block made them and nothing else lies in them.
    """
    folder = Path(folder)
    # The folder itself first, then those above it: another program may have put something in one meanwhile.
    made = [] if folder.exists() else [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        yield
    except Exception as error:
        if made and not unless(error):
            shutil.rmtree(made[0], ignore_errors=True)
            with suppress(OSError):
                for above in made[1:]:
                    above.rmdir()
        raise


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty temporary folder that becomes ``path`` on success and vanishes on failure.

    Raises DataError when ``path`` exists and is not an empty folder: results are never mixed or overwritten.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DataError(f"{path}: exists already; give another folder, or remove it first")
    with atomic(path) as temporary:
        temporary.mkdir()
        try:
            yield temporary
        except EgoflowError as error:
            # The name that the user gave, not the temporary one.
            raise type(error)(str(error).replace(str(temporary), str(path))) from error


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write ``data`` to ``path`` whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def opened(path: str | Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file for reading and yield it with its length in bytes; DataError if it cannot be read."""
    path = Path(path)
    try:
        # A pipe or a device has no length and could block for ever.
        if path.exists() and not path.is_file():
            raise DataError(f"{path}: expected a file, found {'a folder' if path.is_dir() else 'something else'}")
        with path.open("rb") as stream:
            yield stream, path.stat().st_size
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {_reason(error)}") from error


def read_bytes(path: str | Path, *, limit: int = 2**31) -> bytes:
    """Return the content of a file of at most ``limit`` bytes; DataError otherwise."""
    with opened(path) as (stream, size):
        if size > limit:
            raise DataError(f"{path}: {size} bytes are more than the {limit} that such a file may have")
        return stream.read(limit)


def read_text(path: str | Path, *, limit: int = 2**20) -> str:
    """Return the text of a small UTF-8 file; DataError otherwise."""
    try:
        return read_bytes(path, limit=limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected a text file, found binary data") from error


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key that counts as people do: frame2 before frame10."""
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p.lower()) for p in parts if p]


def frame_number(name: str) -> int | None:
    """Return the last number in a file name ("rgb_00012" -> 12), or None."""
    digits = re.findall(r"[0-9]+", name)
    return int(digits[-1]) if digits and len(digits[-1]) < 19 else None


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that a file of our own holds, an empty one where there is none; DataError for a damaged one."""
    if not path.exists():
        return {}
    try:
        return json.loads(read_text(path, limit=2**26))
    except ValueError:
        raise DataError(f"{path}: is damaged; remove it, and it is made again") from None


@contextmanager
def needed_json(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the object of a file that the work in its folder cannot go on without.

    DataError where it is missing, damaged, or where the block does not find what it expects in it.
    """
    try:
        yield json.loads(read_text(path, limit=2**26))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path}: is damaged, or of another version of egoflow; begin again in another --out"
                        ) from None


def claim_folder(out: Path, about: dict[str, Any], *, file: str, kind: str) -> None:
    """Make ``out`` the folder of what ``about`` asks for, kept in its ``file``; what was begun there may go on.

    Raises ConfigError where it holds another ``kind`` of that, or something else.
    """
    path = out / file
    if out.exists() and (not out.is_dir() or not (path.exists() or all(map(is_leftover, out.iterdir())))):
        raise ConfigError(f"{out}: is not the folder of a {kind}; give another --out")
    if not path.exists():
        write_json(path, about)
        return
    with needed_json(path) as known:
        other = next((key for key, value in about.items() if known.get(key) != value), None)
    if other is not None:
        raise ConfigError(f"{out}: holds another {kind}: its {other} is {_short(known.get(other))}, not "
                          f"{_short(about[other])}; give another --out, or the same words")


@contextmanager
def only_user(path: Path) -> Iterator[None]:
    """Hold the file ``path`` for this program alone; InUseError where another one does, on systems that can tell.

    However a program ends, the system lets go of what it held.
    """
    with path.open("rb") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InUseError(f"{path.parent}: another program is at work there; wait for it, or give another --out"
                                 ) from None
            except OSError:
                # Some network disks know no locks.
                pass
        yield


def _short(value: object) -> str:
    return ("not given" if value in (None, []) else " ".join(map(str, value)) if isinstance(value, list) else
            " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else str(value))


def is_leftover(path: Path) -> bool:
    """Say whether a name is one that ``atomic`` gives before it renames."""
    return _TEMPORARY.fullmatch(path.name) is not None


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed run has left half written in and below ``folder``: it is nobody's."""
    for path in sorted(folder.rglob(".*")):
        if is_leftover(path):
            _remove(path)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write an object as JSON whole or not at all."""
    write_bytes(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
