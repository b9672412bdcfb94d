"""The emergency stop: a byte, silence, an end; at pipes and terminals; and in a run."""

import os
import pty
import tty

import pytest

from hardware.estop import Estop, EstopConfig
from hardware.guard import Mode
from robot.core.errors import DriverError


@pytest.fixture
def pipe(tmp_path):
    path = tmp_path / "button"
    os.mkfifo(path)
    hold = os.open(path, os.O_RDWR)  # a sender that is there
    yield path, hold
    os.close(hold)


def test_a_byte_is_the_button_and_it_stays_pressed(pipe):
    path, sender = pipe
    os.write(sender, b"of before")
    button = Estop(EstopConfig(str(path), None))
    assert button.poll(1.0) == ""
    os.write(sender, b"!")
    assert button.poll(1.1) == "the emergency stop is pressed"
    assert button.poll(9.0) == "the emergency stop is pressed"
    os.write(sender, b"bounce")
    button.release()
    assert button.poll(9.1) == ""
    button.close()
    button.close()


def test_silence_is_the_button_of_one_that_speaks(pipe):
    path, sender = pipe
    button = Estop(EstopConfig(str(path), 0.2))
    assert button.poll(1.0) == ""
    for k in range(10):
        os.write(sender, b".")
        assert button.poll(1.0 + 0.15 * (k + 1)) == ""
    assert button.poll(2.69) == ""
    assert "silent for 0.21 s" in button.poll(2.71)
    button.release()
    assert button.poll(5.0) == ""
    assert "silent" in button.poll(5.3)


@pytest.mark.parametrize("alive", [None, 1.0])
def test_what_vanishes_has_been_pressed(tmp_path, alive):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    sender = os.open(path, os.O_RDWR)
    button = Estop(EstopConfig(str(path), alive))
    assert button.poll(0.0) == ""
    os.close(sender)
    assert button.poll(0.1) == "the emergency stop is gone"


def test_an_unplugged_line_has_been_pressed():
    master, slave = pty.openpty()
    tty.setraw(slave)
    button = Estop(EstopConfig(os.ttyname(slave), None))
    os.close(slave)
    assert button.poll(0.0) == ""
    os.close(master)
    assert button.poll(0.1) == "the emergency stop is gone"


def test_a_missing_device_is_an_error_in_a_line(tmp_path):
    with pytest.raises(DriverError, match=r"cannot be opened: No such file.*plugged in"):
        Estop(EstopConfig(str(tmp_path / "nobody"), None))


@pytest.mark.parametrize(("alive", "told"), [(None, "the emergency stop is pressed"), (0.1, "")])
def test_one_that_babbles_without_end_keeps_nobody_waiting(alive, told):
    assert Estop(EstopConfig("/dev/zero", alive)).poll(0.0) == told


def test_in_a_run_it_stops_the_robot_in_the_same_period(robot, pipe):
    path, sender = pipe
    r = robot()
    r.runtime.estop = Estop(EstopConfig(str(path), None))
    r.runtime.arm()
    for _ in range(5):
        r.runtime.tick()
    assert r.guard.mode is Mode.running
    sent = len(r.driver.sent)
    os.write(sender, b"!")
    r.runtime.tick()
    assert r.guard.mode is Mode.stopped
    assert r.guard.reasons == ("the emergency stop is pressed",)
    assert len(r.driver.sent) == sent
    assert r.driver.stops == 1
    r.guard.release()
    with pytest.raises(DriverError, match="emergency stop is pressed"):
        r.runtime.arm()
    r.guard.release()
    r.runtime.estop.release()
    r.runtime.arm()
    r.runtime.tick()
    assert r.guard.mode is Mode.running
