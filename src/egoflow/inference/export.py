"""A trained method as a file to deploy: ONNX with any height and width, or a torch program; verified before it is kept.

What is exported are the networks alone, at whatever size they are given: images in, depth, motion and flow out. The
runner that is written beside (runner.py) brings frames to that size and back without torch.
"""

import logging
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from egoflow.errors import ConfigError
from egoflow.geometry.precision import full_precision
from egoflow.methods.base import Method

What = Literal["depth", "motion", "flow", "joint"]
Format = Literal["onnx", "torch"]
OPSET = 18
TRACED_AT = (65, 129)
"""Odd at every level of a pyramid that halves: at a size that is even somewhere, cropping to the finer level is nothing
to do, and would be left out of the graph for all sizes."""
MOST_OFF = 1e-4
"""Largest difference to torch at which an export is kept, relative to the largest value of an output."""
_TIMED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The names of a graph's inputs, each images [B, 3, H, W] in [0, 1], and of its outputs."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


SIGNATURES: dict[What, Signature] = {
    "depth": Signature(inputs=("image",), outputs=("depth",)),
    "motion": Signature(inputs=("image_a", "image_b"), outputs=("b_from_a",)),
    "flow": Signature(inputs=("image_a", "image_b"), outputs=("flow_ab",)),
    "joint": Signature(inputs=("image_a", "image_b"), outputs=("depth_a", "b_from_a", "flow_ab")),
}
MEANINGS = {
    "depth": "z in the camera's axes (x right, y down, z forward), [B, 1, H, W], in {unit}",
    "b_from_a": "[B, 3, 4]: the point p of camera a is R p + t in camera b, t in {unit}",
    "flow_ab": "[B, 2, H, W] in pixels, x then y: the pixel x of a is seen at x + flow in b",
}
MEANINGS["depth_a"] = MEANINGS["depth"]


class Graph(nn.Module):
    """What a method says of images, as one function of tensors."""

    def __init__(self, method: Method, what: What, *, metres_per_unit: float = 1.0) -> None:
        super().__init__()
        need = {"depth": ("depth",), "motion": ("motion_between",), "flow": ("flow",),
                "joint": ("depth", "motion_between", "flow")}[what]
        if missing := [name for name in need if not hasattr(method, name)]:
            raise ConfigError(f"--what {what}: this method gives no {missing[0].removesuffix('_between')}; choose "
                              + ", ".join(sorted(_offered(method))))
        self.method, self.unit = method, metres_per_unit
        self.eval()
        self.what: What = what

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs that ``SIGNATURES`` names."""
        found: list[Tensor] = []
        if self.what in ("depth", "joint"):
            found.append(self.unit / full_precision(self.method.depth(images[0])[0]))  # type: ignore[operator]
        if self.what in ("motion", "joint"):
            motion = self.method.motion_between(*images)  # type: ignore[operator]
            found.append(torch.cat((motion.R, self.unit * motion.t[..., None]), dim=-1))
        if self.what in ("flow", "joint"):
            found.append(self.method.flow(*images)[0])  # type: ignore[operator]
        return tuple(found)


def _offered(method: Method) -> list[str]:
    """Return what can be exported of a method."""
    has = {"depth": hasattr(method, "depth"), "motion": hasattr(method, "motion_between"),
           "flow": hasattr(method, "flow")}
    return [*(name for name, yes in has.items() if yes), *(["joint"] if all(has.values()) else [])]


def example(graph: Graph, *, height: int, width: int, seed: int = 0) -> tuple[Tensor, ...]:
    """Return smooth random images for every input of a graph; the second is the first one moved a little."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 8 + 2, width // 8 + 2, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, (height + 2, width + 4), mode="bilinear")
    views = fine[..., :height, :width].contiguous(), fine[..., 2:, 4:].contiguous()
    return views[:len(SIGNATURES[graph.what].inputs)]


def write_graph(path: Path, graph: Graph, *, format: Format) -> None:
    """Write a graph for images of any height and width.

    Raises ConfigError where the packages of ``egoflow[export]`` are missing.
    """
    any_size = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    images = example(graph, height=TRACED_AT[0], width=TRACED_AT[1])
    shapes = (tuple(any_size for _ in images),)
    with torch.no_grad(), warnings.catch_warnings(action="ignore", category=FutureWarning):
        if format == "torch":
            torch.export.save(torch.export.export(graph, images, dynamic_shapes=shapes), path)
            return
        names = SIGNATURES[graph.what]
        # It warns of torchvision's operators, which no graph here has, and of its own insides.
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        try:
            program = torch.onnx.export(graph, images, dynamo=True, dynamic_shapes=shapes, opset_version=OPSET,
                                        input_names=list(names.inputs), output_names=list(names.outputs), verbose=False)
        except ImportError as error:
            raise ConfigError(f"ONNX needs the package {error.name}: pip install 'egoflow[export]'") from None
        assert program is not None
        program.save(path, include_initializers=True)


class Loaded:
    """An exported file, run on CPU; ``__call__`` takes and returns what the graph does, as arrays."""

    def __init__(self, path: Path, *, what: What, format: Format) -> None:
        self._names = SIGNATURES[what]
        self._torch = self._session = None
        if format == "torch":
            self._torch = torch.export.load(path).module()
            return
        try:
            import onnxruntime
        except ImportError:
            raise ConfigError("verifying ONNX needs onnxruntime: pip install 'egoflow[export]'") from None
        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def __call__(self, *images: np.ndarray) -> list[np.ndarray]:
        """Return the outputs for images float32 [B, 3, H, W]."""
        if self._torch is not None:
            with torch.no_grad():
                return [value.numpy() for value in self._torch(*map(torch.from_numpy, images))]
        assert self._session is not None
        values = self._session.run(list(self._names.outputs), dict(zip(self._names.inputs, images, strict=True)))
        return [np.asarray(value) for value in values]


def largest_difference(graph: Graph, loaded: Loaded, sizes: Sequence[tuple[int, int]]) -> dict[str, dict[str, float]]:
    """Return for every size "HxW" and output the largest difference to torch, relative to the largest value there.

    Of a motion that of the rotation or of the translation, whichever is larger: in small units a translation is nothing
    beside a rotation's ones.
    """
    found: dict[str, dict[str, float]] = {}
    for number, (height, width) in enumerate(sizes):
        images = example(graph, height=height, width=width, seed=number + 1)
        with torch.no_grad():
            wanted = [value.numpy() for value in graph(*images)]
        said = loaded(*(image.numpy() for image in images))
        found[f"{height}x{width}"] = {
            name: max(float(np.abs(x - y).max() / np.abs(x).max()) for x, y in _parts(name, a, b))
            for name, a, b in zip(SIGNATURES[graph.what].outputs, wanted, said, strict=True)}
    return found


def _parts(name: str, *arrays: np.ndarray) -> list[tuple[np.ndarray, ...]]:
    """Return arrays as what is to be compared on its own: rotations and translations apart."""
    if name != "b_from_a":
        return [arrays]
    return [tuple(array[..., :3] for array in arrays), tuple(array[..., 3:] for array in arrays)]


def speeds(graph: Graph, loaded: Loaded, *, height: int, width: int) -> dict[str, float]:
    """Return frames a second of torch and of the exported file on this CPU, the best of several."""
    images = example(graph, height=height, width=width)
    arrays = [image.numpy() for image in images]

    def rate(call: Any) -> float:
        call()
        best = min(_seconds(call) for _ in range(_TIMED))
        return 1 / max(best, 1e-9)

    with torch.no_grad():
        return {"torch": rate(lambda: graph(*images)), "exported": rate(lambda: loaded(*arrays))}


def _seconds(call: Any) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun
