"""Figures as (sum, count) of each pair, by row of the table: what makes any order and any split give the same."""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from egoflow.errors import DataError

Sums = dict[str, tuple[float, int]]
"""Figure -> its sum over what it counts in one pair, and how many that are."""
Rows = dict[str, dict[str, Sums]]
"""Row name -> pair name -> figures; the first row is the one that is asked about."""


def sum_and_count(values: np.ndarray) -> tuple[float, int]:
    """Return the sum and the number of values."""
    return float(values.sum()), len(values)


def merge_rows(rows: Rows, others: Rows) -> None:
    """Take the pairs of ``others`` over into ``rows``; DataError where both scored a pair of a row."""
    for row, pairs in others.items():
        mine = rows.setdefault(row, {})
        if shared := mine.keys() & pairs.keys():
            raise DataError(f"pair {min(shared)} was scored twice; names must differ")
        mine.update(pairs)


def ratio(sums: Iterable[float], counts: Iterable[float]) -> float | None:
    """Return the sum of ``sums`` over that of ``counts``, None where nothing was counted."""
    count = sum(counts)
    # fsum rounds once: any order and any split of the pairs gives the same figure to the bit.
    return math.fsum(sums) / count if count else None


def means(sums: Sums) -> Mapping[str, float | None]:
    """Return the figures of one pair."""
    return {key: total / count if count else None for key, (total, count) in sums.items()}
