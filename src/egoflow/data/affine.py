"""Affine changes of clips of flow: pictures are resampled, and the true flow is resampled and transformed.

Convention: ``new_from_old`` [3, 3] maps old pixels to new ones, x' = A x; a positive angle turns x towards y, clockwise
on the screen. With a matrix for each frame a flow f_ab becomes f'(x') = A_b (x + f(x)) - x' where x = A_a^-1 x'. No
camera turns in its plane or stretches so: the clip's camera is left as it was, which methods of flow never read.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from egoflow.config import Augment
from egoflow.geometry.flow import flow_from_pixels
from egoflow.geometry.pixels import inside_image, pixel_grid, sample
from egoflow.types import Clip, Truth

DRAWS = 12
"""So many random numbers in [0, 1) decide an affine change."""
_SETTINGS = ("zoom", "stretch", "rotate_deg", "translate", "relative_zoom", "relative_rotate_deg", "relative_translate")


def affine_settings(augment: Augment) -> list[str]:
    """Return the names of the settings that ask for an affine change."""
    neutral = Augment()
    return [name for name in _SETTINGS if getattr(augment, name) != getattr(neutral, name)]


def new_from_old(*, zoom: tuple[float, float] = (1, 1), angle_deg: float = 0, shift: tuple[float, float] = (0, 0),
                 centre: tuple[float, float] = (0, 0)) -> Tensor:
    """Return the matrix [3, 3] float64 that zooms, then turns, both about ``centre``, then shifts; (x, y) in pixels."""
    cos, sin = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    linear = torch.tensor([[cos * zoom[0], -sin * zoom[1]], [sin * zoom[0], cos * zoom[1]]], dtype=torch.float64)
    middle, matrix = torch.tensor(centre, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    matrix[:2, :2] = linear
    matrix[:2, 2] = middle - linear @ middle + torch.tensor(shift, dtype=torch.float64)
    return matrix


def drawn_affine(augment: Augment, *, frames: int, height: int, width: int, draw: list[float]) -> Tensor:
    """Return the matrices [frames, 3, 3] that DRAWS numbers in [0, 1) choose within the limits of ``augment``.

    The change common to all frames zooms about a random point, so that any part may fill the image, then turns about
    the centre and shifts. The motion of a frame against the one before, added to it, repeats from frame to frame.
    """
    way = [2 * d - 1 for d in draw]
    low, high = (math.log(z) for z in augment.zoom)
    zoom = math.exp(low + draw[0] * (high - low))
    stretched = (zoom * 2 ** (augment.stretch * way[3]), zoom * 2 ** (augment.stretch * way[4]))
    centre = ((width - 1) / 2, (height - 1) / 2)
    reach = augment.translate * width
    common = new_from_old(angle_deg=augment.rotate_deg * way[5], shift=(reach * way[6], reach * way[7]), centre=centre
                          ) @ new_from_old(zoom=stretched, centre=(draw[1] * (width - 1), draw[2] * (height - 1)))
    closer, reach = (1 + augment.relative_zoom) ** way[8], augment.relative_translate * width
    step = new_from_old(zoom=(closer, closer), angle_deg=augment.relative_rotate_deg * way[9],
                        shift=(reach * way[10], reach * way[11]), centre=centre)
    return torch.stack([torch.linalg.matrix_power(step, i) @ common for i in range(frames)])


def affine(clip: Clip, matrices: Tensor) -> Clip:
    """Change frame i of a clip by ``matrices[i]`` (new_from_old, [N, 3, 3] float64); the size stays.

    Flow known everywhere is interpolated, other flow and masks are taken from the nearest pixel. What comes from
    outside the old image repeats its border and is neither valid nor visible; visible points also end inside both the
    old and the new frame b. Depth and camera motion are left out of the truth, since no camera sees the clip so.
    """
    grid = pixel_grid(clip.camera.height, clip.camera.width, dtype=torch.float64)
    old = _mapped(grid, torch.linalg.inv(matrices)[:, None, None])
    images, _ = _resampled(clip.images, old)
    truth = None if clip.truth is None else _truth(clip.truth, old, matrices)
    return replace(clip, images=images, truth=truth)


def _mapped(xy: Tensor, matrix: Tensor) -> Tensor:
    """Return the pixels [..., 2] that matrices [..., 3, 3] send ``xy`` to."""
    x, y = xy.unbind(-1)
    return torch.stack([matrix[..., i, 0] * x + matrix[..., i, 1] * y + matrix[..., i, 2] for i in (0, 1)], dim=-1)


def _resampled(value: Tensor, old: Tensor, *, mode: str = "bilinear") -> tuple[Tensor, Tensor]:
    """Return maps [B, N, C, H, W] at the pixels ``old`` [N, H, W, 2], and ``inside`` bool [B, N, 1, H, W]."""
    batch = value.shape[0]
    moved, inside = sample(value.flatten(0, 1), old.repeat(batch, 1, 1, 1).to(value.dtype), mode=mode)
    return moved.unflatten(0, value.shape[:2]), inside.unflatten(0, value.shape[:2])


def _mask(mask: Tensor, old: Tensor) -> Tensor:
    """Return bool maps [B, N, 1, H, W] at the nearest old pixel, False where there is none."""
    # Flow and masks are sampled in one precision: which of two pixels is nearer must not differ between them.
    nearest, inside = _resampled(mask.double(), old, mode="nearest")
    return (nearest > 0.5) & inside


def _truth(truth: Truth, old: Tensor, matrices: Tensor) -> Truth:
    """Return the flow and the masks on the new grid."""
    flow, valid_flow, visible = {}, {}, {}
    for (a, b), flow_ab in truth.flow.items():
        known = truth.valid_flow.get((a, b), torch.ones_like(flow_ab[:, :1], dtype=torch.bool))
        flow[a, b], reaches = _flow(flow_ab, old[a], matrices[b], dense=bool(known.all()))
        valid_flow[a, b] = _mask(known[:, None], old[a:a + 1])[:, 0]
        if (a, b) in truth.visible:
            visible[a, b] = _mask(truth.visible[a, b][:, None], old[a:a + 1])[:, 0] & valid_flow[a, b] & reaches
    return Truth(flow=flow, valid_flow=valid_flow, visible=visible,
                 static=None if truth.static is None else _mask(truth.static, old))


def _flow(flow_ab: Tensor, old_a: Tensor, matrix_b: Tensor, *, dense: bool) -> tuple[Tensor, Tensor]:
    """Return the new flow [B, 2, H, W], and bool [B, 1, H, W]: it ends inside the old and the new frame b."""
    height, width = flow_ab.shape[-2:]
    at_old, _ = _resampled(flow_ab[:, None].double(), old_a[None], mode="bilinear" if dense else "nearest")
    end = old_a + at_old[:, 0].permute(0, 2, 3, 1)
    new_end = _mapped(end, matrix_b)
    reaches = inside_image(end, height=height, width=width) & inside_image(new_end, height=height, width=width)
    return flow_from_pixels(new_end).to(flow_ab.dtype), reaches
