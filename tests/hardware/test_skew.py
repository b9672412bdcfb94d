"""Two clocks: what is slow to come is old, a false stamp changes nothing, a clock that was set is believed after a while."""

import random

import pytest

from hardware.skew import AGREE, Skew


def test_the_fastest_message_says_how_far_clocks_are_apart():
    skew, rng = Skew(), random.Random(0)
    for k in range(2000):
        measured = 0.01 * k
        late = 0.001 + rng.expovariate(200)
        found = skew.ours(measured + 1e3, measured + late)
        if k > 500:
            assert measured <= found < measured + 0.0045
        assert found <= measured + late + 1e-9


@pytest.mark.parametrize("error", [5.0, -5.0, 3600.0, -3600.0])
def test_one_false_stamp_changes_nothing(error):
    skew = Skew()
    for k in range(100):
        skew.ours(100 + 0.01 * k, 0.01 * k + 0.001)
    assert skew.ours(101 + error, 1.001) == pytest.approx(1.001 + error, abs=0.01)
    assert skew.ours(101.01, 1.011) == pytest.approx(1.011, abs=0.01)


@pytest.mark.parametrize("step", [5.0, -5.0])
def test_a_clock_that_was_set_is_believed_after_a_while(step):
    skew = Skew()
    for k in range(100):
        skew.ours(100 + 0.01 * k, 0.01 * k + 0.001)
    ages = [0.01 * k + 0.001 - skew.ours(100 + step + 0.01 * k, 0.01 * k + 0.001) for k in range(100, 100 + AGREE + 20)]
    assert all(age == pytest.approx(-step, abs=0.01) for age in ages[:AGREE])
    assert all(age == pytest.approx(0.0, abs=0.01) for age in ages[AGREE:])


def test_crystals_may_differ():
    skew = Skew()
    for k in range(20_000):
        now = 0.01 * k
        found = skew.ours(now * (1 - 1e-4), now)
    assert now - found < 0.005
