"""``egoflow doctor``: what footage can teach, before anything is trained."""

import argparse
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from egoflow.doctor.diagnosis import Diagnosis
    from egoflow.geometry.camera import Camera
    from egoflow.types import FrameSource

NAME = "doctor"
HELP = "tell what footage can teach, and what is the matter with it, before anything is trained"
EXAMPLE = ("egoflow doctor clip.mp4\n"
           "  egoflow doctor *.mp4 --camera fov=70 --page doctor/")
CANNOT = 1
"""Exit code where some clip cannot teach depth, or cannot be opened."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("source", nargs="+", metavar="SOURCE", help="video, image folder, drive, sequence or world")
    parser.add_argument("--camera", metavar="CAMERA",
                        help="camera.json, fx,fy,cx,cy in pixels, fov=DEGREES or exif; wins over what a clip brings")
    parser.add_argument("--frames", metavar="SLICE", help="which frames of each clip, e.g. 0:200 (default: all)")
    parser.add_argument("--json", action="store_true", help="write one JSON list, a clip an object")
    parser.add_argument("--page", metavar="DIR", help="also write a page with the evidence as pictures; must not exist")


def run(args: argparse.Namespace) -> int:
    """Examine clip by clip; returns 1 where one cannot teach depth, or cannot be opened."""
    from contextlib import ExitStack
    from pathlib import Path

    from egoflow.console import note, say
    from egoflow.data.files import new_folder
    from egoflow.data.open import continuous_runs
    from egoflow.doctor.diagnosis import diagnose
    from egoflow.errors import DataError
    from egoflow.report.doctor_page import clip_section, write_page

    # All are opened before any is examined: what is wrong with the last is not said after an hour.
    clips, unreadable = [], []
    for path in args.source:
        try:
            clips += _opened(path, args)
        except DataError as error:
            if len(args.source) == 1:
                raise
            note(f"left out: {error}")
            unreadable.append(error)
    if not clips:
        raise DataError(f"none of the {len(unreadable)} sources can be opened; the first: {unreadable[0]}")
    facts, sections = [], []
    with ExitStack() as stack:
        folder = None if args.page is None else stack.enter_context(new_folder(Path(args.page)))
        for number in range(len(clips)):
            # Taken out: a video that was read holds frames and a decoder.
            path, source, camera = clips.pop(0)
            diagnosis = diagnose(source, camera=camera, runs=continuous_runs(source))
            commands = {"next": _next, "fit": _fit}
            facts.append({"path": path} | diagnosis.json() | {
                name: None if diagnosis.verdict == "cannot" else words(args, path, source, diagnosis)
                for name, words in commands.items()})
            if not args.json:
                say(_text(diagnosis, facts[-1]))
            if folder is not None:
                sections.append(clip_section(folder, source, diagnosis, prefix=f"clip{number}"))
        if folder is not None:
            write_page(folder, sections)
    if args.json:
        say(json.dumps(facts, allow_nan=False))
    else:
        if len(facts) > 1:
            say(_table(facts))
        if args.page is not None:
            say(f"wrote {Path(args.page) / 'index.html'}")
    return CANNOT if unreadable or any(about["verdict"] == "cannot" for about in facts) else 0


def _opened(path: str, args: argparse.Namespace) -> "list[tuple[str, FrameSource, Camera | None]]":
    """Open what lies at a path: each clip with the path of its own and the camera that is known of it."""
    from pathlib import Path

    from egoflow.config import DataConfig
    from egoflow.training.session import open_known

    sources, known = open_known(DataConfig(paths=(path,), camera=args.camera, frames=args.frames))
    inside = [Path(path) / source.name for source in sources]
    own = [str(clip) if len(sources) > 1 and clip.exists() else path for clip in inside]
    return [(where, source, source.camera if known else None) for where, source in zip(own, sources, strict=True)]


def _text(diagnosis: "Diagnosis", about: dict[str, Any]) -> str:
    """Return a clip's verdict, findings and figures for a terminal."""
    from egoflow.doctor.diagnosis import VERDICTS

    rate = f" at {about['frames_per_s']:.3g} a second" if about["frames_per_s"] else ""
    blur = f"; blur {about['blur']:.2f} of 1" if about["blur"] is not None else ""
    lines = [f"{about['path']}: {VERDICTS[diagnosis.verdict]}",
             f"  {about['frames']} frames of {about['height']}x{about['width']}{rate}{blur}"]
    if about["motion"] is not None:
        movers = "" if about["movers"] is None else f", {about['movers']:.0%} off the rigid motion"
        gap = f"{diagnosis.gap} frame{'s' * (diagnosis.gap > 1)}"
        lines.append(f"  over {gap} the image moves by {about['motion']:.2%} of its longer side, parallax "
                     f"{about['parallax']:.2%}, {about['found_again']:.0%} found again{movers}")
    for finding in diagnosis.findings:
        sign = {"fatal": "!!", "mend": " !", "note": "  "}[finding.severity]
        lines.append(f" {sign} {finding.name}: {finding.text}")
        lines += [f"      -> {finding.remedy}"] if finding.remedy else []
    if about["next"]:
        lines += [f"  next: {about['next']}", f"  or, mended and trained in one: {about['fit']}"]
    return "\n".join(lines)


def _table(facts: list[dict[str, Any]]) -> str:
    """Return all clips in a table: what each can teach, how to train with it, and what is the matter."""
    rows = [("verdict", "frames", "size", "rate", "gap", "found", "clip")]
    for about in facts:
        found = ", ".join(finding["name"] for finding in about["findings"] if finding["severity"] != "note")
        rate = f"{about['frames_per_s']:.3g}" if about["frames_per_s"] else "-"
        rows.append((about["verdict"], f"{about['frames']}", f"{about['height']}x{about['width']}", rate,
                     "-" if about["verdict"] == "cannot" else f"{about['gap']}", found or "-", about["path"]))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                     for row in rows)


def _next(args: argparse.Namespace, path: str, source: "FrameSource", diagnosis: "Diagnosis") -> str:
    """Return the command to train with, on the frames and with the camera that can teach."""
    from egoflow.console import command_line

    mended = _mended(source, diagnosis)
    camera = diagnosis.suggested_camera() if mended or not diagnosis.camera_known else args.camera
    frames = _slice(args, source, diagnosis)
    height, width = diagnosis.size
    words: list[object] = ["train", "joint:tiny", "--data", path, *(["--camera", camera] if camera else []),
                           *([f"--frames={frames}"] if frames else []), "--out", f"runs/{_short_name(path)}", "--set",
                           f"data.gap={diagnosis.gap}", f"data.height={height}", f"data.width={width}"]
    return command_line(*words)


def _mended(source: "FrameSource", diagnosis: "Diagnosis") -> bool:
    """Say whether the footage's own focal length is to be taken in place of the camera that is given."""
    from egoflow.data.open import is_straightened

    # A suggestion says nothing of a lens: with one, the frames would not be those that were looked at.
    return diagnosis.contradicts_camera() and not is_straightened(source)


def _fit(args: argparse.Namespace, path: str, source: "FrameSource", diagnosis: "Diagnosis") -> str:
    """Return the command that cuts, drops and paints over by itself what can be mended, and then trains."""
    from egoflow.console import command_line

    camera = "learn" if _mended(source, diagnosis) else args.camera
    return command_line("fit", path, *(["--camera", camera] if camera else []),
                        *([f"--frames={args.frames}"] if args.frames else []), "--out",
                        f"runs/{_short_name(path)}-fit")


def _short_name(path: str) -> str:
    """Return the name of a run for a clip: that of its file or folder without the ending, or of its world."""
    from pathlib import Path

    return Path(path.split("?")[0].removeprefix("world:")).stem or "clip"


def _slice(args: argparse.Namespace, source: "FrameSource", diagnosis: "Diagnosis") -> str | None:
    """Return the frames of the longest shot as --frames of the whole clip; the user's own where there is one shot."""
    from egoflow.data.open import FrameSlice

    shot = diagnosis.shot()
    if len(diagnosis.survey.shots) == 1:
        return args.frames
    if not isinstance(source, FrameSlice):
        return f"{shot.start}:{shot.stop}"
    indices = [source.indices[i] for i in shot]
    step = indices[1] - indices[0] if len(indices) > 1 else 1
    return f"{indices[0]}:{indices[-1] + 1}" + (f":{step}" if step > 1 else "")
