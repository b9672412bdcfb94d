"""Rubbish into everything that hears a ROS graph: nothing but refusals, no crash, and never a command."""

import json
import math
import time
from types import SimpleNamespace

import numpy as np
import pytest
from omegaconf import OmegaConf

from hardware.drivers.ros import Ros, RosConfig
from hardware.fakes.navigation_base import pose
from hardware.ros.bridge import Bridge, Publisher, Qos, Subscription
from hardware.ros.cdr import codec
from hardware.ros.lifecycle import Lifecycle, wall
from hardware.ros.messages import check, default, kinds
from hardware.ros.plain import from_json, parse, to_json
from hardware.ros.rosbridge import Reader, Rosbridge, RosbridgeConfig
from robot.core.errors import MessageError
from robot.core.paths import CONFIGS
from tests.hardware.ros.references import random_message

JOINTS = "sensor_msgs/msg/JointState"
LIMIT = 1 << 16
COUNTS = [3000, pytest.param(100_000, marks=pytest.mark.slow)]


def mutated(data, rng):
    """Bytes with some changed, cut out, repeated, or all of them random."""
    if rng.random() < 0.1:
        return rng.integers(0, 256, rng.integers(0, 200), dtype=np.uint8).tobytes()
    row = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        at = int(rng.integers(0, len(row) + 1))
        kind = rng.integers(0, 4)
        if kind == 0 and row:
            row[at % len(row)] = int(rng.integers(0, 256))
        elif kind == 1:
            del row[at : at + int(rng.integers(0, 9))]
        elif kind == 2:
            row[at:at] = rng.integers(0, 256, rng.integers(0, 9), dtype=np.uint8).tobytes()
        elif len(row) > 8:
            row[at % (len(row) - 4) : at % (len(row) - 4) + 4] = b"\xff\xff\xff\x7f"
    return bytes(row)


@pytest.mark.parametrize("count", COUNTS)
def test_bytes_that_are_no_message_are_refused(count):
    rng, known = np.random.default_rng(0), kinds()
    refused = 0
    for k in range(count):
        kind = known[k % len(known)]
        data = mutated(codec(kind).write(random_message(kind, rng), 1 << 20), rng)
        try:
            check(kind, codec(kind).read(data, LIMIT))
        except MessageError:
            refused += 1
    assert 0.3 * count < refused < count


@pytest.mark.parametrize("count", COUNTS)
def test_text_that_is_no_operation_is_refused(count):
    rng, known = np.random.default_rng(1), kinds()
    words = ['"op"', '"publish"', "null", "1e999", "NaN", "[", "]", "{", "}", ",", ":", "-", "0", '"\\ud800"', "true", " " * 40]
    refused = 0
    for k in range(count):
        kind = known[k % len(known)]
        text = json.dumps({"op": "publish", "topic": "/x", "msg": to_json(kind, default(kind))})
        for _ in range(rng.integers(1, 5)):
            at = int(rng.integers(0, len(text) + 1))
            text = text[:at] + words[rng.integers(len(words))] + text[at + int(rng.integers(0, 6)) :]
        try:
            check(kind, from_json(kind, parse(text, LIMIT).get("msg")))
        except MessageError:
            refused += 1
    assert 0.3 * count < refused < count


@pytest.mark.parametrize("count", COUNTS)
def test_operations_that_lie_are_counted_and_nothing_is_heard_of_them(count):
    """Into the ears of a client that is connected to nobody: whole, in fragments, spoiled before or after they were cut."""
    rng, ours = np.random.default_rng(3), Rosbridge(RosbridgeConfig("ws://127.0.0.1:1", 2, LIMIT, 1.0))
    readers = {}
    for kind in (JOINTS, "nav_msgs/msg/Odometry", "sensor_msgs/msg/Image"):
        readers[f"/{kind}"] = reader = Reader(ours, f"/{kind}", kind, Qos(True, 3))
        ours.readers[f"/{kind}"] = [reader]
    words = [
        b'"op"',
        b"null",
        b"1e999",
        b"NaN",
        b"[",
        b"}",
        b",",
        b"-1",
        b'"total"',
        b'"num"',
        b"\xff\xfe",
        b"9" * 400,
        b"[" * 200,
    ]
    heard = 0
    for k in range(count):
        kind = list(readers)[k % 3][1:]
        whole = json.dumps({"op": "publish", "topic": f"/{kind}", "msg": to_json(kind, default(kind))}).encode()
        texts = [spoiled(whole, words, rng) if rng.random() < 0.7 else whole]
        if k % 2:
            cuts = sorted(rng.integers(0, len(texts[0]), 2))
            pieces = [texts[0][: cuts[0]], texts[0][cuts[0] : cuts[1]], texts[0][cuts[1] :]]
            parts = [
                {"op": "fragment", "id": str(k % 50), "data": p.decode(errors="replace"), "num": n} for n, p in enumerate(pieces)
            ]
            texts = [json.dumps(part | {"total": int(rng.choice([3, 3, 3, 2, 10**6]))}).encode() for part in parts]
            texts = [spoiled(text, words, rng) if rng.random() < 0.1 else text for text in texts]
        for text in texts:
            ours._hear(text if rng.random() < 0.5 else text.decode(errors="replace"), 0.0)
        for topic, reader in readers.items():
            for message, _ in reader.waiting:
                heard += 1
                check(topic[1:], message)
            reader.waiting.clear()
        assert ours.fragments.held <= LIMIT
    refused = ours.refused + sum(reader.refused for reader in readers.values())
    assert refused > 0.3 * count
    assert heard > 0.1 * count


def spoiled(text, words, rng):
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(0, len(text) + 1))
        text = text[:at] + words[rng.integers(len(words))] + text[at + int(rng.integers(0, 6)) :]
    return text


class Ear(Subscription):
    def __init__(self):
        self.waiting = []

    def take(self):
        found, self.waiting = self.waiting, []
        return found


class Mouth(Publisher):
    def __init__(self):
        self.sent = []

    def publish(self, message):
        self.sent.append(message)


class Table(Bridge):
    """Topics on a table."""

    def __init__(self):
        self.ears, self.mouths = {}, {}

    def open(self):
        pass

    def close(self):
        pass

    def subscribe(self, topic, kind, qos=None):
        return self.ears.setdefault(topic, Ear())

    def advertise(self, topic, kind, qos=None):
        return self.mouths.setdefault(topic, Mouth())


@pytest.fixture
def driver():
    node = OmegaConf.load(CONFIGS / "driver" / "ros_base.yaml")
    node.bridge = {"_target_": f"{__name__}.Table"}
    values = OmegaConf.to_container(node)
    values.pop("_target_")
    return Ros(RosConfig(**values))


def good():
    stamp = wall()
    odometry = default("nav_msgs/msg/Odometry") | {"header": {"stamp": stamp, "frame_id": "odom"}}
    odometry["pose"]["pose"] = pose(0.0, 0.0, 0.0)
    picture = {"height": 48, "width": 64, "encoding": "32FC1", "step": 256, "data": np.zeros(48 * 256, np.uint8)}
    goal = default("geometry_msgs/msg/PoseStamped") | {
        "header": {"stamp": stamp, "frame_id": "odom"},
        "pose": pose(3.0, 0.0, 0.0),
    }
    return {
        "/odom": odometry,
        "/camera/depth/image_rect_raw": default("sensor_msgs/msg/Image") | {"header": {"stamp": stamp, "frame_id": ""}} | picture,
        "/goal_pose": goal,
    }


def spoil(value, rng):
    """A message like this one, with something in it that is not as it was."""
    if isinstance(value, dict):
        name = list(value)[rng.integers(len(value))]
        if rng.random() < 0.05:
            return {k: v for k, v in value.items() if k != name}
        return {**value, name: spoil(value[name], rng)}
    choices = [
        math.nan, math.inf, -1e300, 1e300, 0.0, -1, 2**40, "", "map", None, [], {}, np.zeros(3), np.full(36, math.nan), True,
        np.zeros(10, np.uint8), b"\xff" * 7,
    ]  # fmt: skip
    return choices[rng.integers(len(choices))]


@pytest.mark.parametrize("count", COUNTS)
def test_messages_that_lie_never_become_a_command(driver, count):
    rng, ended = np.random.default_rng(2), []
    with driver:
        table = driver.bridge
        runtime = SimpleNamespace(
            guard=SimpleNamespace(mode=None, reasons=(), limited=0), beat=SimpleNamespace(summary=dict), stop=lambda why: None
        )
        from hardware.guard import Mode

        runtime.guard.mode = Mode.idle
        lifecycle = Lifecycle(runtime, table, "tiller", {}, ended.append)
        lifecycle.activate = lambda: ended.append("armed")
        readings = 0
        for k in range(count):
            for topic, message in good().items() if k % 20 == 0 else ():
                table.ears[topic].waiting.append((message, time.monotonic()))
            topic = list(table.ears)[rng.integers(3)]
            table.ears[topic].waiting.append((spoil(good()[topic], rng), time.monotonic()))
            reading = driver.read()
            if reading is not None:
                readings += 1
                shapes = {field.name: field.shape for field in driver.observation}
                assert {name: value.shape for name, value in reading.observation.items()} == shapes
                assert all(np.isfinite(value).all() for value in reading.observation.values())
            word = rng.choice(["", "Activate", "activate ", "arm", "ACTIVATE", "\x00", "activate\n", "deactivate!"])
            table.ears["/tiller/transition"].waiting.append(({"data": word} if rng.random() < 0.8 else {}, 0.0))
            lifecycle.tick(float(k))
    # not a share of them: after a stamp from the future all that are true look old, so that less and less is read
    assert readings > 50
    assert ended == []
    assert sum(sensor.refused for sensor in driver.sensors.values()) > count / 4
    assert table.mouths["/cmd_vel"].sent == [m for m in table.mouths["/cmd_vel"].sent if m["linear"]["x"] == 0.0]  # on closing
    assert len(table.mouths["/cmd_vel"].sent) == 3
