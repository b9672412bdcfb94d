"""What every driver promises, for every yaml of configs/driver: limits that fit, and a device that never hears what it must not.

A driver of a real protocol runs against its fake, in a process of its own; what the device says of what it heard is what counts.
"""

import json
import math
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from hardware import limits as robots
from hardware.drivers.base import Driver, Reading
from hardware.guard import Action, Guard, Mode
from robot.core.config import build
from robot.core.errors import DriverError
from robot.core.paths import CONFIGS, ROOT

NAMES = sorted(file.stem for file in (CONFIGS / "driver").glob("*.yaml"))


FAKES = {
    "base_serial": ("base_serial", [], lambda where: {"device": where}),
    "can_vehicle": ("can_vehicle", [], lambda where: {"connection": where}),
    "crazyflie": ("crazyflie", ["port=0"], lambda where: {"uri": where}),
    "dynamixel": ("dynamixel", ["dt=0.002"], lambda where: {"device": where}),
    "msp": ("betaflight", ["port=0"], lambda where: {"connection": where}),
}
"""Driver: its fake, the fake's arguments, and the driver's keys from where the fake says it is."""
ELSEWHERE = {
    "mavlink": "tests/hardware/drivers/test_mavlink.py and tests/bench/bench_faults.py",
    "replay": "tests/hardware/drivers/test_replay.py",
    "ros_base": "tests/hardware/test_node.py",
    "sim_pusht": "tests/hardware/test_processes.py",
    "sim_quadrotor": "tests/hardware/test_processes.py",
}
"""Drivers that need more than a fake, and where they are tried."""
SECONDS = 1.5
"""Of adversaries."""


def make(name: str, **keys) -> Driver:
    with initialize_config_dir(str(CONFIGS), version_base=None):
        cfg = compose(f"driver/{name}")
    for key, value in keys.items():
        cfg.driver[key] = value
    return build(cfg.driver, "driver")


@contextmanager
def fake(name: str):
    """Where the device is, and what it says at its end: filled in then."""
    module, arguments, _ = FAKES[name]
    command = [sys.executable, "-m", f"hardware.fakes.{module}", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    report: dict = {}
    try:
        yield process.stdout.readline().split()[1], report
        process.send_signal(signal.SIGTERM)
        report |= json.loads(process.communicate(timeout=30)[0].splitlines()[-1])
    finally:
        process.kill()
        process.communicate()


def test_every_driver_is_tried() -> None:
    assert set(NAMES) == {*FAKES, *ELSEWHERE}, "name a new driver's fake in FAKES, or say in ELSEWHERE where it is tried"
    assert [file for said in ELSEWHERE.values() for file in said.split(" and ") if not (ROOT / file).exists()] == []


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("replay",)])
def test_its_limits_fit_and_every_robot_has_a_page(name: str) -> None:
    with initialize_config_dir(str(CONFIGS), version_base=None):
        cfg = compose(f"driver/{name}")
    robot = cfg.driver.robot
    limits = robots.load(robot)
    if not name.startswith("sim_"):
        page = ROOT / "hardware" / "robots" / robot / "README.md"
        assert "topping" in page.read_text(), "how is it stopped?"
        keys = {"bridge": {"_target_": "tests.hardware.ros.test_fuzz.Table"}} if name == "ros_base" else {}
        robots.fit(limits, make(name, **keys).interface)


@pytest.mark.parametrize("name", sorted(FAKES))
def test_it_can_be_opened_stopped_and_closed_twice(name: str) -> None:
    with fake(name) as (where, _):
        driver = make(name, **FAKES[name][2](where))
        with pytest.raises(DriverError, match="not open"):
            driver.read()
        driver.open()
        driver.open()
        reading = first(driver)
        assert reading.measured.shape == driver.command.shape
        assert {n: v.shape for n, v in reading.observation.items()} == {f.name: f.shape for f in driver.observation}
        assert abs(time.monotonic() - reading.stamp) < 5
        driver.stop()
        driver.stop()
        driver.close()
        driver.close()
        driver.stop()


def first(driver: Driver) -> Reading:
    end = time.monotonic() + 10
    while (reading := driver.read()) is None:
        assert time.monotonic() < end
        time.sleep(0.002)
    return reading


def adversary(rng: random.Random, guard: Guard) -> np.ndarray:
    spans = [(c.low, c.high) for c in guard.limits.channels]
    kind = rng.randrange(6)
    if kind == 0:
        return np.array([rng.choice([low, high]) for low, high in spans])
    if kind == 1:
        return np.array([rng.uniform(low - (high - low) / 2, high + (high - low) / 2) for low, high in spans])
    if kind == 2 and rng.random() < 0.1:
        return np.full(len(spans), rng.choice([math.nan, math.inf, 1e30]))
    return np.array([rng.uniform(low, high) for low, high in spans])


@pytest.mark.parametrize("name", sorted(FAKES))
def test_adversaries_never_reach_the_device(name: str, tmp_path: Path) -> None:
    rng = random.Random(0)
    with fake(name) as (where, report):
        driver = make(name, **FAKES[name][2](where))
        limits = robots.load(driver.config.robot)  # type: ignore[attr-defined]
        limits.observation_age = limits.command_age = 5.0  # a machine that other tests share
        guard, sent = Guard(limits, driver.interface), []
        with driver:
            reading, end = first(driver), time.monotonic() + SECONDS
            while time.monotonic() < end:
                reading = driver.read() or reading
                if guard.mode not in (Mode.armed, Mode.running):
                    began = time.monotonic()
                    reading = taken_over(driver, guard)
                    end += time.monotonic() - began
                now = time.monotonic()
                command = guard.tick(now, reading, Action(adversary(rng, guard), now))
                if command is not None:
                    applied = driver.write(np.array(command))
                    np.testing.assert_allclose(applied, command, atol=0.02 * np.ptp([[c.low, c.high] for c in limits.channels]))
                    sent.append(command)
                time.sleep(0.002)
    assert len(sent) > 20
    assert report["commands"] > 5
    assert report["not_finite"] == report["out_of_range"] == 0


def taken_over(driver: Driver, guard: Guard) -> Reading:
    """Arm both again; a car has to stand first, and what the adversary turned over has to come to lie level."""
    end = time.monotonic() + 10
    guard.release()
    while True:
        with suppress(DriverError):
            driver.arm()
        reading = first(driver)
        try:
            guard.arm(inside(reading, guard), time.monotonic())
        except DriverError:
            if time.monotonic() > end:
                raise
        else:
            return reading


def inside(reading: Reading, guard: Guard) -> Reading:
    """As measured, with noise at an edge taken off: the adversary leaves robots at the very end of their range."""
    low, high = (np.array([getattr(bound, edge) for bound in guard.bounds]) for edge in ("low", "high"))
    return Reading(reading.observation, reading.stamp, np.clip(reading.measured, low, high))
