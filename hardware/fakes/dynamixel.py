"""Simulated Dynamixel servos on a pseudo-terminal: protocol 2.0, registers of the X series, the bus watchdog.

    python -m hardware.fakes.dynamixel servos=16 loss=0.0

The maker's own kit works on it. A servo follows its goal with a lag while its torque is on; with the watchdog set it stops where
it is when no packet has come, and refuses goals until the watchdog is cleared. At its end it prints what arrived.
"""

import struct
import time
from typing import Any

import numpy as np

from hardware import dynamixel_packets as bus
from hardware.drivers.dynamixel import ALERT, GOAL, SPEED, STATE, TICK, TORQUE, WATCHDOG
from hardware.fakes.device import Account, Terminal, serve
from hardware.fakes.keys import keys

KEYS = {"servos": 16, "dt": 0.001, "seconds": 0.0, "loss": 0.0, "seed": 0, "low": -1.6, "high": 1.6, "model": 1200}
CENTRE = 2048
"""Where servos stand at first [ticks]."""
LAG = 0.05
"""Time constant with which a servo follows its goal [s]."""
FASTEST = 8.0
"""Speed of a servo [rad/s]."""
EEPROM = 64
"""Registers below are refused while torque is on."""
FIRED = 0xFF
"""What the bus watchdog says after it has stopped its servo."""
ACCESS, RANGE = 7, 4
"""Errors of a status: not allowed now, and out of range."""


class Servo:
    def __init__(self, number: int, model: int) -> None:
        self.table = bytearray(256)
        struct.pack_into("<HIBB", self.table, 0, model, 0, 46, number)
        struct.pack_into("<i", self.table, GOAL, CENTRE)
        self.position, self.speed = float(CENTRE), 0.0

    def move(self, dt: float) -> None:
        """A first-order lag towards the goal, no faster than it can; without torque, or stopped by its watchdog, it stays."""
        goal = struct.unpack_from("<i", self.table, GOAL)[0]
        most = FASTEST / TICK
        free = self.table[TORQUE] and self.table[WATCHDOG] != FIRED
        self.speed = min(max((goal - self.position) / LAG, -most), most) if free else 0.0
        self.position += self.speed * dt
        struct.pack_into(
            "<hii", self.table, STATE, round(self.speed * 0.01), round(self.speed * TICK / SPEED), round(self.position)
        )

    def put(self, address: int, data: bytes) -> int:
        """The error of a write, 0 for none."""
        if address < EEPROM and self.table[TORQUE]:
            return ACCESS
        if address == WATCHDOG and data != b"\0" and self.table[WATCHDOG] == FIRED:
            return ACCESS
        if address == GOAL and self.table[WATCHDOG] == FIRED:
            return RANGE
        if address + len(data) > len(self.table):
            return RANGE
        self.table[address : address + len(data)] = data
        return 0


class Bus:
    """The servos and their line."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given, self.dt = given, given["dt"]
        self.line, self.packets, self.account = Terminal(), bus.Packets(), Account()
        self.servos = {number: Servo(number, given["model"]) for number in range(given["servos"])}
        self.rng = np.random.default_rng(given["seed"])
        self.heard = self.moved = time.monotonic()

    def tick(self) -> None:
        """Listen, watch, move."""
        for found in self.packets.feed(self.line.read()):
            self.heard = time.monotonic()
            self._take(found)
        now = time.monotonic()
        for number, servo in self.servos.items():
            limit = servo.table[WATCHDOG]
            if 0 < limit < FIRED and now - self.heard > 0.02 * limit:
                servo.table[WATCHDOG] = FIRED
                self.account.event(f"watchdog of {number}")
            servo.move(now - self.moved)
        self.moved = now

    def report(self) -> dict[str, Any]:
        """What arrived, and where the servos stand [rad]."""
        stand = [(servo.position - CENTRE) * TICK for servo in self.servos.values()]
        torque = [int(servo.table[TORQUE]) for servo in self.servos.values()]
        return {**self.account.told, "damaged": self.packets.damaged, "positions": stand, "torque": torque}

    def _take(self, found: bus.Packet) -> None:
        try:
            if found.instruction in (bus.SYNC_READ, bus.FAST_SYNC_READ):
                self._read_all(found)
            elif found.instruction == bus.SYNC_WRITE:
                self._write_all(found.parameters)
            else:
                for number in self.servos if found.number == bus.BROADCAST else [found.number]:
                    if number in self.servos:
                        self._one(number, found)
        except (struct.error, IndexError):
            self.account.told["refused"] += 1

    def _one(self, number: int, found: bus.Packet) -> None:
        servo, said = self.servos[number], found.parameters
        if found.instruction == bus.PING:
            self._say(number, bytes(servo.table[:2]) + bytes(servo.table[6:7]))
        elif found.instruction == bus.READ:
            address, count = struct.unpack("<HH", said)
            self._say(number, bytes(servo.table[address : address + count]))
        elif found.instruction == bus.WRITE:
            address, data = struct.unpack("<H", said[:2])[0], said[2:]
            if address == GOAL:
                self._goals({number: data})
            error = servo.put(address, data)
            if found.number != bus.BROADCAST:
                self._say(number, b"", error)

    def _read_all(self, found: bus.Packet) -> None:
        address, count = struct.unpack("<HH", found.parameters[:4])
        numbers = [number for number in found.parameters[4:] if number in self.servos]
        tables = {number: bytes(self.servos[number].table[address : address + count]) for number in numbers}
        if found.instruction == bus.SYNC_READ:
            for number in numbers:
                self._say(number, tables[number])
            return
        alert, body = self._alert(numbers[0]), b""  # one packet for all: number, data, and a checksum of what came before
        for k, number in enumerate(numbers):
            body += bytes([number]) + tables[number]
            if k + 1 < len(numbers):
                head = bus.HEADER + struct.pack("<BH", bus.BROADCAST, self._length(numbers, count)) + bytes([bus.STATUS, alert])
                body += struct.pack("<H", bus.crc(head + body)) + bytes([self._alert(numbers[k + 1])])
        self._send(bus.packet(bus.BROADCAST, bus.STATUS, bytes([alert]) + body))

    @staticmethod
    def _length(numbers: list[int], count: int) -> int:
        return 1 + len(numbers) * (count + 4)

    def _write_all(self, said: bytes) -> None:
        address, count = struct.unpack("<HH", said[:4])
        rows = {said[k]: said[k + 1 : k + 1 + count] for k in range(4, len(said) - count, count + 1)}
        rows = {number: data for number, data in rows.items() if number in self.servos}
        if address == GOAL:
            self._goals(rows)
        for number, data in rows.items():
            self.servos[number].put(address, data)

    def _goals(self, rows: dict[int, bytes]) -> None:
        goals = np.array([struct.unpack("<i", data)[0] - CENTRE for data in rows.values()]) * TICK
        self.account.command(goals, self.given["low"] - TICK, self.given["high"] + TICK)

    def _alert(self, number: int) -> int:
        return 0x80 if self.servos[number].table[ALERT] else 0

    def _say(self, number: int, data: bytes, error: int = 0) -> None:
        self._send(bus.packet(number, bus.STATUS, bytes([error | self._alert(number)]) + data))

    def _send(self, data: bytes) -> None:
        if self.rng.random() >= self.given["loss"]:
            self.line.write(data)


def main() -> None:
    """Run in real time."""
    given = keys(KEYS)
    servos = Bus(given)
    serve(servos.tick, servos.dt, servos.line.path, servos.report, given["seconds"])


if __name__ == "__main__":
    main()
