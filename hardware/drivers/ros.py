"""Any robot in a ROS graph: topics in, a topic out, through whichever bridge."""

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hardware.drivers.base import Array, Driver, Reading
from hardware.ros.bridge import LATCHED, SENSOR, Bridge
from hardware.ros.commands import Command
from hardware.ros.sensors import Goal, Sensor
from robot.core.config import build
from robot.core.errors import DriverError
from robot.core.interface import Field

COPIES = 3
"""Of the last command, on stopping: a message may be lost."""
DISCOVERY = 1.0
"""After so long a new participant has been found [s]."""


@dataclass
class RosConfig:
    robot: str
    """Whose limits hold: a folder of hardware/robots."""
    bridge: Any
    """Into the graph: a node of configs/bridge."""
    sensors: dict[str, dict[str, Any]]
    """Nodes of hardware/ros/sensors.py, by names of their own."""
    constants: dict[str, dict[str, Any]]
    """Observation fields that no topic gives: value (or the number that fills shape), shape, unit, frame, names."""
    command: dict[str, Any]
    """A node of hardware/ros/commands.py."""
    dt: float
    """Time between two commands [s]."""
    measured: str
    """Observation field that says where the command's channels are, element by element; arming starts from there."""
    paced: str
    """Sensor whose every message is a new measurement of the robot."""
    matched: str | None
    """Sensor at whose time the others' values are taken, such as the camera; null for the paced one."""
    stop: list[float]
    """Last command when the run ends, such as zero velocity; empty for none, where the robot holds by itself."""
    patience: float
    """How long the graph may take to say something of every sensor [s]."""


class Ros(Driver):
    """A robot whose every sensor is fresh enough, by each one's own max_age; else it says nothing, and the guard acts."""

    def __init__(self, config: RosConfig) -> None:
        self.config, self.dt = config, config.dt
        self.bridge: Bridge = build(config.bridge, "driver.bridge")
        self.sensors: dict[str, Sensor] = {name: build(node, f"driver.sensors.{name}") for name, node in config.sensors.items()}
        self.command_of: Command = build(config.command, "driver.command")
        self.command = self.command_of.field
        self.constants = {name: constant(name, node) for name, node in config.constants.items()}
        given = [field for sensor in self.sensors.values() for field in sensor.fields]
        self.observation = (*given, *(field for field, _ in self.constants.values()))
        self.dtypes = {field.name: field.dtype for field in self.observation}
        self.open_, self.seen = False, -math.inf

    def open(self) -> None:
        if self.open_:
            return
        self.bridge.open()
        self.open_ = True
        found = {}
        for name, sensor in self.sensors.items():
            found[name] = self.bridge.subscribe(sensor.config.topic, sensor.kind, LATCHED if sensor.latched else SENSOR)
        self.subscriptions = found
        self.publisher = self.bridge.advertise(self.command_of.config.topic, self.command_of.kind)

    def read(self) -> Reading | None:
        if not self.open_:
            raise DriverError("the bridge is not open; use the driver as a context manager")
        for name, subscription in self.subscriptions.items():
            for message, came in subscription.take():
                self.sensors[name].take(message, came)
        now, paced = time.monotonic(), self.sensors[self.config.paced]
        if paced.stamp <= self.seen or any(now - s.stamp > s.config.max_age or not s.past for s in self.sensors.values()):
            return None
        self.seen = paced.stamp
        values = self._values(self.sensors[self.config.matched or self.config.paced].stamp)
        observation = {name: np.asarray(value, self.dtypes[name]) for name, value in values.items()}
        return Reading(observation, paced.stamp, np.asarray(values[self.config.measured], np.float64).ravel())

    def _values(self, at: float) -> dict[str, Array]:
        values = {name: value for name, (_, value) in self.constants.items()}
        goals = []
        for sensor in self.sensors.values():
            if isinstance(sensor, Goal):
                goals.append(sensor)
            else:
                values |= sensor.values(at)
        for goal in goals:
            values |= goal.seen_from(values["odometry"])
        return values

    def write(self, command: Array) -> Array:
        if not self.open_:
            raise DriverError("the bridge is not open; use the driver as a context manager")
        wall = time.time_ns()
        stamp = {"sec": wall // 10**9, "nanosec": wall % 10**9}
        self.publisher.publish(self.command_of.message(command, stamp))
        return np.asarray(command, np.float64)

    def stop(self) -> None:
        if self.open_ and self.config.stop:
            with contextlib.suppress(DriverError):
                for _ in range(COPIES):
                    self.write(np.array(self.config.stop))

    def will(self) -> Callable[[], None]:
        """The last command by a link of its own, again and again until it must have been found."""

        def last() -> None:
            self.open()
            end = time.monotonic() + DISCOVERY
            while self.config.stop and time.monotonic() < end:
                self.stop()
                time.sleep(0.02)

        return last

    def expect(self) -> None:
        """Wait until every sensor has said something; a DriverError that names those that have not."""
        end = time.monotonic() + self.config.patience
        while self.read() is None:
            if time.monotonic() > end:
                raise DriverError(
                    f"ros: after {self.config.patience} s there is {self.waiting()}; are topic, type and QoS right?"
                )
            time.sleep(0.01)

    def waiting(self) -> str:
        """Which sensors have said nothing, or nothing that could be read, in words; empty when all are there."""
        now, words = time.monotonic(), []
        for sensor in self.sensors.values():
            refused = f", {sensor.refused} messages refused" if sensor.refused else ""
            if not sensor.past:
                words.append(f"nothing on '{sensor.config.topic}' ({sensor.kind}){refused}")
            elif now - sensor.stamp > sensor.config.max_age:
                words.append(f"'{sensor.config.topic}' is {now - sensor.stamp:.2f} s old{refused}")
        return "; ".join(words)

    def report(self) -> list[str]:
        refused = sum(s.refused for s in self.sensors.values()) + sum(s.refused for s in self.subscriptions.values())
        return [f"refused           {refused} messages"]

    def close(self) -> None:
        if self.open_:
            self.open_ = False
            self.bridge.close()


def constant(name: str, node: dict[str, Any]) -> tuple[Field, Array]:
    """A field that is always the same, and its value."""
    shape = tuple(node["shape"])
    told = {key: node[key] for key in ("unit", "frame", "low", "high") if key in node}
    field = Field(name, shape, names=tuple(node.get("names", ())), **told)
    return field, np.broadcast_to(np.asarray(node["value"], np.float64), shape).copy()
