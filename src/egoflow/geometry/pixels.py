"""The pixel convention: the grid, the one sampler and the rules of resizing.

Convention: pixel centres are integers. Pixel (0, 0) has its centre at (x, y) = (0, 0); an image of width W covers
[-0.5, W - 0.5]. Normalised coordinates are ``(2 x + 1) / W - 1`` with ``align_corners=False``; for W = 4 the
pixels x = 0, 1, 3 become -0.75, -0.25, 0.75. No other file may call ``grid_sample``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def pixel_grid(height: int, width: int, *, device: torch.device | str | None = None,
               dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the pixel centres [height, width, 2] in (x, y) order."""
    y = torch.arange(height, device=device, dtype=dtype)
    x = torch.arange(width, device=device, dtype=dtype)
    return torch.stack((x.expand(height, width), y[:, None].expand(height, width)), dim=-1)


def inside_image(xy: Tensor, *, height: int, width: int) -> Tensor:
    """Return bool [B, 1, H, W]: the pixels ``xy`` [B, H, W, 2] lie between the outermost pixel centres."""
    x, y = xy.unbind(-1)
    # Rounding may push an exact border pixel out by a few ulp: 5e-4 at 4K in float32.
    slack = 1e-9 if xy.dtype == torch.float64 else 1e-3
    return ((x >= -slack) & (x <= width - 1 + slack) & (y >= -slack) & (y <= height - 1 + slack)).unsqueeze(1)


def sample(image: Tensor, xy: Tensor, *, mode: str = "bilinear") -> tuple[Tensor, Tensor]:
    """Sample ``image`` [B, C, H, W] at pixels ``xy`` [B, h, w, 2].

    Returns values [B, C, h, w] and ``inside`` bool [B, 1, h, w]. Values outside repeat the border and must not be
    used; non-finite coordinates count as outside and pass no gradient.
    """
    height, width = image.shape[-2:]
    # Not new_tensor: torch.export would make constants of the numbers.
    size = torch.stack((xy.new_full((), width), xy.new_full((), height)))
    # A finite stand-in far outside keeps both the value and the gradient free of NaN.
    safe = torch.nan_to_num(xy, nan=-1e4).clamp(-1e4, 1e5)
    value = F.grid_sample(image, safe * (2 / size) + (1 / size - 1), mode=mode, padding_mode="border",
                          align_corners=False)
    return value, inside_image(safe, height=height, width=width)


def resize_image(image: Tensor, *, height: int, width: int) -> Tensor:
    """Resize images [B, C, H, W] with antialiasing."""
    if image.shape[-2:] == (height, width):
        return image
    return F.interpolate(image, (height, width), mode="bilinear", align_corners=False, antialias=True)


def resize_map(value: Tensor, *, height: int, width: int) -> Tensor:
    """Resize a dense map (depth, weight) [B, C, H, W] bilinearly, never antialiased; values are unchanged."""
    if value.shape[-2:] == (height, width):
        return value
    return F.interpolate(value, (height, width), mode="bilinear", align_corners=False)


def resize_mask(mask: Tensor, *, height: int, width: int) -> Tensor:
    """Resize a bool mask [B, 1, H, W] to the nearest pixel centre."""
    if mask.shape[-2:] == (height, width):
        return mask
    return F.interpolate(mask.to(torch.uint8), (height, width), mode="nearest-exact").bool()


def resize_flow(flow: Tensor, *, height: int, width: int) -> Tensor:
    """Resize a flow [B, 2, H, W] and scale its values to pixels of the new size."""
    if flow.shape[-2:] == (height, width):
        return flow
    scale = flow.new_tensor([width / flow.shape[-1], height / flow.shape[-2]]).view(1, 2, 1, 1)
    return resize_map(flow, height=height, width=width) * scale


def resize_true_flow(flow: Tensor, valid: Tensor, *, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Resize a flow [B, 2, H, W] known where ``valid`` bool [B, 1, H, W] says, and the mask; values are scaled.

    One with gaps takes its nearest pixels: half-way between a known and an unknown pixel nothing is known.
    """
    mask = resize_mask(valid, height=height, width=width)
    if bool(valid.all()) or flow.shape[-2:] == (height, width):
        return resize_flow(flow, height=height, width=width), mask
    scale = flow.new_tensor([width / flow.shape[-1], height / flow.shape[-2]]).view(1, 2, 1, 1)
    return F.interpolate(flow, (height, width), mode="nearest-exact") * scale, mask


def image_pyramid(image: Tensor, *, levels: int) -> list[Tensor]:
    """Return ``levels`` images from full size down, each half the size (rounded up) of the one before."""
    pyramid = [image]
    for _ in range(levels - 1):
        height, width = pyramid[-1].shape[-2:]
        pyramid.append(F.avg_pool2d(pyramid[-1], 2) if height % 2 == 0 and width % 2 == 0
                       else resize_image(pyramid[-1], height=(height + 1) // 2, width=(width + 1) // 2))
    return pyramid
