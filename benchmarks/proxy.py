"""Does the label-free score that chooses a checkpoint rank checkpoints as their true error does?

    python benchmarks/proxy.py [--steps 240]

Trains tiny recipes on rendered clips, and at every twentieth of the steps asks for the score (fit/proxy.py) and for the
true abs_rel of depth, median-scaled, on the frames of training. Writes results/proxy.json: Spearman's rank correlation
over each training's checkpoints and over all of them, and what the choice costs: abs_rel of the checkpoint that a fit
chooses, of that with the lowest score among the last phase's, of the truly best of these, and of the last.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import torch

from egoflow.config import DataConfig, Run
from egoflow.console import say
from egoflow.data.clips import ClipDataset
from egoflow.fit.proxy import held_out_clips, judged, last_will_do, unexplained_by_flat_depth
from egoflow.methods.base import Method
from egoflow.registry import build_method, load_preset
from egoflow.training.budget import prepare
from egoflow.training.held_out import held_out_figures
from egoflow.training.session import make_dataset, open_sources
from egoflow.training.trainer import Trainer
from egoflow.types import Clip

WORLDS = ("drive?seed=11&frames=40&movers=0", "drive?seed=12&frames=40&movers=3",
          "boxes?seed=3&frames=40&turn_deg=6&speed=5&texture_ratio=1")
RECIPES = ("joint:tiny", "sfmlearner:tiny")
CHECKPOINTS = 20


def trained(recipe: str, world: str, steps: int, folder: Path) -> tuple[list[dict[str, float]], float]:
    """Return score and abs_rel of every checkpoint of a training, and the score of flat depth."""
    _, preset = load_preset(recipe)
    data: DataConfig = replace(preset.data, paths=(f"world:{world}&samples=1",), gap=1)
    loop = replace(preset.loop, steps=steps, save_every=steps // CHECKPOINTS, device="cpu", watchdog=False)
    run: Run = replace(preset, data=data, loop=loop)
    sources = open_sources(run.data)
    dataset = make_dataset(run, sources, cache=folder / "cache")
    prepare(dataset)
    true = ClipDataset(sources, length=dataset.length, target=dataset.target, height=data.height, width=data.width,
                       with_truth=True)
    shown = [true[i] for i in np.linspace(0, len(true) - 1, 12).astype(int)]

    def judge(method: Method, clips: Sequence[Clip], device: torch.device) -> dict[str, float]:
        found = judged(method, clips, device, gap=run.data.gap)
        return found | {"true": held_out_figures(method, shown, device)["held_out/abs_rel"]}

    held_out = held_out_clips(run, sources)
    Trainer(run, dataset, out=folder / "run", held_out=held_out, judge=judge).fit()
    rows = [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]
    return [{"step": row["step"], "score": row["held_out/unexplained"], "abs_rel": row["true"]}
            for row in rows if row.get("held_out/unexplained") is not None], unexplained_by_flat_depth(held_out)


def last_phase(recipe: str) -> float:
    """Return the share of the steps at which the last phase of a recipe's training begins."""
    return 1 - build_method(load_preset(recipe)[1]).phases()[-1].share


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Return Spearman's rank correlation; ties are so rare that they are not averaged."""
    ranks = [np.argsort(np.argsort(values)) for values in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def main() -> None:
    """Print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=240)
    args = parser.parse_args()
    found, everything = {}, []
    for recipe in RECIPES:
        for world in WORLDS:
            folder = Path(tempfile.mkdtemp())
            rows, flat = trained(recipe, world, args.steps, folder)
            shutil.rmtree(folder)
            everything += rows
            score, error = ([row[key] for row in rows] for key in ("score", "abs_rel"))
            late = [row for row in rows if row["step"] > last_phase(recipe) * args.steps]
            lowest = min(late, key=lambda row: row["score"])
            chosen = rows[-1] if last_will_do(score[-1], lowest["score"], flat=flat) else lowest
            found[f"{recipe}, {world}"] = row = {
                "spearman": spearman(score, error), "chosen": chosen["abs_rel"], "lowest_score": lowest["abs_rel"],
                "best": min(row["abs_rel"] for row in late), "last": error[-1], "flat_score": flat, "checkpoints": rows}
            say(f"{recipe}, {world}: rank correlation {row['spearman']:.2f}; abs_rel chosen {row['chosen']:.3f}, "
                f"lowest score {row['lowest_score']:.3f}, best {row['best']:.3f}, last {row['last']:.3f}")
    whole = spearman([row["score"] for row in everything], [row["abs_rel"] for row in everything])
    say(f"over all {len(everything)} checkpoints: {whole:.2f}")
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    content = {"trainings": found, "all": whole, "steps": args.steps, "date": date.today().isoformat()}
    (folder / "proxy.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
