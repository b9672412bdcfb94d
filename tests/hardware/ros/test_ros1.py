"""A node of ROS 1 beside a real master and a plain rospy node, each in a process of its own."""

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
from hardware.ros.messages import default
from hardware.ros.ros1 import Ros1, Ros1Config
from robot.core.errors import DriverError, MessageError
from robot.core.paths import ROOT

MASTER = shutil.which("rosmaster")
needs_ros1 = pytest.mark.skipif(
    MASTER is None or not Path("/usr/lib/python3/dist-packages/rospy").exists(),
    reason="apt install python3-rospy python3-rosmaster",
)
COUNT = 400


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
        picked = seen is not None and np.array_equal(seen[0]["data"], pixels) and seen[0]["encoding"] == "mono8"
        ports = listening()
    return {"got": len(got), "same": same, "picture": bool(picked), "beyond": ports}


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
    assert json.loads(done.stdout.splitlines()[-1]) == {"got": COUNT, "same": True, "picture": True, "beyond": []}


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
    sys.stdout.write(json.dumps(play(sys.argv[1])) + "\n")
    sys.stdout.flush()
    os._exit(0)
