"""RAPTOR over MAVLink: a simulated autopilot and `robot.deploy` in processes of their own hold a position, vehicle by vehicle.

python -m tests.bench.bench_mavlink [vehicles=20 seconds=6 realtime=1]

The named vehicles first, then unseen ones from the distribution that RAPTOR was trained on. `error` is the mean distance from the
point to hold over the second half of the flight, by the autopilot's account; beside it the same start flown in one process.
Bar: 100 Hz or more, all hold their position.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from hardware.fakes.autopilot import Simulated
from hardware.fakes.keys import keys
from hardware.session import Session
from robot.core.paths import PRETRAINED, ROOT
from robot.core.rotation import to_matrix
from sim.quadrotor.vehicle import names
from tests.bench.bench_faults import port

KEYS = {"vehicles": 20, "seconds": 6.0, "realtime": 1, "first_seed": 2_000_000}
HELD = 0.3
"""A vehicle that is nearer than this on average holds its position [m]."""


def alone(vehicle: str, seed: int, seconds: float) -> float:
    """The flight without a wire: every 10 ms a decision that acts at once."""
    flown, session = Simulated(vehicle, 0.01, seed, 0.5), Session(PRETRAINED / "raptor", 0)
    last, errors = np.zeros(4), []
    for _ in range(round(seconds / 0.01)):
        position, q, velocity, rate = flown.state()
        seen = {"position": position, "rotation": to_matrix(q), "velocity": velocity, "rate": rate, "last_action": last}
        last = np.clip(session.plan({name: np.asarray(value, np.float32) for name, value in seen.items()})[0], -1, 1)
        flown.step(last)
        errors.append(float(np.linalg.norm(flown.state()[0])))
    return float(np.mean(errors[len(errors) // 2 :]))


def fly(vehicle: str, seed: int, given: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The flight over the wire, by the autopilot's account and the servo loop's."""
    robot, driver = port(), port()
    options = {"stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    told = [f"vehicle={vehicle}", f"seed={seed}", f"port={robot}", f"to={driver}", f"realtime={given['realtime']}"]
    pilot = subprocess.Popen([sys.executable, "-m", "hardware.fakes.autopilot", *told], **options)
    assert pilot.stdout is not None
    pilot.stdout.readline()
    run = ["policy=raptor", "driver=mavlink", f"driver.connection=udpin:127.0.0.1:{driver}", f"duration={given['seconds']}"]
    run += [f"output={folder / f'{vehicle}_{seed}'}", f"realtime={bool(given['realtime'])}".lower()]
    main = subprocess.run([sys.executable, "-m", "robot.deploy", *run], cwd=ROOT, capture_output=True, text=True)
    pilot.send_signal(signal.SIGTERM)
    seen = json.loads(pilot.communicate(timeout=20)[0].splitlines()[-1])
    loop = dict(line.split(None, 1) for line in main.stdout.splitlines() if len(line.split(None, 1)) == 2)
    events = [json.loads(line) for line in (folder / f"{vehicle}_{seed}" / "events.jsonl").read_text().splitlines()]
    return {
        "held_for": [entry["reasons"] for entry in events if entry["mode"] == "hold"][:1],
        "error": seen["late_error"],
        "rate_hz": seen["flying_setpoints"] / seen["flown"] if seen["flown"] else 0.0,
        "ended": loop.get("ended", main.stderr[-200:]),
        "late_p99_ms": float(loop.get("late_p99_ms", "nan")),
        "plan_p99_ms": float(loop.get("think_p99_ms", "nan")),
        "missed": int(loop.get("missed", -1)),
        "wrong": seen["not_finite"] + seen["out_of_range"],
        "flown": seen["flown"],
    }


def main(arguments: list[str]) -> None:
    given = keys(KEYS, arguments)
    flights = [(name, given["first_seed"]) for name in names()]
    flights += [("sampled", given["first_seed"] + k) for k in range(given["vehicles"])]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for vehicle, seed in flights[: given["vehicles"]]:
            found = fly(vehicle, seed, given, Path(folder)) | {"vehicle": vehicle, "seed": seed}
            found["error_alone"] = alone(vehicle, seed, given["seconds"])
            found["held"] = found["error"] is not None and found["error"] < HELD and found["flown"] > given["seconds"] - 1
            results.append(found)
            print(json.dumps(found), file=sys.stderr, flush=True)
    held = sum(row["held"] for row in results)
    summary = {"held": held, "of": len(results), "error": float(np.median([row["error"] or np.nan for row in results]))}
    summary["error_alone"] = float(np.median([row["error_alone"] for row in results]))
    print(json.dumps({"benchmark": "mavlink", "load": os.getloadavg(), "keys": given, **summary, "results": results}))


if __name__ == "__main__":
    main(sys.argv[1:])
