"""The table of a comparison: a row for each method with its spread over seeds, then the baselines."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from egoflow.evaluation.clip_scores import METRICS
from egoflow.evaluation.table import WIDTH, Metric
from egoflow.report.scoring import Values

STEPS = Metric(key="steps", label="steps", digits=0)
DONE = Metric(key="done_percent", label="done", unit="%", digits=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How a training ended: ``steps`` of the ``planned`` ones, in ``seconds``; ``message`` says why it failed."""

    method: str
    seed: int
    status: Literal["trained", "failed"]
    steps: int
    planned: int
    seconds: float
    step_s: float | None = None
    message: str = ""

    def remark(self) -> str:
        """Return what a reader of the table must know of it, or nothing."""
        if self.status == "failed":
            return f"{self.method}, seed {self.seed} failed: {self.message}"
        if self.steps < self.planned:
            return (f"{self.method}, seed {self.seed}: the time was over at step {self.steps} of {self.planned}; its "
                    f"schedule did not end")
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A row: the figures of every seed; a baseline has one and no training."""

    name: str
    seeds: Sequence[Values]
    trainings: Sequence[Training] = ()

    def value(self, key: str) -> tuple[float, float, float] | None:
        """Return mean, lowest and highest of a figure over the seeds that have it."""
        found = [figure for values in self._columns() if (figure := values.get(key)) is not None]
        return (sum(found) / len(found), min(found), max(found)) if found else None

    def _columns(self) -> list[Mapping[str, float | None]]:
        trained = [{"steps": t.steps, "done_percent": 100 * t.steps / t.planned} for t in self.trainings
                   if t.status == "trained"]
        return [*self.seeds, *trained]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What is known of one set of test clips; ``words`` are the choices that the figures depend on."""

    name: str
    words: Mapping[str, str]
    lines: Sequence[Line] = field(default_factory=tuple)

    def metrics(self) -> list[Metric]:
        """Return the columns that hold a figure."""
        return [m for m in (STEPS, DONE, *METRICS) if any(line.value(m.key) for line in self.lines)]

    def remarks(self) -> list[str]:
        """Return what must be known of single trainings."""
        return [text for line in self.lines for training in line.trainings if (text := training.remark())]

    def protocol(self) -> str:
        """Return the choices as one line."""
        return " | ".join(f"{key}: {word}" for key, word in self.words.items())

    def text(self) -> str:
        """Return an aligned table; below a method's mean stands half the range over its seeds."""
        metrics = self.metrics()
        first, second = zip(*((*m.label.split(" "), "")[:2] for m in metrics), strict=True) if metrics else ((), ())
        grid = [["", *first], ["", *second], ["", *(m.unit for m in metrics)]]
        for line in self.lines:
            pairs = [_parts(line, m) for m in metrics]
            grid.append([line.name, *(mean for mean, _ in pairs)])
            if any(spread for _, spread in pairs):
                grid.append(["  half the range over seeds", *(f"±{spread}" if spread else "" for _, spread in pairs)])
        widths = [max(len(row[i]) for row in grid) for i in range(len(grid[0]))]
        rows = ["  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
                for row in grid]
        head = [f"== {self.name} ==", *textwrap.wrap(self.protocol(), WIDTH, break_on_hyphens=False), ""]
        return "\n".join([*head, *(row.rstrip() for row in rows), *self.remarks()]) + "\n"

    def cells(self) -> list[list[str]]:
        """Return heads and rows as text, mean and spread in one cell."""
        metrics = self.metrics()
        heads = ["", *(f"{m.label} ({m.unit})" if m.unit else m.label for m in metrics)]
        return [heads, *([line.name, *(" ± ".join(filter(None, _parts(line, m))) for m in metrics)]
                         for line in self.lines)]

    def markdown(self) -> str:
        """Return a heading, the choices, a Markdown table and the remarks."""
        heads, *rows = self.cells()
        lines = ["| " + " | ".join(row) + " |" for row in (heads, ["---", *["---:"] * (len(heads) - 1)], *rows)]
        return "\n".join([f"## {self.name}", "", self.protocol(), "", *lines,
                          *(f"\n{remark}" for remark in self.remarks())]) + "\n"

    def json(self) -> dict[str, Any]:
        """Return plain data: mean, low and high of every figure, the figures of each seed, and the trainings."""
        rows = []
        for line in self.lines:
            known = {m.key: found for m in METRICS if (found := line.value(m.key))}
            rows.append({"name": line.name, "kind": "method" if line.trainings else "baseline",
                         "values": {key: dict(zip(("mean", "low", "high"), found, strict=True))
                                    for key, found in known.items()},
                         "seeds": list(line.seeds), "trainings": [asdict(t) for t in line.trainings]})
        return {"name": self.name, "protocol": dict(self.words), "units": {m.key: m.unit for m in METRICS},
                "rows": rows}


def _parts(line: Line, metric: Metric) -> tuple[str, str]:
    """Return the mean and half the range over several seeds as text; "-" and nothing where there is none."""
    found = line.value(metric.key)
    if found is None:
        return "-", ""
    mean, low, high = found
    spread = f"{(high - low) / 2:.{metric.digits}f}" if len(line.trainings) > 1 else ""
    return f"{mean:.{metric.digits}f}", spread
