"""Messages as JSON has them, by rosbridge's rules: rows of bytes are base64, what is left out has its default."""

import base64
import binascii
import json
import math
from typing import Any

import numpy as np

from hardware.ros.bridge import Message
from hardware.ros.messages import Type, check, default, fields
from robot.core.errors import MessageError

DEPTH = 32
"""Nothing that we know is nested deeper."""


def to_json(kind: str, message: Message) -> dict[str, Any]:
    """
    Raises:
        MessageError: not of its kind, or a number that JSON cannot say: NaN, infinite.
    """
    check(kind, message)
    return _to_message(kind, message, kind)


def _to_message(kind: str, message: Message, where: str) -> dict[str, Any]:
    return {name: _to(type, message[name], f"{where}.{name}") for name, type in fields(kind)}


def _to(type: Type, value: Any, where: str) -> Any:
    if not type.many:
        return _to_one(type, value, where)
    if type.number:
        row = np.frombuffer(value, np.uint8) if isinstance(value, bytes | bytearray | memoryview) else np.asarray(value)
        if type.dtype == np.uint8 and type.base != "bool":
            return base64.b64encode(row.astype(np.uint8).tobytes()).decode()
        if row.dtype.kind == "f" and not np.isfinite(row).all():
            raise MessageError(f"{where} is not finite, which JSON cannot say")
        return row.tolist()
    return [_to_one(type, one, where) for one in value]


def _to_one(type: Type, value: Any, where: str) -> Any:
    if type.nested:
        return _to_message(type.base, value, where)
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
    known = dict(fields(kind))
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
    kinds = (bool,) if type.base == "bool" else (int, float) if type.dtype.kind == "f" else (int,)
    if any(not isinstance(one, kinds) or (isinstance(one, bool) and type.base != "bool") for one in value):
        raise MessageError(f"{where} holds what is no {type.base}")
    try:
        return np.array(value, type.dtype)
    except (ValueError, OverflowError) as error:
        raise MessageError(f"{where} holds numbers that are no {type.base}") from error


def _from_one(type: Type, value: Any, where: str) -> Any:
    if type.nested:
        return _from_message(type.base, value, where)
    if type.base in ("string", "bool"):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MessageError(f"{where} is no number")
    return float(value) if type.dtype.kind == "f" and isinstance(value, int) and abs(value) < 2**53 else value


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
