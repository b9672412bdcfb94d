"""Bytes against rosbags and Cyclone DDS for every kind; what damaged, cut and lying bytes lead to."""

import contextlib
import tracemalloc

import numpy as np
import pytest

pytest.importorskip("rosbags")
pytest.importorskip("cyclonedds")

from hardware.ros.cdr import ELEMENTS, codec
from hardware.ros.messages import check, default, fields, kinds
from robot.core.errors import MessageError
from tests.hardware.ros.references import cyclone_message, panda, random_message, rosbags_message, same, store

STATE = "sensor_msgs/msg/JointState"


def agree(kind, count, seed):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        message = random_message(kind, rng)
        data = codec(kind).write(message)
        object = rosbags_message(kind, message)
        assert data == bytes(store().serialize_cdr(object, kind, little_endian=True))
        assert data == cyclone_message(kind, message).serialize(use_version_2=False)
        assert same(codec(kind).read(data), message)
        assert same(codec(kind).read(bytes(store().serialize_cdr(object, kind, little_endian=False))), message)


@pytest.mark.parametrize("kind", kinds())
def test_bytes_are_those_of_two_other_libraries(kind):
    agree(kind, 20, 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", kinds())
def test_a_thousand_messages_are_those_of_two_other_libraries(kind):
    agree(kind, 1000, 2)


def test_arrays_lists_and_bytes_of_numbers_travel_alike():
    message = panda()
    data = codec(STATE).write(message)
    listed = {**message, "position": message["position"].tolist(), "velocity": tuple(message["velocity"])}
    strided = {**message, "position": np.repeat(message["position"], 2)[::2], "effort": message["effort"].astype(">f8")}
    assert codec(STATE).write(listed) == codec(STATE).write(strided) == data
    image = {**default("sensor_msgs/msg/Image"), "data": b"\x00\xff"}
    assert codec("sensor_msgs/msg/Image").read(codec("sensor_msgs/msg/Image").write(image))["data"].tolist() == [0, 255]


def test_what_was_read_is_independent_of_the_bytes():
    data = bytearray(codec(STATE).write(panda()))
    message = codec(STATE).read(data)
    data[:] = bytes(len(data))
    message["position"][0] = 5.0
    assert same(message["velocity"], panda()["velocity"])


def breakages(message):
    """Copies of a message in which one thing each is wrong."""
    for name, value in message.items():
        for wrong in (None, object(), "x" if not isinstance(value, str) else 1, [None], {"a": 1}, np.zeros((2, 2)), 1j):
            yield {**message, name: wrong}
        yield {key: other for key, other in message.items() if key != name}
        if isinstance(value, dict):
            yield from ({**message, name: inner} for inner in breakages(value))
    yield {**message, "unknown": 0}


@pytest.mark.parametrize(
    "kind", [STATE, "sensor_msgs/msg/CameraInfo", "rcl_interfaces/msg/ParameterValue", "nav_msgs/msg/Odometry"]
)
def test_the_writer_refuses_what_the_check_refuses(kind):
    for wrong in breakages(random_message(kind, np.random.default_rng(4))):
        with pytest.raises(MessageError, match=rf"^{kind}: .* (is|has|holds) ") as caught:
            codec(kind).write(wrong)
        with pytest.raises(MessageError) as checked:
            check(kind, wrong)
        assert str(caught.value) == str(checked.value)


def test_a_message_cut_anywhere_is_refused():
    rng = np.random.default_rng(5)
    for kind in kinds():
        data = codec(kind).write(random_message(kind, rng))
        for end in range(0, len(data), max(1, len(data) // 40)):
            with pytest.raises(MessageError):
                codec(kind).read(data[:end])


def test_damaged_bytes_are_read_as_a_message_or_refused():
    """And what was read can be written again."""
    rng, refused = np.random.default_rng(6), 0
    for kind in kinds():
        data = np.frombuffer(codec(kind).write(random_message(kind, rng)), np.uint8)
        for _ in range(30):
            damaged = data.copy()
            places = rng.integers(2, len(data), rng.integers(1, 4))
            damaged[places] = rng.choice([0, 1, 127, 255, int(rng.integers(256))], len(places))
            try:
                message = codec(kind).read(damaged.tobytes())
            except MessageError:
                refused += 1
                continue
            check(kind, message)
            codec(kind).write(message)
    assert refused > 300


def test_bytes_that_mean_nothing_are_refused_or_read():
    rng = np.random.default_rng(7)
    for kind in kinds():
        for _ in range(30):
            data = b"\0" + bytes([rng.integers(2)]) + rng.bytes(int(rng.integers(0, 200)))
            with contextlib.suppress(MessageError):
                check(kind, codec(kind).read(data))


@pytest.mark.parametrize("kind", ["sensor_msgs/msg/Image", STATE, "tf2_msgs/msg/TFMessage", "sensor_msgs/msg/PointCloud"])
def test_a_count_that_lies_costs_nothing(kind):
    """Every count of four bytes is once replaced by one of four thousand million."""
    data = codec(kind).write(default(kind))
    codec(kind).read(data)
    tracemalloc.start()
    for at in range(4, len(data) - 3, 4):
        for order, lie in ((b"\0\1\0\0", b"\xff\xff\xff\xff"), (b"\0\1\0\0", b"\0\0\0\x7f"), (b"\0\0\0\0", b"\xff\0\0\0")):
            with contextlib.suppress(MessageError):
                codec(kind).read(order + data[4:at] + lie + data[at + 4 :])
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


def test_a_count_is_compared_with_what_is_there():
    with pytest.raises(MessageError, match="3 elements in 8 bytes"):
        codec("sensor_msgs/msg/LaserEcho").read(b"\0\1\0\0\3\0\0\0" + bytes(8))


@pytest.mark.parametrize("value", [2, 128, 255])
def test_a_bool_is_0_or_1(value):
    kind = "rcl_interfaces/msg/ParameterValue"
    message = {**default(kind), "bool_array_value": np.array([True, False])}
    data = codec(kind).write(message)
    at = data.index(b"\2\0\0\0\1\0") + 5
    assert same(codec(kind).read(data), message)
    for place in (5, at):  # bool_value, and the second of the array
        with pytest.raises(MessageError, match="damaged"):
            codec(kind).read(data[:place] + bytes([value]) + data[place + 1 :])


def test_many_small_things_cost_no_more_than_is_said():
    kind = "sensor_msgs/msg/MultiEchoLaserScan"
    message = {**default(kind), "ranges": [{"echoes": np.zeros(0, "<f4")}] * ELEMENTS}
    data = codec(kind).write(message)
    assert len(codec(kind).read(data)["ranges"]) == ELEMENTS
    message["intensities"] = message["ranges"][:1]
    with pytest.raises(MessageError, match="strings and messages"):
        codec(kind).read(codec(kind).write(message))


def test_limits_hold_both_ways():
    data = codec(STATE).write(panda())
    assert codec(STATE).write(panda(), len(data)) == data
    codec(STATE).read(data, len(data))
    with pytest.raises(MessageError, match="more than the limit"):
        codec(STATE).write(panda(), len(data) - 1)
    with pytest.raises(MessageError, match="more than the limit"):
        codec(STATE).read(data, len(data) - 1)


def test_padding_is_forgiven_and_a_longer_definition_is_not():
    data = codec(STATE).write(panda())
    for count in range(1, 4):
        assert same(codec(STATE).read(data + bytes(count)), panda())
    with pytest.raises(MessageError, match="another definition"):
        codec(STATE).read(data + bytes(4))


@pytest.mark.parametrize("header", [b"", b"\0", b"\0\x06\0\0", b"\0\x07\0\0", b"\0\x02\0\0", b"\1\1\0\0", b"\0\x0b\0\0"])
def test_other_encodings_are_refused(header):
    with pytest.raises(MessageError, match="CDR version 1"):
        codec(STATE).read(header + codec(STATE).write(panda())[4:] if len(header) == 4 else header)


def test_values_that_are_no_numbers_pass_the_wire():
    message = {**panda(), "position": np.array([np.nan, np.inf, -np.inf])}
    assert same(codec(STATE).read(codec(STATE).write(message)), message)


def test_bounds_hold():
    kind = "shape_msgs/msg/SolidPrimitive"
    assert str(dict(fields(kind))["dimensions"]) == "float64[<=3]"
    data = codec(kind).write({**default(kind), "dimensions": np.ones(3)})
    longer = data[:8] + b"\4\0\0\0" + data[12:] + bytes(8)
    with pytest.raises(MessageError, match="more than 3"):
        codec(kind).read(longer)
    with pytest.raises(MessageError, match="dimensions has 4 elements"):
        codec(kind).write({**default(kind), "dimensions": np.ones(4)})
    parameter = default("rcl_interfaces/msg/ParameterDescriptor")
    parameter["integer_range"] = [default("rcl_interfaces/msg/IntegerRange")] * 2
    with pytest.raises(MessageError, match="integer_range has 2 elements, more than 1"):
        codec("rcl_interfaces/msg/ParameterDescriptor").write(parameter)


def test_strings_end_as_they_should():
    kind = "std_msgs/msg/String"
    assert codec(kind).read(b"\0\1\0\0\0\0\0\0")["data"] == ""
    assert codec(kind).read(b"\0\1\0\0\3\0\0\0a\0\0")["data"] == "a\0"
    for wrong in (b"\3\0\0\0abc", b"\3\0\0\0\xff\xfe\0", b"\4\0\0\0ab\0"):
        with pytest.raises(MessageError, match="damaged"):
            codec(kind).read(b"\0\1\0\0" + wrong)
