"""What a run looks like on a terminal: rates, latencies, channels within their limits, what safety had to say."""

import math
import os
import select
from collections import deque
from typing import TextIO

from hardware.guard import Mode
from hardware.runtime import Runtime

RECENT = 300
"""Periods that percentiles look back."""
EVENTS = 5
"""Changes of mode that stay in sight."""
BAR = 24
"""Characters from a channel's low to its high."""
COLOURS = {Mode.idle: 36, Mode.armed: 36, Mode.running: 32, Mode.hold: 31, Mode.stopped: 33}
"""ANSI foregrounds."""


class View:
    """Draws over what it drew before. `lines` is the same without a terminal."""

    def __init__(self, runtime: Runtime, title: str) -> None:
        self.runtime, self.title = runtime, title
        self.events: deque[str] = deque(maxlen=EVENTS)
        self.said: tuple[Mode, tuple[str, ...]] = (Mode.idle, ())
        self.before = (0.0, 0, 0, 0)
        self.rates = (math.nan, math.nan, math.nan)
        self.height = 0

    def note(self, elapsed: float) -> None:
        """Look for a change of mode; cheap, once a period."""
        guard = self.runtime.guard
        if (guard.mode, guard.reasons) != self.said:
            self.said = (guard.mode, guard.reasons)
            self.events.append(f"{elapsed:8.2f} s  {guard.mode.value:<8}{'; '.join(guard.reasons)}")

    def lines(self, elapsed: float) -> list[str]:
        """The picture, without colours."""
        runtime, beat, guard = self.runtime, self.runtime.beat, self.runtime.guard
        self._count(elapsed)
        loop, plans, readings = self.rates
        age = math.nan if runtime.reading is None else 1e3 * (runtime.clock.now() - runtime.reading.stamp)
        lines = [
            f"{self.title}   {elapsed:8.1f} s   {guard.mode.value.upper()}",
            f"loop    {loop:7.1f} Hz   late {_percentiles(beat.late)}   missed {beat.missed}",
            f"policy  {plans:7.1f} Hz   plan {_percentiles(beat.think)}   limited {guard.limited} of {beat.periods}",
            f"robot   {readings:7.1f} Hz   age  {age:6.2f} ms",
        ]
        if guard.state:
            lines += [
                _channel(c.name, c.unit, c.low, c.high, s[0]) for c, s in zip(guard.limits.channels, guard.state, strict=True)
            ]
        return [*lines, *self.events]

    def line(self, elapsed: float) -> str:
        """The picture in a line, for logs."""
        beat, guard = self.runtime.beat, self.runtime.guard
        parts = [f"{elapsed:7.1f} s  {guard.mode.value}", f"late {_percentiles(beat.late)}", f"plan {_percentiles(beat.think)}"]
        parts.append(f"missed {beat.missed}, limited {guard.limited} of {beat.periods}")
        return "  ".join([*parts, *guard.reasons])

    def draw(self, elapsed: float, out: TextIO) -> None:
        """Onto a terminal, over the last picture; not at all where it is full, so that it never holds up the servo loop."""
        if not select.select([], [out], [], 0)[1]:
            return
        size = os.get_terminal_size(out.fileno())
        lines = [line[: size.columns - 1] for line in self.lines(elapsed)][: max(size.lines - 1, 1)]
        mode = self.runtime.guard.mode
        lines[0] = f"\x1b[1;{COLOURS[mode]}m{lines[0]}\x1b[0m"
        up = f"\x1b[{self.height}A" if self.height else ""
        out.write(up + "".join(f"\x1b[2K{line}\n" for line in lines) + "\x1b[0J")
        out.flush()
        self.height = len(lines)

    def _count(self, elapsed: float) -> None:
        beat = self.runtime.beat
        then, *before = self.before
        now = [beat.periods, beat.plans, beat.readings]
        if elapsed - then > 0.2:
            self.rates = tuple((a - b) / (elapsed - then) for a, b in zip(now, before, strict=True))  # type: ignore[assignment]
            self.before = (elapsed, *now)


def _percentiles(values: list[float]) -> str:
    if not values:
        return "-".center(24)
    ordered = sorted(values[-RECENT:])  # within a period: few values, no numpy
    middle, high = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
    return f"p50 {1e3 * middle:6.2f} p99 {1e3 * high:6.2f} ms"


def _channel(name: str, unit: str, low: float, high: float, value: float) -> str:
    place = round((min(max(value, low), high) - low) / (high - low) * (BAR - 1)) if math.isfinite(value) else 0
    bar = "".join("#" if k == place else "-" for k in range(BAR))
    return f"{name[:14]:<14}{low:9.4g} |{bar}| {high:<9.4g}{value:10.4g} {unit}"
