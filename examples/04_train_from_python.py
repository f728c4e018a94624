"""What "egoflow train" and "egoflow predict" do, in Python: preset, sources, training, prediction.

Run it with a folder to write to, and steps: python examples/04_train_from_python.py out/train 300
"""

import sys
from dataclasses import replace
from pathlib import Path

from egoflow.config import LoopConfig
from egoflow.console import say
from egoflow.data.files import new_folder
from egoflow.inference.stream import predict_stream
from egoflow.inference.writer import PredictionWriter
from egoflow.registry import load_preset
from egoflow.training.checkpoint import load_run
from egoflow.training.session import make_dataset, open_sources
from egoflow.training.trainer import Trainer


def main(out: Path, *, steps: int) -> None:
    """Train sfmlearner:tiny on a street that is rendered while it is read, and predict a street never seen."""
    # A preset is a plain value: change a field by replacing it. --set on the command line does the same, checked.
    _, preset = load_preset("sfmlearner:tiny")
    street, other = (f"world:drive?seed={seed}&frames=6&samples=1" for seed in (1, 2))
    run = replace(preset, data=replace(preset.data, paths=(street,), height=48, width=144),
                  optim=replace(preset.optim, batch_size=4),
                  loop=LoopConfig(steps=steps, log_every=5, save_every=100, device="cpu"))

    # Any FrameSource will do: a video, a folder, a world, or a class of yours with images, times and a camera.
    dataset = make_dataset(run, open_sources(run.data), cache=out / "cache")
    clip = dataset[0]
    say(f"{len(dataset)} clips such as {clip.key[0]}: images {list(clip.images.shape)}, two-view start of "
        f"{len(clip.start)} pairs, the first with inlier share {clip.start[1, 0].weight.item():.2f}")
    state = Trainer(run, dataset, out=out / "run").fit()
    say(f"step {state.step}; the log is {out / 'run' / 'log.jsonl'}")

    # The run folder is all that is needed later: configuration and weights in one file, no pickle.
    run, method, _ = load_run(out / "run")
    source = open_sources(replace(run.data, paths=(other,)))[0]
    with new_folder(out / "prediction") as folder, PredictionWriter(folder, source=source, run=run) as writer:
        for frame in predict_stream(method, run, source):
            writer.add(frame)
            if frame.inv_depth is not None and frame.next_from_this is not None:
                x, y, z = frame.next_from_this.t.tolist()
                say(f"frame {frame.index}: inverse depth {frame.inv_depth.min():.3f} to {frame.inv_depth.max():.3f}, "
                    f"next_from_this moves points by ({x:+.4f}, {y:+.4f}, {z:+.4f})")
        writer.finish()
    say(f"wrote {out / 'prediction'}; score it with:")
    say(f"  egoflow evaluate odometry --prediction {out / 'prediction'} --truth {out / 'prediction'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out/train"), steps=int(sys.argv[2]) if len(sys.argv) > 2 else 300)
