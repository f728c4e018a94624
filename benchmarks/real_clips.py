"""What does a fit of real clips come to, as a user would run it, beside the truth that the fit does not read?

    python benchmarks/real_clips.py --data DIR --out DIR [--clips residential tsukuba] [--budget 10m]

``--data`` holds the folders of images that ``CLIPS`` names; they are not part of egoflow.
Each clip becomes one mp4, ``egoflow fit`` runs on it with ``--budget`` alone (``residential_camera``: with its camera
too), and depth and path are scored. Writes results/real_clips.json, clip by clip. Training is measured in minutes: let
nothing else run.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import torch

from egoflow.console import say
from egoflow.data.formats import read_image
from egoflow.data.trajectories import read_trajectory, write_trajectory
from egoflow.training.precision import in_bfloat16

EGOFLOW = (sys.executable, "-m", "egoflow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A clip's ``folder`` and ``images`` below it, at ``fps``; with its true poses and depths, and ``camera`` if given.

    The truth of depth is named after the images.
    """

    folder: str
    images: str
    fps: int
    poses: str | None = None
    depths: str | None = None
    camera: str | None = None


_RESIDENTIAL = {"folder": "kitti-raw-residential-377", "images": "image_0", "fps": 10, "poses": "poses.txt",
                "depths": "depth_lidar"}
CLIPS = {"residential_camera": Clip(**_RESIDENTIAL, camera="721.5377,721.5377,609.5593,172.854"),
         "residential": Clip(**_RESIDENTIAL),
         "moving": Clip(folder="kitti-raw-moving-91", images="image_2", fps=10),
         "tsukuba": Clip(folder="new-tsukuba-150", images="image", fps=30, poses="poses.txt"),
         "drone": Clip(folder="drone-crazyflie-91", images="image", fps=10, poses="poses.txt")}


def write_video(path: Path, images: list[Path], *, fps: int) -> None:
    """Write images of any size, also an odd one, as H.264 that nobody would tell from them."""
    height, width = read_image(images[0]).shape[:2]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(fps))
        stream.height, stream.width = height, width
        stream.pix_fmt, stream.options = "yuv444p", {"crf": "15"}
        for image in images:
            frame: Any = av.VideoFrame.from_ndarray(read_image(image), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def truth_by_number(folder: Path, images: list[Path], out: Path) -> Path:
    """Return a folder of links to true depths under the names that frames of a video have: their number."""
    out.mkdir(exist_ok=True)
    for number, image in enumerate(images):
        link, truth = out / f"{number:06d}.png", folder / f"{image.stem}.png"
        if truth.exists() and not link.exists():
            link.symlink_to(truth.resolve())
    return out


def truth_by_time(poses: Path, path: Path, *, fps: int) -> Path:
    """Write true poses with the time stamps of the video: a fit leaves out frames that repeat the one before."""
    truth = read_trajectory(poses, format="kitti")
    write_trajectory(path, replace(truth, time_s=truth.time_s / fps), format="tum")
    return path


def scored(*words: str) -> dict[str, Any]:
    """Return what ``egoflow evaluate`` says, but of every image."""
    done = subprocess.run([*EGOFLOW, "evaluate", *words, "--json"], check=True, stdout=subprocess.PIPE)
    return {name: value for name, value in json.loads(done.stdout).items() if name != "per_image"}


def measured(clip: Clip, data: Path, out: Path, *, budget: str) -> dict[str, Any]:
    """Fit a clip into ``out/run``, or go on with it, and return its figures."""
    images = sorted((data / clip.folder / clip.images).glob("*.*"))
    if not images:
        raise SystemExit(f"{data / clip.folder / clip.images}: expected the images of the clip; give their --data")
    out.mkdir(parents=True, exist_ok=True)
    video, run = out / "clip.mp4", out / "run"
    if not video.exists():
        write_video(video, images, fps=clip.fps)
    given = ["--camera", clip.camera] if clip.camera else []
    subprocess.run([*EGOFLOW, "fit", str(video), *given, "--budget", budget, "--out", str(run)], check=True)
    known = json.loads((run / "metrics.json").read_text())
    found = {name: known[name] for name in ("recipe", "steps", "chosen_step", "training_s", "unexplained")}
    found["camera"] = known["shots"][0]["camera"]
    prediction = str(run / "prediction" / "000")
    if clip.poses:
        truth = truth_by_time(data / clip.folder / clip.poses, out / "truth.txt", fps=clip.fps)
        found["path"] = scored("odometry", "--prediction", prediction, "--truth", str(truth), "--align", "sim3")
    if clip.depths:
        truth = truth_by_number(data / clip.folder / clip.depths, images, out / "truth")
        found["depth"] = scored("depth", "--prediction", prediction, "--truth", str(truth), "--crop", "garg", "--cap",
                                "80", "--scale", "median")
    return found


def main() -> None:
    """Print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("EGOFLOW_DATA"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", nargs="+", choices=CLIPS, default=list(CLIPS))
    parser.add_argument("--budget", default="10m")
    args = parser.parse_args()
    if args.data is None:
        parser.error("give --data, the folder of the clips, or set EGOFLOW_DATA")
    path = Path(__file__).parent / "results" / "real_clips.json"
    for name in args.clips:
        known = json.loads(path.read_text()) if path.exists() else {}
        found = measured(CLIPS[name], args.data, args.out / name, budget=args.budget)
        found |= {"budget": args.budget, "bfloat16": in_bfloat16("auto", torch.device("cpu")),
                  "threads": torch.get_num_threads(), "torch": torch.__version__, "date": date.today().isoformat()}
        path.write_text(json.dumps(known | {name: found}, indent=1) + "\n")
        say(f"{name}: {found['steps']} steps leave {found['unexplained']['chosen']:.3f} unexplained"
            + (f", ATE {found['path']['ate_rmse_m']:.3f}" if "path" in found else "")
            + (f", abs_rel {found['depth']['abs_rel']:.3f}" if "depth" in found else ""))


if __name__ == "__main__":
    main()
