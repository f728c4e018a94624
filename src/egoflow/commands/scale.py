"""``egoflow scale``: give a fit its metres."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from egoflow.inference.metric_scale import KnownDistance, MetricScale

NAME = "scale"
HELP = "turn the unit of a fit into metres, from a speed, a camera height, a GPS track or a known distance"
EXAMPLE = ("egoflow scale runs/fit/ --speed 8.3\n"
           "  egoflow scale runs/fit/ --known-distance 000012:310,80:402,81=2.5")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", metavar="DIR", help="folder of 'egoflow fit'")
    known = parser.add_mutually_exclusive_group(required=True)
    known.add_argument("--speed", type=float, metavar="M_PER_S", help="mean speed over the whole shot, pauses included")
    known.add_argument("--camera-height", type=float, metavar="M", help="height of the camera above the ground that it "
                       "drives along")
    known.add_argument("--gps", metavar="FILE", help="rows time lat lon [alt] in s, degrees and m, or a TUM trajectory")
    known.add_argument("--known-distance", nargs="+", metavar="FRAME:X,Y:X,Y=M",
                       help="distance in metres between the points at two pixels of a frame as prediction/NNN/ "
                            "shows it, bars cut off; of several the mean factor is taken")
    parser.add_argument("--gps-offset", type=float, default=0.0, metavar="S",
                        help="time in the track of the clip's time 0")
    parser.add_argument("--fps", type=float, metavar="N",
                        help="frames a second of images without time stamps, for --speed and --gps")
    parser.add_argument("--shot", type=int, default=0, metavar="N", help="the shot, prediction/NNN, that is asked")


def run(args: argparse.Namespace) -> int:
    """Find the factor, keep it with the model, and write all predictions and pages anew in metres."""
    from pathlib import Path

    from egoflow.console import say
    from egoflow.data.files import only_user
    from egoflow.errors import DataError
    from egoflow.fit.footage import read_footage
    from egoflow.fit.teach import ended

    out = Path(args.run)
    shot = Path("prediction", f"{args.shot:03d}")
    if not ended(out) or not 0 <= args.shot < len(read_footage(out).shots):
        raise DataError(f"{out}: expected the folder of a finished 'egoflow fit' with {shot} in it")
    with only_user(out / "fit.json"):
        _scale(out, out / shot, args)
    say(f"wrote {out} anew in metres")
    return 0


def _scale(out: "Path", folder: "Path", args: argparse.Namespace) -> None:
    """Measure by the shot in ``folder``, keep the factor, and predict anew."""
    from dataclasses import asdict, replace

    from egoflow.console import note, say
    from egoflow.data.files import read_json, write_json
    from egoflow.fit.footage import read_footage
    from egoflow.fit.outcome import finish_again, go_on, is_predicted
    from egoflow.training import checkpoint

    model = out / checkpoint.MODEL
    for shot in read_footage(out).shots:
        # Before anything is changed: what cannot be predicted again is not to be removed.
        shot.source(out).image(0)
    settings, state, _ = checkpoint.read(model)
    if not is_predicted(folder, settings):
        note(f"{out}: was stopped before all of it was predicted; that comes first")
        go_on(out)
    found = _found(args, folder)
    # What is there may be in metres already, by another measurement.
    before = read_json(folder / "prediction.json").get("metres_per_unit") or 1.0
    total = replace(found, **{name: getattr(found, name) * before for name in ("metres_per_unit", "low", "high")})
    checkpoint.copy(model, model, replace(settings, metres_per_unit=total.metres_per_unit), state)
    write_json(out / "scale.json", _finite(asdict(total)))
    say(f"a unit is {total.metres_per_unit:.4g} m (95 %: {total.low:.4g} to {total.high:.4g}), from {total.how}, "
        f"{total.samples} samples")
    finish_again(out)


def _finite(content: dict[str, Any]) -> dict[str, Any]:
    """Return figures as JSON can hold them: an interval that is not known is null."""
    return {key: None if isinstance(value, float) and value != value else value for key, value in content.items()}


def _found(args: argparse.Namespace, folder: "Path") -> "MetricScale":
    """Return the factor by what is given."""
    from pathlib import Path

    from egoflow.errors import ConfigError
    from egoflow.inference.metric_scale import from_camera_height, from_distances, from_gps, from_speed

    for name in ("speed", "camera_height", "fps"):
        value = getattr(args, name)
        if value is not None and not 0 < value < float("inf"):
            raise ConfigError(f"--{name.replace('_', '-')} {value:g}: must be more than 0")
    if args.speed is not None:
        return from_speed(folder, args.speed, fps=args.fps)
    if args.camera_height is not None:
        return from_camera_height(folder, args.camera_height)
    if args.gps is not None:
        return from_gps(folder, Path(args.gps), offset_s=args.gps_offset, fps=args.fps)
    return from_distances(folder, [_distance(text) for text in args.known_distance])


def _distance(text: str) -> "KnownDistance":
    """Return the distance that FRAME:X,Y:X,Y=M says."""
    import re

    from egoflow.errors import ConfigError
    from egoflow.inference.metric_scale import KnownDistance

    number = r"(\d+(?:\.\d+)?)"
    found = re.fullmatch(rf"(.+):{number},{number}:{number},{number}={number}", text.strip())
    if not found or float(found[6]) <= 0:
        raise ConfigError(f"--known-distance {text}: expected FRAME:X,Y:X,Y=METRES, e.g. 000012:310,80:402,81=2.5")
    return KnownDistance(name=found[1], first=(float(found[2]), float(found[3])),
                         second=(float(found[4]), float(found[5])), metres=float(found[6]))
