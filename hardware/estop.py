"""An emergency stop that software hears: a button, a key, a radio link, at a device file, a pipe or a serial line.

It comes beside the one that cuts the power, never instead of it.
"""

import errno
import os
from dataclasses import dataclass

from robot.core.errors import DriverError

READS = 32
"""Of 4096 bytes; twice what a pipe of the system holds."""


@dataclass
class EstopConfig:
    device: str
    """Device file, named pipe or serial line, such as /dev/input/by-id/...-event-kbd or /dev/ttyACM0."""
    alive: float | None
    """null: any byte is the button. A number: the sender says a byte again and again while all is well, and its silence for so
    long is the button [s], as wireless stops have it."""


class Estop:
    """Opened before the robot is armed; what has vanished has been pressed."""

    def __init__(self, config: EstopConfig) -> None:
        """
        Raises:
            DriverError: the device is not there, or may not be read.
        """
        self.config = config
        try:
            self.file = os.open(config.device, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            told = "be in its group, such as input or dialout" if error.errno == errno.EACCES else "is it plugged in?"
            raise DriverError(f"estop: '{config.device}' cannot be opened: {error.strerror}; {told}") from error
        self.heard: float | None = None
        self.reason = ""
        self._bytes()  # of before

    def poll(self, now: float) -> str:
        """Why the robot must stop, "" while it need not; once pressed it stays so. Never waits."""
        if self.reason:
            return self.reason
        if self.heard is None:
            self.heard = now
        found = self._bytes()
        if found is None:
            self.reason = "the emergency stop is gone"
        elif self.config.alive is None:
            self.reason = "the emergency stop is pressed" if found else ""
        elif found:
            self.heard = now
        elif now - self.heard > self.config.alive:
            self.reason = f"the emergency stop has been silent for {now - self.heard:.2f} s"
        return self.reason

    def release(self) -> None:
        """Listen anew, from now on."""
        self._bytes()
        self.reason, self.heard = "", None

    def close(self) -> None:
        if self.file >= 0:
            os.close(self.file)
            self.file = -1

    def _bytes(self) -> bytes | None:
        """What has come, as far as the system keeps it; None where nobody can send any more."""
        found = b""
        for _ in range(READS):  # who babbles without end must not keep the servo loop waiting
            try:
                data = os.read(self.file, 4096)
            except BlockingIOError:
                return found
            except OSError:
                return None
            if not data:
                return found or None
            found += data
        return found
