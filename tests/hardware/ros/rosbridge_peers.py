"""What tests of rosbridge share: servers, clients, patience."""

import contextlib
import subprocess
import sys
import time

import numpy as np

from hardware.ros.bridge import Qos
from hardware.ros.messages import default
from hardware.ros.rosbridge import Rosbridge, RosbridgeConfig
from robot.core.paths import ROOT

JOINTS = "sensor_msgs/msg/JointState"
MANY = Qos(True, 5000)


def bridge(server, **changes):
    return Rosbridge(RosbridgeConfig(**{"url": server.url, "ros": 2, "limit": 1 << 24, "patience": 10.0, **changes}))


def feeds(server):
    """How many topics are listened to."""
    return sum(len(client.feeds) for client in list(server.clients))


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


def websocket(server):
    from websockets.sync.client import connect

    return connect(server.url, proxy=None, compression=None)


@contextlib.contextmanager
def apart():
    """A server in a process of its own that can be stopped, and where it is."""
    script = [sys.executable, "-m", "hardware.fakes.rosbridge", "port=0"]
    process = subprocess.Popen(script, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield process, process.stdout.readline().split()[1]
    finally:
        process.kill()
        process.communicate()
