"""A simulated car by wire on a loopback CAN bus: hardware/robots/car/car.dbc says what it speaks.

    python -m hardware.fakes.can_vehicle channel=0

It gives its wheel away to whoever sends both commands, enabled, near where the wheel is; refuses frames with a wrong checksum or
a repeated counter; brakes gently to a standstill when commands stop for 0.1 s, end, or leave its range; and obeys a human before
all.
"""

import math
import time
from typing import Any

import numpy as np

from hardware.can_frames import Codec
from hardware.can_loopback import bus as loopback
from hardware.drivers.can_vehicle import BRAKING, COMPUTER, HUMAN, READY
from hardware.fakes.device import Account, serve
from hardware.fakes.keys import keys
from robot.core.optional import require
from robot.core.paths import ROOT

KEYS = {"channel": 0, "dt": 0.01, "seconds": 0.0, "speed": 0.0}
WHEELBASE, LAG, STEERING_RATE = 2.7, 0.15, 0.6
"""Of the bicycle [m], of the drive [s], of the steering motor [rad/s]."""
LOW, HIGH = np.array([-0.55, -6.0]), np.array([0.55, 3.0])
"""Steering [rad] and acceleration [m/s^2] that it takes."""
TIMEOUT, NEAR, GENTLE = 0.1, 0.05, -2.0
"""Silence after which it brakes [s], how far a first command may be from the wheel [rad], how it brakes [m/s^2]."""


class Car:
    """A kinematic bicycle, and two things that others do to it: `driver`, `fault`."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.can, self.dt = require("can", "drivers"), given["dt"]
        self.bus, self.account = loopback(given["channel"]), Account()
        self.codec = Codec(ROOT / "hardware" / "robots" / "car" / "car.dbc")
        self.speed, self.wheel, self.acceleration, self.pose = given["speed"], 0.0, 0.0, np.zeros(3)
        self.mode, self.driver, self.fault = READY, False, False
        self.wanted: dict[str, tuple[float, bool]] = {}
        self.came = {"STEER_COMMAND": -math.inf, "ACCEL_COMMAND": -math.inf}

    def tick(self) -> None:
        """Listen, judge, drive, tell."""
        while (message := self.bus.recv(timeout=0)) is not None:
            self._take(message)
        self._judge(time.monotonic())
        self._drive()
        told = {"SPEED": self.speed, "YAW_RATE": self.speed * math.tan(self.wheel) / WHEELBASE}
        self._send("MOTION", told)
        self._send("STEERING", {"ANGLE": self.wheel, "MODE": self.mode, "DRIVER": self.driver, "FAULT": self.fault})

    def report(self) -> dict[str, Any]:
        """What arrived, and how it stands."""
        stands = {"mode": self.mode, "speed": self.speed, "wheel": self.wheel, "pose": self.pose.tolist()}
        return {**self.account.told, "refused": self.codec.damaged, **stands}

    def _take(self, message: Any) -> None:
        found = self.codec.unpack(message.arbitration_id, bytes(message.data))
        if found is None or found[0] not in self.came:
            return
        name, values = found
        value = float(values["ANGLE" if name == "STEER_COMMAND" else "ACCELERATION"])
        place = 0 if name == "STEER_COMMAND" else 1
        fine = self.account.command([value], LOW[place : place + 1] - 1e-9, HIGH[place : place + 1] + 1e-9)
        self.wanted[name], self.came[name] = (value, bool(values["ENABLE"]) and fine), time.monotonic()

    def _judge(self, now: float) -> None:
        before = self.mode
        heard = all(now - when < TIMEOUT for when in self.came.values())
        enabled = heard and all(on for _, on in self.wanted.values())
        if self.driver:
            self.mode = HUMAN
        elif self.mode == HUMAN:
            self.mode = READY
        elif self.mode == COMPUTER and (self.fault or not enabled):
            self.mode = BRAKING
        elif self.mode == BRAKING and abs(self.speed) < 0.01 and not enabled:
            self.mode = READY
        elif self.mode == READY and enabled and not self.fault and abs(self.wanted["STEER_COMMAND"][0] - self.wheel) < NEAR:
            self.mode = COMPUTER
        if self.mode != before:
            self.account.event(("ready", "computer", "braking", "human")[self.mode])

    def _drive(self) -> None:
        obeys = self.mode == COMPUTER
        target = self.wanted["STEER_COMMAND"][0] if obeys else self.wheel
        step = STEERING_RATE * self.dt
        self.wheel += min(max(target - self.wheel, -step), step)
        push = self.wanted["ACCEL_COMMAND"][0] if obeys else (GENTLE if self.mode == BRAKING else 0.0)
        self.acceleration += (push - self.acceleration) * self.dt / LAG
        self.speed = max(0.0, self.speed + self.acceleration * self.dt)
        x, y, yaw = self.pose
        turn = self.speed * math.tan(self.wheel) / WHEELBASE * self.dt
        move, heading = self.speed * self.dt, yaw + turn / 2
        self.pose = np.array([x + move * math.cos(heading), y + move * math.sin(heading), yaw + turn])

    def _send(self, name: str, values: dict[str, Any]) -> None:
        number, data = self.codec.pack(name, {key: float(value) for key, value in values.items()})
        self.bus.send(self.can.Message(arbitration_id=number, data=data, is_extended_id=False))


def main() -> None:
    """Run in real time."""
    given = keys(KEYS)
    car = Car(given)
    serve(car.tick, car.dt, str(given["channel"]), car.report, given["seconds"])


if __name__ == "__main__":
    main()
