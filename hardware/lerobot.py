"""One of our drivers as a robot of LeRobot's, for its scripts to teleoperate, record and run policies, with our limits in front.

LeRobot is not imported: what its Robot is, is a handful of methods. The other way round is hardware/drivers/lerobot.py.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from hardware.controller import Chunks, ChunksConfig
from hardware.drivers.base import Array, Driver, Reading
from hardware.guard import Guard, Mode
from hardware.limits import Limits
from hardware.runtime import Runtime
from hardware.session import Spec
from hardware.thinker import Thought
from hardware.watchdog import Watchdog
from robot.core.clock import Clock
from robot.core.errors import ConfigError, DriverError, ObservationError
from robot.core.interface import Field, Interface

SUFFIXES = {"rad": "pos", "m": "pos", "rad/s": "vel", "m/s": "vel"}
"""What LeRobot puts behind the name of a channel."""
PERIODS = 20
"""A servo loop that has not taken an action in so many is stuck."""
STEP = 1e-6
"""Between the stamps of two actions that rest on the same measurement [s]."""


def keys(field: Field, channels: tuple[str, ...]) -> list[str]:
    """What the elements of a field are called in LeRobot.

    Args:
        field: of observations, or the command itself.
        channels: element names of the command.

    Returns:
        "<channel>.pos" or ".vel" by the unit where the elements are the command's channels, "<field>.<element>" of other vectors;
        pictures, matrices and single numbers keep the field's name.
    """
    size = int(np.prod(field.shape))
    if len(field.shape) > 1 or (size == 1 and not field.names):
        return [field.name]
    names = field.names or tuple(map(str, range(size)))
    units = field.unit.split(", ")
    units = units if len(units) == size else units * size
    ends = [SUFFIXES.get(unit) if names == channels else None for unit in units]
    return [f"{name}.{end}" if end else f"{field.name}.{name}" for name, end in zip(names, ends, strict=True)]


class _Told:
    """Stands where a policy's process would: what LeRobot sends is a plan of one action."""

    alive = True

    def __init__(self, interface: Interface) -> None:
        self.spec = Spec(interface, {}, (), 1)
        self.newest: Thought | None = None

    def ask(self, observation: dict[str, Array], stamp: float, episode: int) -> None:
        """LeRobot asks by itself."""

    def answer(self) -> Thought | None:
        newest, self.newest = self.newest, None
        return newest


class _Sent:
    """Stands where a recorder would, and wakes up whoever waits for his action to be carried out."""

    folder = None

    def __init__(self) -> None:
        self.turn = threading.Condition()
        self.plan: Callable[[], Thought | None] = lambda: None
        self.stamp, self.sent = -np.inf, np.zeros(0)

    def period(self, now: float, reading: Reading, episode: int, mode: Mode, wanted: Array | None, sent: Array | None) -> None:
        plan = self.plan()
        with self.turn:
            if plan is not None and sent is not None and mode is Mode.running:
                self.stamp, self.sent = plan.stamp, sent
            self.turn.notify_all()

    def event(self, now: float, mode: Mode, reasons: tuple[str, ...]) -> None:
        with self.turn:
            self.turn.notify_all()


class AsLeRobot:
    """A driver as LeRobot's Robot, in its own units: radians and meters, not degrees and percent.

    `connect` arms it and starts the servo loop in a thread; from then on every action passes the guard, one that is not followed
    by another grows old, and what fails is latched until `disconnect` and `connect`. Another process watches the thread. What
    computes in Python beside it makes it late by milliseconds; a policy of ours runs better under robot.deploy.
    """

    name = "tiller"
    robot_type = "tiller"

    def __init__(self, driver: Driver, limits: Limits, patience: float) -> None:
        """patience: without a period for so long, another process stops the robot [s].

        Raises:
            InterfaceError: the limits are for another robot.
            ConfigError: two observations would have one key.
        """
        self.driver, self.limits, self.patience = driver, limits, patience
        self.id = type(driver).__name__
        self.cameras = {field.name: field for field in driver.observation if field.dtype == "uint8" and len(field.shape) == 3}
        self.calibration: dict[str, Any] = {}
        Guard(limits, driver.interface)
        named = [key for field in driver.observation for key in self._keys(field)]
        twice = sorted({key for key in named if named.count(key) > 1})
        if twice:
            raise ConfigError(f"lerobot: two observations of the driver would be called {twice}; give them other names")
        self.thread: threading.Thread | None = None

    def _keys(self, field: Field) -> list[str]:
        return keys(field, self.driver.command.names)

    @property
    def observation_features(self) -> dict[str, Any]:
        """float, or the shape of an array."""
        found: dict[str, Any] = {}
        for field in self.driver.observation:
            found |= {field.name: field.shape} if len(field.shape) > 1 else dict.fromkeys(self._keys(field), float)
        return found

    @property
    def action_features(self) -> dict[str, type]:
        return dict.fromkeys(self._keys(self.driver.command), float)

    @property
    def is_connected(self) -> bool:
        return self.thread is not None and self.thread.is_alive()

    @property
    def is_calibrated(self) -> bool:
        return True

    def calibrate(self) -> None:
        """A driver's zeros stand in its yaml."""

    def configure(self) -> None:
        """A driver's settings stand in its yaml."""

    def connect(self, calibrate: bool = True) -> None:
        """Take the robot over where it stands.

        Raises:
            DriverError: it cannot be reached, is outside its limits, or refuses; or it is connected already.
        """
        if self.thread is not None:
            raise DriverError("lerobot: the robot is connected already; disconnect it first")
        self.watchdog = Watchdog(self.driver.will(), self.patience)
        try:
            self.driver.open()
            self._start()
        except BaseException:
            self._release()
            raise

    def _start(self) -> None:
        interface = self.driver.interface
        told: Any = _Told(interface)
        sent: Any = _Sent()
        follow = Chunks(ChunksConfig(0, False, 0.0, 0.0, 0.0), interface.dt, 1, interface.dt)
        guard = Guard(self.limits, interface)
        self.runtime = Runtime(self.driver, guard, told, follow, Clock(), sent, self.watchdog)
        self.told, self.sent, self.rests, self.last = told, sent, -np.inf, -np.inf
        sent.plan = lambda: follow.plan
        self.ended = threading.Event()
        self.runtime.arm()
        self.thread = threading.Thread(target=self._run, name="servo loop", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while not self.ended.is_set():
            self.runtime.tick()

    def get_observation(self) -> dict[str, Any]:
        """Numbers, and arrays of the shapes in `observation_features`.

        Raises:
            DriverError: it is not connected, or has not said anything for longer than its limits allow.
        """
        self._connected()
        reading = self.runtime.reading
        age = np.inf if reading is None else time.monotonic() - reading.stamp
        if reading is None or age > self.limits.observation_age:
            raise DriverError(
                f"lerobot: the robot said something {age:.3f} s ago, at most {self.limits.observation_age} s{self._why()}"
            )
        self.rests = reading.stamp
        found: dict[str, Any] = {}
        for field in self.driver.observation:
            value = reading.observation[field.name]
            if len(field.shape) > 1:
                found[field.name] = np.array(value)
            else:
                found |= zip(self._keys(field), np.asarray(value, np.float64).ravel().tolist(), strict=True)
        return found

    def send_action(self, action: dict[str, Any]) -> dict[str, float]:
        """What was sent instead, within the limits; returns once it has been, a period later at most.

        How old the action is, is counted from the observation that was got before it, or from now if none was.

        Raises:
            ObservationError: a key is missing or unknown.
            DriverError: it is not connected, or holds, and why.
        """
        self._connected()
        wanted, names = set(action), list(self.action_features)
        if wanted != set(names):
            raise ObservationError(f"lerobot: the action has {sorted(wanted)}, not {sorted(names)}")
        now = time.monotonic()
        stamp = max(self.rests if np.isfinite(self.rests) else now, self.last + STEP)
        self.rests, self.last = -np.inf, stamp
        try:
            values = np.array([float(action[name]) for name in names])
        except (TypeError, ValueError) as error:
            raise ObservationError(f"lerobot: the action is not of numbers: {error}") from error
        self.told.newest = Thought(values.reshape(1, *self.driver.command.shape), stamp)
        end = now + PERIODS * max(self.driver.dt, 0.05)
        with self.sent.turn:
            while self.sent.stamp < stamp:
                if self.runtime.guard.mode in (Mode.hold, Mode.stopped):
                    raise DriverError(f"lerobot: the robot does not follow{self._why()}; disconnect, look, connect")
                if time.monotonic() > end or not self.is_connected:
                    raise DriverError("lerobot: the servo loop does not take actions any more; disconnect and connect")
                self.sent.turn.wait(self.driver.dt)
            return dict(zip(names, map(float, self.sent.sent), strict=True))

    def disconnect(self) -> None:
        """The robot's own safe state, then nothing more is sent."""
        if self.thread is None:
            return
        self.ended.set()
        self.thread.join()
        self.runtime.stop("disconnected")
        self._release()

    def _release(self) -> None:
        self.thread = None
        try:
            self.driver.stop()
        finally:
            self.driver.close()
            self.watchdog.close()

    def _connected(self) -> None:
        if not self.is_connected:
            raise DriverError("lerobot: the robot is not connected; call connect() first")

    def _why(self) -> str:
        guard = self.runtime.guard
        return f": {'; '.join(guard.reasons)}" if guard.reasons else ""

    def __enter__(self) -> "AsLeRobot":
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()

    def __str__(self) -> str:
        return f"{self.id} {type(self).__name__}"
