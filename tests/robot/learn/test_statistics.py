"""Intervals against scipy and against their promised coverage."""

import math

import numpy as np
import pytest
from scipy import stats

from robot.learn import statistics


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (862, 1000), (1, 3), (1, 1)])
def test_binary_interval_is_wilsons(k, n):
    expected = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    mean, low, high = statistics.interval(np.arange(n) < k)
    assert mean == k / n
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_continuous_interval_is_students():
    values = np.random.default_rng(0).gamma(2.0, size=40)
    expected = stats.t.interval(0.95, 39, values.mean(), stats.sem(values))
    mean, low, high = statistics.interval(values)
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx(expected, rel=1e-10)


def test_missing_scores_are_left_out():
    assert statistics.interval([1.0, math.nan, 0.0]) == statistics.interval([1, 0])
    assert statistics.summary([2.0, math.nan, 3.0])["n"] == 2


def test_what_cannot_be_known_is_nan_and_none_in_json():
    assert all(map(math.isnan, statistics.interval([])))
    assert statistics.interval([0.3])[0] == 0.3
    assert math.isnan(statistics.interval([0.3])[1])
    assert statistics.summary([0.3]) == {"mean": 0.3, "low": None, "high": None, "n": 1}


def test_paired_interval_is_narrower_where_episodes_agree():
    generator = np.random.default_rng(1)
    difficulty = generator.random(200)
    a, b = (difficulty < 0.8).astype(float), (difficulty < 0.7).astype(float)
    mean, low, high = statistics.paired(a, b)
    assert mean == pytest.approx(a.mean() - b.mean())
    assert low > 0.05
    assert high - low < 0.1
    with pytest.raises(ValueError, match="same episodes"):
        statistics.paired([1, 2], [1])


@pytest.mark.parametrize("n", [6, 7, 20, 35, 101])
def test_median_interval_takes_the_tightest_ranks_that_hold_95_percent(n):
    middle, low, high = statistics.median(np.arange(1, n + 1))
    assert middle == (n + 1) / 2
    k = int(low)
    assert high == n + 1 - k
    assert 1 - 2 * stats.binom.cdf(k - 1, n, 0.5) >= 0.95
    assert 1 - 2 * stats.binom.cdf(k, n, 0.5) < 0.95


def test_median_bears_events_that_never_came():
    middle, low, high = statistics.median([1.0, 2.0, 3.0, 4.0] + [math.inf] * 4)
    assert (middle, low, high) == (math.inf, 1.0, math.inf)
    assert statistics.summary([1.0, 2.0, math.inf], centre="median") == {"median": 2.0, "low": None, "high": None, "n": 3}


def test_intervals_hold_the_truth_19_times_in_20():
    generator = np.random.default_rng(2)
    hits = np.zeros(3)
    for _ in range(600):
        binary, normal = generator.random(80) < 0.85, generator.normal(0.6, 0.2, 25)
        for i, (truth, (_, low, high)) in enumerate(
            [(0.85, statistics.interval(binary)), (0.6, statistics.interval(normal)), (0.6, statistics.median(normal))]
        ):
            hits[i] += low <= truth <= high
    assert (hits / 600 > 0.92).all()
