"""Recordings as rosbag2 and MCAP, and bags as arrays: Foxglove and ROS tools read ours, and we learn from theirs."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf

from hardware.recorder import Recording
from hardware.ros.bridge import Message
from hardware.ros.cdr import codec
from hardware.ros.messages import default, definition
from hardware.ros.typehash import typehash
from robot.core.errors import DatasetError, InterfaceError, MessageError
from robot.core.interface import Field, Interface
from robot.core.optional import require
from robot.core.rotation import from_matrix, to_xyzw

Array = NDArray[Any]
IMAGE, JOINTS, NUMBERS = "sensor_msgs/msg/Image", "sensor_msgs/msg/JointState", "std_msgs/msg/Float64MultiArray"
POSE, HEALTH = "geometry_msgs/msg/PoseStamped", "diagnostic_msgs/msg/DiagnosticArray"
LEVELS = {"hold": 2, "stopped": 1}
"""diagnostic_msgs/DiagnosticStatus of modes that are not ok."""
LIMIT = 1 << 26
"""Bytes of the largest message that is read or written."""
VERSION = 9
"""Of rosbag2's own file."""


@dataclass
class Column:
    """Where a field of an episode stands in a bag."""

    topic: str
    """Such as /joint_states."""
    path: str
    """Of the value in the message, with dots: position, pose.pose.position.x; several with commas."""


def described(file: str | Path) -> tuple[Interface, dict[str, Column]]:
    """What a yaml says of where the fields of an Interface stand in a bag.

        dt: 0.05
        action: {name: targets, topic: /arm/targets, path: position, shape: [7], unit: rad}
        observation:
          - {name: joints, topic: /joint_states, path: position, shape: [7], unit: rad}

    Raises:
        DatasetError: no such file, or a key is missing.
    """
    try:
        told: Any = OmegaConf.to_container(OmegaConf.load(file))
        rows = [*told["observation"], told["action"]]
        names = [tuple(row.get("names", ())) for row in rows]
        fields = [
            Field(row["name"], tuple(row["shape"]), row.get("dtype", "float32"), row.get("unit", ""), names=known)
            for row, known in zip(rows, names, strict=True)
        ]
        columns = {row["name"]: Column(row["topic"], row["path"]) for row in rows}
        return Interface(tuple(fields[:-1]), fields[-1], float(told["dt"])), columns
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"columns: '{file}' needs dt, observation and action, each with topic and path: {error!r}") from error


def kind_of(field: Field) -> str:
    """The message that says most about a field."""
    if len(field.shape) == 2 and field.dtype == "float32" and min(field.shape) > 4:
        return IMAGE
    if len(field.shape) == 3 and field.dtype == "uint8" and field.shape[2] == 3:
        return IMAGE
    joints = len(field.shape) == 1 and bool(field.names) and field.unit in ("rad", "m") and "position" not in field.name
    return JOINTS if joints else NUMBERS


def message_of(field: Field, value: Array, stamp: Message) -> Message:
    """One value as a message of `kind_of(field)`."""
    kind = kind_of(field)
    message, header = default(kind), {"stamp": stamp, "frame_id": field.frame}
    if kind == IMAGE:
        row = np.ascontiguousarray(value, "<f4" if field.dtype == "float32" else np.uint8)
        message |= {"header": header, "height": row.shape[0], "width": row.shape[1], "step": row.strides[0]}
        return message | {"encoding": "32FC1" if row.ndim == 2 else "rgb8", "data": np.frombuffer(row.tobytes(), np.uint8)}
    if kind == JOINTS:
        return message | {"header": header, "name": list(field.names), "position": np.asarray(value, np.float64)}
    sizes = [*field.shape]
    strides = [int(np.prod(sizes[k:])) for k in range(len(sizes))]
    label = ", ".join(field.names) or field.name
    dim = [{"label": label, "size": size, "stride": stride} for size, stride in zip(sizes, strides, strict=True)]
    return message | {"layout": {"dim": dim, "data_offset": 0}, "data": np.asarray(value, np.float64).ravel()}


def write(recording: Recording, path: str | Path, storage: str = "mcap") -> Path:
    """A bag, a folder with an .mcap or .db3 in it: every measurement once, what was wanted and sent in each period, every event.

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
    rows = sorted(_messages(recording, started["unix_s"] - started["monotonic_s"]), key=lambda row: row[2])
    with rosbag2.Writer(Path(path), version=VERSION, storage_plugin=plugin) as bag:
        known: dict[str, Any] = {}
        for topic, kind, when, message in rows:
            if topic not in known:
                texts = {"msgdef": definition(kind), "rihs01": typehash(kind)}
                known[topic] = bag.add_connection(topic, kind, **texts)
            bag.write(known[topic], when, codec(kind).write(message, LIMIT))
    return Path(path)


def _messages(recording: Recording, offset: float) -> Iterator[tuple[str, str, int, Message]]:
    """Topic, kind, time [ns], message."""
    interface, rows = recording.interface, recording.rows
    fresh = np.diff(rows["stamp"], prepend=-math.inf) > 0
    known = {field.name: field for field in interface.observation}
    for row in rows[fresh]:
        when = _nanoseconds(row["stamp"] + offset)
        for name, field in known.items():
            value = row[f"observation.{name}"]
            yield f"/observation/{name}", kind_of(field), when, message_of(field, value, _time(when))
        if "position" in known and known.get("rotation", known["position"]).shape == (3, 3):
            yield "/pose", POSE, when, _pose(row, _time(when))
    command = interface.action
    for row in rows:
        when = _nanoseconds(row["time"] + offset)
        for what in ("wanted", "sent"):
            if np.isfinite(row[what]).all():
                yield f"/command/{what}", kind_of(command), when, message_of(command, row[what], _time(when))
    for event in recording.events:
        when = _nanoseconds(event["time"] + offset)
        told = {"level": LEVELS.get(event["mode"], 0), "name": "servo loop", "hardware_id": str(recording.header["robot"])}
        status = (
            default("diagnostic_msgs/msg/DiagnosticStatus") | told | {"message": "; ".join([event["mode"], *event["reasons"]])}
        )
        yield "/diagnostics", HEALTH, when, {"header": {"stamp": _time(when), "frame_id": ""}, "status": [status]}


def _pose(row: Any, stamp: Message) -> Message:
    message = default(POSE)
    message["header"] = {"stamp": stamp, "frame_id": "world"}
    message["pose"]["position"] = dict(zip("xyz", map(float, row["observation.position"]), strict=True))
    q = to_xyzw(from_matrix(np.asarray(row["observation.rotation"], np.float64)))
    message["pose"]["orientation"] = dict(zip("xyzw", map(float, q), strict=True))
    return message


def _nanoseconds(seconds: float) -> int:
    return round(float(seconds) * 1e9)


def _time(nanoseconds: int) -> Message:
    return {"sec": nanoseconds // 10**9, "nanosec": nanoseconds % 10**9}


def read(path: str | Path, interface: Interface, columns: dict[str, Column]) -> dict[str, Array]:
    """What a bag says of an interface, on its clock: at every step the newest message that had come by then.

    Args:
        path: of the bag, or of an .mcap file.
        interface: what the arrays are to be; one step every `dt`.
        columns: of every observation field and the action, by name.

    Returns:
        `observation.<field>` and `action`, (T, *shape) each.

    Raises:
        DatasetError: no bag, or a topic that it lacks.
        InterfaceError: a value that does not have its field's shape.
    """
    series = {name: _series(Path(path), name, interface, column) for name, column in columns.items()}
    begin, end = max(times[0] for times, _ in series.values()), min(times[-1] for times, _ in series.values())
    steps = begin + np.arange(int((end - begin) / interface.dt + 1e-9) + 1) * interface.dt
    found = {}
    for name, (times, values) in series.items():
        at = np.maximum(np.searchsorted(times, steps + 1e-9, side="right") - 1, 0)
        field = interface.field(name)
        found["action" if name == interface.action.name else f"observation.{name}"] = values[at].astype(field.dtype)
    return found


def _series(path: Path, name: str, interface: Interface, column: Column) -> tuple[Array, Array]:
    field, times, values = interface.field(name), [], []
    for when, message in messages(path, column.topic):
        try:
            value = np.concatenate([np.ravel(_pick(message, place.strip())) for place in column.path.split(",")])
            values.append(value.reshape(field.shape))
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise InterfaceError(
                f"'{name}' is {field.shape}; '{column.path}' of '{column.topic}' does not give it: {error!r}"
            ) from error
        times.append(when)
    order = np.argsort(times, kind="stable")
    return np.array(times)[order], np.array(values)[order]


def _pick(message: Any, path: str) -> Any:
    if message.get("encoding") in ("32FC1", "rgb8") and path == "data":
        kind, depth = ("<f4", ()) if message["encoding"] == "32FC1" else (np.uint8, (3,))
        return np.frombuffer(bytes(message["data"]), kind).reshape(message["height"], message["width"], *depth)
    for key in path.split("."):
        message = message[int(key)] if key.isdigit() else message[key]
    return message


def messages(path: str | Path, topic: str) -> Iterator[tuple[float, Message]]:
    """When [s, of the bag's clock] and what, of one topic."""
    highlevel, typesys = require("rosbags.highlevel", "ros"), require("rosbags.typesys", "ros")
    store = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
    try:
        with highlevel.AnyReader([Path(path)], default_typestore=store) as bag:
            chosen = [connection for connection in bag.connections if connection.topic == topic]
            if not chosen:
                known = ", ".join(sorted({connection.topic for connection in bag.connections}))
                raise DatasetError(f"'{path}' has no topic '{topic}'; it has {known or 'none'}")
            for connection, when, data in bag.messages(connections=chosen):
                yield when / 1e9, codec(connection.msgtype).read(bytes(data), LIMIT)
    except (highlevel.AnyReaderError, OSError, json.JSONDecodeError, MessageError) as error:
        raise DatasetError(f"'{path}' is no readable bag: {str(error).splitlines()[0]}") from error
