"""Who sits at the terminal: a view of how it goes, and keys that stop, release and end the run."""

import contextlib
import math
import os
import select
import signal
import sys
from collections.abc import Callable
from types import FrameType, TracebackType

from hardware.runtime import Runtime
from hardware.view import View
from robot.core.errors import DriverError

REFRESH = 0.5
"""Between two pictures [s]; where nobody looks, ten times that."""
HELP = "Enter: stop. r Enter: release and arm again. q Enter or Ctrl-C: stop and end."


class Operator:
    """A context manager: within it Ctrl-C and SIGTERM end the run in order instead of the process."""

    def __init__(self, runtime: Runtime, duration: float | None, title: str = "tiller") -> None:
        """duration: of the run [s], None for until someone ends it. After each period `beside` are called with the time."""
        self.runtime, self.duration, self.view = runtime, duration, View(runtime, title)
        self.ended = ""
        self.beside: list[Callable[[float], None]] = []
        self._shown = -math.inf
        self._terminal = sys.stderr.isatty()
        self._keys = sys.stdin is not None and sys.stdin.isatty()

    def __enter__(self) -> "Operator":
        self._before = {number: signal.signal(number, self._signal) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def run(self) -> str:
        """Tick until the end; why it ended."""
        runtime = self.runtime
        start = runtime.clock.now()
        sys.stderr.write(f"{HELP}\n" if self._keys else "")
        while not self.ended:
            runtime.tick()
            now = runtime.clock.now()
            for each in self.beside:
                each(now)
            self.view.note(now - start)
            self._look(now - start)
            self._listen()
            if self.duration is not None and now - start >= self.duration:
                self.ended = f"{self.duration:g} s are over"
        runtime.stop(self.ended)
        return self.ended

    def end(self, reason: str) -> None:
        """End the run after this period."""
        self.ended = self.ended or reason

    def _signal(self, number: int, frame: FrameType | None) -> None:
        self.ended = signal.Signals(number).name

    def _listen(self) -> None:
        if not self._keys or not select.select([sys.stdin], [], [], 0)[0]:
            return
        said = os.read(sys.stdin.fileno(), 4096).decode(errors="replace").strip()
        if said == "q":
            self.ended = "ended by the operator"
        elif said == "r":
            self._again()
        else:
            self.runtime.stop("stopped by the operator")

    def _again(self) -> None:
        with contextlib.suppress(DriverError):  # the view says why
            self.runtime.guard.release()
            if self.runtime.estop is not None:
                self.runtime.estop.release()
            self.runtime.arm()

    def _look(self, elapsed: float) -> None:
        if elapsed - self._shown < REFRESH * (1 if self._terminal else 10):
            return
        self._shown = elapsed
        if self._terminal:
            self.view.draw(elapsed, sys.stderr)
        else:
            sys.stderr.write(f"{self.view.line(elapsed)}\n")
            sys.stderr.flush()

    def report(self) -> str:
        """The run in figures, and what the robot says of it."""
        told = {**self.runtime.beat.summary(), "limited": self.runtime.guard.limited}
        lines = [f"{name:<18}{value:.3f}" if isinstance(value, float) else f"{name:<18}{value}" for name, value in told.items()]
        lines = [f"ended             {self.ended}", *lines, *self.runtime.driver.report()]
        if self.runtime.recorder is not None:
            lines.append(f"recording         {self.runtime.recorder.folder}")
        return "\n".join(lines)
