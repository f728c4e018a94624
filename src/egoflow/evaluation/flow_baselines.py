"""What a flow must beat: no motion at all, and classical methods that learn nothing."""

from collections.abc import Callable

import numpy as np

from egoflow.errors import ConfigError
from egoflow.geometry.classical_flow import dis_flow, farneback_flow, zero_flow

BASELINES = ("zero", "farneback", "dis", "epipolar")
_DENSE: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "zero": zero_flow, "farneback": farneback_flow, "dis": dis_flow}


def baseline_flow(name: str, image_a: np.ndarray, image_b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the flow [2, H, W] of a baseline between RGB uint8 images [H, W, 3], and where it answers, bool [H, W].

    "epipolar" (Garrigues 2017) answers at the corners that it can match, the others everywhere. Raises ConfigError for
    a name that is not in BASELINES.
    """
    if name == "epipolar":
        from egoflow.geometry.epipolar_flow import semi_dense_flow

        return semi_dense_flow(image_a, image_b)
    if name not in _DENSE:
        raise ConfigError(f"unknown baseline '{name}'; use one of {', '.join(BASELINES)}")
    return _DENSE[name](image_a, image_b), np.ones(image_a.shape[:2], bool)
