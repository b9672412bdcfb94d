"""A recorded run that is played again: the same policy does the same, another one differs by what it differs."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from hardware.drivers import replay
from hardware.drivers.base import Reading
from hardware.drivers.replay import Replay, ReplayConfig
from hardware.guard import Guard, Mode
from hardware.limits import fit, load
from hardware.recorder import Recorder
from hardware.runtime import Runtime
from robot.core.errors import ConfigError, DatasetError, DriverError
from robot.core.interface import Field, Interface

INTERFACE = Interface(
    (Field("velocity", (2,), "float32", "m/s, rad/s"), Field("image", (2, 3), "uint8")),
    Field("twist", (2,), "float32", "m/s, rad/s", "body", names=("v", "w")),
    0.05,
)
COUNT = 40


@pytest.fixture
def recording(tmp_path):
    """Two episodes of 2 s: v is k / 100 in period k, measured 7 ms before, sent but for the first two periods; w is -0.25."""
    recorder = Recorder(tmp_path / "run", INTERFACE, {"robot": "differential_base"})
    for episode in (1, 2):
        for k in range(COUNT):
            now = 500.0 + 100.0 * episode + 0.05 * k
            seen = {"velocity": np.float32([k / 100, -0.25]), "image": np.full((2, 3), k, np.uint8)}
            sent = None if k < 2 else np.array([k / 100, -0.25])
            recorder.period(now, Reading(seen, now - 0.007, np.zeros(2)), episode, Mode.running, sent, sent)
    recorder.close()
    return tmp_path / "run"


@pytest.fixture
def moment(monkeypatch):
    """A clock that stands still until it is told."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(replay, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def config(folder, **changes):
    return ReplayConfig(**{"robot": "differential_base", "recording": str(folder), "episode": 1, "measured": None, **changes})


def test_what_was_measured_is_said_again_when_it_was_said(recording, moment):
    with Replay(config(recording)) as driver:
        assert driver.interface == INTERFACE
        fit(load("differential_base"), Interface((*INTERFACE.observation, *more()), INTERFACE.action, INTERFACE.dt))
        for k in range(COUNT):
            moment.now = 1000.0 + 0.05 * k + 0.01
            reading = driver.read()
            assert reading.stamp == pytest.approx(1000.0 + 0.05 * k - 0.007)
            assert reading.observation["velocity"][0] == np.float32(k / 100)
            assert reading.observation["image"].tolist() == np.full((2, 3), k).tolist()
            assert driver.read() is None  # nothing is read twice
        np.testing.assert_allclose(reading.measured, [(COUNT - 1) / 100, -0.25])
        moment.now += 0.1
        with pytest.raises(DriverError, match=r"is over after 1\.95 s"):
            driver.read()
        driver.arm()  # from the beginning
        assert driver.read().observation["velocity"][0] == 0.0


def more():
    """What the limits of the base look at besides."""
    names = {entry.field for entry in load("differential_base").measured} | set(load("differential_base").trembling)
    return [Field(name, (1,)) for name in sorted(names - {"velocity"})]


def test_periods_that_are_missed_are_missed(recording, moment):
    with Replay(config(recording)) as driver:
        moment.now = 1000.0 + 1.02
        assert driver.read().observation["velocity"][0] == np.float32(0.2)


def test_commands_are_compared_with_those_of_then(recording, moment):
    with Replay(config(recording)) as driver:
        driver.arm()
        for k in range(COUNT):
            moment.now = 1000.0 + 0.05 * k + (0.02 if k % 2 else -0.02) * (k > 0)
            told = np.array([k / 100 + (0.3 if k == 20 else 0.1), -0.25])
            np.testing.assert_allclose(driver.write(told), told, atol=1e-6)
        first, v, w = driver.report()
        assert first.split() == ["compared", "38", "commands,", "2", "more", "where", "nothing", "was", "sent", "then"]
        rms = np.sqrt((37 * 0.1**2 + 0.3**2) / 38)
        assert v.startswith("v ")
        assert f"differs by {rms:.4g} m/s (rms), at most 0.3 m/s at" in v
        assert "differs by 0 rad/s (rms), at most 0 rad/s" in w
        assert float(v.rsplit(" ", 2)[1]) == pytest.approx(1.0, abs=0.03)


def test_what_the_channels_measure_is_a_field_or_the_last_command(recording, moment):
    with Replay(config(recording, measured="velocity")) as driver:
        np.testing.assert_allclose(driver.read().measured, [0.0, -0.25])
    with Replay(config(recording)) as driver:
        np.testing.assert_allclose(driver.read().measured, [0.02, -0.25])  # nothing had been sent yet: the first that was
    with pytest.raises(ConfigError, match="no observation of 2 elements"):
        Replay(config(recording, measured="nothing"))


def test_a_recording_without_commands_is_compared_with_none(tmp_path, moment):
    recorder = Recorder(tmp_path / "dry", INTERFACE, {})
    seen = {"velocity": np.zeros(2, np.float32), "image": np.zeros((2, 3), np.uint8)}
    for k in range(3):
        recorder.period(0.05 * k, Reading(seen, 0.05 * k, np.zeros(2)), 1, Mode.running, np.ones(2), None)
    recorder.close()
    with Replay(config(tmp_path / "dry")) as driver:
        driver.write(np.ones(2))
        assert driver.read().measured.tolist() == [0.0, 0.0]
        assert driver.report() == ["compared          0 commands, 1 more where nothing was sent then"]


def test_what_is_no_recording_is_an_error_in_a_line(tmp_path, recording):
    with pytest.raises(DatasetError, match="no recording"):
        Replay(config(tmp_path))
    with pytest.raises(ConfigError, match="has no episode 3; it has 1, 2"):
        Replay(config(recording, episode=3))
    with pytest.raises(DriverError, match="not open"):
        Replay(config(recording)).read()


def run(robot, driver, clock, wants, folder=None):
    """A second of the servo loop in manual time, recorded where a folder is given."""
    robot.mind.wants = np.tile(wants, (1, 1))
    recorder = Recorder(folder, driver.interface, {}) if folder else None
    guard = Guard(robot.guard.limits, driver.interface)
    runtime = Runtime(driver, guard, robot.mind, robot.controller, clock, recorder)
    runtime.arm()
    for _ in range(99):
        runtime.tick()
    if recorder is not None:
        recorder.close()
    return runtime


@pytest.mark.parametrize("other", [0.0, 0.2])
def test_a_run_of_the_servo_loop_repeats_itself(robot, tmp_path, monkeypatch, other):
    made = robot(frozen=float("inf"))
    run(made, made.driver, made.clock, [0.5, -0.5], tmp_path / "run")
    monkeypatch.setattr(replay, "time", SimpleNamespace(monotonic=made.clock.now))
    made.clock.advance(100.0)
    made.controller.reset()
    with Replay(config(tmp_path / "run", measured="joints")) as driver:
        runtime = run(made, driver, made.clock, [0.5 - other, -0.5])
        assert runtime.guard.mode is Mode.running, runtime.guard.reasons
        differences = np.abs([difference for _, difference in driver.compared])
        assert len(differences) >= 97
        np.testing.assert_allclose(differences[-1], [other, 0.0], atol=1e-4)
        if not other:
            assert differences.max() < 1e-4  # as its encoders tremble
        for _ in range(3):
            runtime.tick()
        assert runtime.guard.mode is Mode.stopped
        assert "is over after" in runtime.guard.reasons[-1]


def test_it_plays_in_real_time(recording):
    with Replay(config(recording)) as driver:
        start, heard = time.monotonic(), []
        while not heard or heard[-1].observation["velocity"][0] < 0.05:
            reading = driver.read()
            heard += [reading] if reading else []
            assert time.monotonic() - start < 10.0
            time.sleep(0.002)
        assert time.monotonic() - start >= 0.25
