"""Means and medians with 95 % intervals, all in closed form: the same values give the same interval everywhere.

Scores of one episode are either binary (success, collision) or continuous (SPL, time). NaN marks an episode that has no
such score and is left out; an interval that the data cannot support (one continuous value) has NaN limits.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z = 1.959963984540054
"""97.5 % quantile of the standard normal distribution."""


def interval(values: ArrayLike) -> tuple[float, float, float]:
    """Mean and its 95 % interval (mean, low, high): Wilson's if every value is 0 or 1, Student's t otherwise."""
    array = _given(values)
    if array.size == 0:
        return math.nan, math.nan, math.nan
    if np.isin(array, (0.0, 1.0)).all():
        return wilson(int(array.sum()), array.size)
    return student(array)


def wilson(successes: int, n: int) -> tuple[float, float, float]:
    """Rate and Wilson's score interval; unlike the normal approximation it stays honest at 0 and 100 %.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    rate = successes / n
    scale = 1.0 + Z * Z / n
    centre = (rate + Z * Z / (2 * n)) / scale
    half = Z / scale * math.sqrt(rate * (1 - rate) / n + Z * Z / (4 * n * n))
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return rate, low, high


def student(values: ArrayLike) -> tuple[float, float, float]:
    """Mean and Student's t interval of continuous values."""
    array = _given(values)
    if array.size == 0:
        return math.nan, math.nan, math.nan
    mean = float(array.mean())
    if array.size < 2:
        return mean, math.nan, math.nan
    from scipy.special import stdtrit

    half = float(stdtrit(array.size - 1, 0.975)) * float(array.std(ddof=1)) / math.sqrt(array.size)
    return mean, mean - half, mean + half


def paired(first: ArrayLike, second: ArrayLike) -> tuple[float, float, float]:
    """Mean of `first - second` over the same episodes, in the same order, with its t interval.

    Two policies that ran the same episodes are compared by this, not by whether their own intervals overlap.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"paired values must be of the same episodes, got shapes {a.shape} and {b.shape}")
    return student(a - b)


def median(values: ArrayLike) -> tuple[float, float, float]:
    """Median and its order-statistic interval, of coverage at least 95 % whatever the distribution.

    The interval is [x_(k), x_(n+1-k)] with the largest k such that P(Binomial(n, 1/2) < k) <= 2.5 %; fewer than six values
    support none. An event that never came may be given as inf (a time to collision, say): only the order counts.
    """
    array = np.sort(_given(values))
    n = array.size
    if n == 0:
        return math.nan, math.nan, math.nan
    below, above = array[(n - 1) // 2], array[n // 2]
    middle = float(below if below == above else 0.5 * (below + above))
    from scipy.special import bdtr

    k = int(np.searchsorted(bdtr(np.arange(n // 2 + 1), n, 0.5), 0.025, side="right"))
    if k < 1:
        return middle, math.nan, math.nan
    return middle, float(array[k - 1]), float(array[n - k])


def summary(values: ArrayLike, centre: str = "mean") -> dict[str, float | int | None]:
    """`{"mean", "low", "high", "n"}` as results.json holds it (`"median"` for centre="median"); None where undefined."""
    triple = median(values) if centre == "median" else interval(values)
    finite: Sequence[float | None] = [value if math.isfinite(value) else None for value in triple]
    return {centre: finite[0], "low": finite[1], "high": finite[2], "n": int(_given(values).size)}


def _given(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64).ravel()
    return array[~np.isnan(array)]
