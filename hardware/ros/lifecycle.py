"""A node's states, diagnostics and parameters as topics, and the orders that it takes: those of a ROS 2 lifecycle node.

/<name>/state        lifecycle_msgs/State, latched: inactive, active, or errorprocessing for a latched fault
/<name>/transition   std_msgs/String: activate, deactivate, cleanup, shutdown
/diagnostics         diagnostic_msgs/DiagnosticArray, once a second
/parameter_events    rcl_interfaces/ParameterEvent, latched, once: the numbers and words of the node's config
"""

import math
import time
from collections.abc import Callable
from typing import Any

from hardware.guard import Mode
from hardware.ros.bridge import DEFAULT, LATCHED, Bridge, Message
from hardware.ros.messages import default
from hardware.runtime import Runtime
from robot.core.errors import DriverError

STATES = {
    Mode.idle: (2, "inactive"), Mode.armed: (3, "active"), Mode.running: (3, "active"),
    Mode.hold: (15, "errorprocessing"), Mode.stopped: (2, "inactive"),
}  # fmt: skip
"""lifecycle_msgs/State of each mode of the guard."""
LEVELS = {Mode.idle: 0, Mode.armed: 0, Mode.running: 0, Mode.hold: 2, Mode.stopped: 1}
"""diagnostic_msgs/DiagnosticStatus: ok, warn, error."""
KINDS = {bool: (1, "bool_value"), int: (2, "integer_value"), float: (3, "double_value"), str: (4, "string_value")}
"""rcl_interfaces/ParameterType, and where ParameterValue keeps it."""
VALUE = "rcl_interfaces/msg/ParameterValue"
EVERY = 1.0
"""Between two diagnostics [s]."""


class Lifecycle:
    """Called once a period: obeys what was ordered, says what has changed."""

    def __init__(
        self, runtime: Runtime, bridge: Bridge, name: str, parameters: dict[str, Any], end: Callable[[str], None]
    ) -> None:
        """
        Args:
            runtime: of the node.
            bridge: open.
            name: of the node.
            parameters: its config, flat.
            end: ends the run, for a reason in words.
        """
        self.runtime, self.name, self.end = runtime, name, end
        self.orders = bridge.subscribe(f"/{name}/transition", "std_msgs/msg/String", DEFAULT)
        self.state = bridge.advertise(f"/{name}/state", "lifecycle_msgs/msg/State", LATCHED)
        self.diagnostics = bridge.advertise("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
        self.parameters = bridge.advertise("/parameter_events", "rcl_interfaces/msg/ParameterEvent", LATCHED)
        self.parameters.publish(self._told(parameters))
        self.said: tuple[int, str] | None = None
        self.next = -math.inf
        self.refused = ""

    def tick(self, now: float) -> None:
        """Raises DriverError where the bridge is down for good."""
        for message, _ in self.orders.take():
            self._obey(str(message.get("data", "")))
        state = STATES[self.runtime.guard.mode]
        if state != self.said:
            self.said = state
            self.state.publish({"id": state[0], "label": state[1]})
        if now >= self.next:
            self.next = now + EVERY
            self.diagnostics.publish({"header": {"stamp": wall(), "frame_id": ""}, "status": [self._status()]})

    def activate(self) -> None:
        """Release what was latched and arm from where the robot is; a refusal is said in the diagnostics."""
        try:
            self.runtime.guard.release()
            self.runtime.arm(patience=0.0)
            self.refused = ""
        except DriverError as error:
            self.refused = str(error)

    def _obey(self, order: str) -> None:
        if order == "activate":
            if self.runtime.guard.mode not in (Mode.armed, Mode.running):
                self.activate()
        elif order in ("deactivate", "cleanup"):
            self.runtime.stop(f"told to {order}")
        elif order == "shutdown":
            self.end("told to shut down")
        else:
            self.refused = f"there is no transition '{order[:40]}'; there are activate, deactivate, cleanup, shutdown"

    def _status(self) -> Message:
        runtime, guard = self.runtime, self.runtime.guard
        values = {"mode": guard.mode.value, "limited": guard.limited, **runtime.beat.summary()}
        words = "; ".join(guard.reasons) or self.refused or guard.mode.value
        level = LEVELS[guard.mode] or int(bool(self.refused))
        told = [
            {"key": key, "value": f"{value:.4g}" if isinstance(value, float) else str(value)} for key, value in values.items()
        ]
        return {"level": level, "name": f"{self.name}: servo loop", "message": words, "hardware_id": self.name, "values": told}

    def _told(self, parameters: dict[str, Any]) -> Message:
        told = []
        for name, value in parameters.items():
            kind, place = KINDS.get(type(value), (4, "string_value"))
            told.append(
                {"name": name, "value": default(VALUE) | {"type": kind, place: value if type(value) in KINDS else str(value)}}
            )
        return {
            "stamp": wall(),
            "node": f"/{self.name}",
            "new_parameters": told,
            "changed_parameters": [],
            "deleted_parameters": [],
        }


def wall() -> Message:
    """builtin_interfaces/Time of now."""
    now = time.time_ns()
    return {"sec": now // 10**9, "nanosec": now % 10**9}


def flat(node: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Leaves of a config by dotted names."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        name = f"{path}.{key}" if path else str(key)
        found |= flat(value, name) if isinstance(value, dict) else {name: value}
    return found
