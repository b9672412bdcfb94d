"""The one real-time loop: read, think elsewhere, choose, guard, write, record; once a servo period."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from hardware.controller import Chunks
from hardware.drivers.base import Driver, Reading
from hardware.guard import Guard, Mode
from hardware.thinker import Thinker
from robot.core.clock import Clock
from robot.core.errors import DriverError, InterfaceError
from robot.core.interface import Interface

Record = Callable[[float, Reading, "np.ndarray | None", "np.ndarray | None"], None]
"""Called each period with the time, the reading, what was wanted (A,) and what was sent (A,), or None."""


@dataclass
class Beat:
    """How the loop kept time.

    Attributes:
        periods: periods so far.
        missed: periods that were skipped because one before took too long.
        late: how late each of the last periods began [s].
        think: how long each of the last plans took, from measurement to arrival [s].
        limited: commands that the gate changed.
    """

    periods: int = 0
    missed: int = 0
    late: list[float] = field(default_factory=list)
    think: list[float] = field(default_factory=list)

    KEPT = 20_000

    def add(self, late: float) -> None:
        self.periods += 1
        self.late.append(late)
        del self.late[: -self.KEPT]

    def summary(self) -> dict[str, float]:
        """Percentiles in milliseconds, and counts."""
        told: dict[str, float] = {"periods": self.periods, "missed": self.missed}
        for name in ("late", "think"):
            values = getattr(self, name)
            if values:
                told |= {f"{name}_p{p:g}_ms": 1e3 * float(np.percentile(values, p)) for p in (50, 99, 99.9)}
        return told


class Runtime:
    """A driver, its guard, a policy's process and a controller, a period at a time. All time comes from the clock."""

    def __init__(
        self, driver: Driver, guard: Guard, thinker: Thinker, controller: Chunks, clock: Clock, record: Record | None = None
    ) -> None:
        """
        Raises:
            InterfaceError: the policy is for another robot: what differs, in words.
        """
        fit(thinker, driver)
        self.driver, self.guard, self.thinker, self.controller, self.clock = driver, guard, thinker, controller, clock
        self.record = record
        self.reading: Reading | None = None
        self.episode = 0
        self.beat = Beat()
        self.asked = -np.inf
        self.due = clock.now()
        self.stopped = False

    def arm(self, patience: float = 2.0) -> None:
        """Begin an episode from where the robot is; waits for its first measurement, at most `patience` [s].

        Raises:
            DriverError: it says nothing, is outside its limits, or refuses.
        """
        end = self.clock.now() + patience
        while self._fresh() is None and self.clock.now() < end:
            self.clock.sleep_until(self.clock.now() + self.guard.limits.dt)
        self.guard.arm(self.reading, self.clock.now())
        try:
            self.driver.arm()
        except DriverError:
            self.guard.release()
            raise
        self.episode += 1
        self.controller.reset()
        self.asked, self.stopped = -np.inf, False
        self.due = self.clock.now()

    def tick(self) -> None:
        """One period, and wait for the next. Whatever goes wrong ends in the safe command, then in the robot's own safe state."""
        now = self.clock.now()
        try:
            self._period(now)
        except DriverError as error:
            self.guard.stop(str(error))
        if self.guard.mode is Mode.stopped and not self.stopped:
            self.stopped = True
            self.driver.stop()
        self.due += self.guard.limits.dt
        behind = self.clock.now() - self.due
        if behind > 0:  # skip what was missed, never catch up in a burst
            skipped = int(behind / self.guard.limits.dt) + 1
            self.beat.missed += skipped
            self.due += skipped * self.guard.limits.dt
        self.beat.add(self.clock.sleep_until(self.due))

    def _period(self, now: float) -> None:
        reading = self._fresh()
        if not self.thinker.alive:
            self.guard.fault("the policy's process is dead")
        self._think(now, reading)
        action = self.controller.wanted(now)
        command = self.guard.tick(now, reading, action)
        applied = None if command is None else self.driver.write(np.array(command))
        if self.record is not None and reading is not None:
            self.record(now, reading, None if action is None else np.asarray(action.values), applied)

    def _fresh(self) -> Reading | None:
        reading = self.driver.read()
        if reading is not None and (self.reading is None or reading.stamp > self.reading.stamp):
            self.reading = reading
        return self.reading

    def _think(self, now: float, reading: Reading | None) -> None:
        thought = self.thinker.answer()
        if thought is not None:
            self.beat.think.append(now - thought.stamp)
            del self.beat.think[: -Beat.KEPT]
            self.controller.take(thought, now)
        pending = self.asked > (self.controller.plan.stamp if self.controller.plan else -np.inf)
        fresh = reading is not None and reading.stamp > self.asked
        if reading is not None and fresh and not pending and self.controller.due(now):
            self.asked = reading.stamp
            self.thinker.ask(reading.observation, reading.stamp, self.episode)


def fit(thinker: Thinker, driver: Driver) -> None:
    """Refuse a policy that is for another robot. It may see less than the driver offers, and decide less often.

    Raises:
        InterfaceError: what differs, in words.
    """
    asked, offered = thinker.spec.interface, driver.interface
    names = [entry.name for entry in offered.observation if entry.name in asked.names]
    seen = Interface(tuple(offered.field(name) for name in asked.names if name in names), offered.action, asked.dt)
    wrong = asked.compare(seen)
    ratio = asked.dt / offered.dt
    if abs(ratio - round(ratio)) > 1e-6 or ratio < 1 - 1e-6:
        wrong.append(f"dt: the policy decides every {asked.dt} s, which is no multiple of the driver's {offered.dt} s")
    if wrong:
        raise InterfaceError(f"this policy is not for this robot: {'; '.join(wrong)}")


def hurry() -> bool:
    """Ask the system for real-time scheduling of this process; False where it refuses."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(20))
    except (PermissionError, AttributeError):
        return False
    return True

