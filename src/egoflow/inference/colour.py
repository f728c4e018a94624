"""Colours for maps: inverse depth and flow as pictures."""

import cv2
import numpy as np


class ColourScale:
    """Turn maps into RGB pictures with a scale that moves slowly, so that a video does not flicker."""

    def __init__(self, *, colours: int = cv2.COLORMAP_INFERNO, inertia: float = 0.9) -> None:
        self._colours, self._inertia = colours, inertia
        self._range: tuple[float, float] | None = None

    def __call__(self, value: np.ndarray) -> np.ndarray:
        """Return RGB uint8 [H, W, 3] of a map [H, W]; bright = large. Non-finite pixels are grey."""
        finite = np.isfinite(value)
        low, high = np.percentile(value[finite], (1, 98)) if finite.any() else (0.0, 1.0)
        if self._range is not None:
            keep = self._inertia
            low, high = keep * self._range[0] + (1 - keep) * low, keep * self._range[1] + (1 - keep) * high
        self._range = (float(low), float(high))
        level = np.where(finite, (value - low) / max(high - low, 1e-12), 0)
        picture = cv2.applyColorMap((level.clip(0, 1) * 255).astype(np.uint8), self._colours)[..., ::-1]
        return np.where(finite[..., None], picture, 128).astype(np.uint8)
