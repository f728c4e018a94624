"""The run's log: one JSON object a line, and TensorBoard where it is installed."""

import json
import math
from pathlib import Path
from typing import Any


class Recorder:
    """Append figures to ``log.jsonl``; a resumed run first drops lines later than its checkpoint."""

    def __init__(self, folder: Path, *, step: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "log.jsonl"
        kept = [line for line in _lines(path) if _step(line) <= step] if step else []
        temporary = path.with_name("log.jsonl.partial")
        temporary.write_text("".join(kept))
        temporary.replace(path)
        self._file = path.open("a")
        self._board = _tensorboard(folder)

    def write(self, step: int, figures: dict[str, float]) -> None:
        """Write the figures of a step; keys are paths such as ``loss/photometric``."""
        # JSON has no NaN: a figure that is not finite is written as null, so that any reader can read the log.
        clean = {k: (v if math.isfinite(v) else None) for k, v in figures.items()}
        self._file.write(json.dumps({"step": step, **clean}) + "\n")
        self._file.flush()
        if self._board is not None:
            for key, value in figures.items():
                self._board.add_scalar(key, value, step)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def _lines(path: Path) -> list[str]:
    """Return the whole lines of a log; a last line cut off by a kill is dropped."""
    if not path.exists():
        return []
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _step(line: str) -> float:
    """Return the step of a log line; lines that are not ours count as later than any checkpoint."""
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return math.inf


def _tensorboard(folder: Path) -> Any:
    """Return a TensorBoard writer, or None where the extra is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
