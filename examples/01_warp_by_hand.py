"""Depth and camera motion are a flow: rebuild one frame from the next with nothing but geometry.

Run it with a folder to write to: python examples/01_warp_by_hand.py out/warp
"""

import sys
from pathlib import Path

import numpy as np
import torch

from egoflow.console import say
from egoflow.data.formats import write_image
from egoflow.geometry.flow import backward_warp, rigid_flow
from egoflow.losses.photometric import l1_map
from egoflow.losses.reduce import masked_mean
from egoflow.worlds.base import load_world


def picture(image: torch.Tensor) -> np.ndarray:
    """Return an image [1, 3, H, W] in [0, 1] as uint8 [H, W, 3]."""
    return (image[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def main(out: Path) -> None:
    """Warp frame b onto frame a with the true depth and motion, then with a wrong motion."""
    # A rendered street knows everything: images, depth, how the camera moved, and what is hidden.
    world = load_world("drive", seed=3, frames=2, height=96, width=288, samples=4)
    image_a, image_b = world.colours([0, 1]).split(1)
    truth = world.pair_truth(0, 1)
    depth_a, b_from_a = truth.depth_a.float(), truth.b_from_a.to(torch.float32)

    # Where does each pixel of a go? p_b = b_from_a @ p_a: unproject, move, project; the flow is the difference.
    flow_ab, in_front = rigid_flow(depth_a, world.camera, b_from_a)
    # Fetch the colours from there: image b on the pixel grid of a.
    image_b_on_a, inside = backward_warp(image_b, flow_ab)
    use = inside & in_front & truth.visible_ab

    before = masked_mean(l1_map(image_b, image_a), use).item()
    after = masked_mean(l1_map(image_b_on_a, image_a), use).item()
    say(f"flow up to {flow_ab.norm(dim=1).max():.1f} px, {use.float().mean():.0%} of the pixels can be compared")
    say(f"photometric error {before:.4f} unwarped, {after:.4f} warped: {after / before:.0%} is left")

    # The other way round the camera drives backwards: this is how a wrong sign looks.
    wrong, _ = backward_warp(image_b, rigid_flow(depth_a, world.camera, b_from_a.inverse())[0])
    say(f"with the inverse motion {masked_mean(l1_map(wrong, image_a), use).item():.4f}")

    names = {"a": image_a, "b": image_b, "b_on_a": torch.where(use, image_b_on_a, 0.5), "b_on_a_wrong_sign": wrong}
    for name, image in names.items():
        write_image(out / f"{name}.png", picture(image))
    say(f"wrote {out}: " + ", ".join(f"{name}.png" for name in names))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out/warp"))
