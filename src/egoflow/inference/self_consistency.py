"""What a prediction's parts say of each other, where no truth is known: steps there and back, depths of neighbours.

Agreement is no accuracy: motions that are wrong in the same way both ways agree. But where steps do not lead back, or
depths of neighbours change their unit from frame to frame, the trajectory has no one scale.
"""

import math

import numpy as np
import torch

from egoflow.geometry.camera import Camera
from egoflow.geometry.flow import reproject
from egoflow.geometry.pixels import sample
from egoflow.geometry.se3 import SE3, rotation_angle
from egoflow.inference.stream import FramePrediction


class SelfConsistency:
    """Receive a stream's frames in order and hold the one before and four numbers a frame."""

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self._last: FramePrediction | None = None
        self._return_rad: list[float] = []
        self._return_share: list[float] = []
        self._log_ratio: list[float] = []

    def add(self, frame: FramePrediction) -> None:
        """Compare a key frame with the one before."""
        if not frame.key:
            return
        last, self._last = self._last, frame
        if last is None or last.next_from_this is None:
            return
        if frame.previous_from_this is not None:
            there, back = last.next_from_this, frame.previous_from_this
            length = float(there.t.norm() + back.t.norm()) / 2
            self._return_rad.append(float(rotation_angle((back @ there).R)))
            self._return_share.append(float((back @ there).t.norm()) / length if length > 0 else 0.0)
        if last.inv_depth is not None and frame.inv_depth is not None:
            ratio = depth_log_ratio(last.inv_depth, frame.inv_depth, camera=self._camera, b_from_a=last.next_from_this)
            if math.isfinite(ratio):
                self._log_ratio.append(ratio)

    def figures(self) -> dict[str, float | None]:
        """Return the figures by key; None where the method does not give what they need.

        ``return_deg`` and ``return_share``: medians over the steps of the rotation, and of the translation as a share
        of the step, that are left after a step there and one back. ``depth_ratio_mean`` and ``depth_ratio_spread``:
        mean and standard deviation over the steps of ``depth_log_ratio``; the spread is what can be seen of a drift of
        scale.
        """
        ratio = self._log_ratio
        return {"return_deg": math.degrees(float(np.median(self._return_rad))) if self._return_rad else None,
                "return_share": float(np.median(self._return_share)) if self._return_share else None,
                "depth_ratio_mean": float(np.mean(ratio)) if ratio else None,
                "depth_ratio_spread": float(np.std(ratio)) if ratio else None}

    def line(self) -> str:
        """Return the figures for the reader of a terminal, "" where there are none."""
        found = self.figures()
        parts = []
        if (deg := found["return_deg"]) is not None and (share := found["return_share"]) is not None:
            parts.append(f"a step there and back leaves {deg:.3f} deg and {share:.1%} of it")
        if (mean := found["depth_ratio_mean"]) is not None and (spread := found["depth_ratio_spread"]) is not None:
            parts.append(f"depths of neighbours differ by {mean:+.1%}, spread {spread:.1%}")
        return f"self-consistency: {'; '.join(parts)}" if parts else ""


def depth_log_ratio(inv_depth_a: np.ndarray, inv_depth_b: np.ndarray, *, camera: Camera, b_from_a: SE3) -> float:
    """Return the median of ``log(z' / D_b(p_b))`` over the pixels of a that are seen in b; NaN where none is.

    ``z'`` is the depth of a's points in camera b and D_b that of b where they land; inverse depths [h, w]. With one
    scale and true motion it is 0; with D_b a tenth too large, -0.095. (Lu & Lu 2019)
    """
    height, width = inv_depth_a.shape
    inv_a, inv_b = (torch.from_numpy(v)[None, None].double() for v in (inv_depth_a, inv_depth_b))
    motion = SE3(b_from_a.R[None], b_from_a.t[None]).to(torch.float64)
    xy, z, in_front = reproject(1 / inv_a, camera.resized(height=height, width=width), motion)
    inv_there, inside = sample(inv_b, xy)
    use = inside & in_front & (inv_there > 0) & z.isfinite()
    return float((z[use] * inv_there[use]).log().median()) if bool(use.any()) else math.nan
