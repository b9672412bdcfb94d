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
from hardware.recorder import Recorder, Recording, load
from hardware.ros import bags
from robot.core.errors import ConfigError, TillerError
from robot.core.interface import Field, Interface
from robot.data.episodes import DatasetWriter, Episode


def episodes(recording: Recording) -> list[Episode]:
    """One for every time that the robot was armed; a step is a period in which a command left."""
    found = []
    for number in np.unique(recording.rows["episode"]):
        rows = recording.rows[(recording.rows["episode"] == number) & np.isfinite(recording.rows["sent"]).all(axis=1)]
        arrays = {f"observation.{field.name}": rows[f"observation.{field.name}"] for field in recording.interface.observation}
        action = rows["sent"].reshape(-1, *recording.interface.action.shape).astype(recording.interface.action.dtype)
        found += [episode({**arrays, "action": action}, int(number))] if len(rows) else []
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
        found = [episode(bags.read(given["bag"], interface, columns), 0)]
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
