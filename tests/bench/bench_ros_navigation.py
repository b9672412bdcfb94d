"""NavDP as a ROS 2 node and a simulated base as another, in processes of their own over DDS, beside the same episodes in one.

python -m tests.bench.bench_ros_navigation [episodes=50 pairs=2 seed=1000000 bridge=ros2 realtime=0]

Each pair is a base (`hardware.fakes.navigation_base`) and a node (`robot.node`, onnxruntime) in a DDS domain of its own, in real
time; no torch in the node. Bar: success within 3 points of the evaluation in one process; nothing out of range on the base's end.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet

from hardware.fakes.keys import keys
from robot.core.paths import ROOT
from robot.learn.statistics import paired, wilson

KEYS = {"episodes": 50, "pairs": 2, "seed": 1_000_000, "bridge": "ros2", "domain": 20, "realtime": 0}


def alone(given: dict[str, Any], folder: Path) -> list[bool]:
    """Success of each episode in one process."""
    command = ["policy=navdp", "env.robots=[wheeled]", "env.threads=1", f"episodes={given['episodes']}", f"seed={given['seed']}"]
    command += ["policy.threads=1", f"output={folder / 'alone'}"]
    subprocess.run([sys.executable, "-m", "robot.evaluate", *command], cwd=ROOT, check=True, stdout=sys.stderr)
    rows = parquet.read_table(folder / "alone" / "episodes.parquet").to_pylist()
    return [bool(row["success"]) for row in sorted(rows, key=lambda row: row["episode"])]


def start(pair: int, given: dict[str, Any], folder: Path) -> tuple["subprocess.Popen[str]", "subprocess.Popen[str]"]:
    """A base that plays its share of the episodes, and the node that drives it."""
    first = given["episodes"] * pair // given["pairs"]
    count = given["episodes"] * (pair + 1) // given["pairs"] - first
    told = [f"domain={given['domain'] + pair}", f"bridge={given['bridge']}", f"seed={given['seed']}", f"first={first}"]
    base = [sys.executable, "-m", "hardware.fakes.navigation_base", *told, f"episodes={count}"]
    node = [sys.executable, "-m", "robot.node", f"bridge={given['bridge']}", "policy=navdp", "autostart=false"]
    node += [f"bridge.domain={given['domain'] + pair}", f"output={folder / f'node{pair}'}"]
    node.append(f"realtime={bool(given['realtime'])}".lower())
    errors = open(folder / f"node{pair}.txt", "w")  # noqa: SIM115
    return (
        subprocess.Popen(base, cwd=ROOT, stdout=subprocess.PIPE, text=True),
        subprocess.Popen(node, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True),
    )


def loop(told: str) -> dict[str, float]:
    """The figures of the node's report."""
    pairs = [line.split(None, 1) for line in told.splitlines() if len(line.split(None, 1)) == 2]
    return {name: float(value) for name, value in pairs if value.replace(".", "", 1).isdigit()}


def main(arguments: list[str]) -> None:
    given = keys(KEYS, arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pairs = [start(k, given, folder) for k in range(given["pairs"])]
        rows, seen, loops = [], [], []
        for base, node in pairs:
            for line in base.communicate()[0].splitlines():
                if line.startswith("{"):
                    (seen if '"device"' in line else rows).append(json.loads(line))
            node.terminate()
            loops.append(loop(node.communicate()[0]))
        wire = [bool(row["success"]) for row in sorted(rows, key=lambda row: row["episode"])]
        one = alone(given, folder)
    answer = {"wire": wilson(sum(wire), len(wire)), "alone": wilson(sum(one), len(one))}
    answer |= {"difference": paired(wire, one), "held_s": sum(row["held_s"] for row in rows), "device": seen, "loops": loops}
    print(json.dumps({"benchmark": "ros_navigation", "load": os.getloadavg(), "keys": given, **answer, "episodes": rows}))


if __name__ == "__main__":
    main(sys.argv[1:])
