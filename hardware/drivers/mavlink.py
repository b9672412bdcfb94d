"""PX4 and ArduPilot over MAVLink 2: motor commands, body rates or velocities, one frame for every fresh action.

Nothing is repeated in the background: when commands stop, so does the stream, and the autopilot's own failsafe acts
(COM_OF_LOSS_T). Frames are converted here and nowhere else: MAVLink's north-east-down and forward-right-down to x forward or
north, y left or west, z up.
"""

import contextlib
import mmap
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from hardware.drivers.base import Array, Driver, Reading
from hardware.mavlink_link import Udp, connect, dialect
from hardware.mavlink_modes import MODES, Firmware, Modes
from hardware.skew import Skew
from robot.core.errors import ConfigError, DriverError
from robot.core.interface import Field
from robot.core.rotation import from_rotvec, to_matrix

FLIP = np.array([1.0, -1.0, -1.0])
"""North-east-down to north-west-up, and forward-right-down to forward-left-up; its own inverse."""
NAMES = ("front_right", "back_right", "back_left", "front_left")
MOTORS = Field("motors", (4,), "float32", "1", low=-1.0, high=1.0, names=NAMES)
RATES = Field("rates", (4,), "float32", "rad/s, rad/s, rad/s, 1", "body", names=("x", "y", "z", "thrust"))
VELOCITY = Field("velocity_setpoint", (4,), "float32", "m/s, m/s, m/s, rad/s", "world", names=("x", "y", "z", "yaw_rate"))
COMMANDS = {"motors": MOTORS, "rates": RATES, "velocity": VELOCITY}
ONLY_VELOCITY = 0b0101_1100_0111
"""POSITION_TARGET_TYPEMASK: position, acceleration and yaw are not meant."""
COPIES = 3
"""Of an order to land: a packet may be lost, and nobody waits for the answer."""
HEARTBEAT = 1.5
"""After so long a heartbeat has told of a new mode [s]."""
FARTHEST = 0.02
"""No prediction reaches farther, and no difference is taken over longer [s]."""


class Setpoint(Enum):
    motors = "motors"
    rates = "rates"
    velocity = "velocity"


@dataclass
class MavlinkConfig:
    robot: str
    """Whose limits hold: a folder of hardware/robots."""
    connection: str
    """udpin:<address>:<port> to be sent to, udpout:<address>:<port>, tcp:<address>:<port>, or a serial device."""
    baud: int
    """Of a serial device."""
    firmware: Firmware
    """px4, whose mode offboard obeys, or ardupilot, whose mode guided does."""
    setpoint: Setpoint
    """motors: SET_ACTUATOR_CONTROL_TARGET, which PX4 obeys up to 1.13 only and ArduPilot never; rates: SET_ATTITUDE_TARGET with
    body rates; velocity: SET_POSITION_TARGET_LOCAL_NED, the autopilot's own controllers fly."""
    order: list[int]
    """Which of our motors (front right, back right, back left, front left) is the autopilot's first, second, …"""
    dt: float
    """Time between two commands [s]."""
    telemetry: float
    """Rate of ODOMETRY that is asked for [Hz]."""
    hold: list[float] | None
    """Position that observations are relative to, x, y, z in the autopilot's local frame, z up [m]; null: where it is armed."""
    lead: float
    """Observations are predicted to this long after now, when the command acts [s]: thinking, the link and the autopilot's own
    period. 0 gives them as they were measured."""
    patience: float
    """How long the autopilot may take to answer [s]."""


@dataclass(frozen=True)
class State:
    """position_w [m], world from body (3, 3), velocity_w [m/s], rate_b [rad/s], z up."""

    position: Array
    rotation: Array
    velocity: Array
    rate: Array

    @classmethod
    def of(cls, odometry: Any) -> "State":
        """Of an ODOMETRY message, which gives the velocity in the body's frame."""
        turn = to_matrix(np.array(odometry.q))
        rate = FLIP * [odometry.rollspeed, odometry.pitchspeed, odometry.yawspeed]
        velocity = FLIP * (turn @ [odometry.vx, odometry.vy, odometry.vz])
        return cls(FLIP * [odometry.x, odometry.y, odometry.z], FLIP[:, None] * turn * FLIP, velocity, rate)

    def ahead(self, before: tuple[float, "State"], stamp: float, lead: float) -> "State":
        """`lead` [s] later, if the accelerations since the state before, measured then, go on. A policy that was trained without
        latency turns agile vehicles over for want of 5 ms; predicted, it flies them."""
        passed = stamp - before[0]
        if not (lead > 0 and 0 < passed < FARTHEST) or not np.isfinite([*self.rate, *self.velocity]).all():
            return self
        rate = self.rate + (self.rate - before[1].rate) * (lead / passed)
        velocity = self.velocity + (self.velocity - before[1].velocity) * (lead / passed)
        turned = self.rotation @ to_matrix(from_rotvec((self.rate + rate) / 2 * lead))
        return State(self.position + (self.velocity + velocity) / 2 * lead, turned, velocity, rate)


class Mavlink(Driver):
    """Observations are RAPTOR's: position, rotation, velocity, rate, last_action."""

    def __init__(self, config: MavlinkConfig) -> None:
        if config.firmware is Firmware.ardupilot and config.setpoint is Setpoint.motors:
            raise ConfigError("driver: ardupilot takes no motor commands; driver.setpoint may be rates or velocity")
        self.config, self.dt, self.modes = config, config.dt, MODES[config.firmware]
        self.command = COMMANDS[config.setpoint.value]
        self.observation = (
            Field("position", (3,), "float32", "m", "world", names=("x", "y", "z")),
            Field("rotation", (3, 3), "float32", "1", "world from body"),
            Field("velocity", (3,), "float32", "m/s", "world", names=("x", "y", "z")),
            Field("rate", (3,), "float32", "rad/s", "body", names=("x", "y", "z")),
            Field("last_action", (4,), "float32", self.command.unit, "", self.command.low, self.command.high, self.command.names),
        )
        self._peer = mmap.mmap(-1, 128)
        self.link: Any = None
        self._forget()

    def _forget(self) -> None:
        self.mode: int | None = None
        self.origin: np.ndarray[Any, Any] | None = None if self.config.hold is None else np.array(self.config.hold)
        self.last = np.array([-1.0] * 4 if self.config.setpoint is Setpoint.motors else [0.0] * 4)
        self.measured = self.last
        self.newest: tuple[float, State] | None = None
        self.last_state = self.before = self.newest
        self.skew, self.beaten = Skew(), -np.inf
        self.acks: dict[int, int] = {}
        self.offboard = 0.0

    def open(self) -> None:
        where = self.config.connection
        self.common, self.link = dialect(), connect(where, self.config.baud)
        self._forget()
        end = time.monotonic() + self.config.patience
        while self.mode is None and time.monotonic() < end:
            self._drain()
            time.sleep(0.002)
        if self.mode is None:
            raise DriverError(
                f"mavlink: no autopilot says anything on '{where}' for {self.config.patience} s; is it the right port?"
            )
        if isinstance(self.link, Udp) and self.link.peer is not None:
            told = f"{self.link.peer[0]}:{self.link.peer[1]}".encode()
            self._peer[: len(told) + 1] = told + b"\0"
        self._interval(self.common.MAVLINK_MSG_ID_ODOMETRY)
        self._interval(self.common.MAVLINK_MSG_ID_ACTUATOR_OUTPUT_STATUS)

    def read(self) -> Reading | None:
        self._drain()
        if self.offboard and self.mode != self.modes.obeys[0] and time.monotonic() > self.offboard + HEARTBEAT:
            self.offboard = 0.0
            raise DriverError(
                f"mavlink: the autopilot has left mode {self.modes.obeys[0]} for {self.mode}; whoever did that flies it now"
            )
        newest, self.newest = self.newest, None
        if newest is None:
            return None
        now = time.monotonic()
        stamp = self.skew.ours(newest[0], now)
        state = newest[1] if self.before is None else newest[1].ahead(self.before, newest[0], self._lead(now - stamp))
        if self.origin is None:
            self.origin = newest[1].position
        found = {
            "position": state.position - self.origin, "rotation": state.rotation, "velocity": state.velocity, "rate": state.rate,
            "last_action": self.last,
        }  # fmt: skip
        return Reading({name: np.asarray(value, np.float32) for name, value in found.items()}, stamp, self.measured)

    def _lead(self, age: float) -> float:
        return min(max(age, 0.0) + self.config.lead, FARTHEST) if self.config.lead > 0 else 0.0

    def write(self, command: Array) -> Array:
        now = int(time.monotonic() * 1e3) & 0xFFFFFFFF
        values = np.asarray(command, np.float32).astype(np.float64)
        link, known = self.link, self.common
        to = (link.target_system, link.target_component)
        if self.config.setpoint is Setpoint.motors:
            motors = [float(values[k]) / 2 + 0.5 for k in self.config.order]
            link.mav.set_actuator_control_target_send(now * 1000, 0, *to, motors + [0.0] * 4)
        elif self.config.setpoint is Setpoint.rates:
            mask, level = known.ATTITUDE_TARGET_TYPEMASK_ATTITUDE_IGNORE, [1.0, 0.0, 0.0, 0.0]
            link.mav.set_attitude_target_send(now, *to, mask, level, *map(float, FLIP * values[:3]), float(values[3]))
        else:
            moving = (*map(float, FLIP * values[:3]), 0.0, 0.0, 0.0, 0.0, -float(values[3]))
            frame = known.MAV_FRAME_LOCAL_NED
            link.mav.set_position_target_local_ned_send(now, *to, frame, ONLY_VELOCITY, 0.0, 0.0, 0.0, *moving)
        self.last = values
        return self.last

    def arm(self) -> None:
        """A second of setpoints where the channels are, the mode that obeys, arming: the order that PX4 asks for."""
        if self.config.hold is None:
            self.origin = None
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            self._drain()
            self.write(self.measured)
            time.sleep(0.02)
        base = self.common.MAV_MODE_FLAG_CUSTOM_MODE_ENABLED
        self._order(self.common.MAV_CMD_DO_SET_MODE, "the mode that obeys", base, *self.modes.obeys)
        self._order(self.common.MAV_CMD_COMPONENT_ARM_DISARM, "arming", 1)
        self.offboard = time.monotonic()

    def stop(self) -> None:
        """Land, unless somebody else flies it."""
        if self.link is None or not self.offboard:
            return
        self.offboard = 0.0
        with contextlib.suppress(OSError):  # a link that is gone: the autopilot's failsafe acts
            _land(self.link, self.common, self.modes)

    def close(self) -> None:
        if self.link is not None:
            self.link.close()
            self.link = None
            self._peer[:1] = b"\0"

    def will(self) -> Callable[[], None]:
        """Land, by a socket of its own to where the autopilot was heard; on other links silence is the will."""
        common, peer = dialect(), self._peer  # loaded now: there will be no time then

        def last() -> None:
            host, _, port = bytes(peer[:]).split(b"\0")[0].decode().partition(":")
            if port:
                _land(Udp((host, int(port)), listen=False), common, self.modes)

        return last if self.config.connection.startswith("udp") else lambda: None

    def _drain(self) -> None:
        """Take in all that has come."""
        now = time.monotonic()
        if now - self.beaten > 0.5:
            self.beaten, known = now, self.common
            self.link.mav.heartbeat_send(
                known.MAV_TYPE_ONBOARD_CONTROLLER, known.MAV_AUTOPILOT_INVALID, 0, 0, known.MAV_STATE_ACTIVE
            )
        try:
            while (message := self.link.recv_msg()) is not None:
                self._take(message)
        except OSError as error:
            raise DriverError(f"mavlink: '{self.config.connection}' broke: {error}") from error

    def _take(self, message: Any) -> None:
        kind = message.get_type()
        if message.get_srcComponent() != self.common.MAV_COMP_ID_AUTOPILOT1:
            return
        if kind == "HEARTBEAT":
            self.link.target_system, self.link.target_component = message.get_srcSystem(), message.get_srcComponent()
            self.mode = self.modes.of(message.custom_mode)
        elif kind == "ODOMETRY":
            self.before, self.newest = self.last_state, (message.time_usec / 1e6, State.of(message))
            self.last_state = self.newest
            if self.config.setpoint is Setpoint.velocity:
                self.measured = np.array([*self.newest[1].velocity, 0.0])
        elif kind == "ACTUATOR_OUTPUT_STATUS" and self.config.setpoint is Setpoint.motors:
            measured = np.empty(4)
            measured[self.config.order] = np.asarray(message.actuator[:4]) * 2 - 1
            self.measured = measured
        elif kind == "COMMAND_ACK":
            self.acks[message.command] = message.result

    def _interval(self, number: int) -> None:
        self._order(self.common.MAV_CMD_SET_MESSAGE_INTERVAL, "telemetry", number, 1e6 / self.config.telemetry, need=False)

    def _order(self, command: int, what: str, *values: float, need: bool = True) -> None:
        """Send a command and wait for its acknowledgement, keeping setpoints going."""
        self.acks.pop(command, None)
        values = (*values, *[0.0] * (7 - len(values)))
        self.link.mav.command_long_send(self.link.target_system, self.link.target_component, command, 0, *values)
        end = time.monotonic() + self.config.patience
        while command not in self.acks and time.monotonic() < end:
            self._drain()
            if need:
                self.write(self.measured)
            time.sleep(0.005)
        result = self.acks.get(command)
        if need and result != self.common.MAV_RESULT_ACCEPTED:
            told = "does not answer" if result is None else self.common.enums["MAV_RESULT"][result].name
            raise DriverError(f"mavlink: the autopilot refuses {what}: {told}; look at its own messages in a ground station")


def _land(link: Any, common: Any, modes: Modes) -> None:
    base = common.MAV_MODE_FLAG_CUSTOM_MODE_ENABLED
    order = (common.MAV_CMD_DO_SET_MODE, 0, base, *modes.land, 0, 0, 0, 0)
    for _ in range(COPIES):
        link.mav.command_long_send(link.target_system, link.target_component, *order)
