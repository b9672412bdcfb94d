"""Messages as bytes and back, as ROS 2 sends and records them: CDR version 1 behind four bytes of header.

For every kind two functions are written once, as text, and compiled: numbers that stand side by side on the wire, through all
levels of nesting, are one `struct` call, and a whole message is one expression of dicts. Walking the definition anew for each
message would take several times as long.

What is read may come from anyone: no count is believed before the bytes for it are there, and a message that is damaged in any
way raises MessageError. NaN and infinity pass; what they mean is not for the wire to say.
"""

import struct
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np

from hardware.ros.messages import NUMBERS, Array, Message, Type, array, check, check_count, fields
from robot.core.errors import MessageError

LITTLE, BIG = b"\x00\x01", b"\x00\x00"
"""The first two bytes of the header; the other two say nothing that matters to a reader."""
HEADER = 4
"""Bytes before the first byte of the message. Positions count from the header's begin, alignment from its end."""
ELEMENTS = 200_000
"""Most nested messages and strings in all lists of a message. Each takes some hundred bytes of memory where it came as a few."""
SLACK = 3
"""Bytes that may follow a message: DDS fills up to a multiple of four."""
WRONG = (MessageError, struct.error, KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError)
"""What a message that is not of its kind, or bytes that are not a message, run into."""
PADS = tuple(bytes(count) for count in range(8))
COUNT = struct.Struct("<I")
FLAGS = (False, True)
Path = tuple[str, ...]


class Codec:
    """Of one kind; `codec(kind)` keeps them.

    Raises:
        MessageError: no such kind.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._write = _writer(kind)
        self._read = {LITTLE: _reader(kind, "<"), BIG: _reader(kind, ">")}

    def write(self, message: Message, limit: int | None = None) -> bytes:
        """Little-endian bytes.

        Raises:
            MessageError: the message is not of this kind (names the field), or takes more than `limit` bytes.
        """
        out = bytearray(b"\x00\x01\x00\x00")
        try:
            self._write(message, out)
        except WRONG as error:
            check(self.kind, message)
            raise MessageError(f"{self.kind}: cannot be written ({error})") from error
        self._check_size(out, limit)
        return bytes(out)

    def read(self, data: bytes | bytearray | memoryview, limit: int | None = None) -> Message:
        """The message; its arrays are its own.

        Raises:
            MessageError: damaged, of another kind, or of more than `limit` bytes.
        """
        self._check_size(data, limit)
        data = bytes(data)
        read = self._read.get(data[:2])
        if read is None:
            raise MessageError(
                f"{self.kind}: begins with '{data[:HEADER].hex(' ')}', which is not CDR version 1 (00 01 or 00 00)"
            )
        try:
            message, end = read(data, HEADER, [ELEMENTS])
        except WRONG as error:
            raise MessageError(f"{self.kind}: {len(data)} damaged bytes ({error})") from error
        if not 0 <= len(data) - end <= SLACK:
            raise MessageError(f"{self.kind}: ends after {end} of {len(data)} bytes; the sender has another definition of it")
        return message

    def _check_size(self, data: bytes | bytearray | memoryview, limit: int | None) -> None:
        if limit is not None and len(data) > limit:
            raise MessageError(f"{self.kind}: {len(data)} bytes are more than the limit of {limit}")


@cache
def codec(kind: str) -> Codec:
    """
    Raises:
        MessageError: no such kind.
    """
    return Codec(kind)


class Put:
    """What the compiled writers call. `out` grows; its length is the position."""

    @staticmethod
    def string(out: bytearray, value: str, bound: int) -> None:
        text = value.encode()
        if bound and len(text) > bound:
            raise ValueError("a string beyond its bound")
        out += PADS[-len(out) & 3] + COUNT.pack(len(text) + 1) + text + b"\0"

    @staticmethod
    def numbers(out: bytearray, value: Array, type: Type, dtype: "np.dtype[Any]") -> None:
        if value.__class__ is not np.ndarray or value.dtype != dtype or value.ndim != 1:
            value = array(type, value, "it")
        count = len(value)
        if type.size:
            check_count(type, count, "it")
        if type.many == "sequence":
            out += PADS[-len(out) & 3] + COUNT.pack(count)
        if count:
            out += PADS[(HEADER - len(out)) & (dtype.itemsize - 1)]
            out += np.ascontiguousarray(value).data

    @staticmethod
    def list(out: bytearray, value: list[Any], type: Type, put: Callable[[Any, bytearray], None]) -> None:
        if not isinstance(value, list | tuple):
            raise TypeError("not a list")
        check_count(type, len(value), "it")
        if type.many == "sequence":
            out += PADS[-len(out) & 3] + COUNT.pack(len(value))
        for one in value:
            put(one, out)

    @staticmethod
    def flag(value: Any) -> bool:
        if not isinstance(value, bool | np.bool_):
            raise TypeError("not a bool")
        return bool(value)


class Get:
    """What the compiled readers call, for one order of bytes. Each gives what stands at a position, and the next position."""

    def __init__(self, order: str) -> None:
        self._count = struct.Struct(order + "I").unpack_from

    def string(self, data: bytes, at: int, bound: int) -> tuple[str, int]:
        at += -at & 3
        (size,) = self._count(data, at)
        at += 4
        if not size:  # some senders leave out the zero that ends an empty string
            return "", at
        end = at + size
        if end > len(data) or data[end - 1]:
            raise ValueError(f"at {at}: a string that does not end")
        if bound and size > bound + 1:
            raise ValueError(f"at {at}: a string beyond its bound")
        return data[at : end - 1].decode(), end

    def count(self, data: bytes, at: int, type: Type, least: int) -> tuple[int, int]:
        """How many follow, each of which takes `least` bytes."""
        count = type.size
        if type.many == "sequence":
            at += -at & 3
            (count,) = self._count(data, at)
            at += 4
            if type.size and count > type.size:
                raise ValueError(f"at {at}: {count} elements, more than {type.size}")
        if count * least > len(data) - at:
            raise ValueError(f"at {at}: {count} elements in {len(data) - at} bytes")
        return count, at

    def numbers(self, data: bytes, at: int, type: Type, dtype: "np.dtype[Any]") -> tuple[Array, int]:
        size = dtype.itemsize
        count, at = self.count(data, at, type, size)
        if not count:
            return np.zeros(0, type.dtype), at
        at += (HEADER - at) & (size - 1)
        found = np.ndarray(count, dtype, data, at)  # refuses to look beyond the end
        if dtype.kind == "b" and found.view(np.uint8).max() > 1:
            raise ValueError(f"at {at}: a bool that is neither 0 nor 1")
        return found.astype(type.dtype), at + count * size

    def list(
        self, data: bytes, at: int, left: list[int], type: Type, least: int, get: Callable[..., tuple[Any, int]]
    ) -> tuple[list[Any], int]:
        count, at = self.count(data, at, type, least)
        left[0] -= count
        if left[0] < 0:
            raise ValueError(f"more than {ELEMENTS} strings and messages in lists")
        found = []
        for _ in range(count):
            one, at = get(data, at, left)
            found.append(one)
        return found, at


class Runs(dict[int, "struct.Struct"]):
    """Numbers that follow one another, by position & 7: what is left out for alignment depends on it."""

    def __init__(self, order: str, letters: str) -> None:
        super().__init__((start, struct.Struct(order + _padded(letters, (start - HEADER) & 7))) for start in range(8))


def _padded(letters: str, place: int) -> str:
    found = ""
    for letter in letters:
        size = struct.calcsize("<" + letter)
        found += "x" * (-place % size) + letter
        place += -place % size + size
    return found


def _least(kind: str) -> int:
    """Bytes that a message takes at least, alignment aside."""
    return sum(_least_of(type) for _, type in fields(kind)) or 1


def _least_of(type: Type) -> int:
    if type.many == "sequence":
        return COUNT.size
    one = type.dtype.itemsize if type.number else _least(type.base) if type.nested else COUNT.size
    return one * (type.size if type.many else 1)


def _steps(kind: str, at: Path = ()) -> Iterator[tuple[Path, Type]]:
    """What stands on the wire, with the way to it through the nested messages. A message without fields is one byte there."""
    known = fields(kind)
    if not known:
        yield (*at, ""), Type("uint8")
    for name, type in known:
        if type.nested and not type.many:
            yield from _steps(type.base, (*at, name))
        else:
            yield (*at, name), type


def _grouped(kind: str) -> Iterator[list[tuple[Path, Type]]]:
    """Single numbers that follow one another together, everything else alone."""
    run: list[tuple[Path, Type]] = []
    for path, type in _steps(kind):
        if type.number and not type.many:
            run.append((path, type))
            continue
        yield from filter(None, (run, [(path, type)]))
        run = []
    yield from filter(None, (run,))


def _compiled(kind: str, head: str, lines: list[str], names: dict[str, Any]) -> Any:
    exec(compile("\n    ".join([head, *lines]), f"<{kind}>", "exec"), names)
    return names["made"]


@cache
def _writer(kind: str) -> Callable[[Any, bytearray], None]:
    """A function of a message and the bytes so far, which it adds to."""
    names: dict[str, Any] = {"Put": Put}
    nested = dict(_nested(kind))
    dicts = {path: f"m{number}" for number, path in enumerate(nested)}
    lines = [f"{dicts[path]} = {dicts[path[:-1]]}[{path[-1]!r}]" for path in nested if path]
    sizes = " or ".join(f"len({dicts[path]}) != {len(fields(base))}" for path, base in nested.items())
    lines.append(f"if {sizes}: raise KeyError('a field too many')")
    for number, group in enumerate(_grouped(kind)):
        values = [f"{dicts[path[:-1]]}[{path[-1]!r}]" if path[-1] else "0" for path, _ in group]
        lines += _put(number, [type for _, type in group], values, names)
    return _compiled(kind, "def made(m0, out):", lines, names)


def _nested(kind: str, at: Path = ()) -> Iterator[tuple[Path, str]]:
    yield at, kind
    for name, type in fields(kind):
        if type.nested and not type.many:
            yield from _nested(type.base, (*at, name))


def _put(number: int, types: list[Type], values: list[str], names: dict[str, Any]) -> list[str]:
    """Lines that write the values of a group, given as expressions."""
    type, value = types[0], values[0]
    if not type.many and type.number:
        names[f"run{number}"] = Runs("<", "".join(NUMBERS[type.base] for type in types))
        flags = [f"Put.flag({one})" if type.base == "bool" else one for one, type in zip(values, types, strict=True)]
        return [f"out += run{number}[len(out) & 7].pack({', '.join(flags)})"]
    names[f"type{number}"] = type
    if not type.many:
        return [f"Put.string(out, {value}, {type.bound})"]
    if type.number:
        names[f"dtype{number}"] = type.dtype
        return [f"Put.numbers(out, {value}, type{number}, dtype{number})"]
    if type.nested:
        names[f"put{number}"] = _writer(type.base)
    else:
        names[f"put{number}"] = lambda value, out: Put.string(out, value, type.bound)
    return [f"Put.list(out, {value}, type{number}, put{number})"]


@cache
def _reader(kind: str, order: str) -> Callable[[bytes, int, list[int]], tuple[Message, int]]:
    """A function of bytes, a position and how many elements may still come, which gives a message and the next position."""
    get = Get(order)
    names: dict[str, Any] = {"get": get, "FLAGS": FLAGS}
    lines, found = [], {}
    for number, group in enumerate(_grouped(kind)):
        added, values = _get(number, [type for _, type in group], names, get, order)
        lines += added
        found |= dict(zip((path for path, _ in group), values, strict=True))
    lines.append(f"return {_expression(kind, (), found)}, at")
    return _compiled(kind, "def made(data, at, left):", lines, names)


def _expression(kind: str, at: Path, found: dict[Path, str]) -> str:
    """The dict of a message, of the variables that hold its parts."""
    parts = []
    for name, type in fields(kind):
        path = (*at, name)
        parts.append(f"{name!r}: {_expression(type.base, path, found) if path not in found else found[path]}")
    return "{" + ", ".join(parts) + "}"


def _get(number: int, types: list[Type], names: dict[str, Any], get: Get, order: str) -> tuple[list[str], list[str]]:
    """Lines that read a group, and for each of it an expression of its value."""
    type, value = types[0], f"v{number}"
    if not type.many and type.number:
        letters = "".join("B" if type.base == "bool" else NUMBERS[type.base] for type in types)
        names[f"run{number}"] = Runs(order, letters)
        values = [f"{value}_{k}" for k in range(len(types))]
        lines = [
            f"run = run{number}[at & 7]",
            f"{', '.join(values)}, = run.unpack_from(data, at)",
            "at += run.size",
        ]
        return lines, [f"FLAGS[{one}]" if type.base == "bool" else one for one, type in zip(values, types, strict=True)]
    names[f"type{number}"] = type
    if not type.many:
        return [f"{value}, at = get.string(data, at, {type.bound})"], [value]
    if type.number:
        names[f"dtype{number}"] = np.dtype(order + NUMBERS[type.base])
        return [f"{value}, at = get.numbers(data, at, type{number}, dtype{number})"], [value]
    if type.nested:
        names[f"get{number}"], least = _reader(type.base, order), _least(type.base)
    else:
        names[f"get{number}"], least = lambda data, at, left: get.string(data, at, type.bound), COUNT.size
    return [f"{value}, at = get.list(data, at, left, type{number}, {least}, get{number})"], [value]
