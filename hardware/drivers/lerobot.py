"""A robot of LeRobot's as a driver, below our guard: its own clamps let NaN through, and commands never grow old in it.

LeRobot is not imported before one of its robots is made. The other way round is hardware/lerobot.py.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hardware.drivers.base import Array, Driver, Reading
from robot.core.config import locate
from robot.core.errors import ConfigError, DriverError
from robot.core.interface import Field


@dataclass
class FromLeRobotConfig:
    robot: str
    """Whose limits hold: a folder of hardware/robots."""
    make: str
    """Dotted name of LeRobot's class, such as lerobot.robots.so_follower.SO101Follower."""
    settings_class: str
    """Dotted name of its config's class."""
    settings: dict[str, Any]
    """Of that class, such as port and id. Cameras need objects of their own: make such a robot in Python, and pass it."""
    keys: list[str]
    """Of its actions and observations, in the policy's order, such as shoulder_pan.pos."""
    unit: str
    """Of the command here, such as rad."""
    scales: list[float]
    """That unit per LeRobot's, key by key: 0.0174533 where it has degrees."""
    zeros: list[float]
    """What LeRobot says where a channel is at zero here, in its own unit."""
    dt: float
    """Time between two commands [s]."""
    patience: float
    """How long a read or a write may take [s]."""


class FromLeRobot(Driver):
    """Reads of LeRobot's take milliseconds and may wait for cameras, so a thread does them; the bus is for one at a time."""

    def __init__(self, config: FromLeRobotConfig, robot: Any = None) -> None:
        """robot: made already; `make` and its settings are not looked at then.

        Raises:
            ConfigError: it cannot be made, or has no such keys.
        """
        self.config, self.dt = config, config.dt
        self.robot = _made(config) if robot is None else robot
        offered, said = self.robot.action_features, self.robot.observation_features
        missing = [key for key in config.keys if key not in offered or key not in said]
        if missing or set(offered) - set(config.keys):
            raise ConfigError(f"driver: keys={config.keys} are not those of {self.robot}, which takes {list(offered)}")
        if not len(config.keys) == len(config.scales) == len(config.zeros):
            raise ConfigError(f"driver: {len(config.keys)} keys need as many scales and zeros")
        self.scales, self.zeros = np.array(config.scales), np.array(config.zeros)
        names = tuple(key.rpartition(".")[0] or key for key in config.keys)
        self.command = Field("targets", (len(names),), "float32", config.unit, names=names)
        self.pictures = {key: tuple(shape) for key, shape in said.items() if isinstance(shape, tuple)}
        cameras = [Field(key, shape, "uint8", "1", key) for key, shape in self.pictures.items()]
        self.observation = (Field("joints", (len(names),), "float32", config.unit, names=names), *cameras)
        self.bus, self.thread = threading.Lock(), None
        self.newest: Reading | None = None
        self.error: Exception | None = None

    thread: threading.Thread | None

    def open(self) -> None:
        """Connect; LeRobot's own calibration asks questions at the terminal, so it must have been done before."""
        if self.thread is not None:
            return
        self.newest, self.error, self.measured, self.ended = None, None, None, threading.Event()
        try:
            self.robot.connect(calibrate=False)
        except Exception as error:  # of any kind: its robots have many
            self._leave()
            raise DriverError(f"lerobot: {self.robot} cannot be connected: {_line(error)}") from error
        self.thread = threading.Thread(target=self._look, name="lerobot", daemon=True)
        if not self.robot.is_calibrated:
            self.close()
            raise DriverError(f"lerobot: {self.robot} is not calibrated; run lerobot-calibrate first")
        self.thread.start()
        end = time.monotonic() + self.config.patience
        while self.newest is None and self.error is None and time.monotonic() < end:
            time.sleep(0.002)
        if self.newest is None:
            told = "says nothing" if self.error is None else f"cannot be read: {_line(self.error)}"
            self.close()
            raise DriverError(f"lerobot: {self.robot} {told}; look at power and cables")

    def read(self) -> Reading | None:
        if self.error is not None:
            raise DriverError(f"lerobot: {self.robot} cannot be read: {_line(self.error)}")
        newest, self.newest = self.newest, None
        return newest

    def write(self, command: Array) -> Array:
        """Waits for a read that is going on; what LeRobot says it has sent is what was sent."""
        values = np.asarray(command, np.float64) / self.scales + self.zeros
        if self.thread is None:
            raise DriverError("lerobot: it is not open; use the driver as a context manager")
        if not self.bus.acquire(timeout=self.config.patience):
            raise DriverError(f"lerobot: a read of {self.robot} has hung for {self.config.patience} s")
        try:
            sent = self.robot.send_action(dict(zip(self.config.keys, values.tolist(), strict=True)))
            return self._channels(sent)
        except Exception as error:
            raise DriverError(f"lerobot: {self.robot} does not take an action: {_line(error)}") from error
        finally:
            self.bus.release()

    def stop(self) -> None:
        """Hold where it is, wheels at zero; whether torque goes when it is disconnected, its own config says."""
        if self.thread is not None and self.measured is not None:
            rolling = [key.endswith(".vel") for key in self.config.keys]
            with contextlib.suppress(DriverError):
                self.write(np.where(rolling, 0.0, self.measured))

    def will(self) -> Callable[[], None]:
        """Nothing: its bus is the dead process's, and servos hold the last goal, which the guard has let through."""
        return lambda: None

    def close(self) -> None:
        if self.thread is None:
            return
        self.ended.set()
        if self.thread.is_alive():
            self.thread.join(self.config.patience)
        self.thread = None
        self._leave()

    def _leave(self) -> None:
        with contextlib.suppress(Exception):  # it may not be connected, or its bus is gone
            self.robot.disconnect()

    def _channels(self, values: dict[str, Any]) -> Array:
        return (np.array([float(values[key]) for key in self.config.keys]) - self.zeros) * self.scales

    def _look(self) -> None:
        """The thread."""
        while not self.ended.is_set() and self.error is None:
            try:
                with self.bus:
                    stamp = time.monotonic()  # it was measured then or later
                    said = self.robot.get_observation()
                joints = self._channels(said)
                seen = {"joints": joints.astype(np.float32), **{key: np.asarray(said[key], np.uint8) for key in self.pictures}}
                self.newest, self.measured = Reading(seen, stamp, joints), joints
            except Exception as error:
                self.error = error
            self.ended.wait(self.dt / 4)


def _made(config: FromLeRobotConfig) -> Any:
    try:
        return locate(config.make)(locate(config.settings_class)(**config.settings))
    except Exception as error:
        raise ConfigError(f"driver: {config.make} cannot be made of {config.settings}: {_line(error)}") from error


def _line(error: Exception) -> str:
    text = str(error)
    return text.splitlines()[0] if text else type(error).__name__
