"""A simulated Crazyflie that speaks CRTP over UDP, so that its maker's library connects as to a real one.

    python -m hardware.fakes.crazyflie port=19850

It follows velocities with a lag once it is armed, and stays level; without setpoints for 0.5 s it stands, after 2 s it stops its
motors and locks, as the firmware's supervisor does; it lands when it is told to. At its end it prints what it saw.
"""

import contextlib
import math
import socket
import struct
import time
import zlib
from collections import deque
from typing import Any

import numpy as np

from hardware.drivers.crazyflie import ARMED, CAN_FLY, LOCKED, LOGGED
from hardware.fakes.device import Account, serve
from hardware.fakes.keys import keys

KEYS = {"port": 0, "dt": 0.002, "seconds": 0.0, "loss": 0.0, "seed": 0, "height": 0.5, "age": 0.0, "delay": 0.0}
CONSOLE, PARAM, COMMANDER, MEM, LOG, GENERIC, HIGH_LEVEL, SUPERVISOR, PLATFORM, LINK = 0, 2, 3, 4, 5, 7, 8, 9, 13, 15
VERSION = 12
"""Of the protocol."""
TYPES = {"uint16_t": 2, "uint32_t": 3, "int16_t": 5}
"""Of log variables."""
FORMATS = {2: "<H", 3: "<I", 5: "<h"}
VELOCITY_WORLD, NOTIFY_STOP, LAND = 8, 0, 8
LAG, LEVEL, CUT, FLOOR = 0.2, 0.5, 2.0, 0.02
"""Of velocities [s]; silence after which it levels out and after which it stops [s]; where it stands [m]."""
FASTEST, TURN = 5.0, math.radians(400)
"""Setpoints beyond are out of range [m/s, rad/s]."""


class Quad:
    def __init__(self, given: dict[str, Any]) -> None:
        self.given, self.dt = given, given["dt"]
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", given["port"]))
        self.socket.setblocking(False)
        self.port = self.socket.getsockname()[1]
        self.peer: tuple[str, int] | None = None
        self.account, self.rng = Account(), np.random.default_rng(given["seed"])
        self.position, self.velocity, self.yaw = np.array([0.0, 0.0, given["height"]]), np.zeros(4), 0.0
        self.rolling = np.zeros(2)
        self.wanted, self.came, self.moved = np.zeros(4), -math.inf, time.monotonic()
        self.armed = self.locked = self.landing = False
        self.blocks: dict[int, tuple[list[int], float, float]] = {}
        self.late: deque[tuple[float, bytes]] = deque()
        self.boot = time.monotonic() - given["age"]

    def tick(self) -> None:
        """Listen, judge, fly, tell."""
        while True:
            try:
                data, self.peer = self.socket.recvfrom(64)
            except BlockingIOError:
                break
            except OSError:
                continue
            if data and self.rng.random() >= self.given["loss"]:
                with contextlib.suppress(struct.error, IndexError):
                    self._take(data[0] >> 4, data[0] & 3, data[1:])
        now = time.monotonic()
        self._fly(now)
        self._tell(now)
        while self.late and self.late[0][0] <= now and self.peer is not None:
            with contextlib.suppress(OSError):
                self.socket.sendto(self.late.popleft()[1], self.peer)

    def report(self) -> dict[str, Any]:
        """What arrived, and how it stands."""
        stands = {"position": self.position.tolist(), "armed": self.armed, "locked": self.locked, "landing": self.landing}
        return {**self.account.told, **stands}

    def close(self) -> None:
        self.socket.close()

    def _fly(self, now: float) -> None:
        dt, self.moved = now - self.moved, now
        silent = now - self.came
        if self.armed and not self.landing and silent > LEVEL and np.any(self.wanted):
            self.wanted = np.zeros(4)
            self.account.event("levels out")
        if self.armed and not self.landing and silent > CUT and math.isfinite(silent):
            self.armed, self.locked = False, True
            self.account.event("stops and locks")
        wanted = np.array([0, 0, -0.3, 0]) if self.landing else self.wanted if self.armed else np.zeros(4)
        self.velocity = self.velocity + (wanted - self.velocity) * min(1.0, dt / LAG)
        self.position = self.position + self.velocity[:3] * dt
        self.yaw += self.velocity[3] * dt
        if self.position[2] < FLOOR:
            self.position[2], self.velocity = FLOOR, np.zeros(4)
            if self.landing:
                self.armed = self.landing = False
                self.account.event("has landed")

    def _take(self, port: int, channel: int, data: bytes) -> None:
        if port == LINK:
            self._say(port, channel, b"Bitcraze Crazyflie" if channel == 1 else data)
        elif port == PLATFORM and channel == 1:
            self._say(port, channel, bytes([data[0], VERSION]))
        elif port in (LOG, PARAM) and channel == 0:
            self._table(port, data)
        elif port == LOG and channel == 1:
            self._settings(data)
        elif port == MEM and channel == 0:
            self._say(port, channel, bytes([data[0], 0]))  # it has none
        elif port == GENERIC:
            self._setpoint(channel, data)
        elif port == COMMANDER:
            self.account.command(struct.unpack("<fff", data[:12]), -400, 400)
            self.account.event("attitude setpoint")
        elif port == HIGH_LEVEL and data[0] == LAND and self.armed and not self.landing:
            self.landing = True
            self.account.event("lands")
        elif port == SUPERVISOR and channel == 1 and data[0] == 1:
            self.armed = bool(data[1]) and not self.locked
            self.account.event(f"armed {self.armed}")
            self.came = time.monotonic()
            self._say(port, channel, bytes([0x81, 1, int(self.armed)]))

    def _setpoint(self, channel: int, data: bytes) -> None:
        if channel == 0 and data[0] == VELOCITY_WORLD:
            values = np.array(struct.unpack("<ffff", data[1:17]))
            values[3] = math.radians(values[3])
            most = np.array([FASTEST, FASTEST, FASTEST, TURN]) + 1e-6
            if self.account.command(values, -most, most) and not self.landing:
                self.wanted, self.came = values, time.monotonic()

    def _table(self, port: int, data: bytes) -> None:
        """Version 2 of the tables of contents."""
        rows = [] if port == PARAM else [(TYPES[kind], *name.split(".")) for name, kind in LOGGED]
        if data[0] == 3:
            self._say(port, 0, struct.pack("<BHIBB", 3, len(rows), zlib.crc32(repr(rows).encode()), 16, 128))
        elif data[0] == 2:
            number = struct.unpack("<H", data[1:3])[0]
            kind, group, name = rows[number]
            self._say(port, 0, struct.pack("<BHB", 2, number, kind) + group.encode() + b"\0" + name.encode() + b"\0")

    def _settings(self, data: bytes) -> None:
        command = data[0]
        if command == 6:  # a block and its variables: type, number
            numbers = [struct.unpack("<H", data[k + 1 : k + 3])[0] for k in range(2, len(data) - 2, 3)]
            self.blocks[data[1]] = (numbers, math.inf, 0.0)
        elif command == 7 and data[1] in self.blocks:
            numbers = [struct.unpack("<H", data[k + 1 : k + 3])[0] for k in range(2, len(data) - 2, 3)]
            before = self.blocks[data[1]]
            self.blocks[data[1]] = (before[0] + numbers, before[1], before[2])
        elif command == 3 and data[1] in self.blocks:
            self.blocks[data[1]] = (self.blocks[data[1]][0], data[2] / 100, time.monotonic())
        elif command == 5:
            self.blocks.clear()
        self._say(LOG, 1, bytes([command, data[1] if len(data) > 1 else 0, 0]))

    def _tell(self, now: float) -> None:
        for number, (variables, every, due) in list(self.blocks.items()):
            if math.isfinite(every) and now >= due:
                self.blocks[number] = (variables, every, max(due + every, now))
                clock = int((now - self.boot) * 1e3) & 0xFFFFFF
                values = self._values()
                kinds = [TYPES[LOGGED[k][1]] for k in variables]
                body = b"".join(struct.pack(FORMATS[kind], values[k]) for kind, k in zip(kinds, variables, strict=True))
                self._say(LOG, 2, bytes([number]) + struct.pack("<I", clock)[:3] + body)

    def _values(self) -> list[int]:
        """Of LOGGED, in its order and units."""
        info = ARMED * self.armed | CAN_FLY * self.armed | LOCKED * self.locked
        place, speed = np.round(self.position * 1e3), np.round(self.velocity[:3] * 1e3)
        roll, pitch, yaw = (round(1e3 * rate) for rate in (*self.rolling, self.velocity[3]))
        return [*map(int, place), *map(int, speed), roll, -pitch, yaw, self._compressed(), info]

    def _compressed(self) -> int:
        """The attitude as quatcompress.h packs it: the largest of x, y, z, w is left out, the others take ten bits each."""
        q = np.array([0.0, 0.0, math.sin(self.yaw / 2), math.cos(self.yaw / 2)])
        largest = int(np.abs(q).argmax())
        packed, negate = largest, q[largest] < 0
        for k in range(4):
            if k != largest:
                size = round(511 * abs(q[k]) * math.sqrt(2))
                packed = packed << 10 | (bool(q[k] < 0) != bool(negate)) << 9 | min(size, 511)
        return packed

    def _say(self, port: int, channel: int, data: bytes) -> None:
        if self.peer is not None and self.rng.random() >= self.given["loss"]:
            self.late.append((time.monotonic() + self.given["delay"], bytes([port << 4 | 3 << 2 | channel]) + data))


def main() -> None:
    """Run in real time."""
    given = keys(KEYS)
    quad = Quad(given)
    serve(quad.tick, quad.dt, f"udp://127.0.0.1:{quad.port}", quad.report, given["seconds"])


if __name__ == "__main__":
    main()
