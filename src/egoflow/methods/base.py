"""What every method is: predict, losses, phases. Method classes are final; only this one is abstract."""

import abc
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from egoflow.errors import ConfigError
from egoflow.methods.start import StartSchedule, with_start
from egoflow.types import Clip, LossTerms, Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A stretch of training: its ``share`` of all steps, the parameter prefixes it ``trains`` (all by default)."""

    name: str = "joint"
    share: float = 1.0
    trains: tuple[str, ...] = ("",)


class Method(nn.Module, abc.ABC):
    """A published system: networks, a prediction and a loss.

    ``clip_length`` is the number of frames that it looks at and ``target`` the index of the reference frame among them.
    """

    clip_length: int
    target: int
    supervised: bool = False
    """Its losses read ``clip.truth``: the training clips must bring it."""
    needs_camera: bool = True
    """False for methods of flow alone, which never read ``clip.camera``: footage without intrinsics will do."""
    start: StartSchedule = StartSchedule()

    @abc.abstractmethod
    def __init__(self, config: Any) -> None:
        super().__init__()

    @abc.abstractmethod
    def predict(self, clip: Clip) -> Prediction:
        """Predict from images, camera and time alone; never reads ``clip.truth``."""

    @abc.abstractmethod
    def losses(self, clip: Clip, prediction: Prediction, progress: float) -> LossTerms:
        """Return the named loss terms; ``progress`` runs from 0 to 1 within the phase."""

    def phases(self) -> tuple[Phase, ...]:
        """Return the phases in order; their shares sum to 1."""
        return (Phase(),)

    def forward(self, clip: Clip, progress: float, overall: float | None = None) -> tuple[LossTerms, Prediction]:
        """Return the loss terms of a training step, with the two-view start where the clip brings one.

        ``progress`` runs within the phase, ``overall`` (the same where not given) over all of training: a new phase
        does not begin the start again.
        """
        prediction = self.predict(clip)
        terms = self.losses(clip, prediction, progress)
        if clip.start:
            terms = with_start(terms, clip, prediction, progress if overall is None else overall, self.start)
        return terms, prediction


def both_flows(method: Method, clip: Clip) -> tuple[Tensor, Tensor]:
    """Return the flow [B, 2, H, W] from the target t to the next frame of a clip, and the one back on its grid.

    A method that predicts (t, t + 1) alone is asked again with the two frames exchanged. Raises ConfigError for a
    method without flow between these frames.
    """
    here, there = clip.target, clip.target + 1
    found = method.predict(clip).flow
    if (here, there) not in found:
        name = type(method).__module__.rpartition(".")[2]
        raise ConfigError(f"{name}: this method gives no flow; use one of flow ('egoflow methods' lists them)")
    if (there, here) in found:
        return found[here, there][0], found[there, here][0]
    order = list(range(clip.images.shape[1]))
    order[here], order[there] = there, here
    exchanged = replace(clip, images=clip.images[:, order], time_s=clip.time_s[:, order], truth=None, start={})
    return found[here, there][0], method.predict(exchanged).flow[here, there][0]
