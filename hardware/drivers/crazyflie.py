"""A Crazyflie by velocities, over its maker's library: radio, USB, or UDP to a simulated one. A setpoint for every fresh action.

Nothing is repeated in the background: the firmware levels out when setpoints stop for 0.5 s, and cuts its motors after 2 s.
"""

import contextlib
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hardware.drivers.base import Array, Driver, Reading
from hardware.skew import Skew
from robot.core.errors import DriverError
from robot.core.interface import Field
from robot.core.optional import require
from robot.core.rotation import to_matrix

LOGGED = (
    ("stateEstimateZ.x", "int16_t"), ("stateEstimateZ.y", "int16_t"), ("stateEstimateZ.z", "int16_t"),
    ("stateEstimateZ.vx", "int16_t"), ("stateEstimateZ.vy", "int16_t"), ("stateEstimateZ.vz", "int16_t"),
    ("stateEstimateZ.rateRoll", "int16_t"), ("stateEstimateZ.ratePitch", "int16_t"), ("stateEstimateZ.rateYaw", "int16_t"),
    ("stateEstimateZ.quat", "uint32_t"), ("supervisor.info", "uint16_t"),
)  # fmt: skip
"""One packet [mm, mm/s, mrad/s, compressed, bits]: what is logged together was measured together. Of all its values only the
pitch rate is positive nose up, a legacy of the firmware's (stabilizer.c, compressState)."""
ARMED, CAN_FLY, TUMBLED, LOCKED, CRASHED = 1 << 1, 1 << 3, 1 << 5, 1 << 6, 1 << 7
"""Of supervisor.info."""
CLOCK = 1 << 24
"""Its clock begins anew after so long [ms], four and a half hours."""
LANDING = 2.0
"""How long landing takes [s]."""
COPIES = 3
"""Of the order to land."""


@dataclass
class CrazyflieConfig:
    robot: str
    """Whose limits hold: a folder of hardware/robots."""
    uri: str
    """radio://0/80/2M/E7E7E7E7E7, usb://0, or udp://127.0.0.1:19850."""
    dt: float
    """Time between two commands [s]."""
    log: float
    """Time between two measurements, in steps of 10 ms [s]."""
    patience: float
    """How long connecting and arming may take [s]; the tables of an unknown firmware take a while over radio."""


class Crazyflie(Driver):
    def __init__(self, config: CrazyflieConfig) -> None:
        self.config, self.dt = config, config.dt
        names = ("x", "y", "z", "yaw_rate")
        self.command = Field("velocity_setpoint", (4,), "float32", "m/s, m/s, m/s, rad/s", "world", names=names)
        self.observation = (
            Field("position", (3,), "float32", "m", "world", names=("x", "y", "z")),
            Field("rotation", (3, 3), "float32", "1", "world from body"),
            Field("velocity", (3,), "float32", "m/s", "world", names=("x", "y", "z")),
            Field("rate", (3,), "float32", "rad/s", "body", names=("x", "y", "z")),
        )
        self.machine: Any = None
        self._forget()

    def _forget(self) -> None:
        self.lock = threading.Lock()
        self.newest: Reading | None = None
        self.info, self.lost, self.armed = 0, "", False
        self.skew, self.clock = Skew(), 0

    def open(self) -> None:
        if self.machine is not None:
            return
        self._forget()
        require("cflib", "drivers")
        import cflib.crtp
        from cflib.crazyflie import Crazyflie as Machine
        from cflib.crazyflie.log import LogConfig

        cflib.crtp.init_drivers()
        machine, done = Machine(), threading.Event()
        self.machine = machine
        machine.connected.add_callback(lambda uri: done.set())
        machine.connection_failed.add_callback(lambda uri, why: self._lose(why, done))
        machine.connection_lost.add_callback(lambda uri, why: self._lose(why, done))
        machine.disconnected_link_error.add_callback(lambda uri, why: self._lose(why, done))
        machine.open_link(self.config.uri)
        if not done.wait(self.config.patience) or self.lost:
            why = self.lost or f"no answer in {self.config.patience} s"
            self.close()
            raise DriverError(f"crazyflie: '{self.config.uri}' cannot be reached: {why}; is it on, and the address right?")
        block = LogConfig("tiller", period_in_ms=round(1e3 * self.config.log))
        for name, kind in LOGGED:
            block.add_variable(name, kind)
        block.data_received_cb.add_callback(self._measured)
        try:
            machine.log.add_config(block)
        except (KeyError, AttributeError) as error:
            self.close()
            raise DriverError(f"crazyflie: its firmware does not log {error}; update it") from error
        block.start()

    def read(self) -> Reading | None:
        self._check()
        with self.lock:
            newest, self.newest = self.newest, None
        return newest

    def write(self, command: Array) -> Array:
        self._check()
        values = np.asarray(command, np.float32).astype(np.float64)
        x, y, z, turn = map(float, values)
        self.machine.commander.send_velocity_world_setpoint(x, y, z, math.degrees(turn))
        return values

    def arm(self) -> None:
        """Ask its supervisor."""
        self.machine.supervisor.send_arming_request(True)
        end = time.monotonic() + self.config.patience
        while not self.info & ARMED:
            self._check()
            if time.monotonic() > end:
                raise DriverError(f"crazyflie: it does not arm: {self._trouble()}")
            time.sleep(0.01)
        self.armed = True

    def stop(self) -> None:
        """Land where it is, by its own planner."""
        if self.machine is None or not self.armed:
            return
        self.armed = False
        with contextlib.suppress(Exception):  # a link that is gone: the firmware levels out and lands
            for _ in range(COPIES):
                self.machine.commander.send_notify_setpoint_stop()
                self.machine.high_level_commander.land(0.0, LANDING, yaw=None)

    def will(self) -> Callable[[], None]:
        """Silence: the radio is the dead process's, and the firmware levels out by itself."""
        return lambda: None

    def close(self) -> None:
        """Let go of the link without the zero setpoint that the library sends on closing: it would cut the motors in the air."""
        machine, self.machine = self.machine, None
        if machine is not None:
            machine.commander.send_setpoint = lambda *values: None
            with contextlib.suppress(Exception):
                machine.close_link()

    def _lose(self, why: str, done: threading.Event) -> None:
        self.lost = str(why).strip().splitlines()[0] if str(why).strip() else "the link was lost"
        done.set()

    def _check(self) -> None:
        if self.machine is None:
            raise DriverError("crazyflie: it is not open; use the driver as a context manager")
        if self.lost:
            raise DriverError(f"crazyflie: {self.lost}")
        if self.armed and (not self.info & ARMED or self.info & (TUMBLED | LOCKED | CRASHED)):
            self.armed = False
            raise DriverError(f"crazyflie: its supervisor has taken over: {self._trouble()}")

    def _trouble(self) -> str:
        """What its supervisor says, the worst first."""
        told = (
            (LOCKED, "it is locked; switch it off and on"), (CRASHED, "it has crashed; switch it off and on"),
            (TUMBLED, "it has tumbled; put it upright"),
        )  # fmt: skip
        return next((what for bit, what in told if self.info & bit), f"it is disarmed (supervisor.info is {self.info:#x})")

    def _measured(self, stamp: int, data: dict[str, Any], block: Any) -> None:
        """In the library's thread."""
        from cflib.utils.encoding import decompress_quaternion

        now = time.monotonic()
        self.clock += (stamp - self.clock + CLOCK // 2) % CLOCK - CLOCK // 2  # packets may overtake each other
        values = [float(data[name]) for name, _ in LOGGED]
        x, y, z, w = decompress_quaternion(int(data["stateEstimateZ.quat"]))
        seen = {
            "position": np.array(values[:3]) / 1e3, "velocity": np.array(values[3:6]) / 1e3,
            "rotation": to_matrix(np.array([w, x, y, z])), "rate": np.array([values[6], -values[7], values[8]]) / 1e3,
        }  # fmt: skip
        measured = np.array([*seen["velocity"], seen["rate"][2]])
        told = {name: np.asarray(value, np.float32) for name, value in seen.items()}
        reading = Reading(told, self.skew.ours(self.clock / 1e3, now), measured)
        with self.lock:
            self.newest, self.info = reading, int(data["supervisor.info"])
