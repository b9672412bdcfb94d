"""The MAVLink driver against an autopilot on loopback that keeps PX4's rules; frames, order, arming, and who flies it."""

import math
import socket
import threading
import time

import numpy as np
import pytest

pytest.importorskip("pymavlink")

from hardware.drivers.mavlink import FARTHEST, Mavlink, MavlinkConfig, Setpoint, State
from hardware.fakes.autopilot import Autopilot, Kinematic
from hardware.limits import fit, load
from hardware.mavlink_modes import MODES, Firmware
from robot.core.errors import ConfigError, DriverError
from robot.core.rotation import from_rotvec, to_matrix

LAND, LOITER = MODES[Firmware.px4].land, MODES[Firmware.px4].hover


class Still:
    """A vehicle that stands where it is put, and remembers its motors."""

    def __init__(self):
        self.put = (
            np.array([1.0, 2.0, 3.0]),
            from_rotvec([0.1, -0.2, 0.7]),
            np.array([0.3, 0.2, -0.1]),
            np.array([0.5, -0.4, 0.3]),
        )
        self.motors = None

    def step(self, motors):
        self.motors = motors.copy()

    def state(self):
        return self.put


def port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def wire():
    """An autopilot that ticks in a thread, and a config that reaches it."""
    ports = port(), port()
    pilot = Autopilot(Still(), *ports, dt=0.002, loss=0.2)
    ended = threading.Event()

    def run():
        while not ended.is_set():
            pilot.tick()
            time.sleep(0.002)

    thread = threading.Thread(target=run)
    thread.start()
    config = MavlinkConfig(
        "px4_quadrotor",
        f"udpin:127.0.0.1:{ports[1]}",
        0,
        Firmware.px4,
        Setpoint.motors,
        [0, 2, 3, 1],
        0.01,
        250.0,
        [0.0] * 3,
        0.0,
        1.0,
    )
    yield pilot, config
    ended.set()
    thread.join()
    pilot.socket.close()


def wait(what, seconds=3.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.001)
    raise AssertionError("waited in vain")


def test_what_the_vehicle_does_is_what_is_read(wire):
    pilot, config = wire
    with Mavlink(config) as driver:
        reading = wait(driver.read)
        position, q, velocity, rate = pilot.vehicle.put
        seen = reading.observation
        np.testing.assert_allclose(seen["position"], position, atol=1e-5)
        np.testing.assert_allclose(seen["rotation"], to_matrix(q), atol=1e-5)
        np.testing.assert_allclose(seen["velocity"], velocity, atol=1e-5)
        np.testing.assert_allclose(seen["rate"], rate, atol=1e-5)
        assert 0 <= time.monotonic() - reading.stamp < 0.5
        assert driver.read() is None or driver.read() is None  # nothing is read twice
        fit(load("px4_quadrotor"), driver.interface)


def test_each_motor_turns_as_it_is_told_and_says_so(wire):
    pilot, config = wire
    with Mavlink(config) as driver:
        driver.arm()
        assert pilot.armed
        sent = driver.write(np.array([-1.0, -0.5, 0.25, 1.0]))
        np.testing.assert_allclose(sent, [-1.0, -0.5, 0.25, 1.0])
        wait(lambda: pilot.vehicle.motors is not None and abs(pilot.vehicle.motors[3] - 1.0) < 1e-6)
        np.testing.assert_allclose(pilot.vehicle.motors, [-1.0, -0.5, 0.25, 1.0], atol=1e-6)
        wait(lambda: np.allclose(np.float32(driver.measured), [-1.0, -0.5, 0.25, 1.0], atol=1e-6) or (driver.read() and False))
        driver.stop()
        wait(lambda: pilot.mode == LAND)


def test_body_rates_arrive_in_the_autopilots_axes(wire):
    pilot, config = wire
    config.setpoint = Setpoint.rates
    heard = []
    take = pilot._take
    pilot._take = lambda message: (heard.append(message) if message.get_type() == "SET_ATTITUDE_TARGET" else None, take(message))
    with Mavlink(config) as driver:
        driver.write(np.array([0.1, 0.2, 0.3, 0.6]))
        message = wait(lambda: heard and heard[0])
        found = [message.body_roll_rate, message.body_pitch_rate, message.body_yaw_rate, message.thrust]
        np.testing.assert_allclose(found, [0.1, -0.2, -0.3, 0.6], atol=1e-6)
        assert message.type_mask == 128


@pytest.mark.parametrize("firmware", list(Firmware))
def test_velocities_are_flown_in_the_world_by_either_firmware(wire, firmware):
    pilot, config = wire
    pilot.firmware, pilot.modes, pilot.vehicle = firmware, MODES[firmware], Kinematic(0.002, 0.0)
    config.firmware, config.setpoint = firmware, Setpoint.velocity
    with Mavlink(config) as driver:
        driver.arm()
        assert pilot.mode == MODES[firmware].obeys
        for _ in range(60):
            driver.write(np.array([0.5, -0.3, 0.2, 0.4]))
            time.sleep(0.01)
        reading = wait(driver.read)
        np.testing.assert_allclose(pilot.command, [0.5, -0.3, 0.2, 0.4], atol=1e-6)
        gone = reading.observation["position"]
        assert gone[0] > 0.1
        assert gone[1] < -0.05
        assert gone[2] > 0.03
        assert reading.measured[0] > 0.3
        driver.stop()
        wait(lambda: pilot.mode == MODES[firmware].land)
    assert pilot.seen["out_of_range"] == pilot.seen["not_finite"] == 0


def test_ardupilot_takes_no_motor_commands(wire):
    _, config = wire
    config.firmware = Firmware.ardupilot
    with pytest.raises(ConfigError, match="rates or velocity"):
        Mavlink(config)


def test_silence_makes_the_autopilot_land(wire):
    pilot, config = wire
    with Mavlink(config) as driver:
        driver.arm()
        driver.write(np.zeros(4))
        wait(lambda: pilot.mode == LAND, 1.0)
        assert pilot.seen["modes"][-1][2] == "setpoints stopped"


def test_whoever_takes_over_flies(wire):
    pilot, config = wire
    with Mavlink(config) as driver:
        driver.arm()
        driver.offboard -= 2.0  # long ago
        pilot._enter(LOITER, "the pilot's switch")

        def left():
            driver.write(np.zeros(4))
            driver.read()

        with pytest.raises(DriverError, match="left mode 6 for 4"):
            wait(left)
        driver.stop()
        time.sleep(0.05)
        assert pilot.mode == LOITER  # no order to land: it is somebody else's


def test_an_autopilot_that_refuses_is_an_error_in_its_words(wire):
    pilot, config = wire
    pilot.since = math.inf  # never satisfied
    pilot._setpoint = lambda values, legal: False
    with Mavlink(config) as driver, pytest.raises(DriverError, match="the mode that obeys: MAV_RESULT_TEMPORARILY_REJECTED"):
        driver.arm()


def test_its_will_is_to_land(wire):
    pilot, config = wire
    driver = Mavlink(config)
    will = driver.will()
    with driver:
        driver.arm()
        will()
        wait(lambda: pilot.mode == LAND)


@pytest.mark.parametrize(
    ("connection", "words"),
    [
        ("udpin:127.0.0.1:{free}", "no autopilot says anything"),
        ("udpin:127.0.0.1:{taken}", "in use"),
        ("udpin:127.0.0.1:none", "cannot be opened"),
        ("/dev/ttyNOBODY", "cannot be opened"),
    ],
)
def test_a_link_that_cannot_be_is_an_error_in_a_line(wire, connection, words):
    pilot, config = wire
    config.connection, config.patience = connection.format(free=port(), taken=pilot.socket.getsockname()[1]), 0.1
    with pytest.raises(DriverError, match=words) as error, Mavlink(config):
        pass
    assert "\n" not in str(error.value)


def test_strangers_are_not_heard(wire):
    pilot, config = wire
    with Mavlink(config) as driver, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        wait(driver.read)
        forged = pilot._odometry(0)
        forged.x = 1e6
        for _ in range(20):
            stranger.sendto(forged.pack(pilot.link), ("127.0.0.1", int(config.connection.rsplit(":", 1)[1])))
            reading = wait(driver.read)
            assert abs(reading.observation["position"]).max() < 10


def test_prediction_is_exact_where_accelerations_are_constant():
    spin, gain = np.array([0.0, 0.0, 2.0]), np.array([0.0, 0.0, 5.0])
    pull = np.array([1.0, -2.0, 0.5])

    def at(t):
        return State(pull * t * t / 2, to_matrix(from_rotvec(spin * t + gain * t * t / 2)), pull * t, spin + gain * t)

    found = at(0.1).ahead((0.095, at(0.095)), 0.1, 0.01)
    for name in ("position", "rotation", "velocity", "rate"):
        np.testing.assert_allclose(getattr(found, name), getattr(at(0.11), name), atol=1e-9)
    assert at(0.1).ahead((0.1 - 2 * FARTHEST, at(0.05)), 0.1, 0.01) is not None
    old = at(0.1)
    assert old.ahead((0.1, at(0.1)), 0.1, 0.01) is old
    assert old.ahead((0.095, at(0.095)), 0.1, 0.0) is old
