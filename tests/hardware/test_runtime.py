"""The servo loop against everything that may go wrong: what leaves is within the limits, and a fault stays one."""

import numpy as np
import pytest

from hardware.controller import ChunksConfig
from hardware.guard import Mode
from hardware.runtime import fit
from robot.core.errors import DriverError, InterfaceError
from robot.core.interface import Field, Interface
from tests.hardware.conftest import COMMAND, DT, OBSERVATION, failure


def run(robot, periods):
    for _ in range(periods):
        robot.runtime.tick()


def moving(make, **changes):
    robot = make(**changes)
    robot.runtime.arm()
    run(robot, 20)
    assert robot.guard.mode is Mode.running
    return robot


def speeds(robot):
    return np.diff(np.array(robot.driver.sent), axis=0) / DT


def held(robot, word):
    """It brakes within its limits, stays, and says why."""
    run(robot, 40)
    assert robot.guard.mode is Mode.hold
    assert word in " ".join(robot.guard.reasons)
    assert np.abs(speeds(robot)[-20:]).max() < 1e-9
    assert np.abs(speeds(robot)).max() < 2.0 + 1e-6
    with pytest.raises(DriverError, match="release it first"):
        robot.guard.arm(robot.runtime.reading, robot.clock.now())


def test_it_goes_where_the_policy_wants_within_the_limits(robot):
    r = moving(robot)
    run(r, 80)
    np.testing.assert_allclose(r.driver.joints, [0.5, -0.5], atol=1e-9)
    assert np.abs(speeds(r)).max() < 2.0 + 1e-9
    assert r.guard.mode is Mode.running


def spoil(r, kind):
    wrong = {
        "nan": [np.nan, 0.0], "infinite": [0.0, np.inf], "huge": [1e30, 0.0], "far": [9.0, 0.0], "short": [0.1],
        "long": [0.1] * 3, "text": ["a", "b"],
    }  # fmt: skip
    if kind in wrong:
        r.mind.wants = np.array([wrong[kind]])
    elif kind == "slow":
        r.mind.delay = 0.2
    elif kind == "dead":
        r.mind.alive = False
    elif kind == "silent":
        r.driver.silent = True
    elif kind == "stale":
        r.driver.lag = 0.03
    elif kind == "future":
        r.driver.lag = -3600.0
    elif kind == "frozen":
        r.driver.change = {"joints": np.float32([0.1, 0.1])}
    else:
        r.driver.change = {
            "sensor nan": {"joints": np.float32([np.nan, 0])},
            "sensor shape": {"joints": np.zeros(3, np.float32)},
            "range": {"joints": np.float32([1.5, 0])},
            "fence": {"position": np.float32([0, 0, 2])},
            "tilt": {"attitude": np.float32([np.cos(0.4), np.sin(0.4), 0, 0])},
        }[kind]


FAULTS = {
    "nan": "not finite", "infinite": "not finite", "huge": "far outside", "far": "far outside", "short": "shape", "long": "shape",
    "text": "no array", "slow": "old", "dead": "dead", "silent": "old", "stale": "old", "future": "old",
    "frozen": "same to the last bit", "sensor nan": "not finite", "sensor shape": "wrong shape", "range": "allowed",
    "fence": "fence", "tilt": "tilted",
}  # fmt: skip


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_ends_in_the_safe_command_in_time(robot, kind):
    r = moving(robot)
    start = r.clock.now()
    spoil(r, kind)
    while r.guard.mode is Mode.running:
        r.runtime.tick()
    allowed = {"slow": 0.05, "silent": 0.02, "stale": 0.02, "frozen": 0.1}.get(kind, 0.0)  # what limits.yaml allows for it
    assert r.clock.now() - start <= allowed + 2 * DT + 1e-6
    held(r, FAULTS[kind])


def test_a_fault_is_over_when_it_is_released_and_armed(robot):
    r = moving(robot)
    spoil(r, "nan")
    run(r, 30)
    r.mind.wants = np.array([[-0.9, 0.9]])
    stood = r.driver.joints.copy()
    run(r, 10)
    assert np.array_equal(stood, r.driver.joints)
    r.driver.joints = stood + 0.1  # somebody moved it meanwhile
    r.guard.release()
    count = len(r.driver.sent)
    run(r, 5)
    assert len(r.driver.sent) == count
    r.runtime.arm()
    run(r, 100)
    first = r.driver.sent[count]
    assert np.abs(first - (stood + 0.1)).max() <= 40.0 * DT**2 + 1e-9  # from where it is, not where it was
    np.testing.assert_allclose(r.driver.joints, [-0.9, 0.9], atol=1e-9)
    assert r.mind.asked[-1][1] == 2  # a new episode


def test_nothing_is_sent_before_it_is_armed_and_after_it_is_stopped(robot):
    r = robot()
    run(r, 5)
    assert r.driver.sent == []
    r.runtime.arm()
    run(r, 5)
    assert len(r.driver.sent) == 5
    r.runtime.stop("test")
    run(r, 5)
    assert len(r.driver.sent) == 5
    assert r.driver.stops == 1


@pytest.mark.parametrize("error", [failure("link lost"), ValueError("a bug")])
def test_a_driver_that_raises_is_stopped(robot, error):
    r = moving(robot)
    r.driver.broken = error
    run(r, 3)
    assert r.guard.mode is Mode.stopped
    assert r.driver.stops == 1
    assert str(error) in " ".join(r.guard.reasons)


def test_a_loop_that_stood_still_holds(robot):
    r = moving(robot)
    r.clock.advance(0.2)
    held(r, "stood still")


def test_missed_periods_are_skipped_and_counted(robot):
    r = moving(robot)
    before = r.runtime.beat.missed
    r.clock.advance(3.5 * DT)
    run(r, 1)
    assert r.runtime.beat.missed - before == 3
    sent = len(r.driver.sent)
    run(r, 1)
    assert len(r.driver.sent) == sent + 1  # no burst


def test_arming_is_refused_where_the_robot_is_not_well(robot):
    r = robot()
    r.driver.silent = True
    with pytest.raises(DriverError, match="not said anything"):
        r.runtime.arm(0.1)
    r.driver.silent, r.driver.joints = False, np.array([1.1, 0.0])
    with pytest.raises(DriverError, match=r"shoulder is at 1\.1"):
        r.runtime.arm()
    r.driver.joints = np.zeros(2)
    r.clock.advance(DT)
    r.runtime.arm()
    with pytest.raises(DriverError, match="armed"):
        r.runtime.arm()


def test_dry_runs_send_nothing(robot):
    r = robot()
    r.runtime.dry = True
    r.runtime.arm()
    run(r, 20)
    assert r.guard.mode is Mode.running
    assert r.driver.sent == []


def test_a_plan_is_followed_in_its_own_time(robot):
    r = robot(ChunksConfig(4, False, 0.0, 0.0, 0.0), steps=8, frozen=float("inf"))
    r.mind.wants = np.linspace(0.0, 0.07, 8)[:, None] * np.ones(2)
    r.runtime.arm()
    wanted = []
    for _ in range(8):
        run(r, 1)
        wanted.append(r.controller.wanted(r.clock.now() - DT).values[0])
    assert np.allclose(wanted, [0.0, 0.01, 0.02, 0.03] * 2)
    assert len(r.mind.asked) == 2


def test_a_late_plan_begins_in_its_middle(robot):
    r = robot(ChunksConfig(0, True, 0.0, 0.0, 0.0), steps=8, frozen=float("inf"))
    r.mind.wants = np.linspace(0.0, 0.07, 8)[:, None] * np.ones(2)
    r.mind.delay = 2.5 * DT
    r.runtime.arm()
    run(r, 4)
    assert r.controller.wanted(r.mind.asked[0][0] + 3.5 * DT).values[0] == pytest.approx(0.035)


def other(index, **changes):
    fields = list(OBSERVATION)
    fields[index] = Field(**{**fields[index].__dict__, **changes})
    return Interface(tuple(fields), COMMAND, DT)


ROBOT = Interface(OBSERVATION, COMMAND, DT)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (other(0, name="joint_positions"), "joint_positions"),
        (other(0, unit="deg"), "deg"),
        (other(1, frame="map"), "map"),
        (other(1, shape=(2,)), "shape"),
        (Interface(OBSERVATION, Field("targets", (2,), "float32", "rad", names=("elbow", "shoulder")), DT), "elbow"),
        (Interface(OBSERVATION, COMMAND, 0.015), "no multiple"),
        (Interface(OBSERVATION, COMMAND, 0.005), "no multiple"),
    ],
)
def test_a_policy_for_another_robot_is_refused_in_words(policy, words):
    with pytest.raises(InterfaceError, match=words):
        fit(policy, ROBOT)


def test_a_policy_may_see_less_and_decide_less_often():
    fit(Interface(OBSERVATION[1:], COMMAND, 5 * DT), ROBOT)
