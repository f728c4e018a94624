"""How good is depth, asked of frames that nobody knows the truth of: does it explain how the images move?

On held-out pairs of frames classical flow says how far each pixel went, and two-view geometry the camera's rotation
and direction. Depth that is right up to one factor explains the rest with one number, the length of the step. What it
leaves unexplained, in units of the flow, falls and rises with the error of depth.
"""

from collections.abc import Sequence

import torch

from egoflow.methods.base import Method
from egoflow.methods.start import flow_term, scaled_motion
from egoflow.types import Clip


@torch.no_grad()
def unexplained_flow(method: Method, clips: Sequence[Clip], *, device: torch.device) -> float:
    """Return the mean of ``min(|r| / (1 + .3 |f|), 2)`` over held-out clips of batch 1 that bring a two-view start.

    ``r`` is what the flow of depth and the pair's solved motion leaves of the classical flow ``f``. NaN where no clip
    has a pair whose motion is known. The method is left in the mode that it was in.
    """
    training = method.training
    method.eval()
    found = [value for clip in clips for value in _of_clip(method, clip.to(device))]
    method.train(training)
    return float(torch.tensor(found).mean()) if found else float("nan")


def _of_clip(method: Method, clip: Clip) -> list[float]:
    """Return the figure of every pair of a clip that has a direction and a depth."""
    prediction, found = method.predict(clip), []
    for (a, _), view in clip.start.items():
        if a in prediction.inv_depth and float(view.weight) > 0:
            depth = 1 / prediction.inv_depth[a][0].float()
            motion = scaled_motion(depth, clip.camera, view)
            found.append(float(flow_term(depth, clip.camera, motion, view)))
    return found
