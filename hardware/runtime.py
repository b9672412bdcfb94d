"""The one real-time loop: read, think elsewhere, choose, guard, write, record; once a servo period."""

import gc
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hardware.controller import Controller
from hardware.drivers.base import Driver, Reading
from hardware.estop import Estop
from hardware.fit import fit
from hardware.guard import Action, Guard, Mode
from hardware.limits import Safe
from hardware.recorder import Recorder
from hardware.thinker import Thinker
from hardware.watchdog import Watchdog
from robot.core.clock import Clock
from robot.core.errors import DriverError

POLL = 2e-5
"""Between two looks for a plan that is waited for [s]."""


@dataclass
class Beat:
    """How the loop kept time.

    Attributes:
        periods: periods so far.
        missed: periods that were skipped because one before took too long.
        readings: measurements so far.
        plans: plans so far.
        late: how late each of the last periods began [s].
        think: how long each of the last plans took, from measurement to arrival [s].
    """

    periods: int = 0
    missed: int = 0
    readings: int = 0
    plans: int = 0
    late: list[float] = field(default_factory=list)
    think: list[float] = field(default_factory=list)

    KEPT = 20_000

    def add(self, name: str, value: float) -> None:
        """Append to `late` or `think`, which keep the last `KEPT`."""
        values = getattr(self, name)
        values.append(value)
        if len(values) > 2 * self.KEPT:
            del values[: self.KEPT]

    def summary(self) -> dict[str, float]:
        """Percentiles in milliseconds, and counts."""
        told: dict[str, float] = {"periods": self.periods, "missed": self.missed}
        for name in ("late", "think"):
            values = getattr(self, name)
            if values:
                points = (50, 99, 99.9)
                told |= {f"{name}_p{p:g}_ms": 1e3 * float(v) for p, v in zip(points, np.percentile(values, points), strict=True)}
        return told


class Runtime:
    """A driver, its guard, a policy's process and a controller, a period at a time. All time comes from the clock."""

    def __init__(
        self,
        driver: Driver,
        guard: Guard,
        thinker: Thinker,
        controller: Controller,
        clock: Clock,
        recorder: Recorder | None = None,
        watchdog: Watchdog | None = None,
        dry: bool = False,
        estop: Estop | None = None,
    ) -> None:
        """dry: everything happens but that the driver is never asked to arm or to write.

        Raises:
            InterfaceError: the policy is for another robot: what differs, in words.
        """
        fit(thinker.spec.interface, driver.interface, controller.accepts)
        self.driver, self.guard, self.thinker, self.controller, self.clock = driver, guard, thinker, controller, clock
        self.recorder, self.watchdog, self.dry, self.estop = recorder, watchdog, dry, estop
        self.reading: Reading | None = None
        self.episode = 0
        self.beat = Beat()
        self.asked = -np.inf
        self.due = self.last = clock.now()
        self.told: tuple[Mode, tuple[str, ...]] = (Mode.idle, ())

    def arm(self, patience: float = 2.0) -> None:
        """Begin an episode from where the robot is; waits for its first measurement, at most `patience` [s].

        Raises:
            DriverError: it says nothing, is outside its limits, or refuses.
        """
        if self.watchdog is not None:
            self.watchdog.pause()
        end = self.clock.now() + patience
        while not self._awake() and self.clock.now() < end:
            self.clock.sleep_until(self.clock.now() + self.guard.limits.dt)
        if self.estop is not None and (reason := self.estop.poll(self.clock.now())):
            raise DriverError(f"cannot arm: {reason}; look around, then release it")
        self.guard.arm(self.reading, self.clock.now())
        try:
            if not self.dry:
                self.driver.arm()
        except DriverError:
            self.guard.release()
            raise
        self.episode += 1
        self.controller.reset()
        self.asked = -np.inf
        self.due = self.last = self.clock.now()
        self._tell(self.due)

    def _awake(self) -> bool:
        reading = self._fresh()
        return reading is not None and self.clock.now() - reading.stamp <= self.guard.limits.observation_age

    def stop(self, reason: str) -> None:
        """The robot's own safe state, now."""
        self.guard.stop(reason)
        self._tell(self.clock.now())

    def tick(self) -> None:
        """One period, and wait for the next. Whatever goes wrong ends in the safe command, then in the robot's own safe state."""
        now = self.clock.now()
        try:
            self._period(now)
        except DriverError as error:
            self.guard.stop(str(error))
        except Exception as error:  # a bug must not leave the robot moving
            self.guard.stop(f"{type(error).__name__} in the servo loop: {error}")
        self._tell(now)
        if self.watchdog is not None:
            self.watchdog.beat()
        self.due += self.guard.limits.dt
        behind = self.clock.now() - self.due
        if behind > 0:  # skip what was missed, never catch up in a burst
            skipped = int(behind / self.guard.limits.dt) + 1
            self.beat.missed += skipped
            self.due += skipped * self.guard.limits.dt
        self.beat.periods += 1
        self.beat.add("late", self.clock.sleep_until(self.due))

    def _period(self, now: float) -> None:
        if self.estop is not None and (reason := self.estop.poll(now)) and self.guard.mode is not Mode.stopped:
            self.guard.stop(reason)
        stood, self.last = now - self.last, now
        if stood > self.guard.limits.command_age:
            self.guard.fault(f"the servo loop stood still for {stood:.3f} s")
        if not self.thinker.alive:
            self.guard.fault("the policy's process is dead")
        reading = self._fresh()
        self._think(now, reading)
        now = self.clock.now()
        action = self.controller.wanted(now, reading)
        command = self.guard.tick(now, reading, action)
        sent = None if command is None or self.dry else self.driver.write(np.array(command))
        if self.recorder is not None and reading is not None:
            self.recorder.period(now, reading, self.episode, self.guard.mode, _vector(action), sent)

    def _fresh(self) -> Reading | None:
        reading = self.driver.read()
        if reading is not None and (self.reading is None or reading.stamp > self.reading.stamp):
            self.reading = reading
            self.beat.readings += 1
        return self.reading

    def _think(self, now: float, reading: Reading | None) -> None:
        self._collect(now)
        pending = self.asked > (self.controller.plan.stamp if self.controller.plan else -np.inf)
        if reading is None or pending or reading.stamp <= self.asked or not self.controller.due(now):
            return
        self.asked = reading.stamp
        self.controller.asked(reading)
        self.thinker.ask(reading.observation, reading.stamp, self.episode)
        end = now + self.controller.config.wait
        while not self._collect(now := self.clock.now()) and now < end:
            self.clock.sleep_until(now + POLL)

    def _collect(self, now: float) -> bool:
        thought = self.thinker.answer()
        if thought is not None:
            self.beat.plans += 1
            self.beat.add("think", now - thought.stamp)
            self.controller.take(thought, now)
        return thought is not None

    def _tell(self, now: float) -> None:
        """Record a change of mode; where no command is sent any more, the robot's own safe state is asked for."""
        if self.told == (self.guard.mode, self.guard.reasons):
            return
        before, self.told = self.told[0], (self.guard.mode, self.guard.reasons)
        if self._silent(self.guard.mode) and not self._silent(before) and not self.dry:
            self.driver.stop()
        if self.recorder is not None:
            self.recorder.event(now, *self.told)

    def _silent(self, mode: Mode) -> bool:
        return mode is Mode.stopped or (mode is Mode.hold and self.guard.limits.safe is Safe.silent)


def _vector(action: Action | None) -> "np.ndarray[Any, Any] | None":
    return None if action is None else np.asarray(action.values)


def settle() -> None:
    """Take all that was loaded so far out of the garbage collector's sight: looking through it takes tens of milliseconds."""
    gc.collect()
    gc.freeze()


def hurry() -> bool:
    """Ask the system for real-time scheduling of this process and those it starts from now on; False where it refuses."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(20))
    except (PermissionError, AttributeError):
        return False
    return True
