"""How a command becomes a message: one class for each."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.ros.bridge import Message
from hardware.ros.messages import default
from robot.core.interface import Field

Array = NDArray[Any]


@dataclass
class TwistConfig:
    topic: str
    """Such as /cmd_vel."""
    stamped: bool
    """geometry_msgs/TwistStamped, as newer base controllers want it, instead of Twist."""
    frame: str
    """frame_id of a stamped one."""


@dataclass
class JointTargetsConfig:
    topic: str
    """Such as /joint_commands."""
    names: list[str]
    """Of the joints, in the command's order."""
    unit: str
    """rad, or m for sliding joints."""


class Command(ABC):
    """Attributes:
    field: the driver's command.
    kind: the message's type.
    """

    field: Field
    kind: str
    config: Any

    @abstractmethod
    def message(self, command: Array, stamp: Message) -> Message:
        """Of a finite command (A,); stamp: builtin_interfaces/Time of now."""


class TwistCommand(Command):
    """v along x and w about z, of a base that cannot slide."""

    def __init__(self, config: TwistConfig) -> None:
        self.config = config
        self.field = Field("twist", (2,), "float32", "m/s, rad/s", "body", names=("v", "w"))
        self.kind = "geometry_msgs/msg/TwistStamped" if config.stamped else "geometry_msgs/msg/Twist"

    def message(self, command: Array, stamp: Message) -> Message:
        message = default(self.kind)
        twist = message["twist"] if self.config.stamped else message
        twist["linear"]["x"], twist["angular"]["z"] = float(command[0]), float(command[1])
        if self.config.stamped:
            message["header"] = {"stamp": stamp, "frame_id": self.config.frame}
        return message


class JointTargets(Command):
    """sensor_msgs/JointState with positions, as drivers of arms and hands take targets."""

    kind = "sensor_msgs/msg/JointState"

    def __init__(self, config: JointTargetsConfig) -> None:
        self.config = config
        self.field = Field("targets", (len(config.names),), "float32", config.unit, names=tuple(config.names))

    def message(self, command: Array, stamp: Message) -> Message:
        message = default(self.kind)
        message["header"] = {"stamp": stamp, "frame_id": ""}
        message["name"], message["position"] = list(self.config.names), np.asarray(command, np.float64)
        return message
