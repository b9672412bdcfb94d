"""The path controller on a robot drives as the simulation's own tracker does, and is for paths and bases alone."""

import numpy as np
import pytest

from hardware.drivers.base import Reading
from hardware.paths import Paths, PathsConfig
from hardware.thinker import Thought
from robot.core import tracking
from robot.core.errors import InterfaceError
from robot.core.interface import Field, Interface

DT = 0.05
BODY = ("max_speed", "max_yaw_rate", "max_acceleration", "max_yaw_acceleration", "delay")
LIMITS = np.array([0.8, 1.5, 1.0, 4.0, 0.05])
PATH = Field("path", (24, 3), "float32", "m, m, rad", "body at observation", names=("dx", "dy", "dtheta"))
TWIST = Field("twist", (2,), "float32", "m/s, rad/s", "body", names=("v", "w"))
POSES = tuple(Field(name, (3,), names=("x", "y", "yaw")) for name in ("odometry", "pose"))
ROBOT = Interface((*POSES, Field("robot", (5,), names=BODY)), TWIST, DT)
CONFIG = PathsConfig(0.4, 0.0, "pose", "odometry", "robot")


def reading(planned, pose, stamp=0.0):
    seen = {"odometry": np.array(planned, np.float32), "pose": np.array(pose, np.float32), "robot": LIMITS.astype(np.float32)}
    return Reading(seen, stamp, np.zeros(2))


def curve():
    """A quarter of a circle to the left, as deltas."""
    angles = np.linspace(0, np.pi / 2, 25)
    points = np.stack([1.5 * np.sin(angles), 1.5 * (1 - np.cos(angles))], axis=-1)
    return np.concatenate([np.diff(points, axis=0), np.zeros((24, 1))], axis=-1)[None].astype(np.float32)


def drive(turn):
    """The end of a drive along the curve from a pose turned by `turn`, in the frame of the start, and the commands."""
    controller, start = Paths(CONFIG, ROBOT), np.array([3.0, -2.0, turn])
    controller.asked(reading(start, start))
    controller.take(Thought(curve(), 0.0), 0.0)
    pose, commands = start[None].copy(), []
    for k in range(120):
        now = k * DT
        action = controller.wanted(now, reading([9.0, 9.0, 9.0], pose[0], now))
        commands.append(action.values)
        pose = tracking.predict(pose, action.values[None], DT)
    c, s = np.cos(turn), np.sin(turn)
    dx, dy = pose[0, :2] - start[:2]
    return np.array([c * dx + s * dy, c * dy - s * dx]), np.array(commands)


@pytest.mark.parametrize("turn", [0.0, 1.0, -3.0])
def test_it_follows_the_path_from_wherever_it_was_planned(turn):
    end, commands = drive(turn)
    np.testing.assert_allclose(end, [1.5, 1.5], atol=0.08)
    assert (commands[:, 0] <= LIMITS[0] + 1e-9).all()
    assert (np.abs(np.diff(commands[:, 0])) <= LIMITS[2] * DT + 1e-9).all()
    assert (np.abs(np.diff(commands[:, 1])) <= LIMITS[3] * DT + 1e-9).all()


def test_it_commands_what_the_simulations_tracker_does():
    controller = Paths(CONFIG, ROBOT)
    controller.asked(reading([0, 0, 0], [0, 0, 0]))
    controller.take(Thought(curve(), 0.0), 0.0)
    pose, last = np.array([[0.3, 0.1, 0.2]]), np.zeros((1, 2))
    for k in range(5):
        action = controller.wanted(0.1 * k, reading([0, 0, 0], pose[0], 0.1 * k))
        last = tracking.track(tracking.waypoints(curve()), pose.astype(np.float32), last, LIMITS[None, :4], DT, LIMITS[4])
        np.testing.assert_allclose(action.values, last[0], atol=1e-6)


def test_a_late_measurement_is_predicted_over_its_age():
    now, fresh, stale = 0.2, Paths(CONFIG, ROBOT), Paths(CONFIG, ROBOT)
    for controller in (fresh, stale):
        controller.asked(reading([0, 0, 0], [0, 0, 0]))
        controller.take(Thought(curve(), 0.0), 0.0)
        controller.last = np.array([[0.5, 0.4]])
    behind = np.array([[0.2, 0.0, 0.0]])
    ahead = tracking.predict(behind, np.array([[0.5, 0.4]]), now)[0]
    one = stale.wanted(now, reading([0, 0, 0], behind[0], 0.0))
    other = fresh.wanted(now, reading([0, 0, 0], ahead, now))
    np.testing.assert_allclose(one.values, other.values, atol=1e-5)


def test_when_a_plan_is_due_and_which_one_counts():
    controller = Paths(CONFIG, ROBOT)
    assert controller.due(0.0)
    assert controller.wanted(0.0, reading([0, 0, 0], [0, 0, 0])) is None
    controller.asked(reading([0, 0, 0], [0, 0, 0]))
    controller.take(Thought(curve(), 1.0), 1.0)
    assert not controller.due(1.3)
    assert controller.due(1.4)
    controller.asked(reading([5, 5, 0], [5, 5, 0]))
    controller.take(Thought(-curve(), 0.5), 1.1)  # rests on older measurements
    assert controller.wanted(1.1, reading([0, 0, 0], [0, 0, 0], 1.1)).values[0] > 0
    assert controller.wanted(1.1, reading([0, 0, 0], [0, 0, 0], 1.1)).decided == 1.0
    controller.reset()
    assert controller.due(1.1)


@pytest.mark.parametrize(
    ("asked", "offered", "words"),
    [
        (Field("path", (24, 3), "float32", "m, m, deg", PATH.frame, names=PATH.names), TWIST, "unit"),
        (Field("path", (24, 3), "float32", PATH.unit, "world", names=PATH.names), TWIST, "frame"),
        (Field("motors", (4,), "float32", "1"), TWIST, "name"),
        (PATH, Field("twist", (2,), "float32", "m/s, deg/s", "body", names=("v", "w")), "unit"),
        (PATH, Field("twist", (2,), "float32", "m/s, rad/s", "body", names=("w", "v")), "names"),
    ],
)
def test_what_is_no_path_or_no_base_is_refused_in_words(asked, offered, words):
    controller = Paths(CONFIG, ROBOT)
    assert controller.accepts(PATH, TWIST) == []
    assert any(words in line for line in controller.accepts(asked, offered))


def test_a_robot_that_does_not_say_its_limits_is_refused():
    with pytest.raises(InterfaceError, match="max_speed"):
        Paths(CONFIG, Interface((*POSES, Field("robot", (1,), names=("delay",))), TWIST, DT))
    with pytest.raises(InterfaceError, match="pose"):
        Paths(CONFIG, Interface((POSES[0], Field("robot", (5,), names=BODY)), TWIST, DT))
