"""Does the doctor name what is the matter? Every defect on five drives, and clips that are right.

    python benchmarks/doctor.py [--seeds 5] [--first 0] [--frames 40]

A clip is named rightly when the defect's finding is there and no other that asks for something; clips without a defect
(drives, and rooms seen from a hand) when there is none. Writes results/doctor_FIRST.json.
"""

import argparse
import json
from datetime import date
from pathlib import Path

from egoflow.console import say
from egoflow.doctor.diagnosis import Diagnosis, diagnose
from egoflow.types import FrameSource
from egoflow.worlds.base import load_world
from egoflow.worlds.defects import DEFECTS, Kept

HEIGHT, WIDTH = 128, 384


def clips_of(seed: int, frames: int) -> dict[str, tuple[FrameSource, str | None]]:
    """Return every clip of a seed by its name, with the finding that is due (None: nothing)."""
    drive = Kept(load_world("drive", seed=seed, frames=frames, height=HEIGHT, width=WIDTH, samples=1, shadows=False))
    room = load_world("boxes", seed=seed, frames=frames, height=HEIGHT, width=WIDTH, speed=5.0, turn_deg=6.0,
                      texture_ratio=1.0)
    good: dict[str, tuple[FrameSource, str | None]] = {"nothing (drive)": (drive, None), "nothing (room)": (room, None)}
    return good | {name: (make(seed, drive), due) for name, (make, due) in DEFECTS.items()}


def rightly(found: Diagnosis, due: str | None) -> bool:
    """Say whether the finding that is due, and no other, was made."""
    return found.names() == ([due] if due else [])


def main() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--frames", type=int, default=40)
    args = parser.parse_args()
    table: dict[str, list[str]] = {}
    right: dict[str, int] = {}
    for seed in range(args.first, args.first + args.seeds):
        for name, (clip, due) in clips_of(seed, args.frames).items():
            kept = Kept(clip)
            found = diagnose(kept, camera=kept.camera)
            table.setdefault(name, []).append(f"{found.verdict}: {', '.join(found.names()) or 'nothing'}")
            right[name] = right.get(name, 0) + rightly(found, due)
    for name, told in table.items():
        say(f"{name:16s} {right[name]} of {args.seeds}  {' | '.join(told)}")
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    content = {"right": right, "seeds": args.seeds, "first": args.first, "frames": args.frames,
               "size": f"{HEIGHT}x{WIDTH}", "told": table,
               "date": date.today().isoformat()}
    (folder / f"doctor_{args.first}.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
