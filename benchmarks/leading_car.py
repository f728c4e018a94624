"""The hole at infinity: how wrong is the depth of a car that drives ahead, beside that of the static scene?

    python benchmarks/leading_car.py runs/joint runs/sfmlearner [--scenes 4]

Each run is asked on `drive` with one mover, the car ahead of the camera, on scenes that no comparison trains on.
abs_rel is scored at the images' size with one factor an image, the median. Writes results/leading_car.json.
"""

import argparse
import json
from datetime import date
from pathlib import Path

from egoflow.console import say
from egoflow.report.scoring import score_method
from egoflow.training.checkpoint import load_run
from egoflow.worlds.base import RenderedWorld, load_world

SEED, FRAMES, HEIGHT, WIDTH = 200_000, 24, 128, 384


def measured(run: str, worlds: list[RenderedWorld]) -> tuple[str, dict[str, float]]:
    """Return what the run is, and abs_rel of the static scene and of the car ahead, and their ratio."""
    settings, method, _ = load_run(Path(run), which="last")
    values = score_method(method.eval(), settings, worlds, crop="none", look=lambda *_: None, label=run)
    static, moving = values["abs_rel_static"], values["abs_rel_moving"]
    assert static is not None
    assert moving is not None
    name = f"{settings.method}:{settings.preset}, seed {settings.loop.seed}"
    return name, {"static": static, "ahead": moving, "ratio": moving / static}


def main() -> None:
    """Print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--scenes", type=int, default=4)
    args = parser.parse_args()
    worlds = [load_world("drive", seed=SEED + k, frames=FRAMES, height=HEIGHT, width=WIDTH, movers=1)
              for k in range(args.scenes)]
    found = dict(measured(run, worlds) for run in args.runs)
    for run, row in found.items():
        say(f"{run}: abs_rel static {row['static']:.3f}, car ahead {row['ahead']:.3f}, ratio {row['ratio']:.2f}")
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    content = {"abs_rel": found, "scenes": args.scenes, "date": date.today().isoformat()}
    (folder / "leading_car.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
