"""Two-view geometry between the full frames of a stream, for motion that is solved and not regressed.

At the size of training, classical flow is six times as far off as on the frames themselves, in pixels of the frames.
"""

import numpy as np

from egoflow.geometry.camera import Camera
from egoflow.geometry.shared_points import LengthRatio, length_ratio
from egoflow.methods.solved import classical_views
from egoflow.types import TwoView

_KEPT = 16
"""Ways back that wait to be asked for: as many as frames lie between neighbours."""


class NeighbourViews:
    """Answer for pairs of neighbouring frames, RGB uint8 [H, W, 3]; both directions of a pair are computed once."""

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self._backward: dict[tuple[int, int], TwoView] = {}

    def __call__(self, a: int, image_a: np.ndarray, b: int, image_b: np.ndarray) -> TwoView:
        """Return the geometry of frames ``a`` and ``b``; a stream asks for (a, b) and soon for (b, a)."""
        if (a, b) in self._backward:
            return self._backward.pop((a, b))
        view, back = classical_views(image_a, image_b, self._camera)
        while len(self._backward) >= _KEPT:
            self._backward.pop(next(iter(self._backward)))
        self._backward[b, a] = back
        return view


def shared_length(previous: TwoView | None, following: TwoView | None, camera: Camera) -> LengthRatio | None:
    """Return how much longer the step after a frame is than that before it, from its geometry with both neighbours.

    None where one of them is missing or has no direction, or where they share too little.
    """
    if previous is None or following is None or not bool(previous.weight > 0) or not bool(following.weight > 0):
        return None
    return length_ratio((previous.flow_ab, previous.b_from_a), (following.flow_ab, following.b_from_a),
                        previous.usable & following.usable, camera)
