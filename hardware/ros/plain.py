"""Messages as JSON has them, by rosbridge's rules: rows of bytes are base64, what is left out has its default, and what is no
number (NaN, infinite) comes as null.

ROS 1 names a few fields otherwise: secs and nsecs of times, K for k of a camera. Both are read; which is written is told.
"""

import base64
import binascii
import builtins
import json
import math
from types import NoneType
from typing import Any

import numpy as np

from hardware.ros.bridge import Message
from hardware.ros.messages import Type, check, default, fields
from robot.core.errors import MessageError

DEPTH = 32
"""Nothing that we know is nested deeper."""
PIECES = 4096
"""Fragments of one operation, and operations that are incomplete at a time, at most."""
RENAMED = {
    "builtin_interfaces/msg/Time": {"sec": "secs", "nanosec": "nsecs"},
    "builtin_interfaces/msg/Duration": {"sec": "secs", "nanosec": "nsecs"},
    "sensor_msgs/msg/CameraInfo": {name: name.upper() for name in "dkrp"},
}
"""By kind: fields that have another name in ROS 1."""
FORMER = {kind: {old: new for new, old in names.items()} for kind, names in RENAMED.items()}


def to_json(kind: str, message: Message, ros: int = 2) -> dict[str, Any]:
    """In the names of ROS 2, or 1.

    Raises:
        MessageError: not of its kind, or a number that JSON cannot say: NaN, infinite.
    """
    check(kind, message)
    return _to_message(kind, message, kind, RENAMED if ros == 1 else {})


def _to_message(kind: str, message: Message, where: str, names: dict[str, dict[str, str]]) -> dict[str, Any]:
    known = names.get(kind, {})
    return {known.get(name, name): _to(type, message[name], f"{where}.{name}", names) for name, type in fields(kind)}


def _to(type: Type, value: Any, where: str, names: dict[str, dict[str, str]]) -> Any:
    if not type.many:
        return _to_one(type, value, where, names)
    if type.number:
        row = np.frombuffer(value, np.uint8) if isinstance(value, bytes | bytearray | memoryview) else np.asarray(value)
        if type.base in ("uint8", "char"):
            return base64.b64encode(row.astype(np.uint8).tobytes()).decode()
        if row.dtype.kind == "f" and not np.isfinite(row).all():
            raise MessageError(f"{where} is not finite, which JSON cannot say")
        return row.tolist()
    return [_to_one(type, one, where, names) for one in value]


def _to_one(type: Type, value: Any, where: str, names: dict[str, dict[str, str]]) -> Any:
    if type.nested:
        return _to_message(type.base, value, where, names)
    if type.base == "string":
        return value
    if type.base == "bool":
        return bool(value)
    if type.dtype.kind == "f":
        if not math.isfinite(value):
            raise MessageError(f"{where} is {value}, which JSON cannot say")
        return float(value)
    return int(value)


def from_json(kind: str, data: Any) -> Message:
    """
    Raises:
        MessageError: not an object, an unknown field, or a value that is not of its type.
    """
    message = _from_message(kind, data, kind)
    check(kind, message)
    return message


def _from_message(kind: str, data: Any, where: str) -> Message:
    if not isinstance(data, dict):
        raise MessageError(f"{where} is no object")
    known, former = dict(fields(kind)), FORMER.get(kind, {})
    if former:
        data = {former.get(name, name): value for name, value in data.items()}
    unknown = [name for name in data if name not in known and not (name == "seq" and kind == "std_msgs/msg/Header")]
    if unknown:
        raise MessageError(f"{where} has an unknown '{str(unknown[0])[:40]}'; there are {', '.join(known)}")
    message = default(kind)
    for name, value in data.items():
        if name in known:
            message[name] = _from(known[name], value, f"{where}.{name}")
    return message


def _from(type: Type, value: Any, where: str) -> Any:
    if not type.many:
        return _from_one(type, value, where)
    if type.number and type.dtype == np.uint8 and isinstance(value, str):
        try:
            return np.frombuffer(base64.b64decode(value, validate=True), np.uint8)
        except (binascii.Error, ValueError) as error:
            raise MessageError(f"{where} is no base64: {error}") from error
    if not isinstance(value, list):
        raise MessageError(f"{where} is no list")
    if not type.number:
        return [_from_one(type, one, where) for one in value]
    if not set(map(builtins.type, value)) <= _kinds(type):
        raise MessageError(f"{where} holds what is no {type.base}")
    try:
        with np.errstate(over="ignore"):
            row = np.array(value, type.dtype)
    except (ValueError, OverflowError) as error:
        raise MessageError(f"{where} holds numbers that are no {type.base}") from error
    if type.dtype.kind == "f" and np.isinf(row).any():
        raise MessageError(f"{where} holds numbers that are too large for {type.base}")
    return row


def _kinds(type: Type) -> set[builtins.type]:
    """What JSON has for numbers of a type."""
    if type.base == "bool":
        return {bool}
    return {int, float, NoneType} if type.dtype.kind == "f" else {int}


def _from_one(type: Type, value: Any, where: str) -> Any:
    if type.nested:
        return _from_message(type.base, value, where)
    if type.base in ("string", "bool"):
        return value
    if builtins.type(value) not in _kinds(type):
        raise MessageError(f"{where} is no {type.base}")
    if type.dtype.kind != "f":
        return value
    try:
        found = math.nan if value is None else float(value)
    except OverflowError:
        found = math.inf
    if math.isinf(found):
        raise MessageError(f"{where} is too large for {type.base}")
    return found


def parse(text: str | bytes, limit: int) -> dict[str, Any]:
    """One operation of rosbridge.

    Raises:
        MessageError: longer than `limit` bytes, not JSON, not an object, nested too deep, or with NaN, which is not JSON either.
    """
    if len(text) > limit:
        raise MessageError(f"an operation of {len(text)} bytes; at most {limit} are read")
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise MessageError(f"not JSON: {str(error)[:100]}") from error
    if not isinstance(found, dict) or _deep(found):
        raise MessageError("an operation is an object, and not nested this deep")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _deep(value: Any, depth: int = 0) -> bool:
    if depth > DEPTH:
        return True
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(isinstance(one, dict | list) and _deep(one, depth + 1) for one in inner)


class Fragments:
    """Puts operations together whose fragments come in whatever order; holds `limit` characters at most."""

    def __init__(self, limit: int) -> None:
        self.limit, self.held = limit, 0
        self.known: dict[str, tuple[int, dict[int, str]]] = {}

    def add(self, part: dict[str, Any]) -> str | None:
        """The whole text with its last fragment, else None.

        Raises:
            MessageError: no id, data, num and total that fit each other; or too much is incomplete, and all of it is let go of.
        """
        name, text, number, total = (part.get(key) for key in ("id", "data", "num", "total"))
        if not isinstance(name, str | int) or not isinstance(text, str) or type(number) is not int or type(total) is not int:
            raise MessageError("a fragment needs id, data, num and total")
        known_total, pieces = self.known.setdefault(str(name), (total, {}))
        if not 0 <= number < total == known_total or total > PIECES:
            self._forget(str(name))
            raise MessageError(f"fragment {number} of {total}; there are at most {PIECES}, and as many as the first said")
        self.held += len(text) - len(pieces.get(number, ""))
        pieces[number] = text
        if self.held > self.limit or len(self.known) > PIECES:
            self.known, self.held = {}, 0
            raise MessageError("more fragments than are kept")
        if len(pieces) < total:
            return None
        self._forget(str(name))
        return "".join(pieces[k] for k in range(total))

    def _forget(self, name: str) -> None:
        self.held -= sum(map(len, self.known.pop(name)[1].values()))
