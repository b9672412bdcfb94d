"""What every way into a ROS graph is to a node: topics whose newest message is read, and topics that are written.

A message is a dict by its definition in hardware/ros/messages.py: numbers, strings, nested dicts, numpy arrays for arrays of
numbers, lists for the rest. `messages.default(type)` makes one.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Any

Message = dict[str, Any]


@dataclass(frozen=True)
class Qos:
    """Attributes:
    reliable: every message arrives, if late; else the newest matters and a lost one is lost.
    depth: messages that wait to be fetched; older ones are dropped.
    latched: who comes later still gets the last ones.
    """

    reliable: bool
    depth: int
    latched: bool = False


SENSOR = Qos(reliable=False, depth=5)
"""ROS 2's profile for measurements."""
DEFAULT = Qos(reliable=True, depth=10)
"""ROS 2's profile for everything else."""
LATCHED = Qos(reliable=True, depth=1, latched=True)
"""For what is said once: descriptions, parameters."""


class Subscription(ABC):
    """A topic that is read."""

    @abstractmethod
    def take(self) -> list[tuple[Message, float]]:
        """What has come since the last call, oldest first, and when [s], in the time of `time.monotonic`. Never waits.

        Damaged messages are left out and counted in `refused`.

        Raises:
            DriverError: the link is down for good.
        """

    refused: int = 0
    """Messages that could not be read: wrong type, cut off, too large."""

    def newest(self) -> tuple[Message, float] | None:
        """The last of `take`, or None."""
        found = self.take()
        return found[-1] if found else None


class Publisher(ABC):
    """A topic that is written."""

    @abstractmethod
    def publish(self, message: Message) -> None:
        """Send; never waits longer than a millisecond.

        Raises:
            MessageError: the message is not of the topic's type, or not finite where JSON could not say so.
            DriverError: the link is down for good.
        """


class Bridge(ABC):
    """A way into a ROS graph, as a context manager. Nothing listens beyond loopback unless the config says so."""

    @abstractmethod
    def open(self) -> None:
        """Connect.

        Raises:
            DriverError: no such peer, a port in use, a package that is not installed: what is wrong and what to try, in one line.
        """

    @abstractmethod
    def close(self) -> None:
        """Disconnect. May be called twice."""

    @abstractmethod
    def subscribe(self, topic: str, kind: str, qos: Qos = SENSOR) -> Subscription:
        """Read a topic, `/joint_states`, of a type, `sensor_msgs/msg/JointState`."""

    @abstractmethod
    def advertise(self, topic: str, kind: str, qos: Qos = DEFAULT) -> Publisher:
        """Write a topic."""

    def __enter__(self) -> "Bridge":
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
