"""End-point error of trained runs and classical flow on unseen pairs of the world `chairs`, per difficulty.

    python benchmarks/chairs_flow.py [--runs runs/a runs/b] [--pairs 40]

The scenes' seeds begin at 900,000: train on others. Every row is scored on the same pairs, all pixels (true flow is
known everywhere), means over pixels; "noc" and "occ" are the visible and the occluded pixels of the mixed pairs. Writes
results/chairs_flow.json.
"""

import argparse
import json
import time
from datetime import date
from pathlib import Path

import torch

from egoflow.console import note, say
from egoflow.data.clips import ClipDataset
from egoflow.evaluation.flow import FlowScores
from egoflow.evaluation.flow_baselines import baseline_flow
from egoflow.methods.base import Method, both_flows
from egoflow.training.checkpoint import load_run
from egoflow.worlds.base import load_world
from egoflow.worlds.chairs import DIFFICULTIES

FIRST_SEED = 900_000
BASELINES = ("zero", "farneback", "dis", "epipolar")


def score(methods: dict[str, Method], *, difficulty: str, pairs: int, height: int, width: int) -> FlowScores:
    """Return the figures of every method and baseline on unseen pairs of one difficulty."""
    scores = FlowScores()
    for seed in range(FIRST_SEED, FIRST_SEED + pairs):
        world = load_world("chairs", seed=seed, height=height, width=width, difficulty=difficulty, samples=4)
        truth, images = world.flow_truth(0, 1), (world.image(0), world.image(1))
        clip = ClipDataset([world], length=2, target=0, height=height, width=width)[0]
        known = {"visible": truth.visible, "valid_truth": truth.valid}
        for name in BASELINES:
            flow, valid = baseline_flow(name, *images)
            scores.add(str(seed), flow, truth.flow_ab, row=name, valid=valid, **known)
        for name, method in methods.items():
            with torch.no_grad():
                flow = both_flows(method, clip)[0][0].numpy()
            scores.add(str(seed), flow, truth.flow_ab, row=name, **known)
    return scores


def main() -> None:
    """Score and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="*", default=[], help="folders written by 'egoflow train'")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--size", nargs=2, type=int, default=(96, 128), metavar=("H", "W"))
    args = parser.parse_args()
    methods = {Path(run).name: load_run(Path(run))[1] for run in args.runs}
    table: dict[str, dict[str, float | None]] = {}
    begun = time.perf_counter()
    for difficulty in DIFFICULTIES:
        found = score(methods, difficulty=difficulty, pairs=args.pairs, height=args.size[0], width=args.size[1])
        for row in found.result(resamples=1).rows:
            figures = table.setdefault(row.name, {})
            figures[difficulty] = row.values["epe_px"]
            if difficulty == "mixed":
                figures |= {"noc": row.values["epe_noc_px"], "occ": row.values["epe_occ_px"],
                            "density": row.values["density_percent"]}
        note(f"{difficulty}: {time.perf_counter() - begun:.0f} s")
    columns = list(next(iter(table.values())))
    say("| EPE in pixels | " + " | ".join(columns) + " |\n|" + "---|" * (len(columns) + 1))
    for name, figures in table.items():
        say(f"| {name} | " + " | ".join("-" if figures[c] is None else f"{figures[c]:.2f}" for c in columns) + " |")
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    result = {"epe_px": table, "pairs": args.pairs, "size": list(args.size), "date": date.today().isoformat()}
    (folder / "chairs_flow.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
