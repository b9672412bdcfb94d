"""A simulated differential-drive base on a pseudo-terminal: hardware/robots/differential_base/README.md says what it speaks.

    python -m hardware.fakes.base_serial loss=0.01

It brakes by itself when no command has come for 0.2 s, obeys nothing before it was enabled, and at its end prints what arrived.
"""

import math
import struct
import time
from typing import Any

import numpy as np

from hardware.drivers.base_serial import BUMPER, COMMAND, ENABLE, ENABLED, ESTOP, SAID, STATE, TWIST, WRAP
from hardware.fakes.device import Account, Terminal, serve
from hardware.fakes.keys import keys
from hardware.serial_link import Frames, frame
from robot.core import tracking

TIMEOUT = 0.2
"""Without a command it brakes after so long [s]."""
KEYS = {"dt": 0.02, "seconds": 0.0, "loss": 0.0, "seed": 0, "battery": 25.2, "timeout": TIMEOUT}
LIMITS = np.array([[0.8, 1.5, 1.0, 4.0]])
"""Speed [m/s], yaw rate [rad/s] and their rates, of configs/embodiment/wheeled.yaml."""
GRAVITY = 9.81
NOISE = (0.02, 0.002)
"""Of its inertial unit: acceleration [m/s^2], rate [rad/s]."""


class Base:
    """A unicycle with limited acceleration, and two switches: `estop`, `bumper`."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.dt, self.loss, self.battery, self.timeout = (given[key] for key in ("dt", "loss", "battery", "timeout"))
        self.rng = np.random.default_rng(given["seed"])
        self.line, self.frames, self.account = Terminal(), Frames(), Account()
        self.pose, self.velocity, self.wanted = np.zeros((1, 3)), np.zeros((1, 2)), np.zeros(2)
        self.enabled = self.estop = self.bumper = False
        self.boot, self.came = time.monotonic(), -math.inf

    def tick(self) -> None:
        """Listen, drive, tell."""
        for kind, payload in self.frames.feed(self.line.read()):
            self._take(kind, payload)
        now = time.monotonic()
        self.enabled = self.enabled and not self.estop
        moving = self.enabled
        if moving and now - self.came > self.timeout and np.any(self.wanted):
            self.account.event("commands stopped")
            self.wanted = np.zeros(2)
        wanted = self.wanted if moving else np.zeros(2)
        step = LIMITS[:, 2:] * self.dt
        before = self.velocity
        self.velocity = np.clip(wanted, before - step, before + step)
        if before.any() and not self.velocity.any():
            self.account.event("stands")
        self.pose = tracking.predict(self.pose, self.velocity, self.dt)
        flags = ENABLED * self.enabled | ESTOP * self.estop | BUMPER * self.bumper
        v, w = self.velocity[0]
        felt = [(v - before[0, 0]) / self.dt, v * w, GRAVITY, 0.0, 0.0, w]
        inertial = np.array(felt) + self.rng.normal(0.0, np.repeat(NOISE, 3))
        clock = int((now - self.boot) * 1e3) % WRAP
        told = SAID.pack(clock, *self.pose[0], v, w, self.battery, *inertial, flags)
        if self.rng.random() >= self.loss:
            self.line.write(frame(STATE, told))

    def report(self) -> dict[str, Any]:
        """What arrived, and where it stands."""
        where = {"pose": self.pose[0].tolist(), "velocity": self.velocity[0].tolist(), "damaged": self.frames.damaged}
        where["last_command"] = self.account.last
        return {**self.account.told, **where}

    def _take(self, kind: int, payload: bytes) -> None:
        try:
            if kind == ENABLE:
                self.enabled = bool(payload[0]) and not self.estop
                self.account.event(f"enabled {self.enabled}")
            elif kind == COMMAND:
                values = np.array(TWIST.unpack(payload))
                if self.account.command(values, -LIMITS[0, :2] - 1e-6, LIMITS[0, :2] + 1e-6):
                    self.wanted, self.came = values, time.monotonic()
        except (struct.error, IndexError):
            self.account.told["refused"] += 1


def main() -> None:
    """Run in real time."""
    given = keys(KEYS)
    base = Base(given)
    serve(base.tick, base.dt, base.line.path, base.report, given["seconds"])


if __name__ == "__main__":
    main()
