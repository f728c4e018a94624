"""Published weights of RAFT under our names.

Two layouts are known by the names of their tensors: "princeton", that of Teed & Deng's released code (``fnet``,
``cnet``, ``update_block``, each behind ``module.`` as it was trained on several GPUs), and torchvision's.

Both look correlations up in windows that run along x first (the released code adds (dy, dx) to (x, y)). The layer that
reads the windows is linear: permuting its inputs once, here, gives the same network without a switch in the look-up.
"""

import re
from pathlib import Path

from torch import Tensor

from egoflow.errors import CheckpointError
from egoflow.networks.all_pairs import LEVELS
from egoflow.networks.raft import RAFT
from egoflow.networks.weight_files import placed, read_tensors

TWICE = re.compile(r"cnet\.layer[23]\.0\.norm3\.")
"""Princeton's shortcuts register their normalisation under two names; the other one is ``downsample.1``."""
READS_WINDOWS = "update.motion.correlation.0.0.weight"
OTHER_SIZE = "are these weights of the other size (small or not) of RAFT?"


def princeton_names(*, separable: bool) -> dict[str, str]:
    """Return our names of layers -> those of the released code; RAFT-small's gates are not ``separable``."""
    names = {"update.motion.correlation.0.0": "update_block.encoder.convc1",
             "update.motion.correlation.1.0": "update_block.encoder.convc2",
             "update.motion.flow.0.0": "update_block.encoder.convf1",
             "update.motion.flow.1.0": "update_block.encoder.convf2",
             "update.motion.join.0": "update_block.encoder.conv",
             "update.head.0.0": "update_block.flow_head.conv1", "update.head.1": "update_block.flow_head.conv2",
             "mask.0.0": "update_block.mask.0", "mask.1": "update_block.mask.2"}
    for number in range(2):
        suffix = number + 1 if separable else ""
        for ours, theirs in (("update", "z"), ("reset", "r"), ("candidate", "q")):
            names[f"update.passes.{number}.{ours}"] = f"update_block.gru.conv{theirs}{suffix}"
    for ours, theirs in (("features", "fnet"), ("context", "cnet")):
        names |= {f"{ours}.stem.0": f"{theirs}.conv1", f"{ours}.stem.1": f"{theirs}.norm1",
                  f"{ours}.head": f"{theirs}.conv2"}
        for block, theirs_block in _blocks(ours, theirs):
            names |= {f"{block}.shortcut.{i}": f"{theirs_block}.downsample.{i}" for i in range(2)}
            for i in range(3):
                names |= {f"{block}.body.{i}.0": f"{theirs_block}.conv{i + 1}",
                          f"{block}.body.{i}.1": f"{theirs_block}.norm{i + 1}"}
    return names


def torchvision_names() -> dict[str, str]:
    """Return our names of layers -> those of torchvision's ``raft_large`` and ``raft_small``."""
    motion = "update_block.motion_encoder"
    names = {"update.motion.join.0": f"{motion}.conv.0",
             "update.head.0.0": "update_block.flow_head.conv1", "update.head.1": "update_block.flow_head.conv2",
             "mask.0.0": "mask_predictor.convrelu.0", "mask.1": "mask_predictor.conv"}
    for number in range(2):
        names |= {f"update.motion.correlation.{number}.0": f"{motion}.convcorr{number + 1}.0",
                  f"update.motion.flow.{number}.0": f"{motion}.convflow{number + 1}.0"}
        for ours, theirs in (("update", "z"), ("reset", "r"), ("candidate", "q")):
            gates = f"update_block.recurrent_block.convgru{number + 1}"
            names[f"update.passes.{number}.{ours}"] = f"{gates}.conv{theirs}"
    for ours, theirs in (("features", "feature_encoder"), ("context", "context_encoder")):
        names |= {f"{ours}.stem.{i}": f"{theirs}.convnormrelu.{i}" for i in range(2)}
        names[f"{ours}.head"] = f"{theirs}.conv"
        for block, theirs_block in _blocks(ours, theirs):
            names |= {f"{block}.shortcut.{i}": f"{theirs_block}.downsample.{i}" for i in range(2)}
            names |= {f"{block}.body.{i}.{j}": f"{theirs_block}.convnormrelu{i + 1}.{j}"
                      for i in range(3) for j in range(2)}
    return names


def _blocks(ours: str, theirs: str) -> list[tuple[str, str]]:
    """Return the names of an encoder's residual blocks, ours and theirs; we count stages from 0."""
    return [(f"{ours}.stages.{stage}.{block}", f"{theirs}.layer{stage + 1}.{block}")
            for stage in range(3) for block in range(2)]


def converted(network: RAFT, published: dict[str, Tensor], *, source: str = "the weights") -> dict[str, Tensor]:
    """Return published tensors under the names of ``network``, ready for ``network.load_state_dict``.

    Raises CheckpointError that names ``source`` and the first tensor that is missing, of another shape or left over.
    """
    left = {name.removeprefix("module."): value for name, value in published.items()}
    left = {name: value for name, value in left.items() if not TWICE.match(name)}
    names = _names(network, left, source=source)

    def theirs(name: str) -> str:
        layer, _, kind = name.rpartition(".")
        return f"{names[layer]}.{kind}"

    found = placed(network.state_dict(), left, theirs, source=source, hint=OTHER_SIZE)
    return found | {READS_WINDOWS: _rows_first(found[READS_WINDOWS])}


def _names(network: RAFT, published: dict[str, Tensor], *, source: str) -> dict[str, str]:
    """Return the name map of the layout that the published tensors are of."""
    parts = {name.partition(".")[0] for name in published}
    if {"fnet", "cnet", "update_block"} <= parts:
        return princeton_names(separable=len(network.update.passes) > 1)
    if {"feature_encoder", "context_encoder", "update_block"} <= parts:
        return torchvision_names()
    raise CheckpointError(f"{source}: no weights of RAFT as Princeton or torchvision published them; expected tensors "
                          f"such as fnet.conv1.weight, found {min(published, default='none')}")


def _rows_first(weight: Tensor) -> Tensor:
    """Return a weight [out, levels * d * d, 1, 1] that reads windows along x first as one that reads rows first."""
    side = round((weight.shape[1] / LEVELS) ** 0.5)
    return weight.unflatten(1, (LEVELS, side, side)).transpose(2, 3).flatten(1, 3).contiguous()


def load_published(network: RAFT, path: Path) -> None:
    """Load a published .pth or .safetensors file into ``network``, which must have the published width.

    No code in the file runs. Raises CheckpointError for a file that is missing, damaged or of another network.
    """
    network.load_state_dict(converted(network, read_tensors(path), source=str(path)))
