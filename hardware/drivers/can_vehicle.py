"""A car by drive-by-wire on a CAN bus: steering angle and acceleration out; wheels, steering, yaw rate and who drives in.

The frames are in hardware/robots/car/car.dbc, what the car does with them in the README.md beside it. It brakes to a standstill
by itself when good frames stop for 0.1 s, and a human at its wheel or pedals has the last word.
"""

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from hardware.can_link import Bus, Codec
from hardware.drivers.base import Array, Driver, Reading
from hardware.limits import ROBOTS
from hardware.skew import Skew
from robot.core.errors import DriverError
from robot.core.interface import Field

WHEELS = ("front_left", "front_right", "rear_left", "rear_right")
STATE = ("MOTION", "WHEELS", "STATUS")
"""Frames of one measurement, in the order in which they come."""
HUMAN = {"OVERRIDE_WHEEL": "the steering wheel", "OVERRIDE_BRAKE": "the brake", "OVERRIDE_ACCELERATOR": "the accelerator"}
FAULTS = {"FAULT_STEERING": "steering", "FAULT_BRAKES": "brakes", "FAULT_DRIVE": "drive", "FAULT_SENSORS": "sensors"}
COPIES = 3
"""Of the last frame: one may be lost."""
STANDBY = 15
"""Frames of good will before driving is asked for; the car wants ten."""
SILENCE = 1.0
"""The bus is down for good when the car has said nothing for so long [s]."""
WRAP = 65536
"""The car's clock begins again after so many milliseconds."""


class Request(IntEnum):
    """Values of COMMAND.REQUEST."""

    standby = 0
    drive = 1
    safe_stop = 2


class Mode(IntEnum):
    """Values of STATUS.MODE."""

    manual = 0
    driving = 1
    stopping = 2
    faulty = 3


@dataclass
class CanVehicleConfig:
    robot: str
    """Whose limits hold: a folder of hardware/robots."""
    connection: str
    """<interface of python-can>:<channel>, such as socketcan:can0, or socketcand:<host>:<port> for a bus behind a network."""
    options: dict[str, Any] | None
    """What else the interface asks for, such as a bitrate; null for nothing."""
    database: str
    """The car's DBC file, from hardware/robots."""
    dt: float
    """Time between two commands [s]."""
    patience: float
    """How long the car may take to answer [s]."""


class CanVehicle(Driver):
    def __init__(self, config: CanVehicleConfig) -> None:
        self.config, self.dt = config, config.dt
        self.command = Field("drive", (2,), "float32", "rad, m/s^2", "body", names=("steering", "acceleration"))
        self.observation = (
            Field("speed", (1,), "float32", "m/s", "body"),
            Field("wheel_speeds", (4,), "float32", "m/s", names=WHEELS),
            Field("steering", (1,), "float32", "rad", "body"),
            Field("yaw_rate", (1,), "float32", "rad/s", "body"),
            Field("acceleration", (1,), "float32", "m/s^2", "body"),
        )
        self.codec = Codec(ROBOTS / config.database)
        self.bus: Bus | None = None
        self._forget()

    def _forget(self) -> None:
        self.skew, self.clock = Skew(), -1
        self.parts: dict[str, dict[str, Any]] = {}
        self.status: dict[str, Any] = {}
        self.newest: Reading | None = None
        self.measured, self.driving, self.heard, self.frames = np.zeros(2), False, -math.inf, 0

    def open(self) -> None:
        if self.bus is not None:
            return
        self._forget()
        numbers = [self.codec.messages[name].frame_id for name in STATE]
        self.bus = Bus(self.config.connection, self.config.options or {}, numbers)
        end = time.monotonic() + self.config.patience
        while self.newest is None:
            if time.monotonic() > end:
                self.close()
                raise DriverError(
                    f"can_vehicle: on '{self.config.connection}' "
                    + ("frames come, but none is good; is driver.database this car's?" if self.frames else "nothing is heard")
                    + f" in {self.config.patience} s; look at ignition, cables and bitrate"
                )
            self._drain()
            time.sleep(0.002)

    def read(self) -> Reading | None:
        self._drain()
        if self.driving and self.status["MODE"] != Mode.driving:
            self.driving = False
            raise DriverError(f"can_vehicle: {self._why()}")
        if time.monotonic() - self.heard > SILENCE:
            raise DriverError(f"can_vehicle: the car has said nothing for {SILENCE} s; is the bus still plugged in?")
        newest, self.newest = self.newest, None
        return newest

    def write(self, command: Array) -> Array:
        return self._send(Request.drive, command)

    def arm(self) -> None:
        """Frames that ask for nothing, then for driving from where the steering is: the order that the car asks for. While it
        brakes to a standstill by itself, that is waited for."""
        end = time.monotonic() + self.config.patience
        while self.status["MODE"] == Mode.stopping and time.monotonic() < end:
            time.sleep(self.dt)
            self._drain()
        if self.driving and self.status["MODE"] == Mode.driving:
            return
        if self.status["MODE"] != Mode.manual or self._named(FAULTS):
            raise DriverError(f"can_vehicle: the car cannot be armed: {self._why()}")
        for _ in range(STANDBY):
            self._send(Request.standby, [self._wheel(), 0.0])
            time.sleep(self.dt)
            self._drain()
        end = time.monotonic() + self.config.patience
        asked = False
        while self.status["MODE"] != Mode.driving:
            if time.monotonic() > end or (asked and self._named(HUMAN)):
                self.stop()
                raise DriverError(f"can_vehicle: the car does not hand over: {self._why()}")
            asked = self.driving = True
            self._send(Request.drive, [self._wheel(), 0.0])
            time.sleep(self.dt)
            self._drain()

    def stop(self) -> None:
        """A gentle stop by the car itself, unless somebody else drives it."""
        if self.bus is None or not self.driving:
            return
        self.driving = False
        with contextlib.suppress(DriverError):
            for _ in range(COPIES):
                self._send(Request.safe_stop, [self._wheel(), 0.0])

    def _wheel(self) -> float:
        """Where the wheel is, as far as a command can say it: a frame may be false."""
        signal = self.codec.messages["COMMAND"].get_signal_by_name("STEERING")
        return float(np.clip(self.measured[0], signal.minimum, signal.maximum))

    def will(self) -> Callable[[], None]:
        """Nothing: the car brakes by itself when frames stop for 0.1 s."""
        return lambda: None

    def close(self) -> None:
        if self.bus is not None:
            self.bus.close()
            self.bus = None

    def report(self) -> list[str]:
        """Frames of the car's that were not taken."""
        return [f"{'frames refused':<18}{count} by their {name}" for name, count in self.codec.refused.items() if count]

    def _open_bus(self) -> Bus:
        if self.bus is None:
            raise DriverError("can_vehicle: it is not open; use the driver as a context manager")
        return self.bus

    def _send(self, request: Request, values: Any) -> Array:
        bus = self._open_bus()
        steps = [self.codec.messages["COMMAND"].get_signal_by_name(name).scale for name in ("STEERING", "ACCELERATION")]
        sent = np.round(np.asarray(values, np.float64) / steps) * steps
        signals = {"STEERING": float(sent[0]), "ACCELERATION": float(sent[1]), "REQUEST": int(request)}
        bus.send(*self.codec.pack("COMMAND", signals))
        return sent

    def _drain(self) -> None:
        now = time.monotonic()
        for number, data in self._open_bus().receive():
            self.frames += 1
            found = self.codec.unpack(number, data)
            if found is None or found[0] not in STATE:
                continue
            name, self.parts[found[0]] = found
            if name == STATE[-1] and len({self.parts.get(part, {}).get("COUNTER") for part in STATE}) == 1:
                self._take(now)

    def _take(self, now: float) -> None:
        """A measurement is whole."""
        motion, wheels, self.status = (self.parts[name] for name in STATE)
        self.heard = now
        self.clock = motion["CLOCK"] if self.clock < 0 else self.clock + (motion["CLOCK"] - self.clock) % WRAP
        speeds = [wheels[name.upper()] for name in WHEELS]
        seen = {
            "speed": [(speeds[2] + speeds[3]) / 2],
            "wheel_speeds": speeds,
            "steering": [motion["STEERING"]],
            "yaw_rate": [motion["YAW_RATE"]],
            "acceleration": [self.status["ACCELERATION"]],
        }
        self.measured = np.array([motion["STEERING"], self.status["ACCELERATION"]])
        observation = {name: np.array(value, np.float32) for name, value in seen.items()}
        self.newest = Reading(observation, self.skew.ours(self.clock / 1e3, now), self.measured)

    def _named(self, bits: dict[str, str]) -> list[str]:
        return [name for bit, name in bits.items() if self.status.get(bit)]

    def _why(self) -> str:
        """Why the car does not obey, in its own words."""
        mode = self.status["MODE"]
        if self._named(HUMAN):
            return f"a human is at {' and '.join(self._named(HUMAN))}, and drives now"
        if self._named(FAULTS):
            return f"it has faults: {', '.join(self._named(FAULTS))}; have its memory read in a workshop"
        if mode == Mode.stopping:
            return "it is braking to a standstill by itself; arm again when it stands"
        return "a human drives now" if mode == Mode.manual else f"it is {Mode(mode).name}, and not by this program"
