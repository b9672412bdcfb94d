"""Betaflight and its kin over MSP: body rates and throttle as remote control, one frame for every fresh action.

Nothing waits: a period sends the sticks and asks for attitude and gyroscope, and a later one finds the answers. When frames stop,
Betaflight's own failsafe acts (0.5 s as it comes); nothing is repeated in the background.
"""

import math
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hardware import msp
from hardware.drivers.base import Array, Driver, Reading
from hardware.serial_link import Serial, reason
from robot.core.errors import DriverError
from robot.core.interface import Field
from robot.core.rotation import from_rotvec, multiply, to_matrix

VARIANT, IMU, ATTITUDE, ANALOG, STATUS, STICKS = 2, 102, 108, 110, 150, 200
LOW, MIDDLE, HIGH = 1000, 1500, 2000
"""Of a stick [us]."""
SLOW = 25
"""So many periods pass between two questions for state and battery."""
OBSTACLES = (
    "no gyro", "failsafe", "no receiver", "bad receiver", "box failsafe", "runaway", "crash", "throttle", "angle", "boot grace",
    "no preparation", "load", "calibrating", "command line", "a menu", "blackbox", "self test", "paralysed", "GPS",
    "rescue switch", "telemetry", "reboot", "motor protocol", "accelerometer", "arm switch",
)  # fmt: skip
"""Betaflight's reasons not to arm, by bit (runtime_config.h); the last one that is set counts."""


@dataclass
class MspConfig:
    robot: str
    """Whose limits hold: a folder of hardware/robots."""
    connection: str
    """tcp:<address>:<port>, or a serial device."""
    baud: int
    """Of a serial device."""
    full_rate: float
    """Body rate of a full stick, as the flight controller is set up, linear [rad/s]."""
    arm_channel: int
    """Channel that arms above 1700 us, 4 for AUX1."""
    channels: int
    """That are sent."""
    dt: float
    """Time between two commands [s]; MSP answers at 100 Hz at most."""
    patience: float
    """How long the flight controller may take to answer [s]."""


class Tcp:
    """A stream to a simulator, read and written without waiting."""

    def __init__(self, where: str) -> None:
        host, _, port = where.partition(":")
        try:
            self.socket = socket.create_connection((host, int(port)), timeout=2.0)
        except (OSError, ValueError) as error:
            raise DriverError(f"msp: 'tcp:{where}' cannot be opened: {reason(error)}; is the flight controller on?") from error
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.where = where

    def read(self) -> bytes:
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise DriverError(f"msp: 'tcp:{self.where}' broke: {error}") from error
        if not data:
            raise DriverError(f"msp: 'tcp:{self.where}' was closed by the flight controller")
        return data

    def write(self, data: bytes) -> None:
        try:
            self.socket.send(data)
        except BlockingIOError:
            return
        except OSError as error:
            raise DriverError(f"msp: 'tcp:{self.where}' broke: {error}") from error

    def close(self) -> None:
        self.socket.close()


class Msp(Driver):
    """Frames of the protocol's numbers: Betaflight's body axes are x forward, y left, z up; its heading is clockwise."""

    def __init__(self, config: MspConfig) -> None:
        self.config, self.dt = config, config.dt
        self.command = Field("rates", (4,), "float32", "rad/s, rad/s, rad/s, 1", "body", names=("x", "y", "z", "thrust"))
        self.observation = (
            Field("rotation", (3, 3), "float32", "1", "world from body"),
            Field("rate", (3,), "float32", "rad/s", "body", names=("x", "y", "z")),
            Field("battery", (1,), "float32", "V"),
        )
        self.link: Any = None
        self._forget()

    def _forget(self) -> None:
        self.frames = msp.Frames()
        self.said: dict[int, bytes] = {}
        self.rotation: Array | None = None
        self.rate: Array | None = None
        self.battery, self.is_armed, self.obstacles = math.nan, False, 0
        self.asked, self.commanded, self.count, self.armed = -math.inf, -math.inf, 0, False
        self.last = np.zeros(4)

    def open(self) -> None:
        if self.link is not None:
            return
        self._forget()
        where, config = self.config.connection, self.config
        self.link = Tcp(where.removeprefix("tcp:")) if where.startswith("tcp:") else Serial(where, config.baud, "msp")
        end = time.monotonic() + config.patience
        while VARIANT not in self.said or STATUS not in self.said or ANALOG not in self.said:
            if time.monotonic() > end:
                self.close()
                raise DriverError(
                    f"msp: nothing on '{where}' answers MSP in {config.patience} s; is it on for that port, the baud right?"
                )
            for function in (VARIANT, STATUS, ANALOG):
                self.link.write(msp.frame(function))
            time.sleep(0.02)
            self._drain()
        self._ask()

    def read(self) -> Reading | None:
        self._drain()
        if self.armed and not self.is_armed:
            self.armed = False
            raise DriverError(
                f"msp: the flight controller has disarmed itself: {self._obstacle() or 'by its own switch or failsafe'}"
            )
        now, found = time.monotonic(), None
        if self.rotation is not None and self.rate is not None:
            seen = {"rotation": self.rotation, "rate": self.rate, "battery": [self.battery]}
            found = Reading({name: np.array(value, np.float32) for name, value in seen.items()}, self.asked, self.last)
            self.rotation = self.rate = None
            self.asked = -math.inf
        if now - self.commanded > 3 * self.dt and now - self.asked > 0.1:
            self._ask()  # while nobody commands; otherwise `write` asks
        return found

    def write(self, command: Array) -> Array:
        sticks = self._sticks(np.asarray(command, np.float64))
        self._send(sticks, self.armed)
        self.commanded = time.monotonic()
        if self.commanded - self.asked > 2 * self.dt:
            self._ask()
        full = self.config.full_rate
        rates = (np.array([sticks[0], sticks[1], -sticks[3] + 2 * MIDDLE]) - MIDDLE) / (HIGH - MIDDLE) * full
        self.last = np.array([*rates, (sticks[2] - LOW) / (HIGH - LOW)])
        return self.last

    def arm(self) -> None:
        """The switch off, then on, with throttle down: the order that a failsafe asks for as well."""
        for on in (False, True):
            end = time.monotonic() + self.config.patience
            while self.is_armed is not on:
                if time.monotonic() > end:
                    why = self._obstacle() or "it does not say why"
                    raise DriverError(f"msp: the flight controller does not {'arm' if on else 'disarm'}: {why}")
                for _ in range(5):  # it wants to see the switch for a while
                    self._send([MIDDLE, MIDDLE, LOW, MIDDLE], on)
                    time.sleep(self.dt)
                self.link.write(msp.frame(STATUS))
                time.sleep(self.dt)
                self._drain()
            for _ in range(10 if not on else 0):
                self._send([MIDDLE, MIDDLE, LOW, MIDDLE], False)
                time.sleep(self.dt)
        self.armed, self.commanded = True, time.monotonic()
        self._ask()

    def stop(self) -> None:
        """Silence: Betaflight's own failsafe does what it was set up for. To switch it off in the air would let it fall."""
        self.armed = False

    def will(self) -> Callable[[], None]:
        """Silence."""
        return lambda: None

    def close(self) -> None:
        if self.link is not None:
            self.link.close()
            self.link = None

    def _sticks(self, command: Array) -> list[int]:
        """Roll, pitch, throttle, yaw [us]."""
        x, y, z = command[:3] / self.config.full_rate * (HIGH - MIDDLE)
        values = (MIDDLE + x, MIDDLE + y, LOW + command[3] * (HIGH - LOW), MIDDLE - z)
        return [round(min(max(value, LOW), HIGH)) for value in values]

    def _send(self, sticks: list[int], on: bool) -> None:
        if self.link is None:
            raise DriverError("msp: it is not open; use the driver as a context manager")
        values = [*sticks, *[LOW] * (self.config.channels - 4)]
        values[self.config.arm_channel] = HIGH if on else LOW
        self.link.write(msp.frame(STICKS, struct.pack(f"<{len(values)}H", *values)))

    def _ask(self) -> None:
        self.asked, self.count = time.monotonic(), self.count + 1
        functions = (ATTITUDE, IMU) if self.count % SLOW else (ATTITUDE, IMU, STATUS, ANALOG)
        self.link.write(b"".join(msp.frame(function) for function in functions))

    def _drain(self) -> None:
        if self.link is None:
            raise DriverError("msp: it is not open; use the driver as a context manager")
        for found in self.frames.feed(self.link.read()):
            if found.kind == msp.REPLY:
                try:
                    self._take(found.function, found.payload)
                except (struct.error, IndexError):
                    self.frames.damaged += 1

    def _take(self, function: int, payload: bytes) -> None:
        if function == ATTITUDE:
            roll, pitch, heading = struct.unpack("<hhh", payload[:6])
            turns = [[math.radians(roll / 10), 0, 0], [0, math.radians(pitch / 10), 0], [0, 0, -math.radians(heading)]]
            about_x, about_y, about_z = (from_rotvec(turn) for turn in turns)
            self.rotation = to_matrix(multiply(multiply(about_z, about_y), about_x))
        elif function == IMU:
            self.rate = np.radians(struct.unpack("<9h", payload[:18])[3:6])
        elif function == ANALOG:
            self.battery = struct.unpack("<BHHhH", payload[:9])[4] / 100
        elif function == STATUS:
            self.is_armed = bool(struct.unpack("<I", payload[6:10])[0] & 1)
            more = 15 + payload[15]  # further mode bits come first
            self.obstacles = struct.unpack("<I", payload[more + 2 : more + 6])[0]
        self.said[function] = payload

    def _obstacle(self) -> str:
        """Why it does not arm, in words."""
        return ", ".join(name for bit, name in enumerate(OBSTACLES) if self.obstacles >> bit & 1)
