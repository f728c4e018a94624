"""Does the memory of a prediction stay flat over a long video?

    python benchmarks/long_video.py [--frames 10000] [--preset joint:tiny]

A camera glides over a noise texture; a run trained for two steps predicts the video with every file that it writes by
default, in a process of its own, whose resident memory is read once a second to its end. Writes
results/long_video.json: memory after 200 frames, the least and the most after that, their distance as a share, and
memory along the video. Leave memory free meanwhile: what the system takes back of the libraries counts as a change.
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
EVERY_S = 1.0
POINTS = 20
"""Parts of the video between the values of memory that are kept."""


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
    """Run a prediction below ``folder``; return its finished frames and its memory in MiB, once a second."""
    seen: list[tuple[int, float]] = []
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stderr=log, stdout=log) as process:
        while process.poll() is None:
            mib = resident_mib(process.pid)
            if mib is not None:
                seen.append((len(list(folder.glob("*/depth/*.png"))), mib))
            time.sleep(EVERY_S)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{(folder / 'log').read_text()[-500:]}")
    return seen


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
    after = [mib for done, mib in seen if done >= WARM_UP]
    if not after:
        raise SystemExit(f"no reading after {WARM_UP} frames; give more --frames")
    spread = (max(after) - min(after)) / after[0]
    along = [after[at * (len(after) - 1) // POINTS] for at in range(POINTS + 1)]
    found = {"mib_after_warm_up": round(after[0], 1), "least_mib": round(min(after), 1),
             "most_mib": round(max(after), 1), "spread": round(spread, 4), "mib_along": [round(mib) for mib in along],
             "readings": len(after), "frames": args.frames, "preset": args.preset, "size": f"{HEIGHT}x{WIDTH}",
             "date": date.today().isoformat()}
    say(f"{args.frames} frames: {after[0]:.0f} MiB after {WARM_UP}, then {min(after):.0f} to {max(after):.0f} "
        f"({100 * spread:.1f} %)")
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "long_video.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
