"""The maker's library connects to the fake as to a real one; the driver through it; silence and landing."""

import re
import time

import numpy as np
import pytest

pytest.importorskip("cflib")

from hardware.drivers.crazyflie import ARMED, CRASHED, LOCKED, TUMBLED, Crazyflie, CrazyflieConfig
from hardware.fakes.crazyflie import CUT, KEYS, LEVEL, Quad
from robot.core.errors import DriverError
from robot.core.rotation import from_rotvec, to_matrix


@pytest.fixture
def quad(alive):
    return alive(Quad(KEYS), 0.001)


@pytest.fixture
def config(quad):
    return CrazyflieConfig("crazyflie", f"udp://127.0.0.1:{quad.port}", 0.02, 0.01, 20.0)


def test_it_flies_as_it_is_told_and_says_where_it_is(quad, config, wait):
    quad.yaw = 2.5
    with Crazyflie(config) as driver:
        first = wait(driver.read, 20)
        np.testing.assert_allclose(first.observation["position"], [0, 0, 0.5], atol=1e-3)
        np.testing.assert_allclose(first.observation["rotation"], to_matrix(from_rotvec([0, 0, 2.5])), atol=5e-3)
        driver.arm()
        assert quad.armed
        end = time.monotonic() + 10
        while np.abs(quad.velocity - [0.3, -0.2, 0.1, 0.5]).max() > 0.01:
            assert time.monotonic() < end
            applied = driver.write(np.array([0.3, -0.2, 0.1, 0.5]))
            time.sleep(0.02)
        np.testing.assert_allclose(applied, [0.3, -0.2, 0.1, 0.5], atol=1e-6)
        driver.read()
        driver.write(applied)
        reading = wait(driver.read)
        np.testing.assert_allclose(reading.observation["velocity"], [0.3, -0.2, 0.1], atol=0.03)
        np.testing.assert_allclose(reading.measured[3], 0.5, atol=0.03)
    what = wait(lambda: (told := [name for _, name in quad.account.told["events"]])[-1] == "has landed" and told, 20)
    assert what[-2:] == ["lands", "has landed"]
    assert "attitude setpoint" not in what  # the library's zero setpoint on closing would have cut the motors
    assert quad.account.told["out_of_range"] == quad.account.told["not_finite"] == 0


def test_rates_are_about_the_bodys_axes_with_y_to_the_left(quad, config, wait):
    """The firmware logs -gyro.y; roll to the right, nose down and turning left are positive for us."""
    quad.rolling[:] = 0.4, 0.7
    assert quad._values()[6:8] == [400, -700]
    with Crazyflie(config) as driver:
        np.testing.assert_allclose(wait(driver.read, 20).observation["rate"], [0.4, 0.7, 0.0], atol=1e-6)


def test_a_link_that_becomes_slow_gives_old_readings_and_a_clock_that_begins_anew_does_not(quad, config, wait):
    quad.boot = time.monotonic() - 16777.216 + 1.0  # its clock of 24 bits ends while we listen
    with Crazyflie(config) as driver:
        end, ages = time.monotonic() + 2.0, []
        while time.monotonic() < end:
            reading = driver.read()
            ages += [] if reading is None else [time.monotonic() - reading.stamp]
            time.sleep(0.005)
        assert len(ages) > 20
        assert max(ages) < 5  # four and a half hours otherwise
        quad.given = {**quad.given, "delay": 0.4}
        wait(lambda: (found := driver.read()) is not None and time.monotonic() - found.stamp > 0.35)


def test_a_supervisor_that_takes_over_ends_the_run_in_words(config):
    driver = Crazyflie(config)
    told = {
        0: "disarmed (supervisor.info is 0x0)", ARMED | TUMBLED: "has tumbled", LOCKED | TUMBLED: "is locked",
        ARMED | CRASHED: "has crashed",
    }  # fmt: skip
    for info, words in told.items():
        driver.machine, driver.armed, driver.info = object(), True, info
        with pytest.raises(DriverError, match=re.escape(words)):
            driver.read()
        assert not driver.armed


def test_in_silence_it_levels_out_then_stops_and_locks(quad, config, wait):
    driver = Crazyflie(config)
    driver.open()
    driver.arm()
    driver.write(np.array([0.4, 0.0, 0.0, 0.0]))

    def locked():
        try:
            driver.read()
        except DriverError as error:
            return str(error)
        return None

    assert "supervisor has taken over: it is locked" in wait(locked, 20)
    when = {what: when for when, what in quad.account.told["events"]}
    assert when["levels out"] - quad.came >= LEVEL
    assert when["stops and locks"] - quad.came >= CUT
    config.patience = 0.3
    with pytest.raises(DriverError, match="locked; switch it off and on"):
        driver.arm()
    driver.stop()
    driver.close()
    driver.close()


@pytest.mark.parametrize(
    ("uri", "words"),
    [("udp://127.0.0.1:1", "cannot be reached"), ("carrier://pigeon", "cannot be reached"), ("usb://9", "cannot be")],
)
def test_what_cannot_be_is_an_error_in_a_line(config, uri, words):
    config.uri, config.patience = uri, 0.5
    with pytest.raises(DriverError, match=words) as error:
        Crazyflie(config).open()
    assert "\n" not in str(error.value)
