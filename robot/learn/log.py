"""The log of a run: `metrics.jsonl`, one row a line, and the same scalars as TensorBoard events.

A row is `{"step": 100, "wall": 12.5, "loss": 0.31, …}`, wall in seconds of training over all sessions of the run. Every
row is on its way to the disk when `write` returns; a process killed in the middle of a line loses that line only.
"""

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.core.errors import DatasetError
from robot.core.optional import require

NAME = "metrics.jsonl"
RESERVED = ("step", "wall")


class RunLog:
    """Append-only log in a run folder; opened on a folder that has one, it continues it."""

    def __init__(self, folder: Path | str, tensorboard: bool = True) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / NAME
        rows = _rows(self.path) if self.path.exists() else []
        self._replace(rows)
        self._elapsed = float(rows[-1]["wall"]) if rows else 0.0
        self._events = _Events(self.folder / "tensorboard") if tensorboard else None
        self._start = time.monotonic()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one row; values are scalars (numbers, or arrays and tensors of one element)."""
        clash = [name for name in values if name in RESERVED]
        if clash:
            raise ValueError(f"metric names {clash} are taken; a row's own columns are {list(RESERVED)}")
        wall = self._elapsed + time.monotonic() - self._start
        scalars = {name: float(value) for name, value in values.items()}
        row = {"step": int(step), "wall": round(wall, 3), **{name: _plain(value) for name, value in scalars.items()}}
        self._file.write(json.dumps(row, allow_nan=False) + "\n")
        self._file.flush()
        if self._events is not None:
            self._events.write(int(step), scalars)

    def truncate(self, step: int) -> None:
        """Drop the rows after `step`, the one that the run resumes from, so that its log equals an uninterrupted one's."""
        self._file.close()
        kept = [row for row in _rows(self.path) if row["step"] <= step]
        self._replace(kept)
        self._elapsed = float(kept[-1]["wall"]) if kept else 0.0
        self._start = time.monotonic()
        if self._events is not None:
            self._events.restart(step + 1)

    def close(self) -> None:
        self._file.close()
        if self._events is not None:
            self._events.close()

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _replace(self, rows: list[dict[str, Any]]) -> None:
        """Make `rows` the whole file, atomically, and open it for appending; also repairs a torn last line."""
        if rows or self.path.exists():
            temporary = self.path.with_suffix(".tmp")
            with temporary.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        self._file = self.path.open("a", encoding="utf-8")


class _Events:
    """TensorBoard's own event file, without torch; the file appears with the first row."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer: Any = None

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        event, summary = _protocol()
        value = [summary.Summary.Value(tag=name, simple_value=number) for name, number in scalars.items()]
        self._open().add_event(event.Event(step=step, wall_time=time.time(), summary=summary.Summary(value=value)))

    def restart(self, step: int) -> None:
        """Tell TensorBoard to forget what earlier files say of `step` and later."""
        if not self.folder.exists():
            return
        event, _ = _protocol()
        status = event.SessionLog(status=event.SessionLog.START)
        self._open().add_event(event.Event(step=step, wall_time=time.time(), session_log=status))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _open(self) -> Any:
        if self._writer is None:
            module = require("tensorboard.summary.writer.event_file_writer", extra="train")
            self._writer = module.EventFileWriter(str(self.folder), flush_secs=10)
        return self._writer


def read(folder: Path | str) -> dict[str, NDArray[np.float64]]:
    """Columns by name, each (rows,), NaN where a row has no such value; `step` and `wall` come first, then as they appear.

    An empty or missing log has no rows: both columns are there and empty.
    """
    path = Path(folder) / NAME
    rows = _rows(path) if path.exists() else []
    names = dict.fromkeys([*RESERVED, *(name for row in rows for name in row)])
    return {name: np.array([float(row.get(name, math.nan)) for row in rows], np.float64) for name in names}


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file; a last line that was cut off is left out, any other broken line is an error."""
    lines = path.read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            row = json.loads(line)
            if not all(isinstance(row[name], int | float) for name in RESERVED):
                raise ValueError("step and wall must be numbers")
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                break
            raise DatasetError(f"{path}, line {number}: not a row of a run log ({error}); remove the line to go on") from error
        rows.append(row)
    return rows


def _plain(value: float) -> float | str:
    """JSON has neither NaN nor infinity: they are written as text that `float` reads."""
    return value if math.isfinite(value) else str(value)


def _protocol() -> tuple[Any, Any]:
    return (
        require("tensorboard.compat.proto.event_pb2", extra="train"),
        require("tensorboard.compat.proto.summary_pb2", extra="train"),
    )
