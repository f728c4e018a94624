"""Does the memory of a prediction stay flat over a long video?

    python benchmarks/long_video.py [--frames 10000] [--preset joint:tiny]

A camera glides over a noise texture; a run trained for two steps predicts the video with every file that it writes by
default, in a process of its own, whose resident memory is read twenty times a second to its end. Memory goes up and
down within each frame, so parts of the video are compared: after 200 frames, twenty parts, of each the least, median
and most. Writes them to results/long_video.json, and how far the parts' medians and mosts lie apart, as a share of the
first part's. Leave memory free meanwhile: what the system takes back of the libraries counts as a change.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import cv2
import numpy as np

from egoflow.console import say
from egoflow.data.video_writer import VideoWriter

HEIGHT, WIDTH = 64, 192
WARM_UP = 200
EVERY_S = 0.05
COUNT_EVERY = 20
"""Readings between two counts of the files written, which take longer than a reading."""
PARTS = 20


def write_video(path: Path, frames: int) -> None:
    """Write a glide over a texture: a slow curve, and a zoom as of a camera that sinks and climbs."""
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.uniform(0, 255, (1024, 1024, 3)).astype(np.float32), (0, 0), 2.0)
    texture = cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    with VideoWriter(path, fps=30) as video:
        for k in range(frames):
            zoom = 1 + 0.2 * np.sin(k / 20)
            x, y = 512 + 300 * np.sin(k / 100), 512 + 300 * np.cos(k / 130)
            place = np.array([[zoom, 0, x - zoom * WIDTH / 2], [0, zoom, y - zoom * HEIGHT / 2]])
            video.write(cv2.warpAffine(texture, place, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP))


def resident_mib(process: int) -> float | None:
    """Return the resident memory of a process, None of one that has just ended."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), None)


def watched(command: list[str], folder: Path) -> list[tuple[int, float]]:
    """Run a prediction below ``folder``; return its finished frames and its memory in MiB, time and again."""
    seen: list[tuple[int, float]] = []
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stderr=log, stdout=log) as process:
        while process.poll() is None:
            done = len(list(folder.glob("*/depth/*.png"))) if len(seen) % COUNT_EVERY == 0 else seen[-1][0]
            mib = resident_mib(process.pid)
            if mib is None:
                break
            seen.append((done, mib))
            time.sleep(EVERY_S)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{(folder / 'log').read_text()[-500:]}")
    return seen


def along(seen: list[tuple[int, float]], frames: int) -> list[tuple[float, float, float]]:
    """Return least, median and most MiB of each part after the warm-up; all after the video is in the last."""
    parts: list[list[float]] = [[] for _ in range(PARTS)]
    for done, mib in seen:
        if done >= WARM_UP:
            parts[min(PARTS * (done - WARM_UP) // (frames - WARM_UP), PARTS - 1)].append(mib)
    if not all(parts):
        raise SystemExit(f"a {PARTS}th of the video after {WARM_UP} frames has no reading; give more --frames")
    return [(round(min(part), 1), round(float(np.median(part)), 1), round(max(part), 1)) for part in parts]


def spread(values: list[float]) -> float:
    """Return how far values lie apart, as a share of the first."""
    return round((max(values) - min(values)) / values[0], 4)


def main() -> None:
    """Print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--preset", default="joint:tiny")
    args = parser.parse_args()
    egoflow = [sys.executable, "-m", "egoflow"]
    with tempfile.TemporaryDirectory() as name:
        folder, video = Path(name), Path(name) / "long.mp4"
        write_video(video, args.frames)
        subprocess.run([*egoflow, "train", args.preset, "--data", str(video), "--camera", "fov=70", "--frames", ":40",
                        "--set", "loop.steps=2", f"data.height={HEIGHT}", f"data.width={WIDTH}", "--out",
                        str(folder / "run")], check=True, stdout=subprocess.DEVNULL)
        (folder / "out").mkdir()
        seen = watched([*egoflow, "predict", str(folder / "run"), str(video), "--out", str(folder / "out" / "all")],
                       folder / "out")
    parts = along(seen, args.frames)
    least, median, most = ([part[at] for part in parts] for at in range(3))
    found = {"median_spread": spread(median), "most_spread": spread(most), "least_median_most_mib": parts,
             "readings": len(seen), "frames": args.frames, "preset": args.preset, "size": f"{HEIGHT}x{WIDTH}",
             "date": date.today().isoformat()}
    say(f"{args.frames} frames, MiB in {PARTS} parts after {WARM_UP}: least {min(least):.0f} to {max(least):.0f}, "
        f"median {min(median):.0f} to {max(median):.0f} ({100 * spread(median):.1f} %), "
        f"most {min(most):.0f} to {max(most):.0f} ({100 * spread(most):.1f} %)")
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "long_video.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
