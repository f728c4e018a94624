"""Alignment of a predicted path to the truth before it is scored: nothing, scale, rigid or similarity."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from egoflow.errors import ConfigError, DataError
from egoflow.geometry.se3 import SE3

Alignment = Literal["none", "scale", "se3", "sim3"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Similarity:
    """A similarity ``p_truth = rotation (scale p) + translation``: a factor and a rigid motion, float64."""

    scale: float
    truth_from_prediction: SE3

    def apply(self, world_from_cam: SE3) -> SE3:
        """Return a path [N] scaled and moved into the world of the truth."""
        return self.truth_from_prediction @ world_from_cam.scaled(self.scale)


def from_first(world_from_cam: SE3) -> SE3:
    """Return a path [N] as seen from its first camera."""
    # The rotations of files are rounded; the inverse of what was read, not its transpose, makes the first one exact.
    back = torch.linalg.inv(world_from_cam.R[0])
    return SE3(back @ world_from_cam.R, (world_from_cam.t - world_from_cam.t[0]) @ back.mT)


def fit(prediction: SE3, truth: SE3, *, align: Alignment) -> Similarity:
    """Return the similarity that brings ``prediction`` [N] to ``truth`` [N] by their positions.

    ``scale`` is the non-negative least-squares factor about the first frames; ``se3`` and ``sim3`` are Umeyama's
    (1991, equations 40 to 43). Raises DataError when all positions of one side are equal, ConfigError for an unknown
    name.
    """
    if align not in get_args(Alignment):
        raise ConfigError(f"unknown alignment '{align}'; use one of {', '.join(get_args(Alignment))}")
    identity = SE3.identity(dtype=torch.float64)
    if align == "none":
        return Similarity(scale=1.0, truth_from_prediction=identity)
    _check_spread(prediction.t, "predicted", align)
    _check_spread(truth.t, "true", align)
    if align == "scale":
        factor = float((prediction.t * truth.t).sum() / prediction.t.square().sum())
        # A path that runs backwards fits best mirrored; no motion at all is the best that a scale may make of it.
        return Similarity(scale=max(factor, 0.0), truth_from_prediction=identity)
    return umeyama(prediction.t, truth.t, with_scale=align == "sim3")


def umeyama(source: Tensor, target: Tensor, *, with_scale: bool) -> Similarity:
    """Return the similarity (or rigid motion) that minimises the squared distance of ``source`` [N, 3] to ``target``.

    Points on one line leave a turn about it open, which no distance depends on. (Umeyama 1991, equations 34 to 43)
    """
    mean_source, mean_target = source.mean(0), target.mean(0)
    covariance = (target - mean_target).mT @ (source - mean_source) / len(source)
    u, d, vt = torch.linalg.svd(covariance)
    sign = torch.ones(3, dtype=source.dtype)
    sign[2] = torch.sign(torch.linalg.det(u) * torch.linalg.det(vt))
    rotation = (u * sign) @ vt
    variance = (source - mean_source).square().sum() / len(source)
    scale = float((d * sign).sum() / variance) if with_scale else 1.0
    return Similarity(scale=scale, truth_from_prediction=SE3(rotation, mean_target - scale * (rotation @ mean_source)))


def _check_spread(position: Tensor, which: str, align: str) -> None:
    """Raise DataError when positions [N, 3] are all equal to rounding."""
    spread = float((position - position.mean(0)).abs().max())
    if spread <= 1e-12 * float(position.abs().max()):
        raise DataError(f"all {len(position)} {which} positions are equal, so alignment '{align}' is not defined; "
                        f"use the alignment 'none'")
