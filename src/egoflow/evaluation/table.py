"""The one result type of every evaluation: a protocol, rows of metrics with units, and three ways to print it."""

import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from egoflow.evaluation.bootstrap import Interval

WIDTH = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A column: ``key`` of values and JSON, a short ``label``, the ``unit`` ("" for a ratio), printed ``digits``."""

    key: str
    label: str
    unit: str = ""
    digits: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The figures of one trajectory or predictor by metric key; what is not defined is None."""

    name: str
    values: Mapping[str, float | None]
    intervals: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """An evaluation: ``protocol`` names every choice, the first row is the prediction, the others are baselines.

    ``counts`` are the numbers of things averaged ("frames", "images"); ``extra`` goes into the JSON alone.
    """

    protocol: Mapping[str, str]
    metrics: tuple[Metric, ...]
    rows: tuple[Row, ...]
    counts: Mapping[str, int] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def protocol_line(self) -> str:
        """Return the protocol as one line: "align: sim3 | frames: 1589"."""
        numbers = {name: str(count) for name, count in self.counts.items()}
        return " | ".join(f"{name}: {choice}" for name, choice in {**self.protocol, **numbers}.items())

    def text(self) -> str:
        """Return the protocol and an aligned table, each row with its interval below it."""
        cells = self._cells()
        widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
        lines = ["  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
                 for line in cells]
        head = textwrap.wrap(self.protocol_line(), WIDTH, break_long_words=False, break_on_hyphens=False)
        return "\n".join([*head, "", *(line.rstrip() for line in lines)]) + "\n"

    def markdown(self) -> str:
        """Return the protocol and a Markdown table."""
        labels, units, *body = self._cells()
        heads = [f"{label} ({unit})" if unit else label for label, unit in zip(labels, units, strict=True)]
        rule = ["---", *["---:"] * len(self.metrics)]
        table = ["| " + " | ".join(line) + " |" for line in [heads, rule, *body]]
        return "\n".join([self.protocol_line(), "", *table]) + "\n"

    def json(self) -> dict[str, Any]:
        """Return plain data: the first row's figures at the top level, then counts, intervals, baselines, protocol."""
        first, *others = self.rows
        return {**_plain(first.values), **self.counts, "intervals": _plain(first.intervals),
                "baselines": {row.name: _plain(row.values) for row in others},
                "units": {m.key: m.unit for m in self.metrics}, "protocol": dict(self.protocol), **_plain(self.extra)}

    def _cells(self) -> list[list[str]]:
        """Return the table as text: labels, units, then each row and, where known, its interval."""
        lines = [["", *(m.label for m in self.metrics)], ["", *(m.unit for m in self.metrics)]]
        for row in self.rows:
            lines.append([row.name, *(_number(row.values.get(m.key), m.digits) for m in self.metrics)])
            if row.intervals:
                found = (_interval(row.intervals.get(m.key), m.digits) for m in self.metrics)
                lines.append(["  95 % interval", *found])
        return lines


def _number(value: float | None, digits: int) -> str:
    """Return a figure with ``digits`` decimals, or "-" where it is not defined."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _interval(interval: Interval | None, digits: int) -> str:
    """Return "low..high", or nothing where there is none."""
    return "" if interval is None else "..".join(_number(value, digits) for value in interval)


def _plain(value: Any) -> Any:
    """Return ``value`` as what JSON holds: what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
