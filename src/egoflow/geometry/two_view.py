"""Classical two-view geometry of a pair of frames: dense flow, rotation, direction, and whether to believe them.

Per pair: DIS flow both ways, a forward-backward check, an essential matrix by RANSAC; from its motion and from some
plain ones a robust refinement of the Sampson error over the five parameters; the side on which points lie. A pair that
does not fix the direction (no flow, a pure rotation, one plane, few inliers) carries weight 0 and a reason. No label is
read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

from egoflow.geometry.camera import Camera
from egoflow.geometry.classical_flow import dis_flow

WORKING_ROWS = 256
"""Larger frames are made smaller to this many rows: DIS is as exact there and faster; with half as many it is not."""
MIN_FLOW_PX = 0.3
MIN_PARALLAX_PX = 0.35
MIN_INLIER_SHARE = 0.3
STEPS_OF_EACH = 5
"""Of refinement from every start, before the best goes on."""
PLANE_SHARE = 0.85
"""A homography that explains this share of what a rigid motion explains: two motions fit (Longuet-Higgins 1986)."""


Fault = Literal["", "matches", "still", "parallax", "essential", "rigid", "plane"]
"""Why a pair tells no direction: too few matches, no flow, no parallax, no essential matrix, no one rigid motion, or
one plane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairGeometry:
    """Two-view geometry of a pair (a, b) as NumPy arrays.

    ``flow_ab`` [h, w, 2] in pixels of its own size, ``usable`` bool [h, w]; ``rotation`` [3, 3] and ``direction`` [3]
    of ``b_from_a`` (unit length); ``weight`` is the inlier share, 0 with a ``fault`` and its ``reason`` when the pair
    is degenerate. ``motion_px`` is the median length of the flow, ``parallax_px`` the upper quartile of what the best
    rotation leaves of it.
    """

    flow_ab: np.ndarray
    usable: np.ndarray
    rotation: np.ndarray
    direction: np.ndarray
    weight: float
    motion_px: float = 0.0
    parallax_px: float = 0.0
    fault: Fault = ""
    reason: str = ""

    def reversed(self, flow_ba: np.ndarray, usable_ba: np.ndarray) -> "PairGeometry":
        """Return the same geometry on the grid of b, pointing to a."""
        direction = -self.rotation.T @ self.direction
        return replace(self, flow_ab=flow_ba, usable=usable_ba, rotation=self.rotation.T, direction=direction)


def pair_geometry(image_a: np.ndarray, image_b: np.ndarray, camera: Camera, *, seed: int = 0) -> tuple[
        PairGeometry, PairGeometry]:
    """Return the geometry of (a, b) and of (b, a) from two RGB uint8 images [H, W, 3] of one camera."""
    gray_a, gray_b = (working_gray(image) for image in (image_a, image_b))
    flow_ab, flow_ba = dense_flow(gray_a, gray_b), dense_flow(gray_b, gray_a)
    usable_ab, usable_ba = consistent(flow_ab, flow_ba), consistent(flow_ba, flow_ab)
    small = camera.resized(height=gray_a.shape[0], width=gray_a.shape[1])
    ab = geometry_from_flow(flow_ab, usable_ab, small, texture=textured(gray_a), seed=seed)
    return ab, ab.reversed(flow_ba, usable_ba)


def dense_flow(gray_a: np.ndarray, gray_b: np.ndarray) -> np.ndarray:
    """Return the DIS flow [h, w, 2] between two uint8 images [h, w]."""
    return np.ascontiguousarray(np.moveaxis(dis_flow(gray_a, gray_b), 0, 2))


def geometry_from_flow(flow_ab: np.ndarray, usable: np.ndarray, camera: Camera, *, texture: np.ndarray | None = None,
                       seed: int = 0) -> PairGeometry:
    """Return the geometry that a flow [h, w, 2] implies for ``camera`` (of the flow's size)."""
    xy_a, xy_b = matches(flow_ab, usable if texture is None else usable & texture)
    focal = float(camera.fx + camera.fy) / 2
    rays_a, rays_b = on_unit_plane(xy_a, camera), on_unit_plane(xy_b, camera)
    rotation, residual = rotation_only(rays_a, rays_b)

    motion = float(np.median(np.linalg.norm(xy_b - xy_a, axis=1))) if len(xy_a) else 0.0
    parallax = float(np.quantile(residual, 0.75)) * focal if len(xy_a) else 0.0

    def found(fault: Fault = "", reason: str = "", *, weight: float = 0.0, direction: np.ndarray | None = None
              ) -> PairGeometry:
        return PairGeometry(flow_ab=flow_ab, usable=usable, rotation=rotation, weight=weight, motion_px=motion,
                            direction=np.zeros(3) if direction is None else direction, parallax_px=parallax,
                            fault=fault, reason=reason)

    if len(xy_a) < 50:
        return found("matches", f"only {len(xy_a)} usable matches")
    if motion < MIN_FLOW_PX:
        return found("still", f"no motion: median flow below {MIN_FLOW_PX} px")
    if parallax < MIN_PARALLAX_PX:
        return found("parallax", "no parallax: a pure rotation explains the flow")
    cv2.setRNGSeed(seed)
    essential, _ = cv2.findEssentialMat(rays_a, rays_b, np.eye(3), method=cv2.RANSAC, prob=0.999,
                                        threshold=0.5 / focal)
    if essential is None or essential.shape[0] < 3:
        return found("essential", "no essential matrix fits")
    first, second, step = cv2.decomposeEssentialMat(essential[:3])
    # Of its two rotations, half a turn apart, a video has the smaller.
    starts = [(max(first, second, key=np.trace), step.ravel()), *((rotation, axis) for axis in np.eye(3))]
    rotation, direction, distance = best_refined(starts, rays_a, rays_b, noise=0.25 / focal)
    weight = float((distance < 0.5 / focal).mean())
    if weight < MIN_INLIER_SHARE:
        return found("rigid", f"only {weight:.0%} of the flow fits one rigid motion")
    share, rotation_h = one_plane(rays_a, rays_b, threshold=0.5 / focal)
    if share > PLANE_SHARE * weight:
        rotation = rotation_h
        return found("plane", "one plane: two motions explain the flow")
    return found(weight=weight, direction=direction)


def rotation_only(rays_a: np.ndarray, rays_b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rotation that best explains matches [n, 2] (z = 1 plane) alone, and the residuals [n] it leaves."""
    if len(rays_a) == 0:
        return np.eye(3), np.zeros(0)
    a, b = (np.concatenate((r, np.ones((len(r), 1))), 1) for r in (rays_a, rays_b))
    unit_a, unit_b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
    weight, rotation, residual = np.ones(len(a)), np.eye(3), np.zeros(len(a))
    for _ in range(8):
        u, _, vt = np.linalg.svd((unit_b * weight[:, None]).T @ unit_a)
        rotation = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
        turned = a @ rotation.T
        residual = np.linalg.norm(turned[:, :2] / np.maximum(turned[:, 2:], 1e-6) - rays_b, axis=1)
        weight = 1 / (residual + 0.1 * np.median(residual) + 1e-9)
    return rotation, residual


def one_plane(rays_a: np.ndarray, rays_b: np.ndarray, *, threshold: float) -> tuple[float, np.ndarray]:
    """Return the share of matches [n, 2] (z = 1 plane) that one plane explains, and the smaller rotation it allows.

    A plane's flow has two motions behind it; between frames of a video the one that turns less is the likelier.
    (Faugeras & Lustman 1988)
    """
    homography, _ = cv2.findHomography(rays_a, rays_b, cv2.RANSAC, threshold, maxIters=500)
    if homography is None:
        return 0.0, np.eye(3)
    a, b = (np.concatenate((r, np.ones((len(r), 1))), 1) for r in (rays_a, rays_b))
    moved = a @ homography.T
    distance = np.linalg.norm(moved[:, :2] / np.where(moved[:, 2:] > 1e-6, moved[:, 2:], 1e-6) - b[:, :2], axis=1)
    _, rotations, _, normals = cv2.decomposeHomographyMat(homography, np.eye(3))
    ahead = [((a @ normal) > 0).mean() for normal in normals]
    candidates = [r for r, share in zip(rotations, ahead, strict=True) if share >= max(ahead) - 0.05]
    return float((distance < threshold).mean()), max(candidates, key=np.trace)


def best_refined(starts: Sequence[tuple[np.ndarray, np.ndarray]], rays_a: np.ndarray, rays_b: np.ndarray, *,
                 noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ``refine`` from the start, of several, that leads to the least robust error, with points in front.

    Where steps are short a turn and a step aside look alike, and the error has more than one valley.
    """
    rotation, direction, _ = min((refine(*start, rays_a, rays_b, noise=noise, steps=STEPS_OF_EACH) for start in starts),
                                 key=lambda found: float(np.mean(1 - 1 / (1 + (found[2] / noise) ** 2))))
    rotation, direction, distance = refine(rotation, direction, rays_a, rays_b, noise=noise)
    return rotation, direction if lie_in_front(rotation, direction, rays_a, rays_b) else -direction, distance


def lie_in_front(rotation: np.ndarray, direction: np.ndarray, rays_a: np.ndarray, rays_b: np.ndarray) -> bool:
    """Say whether matches [n, 2] (z = 1 plane) lie in front of the cameras, for the direction and not for its opposite.

    Those that move farther beyond the rotation count for more, up to the median. (``cv2.recoverPose`` asks no point
    farther away than 50 steps, which are all of them where steps are short.)
    """
    a, b = (np.concatenate((r, np.ones((len(r), 1))), 1) for r in (rays_a, rays_b))
    # b = z R a + t: z has the sign of how far b moves along its epipolar line.
    across, moved = np.cross(b, direction), np.cross(b, a @ rotation.T)
    along = -(across * moved).sum(1) / np.maximum(np.linalg.norm(across, axis=1), 1e-9)
    most = np.median(np.abs(along))
    return float(np.clip(along, -most, most).sum()) >= 0


def refine(rotation: np.ndarray, direction: np.ndarray, rays_a: np.ndarray, rays_b: np.ndarray, *, noise: float,
           steps: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Minimise the robust Sampson distance over rotation and direction by Gauss-Newton.

    Returns rotation, unit direction and the distances [n] on the z = 1 plane. (Hartley & Zisserman 2004, equation 11.9)
    """
    a, b = (np.concatenate((r.T, np.ones((1, len(r))))) for r in (rays_a, rays_b))
    direction = direction / np.linalg.norm(direction)
    for _ in range(steps):
        basis = np.linalg.svd(direction[None])[2][1:]
        base, jacobian = _sampson_and_slopes(rotation, direction, basis, a, b)
        weight = 1 / (1 + (base / noise) ** 2) ** 2
        normal = (jacobian * weight) @ jacobian.T
        step = -np.linalg.solve(normal + 1e-9 * np.trace(normal) * np.eye(5) + 1e-12 * np.eye(5),
                                (jacobian * weight) @ base)
        rotation, direction = _moved(rotation, direction, basis, np.clip(step, -0.1, 0.1))
        if np.abs(step).max() < 1e-8:
            break
    return rotation, direction, np.abs(sampson(rotation, direction, a.T, b.T))


def _moved(rotation: np.ndarray, direction: np.ndarray, basis: np.ndarray, delta: np.ndarray) -> tuple[
        np.ndarray, np.ndarray]:
    """Turn the rotation by ``delta[:3]`` (left) and the direction within its tangent plane by ``delta[3:]``."""
    moved = direction + delta[3:] @ basis
    return cv2.Rodrigues(delta[:3])[0] @ rotation, moved / np.linalg.norm(moved)


def sampson(rotation: np.ndarray, direction: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return signed Sampson distances [n] of homogeneous matches a, b [n, 3]."""
    return _with_lines(_cross(direction) @ rotation, a.T, b.T)[0]


def _with_lines(essential: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return Sampson distances [n] of matches [3, n], denominators [n], and epipolar lines in b [3, n] and a [2, n]."""
    line_b, line_a = essential @ a, essential[:, :2].T @ b
    root = np.sqrt(np.maximum((line_b[:2] ** 2).sum(0) + (line_a**2).sum(0), 1e-18))
    return (b * line_b).sum(0) / root, root, line_b, line_a


def _sampson_and_slopes(rotation: np.ndarray, direction: np.ndarray, basis: np.ndarray, a: np.ndarray, b: np.ndarray
                        ) -> tuple[np.ndarray, np.ndarray]:
    """Return the Sampson distances [n] of matches [3, n], and their slopes [5, n] by the parameters of ``_moved``."""
    cross = _cross(direction)
    base, root, line_b, line_a = _with_lines(cross @ rotation, a, b)
    # By each entry of the essential matrix first; both numerator and root depend on it.
    left = b.copy()
    left[:2] -= base / root * line_b[:2]
    by_entry = left[:, None] * a
    by_entry[:, :2] -= b[:, None] * (base / root * line_a)
    changes = np.stack([*(cross @ _cross(axis) @ rotation for axis in np.eye(3)),
                        *(_cross(tangent) @ rotation for tangent in basis)])
    return base, changes.reshape(5, 9) @ by_entry.reshape(9, -1) / root


def _cross(v: np.ndarray) -> np.ndarray:
    """Return the matrix of the cross product with ``v``."""
    x, y, z = v
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])


def working_gray(image: np.ndarray) -> np.ndarray:
    """Return the luminance at working size: of at most WORKING_ROWS rows, averaged down."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    rows, columns = gray.shape
    if rows <= WORKING_ROWS:
        return gray
    return cv2.resize(gray, (max(round(columns * WORKING_ROWS / rows), 1), WORKING_ROWS), interpolation=cv2.INTER_AREA)


def consistent(flow_ab: np.ndarray, flow_ba: np.ndarray) -> np.ndarray:
    """Return the pixels whose flow stays inside and comes back: |f + b|^2 < .01 (|f|^2 + |b|^2) + .5."""
    height, width = flow_ab.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    x, y = x + flow_ab[..., 0], y + flow_ab[..., 1]
    back = cv2.remap(flow_ba, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    error = ((flow_ab + back) ** 2).sum(-1)
    size = (flow_ab**2).sum(-1) + (back**2).sum(-1)
    return (error < 0.01 * size + 0.5) & (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def textured(gray: np.ndarray) -> np.ndarray:
    """Return the pixels where the weaker eigenvalue of the structure tensor stands out of sensor noise."""
    if min(gray.shape) < 8:
        return np.ones(gray.shape, bool)
    return cv2.cornerMinEigenVal(gray, blockSize=5, ksize=3) > 1e-4


def matches(flow_ab: np.ndarray, use: np.ndarray, *, most: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Return at most ``most`` matches [n, 2] on an even grid of the used pixels."""
    y, x = np.nonzero(use)
    keep = np.linspace(0, len(x) - 1, min(most, len(x))).astype(int)
    xy = np.stack((x[keep], y[keep]), 1).astype(np.float64)
    return xy, xy + flow_ab[y[keep], x[keep]]


def on_unit_plane(xy: np.ndarray, camera: Camera) -> np.ndarray:
    """Return pixels [n, 2] on the z = 1 plane."""
    centre = np.array([float(camera.cx), float(camera.cy)])
    return (xy - centre) / np.array([float(camera.fx), float(camera.fy)])
