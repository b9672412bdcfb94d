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

VARIANT, IMU, RC, ATTITUDE, ANALOG, STATUS, STICKS = 2, 102, 105, 108, 110, 150, 200
MARKS = (1, 3, 5, 160)
"""Short questions, one of them behind those for measurements. Answers come in order but without a number; which of these ends
them says which question they belong to, so that late answers are not taken for fresh ones."""
FORGOTTEN = 1.0
"""After so long an answer does not come any more [s]."""
LOW, MIDDLE, HIGH = 1000, 1500, 2000
"""Of a stick [us]."""
SLOW = 25
"""So many periods pass between two questions for state and battery."""
OBSTACLES = (
    "no gyro", "failsafe", "no receiver", "a switch on before the receiver was", "box failsafe", "runaway", "crash", "throttle",
    "angle", "boot grace", "no preparation", "load", "calibrating", "command line", "a menu", "configured over BST",
    "a configurator is connected", "paralysed", "GPS", "rescue switch", "motor telemetry", "reboot", "motor signal",
    "accelerometer is not calibrated", "motor protocol", "crash flip", "altitude hold", "position hold",
)  # fmt: skip
"""Betaflight's reasons not to arm, by bit (runtime_config.h). The last bit that a firmware has is the arm switch: on while
something else forbade it, it has to go off first."""


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
        self.battery, self.is_armed, self.obstacles, self.switch = math.nan, False, 0, 0
        self.asked: dict[int, float] = {}
        self.newest: tuple[float, dict[str, Any]] | None = None
        self.questioned, self.commanded, self.count, self.armed = -math.inf, -math.inf, 0, False
        self.sticks = np.zeros(4)

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
        now, newest = time.monotonic(), self.newest
        self.newest = None
        if now - self.commanded > 3 * self.dt and (not self.asked or now - self.questioned > 0.1):
            self._ask()  # while nobody commands; otherwise `write` asks
        if newest is None:
            return None
        return Reading({name: np.array(value, np.float32) for name, value in newest[1].items()}, newest[0], self.sticks)

    def write(self, command: Array) -> Array:
        sticks = self._sticks(np.asarray(command, np.float64))
        self._send(sticks, self.armed)
        self.commanded = time.monotonic()
        if not self.asked or self.commanded - self.questioned > 2 * self.dt:
            self._ask()
        return self._meant(*sticks)

    def arm(self) -> None:
        """The switch off until nothing speaks against arming, then on, with throttle down. On too early it would count as
        forgotten there, and the flight controller would wait for it to go off. One that is armed may be in the air: it is taken
        over as it is."""
        self._until(None, lambda: True)
        if not self.is_armed:
            self._until(False, lambda: not self.obstacles & ~self.switch)
            self._until(True, lambda: self.is_armed)
        self.armed, self.commanded = True, time.monotonic()
        self._ask()

    def _until(self, on: bool | None, done: Callable[[], bool]) -> None:
        """Hold the switch, or send nothing for None, until the flight controller says that it is done."""
        end = time.monotonic() + self.config.patience
        self.said.pop(STATUS, None)
        while STATUS not in self.said or not done():
            if time.monotonic() > end:
                raise DriverError(f"msp: the flight controller does not arm: {self._obstacle() or 'it does not say why'}")
            self.said.pop(STATUS, None)
            for _ in range(5 if on is not None else 0):  # it wants to see the switch for a while
                self._send([MIDDLE, MIDDLE, LOW, MIDDLE], on is True)
                time.sleep(self.dt)
            self._port().write(msp.frame(STATUS))
            time.sleep(self.dt)
            self._drain()

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

    def _meant(self, roll: int, pitch: int, throttle: int, yaw: int) -> Array:
        """The command that sticks [us] stand for; without a receiver they are beyond their ends."""
        x, y, z = np.clip([roll - MIDDLE, pitch - MIDDLE, MIDDLE - yaw], LOW - MIDDLE, HIGH - MIDDLE) / (HIGH - MIDDLE)
        return np.array([*(np.array([x, y, z]) * self.config.full_rate), np.clip((throttle - LOW) / (HIGH - LOW), 0.0, 1.0)])

    def _port(self) -> Any:
        if self.link is None:
            raise DriverError("msp: it is not open; use the driver as a context manager")
        return self.link

    def _send(self, sticks: list[int], on: bool) -> None:
        values = [*sticks, *[LOW] * (self.config.channels - 4)]
        values[self.config.arm_channel] = HIGH if on else LOW
        self._port().write(msp.frame(STICKS, struct.pack(f"<{len(values)}H", *values)))

    def _ask(self) -> None:
        now = time.monotonic()
        self.asked = {mark: when for mark, when in self.asked.items() if now - when < FORGOTTEN}
        mark = next((mark for mark in MARKS if mark not in self.asked), None)
        if mark is None:
            return
        self.asked[mark] = self.questioned = now
        self.count += 1
        functions = (ATTITUDE, IMU, RC, mark) if self.count % SLOW else (ATTITUDE, IMU, RC, mark, STATUS, ANALOG)
        self._port().write(b"".join(msp.frame(function) for function in functions))

    def _drain(self) -> None:
        for found in self.frames.feed(self._port().read()):
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
        elif function == RC:  # in another order than sticks are sent in
            roll, pitch, yaw, throttle = struct.unpack("<4H", payload[:8])
            self.sticks = self._meant(roll, pitch, throttle, yaw)
        elif function == ANALOG:
            self.battery = struct.unpack("<BHHhH", payload[:9])[4] / 100
        elif function == STATUS:
            self.is_armed = bool(struct.unpack("<I", payload[6:10])[0] & 1)
            more = 15 + (payload[15] & 0x0F)  # further mode bits come first
            count, self.obstacles = struct.unpack("<BI", payload[more + 1 : more + 6])
            self.switch = 1 << count >> 1
        elif function in MARKS:
            stamp = self.asked.pop(function, None)
            if stamp is not None and self.rotation is not None and self.rate is not None:
                self.newest = stamp, {"rotation": self.rotation, "rate": self.rate, "battery": [self.battery]}
            if stamp is not None:
                self.asked = {mark: when for mark, when in self.asked.items() if when > stamp}  # others were lost
            self.rotation = self.rate = None
        self.said[function] = payload

    def _obstacle(self) -> str:
        """Why it does not arm, in words."""
        names = [name for bit, name in enumerate(OBSTACLES) if self.obstacles & ~self.switch & 1 << bit]
        return ", ".join([*names, *["arm switch"] * bool(self.obstacles & self.switch)])
