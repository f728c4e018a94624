"""The error over short snippets that papers on learnt odometry report, and how it depends on turning.

Every snippet is scaled to the truth by itself: the figure says nothing of a path's scale or drift, and a snippet that
runs backwards is scaled by a negative factor and looks right. ``backwards`` tells how many do, and ``scale_spread`` how
much the scale changes from snippet to snippet.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from egoflow.errors import ConfigError
from egoflow.evaluation.path_errors import relative
from egoflow.geometry.se3 import SE3, rotation_angle

SNIPPET_FRAMES = 5
STILL_SHARE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class SnippetErrors:
    """Errors of K snippets: ``ate`` in the unit of the truth, ``rotation_rad`` (mean over the frames), the true
    sideways displacement ``lateral`` from first to last frame (right is positive), ``backwards`` bool. ``scale``: how
    many units of the prediction a unit of the truth is, ``sum(gt p) / sum(gt gt)``; NaN where the camera stands still,
    by less than a twentieth of the median snippet.
    """

    ate: Tensor
    rotation_rad: Tensor
    lateral: Tensor
    backwards: Tensor
    scale: Tensor


def snippet_errors(prediction: SE3, truth: SE3, *, frames: int = SNIPPET_FRAMES) -> SnippetErrors | None:
    """Return the errors of all snippets of consecutive matched frames; None where the path is shorter than one.

    Positions are taken from the snippet's first camera, the prediction is scaled by ``s = sum(gt p) / sum(p p)``, and
    ``ate = sqrt(sum |s p - gt|^2) / frames``: the square root is divided, not the sum. (Zhou 2017, released evaluation)
    """
    if frames < 2:
        raise ConfigError(f"a snippet needs at least 2 frames, got {frames}")
    count = len(truth.t) - frames + 1
    if count < 1:
        return None
    first = torch.arange(count).repeat_interleave(frames)
    each = first + torch.arange(frames).repeat(count)
    p, t = (relative(path, first, each) for path in (prediction, truth))
    p_t, t_t = p.t.unflatten(0, (count, frames)), t.t.unflatten(0, (count, frames))
    along, square = (p_t * t_t).sum((1, 2)), p_t.square().sum((1, 2))
    # A prediction that stands still has no scale; its error is the true path itself.
    scale = torch.where(square > 0, along / torch.where(square > 0, square, torch.ones_like(square)), 1.0)
    ate = (scale[:, None, None] * p_t - t_t).square().sum((1, 2)).sqrt() / frames
    turned = rotation_angle(t.R.mT @ p.R).unflatten(0, (count, frames))
    moved = t_t.square().sum((1, 2))
    # Of a camera at rest the truth is noise, and its ratio to a prediction could be anything.
    still = moved <= STILL_SHARE**2 * moved.median()
    ratio = torch.where(still, torch.nan, along / torch.where(still, torch.ones_like(moved), moved))
    return SnippetErrors(ate=ate, rotation_rad=turned.mean(1), lateral=t_t[:, -1, 0], backwards=along < 0, scale=ratio)


def scale_spread(errors: SnippetErrors) -> float | None:
    """Return standard deviation over mean of the snippets' scales: 0 for a path of one scale.

    None where fewer than two snippets move, or where they do not go forward on the whole. (SC-Depth's question, Bian
    2019: does a trajectory chained from short clips have one scale?)
    """
    scale = errors.scale[~errors.scale.isnan()]
    if len(scale) < 2 or float(scale.mean()) <= 0:
        return None
    return float(scale.std(correction=0) / scale.mean())


def turning_curve(errors: SnippetErrors, *, bins: int = 6) -> list[dict[str, Any]]:
    """Return the mean snippet error against the sideways displacement |lateral|, in bins of equal count.

    Each bin tells ``lateral_from``, ``lateral_to``, ``snippets``, ``ate_mean`` and ``rotation_mean_deg``; a turn to
    either side counts alike. (Zhou 2017, figure 9, which tells left from right)
    """
    if bins < 1:
        raise ConfigError(f"the turning curve needs at least 1 bin, got {bins}")
    magnitude = errors.lateral.abs()
    order = torch.argsort(magnitude, stable=True)
    return [{"lateral_from": float(magnitude[rows[0]]), "lateral_to": float(magnitude[rows[-1]]),
             "snippets": len(rows), "ate_mean": float(errors.ate[rows].mean()),
             "rotation_mean_deg": float(torch.rad2deg(errors.rotation_rad[rows]).mean())}
            for rows in torch.tensor_split(order, bins) if len(rows)]
