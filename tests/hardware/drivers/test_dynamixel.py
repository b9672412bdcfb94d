"""Dynamixel servos on a pseudo-terminal: the maker's own kit agrees with the fake, the driver with both."""

import os
import time

import numpy as np
import pytest

from hardware import dynamixel_packets as bus
from hardware.drivers.dynamixel import ALERT, GOAL, MODE, TICK, TORQUE, WATCHDOG, Dynamixel, DynamixelConfig
from hardware.fakes.dynamixel import CENTRE, FIRED, KEYS, Bus
from robot.core.errors import ConfigError, DriverError
from tests.hardware.drivers.conftest import running

NAMES = ["a", "b", "c"]


@pytest.fixture
def servos(alive):
    return alive(Bus({**KEYS, "servos": 4}))


@pytest.fixture
def config(servos):
    half = CENTRE * TICK
    return DynamixelConfig(
        "leap_hand", servos.line.path, 1_000_000, NAMES, [2, 0, 3], [half, half + 0.1, half], [1, 1, -1], 300, 1.0, 0.3, 0.02, 3.0
    )


def test_packets_are_those_of_the_protocols_own_examples():
    # the maker's manual: ping of servo 1, read of present position, write of goal position
    assert bus.packet(1, bus.PING).hex() == "fffffd00010300" + "01" + "194e"
    assert bus.read(1, 132, 4).hex() == "fffffd00010700" + "0284000400" + "1d15"
    assert bus.write(1, 116, (512).to_bytes(4, "little")).hex() == "fffffd00010900" + "03740000020000" + "ca89"


def test_checksums_are_those_of_the_makers_kit():
    handler = pytest.importorskip("dynamixel_sdk").Protocol2PacketHandler()
    rng = np.random.default_rng(0)
    for size in rng.integers(1, 60, 50):
        data = rng.integers(0, 256, size, dtype=np.uint8).tobytes()
        assert bus.crc(data) == handler.updateCRC(0, data, len(data))


def test_what_looks_like_a_header_survives_and_damage_is_skipped():
    data = b"\xff\xff\xfd\x01\xff\xff\xfd"
    sent = bus.write(7, 100, data)
    for split in range(len(sent)):
        packets = bus.Packets()
        found = packets.feed(b"noise\xff\xff" + sent[:split]) + packets.feed(sent[split:])
        assert [(p.number, p.instruction, p.parameters) for p in found] == [(7, bus.WRITE, b"d\0" + data)]
    broken = bytearray(sent)
    broken[9] ^= 4
    packets = bus.Packets()
    assert [p.number for p in packets.feed(bytes(broken) + bus.packet(3, bus.PING))] == [3]
    assert packets.damaged == 1


def test_the_makers_kit_works_on_the_fake(servos, monkeypatch):
    sdk = pytest.importorskip("dynamixel_sdk")
    monkeypatch.setattr("dynamixel_sdk.port_handler.LATENCY_TIMER", 500)  # a busy machine answers late
    port, handler = sdk.PortHandler(servos.line.path), sdk.PacketHandler(2.0)
    assert port.openPort()
    assert port.setBaudRate(1_000_000)
    model, result, error = handler.ping(port, 2)
    assert (model, result, error) == (KEYS["model"], sdk.COMM_SUCCESS, 0)
    found, result = handler.broadcastPing(port)
    assert sorted(found) == [0, 1, 2, 3]
    assert handler.write1ByteTxRx(port, 1, TORQUE, 1) == (sdk.COMM_SUCCESS, 0)
    assert handler.write1ByteTxRx(port, 1, MODE, 3)[1] == 7  # locked while torque is on
    assert handler.write4ByteTxRx(port, 1, GOAL, 2300) == (sdk.COMM_SUCCESS, 0)
    for fast in (False, True):
        group = sdk.GroupSyncRead(port, handler, 126, 10)
        for number in range(4):
            assert group.addParam(number)
        time.sleep(0.4)
        assert (group.fastSyncRead() if fast else group.txRxPacket()) == sdk.COMM_SUCCESS
        places = [group.getData(number, 132, 4) for number in range(4)]
        assert abs(places[1] - 2300) <= 2
        assert places[0] == places[2] == places[3] == CENTRE
    port.closePort()


def read(driver, wait):
    return wait(driver.read)


def test_goals_are_joint_angles_and_what_is_read_are_joint_angles(servos, config, wait):
    with Dynamixel(config) as driver:
        first = read(driver, wait)
        np.testing.assert_allclose(first.measured, [0.0, -0.1, 0.0], atol=TICK)
        driver.arm()
        wanted = np.array([0.3, -0.2, 0.5])
        applied = driver.write(wanted)
        np.testing.assert_allclose(applied, wanted, atol=TICK / 2)
        for _ in range(25):
            time.sleep(0.02)
            driver.write(wanted)
            last = driver.read() or first
        np.testing.assert_allclose(last.measured, applied, atol=2 * TICK)
        np.testing.assert_allclose(last.observation["joints"], last.measured, atol=1e-6)
        ticks = [servos.servos[number].position - CENTRE for number in (2, 0, 3)]
        np.testing.assert_allclose(np.array(ticks) * TICK, [0.3, -0.1, -0.5], atol=2 * TICK)
        assert servos.servos[1].position == CENTRE  # nobody asked it


def test_arming_does_not_move_anything(servos, config, wait):
    for servo in servos.servos.values():
        servo.position = 2500.0
    with Dynamixel(config) as driver:
        read(driver, wait)
        driver.arm()
        assert [servos.servos[number].table[TORQUE] for number in (2, 0, 3)] == [1, 1, 1]
        time.sleep(0.05)
        assert all(abs(servo.position - 2500) < 1 for servo in servos.servos.values())


def test_in_silence_the_servos_stop_where_they_are_and_arming_forgives(servos, config, wait):
    driver = Dynamixel(config)
    driver.open()
    driver.arm()
    driver.write(np.array([0.5, 0.5, 0.5]))
    wait(lambda: servos.servos[0].table[WATCHDOG] == FIRED)  # nobody speaks any more
    wait(lambda: servos.servos[0].speed == 0.0)
    stood = servos.servos[0].position
    driver.write(np.array([1.0, 1.0, 1.0]))
    time.sleep(0.05)
    assert servos.servos[0].position == stood
    driver.arm()
    driver.write(np.array([0.2, 0.2, 0.2]))
    wait(lambda: servos.servos[0].speed != 0.0)
    driver.stop()
    driver.close()
    wait(lambda: servos.servos[0].table[WATCHDOG] == 0)
    assert servos.servos[0].table[TORQUE] == 1


def test_stopping_holds_twice_and_closing_too(servos, config, wait):
    driver = Dynamixel(config)
    driver.open()
    driver.arm()
    driver.write(np.array([0.4, 0.0, 0.0]))
    time.sleep(0.03)
    driver.stop()
    driver.stop()
    wait(lambda: abs(servos.servos[2].speed * TICK) < 0.01)
    assert servos.servos[2].position < CENTRE + 0.4 / TICK
    driver.close()
    driver.close()


def test_a_servo_that_falls_silent_does_not_keep_the_others_from_stopping(servos, config, wait):
    with Dynamixel(config) as driver:
        driver.arm()
        driver.write(np.array([1.2, 1.2, 1.2]))
        lost, servos.servos = servos.servos[0], {number: servo for number, servo in servos.servos.items() if number}
        driver.stop()
        wait(lambda: all(servos.servos[number].table[WATCHDOG] == 0 for number in (2, 3)))
        wait(lambda: all(abs(servos.servos[number].speed * TICK) < 0.01 for number in (2, 3)))
        for number in (2, 3):
            servo = servos.servos[number]
            assert servo.table[TORQUE] == 1
            assert abs(servo.position - CENTRE) < 1.0 / TICK
        assert lost.table[WATCHDOG] > 0  # and stops it


def test_stopping_asks_once(servos, config, wait):
    with Dynamixel(config) as driver:
        driver.arm()
        driver.write(np.array([0.4, 0.0, 0.0]))
        driver.read()
        heard, take = [], servos._take
        servos._take = lambda found: (heard.append(found.instruction), take(found))
        driver.stop()
        wait(lambda: heard.count(bus.SYNC_WRITE) >= 6)
        assert len(heard) < 12  # whatever the number of servos


def test_lost_packets_cost_measurements_and_nothing_else(servos, config, wait):
    with Dynamixel(config) as driver:
        driver.arm()
        servos.given["loss"] = 0.2
        readings, start = 0, time.monotonic()
        for _ in range(50):
            driver.write(np.zeros(3))
            before = time.monotonic()
            readings += driver.read() is not None
            assert time.monotonic() - before < 0.5  # on a busy machine
            time.sleep(0.01)
        servos.given["loss"] = 0.0
        assert 2 < readings < 50
        assert time.monotonic() - start < 10


def test_an_alert_is_named(servos, config, wait):
    with Dynamixel(config) as driver:
        read(driver, wait)
        servos.servos[3].table[ALERT] = 0x24

        def fails():
            try:
                driver.read()
            except DriverError as error:
                return str(error)
            return None

        assert "servo 3 has an alert (overheating, overload)" in wait(fails)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"device": "/dev/ttyNOBODY"}, "no such device"),
        ({"numbers": [2, 0, 9]}, "servos [9] do not answer"),
        ({"device": "/dev/null"}, "cannot be opened"),
    ],
)
def test_what_cannot_be_is_an_error_in_a_line(config, change, words):
    for name, value in {"patience": 1.5, **change}.items():
        setattr(config, name, value)
    with pytest.raises(DriverError) as error, Dynamixel(config):
        pass
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_line_that_somebody_has_is_refused(servos, config):
    with Dynamixel(config), pytest.raises(DriverError, match="somebody else has it open"):
        Dynamixel(config).open()


def test_a_line_that_is_unplugged_is_an_error(config, wait):
    other = Bus({**KEYS, "servos": 4})
    config.device = other.line.path
    with running(other):
        driver = Dynamixel(config)
        driver.open()
    other.line.close()

    def fails():
        try:
            driver.read()
        except DriverError as error:
            return str(error)
        return None

    assert "plugged in" in wait(fails)
    driver.stop()
    driver.close()


def test_a_line_that_is_not_ours_is_an_error(config, monkeypatch):
    def refuse(path, *more):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("serial.serialposix.os.open", refuse)
    with pytest.raises(DriverError, match="permission denied; be in its group: sudo usermod") as error:
        Dynamixel(config).open()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("seconds", [0.0, 0.01, 2.6, float("nan")])
def test_there_is_no_hand_without_a_watchdog(config, seconds):
    config.watchdog = seconds
    with pytest.raises(ConfigError, match="watchdog"):
        Dynamixel(config)


def test_numbers_and_names_must_fit(config):
    config.numbers = [1, 1, 2]
    with pytest.raises(ConfigError, match="different numbers"):
        Dynamixel(config)
    assert os.path.exists(config.device)
