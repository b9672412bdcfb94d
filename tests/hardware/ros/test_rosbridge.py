"""rosbridge: our client and another one at a server that keeps the protocol; what breaks, what is refused."""

import json
import math
import random
import time

import numpy as np
import pytest

pytest.importorskip("websockets")

from hardware.fakes.rosbridge import Server
from hardware.ros.bridge import LATCHED, Qos
from hardware.ros.messages import check, default, kinds
from hardware.ros.plain import from_json, parse, to_json
from hardware.ros.rosbridge import Rosbridge, RosbridgeConfig
from robot.core.errors import DriverError, MessageError
from tests.hardware.ros.references import random_message, same

JOINTS = "sensor_msgs/msg/JointState"
MANY = Qos(True, 5000)


@pytest.fixture
def server():
    with Server(0) as found:
        yield found


def bridge(server, **changes):
    return Rosbridge(RosbridgeConfig(**{"url": server.url, "limit": 1 << 24, "patience": 10.0, **changes}))


def wait(what, seconds=10.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.002)
    raise AssertionError("waited in vain")


def arm(k=0.0):
    return default(JOINTS) | {"name": ["a", "b"], "position": np.array([k, 2.0]), "velocity": np.array([0.0, -1.5])}


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


def test_messages_go_both_ways_without_loss(server):
    with bridge(server) as one, bridge(server) as other:
        there = other.subscribe("/joints", JOINTS, MANY)
        back = one.subscribe("/echo", JOINTS, MANY)
        out, echo = one.advertise("/joints", JOINTS), other.advertise("/echo", JOINTS)
        wait(lambda: sum(len(c.topics) for c in server.clients) == 2)
        got = []
        for k in range(500):
            out.publish(arm(float(k)))
            for message, _ in there.take():
                echo.publish(message)
            got += [message["position"][0] for message, _ in back.take()]
            time.sleep(0.001)

        def all_there():
            for message, _ in there.take():
                echo.publish(message)
            got.extend(message["position"][0] for message, _ in back.take())
            return len(got) == 500

        wait(all_there)
        assert got == [float(k) for k in range(500)]


def test_another_client_understands_us_and_we_it(server):
    roslibpy = pytest.importorskip("roslibpy")
    other = roslibpy.Ros("127.0.0.1", server.port)
    other.run(timeout=20)
    heard = []
    listener = roslibpy.Topic(other, "/ours", "sensor_msgs/JointState")
    listener.subscribe(heard.append)
    talker = roslibpy.Topic(other, "/theirs", "sensor_msgs/JointState")
    talker.advertise()
    with bridge(server) as ours:
        reader, writer = ours.subscribe("/theirs", JOINTS), ours.advertise("/ours", JOINTS)
        wait(lambda: sum(len(c.topics) for c in server.clients) == 2)
        writer.publish(arm(0.5))
        talker.publish({"header": {"seq": 3, "stamp": {"sec": 1, "nanosec": 2}}, "name": ["x"], "position": [1]})
        message, _ = wait(reader.newest)
        assert message["position"].tolist() == [1.0]
        assert message["velocity"].size == 0
        assert wait(lambda: heard)[0]["position"] == [0.5, 2.0]
        assert "/ours" in other.get_topics()
    other.close()


def test_pictures_travel_as_base64_and_in_fragments(server):
    with bridge(server) as one, bridge(server) as other:
        reader = other.subscribe("/image", "sensor_msgs/msg/Image")
        wait(lambda: any(c.topics for c in server.clients))
        for client in server.clients:
            if client.topics:
                client.topics["/image"]["fragment_size"] = 1000
        pixels = np.random.default_rng(0).integers(0, 256, 30_000, dtype=np.uint8)
        message = default("sensor_msgs/msg/Image") | {
            "height": 100,
            "width": 100,
            "step": 300,
            "encoding": "rgb8",
            "data": pixels,
        }
        one.advertise("/image", "sensor_msgs/msg/Image").publish(message)
        found, _ = wait(reader.newest)
        np.testing.assert_array_equal(found["data"], pixels)


def test_fragments_may_come_in_any_order(server):
    ours = bridge(server)
    reader = ours.readers.setdefault("/joints", [])
    with ours:
        found = ours.subscribe("/joints", JOINTS)
        text = json.dumps({"op": "publish", "topic": "/joints", "msg": to_json(JOINTS, arm(0.25))})
        for size in (1, 7, 100, 10_000):
            pieces = [text[k : k + size] for k in range(0, len(text), size)]
            order = list(range(len(pieces)))
            random.Random(size).shuffle(order)
            for k in order:
                part = {"op": "fragment", "id": "x", "data": pieces[k], "num": k, "total": len(pieces)}
                ours._hear(json.dumps(part), 1.0)
            assert found.newest()[0]["position"][0] == 0.25
    assert reader


def test_who_comes_later_hears_what_was_latched(server):
    with bridge(server) as one:
        one.advertise("/state", "std_msgs/msg/String", LATCHED).publish({"data": "here"})
        wait(lambda: server.latched.get("/state"))
        with bridge(server) as other:
            assert wait(other.subscribe("/state", "std_msgs/msg/String", LATCHED).newest)[0]["data"] == "here"


def test_a_connection_that_breaks_is_made_again():
    with Server(0) as first:
        port = first.port
        ours = bridge(first)
        ours.open()
        reader, writer = ours.subscribe("/joints", JOINTS), ours.advertise("/joints", JOINTS)
        wait(lambda: any(c.topics for c in first.clients))
        writer.publish(arm(1.0))
        wait(reader.newest)
    wait(lambda: ours.link is None)
    writer.publish(arm(2.0))  # nobody is there
    assert ours.dropped == 1
    with Server(port) as second:
        wait(lambda: any(c.topics for c in second.clients), 20)
        wait(lambda: ours.link)
        writer.publish(arm(3.0))
        assert wait(reader.newest)[0]["position"][0] == 3.0
        ours.close()
    with pytest.raises(DriverError, match="closed"):
        reader.take()
    with pytest.raises(DriverError, match="closed"):
        writer.publish(arm())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_say_is_not_said(server, value):
    with bridge(server) as ours:
        writer = ours.advertise("/joints", JOINTS)
        with pytest.raises(MessageError, match="JSON cannot say"):
            writer.publish(arm(value))
        twist = default("geometry_msgs/msg/Twist")
        twist["linear"]["x"] = value
        with pytest.raises(MessageError, match="linear"):
            ours.advertise("/cmd_vel", "geometry_msgs/msg/Twist").publish(twist)
    assert server.seen["published"] == 0


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
    "data",
    [
        None, 3, [], {"nosuch": 1}, {"name": "a"}, {"name": [1]}, {"position": [None]}, {"position": ["1"]}, {"position": [True]},
        {"position": {}}, {"position": [[1]]}, {"header": 1}, {"header": {"stamp": {"sec": 1e300}}},
        {"header": {"stamp": {"sec": -(2**40)}}},
        {"header": {"frame_id": 5}}, {"position": [10**400]},
    ],
)  # fmt: skip
def test_messages_that_are_not_of_their_kind_are_counted(server, data):
    with bridge(server) as ours:
        reader = ours.subscribe("/joints", JOINTS)
        ours._hear(json.dumps({"op": "publish", "topic": "/joints", "msg": data}), 1.0)
        assert reader.take() == []
        assert reader.refused + ours.refused == 1


def test_the_server_says_what_it_cannot_read(server):
    with bridge(server) as ours:
        for text in ("{", '{"op": "dance"}', '{"op": "publish"}', '{"op": "fragment", "id": 1, "num": "x"}'):
            ours.link.send(text)
        wait(lambda: server.seen["refused"] == 4)


def test_what_cannot_be_is_an_error_in_a_line(server):
    for url in ("ws://127.0.0.1:1", "http://nowhere", "ws://127.0.0.1:99999"):
        with pytest.raises(DriverError, match="cannot be reached") as error:
            bridge(server, url=url, patience=1.0).open()
        assert "\n" not in str(error.value)
    with bridge(server, limit=500) as ours, pytest.raises(MessageError, match="limit"):
        ours.advertise("/joints", JOINTS).publish(arm() | {"name": ["x" * 600]})
    with bridge(server) as ours, pytest.raises(MessageError, match="near it"):
        ours.subscribe("/joints", "sensor_msgs/msg/JointStat")
