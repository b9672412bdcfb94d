"""A node of ROS 1 beside a real master and a plain rospy node, each in a process of its own."""

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hardware.ros.bridge import Qos
from hardware.ros.messages import default, fields, kinds
from hardware.ros.plain import to_json
from hardware.ros.ros1 import Ros1, Ros1Config, _class_of, _slot, from_ros1, to_ros1
from robot.core.errors import DriverError, MessageError, TillerError
from robot.core.paths import ROOT
from tests.hardware.ros.references import random_message, same

MASTER = shutil.which("rosmaster")
needs_ros1 = pytest.mark.skipif(
    MASTER is None or not Path("/usr/lib/python3/dist-packages/rospy").exists(),
    reason="apt install python3-rospy python3-rosmaster",
)
COUNT = 400
TIMES = ("builtin_interfaces/msg/Time", "builtin_interfaces/msg/Duration")


def free():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture
def master():
    port = free()
    environment = {**os.environ, "ROS_IP": "127.0.0.1", "ROS_MASTER_URI": f"http://127.0.0.1:{port}"}
    command = [MASTER, "--core", "-p", str(port)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.05)
    echo = [sys.executable, "-I", str(Path(__file__).with_name("ros1_echo.py"))]
    other = subprocess.Popen(echo, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    other.stdout.readline()
    yield f"http://127.0.0.1:{port}"
    for each in (other, process):
        each.kill()
        each.communicate()


def config(master):
    return Ros1Config(master, "127.0.0.1", "tiller_test", "/usr/lib/python3/dist-packages")


def play(master):
    """What a process of ours sees of the graph; rospy can be started once in a process."""
    with Ros1(config(master)) as bridge:
        back = bridge.subscribe("/joints_back", "sensor_msgs/msg/JointState", Qos(True, 5000))
        pictures = bridge.subscribe("/image_back", "sensor_msgs/msg/Image")
        out = bridge.advertise("/joints", "sensor_msgs/msg/JointState", Qos(True, 5000))
        image = bridge.advertise("/image", "sensor_msgs/msg/Image")
        end = time.monotonic() + 20
        while (out.end.get_num_connections() < 1 or image.end.get_num_connections() < 1) and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(0.3)  # and their way back
        got = []
        for k in range(COUNT):
            message = default("sensor_msgs/msg/JointState") | {"name": ["a", "b"], "position": np.array([float(k), np.nan])}
            message["header"] = {"stamp": {"sec": 5, "nanosec": k}, "frame_id": "base"}
            out.publish(message)
            time.sleep(0.004)
            got += back.take()
        pixels = np.arange(200, dtype=np.uint8)
        picture = default("sensor_msgs/msg/Image") | {"height": 10, "width": 20, "step": 20, "encoding": "mono8", "data": pixels}
        image.publish(picture)
        end, seen = time.monotonic() + 20, None
        while (len(got) < COUNT or seen is None) and time.monotonic() < end:
            got += back.take()
            seen = seen or pictures.newest()
            time.sleep(0.01)
        same = all(
            m["position"][0] == k and np.isnan(m["position"][1]) and m["name"] == ["a", "b"]
            and m["header"] == {"stamp": {"sec": 5, "nanosec": k}, "frame_id": "base"}
            for k, (m, _) in enumerate(got)
        )  # fmt: skip
        refused = refusals(bridge, out)
        picked = seen is not None and np.array_equal(seen[0]["data"], pixels) and seen[0]["encoding"] == "mono8"
        ports = listening()
        bridge.rospy.signal_shutdown("for a test")
        ended = [error(back.take), error(lambda: out.publish(default("sensor_msgs/msg/JointState")))]
    return {"got": len(got), "same": same, "picture": bool(picked), "beyond": ports, "refused": refused, "ended": ended}


def error(call):
    try:
        call()
    except TillerError as found:
        return type(found).__name__
    return None


def refusals(bridge, out):
    early = default("sensor_msgs/msg/JointState")
    early["header"]["stamp"]["sec"] = -1  # ROS 1 has no times before 1970
    return [
        error(lambda: out.publish(early)),
        error(lambda: out.publish({})),
        error(lambda: bridge.advertise("/x", "sensor_msgs/msg/JointStat")),
        error(lambda: bridge.subscribe("/x", "lifecycle_msgs/msg/State")),
    ]


def translate():
    """Every kind that is installed here, through genpy's bytes; and its JSON into genpy's own reading of such dicts."""
    sys.path.append("/usr/lib/python3/dist-packages")
    import genpy

    rng, counts = np.random.default_rng(0), {"kinds": 0, "differ": [], "json": 0, "json_differ": []}
    for kind in kinds():
        try:
            make = _class_of(kind)
        except (ImportError, AttributeError):
            continue
        for _ in range(3 if hasattr(make, "serialize") else 0):
            message, buffer = tame(kind, random_message(kind, rng)), io.BytesIO()
            theirs = to_ros1(kind, message, make())
            theirs.serialize(buffer)
            back = from_ros1(kind, make().deserialize(buffer.getvalue()))
            counts["differ"] += [] if equal(kind, message, back, theirs) else [kind]
        counts["kinds"] += 1
        theirs = make()
        if (
            kind not in TIMES
            and not any(type.many and type.number and type.dtype == np.uint8 for _, type in fields(kind))
            and whole(kind, theirs)
        ):
            told, filled = json.loads(json.dumps(to_json(kind, default(kind), 1))), make()
            genpy.message.fill_message_args(filled, [told])
            counts["json"] += 1
            counts["json_differ"] += [] if filled == to_ros1(kind, default(kind), make()) else [kind]
    return counts


def tame(kind, message):
    """Times from 1970 on, and bytes up to 127: what ROS 1 can say."""
    if kind in TIMES:
        return {"sec": abs(message["sec"] // 2), "nanosec": message["nanosec"] % 10**9}
    for name, type in fields(kind):
        if type.nested:
            value = message[name]
            message[name] = [tame(type.base, one) for one in value] if type.many else tame(type.base, value)
        elif type.base == "byte":
            message[name] = message[name] % 128
    return message


def whole(kind, theirs):
    """Whether ROS 1 has every field of a kind, and those within."""
    if kind in TIMES:
        return True
    return all(
        _slot(theirs, name) is not None
        and (not type.nested or type.many or whole(type.base, getattr(theirs, _slot(theirs, name))))
        for name, type in fields(kind)
    )


def equal(kind, one, other, theirs):
    return same(one, other) or not whole(kind, theirs)


def listening():
    """Addresses beyond loopback that this process listens on."""
    import psutil

    return [c.laddr.ip for c in psutil.Process().net_connections() if c.status == "LISTEN" and not c.laddr.ip.startswith("127.")]


@needs_ros1
def test_a_node_of_ros_1_loses_nothing_and_stays_on_loopback(master):
    done = subprocess.run(
        [sys.executable, "-m", "tests.hardware.ros.test_ros1", master], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "got": COUNT, "same": True, "picture": True, "beyond": [],
        "refused": ["MessageError", "MessageError", "MessageError", "DriverError"],
        "ended": ["DriverError", "DriverError"],
    }  # fmt: skip


@needs_ros1
def test_every_kind_of_ros_1_survives_genpys_bytes_and_our_json_is_read_by_genpy():
    done = subprocess.run([sys.executable, "-m", "tests.hardware.ros.test_ros1"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert (counts["differ"], counts["json_differ"]) == ([], [])
    assert counts["kinds"] >= 80
    assert counts["json"] >= 60


def test_without_a_master_it_is_an_error_in_a_line():
    with pytest.raises(DriverError, match="rosmaster --core") as error:
        Ros1(config(f"http://127.0.0.1:{free()}")).open()
    assert "\n" not in str(error.value)


def test_unknown_kinds_and_closed_bridges_are_said():
    bridge = Ros1(config("http://127.0.0.1:1"))
    with pytest.raises(MessageError, match="near it"):
        bridge.type("sensor_msgs/msg/JointStat")
    with pytest.raises(DriverError, match="not open"):
        bridge.type("sensor_msgs/msg/JointState")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(play(sys.argv[1]) if sys.argv[1:] else translate()) + "\n")
    sys.stdout.flush()
    os._exit(0)
