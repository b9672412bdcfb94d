"""Paths to velocities on the robot: the tracker that the simulation uses (robot/core/tracking.py), at the servo loop's rate."""

from dataclasses import dataclass

import numpy as np

from hardware.drivers.base import Array, Reading
from hardware.fit import equal
from hardware.guard import Action
from hardware.thinker import Thought
from robot.core import tracking
from robot.core.errors import InterfaceError
from robot.core.interface import Field, Interface

BODY = ("max_speed", "max_yaw_rate", "max_acceleration", "max_yaw_acceleration", "delay")


@dataclass
class PathsConfig:
    every: float
    """Time from plan to plan [s]."""
    wait: float
    """How long a period may wait for a plan it has just asked for [s]."""
    pose: str
    """Observation field with the robot's pose now: x, y [m], yaw [rad]."""
    planned: str
    """Observation field with its pose when the policy's measurements were taken, in the same frame."""
    body: str
    """Observation field with the robot's limits and dead time, by element name."""


class Paths:
    """A path holds in the frame of the robot at the measurement it rests on; it is followed from wherever the robot is now."""

    def __init__(self, config: PathsConfig, robot: Interface) -> None:
        """robot: the driver's interface.

        Raises:
            InterfaceError: it lacks one of the named fields, or the body's limits.
        """
        self.config, self.dt = config, robot.dt
        for name in (config.pose, config.planned):
            robot.field(name)
        names = list(robot.field(config.body).names)
        missing = [name for name in BODY if name not in names]
        if missing:
            raise InterfaceError(f"observation '{config.body}' does not say {missing} of the robot; it has {names}")
        self.places = [names.index(name) for name in BODY]
        self.reset()

    def accepts(self, asked: Field, offered: Field) -> list[str]:
        path = Field("path", (asked.shape[0], 3), "float32", "m, m, rad", "body at observation", names=("dx", "dy", "dtheta"))
        twist = Field(offered.name, (2,), "float32", "m/s, rad/s", "body", offered.low, offered.high, ("v", "w"))
        return [*equal(path, asked), *equal(twist, offered)]

    def reset(self) -> None:
        self.plan: Thought | None = None
        self.points = np.zeros((1, 1, 2))
        self.origin = self.asked_at = np.zeros(3)
        self.last = np.zeros((1, 2))

    def due(self, now: float) -> bool:
        return self.plan is None or now >= self.plan.stamp + self.config.every - self.dt / 2

    def asked(self, reading: Reading) -> None:
        self.asked_at = np.asarray(reading.observation[self.config.planned], np.float64)

    def take(self, plan: Thought, now: float) -> None:
        if self.plan is None or plan.stamp > self.plan.stamp:
            self.plan, self.origin = plan, self.asked_at
            self.points = tracking.waypoints(np.asarray(plan.actions, np.float64)[:1])

    def wanted(self, now: float, reading: Reading | None) -> Action | None:
        if self.plan is None or reading is None:
            return None
        body = np.asarray(reading.observation[self.config.body], np.float64)[self.places]
        pose = _seen_from(self.origin, np.asarray(reading.observation[self.config.pose], np.float64))
        late = max(now - reading.stamp, 0.0)
        command = tracking.track(self.points, pose, self.last, body[None, :4], self.dt, body[4] + late)
        self.last = command
        return Action(command[0], self.plan.stamp)


def _seen_from(origin: Array, pose: Array) -> Array:
    """A pose (3,) in the frame of another, (1, 3)."""
    c, s = np.cos(origin[2]), np.sin(origin[2])
    dx, dy = pose[:2] - origin[:2]
    turn = (pose[2] - origin[2] + np.pi) % (2 * np.pi) - np.pi
    return np.array([[c * dx + s * dy, c * dy - s * dx, turn]])
