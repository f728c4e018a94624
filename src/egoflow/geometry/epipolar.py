"""Epipolar geometry of a pair of views: fundamental matrix, lines, epipoles, focus of expansion, depth from it.

Convention: ``fundamental`` [3, 3] belongs to a pair (a, b): ``x_b^T F x_a = 0`` for homogeneous pixels (x, y, 1), so
``F x_a`` is the line of x_a in image b and the pair (b, a) has ``F^T``. Pixels are NumPy [n, 2], in float64.
"""

import cv2
import numpy as np

from egoflow.errors import DataError
from egoflow.geometry.camera import Camera
from egoflow.geometry.se3 import SE3

MIN_INLIER_SHARE = 0.5
"""Less than this share of the matches on the lines of one F: no rigid scene, or matches that say nothing."""
RANSAC_PX = 1.0


def fundamental_matrix(camera: Camera, b_from_a: SE3) -> np.ndarray:
    """Return ``F = K^-T [t]x R K^-1`` [3, 3] of unit norm for one camera and one motion (batch of 1 or none).

    Raises DataError for a motion without translation, which has no epipolar lines. (Hartley & Zisserman 2004, 9.12)
    """
    R, t = b_from_a.R.detach().double().numpy().reshape(3, 3), b_from_a.t.detach().double().numpy().reshape(3)
    if not np.linalg.norm(t) > 0:
        raise DataError("the motion has no translation, so the pair has no epipolar lines; use a free search for it")
    x, y, z = t
    inverse = _inverse_intrinsics(camera)
    fundamental = inverse.T @ np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ R @ inverse
    return fundamental / np.linalg.norm(fundamental)


def scaled_fundamental(fundamental: np.ndarray, scale: float) -> np.ndarray:
    """Return F [3, 3] of the pair resized by ``scale``, with unit norm.

    Pixel centres are integers, so c' = (c + .5) s - .5 and c = c'/s + (1/s - 1)/2: ``F' = S^T F S`` with
    ``S = [[1/s, 0, o], [0, 1/s, o], [0, 0, 1]]`` and o = (1/s - 1)/2. Without o, three
    halvings are 3.5 px of the full image off.
    """
    offset = (1 / scale - 1) / 2
    full_from_scaled = np.array([[1 / scale, 0, offset], [0, 1 / scale, offset], [0, 0, 1]])
    scaled = full_from_scaled.T @ fundamental @ full_from_scaled
    return scaled / np.linalg.norm(scaled)


def estimate_fundamental(xy_a: np.ndarray, xy_b: np.ndarray, *, seed: int = 0) -> np.ndarray | None:
    """Return F [3, 3] of matches [n, 2] by RANSAC at 1 px and the normalised 8-point method on the inliers.

    Returns None where fewer than 15 matches, or less than half of them, agree on one F. (Hartley 1997)
    """
    if len(xy_a) < 15:
        return None
    cv2.setRNGSeed(seed)
    fundamental, _ = cv2.findFundamentalMat(xy_a, xy_b, cv2.FM_RANSAC, RANSAC_PX, 0.999)
    # RANSAC keeps the F of its best seven matches; all the inliers together say it better.
    for _ in range(3):
        if fundamental is None or fundamental.shape != (3, 3):
            return None
        inlier = line_distance(fundamental, xy_a, xy_b) < RANSAC_PX
        if inlier.mean() < MIN_INLIER_SHARE:
            return None
        fundamental, _ = cv2.findFundamentalMat(xy_a[inlier], xy_b[inlier], cv2.FM_8POINT)
    return None if fundamental is None else fundamental / np.linalg.norm(fundamental)


def epipoles(fundamental: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the epipoles in a and b as homogeneous unit vectors [3]: ``F e_a = 0`` and ``F^T e_b = 0``.

    A third component of 0 is an epipole at infinity (the camera moved sideways), which is no special case for lines.
    """
    u, _, vt = np.linalg.svd(fundamental)
    return vt[2], u[:, 2]


def epipolar_lines(fundamental: np.ndarray, xy_a: np.ndarray) -> np.ndarray:
    """Return the lines [n, 3] in b of pixels ``xy_a`` [n, 2], with a unit normal; zeros at the epipole itself."""
    lines = homogeneous(xy_a) @ fundamental.T
    length = np.linalg.norm(lines[:, :2], axis=1, keepdims=True)
    return np.where(length > 1e-12, lines / np.maximum(length, 1e-12), 0.0)


def project_on_lines(lines: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Return the points of ``lines`` [n, 3] closest to ``xy`` [n, 2]: ``q = p - l (l.p) / (l0^2 + l1^2)``.

    No epipole is needed, so one at infinity does no harm. A line of zeros leaves its point where it is.
    """
    square = (lines[:, :2] ** 2).sum(1)
    signed = (lines * homogeneous(xy)).sum(1) / np.where(square > 0, square, 1)
    return xy - lines[:, :2] * signed[:, None]


def line_distance(fundamental: np.ndarray, xy_a: np.ndarray, xy_b: np.ndarray) -> np.ndarray:
    """Return the distances [n] in pixels of ``xy_b`` [n, 2] to the lines of ``xy_a`` [n, 2]."""
    return np.abs((epipolar_lines(fundamental, xy_a) * homogeneous(xy_b)).sum(1))


def derotated(xy_b: np.ndarray, camera: Camera, b_from_a: SE3) -> np.ndarray:
    """Return where pixels ``xy_b`` [n, 2] would be had the camera only moved and not turned: ``K R^T K^-1 x_b``."""
    inverse = _inverse_intrinsics(camera)
    R = b_from_a.R.detach().double().numpy().reshape(3, 3)
    moved = homogeneous(xy_b) @ (np.linalg.inv(inverse) @ R.T @ inverse).T
    return moved[:, :2] / moved[:, 2:]


def focus_of_expansion(xy: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Return the pixel [2] that a derotated flow [n, 2] at pixels ``xy`` [n, 2] points away from, or (inf, inf).

    Least squares of ``(x - e) x f = 0``. Parallel flow (a sideways motion) meets at infinity. Raises DataError for
    fewer than two flows.
    """
    if len(xy) < 2:
        raise DataError(f"a focus of expansion needs at least two flows, got {len(xy)}")
    rows = np.stack((flow[:, 1], -flow[:, 0]), 1)
    centre = xy.mean(0)
    size = np.linalg.svd(rows, compute_uv=False)
    if size[1] <= 1e-9 * size[0]:
        return np.array([np.inf, np.inf])
    return centre + np.linalg.lstsq(rows, (rows * (xy - centre)).sum(1), rcond=None)[0]


def depth_from_expansion(xy_a: np.ndarray, xy_b: np.ndarray, foe: np.ndarray) -> np.ndarray:
    """Return depths [n] in frame a: ``|x_b - e| / |x_b - x_a|`` for derotated matches [n, 2] and their focus e [2].

    The unit is |t_z|, how far the camera moved along the z axis of a. Infinite where nothing moves. With an error of
    sigma pixels in the match the depth Z is wrong by ``dZ / Z = sigma Z / (|t_z| r)``, r pixels from the focus: there,
    depth is undetermined.
    """
    moved = np.linalg.norm(xy_b - xy_a, axis=1)
    return np.where(moved > 0, np.linalg.norm(xy_b - foe, axis=1) / np.where(moved > 0, moved, 1), np.inf)


def homogeneous(xy: np.ndarray) -> np.ndarray:
    """Return pixels [n, 2] as (x, y, 1) [n, 3] in float64."""
    return np.concatenate((np.asarray(xy, np.float64), np.ones((len(xy), 1))), 1)


def _inverse_intrinsics(camera: Camera) -> np.ndarray:
    """Return K^-1 [3, 3] of a camera (batch of 1)."""
    fx, fy, cx, cy = (v.detach().double().numpy().reshape(()) for v in (camera.fx, camera.fy, camera.cx, camera.cy))
    return np.array([[1 / fx, 0, -cx / fx], [0, 1 / fy, -cy / fy], [0, 0, 1]])
