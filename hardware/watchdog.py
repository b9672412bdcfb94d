"""A second process that stops the robot when the first one is killed, hangs, or is frozen by a signal."""

import contextlib
import os
import select
import signal
from collections.abc import Callable

ALIVE, PAUSE, DONE = b".", b"p", b"q"


class Watchdog:
    """Forked before the link to the robot is opened; it holds nothing but the reading end of a pipe, and the robot's will."""

    def __init__(self, will: Callable[[], None], patience: float) -> None:
        """will: called in the other process, once, when this one is gone or has not called `beat` for `patience` [s]."""
        listen, self._pipe = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._pipe)
            _watch(listen, will, patience)
        os.close(listen)
        os.set_blocking(self._pipe, False)

    def beat(self) -> None:
        """Say that all is well; call it once a period."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(self._pipe, ALIVE)

    def pause(self) -> None:
        """Say that silence is meant until the next `beat`: the robot is being armed, which takes as long as it takes. That this
        process has gone is noticed all the same."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(self._pipe, PAUSE)

    @property
    def alive(self) -> bool:
        """Whether it still watches; it does not after it has acted."""
        return os.waitpid(self.pid, os.WNOHANG) == (0, 0)

    def close(self) -> None:
        """End it without the will being done: the robot has been stopped in order."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(self._pipe, DONE)
        os.close(self._pipe)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _watch(listen: int, will: Callable[[], None], patience: float) -> None:
    """The other process; never returns."""
    status = 1
    try:
        os.setsid()  # what is typed at the first one's terminal is not for this one
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        begun = False
        while True:
            ready, _, _ = select.select([listen], [], [], patience if begun else None)
            said = os.read(listen, 4096) if ready else b""
            if DONE in said:
                status = 0
                break
            begun = not said.endswith(PAUSE)
            if not said:
                will()
                break
    finally:
        os._exit(status)
