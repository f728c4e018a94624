"""Memory and time of RAFT's two look-ups, and how far they differ.

    python benchmarks/raft_lookup.py [--height 436] [--width 1024] [--lookups 3]

For features of a padded image (440x1024 gives 55x128 cells of 256 channels), each look-up runs in a fresh process: what
its peak resident size grows by from the features to the last window, for prediction (no graph) and for a training step
(all windows' gradients to both features). Times are of one thread: building, and each look-up. Writes
results/raft_lookup.json.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

from egoflow.console import say

CHANNELS, RADIUS = 256, 4


def peak_mib() -> float:
    """Return the largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str, *, train: bool, height: int, width: int, lookups: int, out: Path) -> dict[str, float]:
    """Return memory and time of one look-up in this process; leave its last windows (or gradients) in ``out``."""
    import torch

    from egoflow.geometry.pixels import pixel_grid
    from egoflow.networks.raft import LOOKUPS

    torch.set_num_threads(1)
    torch.manual_seed(0)
    size = -(-height // 8), -(-width // 8)
    a, b = (torch.randn(1, CHANNELS, *size, requires_grad=train) for _ in range(2))
    # A tiny problem first: what libraries allocate once is not the look-up's.
    small = torch.randn(1, CHANNELS, 8, 8, requires_grad=train)
    found = LOOKUPS[name](small, small, radius=RADIUS)(pixel_grid(8, 8)[None])
    if train:
        found.sum().backward()
    places = [pixel_grid(*size)[None] + 3 * torch.randn(1, *size, 2) for _ in range(lookups)]
    before, begun = peak_mib(), time.perf_counter()
    with torch.set_grad_enabled(train):
        lookup = LOOKUPS[name](a, b, radius=RADIUS)
        built = time.perf_counter()
        windows = [lookup(xy) for xy in places] if train else [lookup(xy) for xy in places][-1:]
        if train:
            torch.stack([w.square().mean() for w in windows]).sum().backward()
    ended = time.perf_counter()
    grown = peak_mib() - before
    torch.save([a.grad, b.grad] if train else windows, out)
    return {"peak_mib": grown, "build_s": built - begun, "lookup_s": (ended - built) / lookups}


def main() -> None:
    """Measure each in a process of its own and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=436)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--lookups", type=int, default=3)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    size = {"height": args.height, "width": args.width, "lookups": args.lookups}
    if args.one:
        name, use, out = args.one
        say(json.dumps(measure(name, train=use == "train", out=Path(out), **size)))
        return
    import tempfile

    import torch

    content: dict[str, object] = {**size, "torch": torch.__version__, "date": date.today().isoformat()}
    with tempfile.TemporaryDirectory() as folder:
        for use in ("predict", "train"):
            costs, results = {}, {}
            for name in ("dense", "lean"):
                out = Path(folder) / f"{name}.pt"
                words = [sys.executable, __file__, "--one", name, use, str(out),
                         *(f"--{key}={value}" for key, value in size.items())]
                done = subprocess.run(words, capture_output=True, text=True, check=True)
                costs[name] = json.loads(done.stdout.splitlines()[-1])
                results[name] = torch.load(out, weights_only=True)
                say(f"{use}, {name}: {costs[name]['peak_mib']:.0f} MiB, built in {costs[name]['build_s']:.2f} s, "
                    f"{costs[name]['lookup_s']:.2f} s a look-up{' with its gradient' if use == 'train' else ''}")
            difference = max(float((x - y).abs().max() / x.abs().max()) for x, y in zip(*results.values(), strict=True))
            share = costs["lean"]["peak_mib"] / costs["dense"]["peak_mib"]
            say(f"{use}: the lean one needs {share:.2f} of the dense one's memory; they differ by {difference:.1e} "
                f"of the largest value")
            content[use] = {**costs, "share": share, "relative_difference": difference}
    target = Path(__file__).parent / "results" / "raft_lookup.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
