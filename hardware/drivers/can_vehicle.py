"""A vehicle by wire: steering angle and acceleration over CAN, as hardware/robots/car/car.dbc describes it."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hardware.can_frames import Codec
from hardware.can_loopback import bus as loopback
from hardware.drivers.base import Array, Driver, Reading
from robot.core.errors import DriverError
from robot.core.interface import Field
from robot.core.optional import require
from robot.core.paths import ROOT

READY, COMPUTER, BRAKING, HUMAN = range(4)
"""MODE of the car's steering frame."""
MODES = ("ready", "the computer's", "braking to a standstill", "a human's")


@dataclass
class CanVehicleConfig:
    robot: str
    """Whose limits hold: a folder of hardware/robots, with the DBC in it."""
    interface: str
    """Of python-can: socketcan for a real bus; loopback for one between processes of this computer."""
    channel: str
    """Such as can0; a number for loopback."""
    dbc: str
    """File in the robot's folder."""
    dt: float
    """Time between two commands [s]."""
    patience: float
    """How long the car may take to answer [s]."""


class CanVehicle(Driver):
    def __init__(self, config: CanVehicleConfig) -> None:
        self.config, self.dt = config, config.dt
        self.dbc = Path(ROOT / "hardware" / "robots" / config.robot / config.dbc)
        self.command = Field("wheel", (2,), "float32", "rad, m/s^2", "body", names=("steering", "acceleration"))
        self.observation = (
            Field("motion", (2,), "float32", "m/s, rad/s", "body", names=("speed", "yaw_rate")),
            Field("steering", (1,), "float32", "rad", "body"),
        )
        self.bus: Any = None
        self._forget()

    def _forget(self) -> None:
        self.codec = Codec(self.dbc)
        self.said: dict[str, dict[str, float]] = {}
        self.newest, self.armed, self.last = False, False, np.zeros(2)

    def open(self) -> None:
        if self.bus is not None:
            return
        self._forget()
        self.bus = self._connect()
        end = time.monotonic() + self.config.patience
        while len(self.said) < 2:
            if time.monotonic() > end:
                self.close()
                raise DriverError(
                    f"can: nobody says the frames of '{self.config.dbc}' on {self.config.interface} '{self.config.channel}' in "
                    f"{self.config.patience} s; is the car on, and its bit rate set? ip -details link show {self.config.channel}"
                )
            self._drain()
            time.sleep(0.002)

    def _connect(self) -> Any:
        can, config = require("can", "drivers"), self.config
        try:
            if config.interface == "loopback":
                return loopback(int(config.channel))
            return can.Bus(interface=config.interface, channel=config.channel)
        except (OSError, ValueError, can.CanError) as error:
            told = str(error).splitlines()[0]
            raise DriverError(
                f"can: {config.interface} '{config.channel}' cannot be opened: {told}; ip link lists what there is, "
                f"sudo ip link set {config.channel} up type can bitrate 500000 brings it up"
            ) from error

    def read(self) -> Reading | None:
        self._drain()
        told = self.said["STEERING"]
        if self.armed and (told["DRIVER"] or told["FAULT"] or told["MODE"] in (BRAKING, HUMAN)):
            self.armed = False
            why = "somebody has the wheel or a pedal" if told["DRIVER"] else f"its mode is {MODES[int(told['MODE'])]}"
            raise DriverError(f"can: the car obeys no more: {'it reports a fault' if told['FAULT'] else why}")
        if not self.newest:
            return None
        self.newest = False
        motion = self.said["MOTION"]
        seen = {"motion": [motion["SPEED"], motion["YAW_RATE"]], "steering": [told["ANGLE"]]}
        measured = np.array([told["ANGLE"], self.last[1]])
        return Reading({name: np.array(value, np.float32) for name, value in seen.items()}, self.stamp, measured)

    def write(self, command: Array) -> Array:
        steering, acceleration = (float(value) for value in command)
        self._send("STEER_COMMAND", {"ANGLE": steering, "ENABLE": 1})
        self._send("ACCEL_COMMAND", {"ACCELERATION": acceleration, "ENABLE": 1})
        self.last = np.array([round(steering / 1e-4) * 1e-4, round(acceleration / 1e-3) * 1e-3])
        return self.last

    def arm(self) -> None:
        """The car gives its wheel away when it hears both commands, enabled, where the wheel is and without acceleration."""
        end = time.monotonic() + self.config.patience
        while self.said["STEERING"]["MODE"] != COMPUTER:
            if time.monotonic() > end:
                told = self.said["STEERING"]
                why = "somebody has the wheel or a pedal" if told["DRIVER"] else f"its mode is {MODES[int(told['MODE'])]}"
                raise DriverError(f"can: the car does not give its wheel away: {why}")
            self.write(np.array([self.said["STEERING"]["ANGLE"], 0.0]))
            time.sleep(self.dt / 2)
            self._drain()
        self.armed = True

    def stop(self) -> None:
        """Give the wheel back: the car brakes to a standstill by itself."""
        self.armed = False
        if self.bus is not None:
            with contextlib.suppress(DriverError):
                for _ in range(3):
                    self._send("STEER_COMMAND", {"ANGLE": self.last[0], "ENABLE": 0})
                    self._send("ACCEL_COMMAND", {"ACCELERATION": 0.0, "ENABLE": 0})

    def will(self) -> Callable[[], None]:
        """Nothing: the car brakes to a standstill when frames stop for 0.1 s, and a second voice would spoil its counters."""
        return lambda: None

    def close(self) -> None:
        if self.bus is not None:
            self.bus.shutdown()
            self.bus = None

    def _send(self, name: str, values: dict[str, float]) -> None:
        can = require("can", "drivers")
        if self.bus is None:
            raise DriverError("can: it is not open; use the driver as a context manager")
        number, data = self.codec.pack(name, values)
        try:
            self.bus.send(can.Message(arbitration_id=number, data=data, is_extended_id=False), timeout=0)
        except (OSError, can.CanError) as error:
            raise DriverError(f"can: the bus does not take frames: {error}; is it up, and does anybody acknowledge?") from error

    def _drain(self) -> None:
        if self.bus is None:
            raise DriverError("can: it is not open; use the driver as a context manager")
        try:
            while (message := self.bus.recv(timeout=0)) is not None:
                found = self.codec.unpack(message.arbitration_id, bytes(message.data))
                if found is not None and found[0] in ("MOTION", "STEERING"):
                    self.said[found[0]] = found[1]
                    if found[0] == "MOTION":
                        self.newest, self.stamp = True, time.monotonic()
        except OSError as error:
            raise DriverError(f"can: the bus is gone: {error}") from error
