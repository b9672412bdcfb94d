"""MSP: frames against published checks, a flight controller over TCP with Betaflight's arming and failsafe."""

import math
import socket
import struct
import time

import numpy as np
import pytest

from hardware import msp
from hardware.drivers.msp import ATTITUDE, HIGH, LOW, MIDDLE, STATUS, STICKS, VARIANT, Msp, MspConfig
from hardware.fakes.betaflight import KEYS, Controller
from robot.core.errors import DriverError
from robot.core.rotation import from_rotvec, multiply, to_matrix


@pytest.fixture
def controller(alive):
    return alive(Controller({**KEYS, "recovery": 0.1}), 0.005)


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


def test_motors_follow_the_throttle_as_measured_on_betaflight(controller, config, wait):
    with Msp(config) as driver:
        driver.arm()
        assert wait(lambda: controller.motors) == pytest.approx(0.055)
        driver.write(np.array([0.0, 0.0, 0.0, 0.4]))
        wait(lambda: controller.motors > 0.2)
        assert controller.motors == pytest.approx(0.40, abs=0.005)


def test_a_late_answer_is_as_old_as_its_question(controller, config, wait):
    """A link that is always late would otherwise look fresh: the next question is asked while the answer is under way."""
    controller.given["delay"] = 0.3
    with Msp(config) as driver:
        for _ in range(5):
            found = None
            end = time.monotonic() + 5
            while found is None:
                assert time.monotonic() < end
                driver.write(np.zeros(4))
                time.sleep(0.02)
                found = driver.read()
            assert time.monotonic() - found.stamp >= 0.3


def test_a_lost_answer_costs_one_measurement(controller, config, wait):
    with Msp(config) as driver:
        wait(driver.read)
        told = controller._told
        controller._told = lambda function: b"" if function == ATTITUDE else told(function)
        time.sleep(0.3)
        driver.read()
        time.sleep(0.1)
        assert driver.read() is None
        controller._told = told
        assert time.monotonic() - wait(driver.read).stamp < 2


def test_arming_waits_for_what_forbids_it_and_a_switch_that_is_on_too_early_has_to_go_off(controller, config, wait):
    controller.given["recovery"] = 0.6
    with Msp(config) as driver:
        for _ in range(5):
            driver._send([MIDDLE, MIDDLE, LOW, MIDDLE], True)
            time.sleep(0.02)
        wait(lambda: controller.latched)
        time.sleep(0.7)
        assert not controller.armed
        driver.arm()
        assert controller.armed
    assert [what for _, what in controller.account.told["events"]] == ["refused to arm", "armed"]


def test_reasons_have_the_bits_of_betaflight():
    """runtime_config.h: 7 throttle, 16 MSP, 24 motor protocol; the arm switch is the last of as many as the firmware has."""
    driver = Msp(MspConfig("betaflight_quadrotor", "", 0, 11.0, 4, 8, 0.02, 5.0))
    for count in (26, 27, 29, 32):
        reasons = 1 << 7 | 1 << 16 | 1 << 24 | 1 << count - 1
        told = struct.pack("<HHHIBHBB", 125, 0, 35, 1, 0, 10, 3, 0) + b"\x02??" + struct.pack("<BI", count, reasons)
        driver._take(STATUS, told + bytes(3))
        assert driver.is_armed
        assert driver._obstacle() == "throttle, a configurator is connected, motor protocol, arm switch"


def test_the_channels_are_where_the_flight_controller_has_its_sticks(controller, config, wait):
    with Msp(config) as driver:
        np.testing.assert_array_equal(wait(driver.read).measured, np.zeros(4))  # no receiver: throttle is below its end
        driver.arm()
        driver.write(np.array([1.0, -0.5, 0.8, 0.3]))
        wait(lambda: controller.sticks[2] == 1300)
        driver.read()
        applied = driver.write(np.array([1.0, -0.5, 0.8, 0.3]))
        reading = wait(lambda: (found := driver.read()) is not None and found.measured[3] > 0 and found)
        np.testing.assert_allclose(reading.measured, applied, atol=1e-9)


def test_one_that_is_armed_is_taken_over_without_switching_it_off_in_the_air(controller, config, wait):
    with Msp(config) as driver:
        driver.arm()
        driver.write(np.array([0.0, 0.0, 0.0, 0.4]))
        wait(lambda: controller.sticks[2] == 1400)
        driver.stop()
        driver.arm()
        assert controller.sticks[2] == 1400
        driver.write(np.array([0.0, 0.0, 0.0, 0.4]))
    assert "disarmed" not in [what for _, what in controller.account.told["events"]]


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
    controller.given["recovery"] = 60.0
    with Msp(config) as driver:
        with pytest.raises(DriverError, match=r"does not arm: no receiver$"):
            driver.arm()
        controller.given["recovery"] = 0.0
        controller._judge = lambda now: None
        with pytest.raises(DriverError, match="does not arm: it does not say why"):
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


def test_a_device_that_is_not_ours_is_an_error_in_a_line(config, monkeypatch):
    def refuse(path, *more):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("serial.serialposix.os.open", refuse)
    config.connection = "/dev/ttyACM0"
    with pytest.raises(DriverError, match="permission denied; be in its group") as error:
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
