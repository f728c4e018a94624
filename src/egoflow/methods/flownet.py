"""FlowNet and FlowNet 2.0: optical flow by convolutions alone, from true flow (Dosovitskiy, ICCV 2015; Ilg, CVPR 2017).

The networks of a stack are trained one after the other, each with those before it frozen: a phase for each. Training
looks at one direction, as published; the way back would double the cost of a step. At test time both are predicted.

Differs from the papers: for the networks see networks/flownet.py and networks/flownet2.py; weight decay takes biases
in; Fusion, of whose loss the paper says nothing, has that of the others on its levels, weighted down as they are finer;
phases share the steps evenly. The preset ``tiny`` is ours: a quarter of FlowNetS on small images.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from egoflow.config import Augment, DataConfig, Fraction, LoopConfig, OptimConfig, Run
from egoflow.losses.supervision import LEVEL_WEIGHTS, known_flow, multi_scale_error
from egoflow.methods.base import Method, Phase
from egoflow.networks.flownet2 import PARTS, FlowNet, Variant, own_levels
from egoflow.types import Clip, LossTerms, Pair, Prediction

FUSION_WEIGHTS = (0.00125, 0.0025, 0.005)
"""From full size to a quarter: the weights of the levels go on halving."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The networks of FlowNet and how they take their truth."""

    variant: Variant = "s"
    """Simple, correlation, small displacement, stacks of two and three, or FlowNet 2.0."""
    width: Fraction = 1.0
    """Share of the papers' channels; 0.375 makes the thin networks of FlowNet 2.0 (c, s, css)."""
    sparse: bool = False
    """Pool truth as the released code does for lidar: by the largest values of a cell, not by their mean."""


class FlowNetMethod(Method):
    """Supervised flow between two frames."""

    clip_length, target = 2, 0
    supervised, needs_camera = True, False
    reached: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = config
        self.network = FlowNet(config.variant, width=config.width)
        self.register_buffer("reached", torch.tensor(len(self.network.parts) - 1))

    def phases(self) -> tuple[Phase, ...]:
        """Return a phase for each network: those before it stay as they are."""
        parts = PARTS[self.config.variant]
        return tuple(Phase(name=part, share=1 / len(parts), trains=(f"network.parts.{part}.",)) for part in parts)

    def predict(self, clip: Clip) -> Prediction:
        """Predict the flow at full size and at every level: (0, 1), and out of training (1, 0) too."""
        pairs: list[Pair] = [(0, 1)] if self.training else [(0, 1), (1, 0)]
        part = self._trained_part()
        flow = {}
        for a, b in pairs:
            flows = self.network(clip.images[:, a], clip.images[:, b], part=part)
            # Fusion's first flow is at full size.
            flow[a, b] = ([level / 2**i for i, level in enumerate(flows)] if self.network.finest(part) == 1 else
                          own_levels(flows, clip.images[:, a]))
        return Prediction(flow=flow)

    def losses(self, clip: Clip, prediction: Prediction, progress: float) -> LossTerms:
        """Return the weighted lengths of the errors of all levels, summed over pixels. (FlowNet's code)"""
        flow_true, valid = known_flow(clip, (0, 1))
        flows = prediction.flow[0, 1]
        finest = self.network.finest(self._trained_part())
        levels, weights = (flows, FUSION_WEIGHTS) if finest == 1 else (flows[1:], LEVEL_WEIGHTS)
        error = multi_scale_error(levels, flow_true, valid, finest=finest, weights=weights, sparse=self.config.sparse)
        return LossTerms({"loss/multi_scale": (1.0, error)})

    def _trained_part(self) -> str:
        """Return the last network that training has reached: those behind it are as they were drawn.

        In training that is the last that is not frozen; it is saved with the weights.
        """
        names = list(self.network.parts)
        if self.training:
            free = [i for i, name in enumerate(names)
                    if any(p.requires_grad for p in self.network.parts[name].parameters())]
            self.reached.fill_(free[-1] if free else len(names) - 1)
        return names[int(self.reached)]


CHAIRS = DataConfig(height=384, width=512, crop=(320, 448), augment=Augment(
    translate=0.2, rotate_deg=17.0, zoom=(0.9, 2.0), relative_translate=0.02, relative_rotate_deg=2.0,
    relative_zoom=0.03, noise=0.04, colour=0.5))
"""Windows of 320x448 and the papers' changes; those between the two frames are small there, their sizes are ours."""
S_LONG = OptimConfig(lr=1e-4, weight_decay=4e-4, batch_size=8, clip_norm=None, schedule="halving",
                     halve_at=(1 / 3, 1 / 2, 2 / 3, 5 / 6))
"""1.2 million steps a network, halved at 400k, 600k, 800k and 1M. (Ilg 2017, figure 2)"""
LONG = 1_200_000


def s() -> Run:
    """FlowNetS on FlyingChairs: 600k steps, halved at 300k, 400k and 500k (EPE 2.71 published)."""
    return Run(method="flownet", preset="s", config=Config(), data=CHAIRS,
               optim=replace(S_LONG, halve_at=(1 / 2, 2 / 3, 5 / 6)), loop=LoopConfig(steps=600_000))


def c() -> Run:
    """FlowNetC on FlyingChairs: as ``s``, rising from 1e-6 over 10k steps (EPE 2.19 published)."""
    base = s()
    return replace(base, preset="c", config=Config(variant="c"), optim=replace(base.optim, warm_up=1 / 60))


def sd() -> Run:
    """FlowNet-SD: small displacements, for data such as ChairsSDHom or ``world:chairs?difficulty=small``."""
    return replace(s(), preset="sd", config=Config(variant="sd"))


def cs() -> Run:
    """FlowNet2-CS: C, then S on top of it, each by the long schedule."""
    return Run(method="flownet", preset="cs", config=Config(variant="cs"), data=CHAIRS,
               optim=replace(S_LONG, warm_up=1 / 120), loop=LoopConfig(steps=2 * LONG))


def css() -> Run:
    """FlowNet2-CSS: C, S, S (Sintel's training set 2.10 / 3.23 with later fine-tuning, re-evaluated by ptlflow)."""
    return replace(cs(), preset="css", config=Config(variant="css"), loop=LoopConfig(steps=3 * LONG))


def flownet2() -> Run:
    """FlowNet 2.0: C, S, S, SD and Fusion (Sintel's training set 2.02 / 3.14 published, after FlyingThings3D)."""
    return replace(cs(), preset="flownet2", config=Config(variant="2"), loop=LoopConfig(steps=5 * LONG))


def tiny() -> Run:
    """Minutes on a CPU: a quarter of FlowNetS at 96x128, for ``world:chairs?scenes=600&frames=2``."""
    return Run(method="flownet", preset="tiny", config=Config(width=1 / 4),
               data=DataConfig(height=96, width=128, augment=Augment(flip=True)),
               optim=OptimConfig(lr=2e-3, batch_size=8, clip_norm=1.0, schedule="one_cycle"),
               loop=LoopConfig(steps=2000, log_every=10, save_every=250))
