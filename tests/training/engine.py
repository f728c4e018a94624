"""A small training job, also a script: ``python engine.py OUT STEPS [--resume] [--slow S] [--muon]``."""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from egoflow.config import LoopConfig, OptimConfig, Run
from egoflow.geometry.camera import Camera
from egoflow.registry import load_preset
from egoflow.training import distributed
from egoflow.training.trainer import Stopped, Trainer
from egoflow.types import Clip


def small_run(*, steps: int, batch: int = 4, save_every: int = 5, seed: int = 1, muon: bool = False) -> Run:
    """A run of sfmlearner:tiny without the start, on 32x64 clips."""
    _, run = load_preset("sfmlearner:tiny")
    optim = OptimConfig(muon=("depth_net",) if muon else (), lr=1e-3, batch_size=batch, schedule="one_cycle")
    return replace(run, start="none", optim=optim,
                   loop=LoopConfig(steps=steps, seed=seed, log_every=1, save_every=save_every, device="cpu",
                                   watchdog=False))


class SlidingClips(torch.utils.data.Dataset):
    """Ten clips of a texture that slides; item keys are (index, seed), the seed shifts the colours."""

    def __init__(self, *, poison: int | None = None, slow: float = 0.0, dtype: torch.dtype = torch.float32) -> None:
        generator = torch.Generator().manual_seed(0)
        texture = torch.rand(10, 3, 8, 20, generator=generator)
        self.texture = torch.nn.functional.interpolate(texture, (32, 80), mode="bilinear")
        self.poison, self.slow, self.dtype = poison, slow, dtype

    def __len__(self) -> int:
        return 10

    def __getitem__(self, key: tuple[int, int]) -> Clip:
        index, seed = key
        time.sleep(self.slow)
        gain = 0.8 + 0.2 * torch.rand((), generator=torch.Generator().manual_seed(seed))
        images = torch.stack([self.texture[index, :, :, s:s + 64] for s in (0, 3, 6)])[None] * gain
        if index == self.poison:
            images = images.clone()
            images[0, 1, 0, 5, 5] = float("nan")
        return Clip(images=images.to(self.dtype), camera=Camera.create(40, 40, 31.5, 15.5, height=32, width=64),
                    time_s=torch.zeros(1, 3, dtype=torch.float64), target=1, key=(f"sliding/{index:06d}",))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("steps", type=int)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--slow", type=float, default=0.0)
    parser.add_argument("--double", action="store_true")
    parser.add_argument("--muon", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    try:
        clips = SlidingClips(slow=args.slow, dtype=torch.float64 if args.double else torch.float32)
        trainer = Trainer(small_run(steps=args.steps, muon=args.muon), clips, out=args.out, resume=args.resume)
        if args.double:
            trainer.method.double()
        trainer.fit()
    except Stopped as stop:
        return 128 + stop.number
    finally:
        distributed.leave()
    return 0


if __name__ == "__main__":
    sys.exit(main())
