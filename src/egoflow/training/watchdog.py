"""Notice that training has collapsed, say what it is and which knob to turn.

Each check looks at one training step's prediction. A symptom must last for ``patience`` checks in a row: a first
constant depth, before anything is learnt, is no collapse.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from egoflow.errors import TrainingError
from egoflow.types import Prediction

REMEDIES = {
    "constant depth": "the depth map is one value; use frames that move more (--set data.gap=2), lower "
                      "optim.lr or the weight of smoothness (config.*smooth_weight), or start=two_view",
    "saturated depth": "nearly all depths lie on the bound of the network's range; lower optim.lr, check the camera's "
                       "intrinsics, or start=two_view",
    "zero motion": "the motion net answers no motion; drop still frames or raise data.gap, or start=two_view",
    "mask at 0": "the masks discount every pixel; raise config.explain_weight where they are learnt, or lower optim.lr",
    "mask at 1": "the masks keep every pixel and do nothing; lower config.explain_weight or set config.masks=false "
                 "where they are learnt, or lower optim.lr",
    "scale runaway": "depth has grown or shrunk a hundredfold; lower optim.lr, raise the weight of smoothness "
                     "(config.*smooth_weight) or use start=two_view",
}


def figures(prediction: Prediction) -> dict[str, float]:
    """Return what the log and the watchdog look at, from a prediction's finest levels."""
    out: dict[str, Tensor] = {}
    if prediction.inv_depth:
        inverse = torch.cat([levels[0].detach().float().flatten(1) for levels in prediction.inv_depth.values()])
        depth = 1 / inverse
        out["depth/median"] = depth.median()
        out["depth/spread"] = (depth.std(1) / depth.mean(1)).mean()
        low, high = inverse.amin(), inverse.amax()
        span = (high - low).clamp_min(1e-12)
        out["depth/at_bound"] = torch.maximum((inverse - low < 1e-3 * span).float().mean(),
                                              (high - inverse < 1e-3 * span).float().mean())
    if prediction.motion:
        shift = torch.cat([m.t.detach().float().norm(dim=-1) for m in prediction.motion.values()])
        trace = torch.cat([m.R.detach().float().diagonal(dim1=-2, dim2=-1).sum(-1) for m in prediction.motion.values()])
        scale = out.get("depth/median", shift.new_ones(()))
        out["motion/translation_per_depth"] = shift.median() / scale
        out["motion/angle_deg"] = torch.rad2deg(((trace - 1) / 2).clamp(-1, 1).acos()).median()
    if prediction.weight:
        out["mask/mean"] = torch.stack([w[0].detach().float().mean() for w in prediction.weight.values()]).mean()
    return {k: float(v) for k, v in out.items()}


class CollapseError(TrainingError):
    """Training has collapsed; ``symptom`` is a key of REMEDIES."""

    def __init__(self, message: str, *, symptom: str) -> None:
        super().__init__(message)
        self.symptom = symptom


@dataclass
class Watchdog:
    """Count how long each symptom has lasted; raise CollapseError once one has lasted ``patience`` checks.

    Those that are ``harmless`` are not counted.
    """

    harmless: frozenset[str] = frozenset()
    patience: int = 10
    ignore_before: int = 100
    first_depth: float | None = None
    counts: dict[str, int] = field(default_factory=dict)

    def check(self, step: int, figure: dict[str, float]) -> None:
        """Look at the figures of a step; raises CollapseError that names the symptom and the knob."""
        if step < self.ignore_before:
            return
        median = figure.get("depth/median")
        if median is not None and self.first_depth is None and math.isfinite(median):
            self.first_depth = median
        present = self._symptoms(figure)
        self.counts = {name: self.counts.get(name, 0) + 1 for name in present}
        for name, count in self.counts.items():
            if count >= self.patience:
                raise CollapseError(f"stopped at step {step}: {name}: {REMEDIES[name]} "
                               f"(go on all the same: --set loop.watchdog=false)", symptom=name)

    def _symptoms(self, figure: dict[str, float]) -> list[str]:
        """Return the names of the symptoms that the figures show."""
        motion = (figure.get("motion/translation_per_depth", 1.0), figure.get("motion/angle_deg", 1.0))
        ratio = figure.get("depth/median", 1.0) / (self.first_depth or figure.get("depth/median", 1.0) or 1.0)
        shown = {
            "constant depth": figure.get("depth/spread", 1.0) < 1e-3,
            "saturated depth": figure.get("depth/at_bound", 0.0) > 0.9,
            "zero motion": motion[0] < 1e-5 and motion[1] < 1e-3,
            "mask at 0": figure.get("mask/mean", 0.5) < 0.02,
            "mask at 1": figure.get("mask/mean", 0.5) > 0.999,
            "scale runaway": not 0.01 < ratio < 100,
        }
        return [name for name, yes in shown.items() if yes and name not in self.harmless]
