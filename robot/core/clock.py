"""Where all time comes from, so that tests of real-time code need not sleep."""

import time


class Clock:
    """Monotonic time in seconds; its zero means nothing."""

    def __init__(self, spin: float = 0.0) -> None:
        """spin: how long before its end a sleep becomes a busy wait [s]; 0.2 ms wakes up within a few microseconds."""
        self.spin = spin

    def now(self) -> float:
        return time.monotonic()

    def sleep_until(self, moment: float) -> float:
        """Return at `moment` [s], or at once where it has passed; the result is how late that is [s], at least 0."""
        left = moment - self.now() - self.spin
        if left > 0:
            time.sleep(left)
        while self.spin and self.now() < moment:
            pass
        return max(0.0, self.now() - moment)


class ManualClock(Clock):
    """A clock that stands still until it is told: `advance` moves it, `sleep_until` jumps."""

    def __init__(self, start: float = 0.0) -> None:
        super().__init__()
        self._now = start

    def now(self) -> float:
        return self._now

    def advance(self, duration: float) -> None:
        """Let `duration` [s], at least 0, pass."""
        if duration < 0:
            raise ValueError(f"monotonic time cannot go back by {-duration} s")
        self._now += duration

    def sleep_until(self, moment: float) -> float:
        late = max(0.0, self._now - moment)
        self._now = max(self._now, moment)
        return late
