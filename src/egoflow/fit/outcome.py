"""What a fit leaves behind: every shot predicted with the chosen model, and pages to look at."""

import shutil
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from egoflow.console import duration, note
from egoflow.data.files import new_folder, read_json, write_bytes, write_json
from egoflow.data.trajectories import read_trajectory
from egoflow.errors import DataError, EgoflowError
from egoflow.evaluation.odometry import evaluate_odometry
from egoflow.fit.advice import advice
from egoflow.fit.footage import Footage, Shot, read_footage
from egoflow.fit.plan import Plan, read_plan
from egoflow.fit.teach import Scores, read_scores
from egoflow.inference.cloud_writer import write_scene
from egoflow.inference.prediction_folder import write_depth, write_flow
from egoflow.inference.stream import predicted_frames
from egoflow.report.charts import line_chart
from egoflow.report.prediction_page import write_report
from egoflow.training.checkpoint import load_run
from egoflow.training.distributed import pick_device
from egoflow.types import FrameSource

ALSO = ("cloud", "mesh", "colmap", "confidence")
SCORED = ("ate_rmse_m", "rpe_deg", "scale_spread")


def finish(out: Path, footage: Footage, plan: Plan, scores: Scores) -> dict[str, Any]:
    """Predict, measure and show with the model of ``out`` what is not done yet; return the figures."""
    folders = predict_shots(out, footage.shots, device=plan.run.loop.device)
    figures = collect_figures(out, footage, plan, scores, folders)
    write_pages(out, footage, figures, scores, folders)
    return figures


def finish_again(out: Path) -> dict[str, Any]:
    """Do all of ``finish`` anew, of a fit whose model has changed."""
    for name in ("report", "prediction"):
        shutil.rmtree(out / name, ignore_errors=True)
    return finish(out, read_footage(out), read_plan(out), read_scores(out))


def predict_shots(out: Path, shots: Sequence[Shot], *, device: str) -> list[Path]:
    """Predict every shot into ``out/prediction/NNN`` with the model of ``out``, where that is not done yet."""
    run, method, _ = load_run(out)
    method.to(pick_device(device))
    folders = []
    for number, shot in enumerate(shots):
        folder = out / "prediction" / f"{number:03d}"
        folders.append(folder)
        if folder.exists():
            continue
        source = shot.source()
        with new_folder(folder) as made:
            write_flow(made, method, run, [source], size=(run.data.height, run.data.width))
            write_depth(made, method, run, source, flows=True)
            try:
                write_scene(made, source, predicted_frames(run, source), also=ALSO)
            except DataError as error:
                # Depth and motion are not to be lost for what is made of them.
                note(f"no cloud: {str(error).replace(str(made), str(folder))}")
    return folders


def collect_figures(out: Path, footage: Footage, plan: Plan, scores: Scores, folders: Sequence[Path]
                    ) -> dict[str, Any]:
    """Write and return ``metrics.json``: what is known of every shot, of training, and what to try next."""
    shots = [_shot_figures(folder, footage, shot) for folder, shot in zip(folders, footage.shots, strict=True)]
    figures = {
        "recipe": f"{plan.run.method}:{plan.run.preset}", "steps": scores.steps, "chosen_step": scores.step,
        "training_s": round(scores.elapsed_s, 1), "changes": list(plan.changes), "gap": plan.run.data.gap,
        "size": [plan.run.data.height, plan.run.data.width],
        "unexplained": {"chosen": scores.chosen, "untrained": scores.start, "flat_depth": scores.flat},
        "scale": shots[0]["scale"], "metric_scale": read_json(out / "scale.json") or None, "shots": shots}
    figures["advice"] = advice(footage, figures)
    write_json(out / "metrics.json", figures)
    return figures


def _shot_figures(folder: Path, footage: Footage, shot: Shot) -> dict[str, Any]:
    """Return what a prediction says of itself and, where its footage brings the truth, how far off its path is."""
    about = read_json(folder / "prediction.json")
    found: dict[str, Any] = {"source": about["source"], "frames": about["frames"], "scale": about["scale"],
                             "camera": footage.facts[shot.facts]["camera"],
                             "self_consistency": about["self_consistency"], "path_length": None, "against_truth": None}
    path = folder / "trajectory_kitti.txt"
    if path.exists():
        places = read_trajectory(path, format="kitti").world_from_cam.t
        found["path_length"] = round(float((places[1:] - places[:-1]).norm(dim=1).sum()), 4)
        if (folder / "truth_kitti.txt").exists():
            found["against_truth"] = _against_truth(folder)
    return found


def _against_truth(folder: Path) -> dict[str, dict[str, float | None]] | None:
    """Return the errors of the path and of the baselines, by name."""
    said, true = (read_trajectory(folder / f"{name}_tum.txt", format="tum") for name in ("trajectory", "truth"))
    try:
        result = evaluate_odometry(said, true, align="sim3")
    except EgoflowError as error:
        note(f"the path is not scored: {error}")
        return None
    keep = [column for column in result.rows[0].values if column in SCORED]
    return {row.name: {column: row.values.get(column) for column in keep} for row in result.rows}


def write_pages(out: Path, footage: Footage, figures: dict[str, Any], scores: Scores, folders: Sequence[Path]) -> None:
    """Write ``report/NNN/index.html`` of every shot, and ``report.html`` that leads there."""
    names = []
    run, _, _ = load_run(out)
    for number, (folder, shot) in enumerate(zip(folders, footage.shots, strict=True)):
        page, source = out / "report" / f"{number:03d}", shot.source()
        names.append((f"report/{page.name}/index.html", source.name))
        if page.exists():
            continue
        with new_folder(page) as made:
            write_report(made, folder, source, predicted_frames(run, source), title=_title(source),
                         head=_head(footage, shot, figures), sections=_sections(footage, shot, figures, scores, number))
    write_bytes(out / "report.html", _front(names).encode())


def _title(source: FrameSource) -> str:
    return Path(source.name).name


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
    camera = {"given": "the camera that was given", "footage": "a focal length that the footage itself shows",
              "assumed": "an assumed field of view: the footage does not show it"}[facts["camera"]["from"]]
    metric = figures["metric_scale"]
    unit = (f"metres, from a {metric['how']} ({_interval(metric)} m a unit)" if metric
            else "metres" if figures["scale"] == "metric" else "an unknown unit (relative scale)")
    return (f"<p>{escape(figures['recipe'])}, trained {duration(figures['training_s'])} on this footage alone; depth "
            f"and path are in {escape(unit)}, with {escape(camera)}.</p>")


def _interval(metric: dict[str, Any]) -> str:
    """Return a factor with its interval."""
    ends = "" if metric["low"] is None else f", {metric['low']:.3g} to {metric['high']:.3g}"
    return f"{metric['metres_per_unit']:.3g}{ends}"


def _sections(footage: Footage, shot: Shot, figures: dict[str, Any], scores: Scores, number: int) -> dict[str, str]:
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
    if len(scores.history) > 1:
        steps, values = (np.array(column, np.float64) for column in zip(*scores.history, strict=True))
        chart = line_chart(steps, values, title="flow between held-out frames that depth leaves unexplained",
                           unit="steps", marks=(float(scores.step),))
        found["Training"] = f"<figure>{chart}<figcaption>Dashed: the checkpoint that was chosen.</figcaption></figure>"
    return found


def _figures_table(figures: dict[str, Any], number: int) -> str:
    """Return the figures of a shot as an HTML table."""
    shot, left = figures["shots"][number], figures["unexplained"]
    own = shot["self_consistency"]
    rows = [("frames", f"{shot['frames']}"),
            ("flow that depth leaves unexplained", _of(left["chosen"], flat=left["flat_depth"])),
            ("a step there and back leaves", _share(own["return_share"])),
            ("spread of depth between neighbours", _share(own["depth_ratio_spread"])),
            ("length of the path", f"{shot['path_length']:.4g} {'m' if figures['scale'] == 'metric' else 'units'}"
             if shot["path_length"] is not None else "-")]
    for name, values in (shot["against_truth"] or {}).items():
        if values.get("ate_rmse_m") is not None:
            rows.append((f"error of the path after one similarity: {name}", f"{values['ate_rmse_m']:.3g} m"))
    cells = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<div class='scroll'><table>{cells}</table></div>"


def _of(value: float | None, *, flat: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" + (f" (flat depth: {flat:.3f})" if flat is not None else "")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
