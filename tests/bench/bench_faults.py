"""What becomes of a quadrotor under a policy over MAVLink when things go wrong, by the autopilot's own account.

python -m tests.bench.bench_faults [only=<fault>,… seed=0 vehicle=x500]

For each fault a simulated autopilot, a link between, and `robot.deploy` with RAPTOR run in processes of their own. Four seconds
into the flight the fault begins. `quiet` is when the last setpoint arrived and `safe` when the autopilot began to land, both
after the fault's beginning. Bar: safe within 20 ms and one period (30 ms); nothing not finite or out of range ever arrives.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import psutil
from onnx import TensorProto, helper

from hardware.fakes.keys import keys
from hardware.fakes.lossy import Lossy, clean, cut
from robot.core.paths import PRETRAINED, ROOT

KEYS = {"only": "", "seed": 0, "vehicle": "x500", "realtime": 1}
CALM, AFTER = 4.0, 2.5
"""Seconds of flight before the fault, and after it [s]."""
SICK = {
    "nan": ("NaN", ["finite"]),
    "infinite": ("inf", ["finite"]),
    "huge": ("1e30", ["far outside"]),
    "shape": ("0", ["dead", "action is"]),
}
"""What a sick policy says, and words of the reason for which it is held."""
FLIGHTS = 3
"""At most, where one is spoilt: on a busy machine the servo loop may stand still before the fault has come."""
SICK_AFTER = 400
"""Decisions before a sick policy shows it."""


def sick(kind: str, folder: Path) -> Path:
    """RAPTOR, but after SICK_AFTER decisions its actions are not finite, huge, or of another shape."""
    model = onnx.load(PRETRAINED / "raptor" / "policy.onnx")
    graph = model.graph
    for node in graph.node:
        for k, name in enumerate(node.output):
            if name == "action":
                node.output[k] = "action_well"
    graph.input.append(helper.make_tensor_value_info("count", TensorProto.FLOAT, ["batch", 1]))
    graph.output.append(helper.make_tensor_value_info("next_count", TensorProto.FLOAT, ["batch", 1]))
    const = lambda name, kind, shape, values: helper.make_tensor(name, kind, shape, values)  # noqa: E731
    graph.initializer.extend(
        [const("one_", TensorProto.FLOAT, [1], [1.0]), const("most_", TensorProto.FLOAT, [1], [float(SICK_AFTER)])]
    )
    graph.node.append(helper.make_node("Add", ["count", "one_"], ["next_count"]))
    graph.node.append(helper.make_node("Greater", ["count", "most_"], ["is_sick"]))
    if kind == "shape":
        four, three = const("four_", TensorProto.INT64, [1], [4]), const("three_", TensorProto.INT64, [1], [3])
        begin, axis, flat = (
            const("begin_", TensorProto.INT64, [1], [0]), const("axis_", TensorProto.INT64, [1], [2]),
            const("flat_", TensorProto.INT64, [1], [-1]),
        )  # fmt: skip
        graph.initializer.extend([four, three, begin, axis, flat])
        graph.node.append(helper.make_node("Reshape", ["is_sick", "flat_"], ["is_sick_flat"]))
        graph.node.append(helper.make_node("Where", ["is_sick_flat", "three_", "four_"], ["end_"]))
        graph.node.append(helper.make_node("Slice", ["action_well", "begin_", "end_", "axis_"], ["action"]))
    else:
        graph.initializer.append(const("bad_", TensorProto.FLOAT, [1], [float(SICK[kind][0])]))
        graph.node.append(helper.make_node("Where", ["is_sick", "bad_", "action_well"], ["action"]))
    for entry in model.metadata_props:
        if entry.key == "memory":
            entry.value = json.dumps({**json.loads(entry.value), "count": [1]})
    path = folder / f"{kind}.onnx"
    onnx.save(model, path)
    return path


class Telemetry:
    """Changes the ODOMETRY in packets from the autopilot."""

    def __init__(self, change: Callable[[Any], None]) -> None:
        os.environ["MAVLINK20"] = "1"
        from pymavlink.dialects.v20 import common

        self.link, self.change = common.MAVLink(None, srcSystem=1, srcComponent=1), change

    def __call__(self, data: bytes) -> list[tuple[float, bytes]]:
        out = []
        for message in self.link.parse_buffer(data) or []:
            if message.get_type() == "ODOMETRY":
                self.change(message)
                data = message.pack(self.link)
            out.append((0.0, data))
        return out


def freeze() -> Callable[[Any], None]:
    kept: dict[str, Any] = {}

    def change(message: Any) -> None:
        for name in ("x", "y", "z", "q", "vx", "vy", "vz", "rollspeed", "pitchspeed", "yawspeed"):
            setattr(message, name, kept.setdefault(name, getattr(message, name)))

    return change


def put(**values: Any) -> Callable[[Any], None]:
    def change(message: Any) -> None:
        for name, value in values.items():
            setattr(message, name, value(getattr(message, name)) if callable(value) else value)

    return change


def lose(share: float, rng: random.Random) -> Callable[[bytes], list[tuple[float, bytes]]]:
    return lambda data: cut(data) if rng.random() < share else clean(data)


def faults(rng: random.Random) -> dict[str, Callable[[Lossy, int, int], None]]:
    """By name, what happens to the link, to the servo loop's process, and to the policy's."""

    def down(change: Any) -> Callable[[Lossy, int, int], None]:
        return lambda link, main, mind: setattr(link, "down", change)

    def both(change: Any) -> Callable[[Lossy, int, int], None]:
        def fault(link: Lossy, main: int, mind: int) -> None:
            link.down = link.up = change

        return fault

    return {
        "policy killed": lambda link, main, mind: os.kill(mind, signal.SIGKILL),
        "policy frozen": lambda link, main, mind: os.kill(mind, signal.SIGSTOP),
        "servo loop killed": lambda link, main, mind: os.kill(main, signal.SIGKILL),
        "servo loop frozen": lambda link, main, mind: os.kill(main, signal.SIGSTOP),
        "ended with SIGTERM": lambda link, main, mind: os.kill(main, signal.SIGTERM),
        "telemetry stops": down(cut),
        "telemetry late by 100 ms": down(lambda data: [(0.1, data)]),
        "telemetry frozen under live stamps": down(Telemetry(freeze())),
        "telemetry NaN": down(Telemetry(put(x=float("nan")))),
        "telemetry infinite": down(Telemetry(put(rollspeed=float("inf")))),
        "autopilot's clock back an hour": down(Telemetry(put(time_usec=lambda t: max(0, t - 3_600_000_000)))),
        "beyond the fence": down(Telemetry(put(x=9.0))),
        "link cut": both(cut),
        "30 % lost both ways": both(lose(0.3, rng)),
        "every packet twice": both(lambda data: [(0.0, data), (0.001, data)]),
        "reordered by up to 10 ms": both(lambda data: [(rng.uniform(0, 0.01), data)]),
        **{f"policy says {kind}": lambda link, main, mind: None for kind in SICK},
    }


def port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@dataclass
class Flight:
    """Processes of one flight, and where they write."""

    pilot: "subprocess.Popen[str]"
    main: "subprocess.Popen[str]"
    link: Lossy
    output: Path

    @property
    def mind(self) -> int:
        """The policy's process."""
        return next(p.pid for p in psutil.Process(self.main.pid).children() if "hardware.thinker" in p.cmdline())

    def end(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The autopilot's account and the servo loop's events."""
        told = [json.loads(line) for line in (self.output / "events.jsonl").read_text().splitlines()]
        self.pilot.send_signal(signal.SIGTERM)
        seen = json.loads(self.pilot.communicate(timeout=20)[0].splitlines()[-1])
        self.main.kill()
        self.main.wait()
        self.link.close()
        return seen, told


def take_off(name: str, policy: str | Path, given: dict[str, Any], folder: Path) -> Flight:
    """Start all that flies."""
    robot, driver = port(), port()
    link = Lossy(robot, driver)
    options = {"stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    fly = [f"{key}={given[key]}" for key in ("vehicle", "seed", "realtime")] + [f"port={robot}", f"to={link.port}"]
    pilot = subprocess.Popen([sys.executable, "-m", "hardware.fakes.autopilot", *fly], **options)
    assert pilot.stdout is not None
    pilot.stdout.readline()
    output = folder / name.replace(" ", "_").replace("%", "").replace("'", "")
    run = [f"policy={policy}", "driver=mavlink", f"driver.connection=udpin:127.0.0.1:{driver}", f"output={output}"]
    run += ["watchdog=0.02", f"realtime={bool(given['realtime'])}".lower()]
    with open(folder / "stderr.txt", "w") as errors:
        main = subprocess.Popen([sys.executable, "-m", "robot.deploy", *run], **options, stderr=errors)
    return Flight(pilot, main, link, output)


def play(name: str, fault: Callable[[Lossy, int, int], None], given: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One flight with one fault."""
    kind = name.removeprefix("policy says ")
    flight = take_off(name, sick(kind, folder) if kind in SICK else "raptor", given, folder)
    try:
        start = events(flight.output, "running", 30.0) + CALM
    except RuntimeError:
        flight.main.kill()
        flight.pilot.kill()
        raise
    if kind in SICK:
        start = events(flight.output, "hold", CALM + 10.0) - 0.01  # it was said in the period that found it
    else:
        mind = flight.mind
        time.sleep(max(0.0, start - time.monotonic()))
        start = time.monotonic()
        fault(flight.link, flight.main.pid, mind)
    time.sleep(AFTER)
    seen, told = flight.end()
    landed = [entry for entry in seen["modes"] if entry[1] == [4, 6]]
    early = [entry for entry in told if entry["mode"] in ("hold", "stopped") and entry["time"] < start - 0.05]
    early = early or (kind in SICK and not any(word in " ".join(told[-1]["reasons"]) for word in SICK[kind][1]))
    return {
        "quiet_ms": 1e3 * (seen["last_setpoint"] - start),
        "safe_ms": 1e3 * (landed[0][0] - start) if landed else None,
        "why": landed[0][2] if landed else "flies on",
        "reasons": told[-1]["reasons"][:1] if told[-1]["mode"] in ("hold", "stopped") else [],
        "setpoints": seen["setpoints"],
        "wrong": seen["not_finite"] + seen["out_of_range"],
        "late_error_m": seen["late_error"],
        "spoilt": bool(early),
    }


def events(output: Path, mode: str, patience: float) -> float:
    """When the run came to `mode`."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        file = output / "events.jsonl"
        for line in file.read_text().splitlines() if file.exists() else []:
            entry = json.loads(line)
            if entry["mode"] == mode:
                return float(entry["time"])
        time.sleep(0.01)
    told = (output.parent / "stderr.txt").read_text()[-300:]
    raise RuntimeError(f"{output.name} never came to {mode}: {told}")


def main(arguments: list[str]) -> None:
    given = keys(KEYS, arguments)
    known = faults(random.Random(given["seed"]))
    only = [name for name in given["only"].split(",") if name] or list(known)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in only:
            for flight in range(1, FLIGHTS + 1):
                found = results[name] = play(name, known[name], given, Path(tempfile.mkdtemp(dir=folder))) | {"flights": flight}
                if not found["spoilt"]:
                    break
            safe = "   -   " if found["safe_ms"] is None else f"{found['safe_ms']:7.1f}"
            told = (
                f"quiet {found['quiet_ms']:7.1f} ms  safe {safe} ms  wrong {found['wrong']}  {found['why']}: {found['reasons']}"
            )
            print(f"{name:<36}{told}{'  SPOILT: held before the fault' if found['spoilt'] else ''}", file=sys.stderr, flush=True)
    print(json.dumps({"benchmark": "faults", "load": os.getloadavg(), "keys": given, "results": results}))


if __name__ == "__main__":
    main(sys.argv[1:])
