"""Random messages, and the same messages in the terms of rosbags and of Cyclone DDS, by rosbags' definitions instead of ours."""

from functools import cache

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_typestore

from hardware.ros.messages import NUMBERS, fields

LETTERS = np.array(list("abz_/ 09é漢\U0001f916"))
EXTREMES = [0.0, -0.0, 1.0, np.pi, np.inf, -np.inf, np.nan, 5e-324, -1.7e308, 1e-40, 3e38]


@cache
def store(name="ROS2_JAZZY"):
    return get_typestore(getattr(Stores, name))


def random_message(kind, rng):
    """Over whole ranges, and with the values that break things more often than they deserve."""
    return {name: _many(type, rng) for name, type in fields(kind)}


def _many(type, rng):
    if not type.many:
        return _one(type, rng)
    count = type.size if type.many == "array" else int(rng.integers(0, min(type.size or 4, 4) + 1))
    values = [_one(type, rng) for _ in range(count)]
    return np.array(values, type.dtype) if type.number else values


def _one(type, rng):
    if type.nested:
        return random_message(type.base, rng)
    if type.base == "string":
        return "".join(rng.choice(LETTERS, rng.integers(0, 9)))[: type.bound or None]
    if type.base == "bool":
        return bool(rng.integers(2))
    dtype = np.dtype(NUMBERS[type.base])
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return float(dtype.type(rng.choice(EXTREMES) if rng.random() < 0.3 else rng.normal() * 10.0 ** rng.integers(-9, 9)))
    limits = np.iinfo(dtype)
    if rng.random() < 0.3:
        return int((limits.min, limits.max)[rng.integers(2)])
    return int(rng.integers(limits.min, limits.max, dtype=dtype, endpoint=True))


def same(one, other):
    """Equal to the last bit, NaN included, and of the same types."""
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and one.tobytes() == other.tobytes()
    return type(one) is type(other) and (one == other or (one != one and other != other))


def _known(kind):
    return store().fielddefs[kind][1]


def rosbags_message(kind, message):
    """An object of rosbags."""

    def one(description, value):
        what, detail = description
        if what == Nodetype.NAME:
            return rosbags_message(detail, value)
        if what == Nodetype.BASE and detail[0] == "byte":  # which rosbags takes for signed
            return value - 256 if value > 127 else value
        return [one(detail[0], each) for each in value] if what != Nodetype.BASE and not isinstance(value, np.ndarray) else value

    return store().types[kind](**{name: one(description, message.get(name, 0)) for name, description in _known(kind)})


def cyclone_message(kind, message):
    """An object of Cyclone DDS."""

    def one(description, value):
        what, detail = description
        if what == Nodetype.NAME:
            return cyclone_message(detail, value)
        if what == Nodetype.BASE:
            return value
        return value.tolist() if isinstance(value, np.ndarray) else [one(detail[0], each) for each in value]

    return cyclone_type(kind)(**{name: one(description, message.get(name, 0)) for name, description in _known(kind)})


@cache
def cyclone_type(kind):
    from cyclonedds.idl import make_idl_struct, types

    def one(description):
        what, detail = description
        if what == Nodetype.NAME:
            return cyclone_type(detail)
        if what == Nodetype.BASE:
            simple = {"bool": bool, "char": types.uint8, "string": types.bounded_str[detail[1]] if detail[1] else str}
            return simple.get(detail[0]) or getattr(types, detail[0])
        inner, size = one(detail[0]), detail[1]
        if what == Nodetype.ARRAY:
            return types.array[inner, size]
        return types.sequence[inner, size] if size else types.sequence[inner]

    package, name = kind.split("/msg/")
    return make_idl_struct(
        f"{name}_", f"{package}::msg::dds_::{name}_", {name: one(description) for name, description in _known(kind)}
    )


def panda(kind="sensor_msgs/msg/JointState"):
    """A state of seven joints, as it travels most."""
    rows = {name: np.linspace(-1, 1, 7) for name in ("position", "velocity", "effort")}
    header = {"stamp": {"sec": 12, "nanosec": 345}, "frame_id": "base"}
    return {"header": header, "name": [f"joint{k}" for k in range(1, 8)], **rows}
