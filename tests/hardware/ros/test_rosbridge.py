"""rosbridge: our client and another one at a server that keeps the protocol; what breaks, what is refused."""

import contextlib
import json
import math
import random
import signal
import threading
import time

import numpy as np
import pytest
from omegaconf import OmegaConf

pytest.importorskip("websockets")

from hardware.fakes.rosbridge import Server
from hardware.ros.bridge import LATCHED
from hardware.ros.messages import default
from hardware.ros.plain import from_json, to_json
from hardware.ros.rosbridge import Rosbridge, RosbridgeConfig
from robot.core.config import build
from robot.core.errors import ConfigError, DriverError, MessageError
from robot.core.paths import CONFIGS
from tests.hardware.ros.references import same
from tests.hardware.ros.rosbridge_peers import JOINTS, MANY, apart, arm, bridge, feeds, wait, websocket
from tests.hardware.ros.test_fuzz import good


@pytest.fixture
def server():
    with Server(0) as found:
        yield found


def test_messages_go_both_ways_without_loss(server):
    with bridge(server) as one, bridge(server) as other:
        there = other.subscribe("/joints", JOINTS, MANY)
        back = one.subscribe("/echo", JOINTS, MANY)
        out, echo = one.advertise("/joints", JOINTS, MANY), other.advertise("/echo", JOINTS, MANY)
        wait(lambda: feeds(server) == 2)
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
        wait(lambda: feeds(server) == 2)
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
        wait(lambda: feeds(server))
        for client in server.clients:
            for feed in client.feeds.values():
                for asked in feed.asked.values():
                    asked["fragment_size"] = 1000
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
    with bridge(server) as ours:
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
        assert (ours.refused, ours.fragments.held, ours.fragments.known) == (0, 0, {})


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
        wait(lambda: feeds(first))
        writer.publish(arm(1.0))
        wait(reader.newest)
    wait(lambda: ours.link is None)
    writer.publish(arm(2.0))  # nobody is there
    later = ours.subscribe("/later", "std_msgs/msg/String")
    assert (ours.dropped, ours.breaks) == (1, 1)
    with Server(port) as second:
        wait(lambda: feeds(second) == 2, 20)
        writer.publish(arm(3.0))
        assert wait(reader.newest)[0]["position"][0] == 3.0
        ours.advertise("/later", "std_msgs/msg/String").publish({"data": "here"})
        assert wait(later.newest)[0]["data"] == "here"
        ours.close()
    with pytest.raises(DriverError, match="closed"):
        reader.take()
    with pytest.raises(DriverError, match="closed"):
        writer.publish(arm())


def test_a_server_that_hangs_holds_nobody_up_and_gets_nothing_late():
    with apart() as (process, url), Rosbridge(RosbridgeConfig(url, 2, 1 << 24, 1.0)) as ours:
        reader = ours.subscribe("/image", "sensor_msgs/msg/Image")
        writer = ours.advertise("/image", "sensor_msgs/msg/Image")
        picture = default("sensor_msgs/msg/Image") | {"data": np.zeros(200_000, np.uint8)}
        writer.publish(picture)
        wait(reader.newest)
        process.send_signal(signal.SIGSTOP)
        displaced = 0
        while ours.breaks == 0:
            displaced = ours.dropped
            writer.publish(picture)
            assert displaced < 10_000
            time.sleep(0.01)
        assert displaced > 0  # while the other thread was held up
        assert ours.dropped > displaced + 10  # what waited when the connection was given up
        while ours.link is not None:
            time.sleep(0.01)
        process.send_signal(signal.SIGCONT)
        wait(lambda: ours.link, 20)
        writer.publish(picture | {"width": 7})
        assert wait(lambda: [m for m, _ in reader.take() if m["width"] == 7], 20)


def test_a_server_that_falls_silent_is_left():
    with apart() as (process, url), Rosbridge(RosbridgeConfig(url, 2, 1 << 24, 0.5)) as ours:
        ours.subscribe("/joints", JOINTS)
        process.send_signal(signal.SIGSTOP)
        wait(lambda: ours.breaks, 20)
        process.send_signal(signal.SIGCONT)
        wait(lambda: ours.link, 20)


def test_a_robot_says_nothing_while_the_server_is_away_and_goes_on_after():
    node = OmegaConf.load(CONFIGS / "driver" / "ros_base.yaml")
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(Server(0))
        node.bridge = {**OmegaConf.load(CONFIGS / "bridge" / "rosbridge.yaml"), "url": first.url}
        driver, graph = stack.enter_context(build(node, "driver")), stack.enter_context(bridge(first))
        kinds = {sensor.config.topic: sensor.kind for sensor in driver.sensors.values()}
        writers = {topic: graph.advertise(topic, kind, LATCHED) for topic, kind in kinds.items()}
        commands = graph.subscribe("/cmd_vel", "geometry_msgs/msg/Twist")

        def reading():
            for topic, message in good().items():
                writers[topic].publish(message)
            return driver.read()

        assert wait(reading).observation["depth"].shape == (48, 64)
        first.__exit__()
        wait(lambda: driver.bridge.link is None and graph.link is None)
        wait(lambda: driver.read() is None and "s old" in driver.waiting())
        assert driver.read() is None
        driver.write(np.array([0.3, 0.0]))
        assert driver.bridge.dropped == 1
        with Server(first.port):
            wait(reading, 20)
            driver.write(np.array([0.1, 0.0]))
            assert wait(commands.take, 20)[0][0]["linear"]["x"] == pytest.approx(0.1)


def test_what_was_written_before_closing_arrives(server):
    with bridge(server) as other:
        reader = other.subscribe("/cmd_vel", "geometry_msgs/msg/Twist", MANY)
        wait(lambda: feeds(server))
        with bridge(server) as ours:
            writer = ours.advertise("/cmd_vel", "geometry_msgs/msg/Twist", MANY)
            for _ in range(300):
                writer.publish(default("geometry_msgs/msg/Twist"))
        found = []
        wait(lambda: found.extend(reader.take()) or len(found) == 300)


def test_it_can_be_opened_again_and_leaves_no_threads(server):
    ours = bridge(server)
    for _ in range(3):
        before = set(threading.enumerate())
        with ours:
            reader = ours.subscribe("/a", "std_msgs/msg/String")
            ours.advertise("/a", "std_msgs/msg/String").publish({"data": "x"})
            assert wait(reader.newest)[0]["data"] == "x"
        wait(lambda before=before: not [t for t in threading.enumerate() if t not in before and "rosbridge" in t.name])


def test_what_is_too_large_ends_the_connection_and_is_counted(server):
    with bridge(server, limit=5000) as small, bridge(server) as large:
        small.subscribe("/image", "sensor_msgs/msg/Image")
        wait(lambda: feeds(server))
        picture = default("sensor_msgs/msg/Image") | {"data": np.zeros(20_000, np.uint8)}
        large.advertise("/image", "sensor_msgs/msg/Image").publish(picture)
        wait(lambda: small.breaks and small.refused)
        wait(lambda: small.link)


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
    "data",
    [
        None, 3, [], {"nosuch": 1}, {"name": "a"}, {"name": [1]}, {"name": [None]}, {"position": ["1"]}, {"position": [True]},
        {"position": {}}, {"position": [[1]]}, {"header": 1}, {"header": {"stamp": {"sec": 1e300}}},
        {"header": {"stamp": {"sec": -(2**40)}}},
        {"header": {"stamp": {"sec": None}}}, {"header": {"stamp": {"secs": 1.5}}}, {"header": {"stamp": {"sec": True}}},
        {"header": {"frame_id": 5}}, {"position": [10**400]}, {"position": "AAAA"}, {"position": None},
    ],
)  # fmt: skip
def test_messages_that_are_not_of_their_kind_are_counted(server, data):
    with bridge(server) as ours:
        reader = ours.subscribe("/joints", JOINTS)
        ours._hear(json.dumps({"op": "publish", "topic": "/joints", "msg": data}), 1.0)
        assert reader.take() == []
        assert reader.refused + ours.refused == 1


def test_a_server_of_ros_1_has_names_of_its_own(server):
    info = default("sensor_msgs/msg/CameraInfo") | {"k": np.arange(9.0), "d": np.ones(5)}
    info["header"] = {"stamp": {"sec": 3, "nanosec": 4}, "frame_id": "camera"}
    told = to_json("sensor_msgs/msg/CameraInfo", info, 1)
    assert told["header"]["stamp"] == {"secs": 3, "nsecs": 4}
    assert told["K"] == list(range(9))
    assert same(from_json("sensor_msgs/msg/CameraInfo", told | {"header": told["header"] | {"seq": 5}}), info)
    with bridge(server, ros=1) as ours, websocket(server) as link:
        link.send(json.dumps({"op": "subscribe", "topic": "/info"}))
        wait(lambda: feeds(server))
        ours.advertise("/info", "sensor_msgs/msg/CameraInfo").publish(info)
        assert json.loads(link.recv(timeout=10))["msg"] == told
        assert server.topics() == {"/info": "sensor_msgs/CameraInfo"}
    with pytest.raises(ConfigError, match="accepted"):
        bridge(server, ros=3)


def test_what_cannot_be_is_an_error_in_a_line(server):
    for url in ("ws://127.0.0.1:1", "http://nowhere", "ws://127.0.0.1:99999"):
        with pytest.raises(DriverError, match="cannot be reached") as error:
            bridge(server, url=url, patience=1.0).open()
        assert "\n" not in str(error.value)
    with bridge(server, limit=500) as ours, pytest.raises(MessageError, match="limit"):
        ours.advertise("/joints", JOINTS).publish(arm() | {"name": ["x" * 600]})
    with bridge(server) as ours, pytest.raises(MessageError, match="near it"):
        ours.subscribe("/joints", "sensor_msgs/msg/JointStat")
