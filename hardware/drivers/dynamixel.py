"""Arms and hands of Dynamixel servos (protocol 2.0), such as a LEAP hand: goal positions out, positions, speeds and currents in.

Nothing waits: a period writes all goals in one packet and asks for all states in another, and the next period finds the answers.
The servos' own bus watchdog stops them where they are when packets stop.
"""

import contextlib
import math
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hardware import dynamixel_packets as bus
from hardware.drivers.base import Array, Driver, Reading
from hardware.serial_link import Serial
from robot.core.errors import ConfigError, DriverError
from robot.core.interface import Field

TICK = 2 * math.pi / 4096
"""Of positions [rad]."""
SPEED = 0.229 * 2 * math.pi / 60
"""Of speeds [rad/s]."""
STATE, STATE_SIZE = 126, 10
"""Present current [int16], velocity [int32] and position [int32] follow each other in the control table."""
DELAY, MODE, TORQUE, ALERT, WATCHDOG, CURRENT, GOAL = 9, 11, 64, 70, 98, 102, 116
"""Addresses: return delay [2 us], operating mode, torque, hardware error, bus watchdog [20 ms], goal current, goal position."""
POSITION_BY_CURRENT = 5
"""Operating mode: positions, with no more than the goal current."""
ALERTS = ((0x01, "input voltage"), (0x04, "overheating"), (0x08, "encoder"), (0x10, "electrical shock"), (0x20, "overload"))
LONGEST = 2.54
"""Of the bus watchdog [s]."""
COPIES = 3
"""Of the last goal."""


@dataclass
class DynamixelConfig:
    robot: str
    """Whose limits hold: a folder of hardware/robots."""
    device: str
    """Such as /dev/ttyUSB0."""
    baud: int
    """Of the bus [1/s]."""
    names: list[str]
    """Of the joints, in the policy's order."""
    numbers: list[int]
    """Of their servos on the bus."""
    zeros: list[float]
    """What each servo says where its joint is at zero [rad]."""
    signs: list[int]
    """1 where a servo turns as its joint does, -1 where it turns against it."""
    current: int
    """Goal current of each [mA]: no finger presses harder."""
    unit: float
    """Of currents in the servos' registers [mA]."""
    watchdog: float
    """Without a packet the servos stop where they are after so long [s], in steps of 20 ms."""
    dt: float
    """Time between two commands [s]."""
    patience: float
    """How long servos may take to answer [s]."""


class Dynamixel(Driver):
    """A servo holds its position by torque: there is no gravity to compensate in a hand, and an arm keeps its posture."""

    def __init__(self, config: DynamixelConfig) -> None:
        count = len(config.names)
        if not len(config.numbers) == len(config.zeros) == len(config.signs) == count or len(set(config.numbers)) != count:
            raise ConfigError(f"driver: {count} names need as many different numbers, zeros and signs")
        if not 0.02 <= config.watchdog <= LONGEST:
            raise ConfigError(
                f"driver: watchdog={config.watchdog} s is not from 0.02 to {LONGEST}; a hand that nobody stops is none"
            )
        self.config, self.dt = config, config.dt
        shape, names = (count,), tuple(config.names)
        self.command = Field("targets", shape, "float32", "rad", names=names)
        self.observation = (
            Field("joints", shape, "float32", "rad", names=names),
            Field("joint_velocities", shape, "float32", "rad/s", names=names),
            Field("currents", shape, "float32", "mA", names=names),
        )
        self.zeros, self.signs = np.array(config.zeros), np.array(config.signs)
        self.place = {number: k for k, number in enumerate(config.numbers)}
        self.link: Serial | None = None
        self._forget()

    def _forget(self) -> None:
        self.packets = bus.Packets()
        self.answers: dict[int, bus.Packet] = {}
        self.states: dict[int, bytes] = {}
        self.asked, self.pending, self.commanded, self.armed = -math.inf, False, -math.inf, False
        self.newest: Reading | None = None
        self.alerts: set[int] = set()

    def open(self) -> None:
        if self.link is not None:
            return
        self._forget()
        self.link = Serial(self.config.device, self.config.baud, "dynamixel")
        try:
            missing = [number for number in self.config.numbers if self._answer(number, bus.packet(number, bus.PING), 3) is None]
            if missing:
                raise DriverError(
                    f"dynamixel: on '{self.config.device}' servos {missing} do not answer at {self.config.baud} baud; "
                    "look at power, cables, numbers and baud rate"
                )
            for number in self.config.numbers:
                self._set(number, WATCHDOG, b"\0")  # forget that it once fired
            self._ask()
        except DriverError:
            self.close()
            raise

    def read(self) -> Reading | None:
        self._drain()
        now = time.monotonic()
        if self.alerts:
            number = min(self.alerts)
            self.alerts.clear()
            raise DriverError(
                f"dynamixel: servo {number} has an alert ({self._alert(number)}); let it cool, then switch it off and on"
            )
        if self.pending and len(self.states) == len(self.place):
            self.pending = False
            self.newest = self._reading()
        if now - self.commanded > 3 * self.dt and (not self.pending or now - self.asked > self.dt):
            self._ask()  # while nobody commands; otherwise `write` asks
        newest, self.newest = self.newest, None
        return newest

    def write(self, command: Array) -> Array:
        wanted = (np.asarray(command, np.float64) * self.signs + self.zeros) / TICK
        ticks = np.round(wanted).astype(np.int64)
        data = {number: struct.pack("<i", int(ticks[k])) for number, k in self.place.items()}
        self._port().write(bus.sync_write(GOAL, data))
        self.commanded = time.monotonic()
        self._ask()
        return (ticks * TICK - self.zeros) * self.signs

    def arm(self) -> None:
        """Torque on where the joints are, currents limited, the bus watchdog set."""
        held: dict[int, int] = {}
        for _ in range(3):
            held |= self._where()
        missing = [number for number in self.config.numbers if number not in held]
        if missing:
            raise DriverError(f"dynamixel: servos {missing} do not say where they are; look at their cables")
        for number in self.config.numbers:
            self._set(number, WATCHDOG, b"\0")  # one that has fired refuses goals
            self._set(number, TORQUE, b"\0")
            self._set(number, DELAY, b"\0")
            self._set(number, MODE, bytes([POSITION_BY_CURRENT]))
            self._set(number, CURRENT, struct.pack("<h", round(self.config.current / self.config.unit)))
            self._set(number, GOAL, struct.pack("<i", held[number]))  # no jump
            self._set(number, TORQUE, b"\1")
        for number in self.config.numbers:
            self._set(number, WATCHDOG, bytes([round(self.config.watchdog / 0.02)]))
        self.armed = True
        self._ask()

    def stop(self) -> None:
        """Hold where the joints are, with torque; the watchdog is off, so that they go on holding. Servos that do not say where
        they are keep theirs, and stop by it."""
        if self.link is None or not self.armed:
            return
        self.armed = False
        with contextlib.suppress(DriverError):
            held: dict[int, bytes] = {}
            for _ in range(COPIES):
                new = {n: struct.pack("<i", ticks) for n, ticks in self._where().items()} if len(held) < len(self.place) else {}
                held = new | held  # the first place that was heard
                if held:
                    off = bus.sync_write(WATCHDOG, dict.fromkeys(held, b"\0"))
                    self.link.write(off + bus.sync_write(GOAL, held))

    def will(self) -> Callable[[], None]:
        """Nothing: the line is the dead process's, and the servos' own watchdog stops them."""
        return lambda: None

    def close(self) -> None:
        if self.link is not None:
            self.link.close()
            self.link = None

    def _port(self) -> Serial:
        if self.link is None:
            raise DriverError("dynamixel: it is not open; use the driver as a context manager")
        return self.link

    def _ask(self) -> None:
        """For all states; the next period finds them."""
        self.states.clear()
        self.asked, self.pending = time.monotonic(), True
        self._port().write(bus.sync_read(self.config.numbers, STATE, STATE_SIZE))

    def _drain(self) -> None:
        for found in self.packets.feed(self._port().read()):
            if found.instruction != bus.STATUS or found.number not in self.place:
                continue
            self.answers[found.number] = found
            if found.error & 0x80:
                self.alerts.add(found.number)
            if len(found.parameters) == 1 + STATE_SIZE:
                self.states[found.number] = found.parameters[1:]

    def _reading(self) -> Reading:
        rows = np.array([struct.unpack("<hii", self.states[number]) for number in self.config.numbers], np.float64)
        joints = (rows[:, 2] * TICK - self.zeros) * self.signs
        seen = {
            "joints": joints,
            "joint_velocities": rows[:, 1] * SPEED * self.signs,
            "currents": rows[:, 0] * self.config.unit * self.signs,
        }
        return Reading({name: value.astype(np.float32) for name, value in seen.items()}, self.asked, joints)

    def _answer(self, number: int, request: bytes, size: int) -> bus.Packet | None:
        """The status of `size` bytes that a servo says to a request, asked up to three times: to set it up, not in the loop."""
        while self.pending and len(self.states) < len(self.place) and time.monotonic() - self.asked < self.dt:
            self._drain()  # what is under way is not the answer to this
            time.sleep(0.0002)
        self.pending = False
        for again in range(3):
            self._drain()
            self.answers.pop(number, None)
            self._port().write(request)
            found = self._hear(number, size, self.config.patience / 3)
            if found is not None:
                if again:  # the answer to a request that was given up may still come
                    self._hear(number, -1, self.dt)
                return found
        return None

    def _hear(self, number: int, size: int, patience: float) -> bus.Packet | None:
        end = time.monotonic() + patience
        while time.monotonic() < end:
            self._drain()
            found = self.answers.get(number)
            if found is not None and len(found.parameters) == 1 + size:
                return found
            time.sleep(0.0002)
        return None

    def _set(self, number: int, address: int, data: bytes) -> None:
        found = self._answer(number, bus.write(number, address, data), 0)
        if found is None or found.error & 0x7F:
            told = "does not answer" if found is None else f"refuses (error {found.error & 0x7F})"
            raise DriverError(f"dynamixel: servo {number} {told} as register {address} is set; is it the right model?")

    def _get(self, number: int, address: int, count: int) -> bytes:
        found = self._answer(number, bus.read(number, address, count), count)
        if found is None:
            raise DriverError(f"dynamixel: servo {number} does not say its register {address}; look at its cable")
        return found.parameters[1:]

    def _where(self) -> dict[int, int]:
        """Positions [ticks] of the servos that answer one question to all; once some have, the others get another period."""
        self._ask()
        while len(self.states) < len(self.place):
            self._drain()
            if time.monotonic() - self.asked > (self.dt if self.states else self.config.patience / 3):
                break
            time.sleep(0.0002)
        self.pending = False
        return {number: struct.unpack("<i", state[6:10])[0] for number, state in self.states.items()}

    def _alert(self, number: int) -> str:
        with contextlib.suppress(DriverError):
            bits = self._get(number, ALERT, 1)[0]
            return ", ".join(name for bit, name in ALERTS if bits & bit) or f"0x{bits:02x}"
        return "which it does not name"
