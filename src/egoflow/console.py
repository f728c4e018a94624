"""What the user sees of long work: lines on standard output, progress on standard error.

On a terminal progress is a bar with rate and time left; elsewhere it is a plain line every few seconds, so that a log
file stays readable. Results go to standard output alone: they can be piped while progress is shown.
"""

import os
import shlex
import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 5.0


def say(text: str = "") -> None:
    """Write one line of results to standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Write one line that is no result (a warning, where files went) to standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def command_line(*words: object) -> str:
    """Return an egoflow command as the user can type it here: "egoflow predict runs/clip 'my clip.mp4'"."""
    return f"{os.environ.get('EGOFLOW_COMMAND', 'egoflow')} {shlex.join(map(str, words))}"


def duration(seconds: float) -> str:
    """Return a time span in seconds as a person reads it: "42 s", "3:05", "2:10:00"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class progress:  # noqa: N801  a function to its callers
    """Show how far ``total`` steps of work have come (None: unknown), as a context manager.

    ``with progress(300, label="training") as bar: … bar.advance(); bar.tell(loss=0.12)``. Nothing is shown of work that
    ends before the first line is due, except on a terminal.
    """

    def __init__(self, total: int | None, *, label: str, stream: TextIO | None = None) -> None:
        self.total, self.label, self.done = total, label, 0
        self._stream = stream or sys.stderr
        self._start = self._last = time.monotonic()
        self._first, self._figures, self._shown = 0, "", False
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._start = self._last = time.monotonic()
        if self._stream.isatty():
            self._bar = _bar(self._stream)
            self._bar.start()
            self._task = self._bar.add_task(self.label, total=self.total, figures="", rate="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._show_bar()
            self._bar.stop()
        elif self._shown and kind is None:
            self._stream.write(f"{self.label}: {self.done} in {duration(time.monotonic() - self._start)}"
                               f"{self._figures}\n")
            self._stream.flush()

    def skip(self, steps: int) -> None:
        """Count ``steps`` as done before this run (a resumed one), without letting them into the rate."""
        self.done += steps
        self._first += steps

    def tell(self, **figures: float) -> None:
        """Show these figures beside the progress: ``bar.tell(loss=0.12)``."""
        self._figures = "".join(f"  {name} {value:.4g}" for name, value in figures.items())

    def advance(self, steps: int = 1) -> None:
        """Count ``steps`` as done."""
        self.done += steps
        now = time.monotonic()
        if now - self._last < (0.1 if self._bar is not None else SECONDS_BETWEEN_LINES):
            return
        self._last = now
        if self._bar is not None:
            self._show_bar()
        else:
            self._shown = True
            self._stream.write(self._line(now) + "\n")
            self._stream.flush()

    def _rate(self, now: float) -> float:
        return (self.done - self._first) / max(now - self._start, 1e-9)

    def _line(self, now: float) -> str:
        rate = self._rate(now)
        parts = [f"{self.label}: {self.done}" + (f"/{self.total}" if self.total is not None else ""), _rate_text(rate)]
        if self.total is not None and rate > 0:
            parts.append(f"{duration((self.total - self.done) / rate)} left")
        return "  ".join(parts) + self._figures

    def _show_bar(self) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.done, figures=self._figures.strip(),
                             rate=_rate_text(self._rate(time.monotonic())))


def track(items: Iterable[Item], *, label: str, total: int | None = None) -> Iterator[Item]:
    """Yield ``items`` while showing how many have been worked on; ``total`` where they have no length."""
    count = total if total is not None else (len(items) if hasattr(items, "__len__") else None)  # type: ignore[arg-type]
    with progress(count, label=label) as bar:
        for item in items:
            yield item
            bar.advance()


def _rate_text(rate: float) -> str:
    return f"{rate:.1f}/s" if rate >= 1 or rate == 0 else f"{1 / rate:.1f} s each"


def _bar(stream: TextIO) -> "Bar":
    # Imported here: a command that shows no bar does not pay for it.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                    TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), TextColumn("{task.fields[figures]}"),
                    console=Console(file=stream))
