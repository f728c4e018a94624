"""What stands in the way of finding movers: depth, motion, flow, or the rule?

    python benchmarks/movers.py compare/joint-tiny/seed0 --scenes compare/data/unseen [--every 3]

Tells what moves on the unseen clips of ``egoflow compare --world 'drive?height=128&width=384'`` from the run's own
depth, motion and flow, and from the truth in place of each: by the rule of the library, and by fixed limits that were
chosen on these very frames. Writes results/movers.json.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from egoflow.console import say
from egoflow.data.open import open_shots
from egoflow.evaluation.motion_masks import MotionScores
from egoflow.geometry.classical_flow import dis_flow
from egoflow.geometry.flow import backward_warp, rigid_flow
from egoflow.geometry.pixels import resize_flow, resize_image, resize_map
from egoflow.geometry.se3 import SE3
from egoflow.losses.masks import opened
from egoflow.methods.base import Method
from egoflow.methods.moving import Explained, explained, movers
from egoflow.training.checkpoint import load_run
from egoflow.types import Clip, FlowSource, FrameSource, Prediction
from egoflow.worlds.base import load_world

PAIRS = {(1, 2): (0, 1), (1, 0): (0, -1), (2, 1): (1, 0), (0, 1): (-1, 0)}
"""Of a clip of three frames, the pairs and how far their frames are from the middle one."""
LIMIT_PX, LIMIT_SHARE = 3.0, 0.2
"""The fixed limits: at the width of the images, and of the sum of both flows."""
BEND = 0.1
SKY_M = 500.0


def true_depth(source: FrameSource, index: int, *, bent: bool) -> Tensor:
    """Return the true depth [1, 1, H, W], or one that is 10 % too near on the left and 10 % too far on the right."""
    depth = torch.from_numpy(np.asarray(source.truth(index).depth, np.float32))[None, None]
    depth = torch.where((depth > 0) & depth.isfinite(), depth, torch.full_like(depth, SKY_M))
    return depth * torch.linspace(1 - BEND, 1 + BEND, depth.shape[-1]) if bent else depth


def true_motion(source: FrameSource, a: int, b: int) -> SE3:
    """Return the true ``b_from_a``."""
    world_from_a, world_from_b = source.truth(a).world_from_cam, source.truth(b).world_from_cam
    assert world_from_a is not None
    assert world_from_b is not None
    return SE3.stack([(world_from_b.inverse() @ world_from_a).to(torch.float32)])


def true_flow(source: FrameSource, a: int, b: int) -> Tensor:
    """Return the true flow [1, 2, H, W], 0 where it is not known."""
    assert isinstance(source, FlowSource)
    truth = source.flow_truth(a, b)
    assert truth is not None
    return torch.from_numpy(np.nan_to_num(np.asarray(truth.flow_ab, np.float32)))[None]


def dis_on_residual(source: FrameSource, a: int, b: int) -> Tensor:
    """Return DIS flow [1, 2, H, W] with the camera's true flow taken out of the images first.

    What is left leads from x to a pixel of the rebuilt image, and the camera's flow of that pixel on to b.
    """
    rigid_flow_ab, _ = rigid_flow(true_depth(source, a, bent=False), source.camera, true_motion(source, a, b))
    rebuilt, _ = backward_warp(pixels_of(source, b), rigid_flow_ab)
    left = dis_flow(source.image(a), (rebuilt[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())
    left_ab = torch.from_numpy(np.asarray(left, np.float32))[None]
    return left_ab + backward_warp(rigid_flow_ab, left_ab)[0]


def pixels_of(source: FrameSource, index: int) -> Tensor:
    """Return an image [1, 3, H, W] in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(source.image(index))).permute(2, 0, 1)[None].float() / 255


def clip_of(source: FrameSource, middle: int, *, height: int, width: int) -> Clip:
    """Return the frames about the ``middle`` one at the size of training."""
    images = [resize_image(pixels_of(source, middle + k), height=height, width=width) for k in (-1, 0, 1)]
    return Clip(images=torch.stack(images, 1), camera=source.camera.resized(height=height, width=width), target=1,
                time_s=torch.tensor([[0.0, 0.1, 0.2]], dtype=torch.float64))


def with_true_scene(own: Prediction, source: FrameSource, middle: int, clip: Clip, *, bent: bool) -> Prediction:
    """Return a prediction with the true depth and motion in place of its own."""
    height, width = clip.images.shape[-2:]
    depths = {i: true_depth(source, middle + i - 1, bent=bent) for i in range(3)}
    inv_depth = {i: [resize_map(1 / depth, height=height, width=width)] for i, depth in depths.items()}
    motion = {pair: true_motion(source, middle + a, middle + b) for pair, (a, b) in PAIRS.items()}
    return replace(own, inv_depth=inv_depth, motion=motion)


def with_flow(own: Prediction, source: FrameSource, middle: int, clip: Clip,
              flow: Callable[[FrameSource, int, int], Tensor]) -> Prediction:
    """Return a prediction with another flow in place of its own."""
    height, width = clip.images.shape[-2:]
    return replace(own, flow={
        pair: [resize_flow(flow(source, middle + a, middle + b), height=height, width=width)]
        for pair, (a, b) in PAIRS.items()})


def of_all_kinds(own: Prediction, source: FrameSource, middle: int, clip: Clip) -> dict[str, Prediction]:
    """Return predictions of which more and more is the truth, by name."""
    true_scene = with_true_scene(own, source, middle, clip, bent=False)
    bent_scene = with_true_scene(own, source, middle, clip, bent=True)
    return {
        "true, depth bent by 10 %; true flow": with_flow(bent_scene, source, middle, clip, true_flow),
        "own; own flow": own,
        "true; own flow": true_scene,
        "true; DIS after the camera's flow": with_flow(true_scene, source, middle, clip, dis_on_residual),
    }


def by_fixed_limits(views: list[Explained], *, width: int, image_width: int) -> Tensor:
    """Return bool [1, 1, H, W] where the flows of one neighbour are farther apart than the limits."""
    said = torch.zeros_like(views[0].use)
    for view in views:
        apart = (view.flow_ab - view.rigid_flow_ab).norm(dim=1, keepdim=True)
        both = view.flow_ab.norm(dim=1, keepdim=True) + view.rigid_flow_ab.norm(dim=1, keepdim=True)
        said |= view.use & (apart > LIMIT_PX * width / image_width) & (apart > LIMIT_SHARE * both)
    return opened(said)


@torch.no_grad()
def scored(method: Method, sources: Sequence[FrameSource], size: tuple[int, int], *, every: int,
           kinds: Callable[..., dict[str, Prediction]]) -> dict[str, Mapping[str, float | None]]:
    """Return the figures of every kind of prediction and rule, by name, at the size of the images."""
    found: dict[str, MotionScores] = {}
    height, width = size
    for number, source in enumerate(sources):
        for middle in range(2, len(source) - 2, every):
            true = ~np.asarray(source.truth(middle).static, bool).squeeze()
            clip = clip_of(source, middle, height=height, width=width)
            for name, prediction in kinds(method.predicted(clip), source, middle, clip).items():
                views = [explained(clip, prediction, (1, other)) for other in (2, 0)]
                said = {name: movers(views)[1],
                        f"{name}; fixed limits": by_fixed_limits(views, width=width, image_width=true.shape[1])}
                for rule, mask in said.items():
                    there = resize_map(mask.float(), height=true.shape[0], width=true.shape[1])[0, 0].numpy()
                    found.setdefault(rule, MotionScores()).add(f"{number}/{middle}", there, true)
    return {name: scores.result(resamples=1).rows[0].values for name, scores in found.items()}


def main() -> None:
    """Print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--scenes", required=True)
    parser.add_argument("--every", type=int, default=3)
    args = parser.parse_args()
    settings, method, _ = load_run(Path(args.run), which="last")
    method, size = method.eval(), (settings.data.height, settings.data.width)
    sources = [shot for path in sorted(Path(args.scenes).iterdir()) if path.is_dir() for shot in open_shots(str(path))]
    found = scored(method, sources, size, every=args.every, kinds=of_all_kinds)
    still = [load_world("drive", seed=300_000 + k, frames=16, movers=0, height=128, width=384) for k in range(3)]
    alone = scored(method, still, size, every=args.every, kinds=lambda own, *_: {"nothing moves: own; own flow": own})
    for name, row in found.items():
        say(f"{name}: IoU {row['mover_iou']:.3f}, recall {row['mover_recall']:.3f}, "
            f"precision {row['mover_precision']:.3f}")
    for name, row in alone.items():
        say(f"{name}: {row['false_alarms']:.4f} of the pixels")
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    content = {"run": f"{settings.method}:{settings.preset}, seed {settings.loop.seed}, step {settings.loop.steps}",
               "found": found, "still": alone, "date": date.today().isoformat()}
    (folder / "movers.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
