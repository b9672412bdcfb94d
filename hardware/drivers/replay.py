"""A recorded run as a robot: it says what was said then, at the same intervals, and compares what it is told with what was sent.

It shows what a policy would have done before a robot is moved by it, and whether one still does what it did. What it is told
changes nothing of what it says: the further commands differ from then, the less what follows means.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hardware.drivers.base import Array, Driver, Reading
from hardware.recorder import load
from robot.core.errors import ConfigError, DriverError


@dataclass
class ReplayConfig:
    robot: str
    """Whose limits hold: a folder of hardware/robots, of the robot that was recorded."""
    recording: str
    """Folder that a run of robot.deploy has written."""
    episode: int
    """Which of its episodes is played; each arming has begun one, from 1 on."""
    measured: str | None
    """Observation field whose first elements are what the command's channels measure; null for what was sent then."""


class Replay(Driver):
    """It plays from `open` on, and from the beginning again with every arming."""

    def __init__(self, config: ReplayConfig) -> None:
        recording = load(config.recording)
        known = recording.interface
        rows = recording.rows[np.flatnonzero(recording.rows["episode"] == config.episode)]
        if not len(rows):
            there = ", ".join(map(str, np.unique(recording.rows["episode"]))) or "none"
            raise ConfigError(f"driver: '{config.recording}' has no episode {config.episode}; it has {there}")
        self.config, self.rows = config, rows
        self.observation, self.command, self.dt = known.observation, known.action, known.dt
        self.times, self.stamps = (rows[name] - rows["time"][0] for name in ("time", "stamp"))
        self.sent = np.asarray(rows["sent"], np.float64)
        self.measured = self._channels()
        self.opened = False

    def _channels(self) -> Array:
        """(K, A) what the channels measured then, or the last command that had been sent by then."""
        name, size = self.config.measured, self.sent.shape[1]
        if name is not None:
            fields = {field.name: int(np.prod(field.shape)) for field in self.observation}
            if fields.get(name, 0) < size:
                raise ConfigError(f"driver: measured={name} is no observation of {size} elements; there are {fields}")
            return np.asarray(self.rows[f"observation.{name}"], np.float64).reshape(len(self.rows), -1)[:, :size]
        known = np.asarray(np.isfinite(self.sent)).all(1)
        if not known.any():
            return np.zeros_like(self.sent)
        last = np.maximum.accumulate(np.where(known, np.arange(known.size), -1))
        return self.sent[np.where(last < 0, known.argmax(), last)]

    def open(self) -> None:
        if not self.opened:
            self.opened = True
            self._begin()

    def _begin(self) -> None:
        self.begun, self.said = time.monotonic(), -np.inf
        self.compared: list[tuple[float, Array]] = []
        self.alone = 0

    def read(self) -> Reading | None:
        elapsed = self._elapsed()
        if elapsed > self.times[-1] + self.dt:
            raise DriverError(f"replay: the recording '{self.config.recording}' is over after {self.times[-1]:.2f} s")
        k = int(np.searchsorted(self.times, elapsed, side="right")) - 1
        if self.stamps[k] <= self.said:
            return None
        self.said = self.stamps[k]
        observation = {field.name: np.array(self.rows[f"observation.{field.name}"][k]) for field in self.observation}
        return Reading(observation, self.begun + self.stamps[k], self.measured[k])

    def write(self, command: Array) -> Array:
        """Compare with what was sent at the time nearest to this, if anything was."""
        elapsed, told = self._elapsed(), np.asarray(command, self.command.dtype).astype(np.float64).ravel()
        k = int(np.searchsorted((self.times[1:] + self.times[:-1]) / 2, elapsed))
        if np.isfinite(self.sent[k]).all():
            self.compared.append((elapsed, told - self.sent[k]))
        else:
            self.alone += 1
        return told

    def arm(self) -> None:
        """Begin anew, as arming did then."""
        self._elapsed()
        self._begin()

    def stop(self) -> None:
        """Nothing moves."""

    def will(self) -> Callable[[], None]:
        return lambda: None

    def close(self) -> None:
        self.opened = False

    def report(self) -> list[str]:
        """How far the commands were from those of then, channel by channel, since the last arming."""
        lines = [f"compared          {len(self.compared)} commands, {self.alone} more where nothing was sent then"]
        if self.compared:
            differences = np.abs(np.array([difference for _, difference in self.compared]))
            units = self.command.unit.split(", ")
            names = self.command.names or [str(k) for k in range(differences.shape[1])]
            for k, name in enumerate(names):
                worst = int(differences[:, k].argmax())
                unit = units[k] if len(units) == len(names) else self.command.unit
                lines.append(
                    f"{name:<18}differs by {np.sqrt((differences[:, k] ** 2).mean()):.4g} {unit} (rms), at most "
                    f"{differences[worst, k]:.4g} {unit} at {self.compared[worst][0]:.2f} s"
                )
        return lines

    def _elapsed(self) -> float:
        if not self.opened:
            raise DriverError("replay: it is not open; use the driver as a context manager")
        return time.monotonic() - self.begun
