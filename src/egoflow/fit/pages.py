"""The pages of a fit: the report of every shot, and the page that leads there."""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from egoflow.console import duration
from egoflow.data.cameras import CAMERA_SOURCES
from egoflow.data.files import new_folder, write_bytes
from egoflow.fit.footage import Footage, Shot
from egoflow.fit.teach import Scores
from egoflow.inference.stream import predicted_frames
from egoflow.report.charts import line_chart
from egoflow.report.prediction_page import write_report
from egoflow.training.checkpoint import load_run


def write_pages(out: Path, footage: Footage, figures: dict[str, Any], scores: Scores, folders: Sequence[Path]) -> None:
    """Write ``report/NNN/index.html`` of every shot, and ``report.html`` that leads there."""
    names = []
    run, _, _ = load_run(out)
    for number, (folder, shot) in enumerate(zip(folders, footage.shots, strict=True)):
        page, name = out / "report" / f"{number:03d}", footage.facts[shot.facts]["source"]
        frames = f"{name}, frames {shot.frames[0]} to {shot.frames[-1]}"
        names.append((f"report/{page.name}/index.html", frames))
        if page.exists():
            continue
        source = shot.source(out)
        with new_folder(page) as made:
            write_report(made, folder, source, predicted_frames(run, source), title=Path(name).name,
                         head=_head(footage, shot, figures),
                         sections=_sections(out, footage, shot, figures, scores, number))
    write_bytes(out / "report.html", _front(names).encode())


def _front(pages: Sequence[tuple[str, str]]) -> str:
    """Return the page that leads to the only report, or lists them."""
    links = "".join(f"<li><a href='{escape(path)}'>{escape(name)}</a></li>" for path, name in pages)
    there = f"<meta http-equiv='refresh' content='0; url={pages[0][0]}'>" if len(pages) == 1 else ""
    return ("<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width="
            f"device-width, initial-scale=1'><title>egoflow fit</title>{there}<style>:root{{color-scheme: light dark}}"
            "body{font:16px/1.6 system-ui,sans-serif;margin:2em auto;max-width:40em;padding:0 1em}</style></head><body>"
            f"<h1>What was learnt</h1><ul>{links}</ul></body></html>\n")


def _head(footage: Footage, shot: Shot, figures: dict[str, Any]) -> str:
    """Return what stands above the player: what it is, in a line."""
    facts = footage.facts[shot.facts]
    camera = CAMERA_SOURCES[facts["camera"]["from"]]
    metric = figures["metric_scale"]
    unit = (f"metres, from {metric['how']} ({_interval(metric)} m a unit)" if metric
            else "metres" if figures["scale"] == "metric" else "an unknown unit (relative scale)")
    return (f"<p>{escape(figures['recipe'])}, trained {duration(figures['training_s'])} on this footage alone; depth "
            f"and path are in {escape(unit)}, with {escape(camera)}.</p>")


def _interval(metric: dict[str, Any]) -> str:
    """Return a factor with its interval."""
    ends = "" if metric["low"] is None else f", {metric['low']:.3g} to {metric['high']:.3g}"
    return f"{metric['metres_per_unit']:.3g}{ends}"


def _sections(out: Path, footage: Footage, shot: Shot, figures: dict[str, Any], scores: Scores, number: int
              ) -> dict[str, str]:
    """Return the parts below the player as HTML by heading."""
    facts = footage.facts[shot.facts]
    findings = "".join(f"<li><b>{escape(finding['name'])}</b>: {escape(finding['text'])}"
                       + (f"<br><span class='remedy'>{escape(finding['remedy'])}</span>" if finding["remedy"] else "")
                       + "</li>" for finding in facts["findings"])
    found = {"Figures": _figures_table(figures, number),
             "What to try next": "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in figures["advice"]) + "</ul>",
             "What the footage can teach":
                 f"<p class='verdict {facts['verdict']}'>{escape(facts['verdict'])}</p><ul>{findings}</ul>"
                 "<p><a href='../../footage/index.html'>the evidence</a></p>"}
    charts = _curves(out / "training" / "log.jsonl")
    if len(scores.history) > 1:
        steps, values = (np.array(column, np.float64) for column in zip(*scores.history, strict=True))
        chart = line_chart(steps, values, unit="steps", marks=(float(scores.step),),
                           title="flow that depth leaves unexplained, between frames twice as far apart as in training")
        charts.append(chart)
    if charts:
        found["Training"] = ("".join(f"<figure>{chart}</figure>" for chart in charts)
                             + "<p class='pale'>Dashed: the checkpoint that was chosen.</p>")
    return found


def _curves(log: Path) -> list[str]:
    """Return charts of a training's log: its loss, and the spread of depth, in shares of its mean."""
    rows = [json.loads(line) for line in log.read_text("utf-8").splitlines()] if log.exists() else []
    charts = []
    for key, title in (("loss/total", "loss"), ("depth/spread", "spread of depth, of its mean")):
        known = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
        if len(known) > 1:
            steps, values = (np.array(column, np.float64) for column in zip(*known, strict=True))
            charts.append(line_chart(steps, values, title=title, unit="steps"))
    return charts


def _figures_table(figures: dict[str, Any], number: int) -> str:
    """Return the figures of a shot as an HTML table."""
    shot, left = figures["shots"][number], figures["unexplained"]
    own = shot["self_consistency"]
    rows = [("frames", f"{shot['frames']}"),
            ("flow between frames twice as far apart as in training that depth leaves unexplained", _of(left)),
            ("a step there and back leaves", _share(own["return_share"])),
            ("spread of depth between neighbours", _share(own["depth_ratio_spread"])),
            ("length of the path", f"{shot['path_length']:.4g} {_unit(figures['scale'])}"
             if shot["path_length"] is not None else "-")]
    for name, values in (shot["against_truth"] or {}).items():
        if values.get("ate_rmse_m") is not None:
            rows.append((f"error of the path after one similarity: {name}",
                         f"{values['ate_rmse_m']:.3g} {_unit(shot['truth_scale'])}{_ends(values['ate_interval_m'])}"))
    cells = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<div class='scroll'><table>{cells}</table></div>"


def _of(left: dict[str, Any]) -> str:
    """Return what is left unexplained, with its interval and what flat depth leaves."""
    if left["chosen"] is None:
        return "-"
    flat = "" if left["flat_depth"] is None else f"; flat depth {left['flat_depth']:.3f}"
    return f"{left['chosen']:.3f}{_ends(left['interval'])}{flat}"


def _unit(scale: str | None) -> str:
    return "m" if scale == "metric" else "units"


def _ends(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f" ({interval[0]:.3g} to {interval[1]:.3g})"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
