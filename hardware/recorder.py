"""Every period of a run on disk at once, so that nothing is lost when the process is killed: `recording.bin` and `events.jsonl`.

`recording.json` says what a row of recording.bin is. `robot.examples.convert_recording` makes episodes and MCAP files of it.
"""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.drivers.base import Reading
from hardware.guard import Mode
from robot.core.errors import DatasetError
from robot.core.interface import Interface

ROWS, HEADER, EVENTS = "recording.bin", "recording.json", "events.jsonl"
MODES = list(Mode)


def row(interface: Interface) -> np.dtype[Any]:
    """Of one period: time [s], the measurement's stamp [s], episode, mode, and vectors of what was wanted and what was sent.

    A period in which the policy wanted nothing, or nothing was sent, has NaN there.
    """
    size = (int(np.prod(interface.action.shape)),)
    fields = [(f"observation.{field.name}", field.dtype, field.shape) for field in interface.observation]
    known = [("time", "f8"), ("stamp", "f8"), ("episode", "i4"), ("mode", "u1")]
    return np.dtype([*known, ("wanted", "f8", size), ("sent", "f8", size), *fields])


class Recorder:
    """Appends a row a period and a line an event; each is one `write` to the system, a few microseconds."""

    def __init__(self, folder: str | Path, interface: Interface, header: dict[str, Any]) -> None:
        """interface: the driver's; header: what else is to be known of the run.

        Raises:
            DatasetError: there is a recording already.
        """
        self.folder = Path(folder)
        if (self.folder / ROWS).exists():
            raise DatasetError(f"'{folder}' holds a recording already; choose another output")
        self.folder.mkdir(parents=True, exist_ok=True)
        told = {"interface": json.loads(interface.to_json()), "modes": [mode.value for mode in MODES], **header}
        told["started"] = {"unix_s": time.time(), "monotonic_s": time.monotonic()}
        (self.folder / HEADER).write_text(json.dumps(told, indent=1))
        self._row = np.zeros((), row(interface))
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._rows = os.open(self.folder / ROWS, flags)
        self._events = os.open(self.folder / EVENTS, flags)

    def period(
        self, now: float, reading: Reading, episode: int, mode: Mode, wanted: NDArray[Any] | None, sent: NDArray[Any] | None
    ) -> None:
        """Append what happened in one period; `wanted` of a wrong shape counts as none."""
        row = self._row
        row["time"], row["stamp"], row["episode"], row["mode"] = now, reading.stamp, episode, MODES.index(mode)
        for name, value in (("wanted", wanted), ("sent", sent)):
            fits = value is not None and value.shape == row[name].shape and value.dtype.kind in "fiu"
            row[name] = value if fits else np.nan
        for name, value in reading.observation.items():
            row[f"observation.{name}"] = value
        os.write(self._rows, row.tobytes())

    def event(self, now: float, mode: Mode, reasons: tuple[str, ...]) -> None:
        """Append a change of mode with its reasons."""
        os.write(self._events, (json.dumps({"time": now, "mode": mode.value, "reasons": reasons}) + "\n").encode())

    def close(self) -> None:
        """Close the files."""
        os.close(self._rows)
        os.close(self._events)


@dataclass(frozen=True)
class Recording:
    """What a Recorder wrote.

    Attributes:
        interface: the driver's.
        header: all of recording.json.
        rows: (K,) of `row(interface)`.
        events: changes of mode.
    """

    interface: Interface
    header: dict[str, Any]
    rows: NDArray[Any]
    events: list[dict[str, Any]]


def load(folder: str | Path) -> Recording:
    """Read a recording; a last row or line that was cut off is left out.

    Raises:
        DatasetError: there is none, or its header is damaged.
    """
    path = Path(folder)
    try:
        header = json.loads((path / HEADER).read_text())
        interface = Interface.from_json(json.dumps(header["interface"]))
        data = (path / ROWS).read_bytes()
        lines = (path / EVENTS).read_text().split("\n")[:-1]
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(f"'{folder}' is no recording of python -m robot.deploy: {error}") from error
    kind = row(interface)
    rows = np.frombuffer(data[: len(data) // kind.itemsize * kind.itemsize], kind)
    return Recording(interface, header, rows, [json.loads(line) for line in lines])
