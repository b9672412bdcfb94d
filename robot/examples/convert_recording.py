"""Recordings of robots as episodes to learn from, as rosbag2 and MCAP to look at; and bags of others as episodes.

    python -m robot.examples.convert_recording recording=runs/deploy/<robot>/<time> output=data/flown
    python -m robot.examples.convert_recording recording=runs/deploy/<robot>/<time> output=flight to=mcap      # or sqlite3
    python -m robot.examples.convert_recording bag=<folder or .mcap> columns=columns.yaml output=data/driven

What columns.yaml says: hardware/ros/bags.py, `described`.
"""

# test: recording=demo output=flown
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from hardware.drivers.base import Reading
from hardware.guard import Mode
from hardware.recorder import MODES, Recorder, Recording, load
from hardware.ros import bags
from robot.core.errors import ConfigError, TillerError
from robot.core.interface import Field, Interface
from robot.data.episodes import DatasetWriter, Episode


def episodes(recording: Recording) -> list[Episode]:
    """One for every stretch of periods in which the policy's commands left, without a break; a step is a period."""
    rows, interface = recording.rows, recording.interface
    good = np.isfinite(rows["sent"]).all(axis=1) & (rows["mode"] == MODES.index(Mode.running))
    found = []
    for part in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(good) | (np.diff(rows["episode"]) != 0)) + 1):
        if len(part) > 1 and good[part[0]]:
            arrays = {f"observation.{name}": rows[f"observation.{name}"][part] for name in interface.names}
            action = rows["sent"][part].reshape(-1, *interface.action.shape).astype(interface.action.dtype)
            found.append(episode({**arrays, "action": action}, len(found)))
    return found


def episode(arrays: dict[str, Any], number: int) -> Episode:
    count = len(arrays["action"])
    ends = {"reward": np.zeros(count, np.float32), "terminated": np.zeros(count, bool)}
    return Episode({**arrays, **ends}, {"episode": number})


def demo() -> str:
    """A recording of two joints for a second."""
    interface = Interface((Field("joints", (2,), unit="rad", names=("a", "b")),), Field("targets", (2,), unit="rad"), 0.1)
    recorder = Recorder(Path(tempfile.mkdtemp()) / "run", interface, {"robot": "demo"})
    for k in range(10):
        joints = np.sin([0.1 * k, 0.2 * k])
        recorder.period(k / 10, Reading({"joints": joints.astype(np.float32)}, k / 10, joints), 1, Mode.running, joints, joints)
    recorder.close()
    return str(recorder.folder)


def main(arguments: list[str]) -> None:
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    if "output" not in given or not ("recording" in given or {"bag", "columns"} <= set(given)):
        raise ConfigError(f"give recording= or bag= and columns=, and output=; the head of {Path(__file__).name} says more")
    if "bag" in given:
        interface, columns = bags.described(given["columns"])
        found = [episode(arrays, k) for k, arrays in enumerate(bags.read(given["bag"], interface, columns))]
    else:
        recording = load(demo() if given["recording"] == "demo" else given["recording"])
        if given.get("to", "episodes") != "episodes":
            print(bags.write(recording, given["output"], given["to"]))
            return
        interface, found = recording.interface, episodes(recording)
    with DatasetWriter(given["output"], interface, {"source": given.get("bag") or given["recording"]}) as writer:
        for one in found:
            writer.append(one)
    print(f"{len(found)} episodes, {sum(map(len, found))} steps in {given['output']}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except TillerError as error:
        sys.exit(f"error: {error}")
