"""Who sits at the terminal: a line that says how it goes, and keys that stop, release and end the run."""

import contextlib
import os
import select
import signal
import sys
from types import FrameType, TracebackType

from hardware.guard import Mode
from hardware.runtime import Runtime, hurry
from robot.core.errors import DriverError

REFRESH = 0.5
"""Between two looks of the line [s]; where nobody looks, ten times that."""
HELP = "Enter: stop. r Enter: release and arm again. q Enter or Ctrl-C: stop and end."


class Operator:
    """A context manager: within it Ctrl-C and SIGTERM end the run in order instead of the process."""

    def __init__(self, runtime: Runtime, duration: float | None, realtime: bool) -> None:
        """duration: of the run [s], None for until someone ends it; realtime: ask the system for SCHED_FIFO."""
        self.runtime, self.duration = runtime, duration
        if realtime and not hurry():
            sys.stderr.write("realtime: the system refuses SCHED_FIFO (be root, or have LimitRTPRIO); going on without\n")
        self.ended = ""
        self._shown = -REFRESH
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
            self._look(now - start)
            self._listen()
            if self.duration is not None and now - start >= self.duration:
                self.ended = f"{self.duration:g} s are over"
        runtime.stop(self.ended)
        if self._terminal:
            sys.stderr.write("\n")
        return self.ended

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
        return "\n".join([f"ended             {self.ended}", *lines, *self.runtime.driver.report()])

    def line(self, elapsed: float) -> str:
        """The run in a line."""
        runtime, guard = self.runtime, self.runtime.guard
        told = runtime.beat.summary(2000)
        parts = [
            f"{elapsed:7.1f} s  {guard.mode.value}",
            f"late p50 {told.get('late_p50_ms', 0):.2f} p99 {told.get('late_p99_ms', 0):.2f} ms",
        ]
        if "think_p50_ms" in told:
            parts.append(f"plan p50 {told['think_p50_ms']:.2f} p99 {told['think_p99_ms']:.2f} ms")
        parts.append(f"missed {told['missed']}, limited {guard.limited} of {told['periods']}")
        if guard.mode in (Mode.hold, Mode.stopped):
            parts.append("; ".join(guard.reasons))
        return "  ".join(parts)
