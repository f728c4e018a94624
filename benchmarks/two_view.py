"""How far off is classical two-view geometry, of neighbouring frames whose motion is known?

    python benchmarks/two_view.py [CLIP ...]

CLIP is anything that brings a camera and a path: a drive, a clip folder, `world:...` (without any, three worlds). Of
the pairs that are believed (weight above 0): mean error of the rotation, median and ninth decile of the direction's,
and how many are more than 30 degrees off. Writes results/two_view.json.
"""

import argparse
import json
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch

from egoflow.config import DataConfig
from egoflow.console import say
from egoflow.geometry.se3 import rotation_angle
from egoflow.geometry.two_view import pair_geometry
from egoflow.training.session import open_sources
from egoflow.types import FrameSource

WORLDS = ("world:drive?seed=11&frames=40&height=128&width=384&movers=4&samples=1",
          "world:boxes?seed=3&frames=60&height=160&width=240&speed=5&turn_deg=6&texture_ratio=1",
          "world:boxes?seed=3&frames=60&height=160&width=240&speed=1&turn_deg=6&texture_ratio=1")
FAR_OFF_DEG = 30.0


def measure(source: FrameSource) -> dict[str, float]:
    """Return the errors over all neighbours of a clip that brings its path."""
    turns, asides, begun = [], [], time.perf_counter()
    pairs = len(source) - 1
    for a in range(pairs):
        found, _ = pair_geometry(source.image(a), source.image(a + 1), source.camera)
        here, there = (source.truth(i).world_from_cam for i in (a, a + 1))
        if here is None or there is None:
            raise SystemExit("a clip without a path")
        true = there.inverse() @ here
        if found.weight > 0:
            turns.append(float(torch.rad2deg(rotation_angle(torch.from_numpy(found.rotation) @ true.R.double().mT))))
            direction = torch.from_numpy(found.direction)
            cosine = direction @ true.t.double() / true.t.double().norm()
            asides.append(float(torch.rad2deg(cosine.clamp(-1, 1).acos())))
    return {"pairs": pairs, "believed": len(turns), "rotation_mean_deg": round(float(np.mean(turns)), 4),
            "direction_median_deg": round(float(np.median(asides)), 3),
            "direction_p90_deg": round(float(np.quantile(asides, 0.9)), 3),
            "far_off": sum(aside > FAR_OFF_DEG for aside in asides),
            "ms_a_pair": round(1000 * (time.perf_counter() - begun) / pairs)}


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", nargs="*", default=WORLDS, metavar="CLIP")
    results = {}
    for path in parser.parse_args().clip:
        for source in open_sources(DataConfig(paths=(path,))):
            name = path.removeprefix("world:") if path in WORLDS else source.name
            results[name] = measure(source)
            say(f"{name}: {results[name]}")
    out = Path(__file__).parent / "results" / "two_view.json"
    out.write_text(json.dumps({"clips": results, "date": date.today().isoformat()}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
