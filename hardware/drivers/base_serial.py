"""A differential-drive base on a serial line; the frames are in hardware/robots/differential_base/README.md."""

import contextlib
import math
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hardware.drivers.base import Array, Driver, Reading
from hardware.serial_link import Frames, Serial, frame
from hardware.skew import Skew
from robot.core.errors import DriverError
from robot.core.interface import Field

COMMAND, ENABLE, STATE = 0x01, 0x02, 0x81
TWIST, SWITCH, SAID = struct.Struct("<ff"), struct.Struct("<B"), struct.Struct("<I12fB")
"""v, w; on or off; clock [ms], x, y, yaw, v, w, battery [V], acceleration and rate of the inertial unit, flags."""
ENABLED, ESTOP, BUMPER = 1, 2, 4
WRAP = 2**32
"""Its clock begins again after so many milliseconds, seven weeks."""
COPIES = 3
"""Of the last command: a frame may be damaged."""


@dataclass
class BaseSerialConfig:
    robot: str
    """Whose limits hold: a folder of hardware/robots."""
    device: str
    """Such as /dev/ttyUSB0."""
    baud: int
    """Of the line [1/s]."""
    dt: float
    """Time between two commands [s]."""
    battery: float
    """Below this the base does not begin [V]."""
    patience: float
    """How long it may take to answer [s]."""


class BaseSerial(Driver):
    def __init__(self, config: BaseSerialConfig) -> None:
        self.config, self.dt = config, config.dt
        self.command = Field("twist", (2,), "float32", "m/s, rad/s", "body", names=("v", "w"))
        self.observation = (
            Field("odometry", (3,), "float32", "m, m, rad", "odom", names=("x", "y", "yaw")),
            Field("velocity", (2,), "float32", "m/s, rad/s", "body", names=("v", "w")),
            Field("battery", (1,), "float32", "V"),
            Field("acceleration", (3,), "float32", "m/s^2", "body", names=("x", "y", "z")),
            Field("rate", (3,), "float32", "rad/s", "body", names=("x", "y", "z")),
        )
        self.link: Serial | None = None
        self._forget()

    def _forget(self) -> None:
        self.frames, self.skew = Frames(), Skew()
        self.newest: Reading | None = None
        self.flags, self.charge, self.armed, self.clock = 0, math.nan, False, -1

    def open(self) -> None:
        if self.link is not None:
            return
        self._forget()
        self.link = Serial(self.config.device, self.config.baud, "base")
        end = time.monotonic() + self.config.patience
        while self.newest is None:
            if time.monotonic() > end:
                self.close()
                raise DriverError(
                    f"base: '{self.config.device}' says nothing that is a state frame in {self.config.patience} s; "
                    f"is driver.baud={self.config.baud} right, and the base on?"
                )
            self._drain()
            time.sleep(0.002)

    def read(self) -> Reading | None:
        self._drain()
        newest, self.newest = self.newest, None
        return newest

    def write(self, command: Array) -> Array:
        values = np.asarray(command, np.float32)
        self._port().write(frame(COMMAND, TWIST.pack(*map(float, values))))
        return values.astype(np.float64)

    def arm(self) -> None:
        if not self.charge >= self.config.battery:
            raise DriverError(
                f"base: the battery has {self.charge:.1f} V, at least {self.config.battery} V are needed; charge it"
            )
        if self.flags & ESTOP:
            raise DriverError("base: its emergency stop is pressed; look around, then pull it out")
        if self.flags & BUMPER:
            raise DriverError("base: its bumper touches something; push it free")
        end = time.monotonic() + self.config.patience
        while not self.flags & ENABLED:
            if time.monotonic() > end:
                raise DriverError("base: it does not switch its motors on; look at its own panel")
            self._port().write(frame(ENABLE, SWITCH.pack(1)))
            self._port().write(frame(COMMAND, TWIST.pack(0.0, 0.0)))
            time.sleep(0.02)
            self._drain()
        self.armed = True

    def stop(self) -> None:
        """Zero velocity, then motors off: it brakes by itself."""
        self.armed = False
        if self.link is not None:
            with contextlib.suppress(DriverError):
                for _ in range(COPIES):
                    self.write(np.zeros(2))
                self.link.write(frame(ENABLE, SWITCH.pack(0)))

    def will(self) -> Callable[[], None]:
        """Nothing: the line is the dead process's, and the base brakes when commands stop for 0.2 s."""
        return lambda: None

    def report(self) -> list[str]:
        """The battery, and frames that did not arrive whole."""
        return [f"{'battery':<18}{self.charge:.1f} V", f"{'frames damaged':<18}{self.frames.damaged}"]

    def close(self) -> None:
        if self.link is not None:
            self.link.close()
            self.link = None

    def _port(self) -> Serial:
        if self.link is None:
            raise DriverError("base: it is not open; use the driver as a context manager")
        return self.link

    def _drain(self) -> None:
        now = time.monotonic()
        for kind, payload in self.frames.feed(self._port().read()):
            if kind == STATE and len(payload) == SAID.size:
                self._take(SAID.unpack(payload), now)
        if self.armed and (self.flags & (ESTOP | BUMPER) or not self.flags & ENABLED):
            self.armed = False
            raise DriverError(f"base: {self._why()}")

    def _take(self, said: tuple[Any, ...], now: float) -> None:
        clock, x, y, yaw, v, w, self.charge, *inertial, self.flags = said
        self.clock = clock if self.clock < 0 else self.clock + (clock - self.clock) % WRAP
        seen = {
            "odometry": [x, y, yaw],
            "velocity": [v, w],
            "battery": [self.charge],
            "acceleration": inertial[:3],
            "rate": inertial[3:],
        }
        observation = {name: np.array(value, np.float32) for name, value in seen.items()}
        self.newest = Reading(observation, self.skew.ours(self.clock / 1e3, now), np.array([v, w], np.float64))

    def _why(self) -> str:
        if self.flags & ESTOP:
            return "its emergency stop is pressed"
        return "its bumper touches something" if self.flags & BUMPER else "it has switched its motors off; look at its panel"
