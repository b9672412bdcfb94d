"""Definitions, hashes and texts against rosbags' for five distributions; what a message is refused for."""

import numpy as np
import pytest

pytest.importorskip("rosbags")

from rosbags.interfaces import Nodetype

from hardware.ros.messages import Type, array, check, constants, default, definition, fields, kinds
from hardware.ros.typehash import typehash
from robot.core.errors import MessageError
from tests.hardware.ros.references import panda, random_message, store

STATE = "sensor_msgs/msg/JointState"
NEEDED = """std_msgs Header String Bool Byte Char Int8 Int16 Int32 Int64 UInt8 UInt16 UInt32 UInt64 Float32 Float64 Empty
ColorRGBA Float64MultiArray MultiArrayLayout; builtin_interfaces Time Duration; geometry_msgs Vector3 Point
Quaternion Pose PoseStamped PoseWithCovariance PoseWithCovarianceStamped Twist TwistStamped
TwistWithCovariance Transform TransformStamped Wrench WrenchStamped Accel Inertia Polygon; sensor_msgs
JointState Imu Image CompressedImage CameraInfo RegionOfInterest PointCloud2 PointField LaserScan Range
BatteryState Joy JoyFeedback NavSatFix NavSatStatus MagneticField FluidPressure Temperature; nav_msgs Odometry
Path OccupancyGrid MapMetaData GridCells; trajectory_msgs JointTrajectory JointTrajectoryPoint
MultiDOFJointTrajectory; tf2_msgs TFMessage; diagnostic_msgs DiagnosticStatus DiagnosticArray KeyValue;
visualization_msgs Marker MarkerArray; rcl_interfaces ParameterValue Parameter ParameterEvent Log;
lifecycle_msgs State Transition TransitionEvent; rosgraph_msgs Clock"""
OLDER = {"ROS2_HUMBLE": {"sensor_msgs/msg/Range"}, "ROS2_IRON": set(), "ROS2_JAZZY": set(), "ROS2_KILTED": set()}
"""Where a distribution differs, of the kinds that it has."""


def ours(kind):
    return [(name, str(type)) for name, type in fields(kind)]


def theirs(description):
    what, detail = description
    if what == Nodetype.NAME:
        return detail.replace("/msg/", "/")
    if what == Nodetype.BASE:
        return detail[0] + (f"<={detail[1]}" if detail[1] else "")
    size = detail[1] if what == Nodetype.ARRAY else f"<={detail[1]}" if detail[1] else ""
    return f"{theirs(detail[0])}[{size}]"


def test_there_is_every_message_that_robots_speak_in():
    wanted = [f"{package}/msg/{name}" for line in NEEDED.split(";") for package, *names in [line.split()] for name in names]
    assert len(wanted) > 62
    assert set(wanted) <= set(kinds())


@pytest.mark.parametrize("distribution", OLDER)
def test_fields_are_those_of_the_distributions(distribution):
    known = store(distribution).fielddefs
    shared = [kind for kind in kinds() if kind in known]
    assert len(shared) > 130
    told = {kind: [(n, theirs(d)) for n, d in known[kind][1] if n != "structure_needs_at_least_one_member"] for kind in shared}
    assert {kind for kind in shared if told[kind] != ours(kind)} == OLDER[distribution]


def test_hashes_are_those_of_ros():
    assert typehash(STATE).startswith("RIHS01_a13ee3a3")
    assert [kind for kind in kinds() if typehash(kind) != store().hash_rihs01(kind)] == []


def test_texts_for_bags_and_constants_are_those_of_rosbags():
    assert [kind for kind in kinds() if definition(kind) != store().generate_msgdef(kind, 2)[0]] == []
    assert constants("visualization_msgs/msg/Marker")["LINE_STRIP"] == 4


def test_defaults_are_messages():
    for kind in kinds():
        check(kind, default(kind))
    assert default("geometry_msgs/msg/Pose")["orientation"] == {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}
    one, other = default(STATE), default(STATE)
    one["header"]["stamp"]["sec"] = 5
    assert other["header"]["stamp"]["sec"] == 0


def test_random_messages_pass():
    rng = np.random.default_rng(3)
    for kind in kinds():
        check(kind, random_message(kind, rng))


CHANGES = [
    ("header.stamp.sec", 1.5, "header.stamp.sec is 1.5, not of type int32"),
    ("header.stamp.sec", 2**31, "header.stamp.sec is 2147483648"),
    ("header.stamp.nanosec", -1, "header.stamp.nanosec is -1"),
    ("header.stamp", None, "header.stamp is None, not a dict of builtin_interfaces/msg/Time"),
    ("header.frame_id", b"base", "header.frame_id is b'base', not a string"),
    ("header.frame_id", "\ud800", "header.frame_id .* not Unicode"),
    ("header.seq", 1, "header has an unknown 'seq'"),
    ("name", "joint", "name is 'joint', not a list"),
    ("name", ["a", 3], r"name\[1\] is 3, not a string"),
    ("position", None, "position has the shape"),
    ("position", "abc", "position has the shape"),
    ("position", [[1.0]], "position has the shape"),
    ("position", ["a"], "position holds"),
    ("position", [1 + 2j], "position holds complex128"),
    ("position", [[1], [1, 2]], "position is .*, not a row of float64"),
    ("position", b"abc", "position is bytes"),
]


@pytest.mark.parametrize(("where", "value", "told"), CHANGES)
def test_what_is_wrong_is_said_in_one_line(where, value, told):
    message = panda()
    *way, last = where.split(".")
    place = message
    for name in way:
        place = place[name]
    place[last] = value
    with pytest.raises(MessageError, match=told) as caught:
        check(STATE, message)
    assert str(caught.value).startswith(STATE)
    assert "\n" not in str(caught.value)


def test_missing_fields_and_unknown_kinds_are_named():
    message = panda()
    del message["effort"]
    with pytest.raises(MessageError, match=r"has no 'effort'; sensor_msgs/msg/JointState has: header, name"):
        check(STATE, message)
    with pytest.raises(MessageError, match=r"no definition .*near it: sensor_msgs/msg/JointState"):
        check("sensor_msgs/JointState", message)
    with pytest.raises(MessageError, match="not a dict"):
        check(STATE, [])


@pytest.mark.parametrize(
    ("base", "value", "told"),
    [
        ("uint8", [256], "no uint8"),
        ("uint8", [-1], "no uint8"),
        ("int32", [1.0], "holds float64"),
        ("float32", [1e39], "too large for float32"),
        ("bool", [1], "holds int64"),
        ("uint64", [2**64], "holds object"),
        ("uint64", np.array([-1]), "no uint64"),
    ],
)
def test_numbers_that_do_not_fit_are_not_bent(base, value, told):
    with pytest.raises(MessageError, match=told):
        array(Type(base, "sequence"), value, "it")


def test_numbers_that_fit_are_taken_from_anything():
    assert array(Type("uint8", "sequence"), b"\x01\xff", "it").tolist() == [1, 255]
    assert array(Type("float32", "sequence"), [1, np.inf, np.nan], "it").dtype == np.float32
    assert array(Type("int64", "sequence"), np.array([3], ">i2"), "it").tolist() == [3]
    assert array(Type("float64", "sequence"), [], "it").dtype == np.float64
    with pytest.raises(MessageError, match="has 8 elements, not 9"):
        array(Type("float64", "array", 9), np.zeros(8), "it")
    with pytest.raises(MessageError, match="has 4 elements, more than 3"):
        array(Type("float64", "sequence", 3), np.zeros(4), "it")
