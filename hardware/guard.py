"""Who may move the robot, and when: a state machine around hardware/safety.py that every command passes.

    idle --arm--> armed --first action--> running
     ^              |  fault                |  fault
     |              v                       v
     +---release-- hold <-------------------+          stop() from anywhere --> stopped --release--> idle

A fault is latched with its reasons: the safe command of limits.yaml goes out until someone releases and arms again, from where
the robot then is. Nothing happens by itself but falling into `hold`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware import safety
from hardware.collision import Bodies
from hardware.drivers.base import Reading
from hardware.limits import Fence, Limits, Safe, Tilt, fit
from hardware.lookahead import Lookahead
from robot.core.errors import DriverError
from robot.core.interface import Interface

FUTURE = 0.005
"""Stamps so far ahead of now are a clock that jumped [s]."""


class Mode(Enum):
    idle = "idle"
    armed = "armed"
    running = "running"
    hold = "hold"
    stopped = "stopped"


@dataclass(frozen=True)
class Action:
    """What a policy wants now.

    Attributes:
        values: (A,), as it came: of any shape, dtype and finiteness.
        decided: when the measurements were taken that it rests on [s].
    """

    values: Any
    decided: float


class Guard:
    """Stateful only in its mode, its reasons, the channels' last commands and the last measurement."""

    def __init__(self, limits: Limits, interface: Interface) -> None:
        """Refuses limits that do not fit the driver's interface (InterfaceError)."""
        fit(limits, interface)
        self.limits, self.interface = limits, interface
        self.bounds = safety.bounds(limits)
        self.ahead = None
        if limits.collision:
            bodies = Bodies(limits.collision, [channel.name for channel in limits.channels])
            self.ahead = Lookahead(bodies, self.bounds, limits.dt)
        self.mode, self.reasons = Mode.idle, ()
        self.state: safety.State = ()
        self.limited = 0
        self._reading: Reading | None = None
        self._changed = -math.inf

    mode: Mode
    reasons: tuple[str, ...]
    """Why it holds or was stopped."""
    limited: int
    """Commands that were not what was wanted."""

    def arm(self, reading: Reading | None, now: float) -> None:
        """Take the robot over where it stands.

        Raises:
            DriverError: a fault is latched, the robot is outside its limits, or says nothing fresh: what to do.
        """
        if self.mode is not Mode.idle:
            raise DriverError(f"cannot arm: {self.mode.value} ({'; '.join(self.reasons) or 'already'}); release it first")
        self._changed = now
        wrong = self._wrong(reading, now)
        if not wrong and reading is not None:
            wrong = [
                f"{channel.name} is at {value:.4g} {channel.unit}, outside [{bound.low:.4g}, {bound.high:.4g}]: move it back"
                for channel, bound, value in zip(self.limits.channels, self.bounds, reading.measured.tolist(), strict=True)
                if not bound.low <= value <= bound.high
            ]
            near = self.ahead.bodies.touching(reading.measured[None]) if self.ahead else None
            wrong += [f"{near[0]}, {near[1]:.3f} m: move them apart"] if near else []
        if wrong or reading is None:
            raise DriverError(f"cannot arm: {'; '.join(wrong)}")
        self.state = safety.rest(reading.measured.tolist())
        self.mode, self.reasons = Mode.armed, ()

    def release(self) -> None:
        """Forget a fault or a stop; arming is the next step."""
        self.mode, self.reasons = Mode.idle, ()

    def stop(self, reason: str) -> None:
        """No command leaves any more until `release`."""
        self.mode, self.reasons = Mode.stopped, (*self.reasons, reason)

    def fault(self, reason: str) -> None:
        """Go to the safe command, for this reason."""
        if self.mode in (Mode.armed, Mode.running):
            self.mode = Mode.hold
        if self.mode is Mode.hold and reason not in self.reasons:
            self.reasons = (*self.reasons, reason)

    def tick(self, now: float, reading: Reading | None, action: Action | None) -> list[float] | None:
        """The command (A,) of this period, or None where nothing may be sent.

        Args:
            now: [s].
            reading: the newest measurement.
            action: what the policy wants, None while it has not decided anything yet.
        """
        if self.mode in (Mode.idle, Mode.stopped):
            return None
        if self.mode is not Mode.hold:
            for reason in self._wrong(reading, now):
                self.fault(reason)
        values = None if self.mode is Mode.hold or action is None else self._accepted(action, now)
        if values is not None:
            self.mode = Mode.running
        wanted = values
        if wanted is None and self.limits.safe is Safe.zero:
            wanted = [0.0] * len(self.bounds)
        command, same = self._step(wanted)
        if self.mode is Mode.hold and self.limits.safe is Safe.silent:
            return None
        self.limited += values is not None and not same
        return command

    def _step(self, wanted: Sequence[float] | None) -> tuple[list[float], bool]:
        """The next command and whether it is what is wanted; the state moves on.

        The way of braking is looked along before a command leaves, and braking keeps to it: what was seen to be free stays so.
        """
        command, state, same = safety.step(wanted, self.state, self.bounds, self.limits.dt)
        if self.ahead is not None and (near := self.ahead.touching(command, state)):
            self.fault(f"it would bring {near}")
            command, state, same = safety.step(None, self.state, self.bounds, self.limits.dt)
        self.state = state
        return command, same

    def _accepted(self, action: Action, now: float) -> Sequence[float] | None:
        """The action's values, or None after a fault."""
        try:
            values = np.asarray(action.values)
        except (TypeError, ValueError):
            return self.fault("the action is no array of numbers")
        if values.dtype.kind not in "fiu":
            return self.fault(f"the action is no array of numbers, but of {values.dtype}")
        if values.shape != (len(self.bounds),):
            return self.fault(f"the action has shape {values.shape}, not ({len(self.bounds)},)")
        if not np.isfinite(values).all():
            return self.fault("the action is not finite")
        for channel, value in zip(self.limits.channels, values.tolist(), strict=True):
            span = channel.high - channel.low
            if not channel.low - span <= value <= channel.high + span:
                return self.fault(
                    f"the action's {channel.name}={value:.4g} is far outside [{channel.low:.4g}, {channel.high:.4g}]"
                )
        if not -FUTURE <= now - action.decided <= self.limits.command_age:
            return self.fault(f"the action is {now - action.decided:.3f} s old, at most {self.limits.command_age} s")
        return values.tolist()

    def _wrong(self, reading: Reading | None, now: float) -> list[str]:
        """What speaks against moving on this measurement."""
        if reading is None:
            return ["the robot has not said anything yet"]
        age = now - reading.stamp
        if not -FUTURE <= age <= self.limits.observation_age:
            return [f"the measurement is {age:.3f} s old, at most {self.limits.observation_age} s"]
        if reading is not self._reading:
            wrong = self._measured(reading)
            if wrong:
                return wrong
            if self._reading is None or self._moved(reading, self._reading):
                self._changed = now
            self._reading = reading
        if now - self._changed > self.limits.frozen:
            return [f"measurements have been the same to the last bit for {now - self._changed:.2f} s"]
        return []

    def _moved(self, a: Reading, b: Reading) -> bool:
        return any(not np.array_equal(a.observation[name], b.observation[name]) for name in self.limits.trembling)

    def _measured(self, reading: Reading) -> list[str]:
        if reading.measured.shape != (len(self.bounds),) or not np.isfinite(reading.measured).all():
            return ["the measured channels are not finite, or of a wrong shape"]
        for field in self.interface.observation:
            value = reading.observation.get(field.name)
            if value is None or np.shape(value) != field.shape:
                return [f"the measurement '{field.name}' is missing, or of a wrong shape"]
            if not np.isfinite(value).all():
                return [f"the measurement '{field.name}' is not finite"]
        wrong = []
        for entry in self.limits.measured:
            value = reading.observation[entry.field]
            if not (value.min() >= entry.low and value.max() <= entry.high):
                wrong.append(
                    f"'{entry.field}' is in [{value.min():.4g}, {value.max():.4g}], allowed [{entry.low:.4g}, {entry.high:.4g}]"
                )
        if self.limits.fence and outside(self.limits.fence, reading.observation[self.limits.fence.field]):
            wrong.append(f"outside the fence, at {np.round(reading.observation[self.limits.fence.field], 3).tolist()}")
        if (
            self.limits.tilt
            and (angle := tilted(self.limits.tilt, reading.observation[self.limits.tilt.field])) > self.limits.tilt.limit
        ):
            wrong.append(f"tilted by {angle:.3g} rad, allowed {self.limits.tilt.limit:.3g} rad")
        return wrong


def outside(fence: Fence, position: NDArray[Any]) -> bool:
    """Whether a position (>= 2 or 3,) [m] is not within the fence."""
    where = np.asarray(position, np.float64).ravel()[: len(fence.low)]
    return not bool((where >= fence.low).all() and (where <= fence.high).all())


def tilted(tilt: Tilt, orientation: NDArray[Any]) -> float:
    """Angle between the body's up and the world's [rad], of a rotation matrix (3, 3) or a quaternion (4,), wxyz."""
    up = orientation[2, 2] if orientation.ndim == 2 else 1 - 2 * (orientation[1] ** 2 + orientation[2] ** 2)
    return math.acos(min(max(float(up), -1.0), 1.0))
