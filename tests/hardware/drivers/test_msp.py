"""MSP: frames against published checks, a flight controller over TCP with Betaflight's arming and failsafe."""

import math
import socket
import struct
import time

import numpy as np
import pytest

from hardware import msp
from hardware.drivers.msp import HIGH, LOW, MIDDLE, STATUS, STICKS, VARIANT, Msp, MspConfig
from hardware.fakes.betaflight import KEYS, Controller
from robot.core.errors import DriverError
from robot.core.rotation import from_rotvec, multiply, to_matrix


@pytest.fixture
def controller(alive):
    return alive(Controller(KEYS), 0.005)


@pytest.fixture
def config(controller):
    return MspConfig("betaflight_quadrotor", f"tcp:127.0.0.1:{controller.port}", 0, 11.0, 4, 8, 0.02, 5.0)


def test_checksums_are_the_published_ones():
    assert msp.crc8(b"123456789") == 0xBC
    assert msp.frame(100, version=1) == b"$M<\x00\x64\x64"  # MSP_IDENT, as everybody's first packet
    # the example of the protocol's own documentation: function 100, no payload
    assert msp.frame(100).hex() == "24583c00640000008f"


def test_frames_of_both_versions_are_found_however_they_come():
    one, two = msp.frame(7, b"$M<\x01", msp.REPLY, 1), msp.frame(1234, b"$X<" * 3, msp.REPLY, 2)
    stream = b"$$M?" + one + b"noise" + two
    for split in range(len(stream)):
        frames = msp.Frames()
        found = frames.feed(stream[:split]) + frames.feed(stream[split:])
        assert [(f.function, f.payload, f.version) for f in found] == [(7, b"$M<\x01", 1), (1234, b"$X<" * 3, 2)]
    for k in range(3, len(two)):
        broken = bytearray(two)
        broken[k] ^= 8
        frames = msp.Frames()
        found = frames.feed(bytes(broken) + bytes(700) + one)
        assert (7, b"$M<\x01") in [(f.function, f.payload) for f in found]
        assert (1234, b"$X<" * 3) not in [(f.function, f.payload) for f in found]


def test_both_versions_are_answered_by_the_fake(controller):
    with socket.create_connection(("127.0.0.1", controller.port), timeout=5) as link:
        for version in (1, 2):
            link.sendall(msp.frame(VARIANT, version=version))
            assert msp.Frames().feed(link.recv(100))[0] == msp.Frame(VARIANT, b"BTFL", msp.REPLY, version)
        link.sendall(msp.frame(9999))
        assert msp.Frames().feed(link.recv(100))[0].kind == msp.REFUSAL


def test_sticks_are_rates_and_attitude_is_that_of_the_body(controller, config, wait):
    with Msp(config) as driver:
        driver.arm()
        assert controller.armed
        applied = driver.write(np.array([1.0, -0.5, 0.8, 0.4]))
        np.testing.assert_allclose(applied, [1.0, -0.5, 0.8, 0.4], atol=0.012)
        wait(lambda: controller.sticks != [MIDDLE, MIDDLE, LOW, MIDDLE])
        roll, pitch, throttle, yaw = controller.sticks
        assert roll > MIDDLE  # to the right
        assert pitch < MIDDLE  # nose up
        assert yaw < MIDDLE  # to the left
        assert throttle == 1400
        for _ in range(20):
            driver.write(np.array([1.0, -0.5, 0.8, 0.4]))
            time.sleep(0.02)
        np.testing.assert_allclose(controller.rate, [1.0, -0.5, 0.8], atol=0.05)
        driver.read()

        def fresh():
            driver.write(np.array([0.0, 0.0, 0.0, 0.4]))
            time.sleep(0.02)
            return driver.read() if np.abs(controller.rate).max() < 0.01 else (driver.read(), None)[1]

        reading = wait(fresh)
        np.testing.assert_allclose(reading.observation["rotation"], to_matrix(controller.turn), atol=0.03)
        assert reading.observation["battery"] == pytest.approx(15.8)


def test_the_gyroscope_is_in_radians_and_the_attitude_of_large_turns_is_right(controller, config, wait):
    controller.turn = multiply(multiply(from_rotvec([0, 0, 2.0]), from_rotvec([0, -0.7, 0])), from_rotvec([1.1, 0, 0]))
    with Msp(config) as driver:
        np.testing.assert_allclose(wait(driver.read).observation["rotation"], to_matrix(controller.turn), atol=0.02)


def test_silence_is_its_failsafe_and_arming_again_begins_with_the_switch_off(controller, config, wait):
    driver = Msp(config)
    driver.open()
    driver.arm()
    driver.write(np.array([0.0, 0.0, 0.0, 0.5]))
    wait(lambda: controller.motors > 0.4)
    driver.stop()
    wait(lambda: not controller.armed)
    assert controller.motors == 0.0 or wait(lambda: controller.motors == 0.0)
    when = {what: when for when, what in controller.account.told["events"]}
    assert when["failsafe"] - controller.came >= 0.5
    driver._send([MIDDLE, MIDDLE, LOW, MIDDLE], True)
    time.sleep(0.1)
    assert not controller.armed
    driver.arm()
    assert controller.armed
    driver.close()


def test_who_disarms_ends_the_run(controller, config, wait):
    with Msp(config) as driver:
        driver.arm()

        def fails():
            controller.armed, controller.failed = False, True
            driver.write(np.zeros(4))
            time.sleep(0.01)
            try:
                driver.read()
            except DriverError as error:
                return str(error)
            return None

        assert "disarmed itself: failsafe" in wait(fails)


def test_why_it_does_not_arm_is_said(controller, config):
    config.patience = 0.5
    controller._judge = lambda now: None
    with Msp(config) as driver, pytest.raises(DriverError, match=r"does not arm: .*arm switch"):
        driver.arm()


@pytest.mark.parametrize(
    ("connection", "words"),
    [
        ("tcp:127.0.0.1:1", "cannot be opened"),
        ("tcp:127.0.0.1:none", "cannot be opened"),
        ("/dev/ttyNOBODY", "no such device"),
    ],
)
def test_what_cannot_be_is_an_error_in_a_line(config, connection, words):
    config.connection = connection
    with pytest.raises(DriverError, match=words) as error:
        Msp(config).open()
    assert "\n" not in str(error.value)


def test_a_port_that_speaks_otherwise_is_an_error(config):
    with socket.create_server(("127.0.0.1", 0)) as server:
        config.connection, config.patience = f"tcp:127.0.0.1:{server.getsockname()[1]}", 0.3
        with pytest.raises(DriverError, match="answers MSP"):
            Msp(config).open()


def test_nothing_out_of_range_or_not_finite_can_be_said(controller, config, wait):
    with Msp(config) as driver:
        driver.arm()
        for value in (99.0, -99.0, 1e9):
            driver.write(np.full(4, value))
        wait(lambda: controller.account.told["commands"] > 3)
        time.sleep(0.05)
    assert controller.account.told["out_of_range"] == 0
    assert all(LOW <= s <= HIGH for s in controller.sticks)
    assert struct.calcsize("<8H") == 16
    assert math.isfinite(controller.rate.sum())
    assert (STATUS, STICKS) == (150, 200)
