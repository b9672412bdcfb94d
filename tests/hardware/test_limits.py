"""What robots may do, read from yaml: refused in a line where it makes no sense, and a safe action for every family."""

import dataclasses
import math

import numpy as np
import pytest

from hardware.drivers.base import Reading
from hardware.guard import Action, Guard, Mode
from hardware.limits import ROBOTS, Family, Limits, Safe, fit, load
from robot.core.errors import ConfigError, InterfaceError
from robot.core.interface import Field, Interface

NAMES = sorted(path.parent.name for path in ROBOTS.glob("*/limits.yaml"))
ARM = """
family: joints
safe: hold
dt: 0.01
command_age: 0.05
observation_age: 0.05
frozen: .inf
trembling: []
channels:
  - {name: shoulder, unit: rad, low: -1.0, high: 1.0, rate: 2.0, rate2: 20.0, rate3: .inf}
  - {name: elbow, unit: rad, low: -1.0, high: 1.0, rate: 2.0, rate2: 20.0, rate3: .inf}
measured:
  - {field: efforts, low: -40.0, high: 40.0}
fence: null
tilt: null
collision: null
"""
TORQUES = ARM.replace("unit: rad, low: -1.0, high: 1.0, rate: 2.0", "unit: N m, low: -30.0, high: 30.0, rate: 600.0").replace(
    "rate2: 20.0", "rate2: .inf"
)
SEEN = (Field("joints", (2,), "float32", "rad"), Field("efforts", (2,), "float32", "N m"))


def read(tmp_path, text):
    file = tmp_path / "limits.yaml"
    file.write_text(text)
    return load(file)


def test_the_text_that_is_spoilt_below_is_fine(tmp_path):
    assert read(tmp_path, ARM).safe is Safe.hold


@pytest.mark.parametrize("key", [line.split(":")[0] for line in ARM.splitlines() if line and line[0] not in " "])
def test_no_key_may_be_left_out(tmp_path, key):
    lines, kept, skip = ARM.splitlines(), [], False
    for line in lines:
        skip = line.startswith(f"{key}:") or (skip and line.startswith(" "))
        kept += [] if skip else [line]
    with pytest.raises(ConfigError, match=key) as error:
        read(tmp_path, "\n".join(kept))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("dt: 0.01", "dt: 0.0", "dt=0.0 must be positive"),
        ("dt: 0.01", "dt: .inf", "dt=inf must be positive and finite"),
        ("dt: 0.01", "dt: soon", "dt"),
        ("command_age: 0.05", "command_age: .nan", "command_age=nan"),
        ("observation_age: 0.05", "observation_age: -1.0", "observation_age=-1.0"),
        ("frozen: .inf", "frozen: 0.0", "frozen=0.0 must be positive"),
        ("frozen: .inf", "frozen: .nan", "frozen=nan"),
        ("frozen: .inf", "frozen: 0.5", "name the fields"),
        ("trembling: []", "trembling: [joints]", "name the fields"),
        ("family: joints", "family: snake", "snake"),
        ("safe: hold", "safe: gravity", "gravity"),
        ("low: -1.0, high: 1.0", "low: 1.0, high: 1.0", "needs finite low < high"),
        ("low: -1.0, high: 1.0", "low: -.inf, high: 1.0", "needs finite low < high"),
        ("low: -1.0, high: 1.0", "low: -1.0, high: .nan", "needs finite low < high"),
        ("rate: 2.0", "rate: 0.0", "rates must be positive"),
        ("rate2: 20.0", "rate2: .nan", "rates must be positive"),
        ("rate2: 20.0, rate3: .inf", "rate2: .inf, rate3: 500.0", "not the one below"),
        ("rate: 2.0, rate2", "rte: 2.0, rate2", "rte"),
        ("low: -40.0, high: 40.0", "low: 40.0, high: -40.0", "low < high"),
        ("low: -40.0, high: 40.0", "low: .nan, high: 40.0", "low < high"),
        ("fence: null", "fence: {field: joints, low: [0.0], high: [1.0]}", "two or three"),
        ("fence: null", "fence: {field: joints, low: [0.0, 0.0], high: [1.0, 1.0, 1.0]}", "two or three"),
        ("fence: null", "fence: {field: joints, low: [0.0, 1.0], high: [1.0, 1.0]}", "low < high"),
        ("tilt: null", "tilt: {field: joints, limit: 0.0}", "tilt limit"),
        ("tilt: null", "tilt: {field: joints, limit: 45.0}", "in .0, pi. rad"),
        ("family: joints", "family: flyer", "no command keeps a flyer in the air"),
        ("unit: rad", "unit: rad/s", "would move on; say zero or silent"),
        ("unit: rad", "unit: N m", "would move on; say zero or silent"),
        ("safe: hold", "safe: zero\n# ", None),
        ("speed", "speed", None),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(tmp_path, old, new, words):
    if words is None:
        read(tmp_path, ARM.replace(old, new))
        return
    with pytest.raises(ConfigError, match=words) as error:
        read(tmp_path, ARM.replace(old, new))
    assert "\n" not in str(error.value)


def test_zero_has_to_be_within_the_range_where_it_is_the_safe_command(tmp_path):
    with pytest.raises(ConfigError, match="cannot be zero"):
        read(tmp_path, ARM.replace("safe: hold", "safe: zero").replace("low: -1.0", "low: 0.1"))


@pytest.mark.parametrize("text", ["", "- 1", "family: [", "channels: 3", "dt: ${nothing}", "\0", "3"])
def test_what_is_no_limits_at_all_is_refused_in_a_line(tmp_path, text):
    with pytest.raises(ConfigError) as error:
        read(tmp_path, text)
    assert "\n" not in str(error.value)


def test_a_robot_without_limits_is_refused_and_the_others_are_named():
    with pytest.raises(ConfigError, match=r"no robot moves without.*px4_quadrotor"):
        load("nobody")


def interface(limits: Limits, **changes):
    """Of a driver that these limits are for."""
    looked = {entry.field: (2,) for entry in limits.measured} | {"joints": (2,)} | {name: (3,) for name in limits.trembling}
    looked |= {limits.fence.field: (len(limits.fence.low),)} if limits.fence else {}
    looked |= {limits.tilt.field: (3, 3)} if limits.tilt else {}
    units = [channel.unit for channel in limits.channels]
    unit = units[0] if len(set(units)) == 1 else ", ".join(units)
    names = tuple(channel.name for channel in limits.channels)
    command = Field("command", (len(names),), "float32", unit, names=names)
    told = {"observation": tuple(Field(name, shape) for name, shape in looked.items()), "action": command, "dt": limits.dt}
    return Interface(**{**told, **changes})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"names": ("shoulder", "wrist")}, "wrist"),
        ({"names": ("elbow", "shoulder")}, "in that order"),
        ({"unit": "deg"}, "'shoulder' is in 'rad', the command in 'deg'"),
        ({"unit": "rad, deg"}, "'elbow' is in 'rad', the command in 'deg'"),
        ({"shape": (3,), "names": ("shoulder", "elbow", "wrist")}, "wrist"),
    ],
)
def test_limits_for_another_command_are_refused_in_words(tmp_path, change, words):
    limits = read(tmp_path, ARM)
    action = interface(limits).action
    with pytest.raises(InterfaceError, match=words):
        fit(limits, interface(limits, action=dataclasses.replace(action, **change)))


def test_limits_for_another_rate_or_other_sensors_are_refused_in_words(tmp_path):
    limits = read(tmp_path, ARM)
    fit(limits, interface(limits))
    with pytest.raises(InterfaceError, match=r"dt is 0.01 s, the driver's 0.02 s"):
        fit(limits, interface(limits, dt=0.02))
    with pytest.raises(InterfaceError, match="no observation 'efforts'"):
        fit(limits, interface(limits, observation=SEEN[:1]))


@pytest.mark.parametrize("name", NAMES)
def test_every_robot_has_a_safe_action_that_fits_its_family(name):
    limits = load(name)
    assert limits.safe is {Family.flyer: Safe.silent, Family.vehicle: Safe.silent}.get(limits.family, limits.safe)
    guard, now = Guard(limits, interface(limits)), 1.0
    still = np.clip(np.zeros(len(limits.channels)), [b.low for b in guard.bounds], [b.high for b in guard.bounds])

    def reading():
        told = {f.name: np.full(f.shape, 14.0 if f.name == "battery" else 0.0) for f in guard.interface.observation}
        ranges = {entry.field: (entry.low + entry.high) / 2 for entry in limits.measured}
        told |= {field: np.full(told[field].shape, middle) for field, middle in ranges.items()}
        told |= {field: told[field] + 1e-6 * math.sin(1e3 * now) for field in limits.trembling}
        told |= {limits.tilt.field: np.eye(3)} if limits.tilt else {}
        return Reading(told, now, still)

    guard.arm(reading(), now)
    wanted = np.array([0.5 * c.low + 0.5 * c.high + 0.3 * (c.high - c.low) for c in limits.channels])
    for _ in range(20):
        now += limits.dt
        command = guard.tick(now, reading(), Action(wanted, now))
        assert command is not None
    assert guard.mode is Mode.running
    sent = [command]
    for _ in range(round(10 / limits.dt)):  # the policy says nothing sensible any more
        now += limits.dt
        sent.append(guard.tick(now, reading(), Action(wanted * math.nan, now)))
    assert guard.mode is Mode.hold
    if limits.safe is Safe.silent:
        assert sent[1:] == [None] * (len(sent) - 1)
    elif limits.safe is Safe.zero:
        assert sent[-1] == pytest.approx([0.0] * len(still), abs=1e-9)
    else:
        np.testing.assert_allclose(np.diff(np.array(sent[-10:]), axis=0), 0.0, atol=1e-9)


def torques(tmp_path, safe):
    limits = read(tmp_path, TORQUES.replace("safe: hold", f"safe: {safe}"))
    return Guard(limits, Interface(SEEN, Field("torques", (2,), "float32", "N m", names=("shoulder", "elbow")), 0.01))


def felt(now, *efforts):
    return Reading({"joints": np.zeros(2), "efforts": np.array(efforts, np.float32)}, now, np.zeros(2))


@pytest.mark.parametrize("safe", ["zero", "silent"])
def test_torques_are_commanded_within_their_range_and_their_rate(tmp_path, safe):
    guard, now, sent = torques(tmp_path, safe), 1.0, [[0.0, 0.0]]
    guard.arm(felt(now, 0.0, 0.0), now)
    for _ in range(20):
        now += 0.01
        sent.append(guard.tick(now, felt(now, 5.0, -5.0), Action([80.0, -80.0], now)))
    assert sent[-1] == pytest.approx([30.0, -30.0])
    assert np.abs(np.diff(np.array(sent), axis=0)).max() == pytest.approx(6.0)  # 600 N m/s for a period
    for _ in range(10):
        now += 0.01
        last = guard.tick(now, felt(now, 41.0, 0.0), Action([1.0, 1.0], now))
    assert guard.mode is Mode.hold
    assert "'efforts' is in [0, 41], allowed [-40, 40]" in guard.reasons[0]
    assert last is None if safe == "silent" else last == pytest.approx([0.0, 0.0])


def test_a_torque_is_never_the_command_that_stays(tmp_path):
    with pytest.raises(ConfigError, match=r"'shoulder' in 'N m' would move on"):
        torques(tmp_path, "hold")
