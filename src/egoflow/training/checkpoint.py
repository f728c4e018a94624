"""Save and resume a run: one safetensors file that holds weights, optimiser, random state and a JSON header.

Nothing is pickled, so loading runs no code. A file is written under a temporary name and renamed: after kill -9 the
last whole one is there.
"""

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from egoflow.config import Run, run_from_json, run_to_json
from egoflow.errors import CheckpointError
from egoflow.methods.base import Method
from egoflow.registry import available_methods, build_method, load_method

FORMAT = 1
MODEL = "model.safetensors"
"""The weights that a fit has chosen, in its folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where a run stands: finished steps, the ``best`` score so far and what the watchdog remembers."""

    step: int = 0
    best: float = float("inf")
    elapsed_s: float = 0.0
    watch: dict[str, Any] | None = None


def save(path: Path, run: Run, method: nn.Module, state: State, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Write a checkpoint atomically; with an ``optimizer`` it can be resumed from.

    Raises CheckpointError in one line when the disk is full or the folder cannot be written; nothing is left behind.
    """
    tensors = {f"model.{name}": value for name, value in method.state_dict().items()}
    if optimizer is not None:
        tensors |= _optimizer_tensors(method, optimizer)
        tensors["random.cpu"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["random.cuda"] = torch.cuda.get_rng_state()
    _write(path, run, state, tensors)


def copy(path: Path, other: Path, run: Run, state: State, *, weights_only: bool = False) -> None:
    """Write the checkpoint ``path`` as ``other``, of another run or state; whole, or with its weights alone."""
    _, _, tensors = read(path)
    _write(other, run, state, {name: value for name, value in tensors.items()
                               if not weights_only or name.startswith("model.")})


def _write(path: Path, run: Run, state: State, tensors: dict[str, Tensor]) -> None:
    """Write tensors with their header whole or not at all."""
    header = {"format": FORMAT, "step": state.step, "best": state.best, "elapsed_s": state.elapsed_s,
              "watch": state.watch, "run": json.loads(run_to_json(run))}
    temporary = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # contiguous() turns channels_last into the plain layout: the file does not depend on how the run was laid out.
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary,
                  metadata={"egoflow": json.dumps(header)})
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(f"{path}: cannot save the checkpoint ({error}); free disk space or give another --out, "
                              f"the last one saved is still whole") from None


def link(path: Path, other: Path) -> None:
    """Make ``other`` the same checkpoint as ``path``, without a copy where the disk knows links."""
    temporary = other.with_name(other.name + ".partial")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:
        shutil.copyfile(path, temporary)
    os.replace(temporary, other)


def _optimizer_tensors(method: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's moments by parameter name."""
    return {f"optim.{name}.{key}": value for name, parameter in method.named_parameters()
            for key, value in optimizer.state.get(parameter, {}).items()}


def read(path: Path) -> tuple[Run, State, dict[str, Tensor]]:
    """Return run, state and tensors of a checkpoint.

    Raises CheckpointError for a missing, damaged or foreign file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("egoflow", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint; give the --out folder of a training run") from None
    except (SafetensorError, OSError, json.JSONDecodeError, UnicodeDecodeError):
        raise CheckpointError(f"{path}: damaged or no safetensors file; use another checkpoint of the run") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of this version of egoflow")
    try:
        entry = load_method(_trusted(header["run"]["method"], path))
        run = run_from_json(json.dumps(header["run"]), entry.config_type, name=path)
        state = State(step=int(header["step"]), best=float(header["best"]), elapsed_s=float(header["elapsed_s"]),
                      watch=header.get("watch"))
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"{path}: its header lacks what egoflow writes; use another checkpoint") from None
    return run, state, tensors


def _trusted(name: str, path: Path) -> str:
    """Return a method's name if it is built in or loaded already: a file must not choose what is imported."""
    if name not in available_methods() and name not in sys.modules:
        raise CheckpointError(f"{path}: was trained with the outside method {name!r}; name it yourself with --method "
                              f"{name} (Python: import it first)")
    return name


def load_weights(method: nn.Module, tensors: dict[str, Tensor], *, path: Path) -> None:
    """Load the model's tensors strictly; raise CheckpointError when they are of another network."""
    weights = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    try:
        method.load_state_dict(weights)
    except RuntimeError:
        own, found = set(method.state_dict()), set(weights)
        odd = sorted(own ^ found)[:1] or ["a tensor of another shape"]
        raise CheckpointError(f"{path}: weights of another method or size (first difference: {odd[0]})") from None


def load_optimizer(method: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restore the optimiser's moments and the random state."""
    for name, parameter in method.named_parameters():
        prefix = f"optim.{name}."
        found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        if found:
            optimizer.state[parameter] = {k: _like(v, parameter) for k, v in found.items()}
    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    """Return a moment on its parameter's device and memory layout; the step counter stays a float32 scalar."""
    if value.dim() == 0:
        return value.to(parameter.device)
    moved = torch.empty_like(parameter, memory_format=torch.preserve_format)
    return moved.copy_(value)


def load_run(folder: Path, *, which: str = "last") -> tuple[Run, Method, State]:
    """Return run, method (on CPU, in evaluation mode) and state of a run folder or checkpoint file.

    In a folder of ``egoflow fit`` the model that was chosen stands for the last.
    """
    path = folder / f"{which}.safetensors" if folder.is_dir() else folder
    if which == "last" and (folder / MODEL).exists():
        path = folder / MODEL
    if which == "best" and folder.is_dir() and not path.exists() and (folder / "last.safetensors").exists():
        raise CheckpointError(f"{path}: no such checkpoint: the run held no frames out to choose it by (train with "
                              f"--set data.validation=0.1); use the last one")
    run, state, tensors = read(path)
    method = build_method(run)
    load_weights(method, tensors, path=path)
    return run, method.eval(), state
