"""robot.node in a process of its own, in a ROS 2 graph with sensors made here: orders, commands, silence, and what it refuses."""

import math
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("cyclonedds")

from hardware.fakes.navigation_base import into, pose
from hardware.ros.bridge import DEFAULT, LATCHED, SENSOR
from hardware.ros.lifecycle import wall
from hardware.ros.messages import default
from robot.core.paths import ROOT

FIRST_DOMAIN = 140
"""Tests that run side by side must not hear each other."""
PATIENCE = 40.0
"""A busy machine may take so long to load a policy [s]."""


class Graph:
    """A base that stands still in an empty place, and an ear on all that the node says."""

    def __init__(self, bridge):
        self.odometry = bridge.advertise("/odom", "nav_msgs/msg/Odometry", SENSOR)
        self.depth = bridge.advertise("/camera/depth/image_rect_raw", "sensor_msgs/msg/Image", SENSOR)
        self.goal = bridge.advertise("/goal_pose", "geometry_msgs/msg/PoseStamped", LATCHED)
        self.orders = bridge.advertise("/tiller/transition", "std_msgs/msg/String")
        self.ears = {
            "command": bridge.subscribe("/cmd_vel", "geometry_msgs/msg/Twist", DEFAULT),
            "state": bridge.subscribe("/tiller/state", "lifecycle_msgs/msg/State", LATCHED),
            "health": bridge.subscribe("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", DEFAULT),
            "parameters": bridge.subscribe("/parameter_events", "rcl_interfaces/msg/ParameterEvent", LATCHED),
        }
        self.heard = {name: [] for name in self.ears}
        message = default("geometry_msgs/msg/PoseStamped") | {"header": {"stamp": wall(), "frame_id": "odom"}}
        self.goal.publish(message | {"pose": pose(3.0, 0.0, 0.0)})

    def turn(self, speaking=True):
        """A twentieth of a second."""
        if speaking:
            header = {"stamp": wall(), "frame_id": "odom"}
            odometry = default("nav_msgs/msg/Odometry") | {"header": header}
            odometry["pose"]["pose"] = pose(0.0, 0.0, 0.0)
            self.odometry.publish(odometry)
            image = np.full((48, 64), 4.0, np.float32)
            image[24:] = np.minimum(0.3 / np.tan(np.radians(np.linspace(1, 37, 24)))[:, None], 4.0)  # the floor
            picture = {"header": header, "height": 48, "width": 64, "encoding": "32FC1", "step": 256}
            self.depth.publish(default("sensor_msgs/msg/Image") | picture | {"data": image.view(np.uint8).ravel()})
        time.sleep(0.05)
        for name, ear in self.ears.items():
            self.heard[name] += [message for message, _ in ear.take()]

    def until(self, done, speaking=True):
        end = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < end, {name: values[-1:] for name, values in self.heard.items()}
            self.turn(speaking)

    def order(self, order):
        self.orders.publish({"data": order})

    @property
    def state(self):
        return self.heard["state"][-1]["label"] if self.heard["state"] else ""


@contextmanager
def node(tmp_path, domain, *arguments):
    command = [sys.executable, "-m", "robot.node", "policy=navdp", f"bridge.domain={domain}", f"output={tmp_path / 'run'}"]
    options = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*command, "watchdog=5.0", *arguments], **options)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def domain(worker_id):
    return FIRST_DOMAIN + (0 if worker_id == "master" else 1 + int(worker_id.removeprefix("gw")))


def test_a_node_obeys_drives_and_stands_still_in_silence(tmp_path, domain):
    with into("ros2", {"domain": domain, "url": ""}) as bridge, node(tmp_path, domain, "autostart=false") as process:
        graph = Graph(bridge)
        graph.until(lambda: graph.state == "inactive" and graph.heard["health"])
        for _ in range(5):
            graph.turn()
        assert graph.heard["command"] == []  # nobody has told it to
        names = [entry["name"] for entry in graph.heard["parameters"][0]["new_parameters"]]
        assert {"policy.path", "driver.dt", "name"} <= set(names)
        graph.order("dance")
        graph.until(lambda: any("no transition 'dance'" in h["status"][0]["message"] for h in graph.heard["health"]))
        graph.order("activate")
        graph.until(lambda: graph.state == "active" and any(c["linear"]["x"] > 0.2 for c in graph.heard["command"]))
        graph.until(lambda: graph.state == "errorprocessing", speaking=False)  # the sensors have fallen silent
        graph.until(lambda: graph.heard["command"][-1]["linear"]["x"] == 0.0, speaking=False)
        before = len(graph.heard["state"])
        for _ in range(10):
            graph.turn()
        assert len(graph.heard["state"]) == before  # sensors are back, the fault is latched
        assert any("old" in h["status"][0]["message"] for h in graph.heard["health"])
        graph.order("activate")
        graph.until(lambda: graph.state == "active")
        graph.order("shutdown")
        graph.until(lambda: process.poll() is not None)
        assert process.returncode == 0
        told = process.stdout.read()
        assert "told to shut down" in told
        speeds = np.array([[c["linear"]["x"], c["angular"]["z"]] for c in graph.heard["command"]])
        assert np.isfinite(speeds).all()
        assert (np.abs(speeds) <= [0.8 + 1e-6, 1.5 + 1e-6]).all()
        assert math.isclose(speeds[-1, 0], 0.0, abs_tol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["driver.patience=0.5"], "nothing on '/odom'"),
        (["policy=raptor"], "not for this robot"),
        (["bridge=ros3"], "accepted: "),
        (["controller=chunks"], "not for this robot"),
        (["driver.robot=nobody"], "robots that have limits"),
        (["bridge.interface=nosuch0"], "nosuch0"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(arguments, words, tmp_path, domain):
    with node(tmp_path, domain, *arguments) as process:
        assert process.wait(PATIENCE) == 2
        told = process.stderr.read()
    assert words in told
    assert len(told.strip().splitlines()) == 1
