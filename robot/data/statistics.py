"""Minimum, maximum, mean and standard deviation of arrays, mergeable part by part.

Merging follows Chan, Golub and LeVeque (1983): with n = a + b and d = mean_b - mean_a,
mean = mean_a + d b / n and M2 = M2_a + M2_b + d² a b / n. All in float64 and in a fixed order, so that a resumed run
gets the very same numbers.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Stats = dict[str, NDArray[Any]]
KEYS = ("min", "max", "mean", "std", "count")


def of(array: NDArray[Any], axes: tuple[int, ...] = (0,)) -> Stats:
    """Statistics over `axes` (kept out of the result); `count` (1,) is how many numbers went into each mean."""
    values = np.asarray(array, np.float64)
    count = int(np.prod([values.shape[axis] for axis in axes]))
    return {
        "min": values.min(axes),
        "max": values.max(axes),
        "mean": values.mean(axes),
        "std": values.std(axes),
        "count": np.array([count], np.int64),
    }


def merge(parts: Iterable[Stats]) -> Stats:
    """Statistics of all parts together."""
    total: Stats | None = None
    for part in parts:
        total = part if total is None else _pair(total, part)
    if total is None:
        raise ValueError("no statistics to merge")
    return total


def _pair(a: Stats, b: Stats) -> Stats:
    count_a, count_b = int(a["count"][0]), int(b["count"][0])
    count = count_a + count_b
    delta = b["mean"] - a["mean"]
    squares = count_a * a["std"] ** 2 + count_b * b["std"] ** 2 + delta**2 * (count_a * count_b / count)
    return {
        "min": np.minimum(a["min"], b["min"]),
        "max": np.maximum(a["max"], b["max"]),
        "mean": a["mean"] + delta * (count_b / count),
        "std": np.sqrt(squares / count),
        "count": np.array([count], np.int64),
    }
