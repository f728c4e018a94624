"""Rigid motions.

Convention: ``b_from_a`` maps points of frame a to frame b, ``p_b = b_from_a @ p_a``; inner names cancel in products,
``c_from_a = c_from_b @ b_from_a``. Tangents are (v, omega) in radians: (1, 0, 0, 0, 0, 0) moves points by +1 along x.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Multiply matrices in their own precision: under autocast half precision would turn motions by 0.1 degrees."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b


def _hat(omega: Tensor) -> Tensor:
    """Return the cross-product matrix [..., 3, 3] of ``omega`` [..., 3]."""
    x, y, z = omega.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack((o, -z, y, z, o, -x, -y, x, o), dim=-1).unflatten(-1, (3, 3))


def _rodrigues(omega: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return sin(a)/a, (1 - cos a)/a^2 and (a - sin a)/a^3 of the angle a = |omega|, smooth through zero."""
    square = (omega * omega).sum(-1, keepdim=True)
    # Below this the closed forms cancel in the working precision while three Taylor terms are exact.
    small = square < (1e-2 if omega.dtype == torch.float32 else 1e-4)
    safe = torch.where(small, torch.ones_like(square), square)
    angle = safe.sqrt()
    first = torch.where(small, 1 - square / 6 * (1 - square / 20 * (1 - square / 42)), angle.sin() / angle)
    second = torch.where(small, 0.5 - square / 24 * (1 - square / 30 * (1 - square / 56)), (1 - angle.cos()) / safe)
    third = torch.where(small, 1 / 6 - square / 120 * (1 - square / 42 * (1 - square / 72)),
                        (angle - angle.sin()) / (safe * angle))
    return first.unsqueeze(-1), second.unsqueeze(-1), third.unsqueeze(-1)


def rotation_exp(omega: Tensor) -> Tensor:
    """Return the rotation matrix [..., 3, 3] of the rotation vector ``omega`` [..., 3] in radians."""
    hat = _hat(omega)
    first, second, _ = _rodrigues(omega)
    return torch.eye(3, dtype=omega.dtype, device=omega.device) + first * hat + second * _product(hat, hat)


def quaternion_xyzw_from_rotation(rotation: Tensor) -> Tensor:
    """Return unit quaternions [..., 4] in (x, y, z, w) order, w >= 0, of rotations [..., 3, 3].

    Of the four ways to divide (Shepperd 1978) the best-conditioned is taken, so all angles are exact.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-1) for row in rotation.unbind(-2))
    trace = xx + yy + zz
    # Rows: 4 q_i q of the outer product q q^T, for i = x, y, z, w.
    rows = torch.stack((1 + 2 * xx - trace, xy + yx, xz + zx, zy - yz,
                        xy + yx, 1 + 2 * yy - trace, yz + zy, xz - zx,
                        xz + zx, yz + zy, 1 + 2 * zz - trace, yx - xy,
                        zy - yz, xz - zx, yx - xy, 1 + trace), dim=-1).unflatten(-1, (4, 4))
    best = rows.diagonal(dim1=-2, dim2=-1).argmax(-1)[..., None, None].expand(*rows.shape[:-2], 1, 4)
    row = rows.gather(-2, best).squeeze(-2)
    quaternion = row / row.norm(dim=-1, keepdim=True)
    return torch.where(quaternion[..., 3:] < 0, -quaternion, quaternion)


def rotation_from_quaternion_xyzw(quaternion: Tensor) -> Tensor:
    """Return rotations [..., 3, 3] of quaternions [..., 4] in (x, y, z, w) order; they are normalised first."""
    x, y, z, w = (quaternion / quaternion.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = torch.stack((1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
                        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
                        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)), dim=-1)
    return rows.unflatten(-1, (3, 3))


def rotation_log(rotation: Tensor) -> Tensor:
    """Return the rotation vector [..., 3] (radians, at most pi long) of rotations [..., 3, 3]."""
    quaternion = quaternion_xyzw_from_rotation(rotation)
    vector, w = quaternion[..., :3], quaternion[..., 3:]
    square = (vector * vector).sum(-1, keepdim=True)
    small = square < 1e-8
    length = torch.where(small, torch.ones_like(square), square).sqrt()
    safe_w = torch.where(small, w, torch.ones_like(w))
    near_zero = 2 / safe_w * (1 - square / (3 * safe_w * safe_w))
    return vector * torch.where(small, near_zero, 2 * torch.atan2(length, w) / length)


def rotation_from_euler_xyz(angles: Tensor) -> Tensor:
    """Return ``Rx(a) Ry(b) Rz(c)`` [..., 3, 3] of ``angles`` (a, b, c) [..., 3] in radians (SfMLearner's order)."""
    zero = torch.zeros_like(angles)
    a, b, c = angles.unbind(-1)
    o = zero[..., 0]
    about_x, about_y, about_z = (rotation_exp(torch.stack(axis, -1)) for axis in ((a, o, o), (o, b, o), (o, o, c)))
    return _product(_product(about_x, about_y), about_z)


def rotation_angle(rotation: Tensor) -> Tensor:
    """Return the angle [...] in radians of rotations [..., 3, 3], exact near zero and near pi."""
    quaternion = quaternion_xyzw_from_rotation(rotation)
    return 2 * torch.atan2(quaternion[..., :3].norm(dim=-1), quaternion[..., 3])


@dataclass(frozen=True, slots=True)
class SE3:
    """A rigid motion ``p_b = R p_a + t``: ``R`` [..., 3, 3], ``t`` [..., 3]; any leading dimensions broadcast."""

    R: Tensor
    t: Tensor

    @staticmethod
    def identity(*batch: int, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None) -> "SE3":
        """Return identities of that batch shape."""
        eye = torch.eye(3, dtype=dtype, device=device).expand(*batch, 3, 3)
        return SE3(eye, torch.zeros(*batch, 3, dtype=dtype, device=device))

    @staticmethod
    def exp(tangent: Tensor) -> "SE3":
        """Return the motion of a twist (v, omega) [..., 6]."""
        v, omega = tangent.split(3, dim=-1)
        hat = _hat(omega)
        _, second, third = _rodrigues(omega)
        eye = torch.eye(3, dtype=omega.dtype, device=omega.device)
        left = eye + second * hat + third * _product(hat, hat)
        return SE3(rotation_exp(omega), _product(left, v.unsqueeze(-1)).squeeze(-1))

    def log(self) -> Tensor:
        """Return the twist (v, omega) [..., 6] with |omega| <= pi."""
        omega = rotation_log(self.R)
        hat = _hat(omega)
        _, second, third = _rodrigues(omega)
        eye = torch.eye(3, dtype=omega.dtype, device=omega.device)
        left = eye + second * hat + third * _product(hat, hat)
        return torch.cat((torch.linalg.solve(left, self.t), omega), dim=-1)

    @staticmethod
    def from_translation_euler(vector: Tensor) -> "SE3":
        """Return the motion of (tx, ty, tz, rx, ry, rz) [..., 6] with ``R = Rx Ry Rz`` (Zhou 2017, released code)."""
        return SE3(rotation_from_euler_xyz(vector[..., 3:]), vector[..., :3])

    def inverse(self) -> "SE3":
        """Return ``a_from_b`` of ``b_from_a``."""
        transposed = self.R.mT
        return SE3(transposed, -_product(transposed, self.t.unsqueeze(-1)).squeeze(-1))

    def __matmul__(self, other: "SE3") -> "SE3":
        """Compose: ``c_from_a = c_from_b @ b_from_a``."""
        return SE3(_product(self.R, other.R), _product(self.R, other.t.unsqueeze(-1)).squeeze(-1) + self.t)

    def apply(self, points: Tensor) -> Tensor:
        """Map points [*batch, ..., 3]; dimensions beyond the motion's batch share its motion."""
        batch = self.t.dim() - 1
        leading, shared = points.shape[:batch], points.shape[batch:-1]
        flat = points.reshape(*leading, shared.numel(), 3)
        moved = _product(flat, self.R.mT) + self.t.unsqueeze(-2)
        return moved.reshape(*moved.shape[:-2], *shared, 3)

    def __getitem__(self, index: object) -> "SE3":
        """Index the leading dimensions."""
        return SE3(self.R[index], self.t[index])  # type: ignore[index]

    def to(self, *args: object, **kwargs: object) -> "SE3":
        """Return the motion moved or cast as ``Tensor.to``."""
        return SE3(self.R.to(*args, **kwargs), self.t.to(*args, **kwargs))  # type: ignore[call-overload]

    def detach(self) -> "SE3":
        """Return the motion cut from the graph."""
        return SE3(self.R.detach(), self.t.detach())

    def scaled(self, factor: Tensor | float) -> "SE3":
        """Return the motion with its translation multiplied by ``factor`` [...]."""
        scale = factor.unsqueeze(-1) if isinstance(factor, Tensor) else factor
        return SE3(self.R, self.t * scale)

    @staticmethod
    def stack(motions: "list[SE3]", dim: int = 0) -> "SE3":
        """Stack motions along a new leading dimension."""
        return SE3(torch.stack([m.R for m in motions], dim), torch.stack([m.t for m in motions], dim))

    @staticmethod
    def where(choice: Tensor, yes: "SE3", no: "SE3") -> "SE3":
        """Return one motion or the other for each of a bool [B]."""
        return SE3(torch.where(choice[:, None, None], yes.R, no.R), torch.where(choice[:, None], yes.t, no.t))

    @staticmethod
    def cat(motions: "list[SE3]") -> "SE3":
        """Join motions along the first dimension."""
        return SE3(torch.cat([m.R for m in motions]), torch.cat([m.t for m in motions]))


def chain(steps: SE3) -> SE3:
    """Return world_from_cam [N + 1] of steps ``cam_i_from_cam_{i+1}`` [N]; the first frame is the world."""
    total = SE3.identity(dtype=steps.t.dtype, device=steps.t.device)
    count = steps.t.shape[0]
    # Written in place: a list of small tensors of a long video takes forty times the memory.
    R, t = total.R.repeat(count + 1, 1, 1), total.t.repeat(count + 1, 1)
    for index in range(count):
        total = total @ steps[index]
        R[index + 1], t[index + 1] = total.R, total.t
    return SE3(R, t)
