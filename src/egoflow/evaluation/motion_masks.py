"""Score masks of what moves by itself: overlap, recall, false alarms, and a probability at every threshold.

An image is kept as two histograms of the predicted value, one of the pixels that move and one of those that stand
still. Every figure follows from their sums, which are whole numbers: any order and any split of the images gives the
same.
"""

from dataclasses import dataclass, field

import numpy as np

from egoflow.errors import ConfigError, DataError
from egoflow.evaluation.bootstrap import Interval, percentiles, resampled_totals
from egoflow.evaluation.table import Metric, Result, Row

LEVELS = 256
"""Predicted values are kept as 0 .. 255, as in an 8-bit image."""
METRICS = (Metric(key="mover_iou", label="IoU"), Metric(key="mover_recall", label="recall"),
           Metric(key="false_alarms", label="false al."), Metric(key="mover_precision", label="precision"),
           Metric(key="mover_f1", label="F1"), Metric(key="static_iou", label="IoU static"),
           Metric(key="mean_iou", label="mean IoU"))
AVERAGE_PRECISION = Metric(key="average_precision", label="AP")
_NAMED = 3  # So many images without movers are named in the protocol line; the JSON names all.


def mask_figures(counts: np.ndarray, *, threshold: float) -> dict[str, np.ndarray]:
    """Return every figure [...] of counts [..., 2, 256]: how often each value was predicted where it moves, and not.

    A value / 255 of at least ``threshold`` says that it moves. What is not defined (0 / 0) is NaN.
    """
    said = np.arange(LEVELS) / (LEVELS - 1) >= threshold
    hit, alarm = np.moveaxis(counts[..., said].sum(-1), -1, 0)
    missed, right = np.moveaxis(counts[..., ~said].sum(-1), -1, 0)
    found = {"mover_iou": _share(hit, hit + alarm + missed), "mover_recall": _share(hit, hit + missed),
             "false_alarms": _share(alarm, alarm + right), "mover_precision": _share(hit, hit + alarm),
             "mover_f1": _share(2 * hit, 2 * hit + alarm + missed), "static_iou": _share(right, right + alarm + missed)}
    return found | {"mean_iou": (found["mover_iou"] + found["static_iou"]) / 2,
                    "average_precision": average_precision(counts)}


def average_precision(counts: np.ndarray) -> np.ndarray:
    """Return the area [...] under precision over recall, in steps from the highest value down, of counts [..., 2, 256].

    A value that says nothing has the share of what moves; NaN where nothing moves.
    """
    moving, both = counts[..., 0, ::-1], counts.sum(-2)[..., ::-1]
    precision = np.nan_to_num(_share(moving.cumsum(-1), both.cumsum(-1)))
    return _share((moving * precision).sum(-1), moving.sum(-1))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole in float64, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


@dataclass(slots=True)
class MotionScores:
    """Counts of each image, gathered in any order and any split; ``threshold`` in (0, 1]: from there on it moves."""

    threshold: float = 0.5
    images: dict[str, np.ndarray] = field(default_factory=dict)
    """Image name -> int64 [2, 256]: how often each value was predicted where it moves, and where it stands still."""

    def __post_init__(self) -> None:
        # Not "threshold <= 0": NaN must not pass.
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"the threshold must be a probability above 0, up to 1, got {self.threshold:g}")

    def add(self, name: str, probability: np.ndarray, moving: np.ndarray, *, valid: np.ndarray | None = None) -> None:
        """Score the image ``name``: probability of moving [H, W] in [0, 1] (or bool) against ``moving`` bool [H, W].

        ``valid`` bool [H, W] excludes pixels. Probabilities are rounded to 1/255. Raises DataError where shapes differ,
        values leave [0, 1] or the image has been scored.
        """
        if name in self.images:
            raise DataError(f"image {name} was scored twice; names must differ")
        for value in (probability, moving, valid):
            if value is not None and (value.ndim != 2 or value.shape != moving.shape):
                raise DataError(f"{name}: masks must be [H, W] of one size, got {value.shape} and {moving.shape}")
        use = np.ones(moving.shape, bool) if valid is None else valid
        value, truth = probability[use].astype(np.float64), moving[use].astype(bool)
        if not ((value >= 0) & (value <= 1)).all():
            raise DataError(f"{name}: the probability of moving must lie between 0 and 1 wherever it is scored")
        level = np.rint(value * (LEVELS - 1)).astype(np.int64)
        self.images[name] = np.stack([np.bincount(level[part], minlength=LEVELS) for part in (truth, ~truth)])

    def merge(self, other: "MotionScores") -> None:
        """Take over the images of ``other``, which must have the same threshold and share no name."""
        if other.threshold != self.threshold:
            raise ConfigError("scores of different thresholds cannot be merged")
        if shared := self.images.keys() & other.images.keys():
            raise DataError(f"image {min(shared)} was scored twice; names must differ")
        self.images.update(other.images)

    def highest(self) -> int:
        """Return the highest value, 0 .. 255, that was predicted anywhere."""
        return int(max((counts.sum(0).nonzero()[0].max(initial=0) for counts in self.images.values()), default=0))

    def result(self, *, resamples: int = 1000, seed: int = 0) -> Result:
        """Return the table: the prediction, "nothing moves", "everything moves"; the intervals resample images.

        The average precision is a column where the prediction is no mere mask. Raises DataError where no pixel was
        scored.
        """
        order = sorted(self.images)
        table = np.stack([self.images[name] for name in order]) if order else np.zeros((0, 2, LEVELS), np.int64)
        total = table.sum(0)
        if not total.any():
            raise DataError(f"no pixel can be scored in {len(order)} images: all are left out as not valid")
        nothing, everything = np.zeros_like(total), np.zeros_like(total)
        nothing[:, 0] = everything[:, -1] = total.sum(1)
        rows = (Row(name="prediction", values=self._values(total),
                    intervals=self._intervals(table, resamples=resamples, seed=seed)),
                Row(name="nothing moves", values=self._values(nothing)),
                Row(name="everything moves", values=self._values(everything)))
        graded = bool(total[:, 1:-1].any())
        still = [name for name, counts in zip(order, table, strict=True) if not counts[0].any()]
        words = {"moves": f"from a probability of {self.threshold:g} on", "mean": "over the pixels of all images",
                 "without movers": _named(still, len(order)),
                 "intervals": f"bootstrap over images, {resamples} resamples, seed {seed}"}
        per_image = {name: self._values(counts) for name, counts in zip(order, table, strict=True)}
        return Result(protocol=words, metrics=(*METRICS, AVERAGE_PRECISION) if graded else METRICS, rows=rows,
                      counts={"images": len(order)},
                      extra={"moving_share": float(total[0].sum() / total.sum()), "without_movers": still,
                             "per_image": per_image})

    def _values(self, counts: np.ndarray) -> dict[str, float | None]:
        """Return the figures of counts [2, 256], None where one is not defined."""
        found = mask_figures(counts, threshold=self.threshold)
        return {key: None if np.isnan(value) else float(value) for key, value in found.items()}

    def _intervals(self, table: np.ndarray, *, resamples: int, seed: int) -> dict[str, Interval]:
        """Return the intervals of all figures over images [N, 2, 256], where there are at least two."""
        if len(table) < 2:
            return {}
        drawn = resampled_totals(table.reshape(len(table), -1), resamples=resamples, seed=seed)
        found = {key: percentiles(values) for key, values in mask_figures(
            drawn.reshape(-1, 2, LEVELS), threshold=self.threshold).items()}
        return {key: interval for key, interval in found.items() if interval is not None}


def _named(names: list[str], count: int) -> str:
    """Return how many of the images these are, with the first names."""
    more = ", …" if len(names) > _NAMED else ""
    return f"{len(names)} of {count} images" + (f" ({', '.join(names[:_NAMED])}{more})" if names else "")
