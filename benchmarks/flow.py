"""Time and memory of every flow network for one pair, beside DIS in the same process.

    python benchmarks/flow.py [--methods flownet:s raft:small …] [--repeats 3]

Each network runs in a process of its own, untrained (its time does not depend on its weights), in turns with DIS on the
same pair: the ratio holds on a noisy machine. Memory is what the process's peak grew by while predicting, weights not
counted; parameters are counted apart. Both flows of the pair. Writes results/flow.json.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np

from egoflow.console import note, say

SIZES = ((128, 416), (436, 1024))
METHODS = ("flownet:s", "flownet:c", "flownet:sd", "flownet:cs", "flownet:css", "flownet:flownet2", "pwcnet:chairs",
           "pwcnet:tiny", "raft:chairs", "raft:chairs?lean", "raft:small", "raft:small?lean")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one pair costs one method at one size."""

    method: str
    size: str
    parameters: int
    seconds: float
    dis_seconds: float
    peak_mib: float


def peak_mib() -> float:
    """Return the largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str, height: int, width: int, repeats: int) -> Cost:
    """Return the cost of a method in this process."""
    import torch
    from torch.nn.functional import interpolate

    from egoflow.config import with_settings
    from egoflow.geometry.camera import Camera
    from egoflow.geometry.classical_flow import dis_flow
    from egoflow.methods.base import both_flows
    from egoflow.registry import load_preset
    from egoflow.types import Clip

    spec, _, option = name.partition("?")
    entry, run = load_preset(spec)
    run = with_settings(run, ["config.lookup=lean"] if option == "lean" else [])
    torch.manual_seed(0)
    method = entry.method_type(run.config).eval()
    wide = interpolate(torch.rand(1, 3, height // 8, width // 8 + 1), (height, width + 8), mode="bicubic").clamp(0, 1)
    images = torch.stack((wide[..., 4:4 + width], wide[..., :width]), dim=1)
    camera = Camera.create(width, width, width / 2, height / 2, height=height, width=width)
    clip = Clip(images=images, camera=camera, time_s=torch.zeros(1, 2), target=0)
    pictures = [(image.permute(1, 2, 0).numpy() * 255).astype(np.uint8) for image in images[0]]
    before, times, dis_times = peak_mib(), [], []
    with torch.no_grad():
        for _ in range(repeats + 1):
            begun = time.perf_counter()
            both_flows(method, clip)
            times.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            dis_flow(*pictures), dis_flow(*pictures[::-1])
            dis_times.append(time.perf_counter() - begun)
    return Cost(method=name, size=f"{height}x{width}", parameters=sum(p.numel() for p in method.parameters()),
                seconds=statistics.median(times[1:]), dis_seconds=statistics.median(dis_times[1:]),
                peak_mib=peak_mib() - before)


def apart(name: str, height: int, width: int, repeats: int) -> Cost:
    """Return the cost of a method in a process of its own, so that peaks do not add up."""
    words = [sys.executable, __file__, "--methods", name, "--one", str(height), str(width), "--repeats", str(repeats)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", nargs=2, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        say(json.dumps(asdict(measure(args.methods[0], *args.one, args.repeats))))
        return
    costs = []
    say("| method | parameters | size | seconds | x DIS | MiB |\n|---|---|---|---|---|---|")
    for height, width in SIZES:
        for name in args.methods:
            note(f"{name} at {height}x{width}")
            cost = apart(name, height, width, args.repeats)
            costs.append(cost)
            say(f"| {name} | {cost.parameters:,} | {cost.size} | {cost.seconds:.3f} | "
                f"{cost.seconds / cost.dis_seconds:.1f} | {cost.peak_mib:.0f} |")
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    content = {"costs": [asdict(cost) for cost in costs], "date": date.today().isoformat()}
    (folder / "flow.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
