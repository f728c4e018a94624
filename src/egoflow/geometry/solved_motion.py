"""Camera motion solved from depth and flow, not regressed (ours; specification: the two-view start, section 3).

The motion that minimises ``sum w rho(|rigid_flow(depth, motion) - flow|)``, Geman-McClure at 1 pixel, by damped
Gauss-Newton steps on all six parameters. The scale of rho begins at twice the mean residual and is halved at each step
down to 1 pixel: nothing is called an outlier before the motion is roughly known. (Begun at the mean itself, a third of
the picture moving by itself caught 3 of 12 drives from the identity; at twice the mean, none.)

The solution is differentiable by the implicit function theorem: with the gradient g of the cost and its Hessian H, a
change of the inputs moves the solution by ``-H^-1 dg``. H is the exact Hessian of the robust cost; where it is nearly
flat or bent downwards, as before the solver has come to a minimum, the Gauss-Newton matrix takes its place.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from egoflow.geometry.camera import Camera
from egoflow.geometry.motion_cost import Matches, Residuals, gradient, hessian, matches_of, normal_matrix
from egoflow.geometry.se3 import SE3

INLIER_PX = 1.0
"""Scale of the robust cost, and the residual up to which a pixel counts as explained."""
MOST_PIXELS = 5000
MIN_PIXELS = 50
MIN_FLOW_PX = 0.1
MIN_PARALLAX_PX = 0.2
"""Root mean squares over the explained pixels, below which there is no flow, or none but a rotation's.

Classical flow of a camera that turns by up to 1.8 degrees leaves a parallax of at most 0.08 px (measured on
renderings); a drive at 96x288 has 5 px and more.
"""
FAULTS = ("", "too few usable pixels", "no motion: the flow is zero", "no parallax: a pure rotation explains the flow",
          "ill-conditioned: another direction explains the flow as well")


@dataclass(frozen=True, slots=True, kw_only=True)
class SolvedMotion:
    """Motions [B] solved from depth and flow.

    ``b_from_a`` in units of the depth; ``inlier_share`` [B]: the share of the weight on pixels explained to 1 pixel,
    low where no rigid motion explains the flow; ``normal`` [B, 6, 6]: the Gauss-Newton matrix of a left twist
    (v, omega) at the solution, in square pixels: its inverse times the variance of the flow is the covariance, were all
    pixels independent. ``fault`` [B]: 0, or the number in FAULTS of what leaves the direction unknown; then the
    translation is zero and no gradient flows, and the rotation is the solved one, or the start's where there are too
    few pixels.
    """

    b_from_a: SE3
    inlier_share: Tensor
    normal: Tensor
    fault: Tensor

    @property
    def degenerate(self) -> Tensor:
        """Return where (bool [B]) the direction is unknown."""
        return self.fault > 0

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return why the direction of each motion is unknown, "" where it is known."""
        return tuple(FAULTS[i] for i in self.fault.tolist())


def solve_motion(depth_a: Tensor, flow_ab: Tensor, *, weight: Tensor, camera: Camera, start: SE3, steps: int = 10,
                 most: int = MOST_PIXELS) -> SolvedMotion:
    """Return the motions that best explain flows [B, 2, H, W] by z-depths [B, 1, H, W].

    ``weight`` [B, 1, H, W] is a mask or at least 0; nothing is read where it is 0. ``start`` [B] is a motion in units
    of the depth, the identity if none is known; it gets no gradient. At most ``most`` pixels are used, on a regular
    grid. Gradients reach depth, flow, weight and camera, once: second derivatives are not those of the solution.
    """
    with torch.autocast(depth_a.device.type, enabled=False):
        matches = matches_of(depth_a, flow_ab, weight=weight, camera=camera, most=most)
        fixed = matches.detach()
        first = start.detach().to(matches.points.dtype)
        with torch.no_grad():
            motion = _minimise(fixed, first, steps=steps)
            residuals = Residuals.of(fixed, motion)
            scale = torch.full_like(residuals.square[:, 0], INLIER_PX)
            influence = residuals.influence(scale)
            normal = normal_matrix(residuals, influence)
            fault = _fault(residuals, motion, influence=influence, normal=normal)
            inlier = (residuals.square < INLIER_PX**2) & residuals.in_front
            share = (fixed.weight * inlier).sum(-1) / _positive(fixed.weight.sum(-1))
        live = _attached(motion, matches, scale=scale, normal=normal)
        return SolvedMotion(b_from_a=_without_direction(live, motion, first, fault), inlier_share=share, normal=normal,
                            fault=fault)


def _minimise(matches: Matches, start: SE3, *, steps: int) -> SE3:
    """Return the motions after ``steps`` damped Gauss-Newton steps; one that makes the cost worse is refused."""
    motion, residuals = start, Residuals.of(matches, start)
    total = _positive(matches.weight.sum(-1))
    scale = 2 * (matches.weight * residuals.square.sqrt()).sum(-1) / total
    damping = torch.full_like(scale, 1e-4)
    slack = 1 + 16 * torch.finfo(scale.dtype).eps
    for _ in range(steps):
        scale = scale.clamp_min(INLIER_PX)
        influence = residuals.influence(scale)
        slope = gradient(residuals, influence).unsqueeze(-1)
        proposal = SE3.exp(-_solve(normal_matrix(residuals, influence), slope, damping=damping).squeeze(-1)) @ motion
        moved = Residuals.of(matches, proposal)
        better = moved.cost(scale) <= slack * residuals.cost(scale)
        motion = SE3.where(better, proposal, motion)
        residuals = Residuals.of(matches, motion)
        damping = torch.where(better, damping / 10, damping * 10).clamp(1e-6, 1e6)
        scale = scale / 2
    return motion


def _solve(matrix: Tensor, columns: Tensor, *, damping: Tensor) -> Tensor:
    """Return the solutions [B, n, k] of systems [B, n, n] damped by that part [B] of their diagonal.

    They are scaled to a unit diagonal first, so that depth in millimetres and in kilometres gives the same. What no
    pixel says anything of is 0.
    """
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    unit = torch.where(diagonal > 0, diagonal, torch.ones_like(diagonal)).rsqrt().unsqueeze(-1)
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    # Unlike solve, solve_ex neither raises nor waits for the device; a damped matrix is not singular.
    return unit * torch.linalg.solve_ex(unit * matrix * unit.mT + damping[:, None, None] * eye, unit * columns)[0]


def _fault(residuals: Residuals, b_from_a: SE3, *, influence: Tensor, normal: Tensor) -> Tensor:
    """Return the number in FAULTS [B] of what leaves the direction unknown.

    Of the flow that the translation makes, a rotation can imitate a part; what remains is, in square pixels, the
    translation's quadratic form with the Schur complement of the rotation's block. Its weakest axis says how far the
    direction could swing at the price of MIN_PARALLAX_PX.
    """
    total = _positive(influence.sum(-1))
    flow = (influence * residuals.matches.flow.square().sum(1)).sum(-1) / total
    mixed = normal[:, 3:, :3]
    imitated = _solve(normal[:, 3:, 3:], mixed, damping=torch.full_like(total, torch.finfo(total.dtype).eps))
    parallax = (normal[:, :3, :3] - mixed.mT @ imitated) / total[:, None, None]
    shift = b_from_a.t.unsqueeze(-1)
    seen = (shift.mT @ parallax @ shift).flatten()
    weakest = torch.linalg.eigvalsh((parallax + parallax.mT) / 2)[:, 0] * b_from_a.t.square().sum(-1)
    fault = torch.zeros_like(total, dtype=torch.long)
    # From the least to the most fundamental, so that the last to hold is named.
    few = ((residuals.matches.weight > 0) & residuals.in_front).sum(-1) < MIN_PIXELS
    for number, holds in ((4, weakest < MIN_PARALLAX_PX**2), (3, seen < MIN_PARALLAX_PX**2), (2, flow < MIN_FLOW_PX**2),
                          (1, few)):
        fault = torch.where(holds, number, fault)
    return fault


def _attached(motion: SE3, matches: Matches, *, scale: Tensor, normal: Tensor) -> SE3:
    """Return the motion itself with the gradients that the implicit function theorem gives it."""
    residuals = Residuals.of(matches, motion)
    slope = gradient(residuals, residuals.influence(scale))
    if not slope.requires_grad:
        return motion
    with torch.no_grad():
        curvature = hessian(residuals, scale)
        # At least a tenth of the Gauss-Newton matrix, or a flat cost would blow the gradient up.
        _, failed = torch.linalg.cholesky_ex(curvature - 0.1 * normal)
        curvature = torch.where((failed == 0)[:, None, None], curvature, normal)
    damping = torch.full_like(scale, 8 * torch.finfo(scale.dtype).eps)
    step = -_solve(curvature, slope.unsqueeze(-1), damping=damping).squeeze(-1)
    return SE3.exp(step - step.detach()) @ motion


def _without_direction(live: SE3, solved: SE3, start: SE3, fault: Tensor) -> SE3:
    """Return the live motions, or where there is a fault a rotation alone."""
    still = torch.zeros_like(solved.t)
    turned = SE3.where(fault == 1, SE3(start.R, still), SE3(solved.R, still))
    return SE3.where(fault > 0, turned, live)


def _positive(total: Tensor) -> Tensor:
    """Return a sum of weights, safe to divide by."""
    return torch.where(total > 0, total, torch.ones_like(total))
