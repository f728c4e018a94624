"""Score depth maps by the protocol of Eigen (2014): seven metrics per image, then the mean over images."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch

from egoflow.errors import ConfigError, DataError
from egoflow.evaluation.bootstrap import mean_interval
from egoflow.evaluation.table import Metric, Result, Row
from egoflow.geometry.depth import align_median
from egoflow.geometry.pixels import resize_map

Crop = Literal["garg", "eigen", "none"]
Scaling = Literal["median", "none"]
MIN_DEPTH_M = 1e-3
# Shares of the height (top, bottom) and width (left, right): Garg 2016 and Eigen 2014 as released evaluations do.
_CROPS = {"garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),
          "eigen": (0.3324324, 0.91351351, 0.0359477, 0.96405229), "none": (0.0, 1.0, 0.0, 1.0)}
METRICS = (Metric(key="abs_rel", label="abs_rel"), Metric(key="sq_rel", label="sq_rel", unit="m"),
           Metric(key="rmse", label="rmse", unit="m"), Metric(key="rmse_log", label="rmse_log"),
           Metric(key="a1", label="a1"), Metric(key="a2", label="a2"), Metric(key="a3", label="a3"))
CONSTANT = "constant depth"


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthProtocol:
    """The choices that a depth figure depends on; ``cap_m`` and ``ranges_m`` (edges) in metres of the truth."""

    crop: Crop = "garg"
    cap_m: float = 80.0
    scale: Scaling = "median"
    ranges_m: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.crop not in get_args(Crop):
            raise ConfigError(f"unknown crop '{self.crop}'; use one of {', '.join(get_args(Crop))}")
        if self.scale not in get_args(Scaling):
            raise ConfigError(f"unknown scaling '{self.scale}'; use one of {', '.join(get_args(Scaling))}")
        if not MIN_DEPTH_M < self.cap_m < math.inf:
            raise ConfigError(f"the depth cap must be finite and above {MIN_DEPTH_M:g} m, got {self.cap_m:g}; papers "
                              f"use 80 or 50")
        if len(self.ranges_m) == 1 or any(b <= a for a, b in zip(self.ranges_m, self.ranges_m[1:], strict=False)):
            raise ConfigError(f"ranges must be at least two increasing depths in metres, got {list(self.ranges_m)}")

    def describe(self) -> dict[str, str]:
        """Return the choices in words, for the table."""
        scaling = "median of each image (truth / prediction)" if self.scale == "median" else "none"
        return {"crop": self.crop, "cap": f"{MIN_DEPTH_M:g}-{self.cap_m:g} m", "scale": scaling,
                "resize": "depth, bilinear, to the truth's size", "mean": "per image, then over images"}


def crop_mask(height: int, width: int, *, crop: Crop) -> np.ndarray:
    """Return bool [height, width]: the pixels inside the named crop, its bounds cut to whole pixels."""
    top, bottom, left, right = _CROPS[crop]
    mask = np.zeros((height, width), bool)
    mask[int(top * height):int(bottom * height), int(left * width):int(right * width)] = True
    return mask


def depth_metrics(prediction: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return the seven metrics of depths [n] > 0; thresholds are strict. (Eigen 2014, section 4.3)"""
    p, t = prediction.astype(np.float64), truth.astype(np.float64)
    difference, ratio = p - t, np.maximum(p / t, t / p)
    return {"abs_rel": float((np.abs(difference) / t).mean()), "sq_rel": float((difference**2 / t).mean()),
            "rmse": float(np.sqrt((difference**2).mean())),
            "rmse_log": float(np.sqrt(((np.log(p) - np.log(t)) ** 2).mean())),
            **{f"a{k}": float((ratio < 1.25**k).mean()) for k in (1, 2, 3)}}


def resize_depth(depth: np.ndarray, valid: np.ndarray, *, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Resize depth [h, w] bilinearly, as depth; pixels [height, width] that lean mostly on invalid ones are invalid."""
    if depth.shape == (height, width):
        return depth.astype(np.float64), valid
    stack = torch.from_numpy(np.stack((np.where(valid, depth, 0.0), valid)).astype(np.float64))
    value, weight = resize_map(stack[None], height=height, width=width)[0].numpy()
    good = weight > 0.5
    return np.where(good, value / np.where(good, weight, 1.0), 0.0), good


@dataclass(slots=True)
class DepthScores:
    """Per-image figures, gathered image by image in any order and any split."""

    protocol: DepthProtocol
    names: list[str] = field(default_factory=list)
    rows: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    """Row name -> image name -> metric -> value."""
    factors: dict[str, float] = field(default_factory=dict)
    coverage: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Image name -> pixels scored, pixels with truth."""
    empty: list[str] = field(default_factory=list)
    """Images without a true depth to score by."""

    def add(self, name: str, prediction: np.ndarray, truth: np.ndarray, *, valid_prediction: np.ndarray | None = None,
            valid_truth: np.ndarray | None = None, static: np.ndarray | None = None) -> bool:
        """Score the image ``name``.

        ``prediction`` [h, w] is resized to ``truth`` [H, W]; depths that are not finite and positive are invalid, as is
        what the masks exclude. ``static`` bool [H, W] splits the figures by what moves. Returns False for an image that
        has no true depth to score by. Raises DataError when the prediction has none there, or the name is taken.
        """
        if name in self.coverage or name in self.empty:
            raise DataError(f"image {name} was scored twice; names must differ")
        target, known = self._known(name, truth, valid_truth)
        if not known.any():
            self.empty.append(name)
            return False
        depth, use = self._predicted(name, prediction, known, valid_prediction)
        factor = 1.0
        if self.protocol.scale == "median":
            maps = (torch.from_numpy(value)[None, None] for value in (depth, target, use))
            factor = float(align_median(*maps))
        scored = np.clip(depth * factor, MIN_DEPTH_M, self.protocol.cap_m)
        constant = np.full_like(target, np.clip(np.median(target[use]), MIN_DEPTH_M, self.protocol.cap_m))
        for part, mask in self._parts(target, use, static).items():
            if mask.any():
                self._keep(f"prediction{part}", name, depth_metrics(scored[mask], target[mask]))
                self._keep(f"{CONSTANT}{part}", name, depth_metrics(constant[mask], target[mask]))
        self.names.append(name)
        self.factors[name] = factor
        return True

    def merge(self, other: "DepthScores") -> None:
        """Take over the images of ``other``, which must follow the same protocol and share no name."""
        if other.protocol != self.protocol:
            raise ConfigError("scores of different protocols cannot be merged")
        shared = {*self.coverage, *self.empty} & {*other.coverage, *other.empty}
        if shared:
            raise DataError(f"image {min(shared)} was scored twice; names must differ")
        self.names += other.names
        self.empty += other.empty
        self.factors |= other.factors
        self.coverage |= other.coverage
        for row, images in other.rows.items():
            self.rows.setdefault(row, {}).update(images)

    def result(self, *, block: int = 1, resamples: int = 1000, seed: int = 0) -> Result:
        """Return the table: prediction, its parts, constant depth; intervals resample (blocks of) images by name."""
        if not self.names:
            raise DataError(f"no image can be scored: of {len(self.empty)} none has true depth between {MIN_DEPTH_M:g} "
                            f"and {self.protocol.cap_m:g} m inside the crop '{self.protocol.crop}'; is the unit of the "
                            f"truth right?")
        order = sorted(self.names)
        metrics = [m.key for m in METRICS]
        rows = []
        for row in sorted(self.rows, key=lambda r: CONSTANT in r):
            images = self.rows[row]
            series = {k: [images[n][k] for n in order if n in images] for k in metrics}
            found = {k: mean_interval(v, block=block, resamples=resamples, seed=seed) for k, v in series.items()}
            # fsum rounds once: any order and any split of the images gives the same figure to the bit.
            rows.append(Row(name=self._label(row), values={k: math.fsum(v) / len(v) for k, v in series.items()},
                            intervals={k: i for k, i in found.items() if i is not None} if row == "prediction" else {}))
        scored, known = (sum(c[i] for c in self.coverage.values()) for i in (0, 1))
        skipped = {"skipped": f"{len(self.empty)} images without true depth"} if self.empty else {}
        protocol = {**self.protocol.describe(), "coverage": f"{scored / known:.2%} of the true pixels", **skipped,
                    "intervals": f"bootstrap over images, blocks of {block}, {resamples} resamples, seed {seed}"}
        return Result(protocol=protocol, metrics=METRICS, rows=tuple(rows), counts={"images": len(order)},
                      extra=self._details(order, scored / known))

    def _known(self, name: str, truth: np.ndarray, valid: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the truth [H, W] and its pixels to score by."""
        if truth.ndim != 2:
            raise DataError(f"{name}: a depth map must be [H, W], the truth is {truth.shape}")
        target = truth.astype(np.float64)
        with np.errstate(invalid="ignore"):
            known = (target > MIN_DEPTH_M) & (target < self.protocol.cap_m)
        known &= crop_mask(*target.shape, crop=self.protocol.crop)
        return target, known if valid is None else known & valid

    def _predicted(self, name: str, prediction: np.ndarray, known: np.ndarray,
                   valid: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the prediction resized to ``known`` [H, W] and the pixels to score; note the coverage."""
        if prediction.ndim != 2:
            raise DataError(f"{name}: a depth map must be [H, W], the prediction is {prediction.shape}")
        good = np.isfinite(prediction) & (prediction > 0)
        good = good if valid is None else good & valid
        depth, predicted = resize_depth(prediction, good, height=known.shape[0], width=known.shape[1])
        use = known & predicted
        if not use.any():
            raise DataError(f"{name}: the prediction holds no depth at any of the {int(known.sum())} pixels with truth")
        self.coverage[name] = (int(use.sum()), int(known.sum()))
        return depth, use

    def _parts(self, target: np.ndarray, use: np.ndarray, static: np.ndarray | None) -> dict[str, np.ndarray]:
        """Return the masks of the whole and of each asked part by the ending of its row's name."""
        parts = {"": use}
        for near, far in zip(self.protocol.ranges_m, self.protocol.ranges_m[1:], strict=False):
            parts[f", {near:g}-{far:g} m"] = use & (target >= near) & (target < far)
        if static is not None:
            parts |= {", static": use & static, ", moving": use & ~static}
        return parts

    def _keep(self, row: str, name: str, values: dict[str, float]) -> None:
        """Keep the figures of one image."""
        self.rows.setdefault(row, {})[name] = values

    def _label(self, row: str) -> str:
        """Return a row's printed name; without scaling the constant is read from the truth, and says so."""
        return row if self.protocol.scale == "median" else row.replace(CONSTANT, f"{CONSTANT} (uses truth)")

    def _details(self, order: list[str], coverage: float) -> Mapping[str, object]:
        """Return what the JSON holds beyond the table."""
        factors = np.array([self.factors[n] for n in order])
        middle = float(np.median(factors))
        return {"coverage": coverage, "scale_factor_median": middle,
                "scale_factor_spread": float(np.std(factors / middle)),
                "per_image": {n: self.rows["prediction"][n] for n in order}}
