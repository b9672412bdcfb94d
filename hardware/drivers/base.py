"""What every robot is to the runtime: something that is read, commanded and stopped.

A driver is one short file over the robot's own protocol. It neither limits nor remembers commands: hardware/safety.py stands
before `write`, hardware/runtime.py calls both, and limits live in hardware/robots/<robot>/limits.yaml.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from robot.core.interface import Field, Interface

Array = NDArray[Any]


@dataclass(frozen=True)
class Reading:
    """What a robot said of itself.

    Attributes:
        observation: an array of each observation field, without batch.
        stamp: when it was measured [s], in the time of `time.monotonic` on this machine.
        measured: (A,), where the command's channels really are, in the command's unit (positions of joints, velocities of a
            base); arming starts from here.
    """

    observation: dict[str, Array]
    stamp: float
    measured: Array


class Driver(ABC):
    """A robot behind its protocol, as a context manager: entering connects, leaving stops the robot and disconnects.

    Attributes:
        observation: fields that `read` gives.
        command: the field that `write` takes, its element names in the robot's order.
        dt: time between two commands [s].
    """

    observation: tuple[Field, ...]
    command: Field
    dt: float

    @property
    def interface(self) -> Interface:
        """Of a policy that commands the robot directly, one action a period."""
        return Interface(self.observation, self.command, self.dt)

    @abstractmethod
    def open(self) -> None:
        """Connect.

        Raises:
            DriverError: nothing answers, no permission, port in use: what is wrong and what to try next, in one line.
        """

    @abstractmethod
    def read(self) -> Reading | None:
        """The newest measurement that has not been read yet, or None. Never waits longer than a tenth of `dt`.

        Raises:
            DriverError: the link is down for good.
        """

    @abstractmethod
    def write(self, command: Array) -> Array:
        """Send a finite command (A,) and return what was sent in the protocol's own resolution, in the command's unit.

        Raises:
            DriverError: the link is down for good.
        """

    @abstractmethod
    def stop(self) -> None:
        """The robot's own safe state by its own means: torque hold, zero velocity, landing. It may be called at any time after
        `open`, twice, and after errors; it never raises."""

    @abstractmethod
    def close(self) -> None:
        """Disconnect. May be called twice."""

    def arm(self) -> None:  # noqa: B027
        """What the robot asks for before it obeys commands, such as switching its motors on.

        Raises:
            DriverError: the robot refuses, in its own words.
        """

    def will(self) -> Callable[[], None]:
        """What stops the robot when this process has been killed: called in the watchdog's process, forked before `open`.

        The default opens a second link when the time has come.
        """

        def last() -> None:
            self.open()
            self.stop()

        return last

    def report(self) -> list[str]:
        """Lines on how the run went, as far as the robot knows."""
        return []

    def __enter__(self) -> "Driver":
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.stop()
        finally:
            self.close()
