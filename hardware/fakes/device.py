"""What the fakes share: an account of what arrived, a pseudo-terminal, and running in real time until they are told to end."""

import json
import math
import os
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable
from typing import Any

import numpy as np


class Account:
    """The device's word on what it was sent: this, and not the sender's, says whether limits were kept."""

    def __init__(self) -> None:
        self.last = -math.inf
        self.told: dict[str, Any] = {
            "commands": 0,
            "not_finite": 0,
            "out_of_range": 0,
            "refused": 0,
            "longest_gap": 0.0,
            "events": [],
        }

    def command(self, values: Any, low: Any, high: Any) -> bool:
        """Count one; whether it may be obeyed: finite and from `low` to `high`, element by element."""
        values, now = np.asarray(values, np.float64), time.monotonic()
        finite = bool(np.isfinite(values).all())
        inside = finite and bool(((values >= np.asarray(low)) & (values <= np.asarray(high))).all())
        self.told["commands"] += 1
        self.told["not_finite"] += not finite
        self.told["out_of_range"] += finite and not inside
        if math.isfinite(self.last):
            self.told["longest_gap"] = max(self.told["longest_gap"], now - self.last)
        self.last = now
        return inside

    def event(self, what: str) -> None:
        """Append a change of state, with when it was [s]."""
        self.told["events"].append([time.monotonic(), what])


class Terminal:
    """The device's end of a pseudo-terminal; `path` is what a driver opens."""

    def __init__(self) -> None:
        self.master, self._slave = os.openpty()  # ours stays open, so that drivers may come and go
        tty.setraw(self._slave, termios.TCSANOW)
        os.set_blocking(self.master, False)
        self.path = os.ttyname(self._slave)

    def read(self) -> bytes:
        """All that has come; never waits."""
        try:
            return os.read(self.master, 65536)
        except BlockingIOError:
            return b""

    def write(self, data: bytes) -> None:
        """Send, or lose what nobody reads."""
        try:
            os.write(self.master, data)
        except BlockingIOError:
            termios.tcflush(self.master, termios.TCIOFLUSH)

    def close(self) -> None:
        """Unplug."""
        os.close(self.master)
        os.close(self._slave)


def serve(tick: Callable[[], None], dt: float, where: str, report: Callable[[], dict[str, Any]], seconds: float = 0.0) -> None:
    """Say `ready <where>`, tick every `dt` [s] until a signal comes or `seconds` are over (0: never), and print the report."""
    ended: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: ended.append(number))
    sys.stdout.write(f"ready {where}\n")
    sys.stdout.flush()
    due = start = time.monotonic()
    while not ended and not 0 < seconds < time.monotonic() - start:
        tick()
        due = max(due + dt, time.monotonic() - dt)
        time.sleep(max(0.0, due - time.monotonic()))
    sys.stdout.write(json.dumps(report()) + "\n")
    sys.stdout.flush()
