"""Who sits at the terminal: a line that says how it goes, and keys that stop, release and end the run."""

import contextlib
import math
import os
import select
import signal
import sys
from collections.abc import Callable
from types import FrameType, TracebackType

from hardware.guard import Mode
from hardware.runtime import Runtime
from robot.core.errors import DriverError

REFRESH = 0.5
"""Between two looks of the line [s]; where nobody looks, ten times that."""
RECENT = 300
"""Periods that the line looks back."""
HELP = "Enter: stop. r Enter: release and arm again. q Enter or Ctrl-C: stop and end."


class Operator:
    """A context manager: within it Ctrl-C and SIGTERM end the run in order instead of the process."""

    def __init__(self, runtime: Runtime, duration: float | None) -> None:
        """duration: of the run [s], None for until someone ends it. After each period `beside` are called with the time."""
        self.runtime, self.duration = runtime, duration
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
            self._look(now - start)
            self._listen()
            if self.duration is not None and now - start >= self.duration:
                self.ended = f"{self.duration:g} s are over"
        runtime.stop(self.ended)
        if self._terminal:
            sys.stderr.write("\n")
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
        with contextlib.suppress(DriverError):  # the line says why
            self.runtime.guard.release()
            self.runtime.arm()

    def _look(self, elapsed: float) -> None:
        if elapsed - self._shown < REFRESH * (1 if self._terminal else 10):
            return
        self._shown = elapsed
        text = self.line(elapsed)
        sys.stderr.write(f"\r{text[:200]:<200}" if self._terminal else f"{text}\n")
        sys.stderr.flush()

    def report(self) -> str:
        """The run in figures, and what the robot says of it."""
        told = {**self.runtime.beat.summary(), "limited": self.runtime.guard.limited}
        lines = [f"{name:<18}{value:.3f}" if isinstance(value, float) else f"{name:<18}{value}" for name, value in told.items()]
        lines = [f"ended             {self.ended}", *lines, *self.runtime.driver.report()]
        if self.runtime.recorder is not None:
            lines.append(f"recording         {self.runtime.recorder.folder}")
        return "\n".join(lines)

    def line(self, elapsed: float) -> str:
        """The run in a line."""
        runtime, guard = self.runtime, self.runtime.guard
        parts = [f"{elapsed:7.1f} s  {guard.mode.value}"]
        for name, values in (("late", runtime.beat.late), ("plan", runtime.beat.think)):
            ordered = sorted(values[-RECENT:])  # within a period: no numpy, few values
            if ordered:
                middle, high = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
                parts.append(f"{name} p50 {1e3 * middle:.2f} p99 {1e3 * high:.2f} ms")
        parts.append(f"missed {runtime.beat.missed}, limited {guard.limited} of {runtime.beat.periods}")
        if guard.mode in (Mode.hold, Mode.stopped):
            parts.append("; ".join(guard.reasons))
        return "  ".join(parts)
