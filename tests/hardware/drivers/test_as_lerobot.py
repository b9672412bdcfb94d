"""A driver of ours as LeRobot's Robot: the base on a serial line, with the guard in front."""

import os
import time

import numpy as np
import pytest

from hardware.drivers.base import Driver
from hardware.drivers.base_serial import BaseSerial, BaseSerialConfig
from hardware.drivers.lerobot import FromLeRobot, FromLeRobotConfig
from hardware.fakes.base_serial import KEYS, Base
from hardware.lerobot import AsLeRobot, keys
from hardware.limits import load
from robot.core.errors import ConfigError, DriverError, InterfaceError, ObservationError
from robot.core.interface import Field

CONTRACT = [
    "observation_features", "action_features", "is_connected", "is_calibrated", "connect", "calibrate", "configure",
    "get_observation", "send_action", "disconnect", "name", "robot_type", "id", "cameras", "__enter__", "__exit__",
]  # fmt: skip
"""What LeRobot's scripts use of its Robot, 0.4.4."""


def failing(what):
    def tried():
        try:
            what()
        except DriverError as error:
            return str(error)
        return None

    return tried


@pytest.fixture
def base(alive):
    return alive(Base({**KEYS, "dt": 0.01}), 0.01)


@pytest.fixture
def limits():
    found = load("differential_base")
    found.command_age = found.observation_age = 1.0  # the machine of the test may be busy
    return found


@pytest.fixture
def ours(base, limits):
    made = AsLeRobot(BaseSerial(BaseSerialConfig("differential_base", base.line.path, 115200, 0.05, 21.0, 3.0)), limits, 5.0)
    yield made
    made.disconnect()


def test_it_has_what_lerobot_asks_for(ours):
    assert [name for name in CONTRACT if not hasattr(ours, name)] == []
    assert ours.action_features == {"v.vel": float, "w.vel": float}
    known = {"odometry.x", "odometry.y", "odometry.yaw", "v.vel", "w.vel", "battery", "rate.z"}
    assert known <= set(ours.observation_features)
    assert set(ours.observation_features.values()) == {float}
    assert ours.is_calibrated
    assert not ours.is_connected
    for call in (ours.get_observation, lambda: ours.send_action({"v.vel": 0.0, "w.vel": 0.0})):
        with pytest.raises(DriverError, match="not connected"):
            call()


def test_what_is_sent_is_within_the_limits_and_is_what_is_returned(base, ours):
    ours.connect()
    with pytest.raises(DriverError, match="connected already"):
        ours.connect()
    assert base.enabled
    returned, start = [], time.monotonic()
    for _ in range(25):
        seen = ours.get_observation()
        assert set(seen) == set(ours.observation_features)
        assert all(isinstance(value, float) for value in seen.values())
        returned.append(ours.send_action({"v.vel": 0.6, "w.vel": -0.3})["v.vel"])
    assert time.monotonic() - start > 20 * 0.05  # it paces whoever is faster than the robot
    steps = np.diff([0.0, *returned])
    assert returned[0] <= 0.2 + 1e-6
    assert (steps >= -1e-9).all()
    assert returned[-1] == pytest.approx(0.6, abs=1e-6)
    np.testing.assert_allclose(base.wanted, [0.6, -0.3], atol=1e-6)
    assert ours.get_observation()["v.vel"] > 0.3
    ours.disconnect()
    ours.disconnect()
    assert not ours.is_connected
    time.sleep(0.1)
    assert not base.enabled
    assert base.account.told["out_of_range"] == base.account.told["not_finite"] == 0


def test_what_is_not_finite_is_latched_and_connecting_again_forgives(base, ours, wait):
    ours.connect()
    ours.send_action({"v.vel": 0.2, "w.vel": 0.0})
    for value in (float("nan"), 0.1):
        with pytest.raises(DriverError, match="does not follow: the action is not finite; disconnect, look, connect"):
            ours.send_action({"v.vel": value, "w.vel": 0.0})
    wait(lambda: not base.wanted.any())  # the safe command goes on
    assert ours.get_observation()["battery"] > 20.0
    ours.disconnect()
    with ours:
        assert ours.send_action({"v.vel": 0.2, "w.vel": 0.0})["v.vel"] > 0.0
    assert base.account.told["not_finite"] == 0


def test_an_action_that_none_follows_grows_old(base, ours, limits, wait):
    limits.command_age = 0.3
    ours.connect()
    for _ in range(5):
        ours.send_action({"v.vel": 0.2, "w.vel": 0.0})
    wait(lambda: not base.wanted.any())
    with pytest.raises(DriverError, match=r"the action is 0\.\d+ s old"):
        ours.send_action({"v.vel": 0.2, "w.vel": 0.0})


def test_an_action_is_as_old_as_what_it_rests_on(ours, limits):
    limits.command_age = 0.3
    ours.connect()
    ours.get_observation()
    time.sleep(0.5)  # thinking
    with pytest.raises(DriverError, match=r"the action is 0\.\d+ s old"):
        ours.send_action({"v.vel": 0.2, "w.vel": 0.0})


def test_actions_of_other_robots_are_refused_and_harm_nothing(ours):
    ours.connect()
    for action in ({"v.vel": 0.1}, {"v.vel": 0.1, "w.vel": 0.0, "lift.pos": 0.0}, {"v.vel": "fast", "w.vel": 0.0}):
        with pytest.raises(ObservationError):
            ours.send_action(action)
    ours.send_action({"v.vel": np.float32(0.1), "w.vel": 0})


def test_what_the_robot_says_is_told(base, ours, wait):
    ours.connect()
    base.estop = True
    told = wait(failing(lambda: ours.send_action({"v.vel": 0.1, "w.vel": 0.0})))
    assert "emergency stop is pressed" in told
    ours.disconnect()
    with pytest.raises(DriverError, match="pull it out"):
        ours.connect()
    assert not ours.is_connected
    base.estop = False
    ours.connect()
    assert ours.is_connected


def test_old_measurements_are_not_given_as_new_ones(base, ours, limits, wait):
    limits.observation_age = 0.3
    ours.connect()
    base.loss = 1.0
    assert "said something 0." in wait(failing(ours.get_observation))


def test_a_robot_that_is_not_there_is_an_error_in_a_line(limits):
    absent = AsLeRobot(BaseSerial(BaseSerialConfig("", "/dev/ttyNOBODY", 115200, 0.05, 21.0, 0.2)), limits, 1.0)
    with pytest.raises(DriverError, match="no such device"):
        absent.connect()
    assert not absent.is_connected
    with pytest.raises(ChildProcessError):  # the watchdog is gone with it
        os.waitpid(absent.watchdog.pid, os.WNOHANG)


class Painted(Driver):
    """Has all that a driver may have."""

    dt = 0.05
    command = Field("targets", (2,), "float32", "rad", names=("a", "b"))
    observation = (
        Field("joints", (2,), "float32", "rad", names=("a", "b")),
        Field("speeds", (2,), "float32", "rad/s", names=("a", "b")),
        Field("currents", (2,), "float32", "mA", names=("a", "b")),
        Field("force", (3,), "float32", "N"),
        Field("front", (4, 6, 3), "uint8"),
        Field("rotation", (3, 3)),
    )

    def open(self): ...
    def read(self): ...
    def write(self, command): ...
    def stop(self): ...
    def close(self): ...


def test_every_field_has_a_key_of_its_own(limits):
    found = [keys(field, ("a", "b")) for field in Painted.observation]
    assert found[:3] == [["a.pos", "b.pos"], ["a.vel", "b.vel"], ["currents.a", "currents.b"]]
    assert found[3:] == [["force.0", "force.1", "force.2"], ["front"], ["rotation"]]
    twist = Field("twist", (2,), "float32", "m/s, rad/s", names=("v", "w"))
    assert keys(twist, ("v", "w")) == ["v.vel", "w.vel"]
    assert keys(twist, ("a", "b")) == ["twist.v", "twist.w"]
    assert keys(Field("battery", (1,), "float32", "V"), ("a", "b")) == ["battery"]
    driver = Painted()
    with pytest.raises(InterfaceError, match="limits do not fit"):
        AsLeRobot(driver, limits, 1.0)
    for channel, name in zip(limits.channels, "ab", strict=True):
        channel.name, channel.unit = name, "rad"
    limits.measured, limits.trembling, limits.frozen = [], [], float("inf")
    assert AsLeRobot(driver, limits, 1.0).observation_features["front"] == (4, 6, 3)
    assert list(AsLeRobot(driver, limits, 1.0).cameras) == ["front"]
    driver.observation = (*Painted.observation, Field("goals", (2,), "float32", "rad", names=("a", "b")))
    with pytest.raises(ConfigError, match=r"a\.pos"):
        AsLeRobot(driver, limits, 1.0)


def test_both_ways_at_once_are_the_robot_itself(base, ours, wait):
    same = {"scales": [1.0, 1.0], "zeros": [0.0, 0.0], "dt": 0.05, "patience": 3.0}
    config = FromLeRobotConfig("", "", "", {}, ["v.vel", "w.vel"], "m/s, rad/s", **same)
    with FromLeRobot(config, ours) as driver:
        end = time.monotonic() + 5.0
        while base.velocity[0, 0] < 0.2 and time.monotonic() < end:
            driver.write(np.array([0.25, 0.1]))
        assert base.velocity[0, 0] >= 0.2
        wait(lambda: (found := driver.read()) and found.measured[0] > 0.1)
    wait(lambda: not base.velocity.any())
    assert not ours.is_connected
