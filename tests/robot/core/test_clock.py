"""Clocks: sleeping wakes on time, lateness is told, the manual one moves only when told."""

import pytest

from robot.core.clock import Clock, ManualClock


@pytest.mark.parametrize("spin", [0.0, 0.005, 1.0])
def test_sleep_until_wakes_no_earlier_than_asked(spin: float) -> None:
    clock = Clock(spin)
    moment = clock.now() + 0.02
    late = clock.sleep_until(moment)
    assert clock.now() >= moment
    assert late >= 0.0


def test_a_moment_that_has_passed_returns_at_once_with_the_lag() -> None:
    clock = Clock()
    start = clock.now()
    assert clock.sleep_until(start - 1.0) >= 1.0
    assert clock.now() - start < 0.5


def test_manual_clock_moves_only_when_told() -> None:
    clock = ManualClock(10.0)
    assert clock.now() == clock.now() == 10.0
    assert clock.sleep_until(12.0) == 0.0
    assert clock.now() == 12.0
    clock.advance(0.5)
    assert clock.sleep_until(12.25) == 0.25
    assert clock.now() == 12.5
    with pytest.raises(ValueError, match="go back"):
        clock.advance(-0.1)
