"""How well each estimator of occlusion finds what is hidden on `drive` with movers: IoU with the ray caster's truth.

    python benchmarks/occlusion.py [--pairs 12]

Each estimator gets the true flow both ways (what it can do at best), and the flow that DIS finds between the images
(what it does). IoU = |said hidden and hidden| / |said or hidden|, counted over all pairs; "all" counts every pixel, so
that what leaves the view is hidden too, "in view" only pixels whose true flow ends inside the image. Writes
results/occlusion.json.
"""

import argparse
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
from torch import Tensor

from egoflow.console import say
from egoflow.geometry.classical_flow import dis_flow
from egoflow.geometry.flow import reproject
from egoflow.losses.masks import (
    depth_test_visible,
    forward_backward_visible,
    in_view,
    range_map_visible,
)
from egoflow.worlds.base import World, load_world
from egoflow.worlds.truth import PairTruth

Estimator = Callable[[Tensor, Tensor], Tensor]
ESTIMATORS: dict[str, Estimator] = {
    "leaves the view (no occlusion)": lambda ab, ba: in_view(ab),
    "forward-backward, relative (.01, .5)": forward_backward_visible,
    "forward-backward, absolute 1.5 px": lambda ab, ba: forward_backward_visible(ab, ba, alpha=0.0, beta=1.5**2),
    "range map, at least .2": lambda ab, ba: range_map_visible(ba, least=0.2) & in_view(ab),
    "range map, at least .5": lambda ab, ba: range_map_visible(ba, least=0.5) & in_view(ab),
    "range map, at least .75": lambda ab, ba: range_map_visible(ba, least=0.75) & in_view(ab),
    "range map at a quarter of the size, at least .5":
        lambda ab, ba: range_map_visible(ba, least=0.5, coarser=4) & in_view(ab),
    "both: forward-backward and range map .5":
        lambda ab, ba: forward_backward_visible(ab, ba) & range_map_visible(ba, least=0.5),
}


class Counts:
    """Intersections and unions over all pairs, per estimator, flow and region."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str, str], list[int]] = {}

    def add(self, name: str, flow: str, visible: Tensor, truth: PairTruth) -> None:
        """Count one pair."""
        inside = in_view(truth.flow_ab)
        for region, where in (("all", torch.ones_like(inside)), ("in view", inside)):
            said, hidden = ~visible & where, ~truth.visible_ab & where
            counts = self.found.setdefault((name, flow, region), [0, 0])
            counts[0] += int((said & hidden).sum())
            counts[1] += int((said | hidden).sum())

    def iou(self, name: str, flow: str, region: str) -> float | None:
        """Return the IoU, or None where it was not measured."""
        counts = self.found.get((name, flow, region))
        return None if counts is None else counts[0] / max(counts[1], 1)


def measure(world: World, pair: tuple[int, int], counts: Counts) -> tuple[int, int]:
    """Count one pair of frames; return the number of hidden pixels in view and of pixels in view."""
    a, b = pair
    truth = world.pair_truth(a, b)
    images = world.image(a), world.image(b)
    dis = [torch.from_numpy(dis_flow(*order))[None] for order in (images, images[::-1])]
    flows = {"true flow": (truth.flow_ab.float(), truth.flow_ba.float()), "DIS": (dis[0], dis[1])}
    for name, estimator in ESTIMATORS.items():
        for flow, both in flows.items():
            counts.add(name, flow, estimator(*both), truth)
    # A depth test knows the camera's motion alone: what moves by itself it takes for hidden, or for what hides.
    xy, z, _ = reproject(truth.depth_a, truth.camera, truth.b_from_a)
    counts.add("depth test, 5 % (true depth and motion)", "true flow", depth_test_visible(z, truth.depth_b, xy), truth)
    inside = in_view(truth.flow_ab)
    return int((~truth.visible_ab & inside).sum()), int(inside.sum())


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--movers", type=int, default=4)
    args = parser.parse_args()
    counts, hidden, seen = Counts(), 0, 0
    for seed in range(args.pairs):
        world = load_world("drive", seed=seed, movers=args.movers, frames=8, height=128, width=416, samples=1)
        more = measure(world, (3, 4), counts)
        hidden, seen = hidden + more[0], seen + more[1]
    names = list(dict.fromkeys(name for name, _, _ in counts.found))
    columns = [(flow, region) for flow in ("true flow", "DIS") for region in ("all", "in view")]
    say("| estimator | " + " | ".join(f"{flow}, {region}" for flow, region in columns) + " |")
    rows = {name: [counts.iou(name, *column) for column in columns] for name in names}
    for name, row in rows.items():
        say(f"| {name} | " + " | ".join("-" if value is None else f"{value:.2f}" for value in row) + " |")
    say(f"{hidden / seen:.2%} of the pixels in view are hidden in the other frame")
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    result = {"iou": rows, "columns": [", ".join(c) for c in columns], "pairs": args.pairs, "movers": args.movers,
              "hidden_share_in_view": hidden / seen, "date": date.today().isoformat()}
    (folder / "occlusion.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
