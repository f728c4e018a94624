"""Frames a second of the ray caster at 128x416: the drive with 4 samples a pixel, the boxes with one, and exact truth.

    python benchmarks/worlds.py [--frames 12]

The drive's frames show at least 40 solids each (the count is printed: hit by a pixel centre, not merely placed). Times
are medians over frames rendered one by one; writes results/worlds.json.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch

from egoflow.console import say
from egoflow.worlds.base import World, load_world


def seconds_each(work: Callable[[int], object], frames: int) -> float:
    """Return the median time of ``work`` on frames 1 to ``frames``, after one unmeasured frame."""
    work(0)
    times = []
    for index in range(1, frames + 1):
        start = time.perf_counter()
        work(index)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def solids_in_view(world: World, frames: int) -> int:
    """Return the least number of solids that a pixel centre hits in any of the frames."""
    return min(int(world._geometry(i).hits.solid.unique().numel()) - 1 for i in range(0, frames, 3))


def processor() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    size = {"height": 128, "width": 416, "frames": args.frames + 2, "device": args.device}
    drive = load_world("drive", seed=3, movers=4, samples=4, **size)
    flat = load_world("drive", seed=3, movers=4, samples=4, shadows=False, **size)
    boxes = load_world("boxes", seed=3, samples=1, **size)
    rates = {
        "drive, 4 samples, shadows": 1 / seconds_each(drive.image, args.frames),
        "drive, 4 samples, no shadows": 1 / seconds_each(flat.image, args.frames),
        "drive, truth of a pair": 1 / seconds_each(lambda i: drive.pair_truth(i, i + 1), args.frames),
        "boxes, 1 sample": 1 / seconds_each(boxes.image, args.frames),
    }
    seen = solids_in_view(drive, args.frames)
    for name, rate in rates.items():
        say(f"{name:30s} {rate:7.2f} frames/s")
    say(f"the drive shows at least {seen} solids in every frame; {torch.get_num_threads()} threads, {processor()}")
    result = {"frames_per_s": rates, "size": "128x416", "least_solids_in_view": seen, "frames": args.frames,
              "device": args.device, "threads": torch.get_num_threads(), "torch": torch.__version__,
              "cpu": processor(), "date": date.today().isoformat()}
    out = Path(__file__).parent / "results" / "worlds.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
