"""Messages and operations as rosbridge's JSON: every kind there and back, and what is refused."""

import json
import math

import numpy as np
import pytest

from hardware.ros.messages import check, kinds
from hardware.ros.plain import Fragments, from_json, parse, to_json
from robot.core.errors import MessageError
from tests.hardware.ros.references import random_message, same

JOINTS = "sensor_msgs/msg/JointState"


@pytest.mark.parametrize("kind", kinds())
def test_every_kind_survives_json(kind):
    rng = np.random.default_rng(abs(hash(kind)) % 2**32)
    for _ in range(5):
        message = random_message(kind, rng)
        try:
            text = json.dumps(to_json(kind, message), allow_nan=False)
        except MessageError:  # some of the numbers are NaN
            continue
        back = from_json(kind, json.loads(text))
        check(kind, back)
        assert same(back, message)


@pytest.mark.parametrize(
    "change",
    [
        {"num": 3}, {"num": -1}, {"num": 0.5}, {"num": True}, {"total": 4}, {"total": "3"}, {"total": 10**9, "id": "y"},
        {"data": 1}, {"data": None}, {"id": []}, {"id": None},
    ],
)  # fmt: skip
def test_fragments_that_do_not_fit_are_refused(change):
    found = Fragments(1000)
    found.add({"id": "x", "data": "a", "num": 0, "total": 3})
    with pytest.raises(MessageError):
        found.add({"id": "x", "data": "b", "num": 1, "total": 3} | change)
    assert found.held == sum(len(text) for _, pieces in found.known.values() for text in pieces.values())


def test_fragments_that_nobody_ends_do_not_fill_the_memory():
    found, refused = Fragments(1000), 0
    for number in range(10_000):
        try:
            found.add({"id": number, "data": "a" * (number % 100), "num": 0, "total": 2})
        except MessageError:
            refused += 1
        assert found.held <= 1000
    assert refused > 100


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "1", '"x"', "{", '{"op": NaN}', '{"op": 1e999, "x": Infinity}', "[" * 5000, '{"a":' * 5000, b"\xff\xfe",
        "x" * 300,
        '{"op": "publish", "a": ' + "[" * 40 + "]" * 40 + "}",
    ],
)  # fmt: skip
def test_what_is_no_operation_is_refused(text):
    with pytest.raises(MessageError):
        parse(text, 100_000 if len(text) > 1000 else 250)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (JOINTS, '{"position": [1e999]}'), (JOINTS, '{"velocity": [-1e999, 0]}'), ("geometry_msgs/msg/Point", '{"x": 1e999}'),
        ("std_msgs/msg/Float32", '{"data": 1e300}'), ("std_msgs/msg/Float32MultiArray", '{"data": [1e300]}'),
        ("geometry_msgs/msg/Point", '{"x": 1%s}' % ("0" * 400)), ("std_msgs/msg/Int64", '{"data": 9223372036854775808}'),
        ("std_msgs/msg/UInt8", '{"data": -1}'), ("std_msgs/msg/UInt8MultiArray", '{"data": [256]}'),
        ("std_msgs/msg/UInt8MultiArray", '{"data": "no base64"}'), ("std_msgs/msg/Bool", '{"data": 1}'),
        ("std_msgs/msg/String", '{"data": null}'), ("std_msgs/msg/Int32", '{"data": 1.0}'),
    ],
)  # fmt: skip
def test_numbers_beyond_their_type_are_refused(kind, text):
    with pytest.raises(MessageError):
        from_json(kind, parse(text, 10_000))


def test_what_servers_send_for_nan_is_nan():
    found = from_json(JOINTS, {"position": [1, None, 2.5]})
    np.testing.assert_array_equal(found["position"], [1.0, np.nan, 2.5])
    assert math.isnan(from_json("geometry_msgs/msg/Point", {"x": None, "y": 2**60})["x"])
