"""What every method is: predict, losses, phases. Method classes are final; only this one is abstract."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from egoflow.config import MotionMode
from egoflow.errors import ConfigError
from egoflow.methods.solved import Solved, distilled_term, solved_motions, with_classical_views, with_motions
from egoflow.methods.start import StartSchedule, with_start
from egoflow.types import Clip, LossTerms, Pair, Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A stretch of training: its ``share`` of all steps, the parameter prefixes it ``trains`` (all by default)."""

    name: str = "joint"
    share: float = 1.0
    trains: tuple[str, ...] = ("",)


def phase_at(phases: Sequence[Phase], done: float) -> tuple[Phase, float]:
    """Return the phase at a share 0..1 of all steps, and the share at which it begins."""
    start = 0.0
    for phase in phases[:-1]:
        if done < start + phase.share - 1e-9:
            return phase, start
        start += phase.share
    return phases[-1], start


class Method(nn.Module, abc.ABC):
    """A published system: networks, a prediction and a loss.

    ``clip_length`` is the number of frames that it looks at and ``target`` the index of the reference frame among them.
    """

    clip_length: int
    target: int
    supervised: bool = False
    """Its losses read ``clip.truth``: the training clips must bring it."""
    flow_alone: bool = False
    """Its ``flow(image_a, image_b)`` gives flows from a to b, at full size first, as ``predict`` does, and asks nothing
    else."""
    rates: Mapping[str, float] = {}
    """Factors of ``optim.lr`` of networks, by the names of their attributes; 1 where none is said."""
    needs_camera: bool = True
    """False for methods of flow alone, which never read ``clip.camera``: footage without intrinsics will do."""
    harmless: frozenset[str] = frozenset()
    """Symptoms that the watchdog (training/watchdog.py) must not take for a collapse of this method."""
    start: StartSchedule = StartSchedule()
    motion_mode: MotionMode = "net"
    """Where the motions of ``predicted`` come from (methods/solved.py); ``use_motion`` sets it."""

    @abc.abstractmethod
    def __init__(self, config: Any) -> None:
        super().__init__()

    @abc.abstractmethod
    def predict(self, clip: Clip) -> Prediction:
        """Predict from images, camera and time alone; never reads ``clip.truth``."""

    @abc.abstractmethod
    def losses(self, clip: Clip, prediction: Prediction, progress: float) -> LossTerms:
        """Return the named loss terms; ``progress`` runs from 0 to 1 within the phase."""

    def weighed(self, clip: Clip, prediction: Prediction, progress: float) -> Prediction:
        """Return a training step's prediction with the ``weight`` that needs its motions; as it is where there is none.

        ``progress`` runs from 0 to 1 within the phase.
        """
        return prediction

    def asks(self, network: nn.Module) -> bool:
        """Say whether a prediction needs a network: in training not while a phase has it frozen."""
        return not self.training or any(p.requires_grad for p in network.parameters())

    def use_motion(self, mode: MotionMode) -> "Method":
        """Choose where the motions of ``predicted`` come from, and return the method.

        Raises ConfigError where the method gives flow alone and has none.
        """
        if mode != "net" and not self.needs_camera:
            raise ConfigError(f"{_name(self)}: this method gives flow alone, no camera motion; leave out motion={mode}")
        self.motion_mode = mode
        return self

    def predicted(self, clip: Clip) -> Prediction:
        """Return the prediction with its motions solved or refined as ``motion_mode`` says."""
        prediction = self.predict(clip)
        return with_motions(prediction, self._solved(clip, prediction))

    def _solved(self, clip: Clip, prediction: Prediction) -> dict[Pair, Solved]:
        """Return the motions that take the place of the network's; none in the mode ``net``.

        Classical flow of the clip's own images stands in at inference alone: training would wait for it.
        """
        if self.motion_mode == "net":
            return {}
        if not (self.training or clip.start or prediction.flow):
            clip = with_classical_views(clip, list(prediction.motion))
        return solved_motions(clip, prediction, self.motion_mode)

    def phases(self) -> tuple[Phase, ...]:
        """Return the phases in order; their shares sum to 1."""
        return (Phase(),)

    def forward(self, clip: Clip, progress: float, overall: float | None = None) -> tuple[LossTerms, Prediction]:
        """Return the loss terms of a training step, with the two-view start where the clip brings one.

        ``progress`` runs within the phase, ``overall`` (the same where not given) over all of training: a new phase
        does not begin the start again. The method's losses see solved motions where ``motion_mode`` asks for them; the
        network behind them learns from their distance, ``loss/motion_distilled``, and from the start.
        """
        raw = self.predict(clip)
        solved = self._solved(clip, raw)
        prediction = self.weighed(clip, with_motions(raw, solved), progress)
        terms = self.losses(clip, prediction, progress)
        if solved and raw.motion:
            terms["loss/motion_distilled"] = (1.0, distilled_term(raw, solved, focal_px=clip.camera.fx))
        if clip.start:
            own = replace(raw, weight=prediction.weight)
            terms = with_start(terms, clip, own, progress if overall is None else overall, self.start)
        return terms, prediction


def both_flows(method: Method, clip: Clip) -> tuple[Tensor, Tensor]:
    """Return the flow [B, 2, H, W] from the target t to the next frame of a clip, and the one back on its grid.

    Of a method whose flow works alone nothing else is asked: depth and flow of other frames cost three times as much.
    One that predicts (t, t + 1) alone is asked again with the two frames exchanged. Raises ConfigError for a method
    without flow between these frames.
    """
    here, there = clip.target, clip.target + 1
    if method.flow_alone:
        a, b = clip.images[:, here], clip.images[:, there]
        flow_ab, flow_ba = method.flow(torch.cat((a, b)), torch.cat((b, a)))[0].chunk(2)  # type: ignore[operator]
        return flow_ab, flow_ba
    found = method.predict(clip).flow
    if (here, there) not in found:
        raise ConfigError(f"{_name(method)}: this method gives no flow; use one of flow ('egoflow methods' lists them)")
    if (there, here) in found:
        return found[here, there][0], found[there, here][0]
    order = list(range(clip.images.shape[1]))
    order[here], order[there] = there, here
    exchanged = replace(clip, images=clip.images[:, order], time_s=clip.time_s[:, order], truth=None, start={})
    return found[here, there][0], method.predict(exchanged).flow[here, there][0]


def _name(method: Method) -> str:
    """Return the name that a method's file gives it."""
    return type(method).__module__.rpartition(".")[2]
