"""A simulated autopilot that speaks MAVLink 2 over UDP, with PX4's or ArduPilot's modes and rules for setpoints from outside.

    python -m hardware.fakes.autopilot vehicle=x500 port=14580 to=14540 seconds=30

PX4's offboard mode is granted after a second of setpoints at more than 2 Hz, ArduPilot's guided at once; after `loss` seconds
without one it lands, and on request. vehicle=kinematic follows velocities, a named one motors; body rates are only counted.
It hovers by itself in every other mode. At its end it prints what it saw on the wire, as JSON: this is the device's word on
whether anything not finite or out of range has ever been sent to it.
"""

import contextlib
import json
import math
import signal
import socket
import time
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hardware.fakes.keys import keys
from hardware.mavlink_link import dialect
from hardware.mavlink_modes import MODES, Firmware
from hardware.runtime import hurry, settle
from robot.core.rotation import to_matrix

KEYS = {
    "vehicle": "x500",
    "port": 14580,
    "to": 14540,
    "seconds": 0.0,
    "seed": 0,
    "dt": 0.0025,
    "loss": 1.0,
    "offset": 0.5,
    "realtime": 0,
    "firmware": "px4",
}
FLIP = np.array([1.0, -1.0, -1.0])
ORDER = (0, 2, 3, 1)
"""PX4's motors 1 to 4 of a quadrotor X: front right, back left, front left, back right; ours by number."""
SPEED, TURN, THRUST, RATE = 20.0, 4.0, (0.0, 1.0), 40.0
"""Of setpoints that are within range [m/s, rad/s, 1, rad/s]."""
LAG = 0.2
"""Time constant with which the kinematic vehicle follows velocities [s]."""
STREAM, GAP = 1.0, 0.5
"""Setpoints must have come for so long, no further apart than that, before offboard is granted [s]."""


class Vehicle(Protocol):
    """What is flown: motors (4,) in [-1, 1] in our order, or velocity and yaw rate (4,); the state in our frames."""

    def step(self, command: NDArray[Any]) -> None: ...

    def state(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        """position_w (3,) [m], quaternion wxyz, velocity_w (3,) [m/s], rate_b (3,) [rad/s]."""
        ...


class Simulated:
    """A vehicle of configs/vehicle in the simulation, calmly in the air."""

    def __init__(self, vehicle: str, dt: float, seed: int, offset: float) -> None:
        import torch

        import sim.gym
        from robot.core.config import build

        torch.set_num_threads(1)
        start = {"position": offset, "angle": 0.2, "velocity": 0.2, "rate": 0.2, "guidance": 0.0}
        node = sim.gym.config(
            "quadrotor", num_envs=1, vehicle=vehicle, dt=dt, time_limit=1e9, limits={"terminate": False}, start=start, threads=1
        )
        self.env, self.torch = build(node, "env"), torch
        self.env.reset(seed=seed)
        self.step(np.zeros(4))  # compiles
        self.env.reset(seed=seed)

    def step(self, command: NDArray[Any]) -> None:
        self.env.step(self.torch.from_numpy(np.asarray(command, np.float32))[None])

    def state(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        x = self.env.state[0].numpy().astype(np.float64)
        return x[:3], x[3:7], x[7:10], x[10:13]


class Kinematic:
    """Follows velocities [m/s] and a yaw rate [rad/s] with a lag, level."""

    def __init__(self, dt: float, offset: float) -> None:
        self.dt, self.position, self.yaw = dt, np.array([offset, -offset, offset]), 0.0
        self.velocity = np.zeros(4)

    def step(self, command: NDArray[Any]) -> None:
        self.velocity = self.velocity + (np.asarray(command) - self.velocity) * (self.dt / LAG)
        self.position = self.position + self.velocity[:3] * self.dt
        self.yaw += float(self.velocity[3]) * self.dt

    def state(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        turn = np.array([math.cos(self.yaw / 2), 0.0, 0.0, math.sin(self.yaw / 2)])
        return self.position, turn, self.velocity[:3], np.array([0.0, 0.0, self.velocity[3]])


class Autopilot:
    """Modes, setpoints and telemetry. `tick` is one period of `dt`."""

    def __init__(self, vehicle: Vehicle, port: int, to: int, dt: float, loss: float, firmware: Firmware = Firmware.px4) -> None:
        self.common, self.firmware, self.modes = dialect(), firmware, MODES[firmware]
        self.vehicle, self.dt, self.loss, self.peer = vehicle, dt, loss, ("127.0.0.1", to)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.link = self.common.MAVLink(None, srcSystem=1, srcComponent=1)
        self.link.robust_parsing = True
        self.mode, self.armed = self.modes.hover, False
        self.motors, self.command = np.zeros(4), np.zeros(4)
        self.count = 0
        self.boot = time.monotonic()
        self.since = self.last = -math.inf
        self.every = {self.common.MAVLINK_MSG_ID_ODOMETRY: 0.02}
        self.errors: list[float] = []
        counts = ("setpoints", "flying_setpoints", "not_finite", "out_of_range", "longest_gap")
        self.seen: dict[str, Any] = {**dict.fromkeys(counts, 0), "modes": [], "last_setpoint": None}

    def tick(self) -> None:
        """Listen, fly, tell."""
        self._listen()
        now = time.monotonic()
        flying = self.mode == self.modes.obeys and self.armed
        if flying and now - self.last > self.loss:
            self._enter(self.modes.land, "setpoints stopped")
            flying = False
        if flying:
            self.vehicle.step(self.command)
            self.errors.append(float(np.linalg.norm(self.vehicle.state()[0])))
        self._tell()
        self.count += 1

    def report(self) -> dict[str, Any]:
        """What came over the wire, and how far from the origin it flew: all, and the second half [m]."""
        half = self.errors[len(self.errors) // 2 :]
        mean = lambda values: float(np.mean(values)) if values else None  # noqa: E731
        flown = {"flown": len(self.errors) * self.dt, "error": mean(self.errors), "late_error": mean(half)}
        return {**self.seen, **flown, "final_error": self.errors[-1] if self.errors else None}

    def _enter(self, mode: tuple[int, int], why: str) -> None:
        self.mode = mode
        self.seen["modes"].append([time.monotonic(), list(mode), why])

    def _listen(self) -> None:
        while True:
            try:
                data, self.peer = self.socket.recvfrom(4096)
            except BlockingIOError:
                return
            except ConnectionError:
                continue
            for message in self.link.parse_buffer(data) or []:
                self._take(message)

    def _take(self, message: Any) -> None:
        kind = message.get_type()
        if kind == "SET_ACTUATOR_CONTROL_TARGET":
            controls = np.array(message.controls[:4], np.float64)
            if self._setpoint(controls, bool(((controls >= 0) & (controls <= 1)).all())):
                self.motors[list(ORDER)] = np.clip(controls, 0, 1) * 2 - 1
                self.command = self.motors
        elif kind == "SET_ATTITUDE_TARGET":
            rates = np.array([message.body_roll_rate, message.body_pitch_rate, message.body_yaw_rate])
            legal = (np.abs(rates) <= RATE).all() and THRUST[0] <= message.thrust <= THRUST[1]
            self._setpoint(np.array([*rates, message.thrust]), bool(legal))
        elif kind == "SET_POSITION_TARGET_LOCAL_NED":
            moving = np.array([*(FLIP * [message.vx, message.vy, message.vz]), -message.yaw_rate])
            if self._setpoint(moving, bool((np.abs(moving) <= [SPEED, SPEED, SPEED, TURN]).all())):
                self.command = moving
        elif kind == "COMMAND_LONG":
            result = self._command(message)
            self._send(self.link.command_ack_encode(message.command, result))

    def _setpoint(self, values: NDArray[Any], legal: bool) -> bool:
        """Count one; whether it may be followed."""
        now, seen = time.monotonic(), self.seen
        seen["setpoints"] += 1
        finite = bool(np.isfinite(values).all())
        seen["not_finite"] += not finite
        seen["out_of_range"] += not legal
        if now - self.last > GAP:
            self.since = now
        elif self.mode == self.modes.obeys:
            seen["flying_setpoints"] += self.armed
            seen["longest_gap"] = max(seen["longest_gap"], now - self.last)
        self.last = seen["last_setpoint"] = now
        return finite

    def _command(self, message: Any) -> int:
        known, now = self.common, time.monotonic()
        if message.command == known.MAV_CMD_DO_SET_MODE:
            mode = (int(message.param2), int(message.param3))
            streamed = self.firmware is Firmware.ardupilot or (now - self.since >= STREAM and now - self.last < GAP)
            if mode == self.modes.obeys and not streamed:
                return known.MAV_RESULT_TEMPORARILY_REJECTED
            self._enter(mode, "ordered")
        elif message.command == known.MAV_CMD_COMPONENT_ARM_DISARM:
            self.armed = message.param1 > 0.5
        elif message.command == known.MAV_CMD_SET_MESSAGE_INTERVAL:
            self.every[int(message.param1)] = message.param2 / 1e6
        else:
            return known.MAV_RESULT_UNSUPPORTED
        return known.MAV_RESULT_ACCEPTED

    def _tell(self) -> None:
        known, stamp = self.common, int((time.monotonic() - self.boot) * 1e6)
        if self._due(0.5):
            flags = known.MAV_MODE_FLAG_CUSTOM_MODE_ENABLED | (known.MAV_MODE_FLAG_SAFETY_ARMED if self.armed else 0)
            px4 = self.firmware is Firmware.px4
            make = known.MAV_AUTOPILOT_PX4 if px4 else known.MAV_AUTOPILOT_ARDUPILOTMEGA
            kind = (known.MAV_TYPE_QUADROTOR, make, flags, self.modes.custom(self.mode), known.MAV_STATE_ACTIVE)
            self._send(self.link.heartbeat_encode(*kind))
        if self._due(self.every[known.MAVLINK_MSG_ID_ODOMETRY]):
            self._send(self._odometry(stamp))
        if self._due(self.every.get(known.MAVLINK_MSG_ID_ACTUATOR_OUTPUT_STATUS, math.inf)):
            outputs = list((self.motors[list(ORDER)] + 1) / 2) + [0.0] * 28
            self._send(self.link.actuator_output_status_encode(stamp, 4, outputs))

    def _odometry(self, stamp: int) -> Any:
        known = self.common
        position, q, velocity, rate = self.vehicle.state()
        body = FLIP * (to_matrix(q).T @ velocity)
        return self.link.odometry_encode(
            stamp, known.MAV_FRAME_LOCAL_NED, known.MAV_FRAME_BODY_FRD, *(FLIP * position), [q[0], q[1], -q[2], -q[3]], *body,
            *(FLIP * rate), [math.nan] * 21, [math.nan] * 21, 0, known.MAV_ESTIMATOR_TYPE_AUTOPILOT,
        )  # fmt: skip

    def _due(self, interval: float) -> bool:
        return math.isfinite(interval) and self.count % max(1, round(interval / self.dt)) == 0

    def _send(self, message: Any) -> None:
        with contextlib.suppress(OSError):  # nobody listens yet
            self.socket.sendto(message.pack(self.link), self.peer)


def main() -> None:
    """Fly in real time until `seconds` are over, or for ever where they are 0."""
    given = keys(KEYS)
    if given["vehicle"] == "kinematic":
        vehicle: Vehicle = Kinematic(given["dt"], given["offset"])
    else:
        vehicle = Simulated(given["vehicle"], given["dt"], given["seed"], given["offset"])
    pilot = Autopilot(vehicle, given["port"], given["to"], given["dt"], given["loss"], Firmware(given["firmware"]))
    if given["realtime"]:
        hurry()
    settle()
    ended: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: ended.append(number))
    due = start = time.monotonic()
    print("ready", flush=True)
    while not ended and not 0 < given["seconds"] < time.monotonic() - start:
        pilot.tick()
        due = max(due + pilot.dt, time.monotonic() - pilot.dt)
        time.sleep(max(0.0, due - time.monotonic()))
    print(json.dumps(pilot.report()), flush=True)


if __name__ == "__main__":
    main()
