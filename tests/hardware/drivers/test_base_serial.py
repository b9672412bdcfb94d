"""A differential base on a pseudo-terminal: frames, enabling, switches, silence."""

import itertools
import math
import time

import numpy as np
import pytest

from hardware.drivers.base_serial import BaseSerial, BaseSerialConfig
from hardware.fakes.base_serial import KEYS, TIMEOUT, Base
from hardware.serial_link import Frames, crc16, frame
from robot.core.errors import DriverError


@pytest.fixture
def base(alive):
    return alive(Base({**KEYS, "dt": 0.005}), 0.005)


@pytest.fixture
def config(base):
    return BaseSerialConfig("differential_base", base.line.path, 115200, 0.05, 21.0, 3.0)


def test_the_checksum_is_the_published_one_and_damage_is_skipped():
    assert crc16(b"123456789") == 0x29B1
    sent = frame(0x01, b"\xa5\xa5abc")
    for split in range(len(sent)):
        frames = Frames()
        assert frames.feed(b"\x00" + sent[:split]) + frames.feed(sent[split:]) == [(1, b"\xa5\xa5abc")]
    broken = bytearray(sent)
    broken[4] ^= 1
    frames = Frames()
    assert frames.feed(bytes(broken) + frame(2, b"") + bytes(200)) == [(2, b"")]
    assert frames.damaged >= 1


def test_it_obeys_only_when_armed_and_tells_where_it_is(base, config, wait):
    with BaseSerial(config) as driver:
        driver.write(np.array([0.4, 0.5]))
        time.sleep(0.1)
        assert not base.velocity.any()
        driver.arm()
        end = time.monotonic() + 5
        while base.velocity[0, 0] < 0.4 - 1e-9 and time.monotonic() < end:
            applied = driver.write(np.array([0.4, 0.5]))
            time.sleep(0.02)
        driver.read()
        driver.write(np.array([0.4, 0.5]))
        np.testing.assert_allclose(applied, [0.4, 0.5], atol=1e-6)
        reading = wait(driver.read)
        np.testing.assert_allclose(reading.measured, [0.4, 0.5], atol=1e-6)
        np.testing.assert_allclose(reading.observation["odometry"][:2], base.pose[0, :2], atol=0.15)
        assert abs(time.monotonic() - reading.stamp) < 1.0
    wait(lambda: not base.velocity.any())
    assert base.account.told["out_of_range"] == base.account.told["not_finite"] == 0


def test_in_silence_it_brakes_by_itself(base, config, wait):
    driver = BaseSerial(config)
    driver.open()
    driver.arm()
    driver.write(np.array([0.5, 0.0]))
    wait(lambda: base.velocity[0, 0] > 0.1)
    wait(lambda: not base.velocity.any())
    told = dict((what, when) for when, what in base.account.told["events"])
    assert told["commands stopped"] - base.came >= TIMEOUT
    driver.close()


@pytest.mark.parametrize(("switch", "words"), [("estop", "emergency stop"), ("bumper", "bumper")])
def test_switches_end_the_run(base, config, wait, switch, words):
    with BaseSerial(config) as driver:
        driver.arm()
        setattr(base, switch, True)

        def fails():
            try:
                driver.read()
            except DriverError as error:
                return str(error)
            return None

        assert words in wait(fails)
        if switch == "estop":
            with pytest.raises(DriverError, match="pull it out"):
                driver.arm()


def test_what_cannot_be_is_an_error_in_a_line(base, config):
    for change, words in (({"device": "/dev/ttyNOBODY"}, "no such device"), ({"battery": 30.0}, "charge it")):
        for name, value in change.items():
            setattr(config, name, value)
        with pytest.raises(DriverError, match=words), BaseSerial(config) as driver:
            driver.arm()
        config.device = base.line.path


def test_a_silent_line_is_an_error(config):
    silent = Base(KEYS)  # nobody ticks it
    config.device, config.patience = silent.line.path, 0.2
    with pytest.raises(DriverError, match="says nothing that is a state frame"):
        BaseSerial(config).open()
    silent.line.close()


def test_no_right_to_a_device_is_said_with_what_to_do(config, monkeypatch):
    serial = pytest.importorskip("serial")

    def refuse(*arguments, **known):
        raise serial.SerialException(13, "could not open port /dev/ttyUSB0: [Errno 13] Permission denied: '/dev/ttyUSB0'")

    monkeypatch.setattr(serial, "Serial", refuse)
    with pytest.raises(DriverError, match="usermod -aG dialout"):
        BaseSerial(config).open()


def test_lost_and_damaged_frames_change_nothing_else(base, config, wait):
    base.loss = 0.5
    with BaseSerial(config) as driver:
        driver.arm()
        driver.link.write(b"\xa5\x01\x08garbage" + bytes(20))
        stamps = []
        for _ in range(40):
            driver.write(np.array([0.2, 0.0]))
            reading = driver.read()
            stamps += [reading.stamp] if reading else []
            time.sleep(0.01)
        assert len(stamps) > 3
        assert all(a < b for a, b in itertools.pairwise(stamps))
        assert math.isfinite(base.pose.sum())
