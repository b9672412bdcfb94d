"""A differential base on a pseudo-terminal: frames, enabling, switches, silence."""

import itertools
import json
import math
import signal
import struct
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from omegaconf import OmegaConf

from hardware.drivers.base_serial import BaseSerial, BaseSerialConfig
from hardware.fakes.base_serial import GRAVITY, KEYS, TIMEOUT, Base
from hardware.limits import fit, load
from hardware.serial_link import Frames, crc16, frame
from robot.core.errors import DriverError
from robot.core.paths import CONFIGS, ROOT


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


def test_frames_have_the_bytes_of_the_readme():
    sent = frame(0x01, struct.pack("<ff", 0.5, -1.0))
    assert sent[:-2].hex() == "a5" + "01" + "08" + "0000003f" + "000080bf"
    body, value = sent[1:-2], 0xFFFF0000  # the remainder of the message with sixteen zeros behind it
    message = int.from_bytes(body, "big") << 16
    message ^= value << (8 * len(body) - 16)
    for k in range(8 * len(body) + 15, 15, -1):
        message ^= 0x11021 << (k - 16) if message >> k & 1 else 0
    assert sent[-2:] == message.to_bytes(2, "little")


def test_limits_are_those_of_the_embodiment_and_fit(config):
    body, limits = OmegaConf.load(CONFIGS / "embodiment" / "wheeled.yaml"), load("differential_base")
    v, w = limits.channels
    assert (v.high, w.high, w.low) == (body.max_speed, body.max_yaw_rate, -body.max_yaw_rate)
    assert (v.rate, w.rate) == (body.max_acceleration, body.max_yaw_acceleration)
    assert 0 < -v.low < v.high
    fit(limits, BaseSerial(config).interface)


def test_it_drives_a_circle_and_feels_it():
    base = Base({**KEYS, "dt": 0.01})
    base.enabled, base.wanted, speed, turn = True, np.array([0.4, 0.5]), 0.4, 0.5
    base.velocity = np.array([[speed, turn]])
    felt, frames = [], Frames()
    with open(base.line.path, "rb", buffering=0) as slave:
        for _ in range(200):
            base.came = time.monotonic()
            base.tick()
            felt += [struct.unpack("<I12fB", data)[7:13] for kind, data in frames.feed(slave.read(4096)) if kind == 0x81]
    turned = 200 * 0.01 * turn
    expected = [speed / turn * math.sin(turned), speed / turn * (1 - math.cos(turned)), turned]
    np.testing.assert_allclose(base.pose[0], expected, atol=0.005)
    assert len(felt) > 190
    np.testing.assert_allclose(np.mean(felt, 0), [0.0, speed * turn, GRAVITY, 0.0, 0.0, turn], atol=0.01)


def test_what_is_not_finite_is_not_obeyed_and_rubbish_changes_nothing(base, config, wait):
    rng = np.random.default_rng(0)
    with BaseSerial(config) as driver:
        driver.arm()
        for _ in range(100):
            driver.link.write(rng.integers(0, 256, 40, dtype=np.uint8).tobytes())
            driver.link.write(
                frame(int(rng.integers(0x80)) or 0x7F, rng.integers(0, 256, rng.integers(20), dtype=np.uint8).tobytes())
            )
        driver.link.write(frame(0x02, b"\x01"))
        before = base.account.told["not_finite"]
        for value in (math.nan, math.inf, -math.inf):
            driver.link.write(frame(0x01, struct.pack("<ff", value, 0.0)))
            time.sleep(0.02)
        wait(lambda: base.account.told["not_finite"] >= before + 3)
        assert np.isfinite(base.wanted).all()
        assert (np.abs(base.velocity) <= [0.8, 1.5]).all()


def test_its_clock_may_wrap(base, config, wait):
    with BaseSerial(config) as driver:
        base.boot -= 2**32 / 1e3 - (time.monotonic() - base.boot) - 0.2
        wait(lambda: driver.read() and driver.clock > 2**31)
        stamps = []
        while driver.clock < 2**32 + 50:
            stamps.append(wait(driver.read).stamp)
            assert len(stamps) < 200, "the clock does not go on"
        assert (np.diff(stamps) > 0).all()
        assert stamps[-1] - stamps[0] < 10.0


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
        with pytest.raises(DriverError, match="pull it out" if switch == "estop" else "push it free"):
            driver.arm()
        setattr(base, switch, False)
        wait(lambda: driver.read() and not driver.flags & 6)
        driver.arm()


def test_a_base_that_switches_itself_off_ends_the_run(base, config, wait):
    with BaseSerial(config) as driver:
        driver.arm()
        base.enabled = False

        def fails():
            try:
                driver.read()
            except DriverError as error:
                return str(error)
            return None

        assert "switched its motors off" in wait(fails)


def test_a_line_that_is_unplugged_is_an_error(config):
    other, opened = Base(dict(KEYS)), threading.Event()
    thread = threading.Thread(target=lambda: [(other.tick(), time.sleep(0.005)) for _ in iter(opened.is_set, True)])
    thread.start()
    config.device = other.line.path
    with BaseSerial(config) as driver:
        opened.set()
        thread.join()
        other.line.close()
        with pytest.raises(DriverError, match="still plugged in"):
            driver.read()
        driver.stop()  # never raises


def test_the_simulated_base_says_where_it_is_and_what_it_saw(config):
    command = [sys.executable, "-m", "hardware.fakes.base_serial"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    ready, config.device = process.stdout.readline().split()
    assert ready == "ready"
    with BaseSerial(config) as driver:
        driver.arm()
        driver.write(np.array([0.2, 0.0]))
        driver.write(np.array([5.0, 0.0]))
        assert driver.report()[0].split() == ["battery", "25.2", "V"]
    time.sleep(0.5)  # until it has listened once more
    process.send_signal(signal.SIGTERM)
    told = json.loads(process.communicate(timeout=20)[0])
    assert told["out_of_range"] == 1
    assert told["not_finite"] == 0
    assert told["commands"] >= 4


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
