"""Optical flow without learning: none at all, Farnebäck and DIS (OpenCV), as baselines of every table.

Convention: images are uint8 arrays of one size, RGB [H, W, 3] or grey [H, W]; a flow is float32 [2, H, W] in pixels,
on the grid of a, ``x_b = x_a + flow_ab(x_a)``. Every pixel has an answer.
"""

import cv2
import numpy as np

_SMALLEST_DIS = 16
"""OpenCV's DIS refuses or crashes on images with fewer rows or columns."""


def zero_flow(image_a: np.ndarray, image_b: np.ndarray) -> np.ndarray:
    """Return the flow of a scene that stands still: what every method has to beat."""
    return np.zeros((2, *image_a.shape[:2]), np.float32)


def farneback_flow(image_a: np.ndarray, image_b: np.ndarray) -> np.ndarray:
    """Return the flow by polynomial expansion (Farnebäck 2003).

    The parameters are OpenCV's own defaults, written out: up to 5 levels of factor 1/2, box windows of 13 px, 10
    iterations a level, polynomials over 5 px with a Gaussian of 1.1 px.
    """
    solver = cv2.FarnebackOpticalFlow.create(numLevels=5, pyrScale=0.5, fastPyramids=False, winSize=13, numIters=10,
                                             polyN=5, polySigma=1.1, flags=0)
    return _planes(solver.calc(_grey(image_a), _grey(image_b), None))  # type: ignore[call-overload]


def dis_flow(image_a: np.ndarray, image_b: np.ndarray) -> np.ndarray:
    """Return the flow by dense inverse search (Kroeger 2016) in OpenCV's preset "medium".

    The preset: patches of 8 px every 3 px, 25 gradient steps, down to half resolution (finest scale 1), then 5
    iterations of variational refinement (alpha 20, delta 5, gamma 10). Images under 16 px a side have zero flow.
    """
    if min(image_a.shape[:2]) < _SMALLEST_DIS:
        return zero_flow(image_a, image_b)
    solver = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return _planes(solver.calc(_grey(image_a), _grey(image_b), None))  # type: ignore[call-overload]


def _grey(image: np.ndarray) -> np.ndarray:
    """Return the luminance [H, W] of an RGB image, and a grey one as it is."""
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _planes(flow: np.ndarray) -> np.ndarray:
    """Return OpenCV's [H, W, 2] as [2, H, W]."""
    return np.ascontiguousarray(np.moveaxis(flow, 2, 0))
