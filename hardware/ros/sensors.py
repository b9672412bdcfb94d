"""What a node understands of a ROS graph: one class for each way in which messages become observation fields."""

import math
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.ros.bridge import Message
from hardware.skew import Skew
from robot.core.errors import MessageError
from robot.core.interface import Field
from robot.core.rotation import from_xyzw, to_matrix, to_yaw

Array = NDArray[Any]
Values = dict[str, Array]
EARLY = 0.005
"""Nothing is measured later than so long after it came [s]: such a stamp is false."""
LARGEST = 1e30
"""No robot measures more; float32 ends at 3e38."""
KEPT = 1.0
"""How long past values are kept, for fields of other sensors to be matched with [s]."""


def stamp_of(message: Message) -> float:
    """The header's stamp [s], 0 where there is none or it was not set."""
    stamp = message.get("header", {}).get("stamp", {})
    found = float(stamp.get("sec", 0)) + 1e-9 * float(stamp.get("nanosec", 0))
    if not math.isfinite(found):
        raise MessageError("the stamp is not finite")
    return found


def frame_of(message: Message) -> str:
    return str(message.get("header", {}).get("frame_id", ""))


def finite(values: Any, what: str) -> Array:
    """As float64; a MessageError where one is not finite, or too large for what policies compute in."""
    array = np.asarray(values, np.float64)
    if not (np.abs(array) < LARGEST).all():
        raise MessageError(f"{what} is not finite")
    return array


@dataclass
class TopicConfig:
    topic: str
    """Such as /odom."""
    max_age: float
    """Nothing moves on measurements of this topic that are older [s]; .inf for what is said once."""


class Sensor(ABC):
    """Attributes:
    fields: observation fields that it gives.
    kind: the message's type.
    stamp: when its newest values were measured [s], in the time of `time.monotonic`; -inf before the first.
    """

    fields: tuple[Field, ...]
    kind: str
    latched = False
    """Whether the last message is asked for by who comes later."""

    def __init__(self, config: Any) -> None:
        self.config, self.stamp, self.refused = config, -math.inf, 0
        self.skew = Skew()
        self.past: deque[tuple[float, Values]] = deque()

    def take(self, message: Message, came: float) -> None:
        """Learn from a message that came at `came` [s]; one that cannot be understood is counted in `refused`."""
        try:
            values, said = self.read(message), stamp_of(message)
        except (MessageError, AttributeError, KeyError, IndexError, TypeError, ValueError, OverflowError, MemoryError):
            self.refused += 1
            return
        stamp = self.skew.ours(said, came) if said > 0 else came
        if stamp > came + EARLY:
            self.refused += 1
            return
        if stamp < self.stamp:  # reordered
            return
        self.stamp = stamp
        self.past.append((stamp, values))
        while stamp - self.past[0][0] > KEPT and len(self.past) > 1:
            self.past.popleft()

    @abstractmethod
    def read(self, message: Message) -> Values:
        """What the message says; a MessageError where it is of no use."""

    def values(self, at: float) -> Values:
        """As measured nearest to `at` [s]."""
        return min(self.past, key=lambda entry: abs(entry[0] - at))[1]


@dataclass
class OdometryConfig(TopicConfig):
    frame: str
    """frame_id of the poses; messages in another frame are refused."""


class Odometry(Sensor):
    """Of a wheeled base: `odometry` and `velocity` as they were when the others measured, `pose` as it is now."""

    kind = "nav_msgs/msg/Odometry"

    def __init__(self, config: OdometryConfig) -> None:
        super().__init__(config)
        self.fields = (
            Field("odometry", (3,), "float32", "m, m, rad", "odom", names=("x", "y", "yaw")),
            Field("velocity", (2,), "float32", "m/s, rad/s", "body", names=("v", "w")),
            Field("pose", (3,), "float32", "m, m, rad", "odom now", names=("x", "y", "yaw")),
        )

    def read(self, message: Message) -> Values:
        _same_frame(frame_of(message), self.config.frame)
        pose, twist = message["pose"]["pose"], message["twist"]["twist"]
        place = finite([pose["position"][axis] for axis in "xy"], "odometry position")
        moving = finite([twist["linear"]["x"], twist["angular"]["z"]], "odometry twist")
        return {"odometry": np.array([*place, to_yaw(_quaternion(pose["orientation"]))]), "velocity": moving}

    def values(self, at: float) -> Values:
        return {**super().values(at), "pose": self.past[-1][1]["odometry"]}


class Flight(Sensor):
    """nav_msgs/Odometry of a flyer as RAPTOR sees it: position, rotation, velocity in the world, rate in the body."""

    kind = "nav_msgs/msg/Odometry"

    def __init__(self, config: OdometryConfig) -> None:
        super().__init__(config)
        self.fields = (
            Field("position", (3,), "float32", "m", "world", names=("x", "y", "z")),
            Field("rotation", (3, 3), "float32", "1", "world from body"),
            Field("velocity", (3,), "float32", "m/s", "world", names=("x", "y", "z")),
            Field("rate", (3,), "float32", "rad/s", "body", names=("x", "y", "z")),
        )

    def read(self, message: Message) -> Values:
        _same_frame(frame_of(message), self.config.frame)
        pose, twist = message["pose"]["pose"], message["twist"]["twist"]
        turn = to_matrix(_quaternion(pose["orientation"]))
        vector = lambda value, what: finite([value[axis] for axis in "xyz"], what)  # noqa: E731
        return {
            "position": vector(pose["position"], "position"),
            "rotation": turn,
            "velocity": turn @ vector(twist["linear"], "velocity"),  # a twist is in the child's frame
            "rate": vector(twist["angular"], "rate"),
        }


class Goal(Sensor):
    """geometry_msgs/PoseStamped where a base should go: `goal` in its body's frame, `goal_given`."""

    kind = "geometry_msgs/msg/PoseStamped"
    latched = True

    def __init__(self, config: OdometryConfig) -> None:
        super().__init__(config)
        self.fields = (
            Field("goal", (3,), "float32", "m, m, rad", "body", names=("x", "y", "yaw")),
            Field("goal_given", (2,), "float32", "1", "", 0.0, 1.0, ("point", "image")),
        )

    def read(self, message: Message) -> Values:
        _same_frame(frame_of(message), self.config.frame)
        pose = message["pose"]
        place = finite([pose["position"][axis] for axis in "xy"], "goal")
        return {"goal": np.array([*place, to_yaw(_quaternion(pose["orientation"]))]), "goal_given": np.array([1.0, 0.0])}

    def seen_from(self, odometry: Array) -> Values:
        """The goal from a pose x, y, yaw in the goal's frame."""
        told = self.past[-1][1]
        dx, dy = told["goal"][:2] - odometry[:2]
        c, s = math.cos(odometry[2]), math.sin(odometry[2])
        turn = (told["goal"][2] - odometry[2] + math.pi) % (2 * math.pi) - math.pi
        return {"goal": np.array([c * dx + s * dy, c * dy - s * dx, turn]), "goal_given": told["goal_given"]}


class Imu(Sensor):
    """sensor_msgs/Imu: `attitude` as a quaternion wxyz, `rate` and `acceleration` in the body."""

    kind = "sensor_msgs/msg/Imu"

    def __init__(self, config: TopicConfig) -> None:
        super().__init__(config)
        self.fields = (
            Field("attitude", (4,), "float32", "1", "world from body", names=("w", "x", "y", "z")),
            Field("rate", (3,), "float32", "rad/s", "body", names=("x", "y", "z")),
            Field("acceleration", (3,), "float32", "m/s^2", "body", names=("x", "y", "z")),
        )

    def read(self, message: Message) -> Values:
        vector = lambda value, what: finite([value[axis] for axis in "xyz"], what)  # noqa: E731
        return {
            "attitude": _quaternion(message["orientation"]),
            "rate": vector(message["angular_velocity"], "rate"),
            "acceleration": vector(message["linear_acceleration"], "acceleration"),
        }


@dataclass
class JointsConfig(TopicConfig):
    names: list[str]
    """Of the joints, in the policy's order; messages may have more, in any order."""
    unit: str
    """Of positions: rad, or m for sliding joints."""


class Joints(Sensor):
    """sensor_msgs/JointState: `joints` and `joint_velocities`, found by name."""

    kind = "sensor_msgs/msg/JointState"

    def __init__(self, config: JointsConfig) -> None:
        super().__init__(config)
        names, count = tuple(config.names), (len(config.names),)
        self.fields = (
            Field("joints", count, "float32", config.unit, names=names),
            Field("joint_velocities", count, "float32", f"{config.unit}/s", names=names),
        )

    def read(self, message: Message) -> Values:
        place = {name: k for k, name in enumerate(message["name"])}
        missing = [name for name in self.config.names if name not in place]
        if missing:
            raise MessageError(f"'{self.config.topic}' has no joint {missing}")
        order = [place[name] for name in self.config.names]
        position, velocity = np.asarray(message["position"], np.float64), np.asarray(message["velocity"], np.float64)
        if position.size != len(place):
            raise MessageError(f"'{self.config.topic}' has {len(place)} names and {position.size} positions")
        velocity = velocity if velocity.size == len(place) else np.zeros(len(place))
        return {"joints": finite(position[order], "joints"), "joint_velocities": finite(velocity[order], "joint velocities")}


def _quaternion(q: Message) -> Array:
    xyzw = finite([q[axis] for axis in "xyzw"], "orientation")
    if abs(np.linalg.norm(xyzw) - 1.0) > 0.01:  # such as one that was never set
        raise MessageError(f"orientation {xyzw.tolist()} is no unit quaternion")
    return from_xyzw(xyzw)


def _same_frame(found: str, wanted: str) -> None:
    if found != wanted:
        raise MessageError(f"frame '{found}', expected '{wanted}'")
