"""RAFT: optical flow by recurrent refinement over all-pairs correlations, from true flow (Teed & Deng, ECCV 2020).

Differs from the paper: the one-cycle schedule ends with the last step (the released code lets it run 100 steps longer);
zoom and stretch change every clip, not four of five, and zooming out leaves borders that do not count; hue turns by up
to 0.4 rad (released: 1); ``sintel`` augments all of its data alike, for which the released code has three settings.
The warm start of videos from the flow before is left out. The preset ``tiny`` is ours: RAFT-small with half the
channels and six refinements.
"""

from dataclasses import dataclass, replace

from torch import Tensor

from egoflow.config import Augment, Count, DataConfig, Fraction, LoopConfig, OptimConfig, Positive, Run
from egoflow.losses.reduce import masked_mean
from egoflow.losses.supervision import known_flow, sequence_map
from egoflow.methods.base import Method
from egoflow.networks.raft import LookupName, raft_basic, raft_small
from egoflow.types import Clip, LossTerms, Prediction

PAIR, BACK = (0, 1), (1, 0)


@dataclass(frozen=True, kw_only=True)
class Config:
    """The network and the loss of RAFT."""

    small: bool = False
    width: Positive = 1.0
    """Share of the published channels."""
    iterations: Count = 12
    """Refinements in training."""
    iterations_predict: Count = 24
    """Refinements at test time."""
    lookup: LookupName = "dense"
    """``lean`` computes correlations when asked for: a fraction of the memory, slower."""
    freeze_batch_norm: bool = False
    """Keep the running statistics of batch normalisation, as published after the first data set."""
    gamma: Fraction = 0.8
    """Weight of a refinement relative to the one after it."""


class Raft(Method):
    """Supervised flow between two frames."""

    clip_length, target = 2, 0
    supervised, needs_camera = True, False

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = config
        make = raft_small if config.small else raft_basic
        self.network = make(width=config.width, iterations=config.iterations, lookup=config.lookup,
                            iterations_predict=config.iterations_predict, freeze_batch_norm=config.freeze_batch_norm)

    def flow(self, image_a: Tensor, image_b: Tensor) -> list[Tensor]:
        """Return flows [B, 2, H, W] from a to b of RGB [B, 3, H, W] in [0, 1], the last refinement first."""
        return self.network(image_a, image_b)

    def predict(self, clip: Clip) -> Prediction:
        """Predict the flow: in training all refinements of (0, 1), last to first; else the last, both ways."""
        a, b = clip.images.unbind(1)
        if self.training:
            return Prediction(flow={PAIR: self.flow(a, b)})
        return Prediction(flow={PAIR: self.flow(a, b), BACK: self.flow(b, a)})

    def losses(self, clip: Clip, prediction: Prediction, progress: float) -> LossTerms:
        """Return the weighted L1 error of all refinements, over all pixels (Teed & Deng 2020, equation 7)."""
        flow_true, valid = known_flow(clip, PAIR)
        error = sequence_map(prediction.flow[PAIR], flow_true, valid, gamma=self.config.gamma)
        return LossTerms({"loss/sequence": (1.0, masked_mean(error))})


CHAIRS = Augment(zoom=(2**-0.1, 2.0), stretch=0.2, flip=True, flip_vertical=True, colour=0.4, asymmetric=0.2, erase=0.5)


def chairs() -> Run:
    """FlyingChairs, the first stage: 100k steps of 10 crops of 368x496."""
    return Run(method="raft", preset="chairs", config=Config(),
               data=DataConfig(height=384, width=512, crop=(368, 496), augment=CHAIRS),
               optim=OptimConfig(lr=4e-4, weight_decay=1e-4, decoupled_weight_decay=True, batch_size=10, clip_norm=1.0,
                                 schedule="one_cycle_linear"),
               loop=LoopConfig(steps=100_000))


def things() -> Run:
    """FlyingThings3D from the weights of ``chairs`` (EPE 1.43 / 2.71 published on Sintel's training set)."""
    base = chairs()
    return replace(base, preset="things", config=Config(freeze_batch_norm=True, iterations_predict=32),
                   data=DataConfig(height=540, width=960, crop=(400, 720),
                                   augment=replace(CHAIRS, zoom=(2**-0.4, 2**0.8))),
                   optim=replace(base.optim, lr=1.25e-4, batch_size=6))


def sintel() -> Run:
    """Sintel with KITTI, HD1K and Things from the weights of ``things`` (EPE 1.94 / 3.18 published on the test set)."""
    base = things()
    return replace(base, preset="sintel", config=replace(base.config, gamma=0.85),
                   data=DataConfig(height=436, width=1024, crop=(368, 768),
                                   augment=replace(CHAIRS, zoom=(2**-0.2, 2**0.6))),
                   optim=replace(base.optim, weight_decay=1e-5))


def kitti() -> Run:
    """KITTI 2015 from the weights of ``sintel``: 50k steps (Fl-all 5.10 % published on the test set)."""
    base = sintel()
    return replace(base, preset="kitti", config=replace(base.config, iterations_predict=24),
                   data=DataConfig(height=375, width=1242, crop=(288, 960),
                                   augment=Augment(zoom=(2**-0.2, 2**0.4), colour=0.3, erase=0.5)),
                   optim=replace(base.optim, lr=1e-4),
                   loop=LoopConfig(steps=50_000))


def small() -> Run:
    """RAFT-small on FlyingChairs."""
    return replace(chairs(), preset="small", config=Config(small=True))


def tiny() -> Run:
    """Minutes on a CPU: half of RAFT-small's channels, six refinements, 96x128."""
    base = chairs()
    return replace(base, preset="tiny", config=Config(small=True, width=0.5, iterations=6, iterations_predict=8),
                   data=DataConfig(height=96, width=128, augment=Augment(flip=True)),
                   optim=replace(base.optim, lr=1e-3, batch_size=6),
                   loop=LoopConfig(steps=1000, log_every=10, save_every=250))
