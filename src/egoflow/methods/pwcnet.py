"""PWC-Net: optical flow by pyramid, warping and cost volume, from true flow (Sun, Yang, Liu, Kautz, CVPR 2018).

The supervised twin of ``selfflow``: the same networks and sizes, another teacher. Differs from the paper: the
network is PWC-Lite, whose levels share one decoder (Liu 2020; 2.2 M parameters in place of 8.8 M); the truth of a level
is the mean over its cells. Both directions are trained, as in ``selfflow``. ``tiny`` is ours.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch

from egoflow.config import Augment, DataConfig, Fraction, LoopConfig, OptimConfig, Run
from egoflow.losses.supervision import LEVEL_WEIGHTS, known_flow, multi_scale_error
from egoflow.methods.base import Method
from egoflow.methods.flownet import CHAIRS
from egoflow.networks.pwcnet import FINEST, PwcNet, pwc_lite, pwc_tiny
from egoflow.types import Clip, LossTerms, Pair, Prediction

PAIRS: tuple[Pair, Pair] = ((0, 1), (1, 0))


@dataclass(frozen=True, kw_only=True)
class Config:
    """The network of PWC-Net."""

    network: Literal["pwc", "pwc_tiny"] = "pwc"
    width: Fraction = 1.0
    """Share of the network's channels."""
    normalise: bool = False
    """Correlate features less their mean, by their deviation, as cosines (after Jonschkowski 2020)."""


class PwcNetMethod(Method):
    """Supervised flow between two frames, both ways."""

    clip_length, target = 2, 0
    supervised, needs_camera = True, False

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        make = pwc_lite if config.network == "pwc" else pwc_tiny
        self.network: PwcNet = make(width=config.width, normalise=config.normalise)

    def predict(self, clip: Clip) -> Prediction:
        """Predict the flow both ways: at full size, then from 1/4 on down."""
        a, b = clip.images.unbind(1)
        levels = [level.chunk(2) for level in self.network(torch.cat((a, b)), torch.cat((b, a)))]
        return Prediction(flow={pair: [level[i] for level in levels] for i, pair in enumerate(PAIRS)})

    def losses(self, clip: Clip, prediction: Prediction, progress: float) -> LossTerms:
        """Return the weighted lengths of the errors of all levels, summed over pixels. (Sun 2018, equation 1)"""
        errors = []
        for pair in PAIRS:
            flow_true, valid = known_flow(clip, pair)
            levels = prediction.flow[pair][1:]
            errors.append(multi_scale_error(levels, flow_true, valid, finest=2**FINEST,
                                            weights=LEVEL_WEIGHTS[:len(levels)]))
        return LossTerms({"loss/multi_scale": (1.0, torch.stack(errors).mean())})


def chairs() -> Run:
    """FlyingChairs: 1.2 M steps of 8 windows of 384x448, halved at 400k, 600k, 800k and 1M (EPE 2.00 published).

    The pairs are changed as FlowNet's.
    """
    return Run(method="pwcnet", preset="chairs", config=Config(), data=replace(CHAIRS, crop=(384, 448)),
               optim=OptimConfig(lr=1e-4, weight_decay=4e-4, batch_size=8, clip_norm=None, schedule="halving",
                                 halve_at=(1 / 3, 1 / 2, 2 / 3, 5 / 6)),
               loop=LoopConfig(steps=1_200_000))


def tiny() -> Run:
    """Minutes on a CPU at 96x128: the network and batch of ``selfflow:tiny``, fewer steps."""
    return Run(method="pwcnet", preset="tiny", config=Config(network="pwc_tiny", normalise=True),
               data=DataConfig(height=96, width=128, augment=Augment(flip=True)),
               optim=OptimConfig(lr=1e-3, batch_size=4, schedule="one_cycle", clip_norm=1.0),
               loop=LoopConfig(steps=2000, log_every=10, save_every=250))
