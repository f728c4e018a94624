"""What moves by itself in one frame of a stream, as arrays at the size that the method sees."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from egoflow.methods.moving import can_tell, explained, movers, movers_scene_flow
from egoflow.types import Clip, Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnMotion:
    """What moves by itself in a frame, at working size [h, w].

    ``flow`` and ``rigid_flow`` (the camera's) float32 [2, h, w] lead to the next frame that could be read, or where
    there is none (not ``to_next``) to the previous one, in pixels of this size. ``probability`` float32 [h, w]: that a
    pixel moves by itself; ``moving`` bool [h, w]: it is said to. ``scene_flow`` float32 [3, h, w]: how far its point
    moves by itself to the next frame, in the axes of this camera and the unit of this frame's depth, 0 where it does
    not; ``valid_scene_flow`` bool [h, w], nowhere true where there is no next frame.
    """

    flow: np.ndarray
    rigid_flow: np.ndarray
    to_next: bool
    probability: np.ndarray
    moving: np.ndarray
    scene_flow: np.ndarray
    valid_scene_flow: np.ndarray


def own_motion_of(clip: Clip, prediction: Prediction, *, previous: bool, following: bool) -> OwnMotion | None:
    """Return what moves by itself in the target of a clip (batch of 1), seen from its neighbours on both sides.

    ``previous`` and ``following`` say whether these are real frames, not stand-ins. None where there is no neighbour
    with depth, motion and flow both ways.
    """
    here = clip.target
    pairs = [(here, other) for other, real in ((here + 1, following), (here - 1, previous)) if real]
    views = {pair: explained(clip, prediction, pair) for pair in pairs if can_tell(prediction, pair)}
    if not views:
        return None
    probability, moving = movers(list(views.values()))
    first, seen = next(iter(views.items()))
    to_next = first[1] > here
    motion, valid = movers_scene_flow(clip, prediction, first, moving)

    def array(value: Tensor) -> np.ndarray:
        return value[0].cpu().numpy()

    return OwnMotion(flow=array(seen.flow_ab.float()), rigid_flow=array(seen.rigid_flow_ab.float()), to_next=to_next,
                     probability=array(probability.float())[0], moving=array(moving)[0],
                     scene_flow=array(motion.float()) * to_next, valid_scene_flow=array(valid)[0] & to_next)
