"""Both ways between LeRobot's robots and ours: a robot that keeps its contract and nothing more, and a base on a serial line."""

import os
import sys
import threading
import time
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from hardware.drivers.base import Driver, Reading
from hardware.drivers.base_serial import BaseSerial, BaseSerialConfig
from hardware.drivers.lerobot import FromLeRobot, FromLeRobotConfig
from hardware.fakes.base_serial import KEYS, Base
from hardware.guard import Guard
from hardware.lerobot import AsLeRobot, keys
from hardware.limits import load
from hardware.runtime import Runtime
from robot.core.clock import Clock
from robot.core.errors import ConfigError, DriverError, InterfaceError, ObservationError
from robot.core.interface import Field

CONTRACT = [
    "observation_features", "action_features", "is_connected", "is_calibrated", "connect", "calibrate", "configure",
    "get_observation", "send_action", "disconnect", "name", "robot_type", "id", "cameras", "__enter__", "__exit__",
]  # fmt: skip
"""What LeRobot's scripts use of its Robot, 0.4.4."""


class Follower:
    """An arm of two servos in degrees, and a camera, that does what LeRobot's do: clip steps by min and max, nothing else."""

    name = robot_type = "follower"

    def __init__(self, config=None):
        self.id, self.cameras, self.calibration = "black", {"front": None}, {}
        self.at, self.sent, self.is_connected, self.is_calibrated = {"lift": 10.0, "turn": -20.0}, [], False, True
        self.most, self.broken, self.block, self.disconnected = 5.0, None, threading.Event(), 0
        self.block.set()
        self.config = config

    @property
    def observation_features(self):
        return {"lift.pos": float, "turn.pos": float, "front": (4, 6, 3)}

    @property
    def action_features(self):
        return {"lift.pos": float, "turn.pos": float}

    def connect(self, calibrate=True):
        if self.broken:
            raise self.broken
        if calibrate:
            self.calibrate()
        self.is_connected = True

    def calibrate(self):
        raise AssertionError("LeRobot would ask at the terminal here")

    def configure(self):
        pass

    def _check(self):
        if not self.is_connected:
            raise ConnectionError("This device is not connected. Try calling `connect()` first.\nReally.")
        if self.broken:
            raise self.broken

    def get_observation(self):
        self._check()
        self.block.wait()
        return {**{f"{name}.pos": value for name, value in self.at.items()}, "front": np.full((4, 6, 3), 7, np.uint8)}

    def send_action(self, action):
        self._check()
        for key, goal in action.items():
            name = key.removesuffix(".pos")
            self.at[name] += min(max(goal - self.at[name], -self.most), self.most)
        self.sent.append(dict(action))
        return {f"{name}.pos": value for name, value in self.at.items()}

    def disconnect(self):
        self._check()
        self.is_connected, self.disconnected = False, self.disconnected + 1

    def __str__(self):
        return f"{self.id} Follower"


DEGREE = np.pi / 180
ARM = FromLeRobotConfig("arm", "", "", {}, ["lift.pos", "turn.pos"], "rad", [DEGREE, -DEGREE], [90.0, 0.0], 0.02, 1.0)


def changed(**changes):
    return FromLeRobotConfig(**{**vars(ARM), **changes})


def failing(what):
    def tried():
        try:
            what()
        except DriverError as error:
            return str(error)
        return None

    return tried


# theirs as ours


def test_degrees_become_radians_and_back(wait):
    arm = Follower()
    with FromLeRobot(ARM, arm) as driver:
        reading = wait(driver.read)
        np.testing.assert_allclose(reading.measured, [-80 * DEGREE, 20 * DEGREE])
        np.testing.assert_allclose(reading.observation["joints"], reading.measured, rtol=1e-6)
        assert reading.observation["front"].shape == (4, 6, 3)
        assert reading.observation["front"].dtype == np.uint8
        assert 0 <= time.monotonic() - reading.stamp < 1.0
        assert [field.name for field in driver.observation] == ["joints", "front"]
        assert driver.command.names == ("lift", "turn")
        sent = driver.write(np.array([-78 * DEGREE, 24 * DEGREE]))
        np.testing.assert_allclose(list(arm.sent[-1].values()), [12.0, -24.0])
        np.testing.assert_allclose(sent, [-78 * DEGREE, 24 * DEGREE])
        clipped = driver.write(np.array([0.0, 24 * DEGREE]))
        np.testing.assert_allclose(clipped, [-73 * DEGREE, 24 * DEGREE])  # what LeRobot says it has sent
        wait(lambda: (found := driver.read()) and abs(found.measured[0] + 73 * DEGREE) < 1e-9)
        driver.stop()
        np.testing.assert_allclose(list(arm.sent[-1].values()), [17.0, -24.0])  # where it is
        driver.stop()
    driver.close()
    assert not arm.is_connected
    assert arm.disconnected == 1


def test_wheels_stop_at_zero(wait):
    arm = Follower()
    with FromLeRobot(ARM, arm) as driver:
        wait(driver.read)
        driver.config = changed(keys=["lift.pos", "turn.vel"])
        arm.send_action = lambda action: arm.sent.append(action) or {"lift.pos": 0.0, "turn.vel": 0.0}
        driver.stop()
        assert arm.sent[-1]["turn.vel"] == 0.0
        assert arm.sent[-1]["lift.pos"] == pytest.approx(10.0)


def test_nan_passes_theirs_and_not_ours(robot):
    arm = Follower()
    with FromLeRobot(ARM, arm) as driver:
        made = robot(frozen=float("inf"))
        limits, mind, clock = made.guard.limits, made.mind, Clock()
        for channel, name in zip(limits.channels, driver.command.names, strict=True):
            channel.name, channel.low, channel.high = name, -2.0, 2.0
        limits.dt, limits.fence, limits.tilt, limits.measured, limits.observation_age = 0.02, None, None, [], 0.5
        mind.spec.interface, mind.clock = driver.interface, clock
        mind.wants = np.array([[np.nan, 0.0]])
        controller = made.controller
        controller.dt = 0.02
        runtime = Runtime(driver, Guard(limits, driver.interface), mind, controller, clock)
        runtime.arm()
        for _ in range(10):
            runtime.tick()
        assert runtime.guard.mode.value == "hold"
        assert len(arm.sent) >= 9
        assert all(np.isfinite(list(action.values())).all() for action in arm.sent)
        assert np.isnan(arm.send_action({"lift.pos": float("nan"), "turn.pos": 0.0})["lift.pos"])


def test_robots_that_fail_are_errors_in_a_line(wait):
    arm = Follower()
    with FromLeRobot(ARM, arm) as driver:
        wait(driver.read)
        arm.broken = RuntimeError("There is no status packet!\nSecond line")
        told = wait(failing(driver.read))
        assert told == "lerobot: black Follower cannot be read: There is no status packet!"
        with pytest.raises(DriverError, match=r"does not take an action: There is no status packet!$"):
            driver.write(np.zeros(2))
        driver.stop()  # never raises
        arm.broken = None
    with pytest.raises(DriverError, match="not open"):
        driver.write(np.zeros(2))


def test_a_read_that_hangs_does_not_hang_the_loop(wait):
    arm = Follower()
    with FromLeRobot(changed(patience=0.1), arm) as driver:
        wait(driver.read)
        arm.block.clear()
        wait(driver.bus.locked)
        time.sleep(0.05)
        driver.read()
        assert driver.read() is None
        with pytest.raises(DriverError, match=r"has hung for 0\.1 s"):
            driver.write(np.zeros(2))
        arm.block.set()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"broken": OSError("[Errno 2] could not open port /dev/ttyACM0")}, "cannot be connected: .*ttyACM0"),
        ({"is_calibrated": False}, "run lerobot-calibrate first"),
    ],
)
def test_what_cannot_be_connected_is_an_error_in_a_line(change, words):
    arm = Follower()
    vars(arm).update(change)
    with pytest.raises(DriverError, match=words) as error, FromLeRobot(ARM, arm):
        pass
    assert "\n" not in str(error.value)
    arm.broken = None
    assert not arm.is_connected


def test_a_robot_that_says_nothing_is_an_error_in_a_line():
    arm = Follower()
    arm.block.clear()
    with pytest.raises(DriverError, match="says nothing"), FromLeRobot(changed(patience=0.1), arm):
        pass
    arm.block.set()


def test_keys_must_be_the_robots():
    for keys_ in (["lift.pos"], ["lift.pos", "twist.pos"], ["lift.pos", "turn.pos", "front"]):
        with pytest.raises(ConfigError, match="are not those of black Follower"):
            FromLeRobot(changed(keys=keys_), Follower())
    with pytest.raises(ConfigError, match="as many scales"):
        FromLeRobot(changed(scales=[1.0]), Follower())


def test_a_robot_is_made_from_its_names(monkeypatch):
    module = ModuleType("somebodys_robots")
    module.Follower, module.Settings = Follower, lambda port: SimpleNamespace(port=port)
    monkeypatch.setitem(sys.modules, "somebodys_robots", module)
    made = changed(make="somebodys_robots.Follower", settings_class="somebodys_robots.Settings", settings={"port": "/dev/x"})
    assert FromLeRobot(made).robot.config.port == "/dev/x"
    made.settings = {"harbour": 1}
    with pytest.raises(ConfigError, match="cannot be made"):
        FromLeRobot(made)
    with pytest.raises(ConfigError, match="cannot be imported"):
        FromLeRobot(changed(make="lerobot_of_nobody.Follower", settings_class="lerobot_of_nobody.Settings"))


# ours as theirs


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
    assert [name for name in CONTRACT if not hasattr(Follower(), name) and "__" not in name] == []
    assert ours.action_features == {"v.vel": float, "w.vel": float}
    known = {"x.pos", "y.pos", "yaw.pos", "v.vel", "w.vel", "battery"}
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
    found = [keys(field) for field in Painted.observation]
    assert found[:3] == [["a.pos", "b.pos"], ["a.vel", "b.vel"], ["currents.a", "currents.b"]]
    assert found[3:] == [["force.0", "force.1", "force.2"], ["front"], ["rotation"]]
    assert keys(Field("pose", (3,), "float32", "m, m, rad", names=("x", "y", "yaw"))) == ["x.pos", "y.pos", "yaw.pos"]
    assert keys(Field("battery", (1,), "float32", "V")) == ["battery"]
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
    config = changed(keys=["v.vel", "w.vel"], unit="m/s, rad/s", scales=[1.0, 1.0], zeros=[0.0, 0.0], dt=0.05, patience=3.0)
    with FromLeRobot(config, ours) as driver:
        end = time.monotonic() + 5.0
        while base.velocity[0, 0] < 0.2 and time.monotonic() < end:
            driver.write(np.array([0.25, 0.1]))
        assert base.velocity[0, 0] >= 0.2
        reading = wait(driver.read)
        assert isinstance(reading, Reading)
        assert reading.measured[0] > 0.0
    wait(lambda: not base.velocity.any())
    assert not ours.is_connected
