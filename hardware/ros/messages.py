"""What ROS messages are made of.

A message is a dict: numbers, strings, nested dicts, numpy arrays for arrays of numbers, lists for the rest. The definitions stand
in definitions.txt beside this file; kinds are written as ROS 2 does, `sensor_msgs/msg/JointState`.
"""

import difflib
import re
import reprlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from robot.core.errors import MessageError

Message = dict[str, Any]
Array = np.ndarray[Any, Any]

DEFINITIONS = Path(__file__).with_name("definitions.txt")
NUMBERS = {
    "bool": "?", "byte": "B", "char": "B", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I",
    "int64": "q", "uint64": "Q", "float32": "f", "float64": "d",
}  # fmt: skip
"""Types of numbers: the letter that `struct` and numpy have for them."""
TYPE = re.compile(r"(?P<base>[\w/]+)(<=(?P<bound>\d+))?(?P<many>\[(?P<most><=)?(?P<size>\d*)\])?")
RULE = "=" * 80
"""Between the definitions of a message and those that it uses, in bags."""


@dataclass(frozen=True)
class Type:
    """Of a field."""

    base: str
    """A key of NUMBERS, "string", or the kind of a nested message."""
    many: str = ""
    """"" one; "array" exactly `size`; "sequence" at most `size`, any number if that is 0."""
    size: int = 0
    bound: int = 0
    """Of a string, in bytes; 0 for none."""

    @property
    def number(self) -> bool:
        return self.base in NUMBERS

    @property
    def nested(self) -> bool:
        return self.base not in NUMBERS and self.base != "string"

    @property
    def dtype(self) -> "np.dtype[Any]":
        """Of an array of these numbers; little-endian."""
        return np.dtype("<" + NUMBERS[self.base])

    def __str__(self) -> str:
        """As in a .msg file."""
        base = self.base.replace("/msg/", "/") + (f"<={self.bound}" if self.bound else "")
        return base + {"": "", "array": f"[{self.size}]", "sequence": f"[<={self.size}]" if self.size else "[]"}[self.many]


@dataclass(frozen=True)
class Definition:
    fields: tuple[tuple[str, Type], ...]
    defaults: dict[str, int]
    """Of the fields whose default is not 0."""
    constants: tuple[tuple[str, str, int], ...]
    """Type, name, value."""


@cache
def _catalogue() -> dict[str, Definition]:
    found: dict[str, list[list[str]]] = {}
    rows: list[list[str]] = []
    for line in DEFINITIONS.read_text().splitlines():
        if line.startswith(" "):
            rows.append(line.split())
        elif line and not line.startswith("#"):
            rows = found[line.replace("/", "/msg/")] = []
    return {kind: _parse(rows) for kind, rows in found.items()}


def _parse(rows: list[list[str]]) -> Definition:
    fields, defaults, constants = [], {}, []
    for base, *names in rows:
        for name in names:
            if "=" in name:
                constant, value = name.split("=")
                constants.append((base, constant, int(value)))
                continue
            name, _, value = name.partition(":")
            fields.append((name, _type(base)))
            if value:
                defaults[name] = int(value)
    return Definition(tuple(fields), defaults, tuple(constants))


def _type(text: str) -> Type:
    found = TYPE.fullmatch(text)
    assert found is not None, text
    many = "" if found["many"] is None else "sequence" if found["most"] or not found["size"] else "array"
    return Type(found["base"].replace("/", "/msg/"), many, int(found["size"] or 0), int(found["bound"] or 0))


def kinds() -> tuple[str, ...]:
    """Every kind there is a definition of."""
    return tuple(_catalogue())


def lookup(kind: str) -> Definition:
    """
    Raises:
        MessageError: no such kind; names the nearest.
    """
    found = _catalogue().get(kind)
    if found is None:
        near = difflib.get_close_matches(kind, kinds(), n=3, cutoff=0.5) or ["sensor_msgs/msg/JointState"]
        raise MessageError(f"there is no definition of the message '{kind}' in {DEFINITIONS.name}; near it: {', '.join(near)}")
    return found


def fields(kind: str) -> tuple[tuple[str, Type], ...]:
    """Names and types, in the order of the wire.

    Raises:
        MessageError: no such kind.
    """
    return lookup(kind).fields


def constants(kind: str) -> dict[str, int]:
    """By name, those that belong to a kind."""
    return {name: value for _, name, value in lookup(kind).constants}


def default(kind: str) -> Message:
    """Numbers are 0, but for the few that ROS starts otherwise (w of a quaternion); strings and sequences are empty."""
    known = lookup(kind)
    return {name: _default(type, known.defaults.get(name, 0)) for name, type in known.fields}


def _default(type: Type, value: int) -> Any:
    count = type.size if type.many == "array" else 0
    if type.many:
        return np.zeros(count, type.dtype) if type.number else [_default(Type(type.base), 0) for _ in range(count)]
    if type.nested:
        return default(type.base)
    return "" if type.base == "string" else {"?": bool, "f": float, "d": float}.get(NUMBERS[type.base], int)(value)


def definition(kind: str) -> str:
    """The .msg text, followed by those of the messages that it uses, each once, as bags keep it."""
    used = list(dict.fromkeys(_used(kind)))
    return _text(kind) + "".join(f"{RULE}\nMSG: {name.replace('/msg/', '/')}\n{_text(name)}" for name in used)


def _used(kind: str) -> Iterator[str]:
    for _, type in fields(kind):
        if type.nested:
            yield type.base
            yield from _used(type.base)


def _text(kind: str) -> str:
    known = lookup(kind)
    lines = [f"{base} {name}={value}" for base, name, value in known.constants] + [
        f"{type} {name}" for name, type in known.fields
    ]
    return "\n".join([*lines, ""])


def check(kind: str, message: Any) -> None:
    """
    Raises:
        MessageError: a field is missing, unknown, of another type or out of its range; says which.
    """
    _check_message(kind, kind, message, "")


def _check_message(whole: str, kind: str, message: Any, where: str) -> None:
    if not isinstance(message, dict):
        raise MessageError(f"{_at(whole, where)} is {reprlib.repr(message)}, not a dict of {kind}")
    known = fields(kind)
    if len(message) != len(known) or any(name not in message for name, _ in known):
        names = [name for name, _ in known]
        wrong = [f"has no '{name}'" for name in names if name not in message]
        wrong += [f"has an unknown '{name}'" for name in message if name not in names]
        raise MessageError(f"{_at(whole, where)} {wrong[0]}; {kind} has: {', '.join(names) or 'no fields'}")
    for name, type in known:
        _check(whole, type, message[name], f"{where}.{name}" if where else name)


def _check(whole: str, type: Type, value: Any, where: str) -> None:
    if not type.many:
        _check_one(whole, type, value, where)
    elif type.number:
        array(type, value, _at(whole, where))
    else:
        if not isinstance(value, list | tuple):
            raise MessageError(f"{_at(whole, where)} is {reprlib.repr(value)}, not a list of {type.base}")
        check_count(type, len(value), _at(whole, where))
        for index, one in enumerate(value):
            _check_one(whole, type, one, f"{where}[{index}]")


def _check_one(whole: str, type: Type, value: Any, where: str) -> None:
    if type.nested:
        _check_message(whole, type.base, value, where)
    elif type.base == "string":
        text(type, value, _at(whole, where))
    elif type.base == "bool":
        if not isinstance(value, bool | np.bool_):
            raise MessageError(f"{_at(whole, where)} is {reprlib.repr(value)}, not a bool")
    else:
        try:
            struct.pack("<" + NUMBERS[type.base], value)
        except (struct.error, TypeError, ValueError, OverflowError) as error:
            raise MessageError(f"{_at(whole, where)} is {reprlib.repr(value)}, not of type {type.base}") from error


def _at(whole: str, where: str) -> str:
    return f"{whole}: {where or 'the message'}"


def check_count(type: Type, count: int, where: str) -> None:
    """How many there are."""
    if (type.many == "array" and count != type.size) or (type.size and count > type.size):
        raise MessageError(f"{where} has {count} elements, {'not' if type.many == 'array' else 'more than'} {type.size}")


def text(type: Type, value: Any, where: str) -> bytes:
    """A string as it travels: UTF-8, within its bound."""
    if not isinstance(value, str):
        raise MessageError(f"{where} is {reprlib.repr(value)}, not a string")
    try:
        found = value.encode()
    except UnicodeEncodeError as error:
        raise MessageError(f"{where} is {reprlib.repr(value)}, which is not Unicode") from error
    if type.bound and len(found) > type.bound:
        raise MessageError(f"{where} has {len(found)} bytes, more than {type.bound}")
    return found


def array(type: Type, value: Any, where: str) -> Array:
    """A row of numbers from an array, a list, or bytes, in the dtype that it travels in; nothing is cut off or wrapped around.

    Raises:
        MessageError: not a row, too many or too few, or numbers that the type cannot hold.
    """
    raw = isinstance(value, bytes | bytearray | memoryview)
    if raw and type.dtype != np.uint8:
        raise MessageError(f"{where} is bytes, not a row of {type.base}")
    try:
        found = np.frombuffer(value, np.uint8) if raw else np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise MessageError(f"{where} is {reprlib.repr(value)}, not a row of {type.base}") from error
    if found.ndim != 1:
        raise MessageError(f"{where} has the shape {found.shape}, not that of a row of {type.base}")
    check_count(type, len(found), where)
    wanted = type.dtype
    if found.dtype == wanted:
        return found
    if not len(found):
        return np.zeros(0, wanted)
    if found.dtype.kind not in {"b": "b", "i": "iu", "u": "iu", "f": "fiu"}[wanted.kind]:
        raise MessageError(f"{where} holds {found.dtype}, not {type.base}")
    with np.errstate(over="ignore"):
        fitted = found.astype(wanted)
    if wanted.kind in "iu" and (fitted != found).any():
        raise MessageError(f"{where} holds numbers that are no {type.base}")
    if wanted.kind == "f" and (np.isinf(fitted) & np.isfinite(found)).any():
        raise MessageError(f"{where} holds numbers that are too large for {type.base}")
    return fitted
