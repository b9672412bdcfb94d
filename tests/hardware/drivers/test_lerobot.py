"""A robot of LeRobot's as a driver: an arm that keeps the contract of LeRobot's Robot and nothing more."""

import sys
import threading
import time
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from hardware.drivers.lerobot import FromLeRobot, FromLeRobotConfig
from hardware.guard import Guard
from hardware.runtime import Runtime
from robot.core.clock import Clock
from robot.core.errors import ConfigError, DriverError


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
