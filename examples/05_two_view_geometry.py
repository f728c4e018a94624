"""What classical geometry says of a clip before anything is learnt: turns, directions, and which pairs to believe.

Run it with a folder to write to, and a clip of yours with its camera:
python examples/05_two_view_geometry.py out/pairs clip.mp4 fov=65
"""

import sys
from pathlib import Path

import numpy as np

from egoflow.console import say
from egoflow.data.formats import write_flo, write_mask
from egoflow.data.open import open_source
from egoflow.data.trajectories import write_trajectory
from egoflow.geometry.two_view import pair_geometry
from egoflow.inference.path import TwoViewPath
from egoflow.types import FrameSource
from egoflow.worlds.base import load_world

FRAMES = 20


def main(out: Path, source: FrameSource) -> None:
    """Look at neighbouring frames two by two, and chain the motions to a path of unit steps."""
    count = min(len(source), FRAMES)
    path, images = TwoViewPath(source), [source.image(index) for index in range(count)]
    path.add(0, images[0])
    for index in range(count - 1):
        ab, _ = pair_geometry(images[index], images[index + 1], source.camera)
        path.add(index + 1, images[index + 1])
        angle = np.degrees(np.arccos(np.clip((np.trace(ab.rotation) - 1) / 2, -1, 1)))
        flow_px = np.median(np.linalg.norm(ab.flow_ab, axis=2)[ab.usable]) if ab.usable.any() else 0.0
        # Direction is b_from_a's: a camera that goes forward sees the old frame behind it, z < 0.
        what = ab.reason or "direction ({:+.2f}, {:+.2f}, {:+.2f})".format(*ab.direction)
        say(f"{source.frame_name(index)}: flow {flow_px:5.2f} px, usable {ab.usable.mean():4.0%}, turn {angle:5.2f} "
            f"deg, trust {ab.weight:.2f}, {what}")
        if index == 0:
            write_flo(out / "flow.flo", ab.flow_ab)
            write_mask(out / "usable.png", ab.usable)
    trajectory = path.trajectory(range(count), source.time_s)
    if trajectory is not None:
        write_trajectory(out / "two_view_tum.txt", trajectory, format="tum")
        reach = trajectory.world_from_cam.t[-1].norm().item()
        say(f"{count - 1} unit steps lead {reach:.1f} units away; two views tell no speed, a trained run does")


if __name__ == "__main__":
    words = sys.argv[1:]
    own = open_source(words[1], camera=words[2] if len(words) > 2 else None) if len(words) > 1 else None
    main(Path(words[0] if words else "out/pairs"),
         own or load_world("drive", seed=3, frames=5, height=96, width=288, samples=2))
