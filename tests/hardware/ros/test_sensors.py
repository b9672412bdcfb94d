"""What messages become: units, frames, encodings, names, times; and what is refused."""

import io
import math

import numpy as np
import pytest

from hardware.ros.commands import JointTargets, JointTargetsConfig, TwistCommand, TwistConfig
from hardware.ros.images import Cloud, CloudConfig, Colour, CompressedColour, Depth, DepthConfig, PictureConfig
from hardware.ros.messages import check, default
from hardware.ros.sensors import Flight, Goal, Imu, Joints, JointsConfig, Odometry, OdometryConfig, TopicConfig
from robot.core.rotation import from_rotvec, to_matrix, to_xyzw

ODOM = OdometryConfig("/odom", 0.2, "odom")


def posed(x, y, yaw, stamp=1.0, frame="odom", v=0.0, w=0.0):
    message = default("nav_msgs/msg/Odometry")
    message["header"] = {"stamp": {"sec": int(stamp), "nanosec": round(1e9 * (stamp % 1))}, "frame_id": frame}
    pose, twist = message["pose"]["pose"], message["twist"]["twist"]
    pose["position"] = {"x": x, "y": y, "z": 0.0}
    pose["orientation"] = {"x": 0.0, "y": 0.0, "z": math.sin(yaw / 2), "w": math.cos(yaw / 2)}
    twist["linear"]["x"], twist["angular"]["z"] = v, w
    return message


def test_odometry_is_matched_with_the_camera_and_pose_is_new():
    sensor = Odometry(ODOM)
    for k in range(5):
        sensor.take(posed(float(k), 0.0, 0.1 * k, 100.0 + k * 0.05, v=0.5, w=-0.2), 7.0 + k * 0.05)
    assert sensor.stamp == pytest.approx(7.2, abs=1e-4)
    seen = sensor.values(7.11)
    np.testing.assert_allclose(seen["odometry"], [2, 0, 0.2], atol=1e-9)
    np.testing.assert_allclose(seen["pose"], [4, 0, 0.4], atol=1e-9)
    np.testing.assert_allclose(seen["velocity"], [0.5, -0.2])


@pytest.mark.parametrize("change", ["frame", "nan", "missing", "type", "old", "zero quaternion"])
def test_odometry_that_is_of_no_use_is_counted_and_changes_nothing(change):
    sensor = Odometry(ODOM)
    sensor.take(posed(1.0, 2.0, 0.3, 50.0), 5.0)
    message = posed(9.0, 9.0, 0.0, 51.0)
    if change == "frame":
        message["header"]["frame_id"] = "map"
    elif change == "nan":
        message["pose"]["pose"]["position"]["x"] = math.nan
    elif change == "missing":
        del message["pose"]["pose"]
    elif change == "type":
        message["twist"] = [1, 2, 3]
    elif change == "zero quaternion":
        message["pose"]["pose"]["orientation"] = {"x": 0.0, "y": 0.0, "z": 0.0, "w": 0.0}
    else:
        message = posed(9.0, 9.0, 0.0, 49.0)
    sensor.take(message, 5.1)
    np.testing.assert_allclose(sensor.values(9.0)["pose"], [1, 2, 0.3], atol=1e-9)
    assert sensor.refused == (change != "old")


def test_without_stamps_the_time_of_arrival_counts():
    sensor = Odometry(ODOM)
    sensor.take(posed(0.0, 0.0, 0.0, 0.0), 3.5)
    assert sensor.stamp == 3.5


def test_a_flyers_odometry_is_turned_into_the_world():
    sensor, q = Flight(ODOM), from_rotvec([0.3, -0.2, 0.9])
    message = posed(1.0, 2.0, 0.0, v=0.0)
    message["pose"]["pose"]["orientation"] = dict(zip("xyzw", map(float, to_xyzw(q)), strict=True))
    message["twist"]["twist"]["linear"] = {"x": 1.0, "y": -2.0, "z": 0.5}
    sensor.take(message, 1.0)
    seen = sensor.values(1.0)
    np.testing.assert_allclose(seen["rotation"], to_matrix(q), atol=1e-9)
    np.testing.assert_allclose(seen["velocity"], to_matrix(q) @ [1.0, -2.0, 0.5], atol=1e-9)


def image(array, encoding, bigendian=False, padding=0):
    rows = [row.tobytes() + b"\0" * padding for row in array]
    message = default("sensor_msgs/msg/Image")
    message |= {"height": array.shape[0], "width": array.shape[1], "encoding": encoding, "is_bigendian": int(bigendian)}
    return message | {"step": len(rows[0]), "data": np.frombuffer(b"".join(rows), np.uint8)}


def depth(height=2, width=3):
    return Depth(DepthConfig("/depth", 0.3, height, width, 5.0))


def test_depth_in_millimetres_metres_and_foreign_byte_order_is_the_same():
    metres = np.array([[0.5, 1.25, 0.0], [4.999, 2.0, 3.0]], np.float32)
    for message in (
        image(metres, "32FC1"),
        image(metres.astype(">f4"), "32FC1", bigendian=True),
        image(np.round(metres * 1000).astype("<u2"), "16UC1"),
        image(np.round(metres * 1000).astype("<u2"), "mono16", padding=6),
    ):
        sensor = depth()
        sensor.take(message, 1.0)
        np.testing.assert_allclose(sensor.values(1.0)["depth"], metres, atol=1e-3)


def test_larger_images_keep_what_is_nearest_and_no_return_is_zero():
    fine = np.full((4, 6), np.nan, np.float32)
    fine[0, 0], fine[1, 1], fine[2, 5], fine[3, 0] = 3.0, 2.0, np.inf, 5.5
    sensor = depth()
    sensor.take(image(fine, "32FC1"), 1.0)
    np.testing.assert_array_equal(sensor.values(1.0)["depth"], [[2, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    "change", [{"encoding": "rgb8"}, {"height": 3}, {"step": 4}, {"data": np.zeros(5, np.uint8)}, {"height": 10**9}, {"width": 0}]
)
def test_damaged_images_are_counted(change):
    sensor = depth()
    sensor.take(image(np.ones((2, 3), np.float32), "32FC1") | change, 1.0)
    assert sensor.refused == 1
    assert not sensor.past


def test_a_goal_is_seen_from_the_body():
    goal = Goal(OdometryConfig("/goal", math.inf, "odom"))
    message = default("geometry_msgs/msg/PoseStamped")
    message["header"]["frame_id"] = "odom"
    message["pose"]["position"]["x"], message["pose"]["position"]["y"] = 2.0, 1.0
    message["pose"]["orientation"]["w"] = 1.0
    goal.take(message, 1.0)
    seen = goal.seen_from(np.array([2.0, 0.0, math.pi / 2]))
    np.testing.assert_allclose(seen["goal"], [1.0, 0.0, -math.pi / 2], atol=1e-9)
    np.testing.assert_array_equal(seen["goal_given"], [1, 0])


def test_joints_are_found_by_name():
    sensor = Joints(JointsConfig("/joint_states", 0.1, ["b", "a"], "rad"))
    message = default("sensor_msgs/msg/JointState") | {"name": ["a", "x", "b"], "position": np.array([1.0, 2.0, 3.0])}
    message |= {"velocity": np.array([0.1, 0.2, 0.3])}
    sensor.take(message, 1.0)
    np.testing.assert_array_equal(sensor.values(1.0)["joints"], [3, 1])
    np.testing.assert_array_equal(sensor.values(1.0)["joint_velocities"], [0.3, 0.1])
    for change in ({"name": ["a", "x", "c"]}, {"position": np.array([1.0])}, {"position": np.array([1.0, 2.0, math.nan])}):
        sensor.take(message | change, 2.0)
    assert sensor.refused == 3


def test_commands_are_messages_of_their_type():
    stamp = {"sec": 3, "nanosec": 4}
    for stamped in (False, True):
        command = TwistCommand(TwistConfig("/cmd_vel", stamped, "base_link"))
        message = command.message(np.array([0.4, -0.7]), stamp)
        check(command.kind, message)
        twist = message["twist"] if stamped else message
        assert (twist["linear"]["x"], twist["angular"]["z"]) == (0.4, -0.7)
    targets = JointTargets(JointTargetsConfig("/targets", ["a", "b"], "rad"))
    message = targets.message(np.array([0.1, 0.2]), stamp)
    check(targets.kind, message)
    assert message["name"] == ["a", "b"]
    assert message["header"]["stamp"] == stamp


COLOURS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 13


@pytest.mark.parametrize(
    ("encoding", "pixels"),
    [
        ("rgb8", COLOURS),
        ("bgr8", COLOURS[..., ::-1]),
        ("rgba8", np.concatenate([COLOURS, np.full((2, 3, 1), 9, np.uint8)], axis=-1)),
        ("bgra8", np.concatenate([COLOURS[..., ::-1], np.full((2, 3, 1), 9, np.uint8)], axis=-1)),
    ],
)
def test_colours_come_in_any_order_and_size(encoding, pixels):
    sensor = Colour(PictureConfig("/rgb", 0.3, 2, 3))
    sensor.take(image(np.ascontiguousarray(pixels).reshape(2, -1), encoding) | {"width": 3}, 1.0)
    np.testing.assert_array_equal(sensor.values(1.0)["rgb"], COLOURS)
    large = np.repeat(np.repeat(pixels, 3, axis=0), 2, axis=1)
    sensor.take(image(np.ascontiguousarray(large).reshape(6, -1), encoding, padding=5) | {"width": 6}, 2.0)
    np.testing.assert_array_equal(sensor.values(2.0)["rgb"], COLOURS)
    sensor.take(image(pixels[..., 0], "yuv422"), 3.0)
    assert sensor.refused == 1


def test_compressed_pictures_are_decoded_and_others_refused():
    pillow = pytest.importorskip("PIL.Image")
    sensor, file = CompressedColour(PictureConfig("/rgb", 0.3, 2, 3)), io.BytesIO()
    pillow.fromarray(COLOURS).save(file, "PNG")
    message = default("sensor_msgs/msg/CompressedImage") | {"format": "png"}
    for data in (file.getvalue(), b"", b"GIF89a", file.getvalue()[:40]):
        sensor.take(message | {"data": np.frombuffer(data, np.uint8)}, 1.0)
    np.testing.assert_array_equal(sensor.values(1.0)["rgb"], COLOURS)
    assert sensor.refused == 3


def cloud(points, kind="<f4", **changes):
    table = np.zeros(len(points), [("pad", "u1", 4), ("z", kind), ("y", kind), ("x", kind)])
    for k, axis in enumerate("xyz"):
        table[axis] = points[:, k]
    message = default("sensor_msgs/msg/PointCloud2")
    message["header"]["frame_id"] = "lidar"
    scalar = {"f4": 7, "f8": 8}[kind[1:]]
    known = {name: table.dtype.fields[name][1] for name in "xyz"}
    message["fields"] = [{"name": n, "offset": at, "datatype": scalar, "count": 1} for n, at in known.items()]
    message |= {"height": 1, "width": len(points), "is_bigendian": kind[0] == ">", "point_step": table.itemsize}
    return message | {"row_step": table.itemsize * len(points), "data": np.frombuffer(table.tobytes(), np.uint8)} | changes


@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8"])
def test_clouds_are_read_by_their_own_description(kind):
    points = np.arange(30, dtype=np.float64).reshape(10, 3)
    points[4] = np.nan
    sensor = Cloud(CloudConfig("/points", 0.3, 12, "lidar"))
    sensor.take(cloud(points, kind), 1.0)
    seen = sensor.values(1.0)["points"]
    np.testing.assert_array_equal(seen[:9], np.delete(points, 4, axis=0))
    np.testing.assert_array_equal(seen[9:], 0.0)
    few = Cloud(CloudConfig("/points", 0.3, 3, "lidar"))
    few.take(cloud(points, kind), 1.0)
    np.testing.assert_array_equal(few.values(1.0)["points"], points[[0, 5, 9]])


@pytest.mark.parametrize(
    "change",
    [
        {"point_step": 0}, {"width": 10**8}, {"row_step": 3}, {"data": np.zeros(3, np.uint8)}, {"fields": []},
        {"fields": [{"name": n, "offset": 99, "datatype": 7, "count": 1} for n in "xyz"]},
        {"fields": [{"name": n, "offset": 0, "datatype": 77, "count": 1} for n in "xyz"]},
    ],
)  # fmt: skip
def test_damaged_clouds_are_counted(change):
    sensor = Cloud(CloudConfig("/points", 0.3, 3, "lidar"))
    sensor.take(cloud(np.ones((4, 3)), **change), 1.0)
    assert sensor.refused == 1


def test_an_imu_speaks_of_its_body():
    sensor, message = Imu(TopicConfig("/imu", 0.1)), default("sensor_msgs/msg/Imu")
    q = from_rotvec([0.1, 0.2, 0.3])
    message["orientation"] = dict(zip("xyzw", map(float, to_xyzw(q)), strict=True))
    message["angular_velocity"] = {"x": 1.0, "y": 2.0, "z": 3.0}
    sensor.take(message, 1.0)
    np.testing.assert_allclose(sensor.values(1.0)["attitude"], q)
    np.testing.assert_array_equal(sensor.values(1.0)["rate"], [1, 2, 3])
