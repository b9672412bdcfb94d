"""A simulated flight controller that speaks MSP over TCP, with Betaflight's arming and failsafe.

    python -m hardware.fakes.betaflight port=5761

It looks at its port every 10 ms, as Betaflight's simulator does; arms when the switch goes from off to on with throttle down;
without sticks for 0.5 s it cuts the motors and wants the switch off before it arms again. A switch that goes on while something
forbids arming has to go off first; sticks have to come for half a second before they count. At its end it prints what it saw.
"""

import contextlib
import math
import socket
import struct
import time
from collections import deque
from typing import Any

import numpy as np

from hardware import msp
from hardware.drivers.msp import ANALOG, ATTITUDE, HIGH, IMU, LOW, MARKS, MIDDLE, RC, STATUS, STICKS, VARIANT
from hardware.fakes.device import Account, serve
from hardware.fakes.keys import keys
from robot.core.rotation import from_rotvec, multiply, normalize, to_matrix

KEYS = {
    "port": 0, "dt": 0.01, "seconds": 0.0, "full_rate": 11.0, "failsafe": 0.5, "recovery": 0.5, "battery": 15.8, "delay": 0.0,
}  # fmt: skip
LAG = 0.03
"""Time constant with which body rates follow the sticks [s]."""
REASONS = 29
"""Bits of reasons not to arm, as of Betaflight 2025.12."""
FAILSAFE, RECEIVER, THROTTLE, SWITCH = 1 << 1, 1 << 2, 1 << 7, 1 << REASONS - 1
"""Some of them."""
IDLE, CHECK, LOST = 0.055, 1050, 885
"""Motors when armed with throttle down; sticks below count as down [us]; throttle without a receiver [us]."""
SETTLING = 0.1
"""Time constant with which it comes to lie level once it is disarmed [s]."""


class Controller:
    """A body that turns as the sticks say; it does not fall, and comes to lie level once it is disarmed."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given, self.dt = given, given["dt"]
        self.server = socket.create_server(("127.0.0.1", given["port"]))
        self.server.setblocking(False)
        self.port = self.server.getsockname()[1]
        self.peer: socket.socket | None = None
        self.frames, self.account = msp.Frames(), Account()
        self.sticks, self.switch, self.came, self.since = [MIDDLE, MIDDLE, LOW, MIDDLE], False, -math.inf, math.inf
        self.armed, self.failed, self.latched, self.was_on, self.motors = False, False, False, False, 0.0
        self.late: deque[tuple[float, bytes]] = deque()
        self.turn, self.rate, self.flown = np.array([1.0, 0, 0, 0]), np.zeros(3), False

    def tick(self) -> None:
        """Listen, judge, turn."""
        self._listen()
        self._judge(time.monotonic())
        full = self.given["full_rate"] / (HIGH - MIDDLE)
        roll, pitch, throttle, yaw = self.sticks
        wanted = np.array([roll - MIDDLE, pitch - MIDDLE, MIDDLE - yaw]) * full if self.armed else np.zeros(3)
        self.rate = self.rate + (wanted - self.rate) * min(1.0, self.dt / LAG)
        self.turn = normalize(multiply(self.turn, from_rotvec(self.rate * self.dt)))
        self.flown = self.flown or self.armed
        if self.flown and not self.armed:
            w, _, _, z = self.turn
            level = np.array([w, 0.0, 0.0, z]) + (math.hypot(w, z) < 1e-9) * np.array([1.0, 0.0, 0.0, 0.0])
            self.turn = normalize(self.turn + (normalize(level) - self.turn) * min(1.0, self.dt / SETTLING))
        self.motors = IDLE + (1 - IDLE) * max(throttle - CHECK, 0) / (HIGH - CHECK) if self.armed else 0.0

    def report(self) -> dict[str, Any]:
        """What arrived, and how it stands."""
        return {**self.account.told, "armed": self.armed, "motors": self.motors, "damaged": self.frames.damaged}

    def close(self) -> None:
        self.server.close()
        if self.peer is not None:
            self.peer.close()

    def _listen(self) -> None:
        with contextlib.suppress(BlockingIOError):
            peer, _ = self.server.accept()
            peer.setblocking(False)
            self.peer = peer
            self.late.clear()
        if self.peer is None:
            return
        self._deliver(time.monotonic())
        try:
            data = self.peer.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.peer.close()
            self.peer = None
            return
        for found in self.frames.feed(data):
            if found.kind == msp.REQUEST:
                self._answer(found)

    def _answer(self, found: msp.Frame) -> None:
        kind, payload = msp.REPLY, b""
        if found.function == STICKS and len(found.payload) >= 10:
            self._steer(struct.unpack(f"<{len(found.payload) // 2}H", found.payload[: len(found.payload) // 2 * 2]))
        elif found.function in (VARIANT, ATTITUDE, IMU, RC, ANALOG, STATUS, *MARKS):
            payload = self._told(found.function)
        else:
            kind = msp.REFUSAL
            self.account.told["refused"] += 1
        now = time.monotonic()
        self.late.append((now + self.given["delay"], msp.frame(found.function, payload, kind, found.version)))
        self._deliver(now)

    def _deliver(self, now: float) -> None:
        while self.late and self.late[0][0] <= now and self.peer is not None:
            with contextlib.suppress(OSError):
                self.peer.send(self.late.popleft()[1])

    def _steer(self, values: tuple[int, ...]) -> None:
        if self.account.command(values, LOW, HIGH):
            now = time.monotonic()
            if not self._heard(now):
                self.since = now
            self.sticks, self.switch, self.came = list(values[:4]), values[4] > 1700, now

    def _heard(self, now: float) -> bool:
        return now - self.came < self.given["failsafe"]

    def _forbidden(self, now: float) -> int:
        """Reasons not to arm."""
        heard = self._heard(now) and now - self.since >= self.given["recovery"]
        low = self.sticks[2] <= CHECK
        return FAILSAFE * self.failed | RECEIVER * (not heard) | THROTTLE * (not low) | SWITCH * self.latched

    def _judge(self, now: float) -> None:
        heard = self._heard(now)
        if self.armed and not heard:
            self.armed, self.failed = False, True
            self.account.event("failsafe")
        if heard and not self.switch:
            self.failed = self.failed and now - self.since < self.given["recovery"]
            self.latched = self.was_on = False
            if self.armed:
                self.armed = False
                self.account.event("disarmed")
        elif heard and not self.armed and not self.was_on:
            self.was_on = True
            self.armed = not self._forbidden(now)
            self.latched = not self.armed
            self.account.event("armed" if self.armed else "refused to arm")

    def _told(self, function: int) -> bytes:
        if function == VARIANT:
            return b"BTFL"
        if function == RC:
            roll, pitch, throttle, yaw = self.sticks if self._heard(time.monotonic()) else (MIDDLE, MIDDLE, LOST, MIDDLE)
            return struct.pack("<5H", roll, pitch, yaw, throttle, HIGH if self.switch else LOW)
        if function in MARKS:
            return bytes(3)
        if function == ANALOG:
            return struct.pack("<BHHhH", round(self.given["battery"] * 10), 0, 1023, 0, round(self.given["battery"] * 100))
        if function == IMU:
            return struct.pack("<9h", 0, 0, 512, *(round(v) for v in np.degrees(self.rate)), 0, 0, 0)
        if function == STATUS:
            why = self._forbidden(time.monotonic())
            told = struct.pack("<HHHIBHBB", 125, 0, 0b100011, int(self.armed), 0, 10, 3, 0)
            return told + bytes([0]) + struct.pack("<BI", REASONS, 0 if self.armed else why)
        r = to_matrix(self.turn)
        roll, pitch = math.atan2(r[2, 1], r[2, 2]), math.asin(min(max(-r[2, 0], -1.0), 1.0))
        heading = -math.degrees(math.atan2(r[1, 0], r[0, 0])) % 360
        return struct.pack("<hhh", round(math.degrees(roll) * 10), round(math.degrees(pitch) * 10), round(heading))


def main() -> None:
    """Run in real time."""
    given = keys(KEYS)
    controller = Controller(given)
    serve(controller.tick, controller.dt, f"tcp:127.0.0.1:{controller.port}", controller.report, given["seconds"])


if __name__ == "__main__":
    main()
