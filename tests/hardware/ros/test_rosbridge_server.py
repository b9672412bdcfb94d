"""The rosbridge server without ROS: what it answers, how it throttles, what it stands, where it listens."""

import contextlib
import json

import numpy as np
import pytest

pytest.importorskip("websockets")

from hardware.fakes.rosbridge import Server
from hardware.ros.rosbridge import Rosbridge, RosbridgeConfig
from tests.hardware.ros.rosbridge_peers import JOINTS, MANY, apart, arm, bridge, feeds, wait, websocket


@pytest.fixture
def server():
    with Server(0) as found:
        yield found


def test_throttles_and_queues(server):
    with websocket(server) as link, bridge(server) as ours:
        asked = {"a": {"throttle_rate": 50}, "b": {"throttle_rate": 20, "queue_length": 5}}
        for topic, options in asked.items():
            link.send(json.dumps({"op": "subscribe", "topic": f"/{topic}", **options}))
        wait(lambda: feeds(server) == 2)
        for topic in asked:
            writer = ours.advertise(f"/{topic}", "std_msgs/msg/Int32", MANY)
            for number in range(100):
                writer.publish({"data": number})
        found = {"/a": [], "/b": []}
        with contextlib.suppress(TimeoutError):
            while True:
                operation = json.loads(link.recv(timeout=1.0))
                found[operation["topic"]].append(operation["msg"]["data"])
    assert found["/a"][0] == 0
    assert len(found["/a"]) < 100  # at most one in 50 ms
    assert found["/b"][-5:] == [95, 96, 97, 98, 99]  # what is queued comes later, the newest of it
    assert len(found["/b"]) < 100


def test_the_server_says_what_it_cannot_read(server):
    wrong = [
        "{", "[]", '{"op": "dance"}', '{"op": "publish"}', '{"op": "fragment", "id": 1, "num": "x"}', '{"op": "subscribe"}',
        '{"op": "subscribe", "topic": "/a", "throttle_rate": "x"}', '{"op": "subscribe", "topic": "/a", "queue_length": 1e999}',
        '{"op": "publish", "topic": "/a", "msg": 3}', '{"op": "advertise", "topic": "/a"}', '{"op": null}',
        '{"op": "call_service"}',
    ]  # fmt: skip
    with websocket(server) as link, bridge(server) as ours:
        for text in wrong:
            link.send(text)
            answer = json.loads(link.recv(timeout=10))
            assert (answer["op"], answer["level"]) == ("status", "error")
        assert server.seen["refused"] == len(wrong)
        ours.link.send(wrong[0])
        assert wait(lambda: ours.said).startswith("MessageError")


def test_the_server_stands_whatever_is_thrown_at_it(server):
    rng = np.random.default_rng(0)
    words = [
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        '"op"',
        '"publish"',
        '"subscribe"',
        '"topic"',
        '"/x"',
        '"msg"',
        "null",
        "1e999",
        '"fragment"',
    ]
    count = 2000
    with websocket(server) as link:
        link.send('{"op": "set_level", "level": "none"}')
        for number in range(count):
            text = "".join(rng.choice(words, rng.integers(1, 12)))
            link.send(text if number % 3 else rng.bytes(int(rng.integers(0, 50))))
        wait(lambda: server.seen["operations"] == count + 1, 30)
        assert server.seen["refused"] > 0.95 * count
    with bridge(server) as ours:
        reader = ours.subscribe("/joints", JOINTS)
        ours.advertise("/joints", JOINTS).publish(arm(4.0))
        assert wait(reader.newest)[0]["position"][0] == 4.0


def test_neither_side_listens_beyond_this_computer():
    psutil = pytest.importorskip("psutil")
    with apart() as (process, url), Rosbridge(RosbridgeConfig(url, 2, 1 << 24, 5.0)):
        theirs = [c for c in psutil.Process(process.pid).net_connections() if c.status == "LISTEN"]
        ours = [c for c in psutil.Process().net_connections() if c.status == "LISTEN" and c.laddr.ip not in ("127.0.0.1", "::1")]
    assert [c.laddr.ip for c in theirs] == ["127.0.0.1"]
    assert ours == []
