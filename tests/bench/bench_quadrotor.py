"""Steps a second of the compiled quadrotors beside l2f's own vectorised step, on one core and on all, in the same run.

python -m tests.bench.bench_quadrotor          (needs `pip install l2f`)

Each count of threads is a process of its own, as both read it once. Rates are wall-clock, the best of five rounds in which both
take turns. Bar: 1.5 times l2f.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from robot.learn.evaluator import revision
from sim.quadrotor import dynamics, kernel, vehicle

WORLDS, DT, BAR = 4096, 0.01, 1.5


def rate(work: Callable[[], None], seconds: float = 0.5) -> float:
    """World-steps a second."""
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        work()
        steps += WORLDS
    return steps / (time.perf_counter() - start)


def measure() -> dict[str, float]:
    """Rates in this process."""
    from tests.bench.peer_l2f import L2F

    fleet = {name: value.repeat(WORLDS, *[1] * (value.ndim - 1)) for name, value in vehicle.load("crazyflie").items()}
    peer, work = L2F(fleet), kernel.pack(dynamics.constants(fleet).numpy())
    action = np.random.default_rng(0).uniform(-0.2, 0.2, (WORLDS, 4)).astype(np.float32)
    state = np.zeros((WORLDS, 17), np.float32)
    state[:, 3] = 1
    setpoint, out, pull = (action + 1) / 2, np.empty_like(state), np.ones_like(state)
    pull_out = np.empty_like(setpoint)
    x, u, constants = torch.from_numpy(state), torch.from_numpy(setpoint), dynamics.constants(fleet)
    workers: dict[str, Callable[[], None]] = {
        "ours": lambda: kernel.step(work, state, setpoint, DT, 1, out),
        "ours_ten_substeps": lambda: kernel.step(work, state, setpoint, DT / 10, 10, out),
        "ours_gradient": lambda: kernel.backward(work, state, setpoint, DT, pull, out, pull_out),
        "torch": lambda: dynamics.step(x, u, constants, DT) is None,
        "l2f": lambda: peer.vector.step(peer.device, peer.env, peer.params, peer.state, action, peer.following, peer.rng),
    }
    best = dict.fromkeys(workers, 0.0)
    for _ in range(5):
        for name, each in workers.items():
            best[name] = max(best[name], rate(each))
    best["ours_ten_substeps"] *= 10
    return best


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(measure()))
        return
    report: dict[str, object] = {"bench": "quadrotor", "machine": platform.processor() or platform.machine(), "worlds": WORLDS}
    for threads in (1, os.cpu_count() or 1):
        env = {**os.environ, **dict.fromkeys(("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"), str(threads))}
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.bench_quadrotor", "measure"], env=env, capture_output=True, text=True, check=True
        )
        rates = json.loads(done.stdout.splitlines()[-1])
        ratio = rates["ours"] / rates["l2f"]
        report[f"threads_{threads}"] = {
            "million_steps_per_second": {name: round(value / 1e6, 2) for name, value in rates.items()},
            "times_l2f": round(ratio, 2),
            "holds": bool(ratio >= BAR),
        }
    print(json.dumps({**report, "load": os.getloadavg()[0], "revision": revision()}, indent=1))


if __name__ == "__main__":
    main()
