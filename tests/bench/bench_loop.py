"""How punctual the servo loop is, with a policy in its own process beside it: quiet and busy machine, with and without real time.

python -m tests.bench.bench_loop [rate=500 seconds=10]

A driver in memory takes a command a period; RAPTOR decides at 100 Hz in its process and is then frozen for two seconds, and the
loop has to go on. `late` is when a period began after it was due. Two processes a core burn time where it says busy.
"""

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np

from hardware.controller import Chunks, ChunksConfig
from hardware.drivers.base import Array, Driver, Reading
from hardware.fakes.keys import keys
from hardware.guard import Guard
from hardware.limits import Channel, Family, Limits, Safe
from hardware.runtime import Runtime, hurry
from hardware.thinker import Thinker
from robot.core.clock import Clock
from robot.core.paths import PRETRAINED

KEYS = {"rate": 500.0, "seconds": 10.0}
SPIN = 2e-4
"""Busy wait before each period [s]."""
FROZEN = 2.0
"""How long the policy is stopped at the end [s]."""


class Memory(Driver):
    """Hovers, and counts."""

    def __init__(self, thinker: Thinker, dt: float) -> None:
        interface = thinker.spec.interface
        self.observation, self.command, self.dt = interface.observation, interface.action, dt
        self.times: list[float] = []
        self.still = {field.name: np.zeros(field.shape, np.float32) for field in self.observation}

    def open(self) -> None: ...

    def close(self) -> None: ...

    def stop(self) -> None: ...

    def read(self) -> Reading | None:
        return Reading(self.still, time.monotonic(), np.zeros(4))

    def write(self, command: Array) -> Array:
        self.times.append(time.monotonic())
        return command


def limits(dt: float) -> Limits:
    channels = [
        Channel(name, "1", -1.0, 1.0, 100.0, 1e5, 1e9) for name in ("front_right", "back_right", "back_left", "front_left")
    ]
    return Limits(Family.flyer, Safe.hold, dt, 5.0, 1.0, float("inf"), [], channels, [], None, None, None)


def loop(rate: float, seconds: float, spin: float) -> dict[str, Any]:
    """Run in a process of its own, so that real time ends with it."""
    thinker = Thinker(PRETRAINED / "raptor", 0)
    driver = Memory(thinker, 1 / rate)
    guard = Guard(limits(1 / rate), driver.interface)
    runtime = Runtime(driver, guard, thinker, Chunks(ChunksConfig(0, False, 0.0, 0.0, 0.0), 0.01, 1, 1 / rate), Clock(spin))
    runtime.arm()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        runtime.tick()
    told = runtime.beat.summary()
    os.kill(thinker.process.pid, signal.SIGSTOP)
    before, missed = len(driver.times), runtime.beat.missed
    end = time.monotonic() + FROZEN
    while time.monotonic() < end:
        runtime.tick()
    sent = len(driver.times) - before
    os.kill(thinker.process.pid, signal.SIGKILL)
    frozen = {"sent": sent, "due": round(FROZEN * rate), "missed": runtime.beat.missed - missed}
    return {**told, "while_the_policy_is_frozen": frozen}


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--loop"]:
        if arguments[4] == "True":
            assert hurry(), "the system refuses SCHED_FIFO"
        print(json.dumps(loop(*map(float, arguments[1:4]))))
        return
    given = keys(KEYS, arguments)
    results = {}
    for busy in (False, True):
        burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1) * busy)]
        for realtime, spin in ((True, 0.0), (True, SPIN), (False, 0.0)):
            told = [str(given["rate"]), str(given["seconds"]), str(spin), str(realtime)]
            run = [sys.executable, "-m", "tests.bench.bench_loop", "--loop", *told]
            done = subprocess.run(run, capture_output=True, text=True)
            name = f"{'busy' if busy else 'quiet'}, {'SCHED_FIFO' if realtime else 'no real time'}{', spin' * (spin > 0)}"
            results[name] = json.loads(done.stdout) if done.returncode == 0 else done.stderr.strip().splitlines()[-1]
            print(name, results[name], file=sys.stderr, flush=True)
        for burner in burners:
            burner.kill()
    print(json.dumps({"benchmark": "loop", "load": os.getloadavg(), "keys": given, "results": results}))


if __name__ == "__main__":
    main(sys.argv[1:])
