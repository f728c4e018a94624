"""Percentile intervals by seeded resampling of blocks (Efron 1979; circular blocks: Politis and Romano 1992)."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from egoflow.errors import ConfigError

Interval = tuple[float, float]
LEVEL = 0.95


def mean_interval(values: "Sequence[float] | np.ndarray", *, block: int = 1, resamples: int = 1000, seed: int = 0,
                  level: float = LEVEL, transform: Callable[[float], float] | None = None) -> Interval | None:
    """Return the percentile interval of the mean of ``values`` [N] in their order; None for fewer than two values.

    Neighbours in a video resemble each other: ``block`` of them are drawn together, the end joined to the start.
    ``transform`` (increasing) is applied to both ends: the square root turns squared errors into an RMSE's interval.
    """
    if block < 1 or resamples < 1 or not 0 < level < 1:
        raise ConfigError(f"block and resamples must be at least 1 and level between 0 and 1, got {block}, "
                          f"{resamples}, {level}")
    data = np.asarray(values, dtype=np.float64)
    if len(data) < 2:
        return None
    block = min(block, len(data))
    sums = np.concatenate(([0.0], np.cumsum(np.concatenate((data, data[:block])))))
    block_means = (sums[block:block + len(data)] - sums[:len(data)]) / block
    draws = math.ceil(len(data) / block)
    generator = np.random.default_rng(seed)
    # One resample at a time keeps the memory small for thousands of frames.
    means = [block_means[generator.integers(len(data), size=draws)].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    ends = (float(low), float(high))
    return ends if transform is None else (transform(ends[0]), transform(ends[1]))


def ratio_interval(sums: Sequence[float], counts: Sequence[float], *, resamples: int = 1000, seed: int = 0,
                   level: float = LEVEL) -> Interval | None:
    """Return the percentile interval of ``sum(sums) / sum(counts)`` [N], each pair of entries drawn together.

    Entries that count nothing are left out; None for fewer than two others.
    """
    pairs = np.array([(total, count) for total, count in zip(sums, counts, strict=True) if count > 0], np.float64)
    if len(pairs) < 2:
        return None
    drawn = resampled_totals(pairs, resamples=resamples, seed=seed)
    return percentiles(drawn[:, 0] / drawn[:, 1], level=level)


def resampled_totals(table: np.ndarray, *, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """Return the sums [R, K] over N rows drawn with repetition from ``table`` [N, K], for R resamples."""
    generator, rows = np.random.default_rng(seed), len(table)
    # How often each row was drawn, instead of the rows themselves: they may be long.
    often = (np.bincount(generator.integers(rows, size=rows), minlength=rows) for _ in range(resamples))
    return np.stack([count.astype(np.float64) @ table for count in often])


def percentiles(values: np.ndarray, *, level: float = LEVEL) -> Interval | None:
    """Return the percentile interval of resampled ``values`` [R]; None where none is defined (all are NaN)."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def block_length(count: int) -> int:
    """Return the length of block used for a path of ``count`` ordered values: its square root, rounded."""
    return max(1, round(math.sqrt(count)))
