"""What a fit leaves behind: every shot predicted with the chosen model, and what is known of it."""

import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from egoflow.config import Run
from egoflow.console import note
from egoflow.data.files import new_folder, read_json, write_json
from egoflow.data.trajectories import read_trajectory
from egoflow.errors import ConfigError, DataError, EgoflowError, WriteError
from egoflow.evaluation.odometry import evaluate_odometry
from egoflow.fit.advice import advice
from egoflow.fit.footage import Footage, Shot, read_footage
from egoflow.fit.pages import write_pages
from egoflow.fit.plan import Plan, read_plan
from egoflow.fit.teach import Scores, read_scores
from egoflow.inference.cloud_writer import write_scene
from egoflow.inference.prediction_folder import write_depth, write_flow
from egoflow.inference.stream import predicted_frames
from egoflow.training.checkpoint import load_run
from egoflow.training.distributed import pick_device

ALSO = ("cloud", "mesh", "colmap", "confidence")
SCORED = ("ate_rmse_m", "rpe_deg", "scale_spread")


def finish(out: Path, footage: Footage, plan: Plan, scores: Scores) -> dict[str, Any]:
    """Predict, measure and show with the model of ``out`` what is not done yet; return the figures."""
    folders = predict_shots(out, footage.shots, device=plan.run.loop.device)
    figures = collect_figures(out, footage, plan, scores, folders)
    write_pages(out, footage, figures, scores, folders)
    return figures


def finish_again(out: Path) -> dict[str, Any]:
    """Do all of ``finish`` anew, of a fit whose model has changed. Its footage must still be there."""
    for name in ("report", "prediction"):
        _remove(out / name)
    return go_on(out)


def go_on(out: Path) -> dict[str, Any]:
    """Do what is left undone of ``finish``, of a fit that has chosen its model."""
    # On this machine's device: the fit's own may be another machine's.
    return finish(out, read_footage(out), read_plan(out).on("auto"), read_scores(out))


def _remove(folder: Path) -> None:
    """Remove a folder if it is there: out of the way at once, for half a folder looks like a whole one."""
    if folder.exists():
        # A name of ``remove_leftovers``.
        gone = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}"
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def is_predicted(folder: Path, run: Run) -> bool:
    """Say whether a shot's ``folder`` is there, in the unit that the model of ``run`` has now."""
    about = read_json(folder / "prediction.json")
    return bool(about) and about.get("metres_per_unit") == run.metres_per_unit


def predict_shots(out: Path, shots: Sequence[Shot], *, device: str) -> list[Path]:
    """Predict every shot into ``out/prediction/NNN`` with the model of ``out``, where that is not done yet."""
    run, method, _ = load_run(out)
    method.to(pick_device(device))
    folders = []
    for number, shot in enumerate(shots):
        folder = out / "prediction" / f"{number:03d}"
        folders.append(folder)
        if is_predicted(folder, run):
            continue
        # Where there is one, a change of scale was stopped half-way.
        _remove(out / "report" / folder.name)
        _remove(folder)
        source = shot.source(out)
        with new_folder(folder) as made:
            with _or_without("no flow", made, folder):
                # A third of the size of .flo, to 1/64 px.
                write_flow(made, method, run, [source], size=(run.data.height, run.data.width), flow_format="kitti")
            write_depth(made, method, run, source, flows=True, flow_format="kitti")
            with _or_without("not all of cloud, COLMAP model and mesh", made, folder):
                write_scene(made, source, predicted_frames(run, source), also=ALSO)
    return folders


@contextmanager
def _or_without(what: str, made: Path, folder: Path) -> Iterator[None]:
    """Go on without what footage or method do not give, and say so: depth and motion are not to be lost for it.

    ``made`` is the name that ``folder`` has meanwhile.
    """
    try:
        yield
    except WriteError:
        raise
    except (ConfigError, DataError) as error:
        note(f"{what}: {str(error).replace(str(made), str(folder))}")


def collect_figures(out: Path, footage: Footage, plan: Plan, scores: Scores, folders: Sequence[Path]
                    ) -> dict[str, Any]:
    """Write and return ``metrics.json``: what is known of every shot, of training, and what to try next."""
    shots = [_shot_figures(folder, footage, shot) for folder, shot in zip(folders, footage.shots, strict=True)]
    figures = {
        "recipe": f"{plan.run.method}:{plan.run.preset}", "steps": scores.steps, "trained_steps": scores.trained,
        "chosen_step": scores.step,
        "training_s": round(scores.elapsed_s, 1), "changes": list(plan.changes), "gap": plan.run.data.gap,
        "size": [plan.run.data.height, plan.run.data.width],
        "unexplained": {"chosen": scores.chosen, "interval": scores.interval, "untrained": scores.start,
                        "flat_depth": scores.flat, "by_step": scores.history},
        "scale": shots[0]["scale"], "metric_scale": _metric_scale(out, folders[0]), "shots": shots}
    figures["advice"] = advice(footage, figures)
    write_json(out / "metrics.json", figures)
    return figures


def _metric_scale(out: Path, folder: Path) -> dict[str, Any] | None:
    """Return how the metres of the prediction in ``folder`` were measured.

    None where ``scale.json`` is of another measurement: ``egoflow scale`` was stopped between the model and that file.
    """
    known = read_json(out / "scale.json")
    factor = read_json(folder / "prediction.json").get("metres_per_unit")
    return known if known and known["metres_per_unit"] == factor else None


def _shot_figures(folder: Path, footage: Footage, shot: Shot) -> dict[str, Any]:
    """Return what a prediction says of itself and, where its footage brings the truth, how far off its path is."""
    about = read_json(folder / "prediction.json")
    found: dict[str, Any] = {"source": about["source"], "frames": about["frames"], "scale": about["scale"],
                             "camera": footage.facts[shot.facts]["camera"],
                             "self_consistency": about["self_consistency"], "truth_scale": about["truth_scale"],
                            "path_length": None, "against_truth": None}
    path = folder / "trajectory_kitti.txt"
    if path.exists():
        places = read_trajectory(path, format="kitti").world_from_cam.t
        found["path_length"] = round(float((places[1:] - places[:-1]).norm(dim=1).sum()), 4)
        if (folder / "truth_kitti.txt").exists():
            found["against_truth"] = _against_truth(folder)
    return found


def _against_truth(folder: Path) -> dict[str, dict[str, Any]] | None:
    """Return the errors of the path and of the baselines, by name."""
    said, true = (read_trajectory(folder / f"{name}_tum.txt", format="tum") for name in ("trajectory", "truth"))
    try:
        result = evaluate_odometry(said, true, align="sim3")
    except EgoflowError as error:
        note(f"the path is not scored: {error}")
        return None
    return {row.name: {column: row.values.get(column) for column in SCORED}
            | {"ate_interval_m": row.intervals.get("ate_rmse_m")} for row in result.rows}
