"""A method of your own is one file: my_methods/row_depth.py. Train it, look inside, use every command with it.

Run it with a folder to write to, and steps: python examples/06_own_method.py out/own 60
On the command line: PYTHONPATH=examples egoflow train my_methods.row_depth:tiny --data clip.mp4 --camera fov=65 --out x
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from egoflow.console import say
from egoflow.registry import load_preset
from egoflow.training.checkpoint import load_run
from egoflow.training.session import make_dataset, open_sources
from egoflow.training.trainer import Trainer
from my_methods.row_depth import RowDepth


def main(out: Path, *, steps: int) -> None:
    """Train the row depths on a rendered street and draw what they have learnt."""
    # Found by its dotted name: the folder of my_methods must be on the path, as it is for a script beside it.
    entry, run = load_preset("my_methods.row_depth:tiny")
    say(f"{entry.method_type.__name__}: presets {', '.join(entry.presets)}")
    data = replace(run.data, paths=("world:drive?seed=1&frames=8&samples=1",))
    run = replace(run, data=data, loop=replace(run.loop, steps=steps, device="cpu"))
    sources = open_sources(run.data)
    Trainer(run, make_dataset(run, sources, cache=out / "cache"), out=out / "run").fit()

    _, method, state = load_run(out / "run")
    assert isinstance(method, RowDepth)
    rows = method.profile().detach().exp().numpy()
    say(f"after {state.step} steps, inverse depth of the rows from top to bottom, beside the truth's median:")
    truth = sources[0].truth(0)
    assert truth.depth is not None
    inv_true = np.median(1 / truth.depth, axis=1)
    # Learnt depth has a scale of its own.
    learnt = rows * inv_true.mean() / rows.mean()
    for index in range(0, len(rows), 3):
        true = inv_true[(2 * index + 1) * len(inv_true) // (2 * len(rows))]
        say(f"{learnt[index]:6.3f} {true:6.3f}  {'#' * round(150 * learnt[index])} {'.' * round(150 * true)}")
    say(f"next: PYTHONPATH=examples egoflow predict {out / 'run'} SOURCE --out {out / 'prediction'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out/own"), steps=int(sys.argv[2]) if len(sys.argv) > 2 else 60)
