"""A simulated car with drive-by-wire, on a CAN bus of its own on loopback: hardware/robots/car/README.md says what it does.

    python -m hardware.fakes.can_vehicle port=29536 human=10

It refuses frames with a wrong checksum or counter, obeys nothing before it was asked in order, brakes to a standstill by itself
when commands stop, and gives way to a human, who brakes `human` seconds after the start. At its end it prints what arrived.
"""

import math
import time
from typing import Any

import numpy as np

from hardware.can_link import Codec
from hardware.drivers.can_vehicle import STATE, WHEELS, Mode, Request
from hardware.fakes.device import Account, serve
from hardware.fakes.keys import keys
from hardware.fakes.socketcand import Socketcand
from hardware.limits import ROBOTS

TIMEOUT = 0.1
"""Without a good command it brakes after so long [s]."""
KEYS = {"port": 0, "dt": 0.01, "seconds": 0.0, "loss": 0.0, "seed": 0, "human": 0.0, "speed": 0.0, "timeout": TIMEOUT}
LOW, HIGH = np.array([-0.6, -4.0]), np.array([0.6, 2.0])
"""Of the frames: steering [rad], acceleration [m/s^2]."""
GENTLE = 2.0
"""How it brakes then [m/s^2]."""
GOOD = 10
"""Frames that ask for nothing, before it hands over."""
NEAR = 0.05
"""It hands over only to one who begins within this of its steering angle [rad]."""
BASE, TRACK = 2.7, 1.6
"""Between the axles, and between left and right wheels [m]."""
RATE, STEERING_LAG, DRIVE_LAG = 0.6, 0.08, 0.2
"""How quickly it steers [rad/s], and time constants of its steering and its drive [s]."""
SIDEWAYS = 4.0
"""It does not steer harder than this at its speed [m/s^2]."""
NOISE = 0.002
"""Of yaw rate [rad/s] and acceleration [m/s^2]."""


class Bicycle:
    """The kinematics of a car, x, y and yaw of the middle of its rear axle; it does not roll backwards.

    Attributes:
        steering, acceleration: what they are now [rad, m/s^2], behind what is wanted.
    """

    def __init__(self, speed: float) -> None:
        self.x = self.y = self.yaw = self.steering = self.acceleration = 0.0
        self.speed = speed

    def move(self, steering: float, acceleration: float, dt: float) -> None:
        """Towards a steering angle [rad] and an acceleration [m/s^2] for dt [s]."""
        most = math.atan(SIDEWAYS * BASE / max(self.speed, 0.1) ** 2)
        wanted = min(max(steering, -most), most)
        rate = min(max((wanted - self.steering) / max(STEERING_LAG, dt), -RATE), RATE)
        self.steering += rate * dt
        self.acceleration += (acceleration - self.acceleration) * dt / DRIVE_LAG
        if self.speed + self.acceleration * dt <= 0:
            self.speed, self.acceleration = 0.0, max(self.acceleration, 0.0)
        self.speed += self.acceleration * dt
        self.x += self.speed * math.cos(self.yaw) * dt
        self.y += self.speed * math.sin(self.yaw) * dt
        self.yaw += self.yaw_rate * dt

    @property
    def yaw_rate(self) -> float:
        return self.speed * math.tan(self.steering) / BASE

    def wheels(self) -> list[float]:
        """Speeds of the rims [m/s]."""
        rear = [self.speed - self.yaw_rate * TRACK / 2, self.speed + self.yaw_rate * TRACK / 2]
        return [*(math.hypot(side, self.yaw_rate * BASE) for side in rear), *rear]


class Car:
    """Modes, and who drives. `human` is what a human is at, `faults` what is broken: names of bits of STATUS."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given, self.dt = given, given["dt"]
        self.bus, self.codec, self.account = Socketcand(given["port"]), Codec(ROBOTS / "car" / "car.dbc"), Account()
        self.body, self.rng = Bicycle(given["speed"]), np.random.default_rng(given["seed"])
        self.mode, self.wanted, self.streak = Mode.manual, (0.0, 0.0), 0
        self.human: set[str] = set()
        self.faults: set[str] = set()
        self.boot, self.came, self.counter = time.monotonic(), -math.inf, 0

    def tick(self) -> None:
        """Listen, watch, drive, tell."""
        for number, data in self.bus.receive():
            self._take(number, data)
        now = time.monotonic()
        if 0 < self.given["human"] < now - self.boot:
            self.human.add("OVERRIDE_BRAKE")
        if now - self.came > self.given["timeout"]:
            self.streak = 0
        self._watch(now)
        acceleration = self.wanted[1] if self.mode is Mode.driving else -GENTLE if self.mode is Mode.stopping else 0.0
        self.body.move(self.wanted[0], acceleration, self.dt)
        if self.mode is Mode.stopping and self.body.speed == 0.0:
            self._enter(Mode.manual, "stands")
        self._tell(now)

    def report(self) -> dict[str, Any]:
        """What arrived, and how it stands."""
        refused = {f"bad_{name}": count for name, count in self.codec.refused.items()}
        body = {"speed": self.body.speed, "pose": [self.body.x, self.body.y, self.body.yaw], "steering": self.body.steering}
        return {**self.account.told, **refused, **body, "mode": self.mode.name, "last_command": self.account.last}

    def _enter(self, mode: Mode, why: str) -> None:
        self.mode, self.streak = mode, 0
        self.account.event(f"{mode.name}: {why}")

    def _watch(self, now: float) -> None:
        if self.mode is not Mode.driving:
            return
        if self.human:
            self._enter(Mode.manual, "a human drives")
        elif self.faults:
            self._enter(Mode.stopping, "faults")
        elif now - self.came > self.given["timeout"]:
            self._enter(Mode.stopping, "commands stopped")

    def _take(self, number: int, data: bytes) -> None:
        found = self.codec.unpack(number, data)
        if found is None or found[0] != "COMMAND":
            return
        signals = found[1]
        values = (float(signals["STEERING"]), float(signals["ACCELERATION"]))
        legal = self.account.command(values, LOW - 1e-9, HIGH + 1e-9)
        if not legal or signals["REQUEST"] not in list(Request):
            return
        self.came = time.monotonic()
        request = Request(signals["REQUEST"])
        self.streak = self.streak + 1 if request is Request.standby else self.streak
        if self.mode is Mode.driving:
            self.wanted = values
            if request is not Request.drive:
                self._enter(Mode.stopping, "asked to")
        elif self.mode is Mode.manual and request is Request.drive and self._ready(values[0]):
            self.wanted = values
            self._enter(Mode.driving, "asked to")

    def _ready(self, steering: float) -> bool:
        return self.streak >= GOOD and not self.human and not self.faults and abs(steering - self.body.steering) <= NEAR

    def _tell(self, now: float) -> None:
        body, noise = self.body, self.rng.normal(0.0, NOISE, 2)
        self.counter = (self.counter + 1) % 16
        bits = {name: 1 for name in self.human | self.faults}
        names = [signal.name for signal in self.codec.messages["STATUS"].signals]
        status = {name: bits.get(name, 0) for name in names if name not in ("COUNTER", "CHECKSUM")}
        told = {
            "MOTION": {
                "STEERING": body.steering,
                "YAW_RATE": body.yaw_rate + noise[0],
                "CLOCK": int((now - self.boot) * 1e3) % 65536,
            },
            "WHEELS": dict(zip([name.upper() for name in WHEELS], body.wheels(), strict=True)),
            "STATUS": {**status, "ACCELERATION": body.acceleration + noise[1], "MODE": int(self.mode)},
        }
        for name in STATE:
            frame = self.codec.pack(name, {**told[name], "COUNTER": self.counter})
            if self.rng.random() >= self.given["loss"]:
                self.bus.send(*frame)


def main() -> None:
    """Drive in real time."""
    given = keys(KEYS)
    car = Car(given)
    serve(car.tick, car.dt, f"socketcand:127.0.0.1:{car.bus.port}", car.report, given["seconds"])


if __name__ == "__main__":
    main()
