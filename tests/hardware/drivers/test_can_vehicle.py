"""A car by wire on a loopback bus: counters, checksums, who drives, silence."""

import time

import numpy as np
import pytest

pytest.importorskip("can")
pytest.importorskip("cantools")

import cantools

from hardware.can_frames import Codec, crc8
from hardware.can_loopback import NODES, bus
from hardware.drivers.can_vehicle import BRAKING, COMPUTER, HUMAN, READY, CanVehicle, CanVehicleConfig
from hardware.fakes.can_vehicle import KEYS, TIMEOUT, Car
from robot.core.errors import ConfigError, DriverError
from robot.core.paths import ROOT

DBC = ROOT / "hardware" / "robots" / "car" / "car.dbc"


@pytest.fixture
def channel(worker_number):
    return 40 + worker_number


@pytest.fixture
def car(alive, channel):
    device = alive(Car({**KEYS, "channel": channel, "dt": 0.005}), 0.005)
    yield device
    device.bus.shutdown()


@pytest.fixture
def config(channel):
    return CanVehicleConfig("car", "loopback", str(channel), "car.dbc", 0.02, 3.0)


def test_the_checksum_is_the_published_one():
    assert crc8(-1, b"123456789") == 0x4B


def test_frames_are_what_cantools_reads_and_damage_is_noticed():
    sender, receiver, known = Codec(DBC), Codec(DBC), cantools.database.load_file(str(DBC))
    number, data = sender.pack("STEER_COMMAND", {"ANGLE": -0.1234, "ENABLE": 1})
    assert known.decode_message(number, data)["ANGLE"] == pytest.approx(-0.1234)
    assert receiver.unpack(number, data)[1]["ANGLE"] == pytest.approx(-0.1234)
    assert receiver.unpack(number, data) is None  # again
    number, data = sender.pack("STEER_COMMAND", {"ANGLE": 0.2, "ENABLE": 1})
    for bit in range(8 * len(data)):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        assert receiver.unpack(number, bytes(broken)) is None
    assert receiver.unpack(number, data[:-1]) is None
    assert receiver.unpack(0x7FF, data) is None
    assert receiver.unpack(number, data) is not None


def drive(driver, command, until, seconds=5.0):
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end
        driver.write(np.array(command))
        time.sleep(0.01)


def test_it_steers_and_drives_once_it_has_the_wheel(car, config, wait):
    with CanVehicle(config) as driver:
        driver.arm()
        assert car.mode == COMPUTER
        drive(driver, [0.2, 1.0], lambda: car.speed > 0.5 and abs(car.wheel - 0.2) < 1e-4)
        reading = wait(driver.read)
        assert reading.measured[0] == pytest.approx(0.2, abs=1e-3)
        assert reading.observation["motion"][0] > 0.3
        assert reading.observation["motion"][1] > 0.0  # to the left
    wait(lambda: car.mode in (BRAKING, READY))
    wait(lambda: car.speed < 0.01)
    assert car.account.told["out_of_range"] == car.account.told["not_finite"] == 0


def test_in_silence_it_brakes_to_a_standstill(car, config, wait):
    driver = CanVehicle(config)
    driver.open()
    driver.arm()
    drive(driver, [0.0, 2.0], lambda: car.speed > 0.3)
    wait(lambda: car.mode == BRAKING)
    when = {what: when for when, what in car.account.told["events"]}
    assert when["braking"] - max(car.came.values()) >= TIMEOUT - 1e-3
    with pytest.raises(DriverError, match="braking to a standstill"):
        wait(driver.read)
    wait(lambda: car.speed == 0.0)
    driver.close()


def test_a_human_comes_before_all(car, config, wait):
    with CanVehicle(config) as driver:
        driver.arm()
        car.driver = True
        wait(lambda: car.mode == HUMAN)

        def fails():
            driver.write(np.zeros(2))
            try:
                driver.read()
            except DriverError as error:
                return str(error)
            return None

        assert "somebody has the wheel" in wait(fails)
        config.patience = 0.2
        with pytest.raises(DriverError, match="does not give its wheel away"):
            driver.arm()


def test_far_from_the_wheel_it_does_not_begin(car, config):
    car.wheel = 0.4
    with CanVehicle(config) as driver:
        for _ in range(20):
            driver.write(np.array([0.0, 0.0]))
            time.sleep(0.01)
        assert car.mode == READY
        driver.arm()  # begins where the wheel is
        assert car.mode == COMPUTER


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"interface": "socketcan", "channel": "can9"}, "cannot be opened"),
        ({"channel": "39", "patience": 0.2}, "nobody says the frames"),
        ({"interface": "nosuch"}, "cannot be opened"),
    ],
)
def test_what_cannot_be_is_an_error_in_a_line(config, change, words):
    for name, value in change.items():
        setattr(config, name, value)
    with pytest.raises(DriverError, match=words) as error:
        CanVehicle(config).open()
    assert "\n" not in str(error.value)


def test_a_full_bus_and_a_missing_dbc_are_said(config, channel):
    nodes = [bus(channel) for _ in range(NODES)]
    with pytest.raises(DriverError, match="are taken"):
        bus(channel)
    for node in nodes:
        node.shutdown()
    config.dbc = "nosuch.dbc"
    with pytest.raises(ConfigError, match="no readable DBC"):
        CanVehicle(config)
