"""Recordings as rosbag2 and MCAP, and bags as arrays: Foxglove and ROS tools read ours, and we learn from theirs."""

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hardware.recorder import Recording
from hardware.ros.bridge import Message
from hardware.ros.cdr import codec
from hardware.ros.images import COLOUR, DEPTH, rows
from hardware.ros.messages import default, definition
from hardware.ros.typehash import typehash
from robot.core.errors import DatasetError, InterfaceError, MessageError, TillerError
from robot.core.interface import Field, Interface
from robot.core.optional import require
from robot.core.rotation import from_matrix, from_rotvec, to_xyzw

Array = NDArray[Any]
IMAGE, JOINTS, NUMBERS = "sensor_msgs/msg/Image", "sensor_msgs/msg/JointState", "std_msgs/msg/Float64MultiArray"
POSE, TWIST, HEALTH = "geometry_msgs/msg/PoseStamped", "geometry_msgs/msg/TwistStamped", "diagnostic_msgs/msg/DiagnosticArray"
LEVELS = {"hold": 2, "stopped": 1}
"""diagnostic_msgs/DiagnosticStatus of modes that are not ok."""
LIMIT = 1 << 26
"""Bytes of the largest message that is written."""
VERSION = 9
"""Of rosbag2's own file."""
SLACK = 1e-6
"""Times nearer to each other are the same [s]."""
VELOCITIES = {"rad": "rad/s", "m": "m/s"}
MOVING = {
    **{(axis, "m/s"): ("linear", axis) for axis in "xyz"},
    **{(axis, "rad/s"): ("angular", axis) for axis in "xyz"},
    ("v", "m/s"): ("linear", "x"),
    ("w", "rad/s"): ("angular", "z"),
    ("yaw_rate", "rad/s"): ("angular", "z"),
}
"""Where an element of a velocity stands in a Twist, by name and unit."""
AXES = {"x", "y", "z", "yaw", "roll", "pitch", "w"}
"""Names of elements that are no joints."""


@dataclass
class Column:
    """Where a field of an episode stands in a bag."""

    topic: str
    """Such as /joint_states."""
    path: str
    """Of the value in the message, with dots: position, pose.pose.position.x; several with commas."""
    max_age: float
    """How old the newest message may be [s]; where it is older, the episode ends. `.inf` for what is said once."""


def described(file: str | Path) -> tuple[Interface, dict[str, Column]]:
    """What a yaml says of where the fields of an Interface stand in a bag.

        dt: 0.05
        action: {name: targets, topic: /arm/targets, path: position, max_age: 0.2, shape: [2], unit: rad, names: [a, b]}
        observation:
          - {name: joints, topic: /joint_states, path: position, max_age: 0.2, shape: [2], unit: rad, names: [a, b]}

    Fields of joints that have names are found by them, whatever the order in the bag.

    Raises:
        DatasetError: no such file, a key is missing or unknown.
    """
    try:
        told: Any = OmegaConf.to_container(OmegaConf.load(file))
        found = [dict(row) for row in (*told["observation"], told["action"])]
        columns = {row["name"]: Column(row.pop("topic"), row.pop("path"), float(row.pop("max_age"))) for row in found}
        fields = [Field(**row) for row in found]
        return Interface(tuple(fields[:-1]), fields[-1], float(told["dt"])), columns
    except (OSError, KeyError, TypeError, ValueError, InterfaceError, OmegaConfBaseException) as error:
        needs = (
            "dt, observation and action; each of these name, topic, path, max_age and shape, if need be dtype, unit, frame, names"
        )
        raise DatasetError(f"columns: '{file}' needs {needs}: {str(error).splitlines()[0]!r}") from error


def kind_of(field: Field) -> str:
    """The message that says most about a field."""
    if len(field.shape) == 2 and field.dtype == "float32" and min(field.shape) > 4:
        return IMAGE
    if len(field.shape) == 3 and field.dtype == "uint8" and field.shape[2] == 3:
        return IMAGE
    if len(field.shape) != 1 or not field.names:
        return NUMBERS
    if all(key in MOVING for key in _elements(field)):
        return TWIST
    joints = field.unit in (*VELOCITIES, *VELOCITIES.values()) and not AXES & set(field.names)
    return JOINTS if joints else NUMBERS


def _elements(field: Field) -> list[tuple[str, str]]:
    """Name and unit of each element of a vector."""
    units = field.unit.split(", ")
    return list(zip(field.names, units * len(field.names) if len(units) == 1 else units, strict=False))


def message_of(field: Field, value: Array, stamp: Message) -> Message:
    """One value as a message of `kind_of(field)`."""
    kind = kind_of(field)
    message, header = default(kind), {"stamp": stamp, "frame_id": field.frame}
    if kind == IMAGE:
        row = np.ascontiguousarray(value, "<f4" if field.dtype == "float32" else np.uint8)
        message |= {"header": header, "height": row.shape[0], "width": row.shape[1], "step": row.strides[0]}
        return message | {"encoding": "32FC1" if row.ndim == 2 else "rgb8", "data": np.frombuffer(row.tobytes(), np.uint8)}
    if kind == JOINTS:
        which = "velocity" if field.unit in VELOCITIES.values() else "position"
        return message | {"header": header, "name": list(field.names), which: np.asarray(value, np.float64)}
    if kind == TWIST:
        for key, number in zip(_elements(field), value, strict=True):
            part, axis = MOVING[key]
            message["twist"][part][axis] = float(number)
        return message | {"header": header}
    sizes = [*field.shape]
    strides = [int(np.prod(sizes[k:])) for k in range(len(sizes))]
    label = ", ".join(field.names) or field.name
    dim = [{"label": label, "size": size, "stride": stride} for size, stride in zip(sizes, strides, strict=True)]
    return message | {"layout": {"dim": dim, "data_offset": 0}, "data": np.asarray(value, np.float64).ravel()}


def write(recording: Recording, path: str | Path, storage: str = "mcap") -> Path:
    """A bag, a folder with an .mcap or .db3 in it: every measurement once, what was wanted and sent in each period, every event.

    Places of bodies come as poses besides.

    Args:
        recording: of python -m robot.deploy.
        path: of the bag.
        storage: mcap or sqlite3.

    Raises:
        DatasetError: something is there already.
    """
    rosbag2 = require("rosbags.rosbag2", "ros")
    plugin = {"mcap": rosbag2.StoragePlugin.MCAP, "sqlite3": rosbag2.StoragePlugin.SQLITE3}.get(storage)
    if plugin is None:
        raise DatasetError(f"storage '{storage}'; accepted: mcap, sqlite3")
    if Path(path).exists():
        raise DatasetError(f"'{path}' is there already; choose another output")
    started = recording.header["started"]
    parts = (part(recording, started["unix_s"] - started["monotonic_s"]) for part in (_measurements, _commands, _events))
    with rosbag2.Writer(Path(path), version=VERSION, storage_plugin=plugin) as bag:
        known: dict[str, Any] = {}
        for topic, kind, when, message in heapq.merge(*parts, key=lambda row: row[2]):
            if topic not in known:
                texts = {"msgdef": definition(kind), "rihs01": typehash(kind)}
                known[topic] = bag.add_connection(topic, kind, **texts)
            bag.write(known[topic], when, codec(kind).write(message, LIMIT))
    return Path(path)


Rows = Iterator[tuple[str, str, int, Message]]
"""Topic, kind, time [ns], message."""


def _measurements(recording: Recording, offset: float) -> Rows:
    known = {field.name: field for field in recording.interface.observation}
    flat = [field for field in known.values() if field.names == ("x", "y", "yaw")]
    stamps = recording.rows["stamp"]
    for row in recording.rows[np.diff(stamps, prepend=-math.inf) > 0]:
        when = _nanoseconds(row["stamp"] + offset)
        for name, field in known.items():
            yield f"/observation/{name}", kind_of(field), when, message_of(field, row[f"observation.{name}"], _time(when))
        for field in flat:
            x, y, yaw = map(float, row[f"observation.{field.name}"])
            pose = _pose((x, y, 0.0), from_rotvec(np.array([0.0, 0.0, yaw])), field.frame, _time(when))
            yield f"/observation/{field.name}/pose", POSE, when, pose
        if "position" in known and "rotation" in known and known["rotation"].shape == (3, 3):
            turn = from_matrix(np.asarray(row["observation.rotation"], np.float64))
            yield "/pose", POSE, when, _pose(row["observation.position"], turn, known["position"].frame, _time(when))


def _commands(recording: Recording, offset: float) -> Rows:
    command = recording.interface.action
    for row in recording.rows:
        when = _nanoseconds(row["time"] + offset)
        for what in ("wanted", "sent"):
            if np.isfinite(row[what]).all():
                yield f"/command/{what}", kind_of(command), when, message_of(command, row[what], _time(when))


def _events(recording: Recording, offset: float) -> Rows:
    for event in recording.events:
        when = _nanoseconds(event["time"] + offset)
        status = default("diagnostic_msgs/msg/DiagnosticStatus")
        status |= {"level": LEVELS.get(event["mode"], 0), "name": "servo loop", "hardware_id": str(recording.header["robot"])}
        status["message"] = "; ".join([event["mode"], *event["reasons"]])
        yield "/diagnostics", HEALTH, when, {"header": {"stamp": _time(when), "frame_id": ""}, "status": [status]}


def _pose(place: Any, turn: Array, frame: str, stamp: Message) -> Message:
    message = default(POSE)
    message["header"] = {"stamp": stamp, "frame_id": frame}
    message["pose"]["position"] = dict(zip("xyz", map(float, place), strict=True))
    message["pose"]["orientation"] = dict(zip("xyzw", map(float, to_xyzw(turn)), strict=True))
    return message


def _nanoseconds(seconds: float) -> int:
    return round(float(seconds) * 1e9)


def _time(nanoseconds: int) -> Message:
    return {"sec": nanoseconds // 10**9, "nanosec": nanoseconds % 10**9}


def read(path: str | Path, interface: Interface, columns: dict[str, Column]) -> list[dict[str, Array]]:
    """What a bag says of an interface, by the times at which it was recorded; a step every `dt`.

    An observation is the newest message that had come by then. An action is the first that came within the step, as whoever
    acted had seen the observation then; where none came, the one before still holds. Where a topic is silent for longer than
    its `max_age`, an episode ends.

    Args:
        path: of the bag, or of an .mcap or ROS 1 .bag file.
        interface: what the arrays are to be.
        columns: of every observation field and the action, by name.

    Returns:
        Episodes of at least two steps: `observation.<field>` and `action`, (T, *shape) each.

    Raises:
        DatasetError: no bag, a topic that it lacks, or nowhere all topics at once.
        InterfaceError: a value that does not have its field's shape.
    """
    series = {name: _series(Path(path), interface.field(name), column) for name, column in columns.items()}
    origin = min(times[0] for times, _ in series.values())
    clocks = {name: 1e-9 * (times - origin) for name, (times, _) in series.items()}
    begin, end = max(clock[0] for clock in clocks.values()), max(clock[-1] for clock in clocks.values())
    steps = begin + np.arange(int((end - begin) / interface.dt + SLACK) + 1) * interface.dt
    found, whole = {}, np.ones(len(steps), bool)
    for name, clock in clocks.items():
        at = np.searchsorted(clock, steps + SLACK, side="right") - 1
        whole &= steps - clock[at] <= columns[name].max_age + SLACK
        field, key = interface.field(name), f"observation.{name}"
        if name == interface.action.name:
            first, key = np.minimum(np.searchsorted(clock, steps - SLACK), len(clock) - 1), "action"
            at = np.where((clock[first] >= steps - SLACK) & (clock[first] < steps + interface.dt - SLACK), first, at)
        found[key] = series[name][1][at].astype(field.dtype)
    edges = np.flatnonzero(np.diff(whole, prepend=False, append=False)).reshape(-1, 2)
    episodes = [{key: value[a:b] for key, value in found.items()} for a, b in edges if b - a > 1]
    if not episodes:
        ages = ", ".join(f"{name} {column.max_age}" for name, column in columns.items())
        raise DatasetError(f"'{path}' has nowhere all topics for two steps of {interface.dt} s; max_age [s]: {ages}")
    return episodes


def _series(path: Path, field: Field, column: Column) -> tuple[Array, Array]:
    """Times [ns] in order, and values."""
    times, values = [], []
    for when, message in messages(path, column.topic):
        try:
            found = [np.ravel(_pick(message, place.strip(), field.names)) for place in column.path.split(",")]
            values.append(np.concatenate(found).reshape(field.shape))
        except (KeyError, IndexError, ValueError, TypeError, MessageError) as error:
            raise InterfaceError(
                f"'{field.name}' is {field.shape}; '{column.path}' of '{column.topic}' does not give it: {error}"
            ) from error
        times.append(when)
    if not times:
        raise DatasetError(f"'{path}' has no message of '{column.topic}'")
    order = np.argsort(times, kind="stable")
    return np.array(times, np.int64)[order], np.array(values)[order]


def _pick(message: Any, path: str, names: tuple[str, ...]) -> Any:
    if path == "data" and "encoding" in message:
        return _picture(message)
    value = message
    for key in path.split("."):
        value = value[int(key)] if key.isdigit() else value[key]
    if names and path in ("position", "velocity", "effort") and "name" in message:
        place = {name: k for k, name in enumerate(message["name"])}
        return np.asarray(value)[[place[name] for name in names]]
    return value


def _picture(message: Message) -> Array:
    """Depth in metres (H, W), or colours (H, W, 3)."""
    encoding = message["encoding"]
    if encoding in DEPTH:
        kind, unit = DEPTH[encoding]
        dtype = np.dtype(kind).newbyteorder(">" if message["is_bigendian"] else "<")
        return rows(message, dtype.itemsize).copy().view(dtype).astype(np.float32) * np.float32(unit)
    if encoding not in COLOUR:
        raise MessageError(f"encoding '{encoding}'; accepted: {', '.join([*DEPTH, *COLOUR])}")
    size, order = COLOUR[encoding]
    full = rows(message, size)
    return full.reshape(len(full), -1, size)[..., order]


def messages(path: str | Path, topic: str) -> Iterator[tuple[int, Message]]:
    """When [ns] it was recorded and what, of one topic; by the definitions in the bag, so that any kind can be read.

    Raises:
        DatasetError: no bag, a damaged one, or no such topic.
    """
    highlevel, typesys = require("rosbags.highlevel", "ros"), require("rosbags.typesys", "ros")
    store = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
    try:
        with highlevel.AnyReader([Path(path)], default_typestore=store) as bag:
            chosen = [connection for connection in bag.connections if connection.topic == topic]
            if not chosen:
                known = ", ".join(sorted({connection.topic for connection in bag.connections}))
                raise DatasetError(f"'{path}' has no topic '{topic}'; it has {known or 'none'}")
            for connection, when, data in bag.messages(connections=chosen):
                yield when, _plain(bag.deserialize(data, connection.msgtype))
    except TillerError:
        raise
    except Exception as error:  # of the readers of four formats and two databases; a damaged file runs into any
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DatasetError(f"'{path}' is no readable bag: {told}") from error


def _plain(value: Any) -> Any:
    """A message as a dict."""
    if hasattr(value, "__msgtype__"):
        return {name: _plain(one) for name, one in vars(value).items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value
