"""Worlds with exact truth: render, ask what is known of a pair of frames, read it back as a clip.

Run it with a folder to write to: python examples/02_render_a_world.py out/world
"""

import sys
from pathlib import Path

from egoflow.console import say
from egoflow.data.cameras import write_camera
from egoflow.data.formats import write_depth_png, write_flo, write_image, write_mask
from egoflow.data.open import open_source
from egoflow.data.trajectories import write_trajectory
from egoflow.geometry.se3 import rotation_angle
from egoflow.worlds.base import available_worlds, load_world


def main(out: Path) -> None:
    """Write a short drive with a car that moves, in the layout that every command reads."""
    say(f"worlds: {', '.join(available_worlds())}")
    world = load_world("drive", seed=7, frames=4, height=64, width=192, movers=1, samples=2)
    write_camera(out / "camera.json", world.camera)
    write_trajectory(out / "poses_kitti.txt", world.trajectory(), format="kitti")
    for index in range(len(world)):
        name, truth = world.frame_name(index), world.truth(index)
        assert truth.depth is not None
        write_image(out / "image" / f"{name}.png", world.image(index))
        # 16-bit PNG, metres times 256; the sky is not valid.
        write_depth_png(out / "depth" / f"{name}.png", truth.depth, truth.valid_depth)

    # Frame a points to frame b: flow on the grid of a, what is still to be seen in b, what moves by itself.
    pair = world.pair_truth(0, 1)
    metres, angle = pair.b_from_a.t.norm().item(), rotation_angle(pair.b_from_a.R).rad2deg().item()
    say(f"the camera went {metres:.2f} m and turned {angle:.2f} degrees")
    seen, moving = pair.visible_ab.float().mean(), (~pair.static_a).float().mean()
    say(f"{seen:.1%} of the pixels are seen in both frames, {moving:.1%} move by themselves")
    write_flo(out / "flow" / "000000.flo", pair.flow_ab[0].permute(1, 2, 0).numpy())
    write_mask(out / "visible" / "000000.png", pair.visible_ab[0, 0].numpy())

    # The folder is a clip like any other, truth included.
    clip = open_source(out)
    truth = clip.truth(3)
    assert truth.depth is not None
    assert truth.valid_depth is not None
    assert truth.world_from_cam is not None
    x, y, z = truth.world_from_cam.t.tolist()
    say(f"read back {clip.name}: {len(clip)} frames, the last camera at x {x:.2f}, y {y:.2f}, z {z:.2f} m, its nearest "
        f"point {truth.depth[truth.valid_depth].min():.2f} m away")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out/world"))
