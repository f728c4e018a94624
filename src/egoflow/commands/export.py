"""``egoflow export``: a trained run as files to deploy, with what they are worth."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from egoflow.config import Run
    from egoflow.inference.export import Graph

NAME = "export"
HELP = "write a trained run as ONNX or a torch program, verified, with a runner without torch and a model card"
EXAMPLE = ("egoflow export runs/fit/ --what depth --out deploy/\n"
           "  egoflow export runs/fit/ --what joint --format torch --out deploy/")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", metavar="RUN", help="folder of 'egoflow fit' or 'egoflow train', or a checkpoint")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write; must not exist")
    parser.add_argument("--what", choices=("depth", "motion", "flow", "joint"), default="depth",
                        help="what the model gives: of one image depth, of two camera motion, flow, or all three")
    parser.add_argument("--format", choices=("onnx", "torch"), default="onnx",
                        help="ONNX, or a program for torch.export.load; both take any height and width")
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last", help="which weights of the run")


def run(args: argparse.Namespace) -> int:
    """Export, compare with torch at three sizes, and write the folder whole or not at all."""
    from pathlib import Path

    from egoflow.console import say
    from egoflow.data.files import new_folder, write_json
    from egoflow.errors import TrainingError
    from egoflow.inference.export import MOST_OFF, Graph, Loaded, largest_difference, speeds, write_graph
    from egoflow.inference.model_card import model_card
    from egoflow.training.checkpoint import load_run

    settings, method, _ = load_run(Path(args.run), which=args.checkpoint)
    graph = Graph(method, args.what, metres_per_unit=settings.metres_per_unit or 1.0)
    height, width = settings.data.height, settings.data.width
    with new_folder(Path(args.out)) as folder:
        file = folder / ("model.onnx" if args.format == "onnx" else "model.pt2")
        write_graph(file, graph, format=args.format)
        loaded = Loaded(file, what=args.what, format=args.format)
        sizes = [(height, width), (height + 32, width + 64), (height - 7, width + 13)]
        differences = largest_difference(graph, loaded, sizes)
        largest = max(value for found in differences.values() for value in found.values())
        if not all(value <= MOST_OFF for found in differences.values() for value in found.values()):
            raise TrainingError(f"{args.out}: the exported model is {largest:.2g} off torch's, more than {MOST_OFF:g}; "
                                f"nothing was written")
        rates = speeds(graph, loaded, height=height, width=width)
        manifest = _manifest(args, settings, graph, file) | {"largest_difference": differences, "frames_per_s": rates}
        write_json(folder / "manifest.json", manifest)
        _write_beside(folder, args, model_card(Path(args.run), settings, manifest))
    say(f"wrote {args.out}: {args.what} at any size, at most {largest:.1e} off torch at "
        + ", ".join(differences) + f"; {rates['exported']:.1f} frames a second on this CPU, torch {rates['torch']:.1f}")
    return 0


def _manifest(args: argparse.Namespace, settings: "Run", graph: "Graph", file: "Path") -> dict[str, Any]:
    """Return what the file is, for programs: the runner reads it."""
    from pathlib import Path

    from egoflow.inference.export import MEANINGS, SIGNATURES
    from egoflow.inference.model_card import trained_cameras
    from egoflow.inference.writer import LARGEST, PNG_UNITS

    names, unit = SIGNATURES[graph.what], settings.metres_per_unit
    scale = "metric" if unit else "relative"
    word = "metres" if unit else "an unknown unit, one for all frames"
    return {"file": file.name, "format": args.format, "what": graph.what,
            "method": f"{settings.method}:{settings.preset}", "size": [settings.data.height, settings.data.width],
            "inputs": {name: "RGB images [B, 3, H, W] in [0, 1], any H and W" for name in names.inputs},
            "outputs": {name: MEANINGS[name].format(unit=word) for name in names.outputs},
            "scale": scale, "metres_per_unit": unit, "gap": settings.data.gap,
            "camera": trained_cameras(settings, Path(args.run)),
            "depth_png": {"png_units_per_depth_unit": PNG_UNITS / (unit or 1), "largest": LARGEST * (unit or 1),
                          "scale": scale, "resized_as": "inverse depth"}}


def _write_beside(folder: "Path", args: argparse.Namespace, card: str) -> None:
    """Write the model card, and for ONNX the runner."""
    from importlib.resources import files

    from egoflow.data.files import write_bytes

    write_bytes(folder / "README.md", card.encode())
    if args.format == "onnx":
        write_bytes(folder / "run_onnx.py", files("egoflow.inference").joinpath("onnx_runner.py").read_bytes())
