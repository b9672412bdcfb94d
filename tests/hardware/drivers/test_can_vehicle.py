"""The car on CAN: frames against cantools and long division, python-can on the other end of the bus, who drives, and silence."""

import json
import math
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("can")
pytest.importorskip("cantools")

import can
import cantools

from hardware.can_link import Codec, crc8
from hardware.drivers.can_vehicle import CanVehicle, CanVehicleConfig, Mode
from hardware.fakes.can_vehicle import BASE, KEYS, TRACK, Bicycle, Car
from hardware.fakes.socketcand import Socketcand
from hardware.limits import ROBOTS, fit, load
from robot.core.errors import ConfigError, DriverError
from robot.core.paths import ROOT

DBC = ROBOTS / "car" / "car.dbc"
DATABASE = cantools.database.load_file(DBC)


def remainder(data):
    """CRC-8 SAE J1850 by dividing the whole message, an integer, by the polynomial."""
    bits = 8 * len(data)
    value = (int.from_bytes(data, "big") ^ 0xFF << bits - 8) << 8
    for k in range(bits + 7, 7, -1):
        if value >> k & 1:
            value ^= 0x11D << k - 8
    return value ^ 0xFF


@pytest.fixture
def car(alive):
    made = alive(Car(dict(KEYS)), 0.01)
    yield made
    made.bus.close()


@pytest.fixture
def config(car):
    return reach(car.bus.port)


def reach(port, **changes):
    known = {"robot": "car", "connection": f"socketcand:127.0.0.1:{port}", "options": None, "database": "car/car.dbc"}
    return CanVehicleConfig(**{**known, "dt": 0.02, "patience": 3.0, **changes})


@pytest.fixture
def stranger(car):
    """Another node on the bus: python-can and cantools, nothing of ours."""
    bus = can.Bus(interface="socketcand", channel="can0", host="127.0.0.1", port=car.bus.port, ignore_config=True)
    yield bus
    bus.shutdown()


def command(steering, acceleration, request, counter, spoil=0):
    message = DATABASE.get_message_by_name("COMMAND")
    signals = {"STEERING": steering, "ACCELERATION": acceleration, "REQUEST": request, "COUNTER": counter, "CHECKSUM": 0}
    data = bytearray(message.encode(signals))
    data[7] = remainder(b"\x01\x01" + data[:7]) ^ spoil
    return can.Message(arbitration_id=0x101, data=data, is_extended_id=False)


def fails(driver, keep=None):
    """What the driver says when it gives up; it is commanded until then."""

    def tried():
        try:
            if keep is not None:
                driver.write(keep)
            driver.read()
        except DriverError as error:
            return str(error)
        time.sleep(0.01)
        return None

    return tried


def test_the_checksum_is_that_of_the_standard():
    assert crc8(b"123456789") == 0x4B
    rng = np.random.default_rng(0)
    for size in range(1, 12):
        data = rng.integers(0, 256, size, dtype=np.uint8).tobytes()
        assert crc8(data) == remainder(data)


def test_frames_have_the_bytes_of_the_table():
    number, data = Codec(DBC).pack("COMMAND", {"STEERING": 0.1, "ACCELERATION": -1.5, "REQUEST": 1})
    assert number == 0x101
    assert data[:7].hex() == "e803" + "24fa" + "01" + "00" + "00"
    assert data[7] == remainder(bytes.fromhex("0101") + data[:7])


def test_no_damage_of_one_or_two_bits_passes():
    codec = Codec(DBC)
    number, data = codec.pack("COMMAND", {"STEERING": 0.1, "ACCELERATION": -1.5, "REQUEST": 1})
    for first in range(64):
        for second in range(first, 64):
            broken = int.from_bytes(data, "big") ^ (1 << first) ^ (1 << second if second != first else 0)
            assert codec.unpack(number, broken.to_bytes(8, "big")) is None
    assert codec.refused == {"checksum": 64 * 65 // 2, "counter": 0}
    assert codec.unpack(number, data) is not None


def test_counters_may_skip_a_little_and_never_repeat():
    sender, codec = Codec(DBC), Codec(DBC)

    def taken(counter):
        signals = {"STEERING": 0.0, "ACCELERATION": 0.0, "REQUEST": 0, "COUNTER": counter}
        return codec.unpack(*sender.pack("COMMAND", signals)) is not None

    heard = [taken(counter) for counter in (14, 15, 0, 0, 3, 7, 8, 7, 8)]
    assert heard == [True, True, True, False, True, False, True, False, True]
    assert codec.refused == {"checksum": 0, "counter": 3}


def test_a_circle_is_a_circle():
    body, angle, speed, dt = Bicycle(3.0), 0.3, 3.0, 1e-3
    body.steering = angle
    radius = BASE / math.tan(angle)
    for _ in range(4000):
        body.move(angle, 0.0, dt)
        assert body.speed == speed
    turned = 4.0 * speed / radius
    np.testing.assert_allclose(body.yaw, turned, rtol=1e-9)
    expected = [radius * math.sin(turned), radius * (1 - math.cos(turned))]
    np.testing.assert_allclose([body.x, body.y], expected, atol=0.01)
    rims = [radius - TRACK / 2, radius + TRACK / 2]
    expected = [*(math.hypot(rim, BASE) for rim in rims), *rims]
    np.testing.assert_allclose(body.wheels(), np.array(expected) * speed / radius, rtol=1e-9)


def test_a_stranger_understands_the_car(car, stranger):
    car.body.speed, car.wanted = 5.0, (0.1, 0.0)
    heard = {}
    for _ in range(90):
        message = stranger.recv(2.0)
        assert message.data[7] == remainder(message.arbitration_id.to_bytes(2, "little") + message.data[:7])
        found = DATABASE.get_message_by_frame_id(message.arbitration_id)
        heard[found.name] = found.decode(message.data)
    assert heard["STATUS"]["MODE"] == "manual"
    assert heard["WHEELS"]["REAR_LEFT"] < 5.0 < heard["WHEELS"]["REAR_RIGHT"]
    assert heard["MOTION"]["YAW_RATE"] > 0.0


def test_what_the_car_does_is_what_is_read(car, config, wait):
    with CanVehicle(config) as driver:
        reading = wait(driver.read)
        seen = reading.observation
        assert {name: value.shape for name, value in seen.items()} == {field.name: field.shape for field in driver.observation}
        assert seen["speed"][0] == 0.0
        np.testing.assert_allclose(reading.measured, [0.0, 0.0], atol=0.02)
        assert 0 <= time.monotonic() - reading.stamp < 1.0
        before = reading.stamp
        for _ in range(20):
            reading = wait(driver.read)
            assert reading.stamp > before
            before = reading.stamp
        fit(load("car"), driver.interface)


def test_it_drives_as_it_is_told_and_says_so(car, config, wait):
    with CanVehicle(config) as driver:
        driver.arm()
        assert car.mode is Mode.driving
        sent = driver.write(np.array([0.123456, 1.23456]))
        np.testing.assert_allclose(sent, [0.1235, 1.235], atol=1e-12)

        def turning():
            driver.write(np.array([0.2, 1.5]))
            time.sleep(0.01)
            reading = driver.read()
            return reading if reading and reading.observation["speed"][0] > 1.0 and reading.measured[0] > 0.199 else None

        reading = wait(turning, 10.0)
        seen = {name: value.astype(float) for name, value in reading.observation.items()}
        np.testing.assert_allclose(seen["yaw_rate"][0], seen["speed"][0] * math.tan(0.2) / BASE, atol=0.02)
        difference = seen["wheel_speeds"][3] - seen["wheel_speeds"][2]
        np.testing.assert_allclose(difference, seen["yaw_rate"][0] * TRACK, atol=0.04)
        assert reading.measured[1] > 1.0
        driver.stop()
        driver.stop()
        wait(lambda: car.mode is not Mode.driving)
        wait(lambda: car.mode is Mode.manual, 10.0)
        assert car.body.speed == 0.0
    told = car.report()
    assert told["out_of_range"] == told["not_finite"] == told["bad_checksum"] == told["bad_counter"] == 0
    assert [what for _, what in told["events"]] == ["driving: asked to", "stopping: asked to", "manual: stands"]


def test_nobody_drives_without_asking_in_order(car, stranger, wait):
    for counter in range(30):
        stranger.send(command(0.0, 2.0, 1, counter % 16))
        time.sleep(0.005)
    wait(lambda: car.account.told["commands"] == 30)
    assert car.mode is Mode.manual
    assert car.body.speed == 0.0
    for counter in range(30, 45):
        stranger.send(command(0.0, 0.0, 0, counter % 16))
        time.sleep(0.002)
    stranger.send(command(0.3, 0.0, 1, 13))  # its wheels are not there
    wait(lambda: car.account.told["commands"] == 46)
    assert car.mode is Mode.manual


def test_frames_that_are_not_good_are_not_obeyed(car, config, stranger, wait):
    with CanVehicle(config) as driver:
        driver.arm()
        driver.write(np.array([0.0, 0.5]))
        counter = driver.codec.sent["COMMAND"]
        wait(lambda: car.codec.seen["COMMAND"] == counter)
        for k in range(1, 4):
            stranger.send(command(0.5, 2.0, 1, counter + k, spoil=4))
        for _ in range(3):
            stranger.send(command(0.5, 2.0, 1, counter % 16))
        wait(lambda: car.codec.refused["checksum"] == 3 and car.codec.refused["counter"] >= 3)
        assert abs(car.wanted[0]) < 0.01
        driver.stop()


def test_what_is_out_of_range_is_not_obeyed_and_counted(car, stranger, wait):
    car.mode, car.came = Mode.driving, time.monotonic() + 1.0
    stranger.send(command(0.6, 2.0, 1, 0))
    wait(lambda: car.wanted == (0.6, 2.0))
    data = (7000).to_bytes(2, "little", signed=True) + bytes([0, 0, 1, 0, 1])
    stranger.send(can.Message(arbitration_id=0x101, data=data + bytes([remainder(b"\x01\x01" + data)]), is_extended_id=False))
    wait(lambda: car.account.told["out_of_range"] == 1)
    assert car.wanted == (0.6, 2.0)


def test_rubbish_on_the_bus_changes_nothing(car, config, stranger, wait):
    """Of any frame, whole ones of the car's own identifiers among them, and of bytes that are no socketcand."""
    rng = np.random.default_rng(0)
    with CanVehicle(config) as driver, socket.create_connection(("127.0.0.1", car.bus.port)) as rude:
        for k in range(600):
            number = int(rng.choice([0x101, 0x201, 0x202, 0x203, rng.integers(0x800)]))
            data = rng.integers(0, 256, 8 if k % 3 else rng.integers(9), dtype=np.uint8).tobytes()
            if k % 2 and len(data) == 8:
                data = data[:7] + bytes([remainder(number.to_bytes(2, "little") + data[:7])])
            stranger.send(can.Message(arbitration_id=number, data=data, is_extended_id=False))
            if k % 20 == 0:
                rude.sendall(rng.integers(0, 256, 300, dtype=np.uint8).tobytes() + b"< send 101 8 1 > < send > < open > >")
                driver.read()
                time.sleep(0.005)
        assert car.mode is Mode.manual
        driver.arm()
        assert car.mode is Mode.driving


def test_in_silence_it_brakes_to_a_standstill_and_can_be_armed_again(car, config, wait):
    car.body.speed = 1.0
    with CanVehicle(config) as driver:
        driver.arm()
        driver.write(np.array([0.0, 0.0]))
        wait(lambda: car.mode is Mode.stopping)
        assert "braking to a standstill" in wait(fails(driver))
        config.patience = 0.1
        with pytest.raises(DriverError, match="arm again when it stands"):
            driver.arm()
        config.patience = 10.0
        driver.arm()  # which waits until it stands
        driver.arm()  # and does nothing where it drives already
        assert car.mode is Mode.driving
        driver.stop()
        wait(lambda: car.mode is Mode.manual, 10.0)
        assert car.body.speed == 0.0
        wait(lambda: driver.read() and driver.status["MODE"] == Mode.manual)
        driver.arm()
        assert car.mode is Mode.driving


@pytest.mark.parametrize(("bit", "words"), [("OVERRIDE_BRAKE", "the brake"), ("OVERRIDE_WHEEL", "the steering wheel")])
def test_a_human_has_the_last_word(car, config, wait, bit, words):
    with CanVehicle(config) as driver:
        driver.arm()
        car.human.add(bit)
        assert f"a human is at {words}, and drives now" in wait(fails(driver, np.zeros(2)))
        time.sleep(0.05)
        commands = car.account.told["commands"]
        driver.stop()
        time.sleep(0.05)
        assert car.account.told["commands"] == commands  # no order to stop: it is somebody else's
        assert car.mode is Mode.manual
        with pytest.raises(DriverError, match="does not hand over: a human is at"):
            driver.arm()


def test_a_car_with_faults_is_not_driven(car, config, wait):
    with CanVehicle(config) as driver:
        driver.arm()
        car.faults.add("FAULT_BRAKES")
        assert "it has faults: brakes" in wait(fails(driver, np.zeros(2)))
        wait(lambda: car.mode is Mode.manual, 10.0)
        wait(lambda: driver.read() and driver.status["MODE"] == Mode.manual)
        with pytest.raises(DriverError, match="cannot be armed: it has faults: brakes"):
            driver.arm()


def test_lost_frames_cost_measurements_and_nothing_else(car, config, wait):
    car.given["loss"] = 0.2
    with CanVehicle(config) as driver:
        driver.arm()
        readings = 0
        for _ in range(50):
            driver.write(np.array([0.0, 0.2]))
            readings += driver.read() is not None
            time.sleep(0.01)
        assert readings > 2
        driver.stop()
    assert driver.codec.refused["checksum"] == 0


def test_stamps_go_on_when_the_cars_clock_wraps(car, config, wait):
    with CanVehicle(config) as driver:
        car.boot -= 65.4 - (time.monotonic() - car.boot)
        wait(lambda: driver.read() and driver.clock > 65000)
        stamps = []
        while driver.clock < 65600:
            stamps.append(wait(driver.read).stamp)
            assert len(stamps) < 200, "the clock does not go on"
        assert (np.diff(stamps) > 0).all()
        assert stamps[-1] - stamps[0] < 10.0


def test_a_car_that_falls_silent_is_an_error(car, config, wait):
    with CanVehicle(config) as driver:
        car.given["loss"] = 1.0
        assert "has said nothing" in wait(fails(driver))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"connection": "socketcan:nocan"}, "cannot be opened"),
        ({"connection": "telepathy:far"}, "cannot be opened"),
        ({"connection": "socketcand:127.0.0.1:1"}, "no socketcand listens on 127.0.0.1:1"),
        ({"connection": "socketcand"}, "no socketcand listens on nothing"),
    ],
)
def test_a_bus_that_cannot_be_is_an_error_in_a_line(car, change, words):
    with pytest.raises(DriverError, match=words) as error, CanVehicle(reach(car.bus.port, **change)):
        pass
    assert "\n" not in str(error.value)


def test_a_bus_without_the_car_is_an_error_in_a_line(alive):
    class Alone:
        def __init__(self):
            self.bus, self.noise = Socketcand(0), b""

        def tick(self):
            self.bus.receive()
            if self.noise:
                self.bus.send(0x201, self.noise)

    other = alive(Alone())
    for noise, words in ((b"", "nothing is heard"), (bytes(8), "frames come, but none is good")):
        other.noise = noise
        with pytest.raises(DriverError, match=words), CanVehicle(reach(other.bus.port, patience=0.3)):
            pass


def test_a_database_that_is_none_is_an_error_in_a_line():
    with pytest.raises(ConfigError, match="no readable DBC"):
        CanVehicle(reach(0, database="car/limits.yaml"))


def test_the_simulated_car_says_where_it_is_and_what_it_saw():
    process = subprocess.Popen([sys.executable, "-m", "hardware.fakes.can_vehicle"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    ready, where = process.stdout.readline().split()
    assert ready == "ready"
    with CanVehicle(reach(0, connection=where)) as driver:
        driver.arm()
        for _ in range(10):
            driver.write(np.array([0.0, 1.0]))
            time.sleep(0.02)
        driver.stop()
    process.send_signal(signal.SIGTERM)
    told = json.loads(process.communicate(timeout=10)[0])
    assert told["commands"] > 20
    assert told["not_finite"] == told["out_of_range"] == told["bad_checksum"] == told["bad_counter"] == 0
