"""A batch of pinhole cameras.

Convention: x right, y down, z forward; intrinsics are in pixels of the stated size with integer pixel centres. Resizing
by s gives ``f' = f s`` and ``c' = (c + 0.5) s - 0.5``: width 4 -> 2 takes cx = 1.5 to 0.5.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from egoflow.errors import DataError
from egoflow.geometry.pixels import pixel_grid

NEAREST = 1e-6
"""Points with a smaller z are not in front of the camera."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """Pinhole intrinsics ``fx, fy, cx, cy`` [B] in pixels of an image of ``height`` x ``width``."""

    fx: Tensor
    fy: Tensor
    cx: Tensor
    cy: Tensor
    height: int
    width: int

    @staticmethod
    def create(fx: float, fy: float, cx: float, cy: float, *, height: int, width: int,
               name: str = "camera") -> "Camera":
        """Return one camera (batch of 1, float32) after checking that its numbers are pixels of that size.

        Raises DataError that names ``name`` when a focal length is not positive and finite, or when the numbers look
        normalised by the image size.
        """
        if min(height, width) < 1:
            raise DataError(f"{name}: the image size {width}x{height} must be at least 1x1")
        numbers = torch.tensor([fx, fy, cx, cy], dtype=torch.float64)
        if not torch.isfinite(numbers).all() or fx <= 0 or fy <= 0:
            raise DataError(f"{name}: focal lengths must be positive and finite, got fx={fx:g} fy={fy:g} cx={cx:g} "
                            f"cy={cy:g}; give intrinsics in pixels")
        if min(fx / width, fy / height) < 0.05 or (max(abs(cx), abs(cy)) <= 1.5 and min(height, width) > 8):
            raise DataError(f"{name}: fx={fx:g} fy={fy:g} cx={cx:g} cy={cy:g} look normalised by the image size; "
                            f"multiply the first row by the width ({width}) and the second by the height ({height})")
        if not (-0.5 * width < cx < 1.5 * width and -0.5 * height < cy < 1.5 * height):
            raise DataError(f"{name}: principal point ({cx:g}, {cy:g}) is far outside the {width}x{height} image; "
                            f"are the intrinsics of another size?")
        fx_, fy_, cx_, cy_ = numbers.to(torch.float32).split(1)
        return Camera(fx=fx_, fy=fy_, cx=cx_, cy=cy_, height=height, width=width)

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Project points [B, H, W, 3] to pixels [B, H, W, 2] and ``in_front`` bool [B, 1, H, W] (z > 0).

        Pixels of points that are not in front are finite but meaningless.
        """
        x, y, z = points.unbind(-1)
        in_front = z > NEAREST
        inv_z = 1 / torch.where(in_front, z, torch.ones_like(z))
        fx, fy, cx, cy = (v.to(points.dtype)[:, None, None] for v in (self.fx, self.fy, self.cx, self.cy))
        return torch.stack((fx * x * inv_z + cx, fy * y * inv_z + cy), dim=-1), in_front.unsqueeze(1)

    def rays(self, *, dtype: torch.dtype | None = None) -> Tensor:
        """Return the viewing rays [B, H, W, 3] through the pixel centres, with z = 1."""
        fx, fy, cx, cy = (v.to(dtype or self.fx.dtype)[:, None, None] for v in (self.fx, self.fy, self.cx, self.cy))
        x, y = pixel_grid(self.height, self.width, device=self.fx.device, dtype=fx.dtype).unbind(-1)
        x, y = (x - cx) / fx, (y - cy) / fy
        return torch.stack((x, y, torch.ones_like(x)), dim=-1)

    def unproject(self, depth: Tensor) -> Tensor:
        """Return the points [B, H, W, 3] at z-``depth`` [B, 1, H, W]."""
        return self.rays(dtype=depth.dtype) * depth.squeeze(1).unsqueeze(-1)

    def resized(self, *, height: int, width: int) -> "Camera":
        """Return the camera of the image resized to ``height`` x ``width``."""
        sx, sy = width / self.width, height / self.height
        return Camera(fx=self.fx * sx, fy=self.fy * sy, cx=(self.cx + 0.5) * sx - 0.5, cy=(self.cy + 0.5) * sy - 0.5,
                      height=height, width=width)

    def cropped(self, *, top: int, left: int, height: int, width: int) -> "Camera":
        """Return the camera of the window whose first pixel is (left, top); negative offsets pad."""
        return replace(self, cx=self.cx - left, cy=self.cy - top, height=height, width=width)

    def padded(self, *, top: int = 0, left: int = 0, bottom: int = 0, right: int = 0) -> "Camera":
        """Return the camera of the image with that many pixels added on each side."""
        return self.cropped(top=-top, left=-left, height=self.height + top + bottom, width=self.width + left + right)

    def flipped(self) -> "Camera":
        """Return the camera of the image mirrored left to right: cx becomes width - 1 - cx."""
        return replace(self, cx=self.width - 1 - self.cx)

    def to(self, *args: object, **kwargs: object) -> "Camera":
        """Return the camera with its numbers moved or cast as ``Tensor.to``."""
        fx, fy, cx, cy = (v.to(*args, **kwargs) for v in (self.fx, self.fy, self.cx, self.cy))  # type: ignore[call-overload]
        return replace(self, fx=fx, fy=fy, cx=cx, cy=cy)

    def __getitem__(self, index: slice) -> "Camera":
        """Return the cameras ``index`` (a slice) of the batch."""
        return replace(self, fx=self.fx[index], fy=self.fy[index], cx=self.cx[index], cy=self.cy[index])

    def repeated(self, times: int) -> "Camera":
        """Return the batch tiled ``times`` times, as ``torch.cat([images] * times)`` tiles images."""
        return replace(self, fx=self.fx.repeat(times), fy=self.fy.repeat(times), cx=self.cx.repeat(times),
                       cy=self.cy.repeat(times))

    @staticmethod
    def cat(cameras: "list[Camera]") -> "Camera":
        """Join batches of cameras of one image size."""
        sizes = {(c.height, c.width) for c in cameras}
        if len(sizes) != 1:
            raise DataError(f"cameras of several image sizes cannot share a batch: {sorted(sizes)}; resize first")
        height, width = sizes.pop()
        fx, fy, cx, cy = (torch.cat([getattr(c, k) for c in cameras]) for k in ("fx", "fy", "cx", "cy"))
        return Camera(fx=fx, fy=fy, cx=cx, cy=cy, height=height, width=width)
