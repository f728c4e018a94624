"""What does bfloat16 save of a training step, in every phase of a preset?

    python benchmarks/precision.py [--preset joint:tiny] [--turns 5] [--steps 8]

Both precisions take turns in one process, on the same clips of a rendered drive. Prints the median seconds of a step
and the ratio of each phase, and writes results/precision.json.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from statistics import median

import torch

from egoflow.console import say
from egoflow.data.clips import ClipDataset, collate
from egoflow.registry import load_preset
from egoflow.training.budget import prepare
from egoflow.training.precision import in_bfloat16
from egoflow.training.session import make_dataset, open_sources
from egoflow.training.trainer import Trainer
from egoflow.types import Clip

WORLD = "world:drive?seed=1&frames=12&height=64&width=192&samples=1"


def batches(dataset: ClipDataset, size: int) -> list[Clip]:
    """Return three batches of augmented clips."""
    return [collate([dataset[(size * i + k) % len(dataset), i] for k in range(size)]) for i in range(3)]


def seconds(trainer: Trainer, clips: list[Clip], *, first: int, steps: int) -> float:
    """Return the mean seconds of ``steps`` steps from number ``first`` on; one more before them is not counted."""
    for k in range(steps + 1):
        if k == 1:
            begun = time.perf_counter()
        trainer._step(clips[k % len(clips)].to(trainer.device), first, report=False)
    return (time.perf_counter() - begun) / steps


def main() -> None:
    """Print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="joint:tiny")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    args = parser.parse_args()
    _, preset = load_preset(args.preset)
    run = replace(preset, data=replace(preset.data, paths=(WORLD,), gap=1))
    with tempfile.TemporaryDirectory() as folder:
        dataset = make_dataset(run, open_sources(run.data), cache=Path(folder) / "cache")
        prepare(dataset)
        trainer = Trainer(run, dataset, out=Path(folder) / "run")
        clips, found, done = batches(dataset, run.optim.batch_size), {}, 0.0
        for phase in trainer.method.phases():
            # Its last step: whatever joins within a phase has joined by then.
            done += phase.share
            times: dict[bool, list[float]] = {False: [], True: []}
            for _ in range(args.turns):
                for precision in times:
                    trainer.bf16 = precision
                    times[precision].append(seconds(trainer, clips, first=int(done * run.loop.steps),
                                                    steps=args.steps))
            full, half = median(times[False]), median(times[True])
            found[phase.name] = {"float32_s": full, "bfloat16_s": half, "ratio": half / full,
                                 "ratios": [b / a for a, b in zip(times[False], times[True], strict=True)]}
            say(f"{args.preset}, phase {phase.name}: {full:.3f} s in float32, {half:.3f} s in bfloat16, "
                f"{half / full:.2f} of it")
    content = {"preset": args.preset, "phases": found, "auto_is_bfloat16": in_bfloat16("auto", trainer.device),
               "threads": torch.get_num_threads(), "device": str(trainer.device), "torch": torch.__version__,
               "date": date.today().isoformat()}
    (Path(__file__).parent / "results" / "precision.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
