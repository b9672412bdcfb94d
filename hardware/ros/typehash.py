"""The hash by which ROS 2 (Iron and later) knows that two sides mean the same message: RIHS01, over all names and types."""

import hashlib
import json
from functools import cache
from typing import Any

from hardware.ros.messages import Type, fields

IDS = {
    "int8": 2, "uint8": 3, "int16": 4, "uint16": 5, "int32": 6, "uint32": 7, "int64": 8, "uint64": 9, "float32": 10,
    "float64": 11, "char": 13, "bool": 15, "byte": 16, "string": 17,
}  # fmt: skip
NESTED, BOUNDED_STRING = 1, 21
ARRAY, BOUNDED_SEQUENCE, SEQUENCE = 48, 96, 144
"""What is added to the number of a type for many of it."""


@cache
def typehash(kind: str) -> str:
    """`RIHS01_` and 64 hexadecimal digits.

    Raises:
        MessageError: no such kind.
    """
    described: dict[str, dict[str, Any]] = {}
    _describe(kind, described)
    whole = {
        "type_description": described.pop(kind),
        "referenced_type_descriptions": [described[name] for name in sorted(described)],
    }
    return "RIHS01_" + hashlib.sha256(json.dumps(whole).encode()).hexdigest()


def _describe(kind: str, described: dict[str, dict[str, Any]]) -> None:
    """Adds a message and all that it uses. The order of the keys is part of the hash."""
    if kind in described:
        return
    known = fields(kind) or (("structure_needs_at_least_one_member", Type("uint8")),)
    described[kind] = {"type_name": kind, "fields": [{"name": name, "type": _type(type)} for name, type in known]}
    for _, type in known:
        if type.nested:
            _describe(type.base, described)


def _type(type: Type) -> dict[str, Any]:
    number = NESTED if type.nested else BOUNDED_STRING if type.bound else IDS[type.base]
    many = {"": 0, "array": ARRAY, "sequence": BOUNDED_SEQUENCE if type.size else SEQUENCE}[type.many]
    return {
        "type_id": many + number,
        "capacity": type.size,
        "string_capacity": type.bound,
        "nested_type_name": type.base if type.nested else "",
    }
