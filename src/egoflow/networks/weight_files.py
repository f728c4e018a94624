"""Files of published weights: tensors by name, each of which must find its place in a network of ours."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from egoflow.errors import CheckpointError


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors or .pth file by name; no code in the file runs.

    Raises CheckpointError for a file that is missing, damaged or holds more than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; download the published weights and give their path") from None
    except Exception:  # noqa: BLE001  a damaged pickle fails in a dozen ways, KeyError and AssertionError among them
        raise CheckpointError(f"{path}: damaged, or more than tensors; give the file of weights as published") from None
    if not isinstance(weights, dict) or not all(isinstance(name, str) and isinstance(value, Tensor)
                                                for name, value in weights.items()):
        raise CheckpointError(f"{path}: holds no tensors by name; give the file of weights as published")
    return weights


def placed(own: dict[str, Tensor], published: dict[str, Tensor], theirs: Callable[[str], str], *, source: str,
           hint: str) -> dict[str, Tensor]:
    """Return published tensors under our names; ``theirs`` says what the published network calls a tensor of ``own``.

    Raises CheckpointError that names ``source`` and the first tensor that is missing, of another shape or left over,
    and gives the ``hint``.
    """
    left, found = dict(published), {}
    for name, value in own.items():
        other = theirs(name)
        if other not in left:
            raise CheckpointError(f"{source}: {other} is missing; {hint}")
        found[name] = left.pop(other)
        if found[name].shape != value.shape:
            raise CheckpointError(f"{source}: {other} has the shape {tuple(found[name].shape)}, expected "
                                  f"{tuple(value.shape)}; {hint}")
    if left:
        raise CheckpointError(f"{source}: {min(left)} has no place in this network; {hint}")
    return found
