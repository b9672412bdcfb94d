"""Bags that we write are read by rosbags and by MCAP's own readers, and what we read of bags is what was recorded."""

import json

import numpy as np
import pytest

pytest.importorskip("rosbags")

from hardware.drivers.base import Reading
from hardware.guard import Mode
from hardware.recorder import Recorder, load
from hardware.ros import bags
from hardware.ros.bags import Column
from hardware.ros.messages import check, definition
from robot.core.errors import DatasetError, InterfaceError, MessageError
from robot.core.interface import Field, Interface
from robot.core.rotation import from_rotvec, to_matrix, to_xyzw
from tests.hardware.ros.references import store

INTERFACE = Interface(
    (
        Field("joints", (2,), "float32", "rad", names=("a", "b")),
        Field("depth", (6, 8), "float32", "m", "camera"),
        Field("rgb", (5, 4, 3), "uint8", "1", "camera"),
        Field("position", (3,), "float32", "m", "world", names=("x", "y", "z")),
        Field("rotation", (3, 3), "float32", "1", "world from body"),
        Field("velocity", (3,), "float32", "m/s", "world", names=("x", "y", "z")),
        Field("joint_velocities", (2,), "float32", "rad/s", names=("a", "b")),
        Field("odometry", (3,), "float32", "m, m, rad", "odom", names=("x", "y", "yaw")),
    ),
    Field("targets", (2,), "float32", "rad", names=("a", "b")),
    0.02,
)
COUNT = 30


def seen(k):
    rng = np.random.default_rng(k)
    return {
        "joints": np.array([0.1 * k, -0.2 * k], np.float32), "depth": rng.uniform(0, 5, (6, 8)).astype(np.float32),
        "rgb": rng.integers(0, 256, (5, 4, 3), dtype=np.uint8), "position": np.array([k, 2, 3], np.float32),
        "rotation": to_matrix(from_rotvec([0, 0, 0.1 * k])).astype(np.float32), "velocity": np.array([1, k, 3], np.float32),
        "joint_velocities": np.array([k, 0.5], np.float32), "odometry": np.array([k, 1, 0.2], np.float32),
    }  # fmt: skip


@pytest.fixture
def recording(tmp_path):
    recorder = Recorder(tmp_path / "run", INTERFACE, {"robot": "toy"})
    recorder.event(100.0, Mode.armed, ())
    for k in range(COUNT):
        now, values = 100.0 + 0.02 * k, seen(k)
        sent = None if k == 3 else np.array([0.5 * k, 1.0])
        recorder.period(now, Reading(values, now - 0.001, values["joints"]), 1, Mode.running, np.array([k, 0.0]), sent)
    recorder.event(100.7, Mode.hold, ("why not",))
    recorder.close()
    return load(tmp_path / "run")


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_rosbags_reads_what_was_recorded(recording, tmp_path, storage):
    from rosbags.highlevel import AnyReader

    path = bags.write(recording, tmp_path / "bag", storage)
    with AnyReader([path]) as reader:
        found = {c.topic: [] for c in reader.connections}
        for connection, when, data in reader.messages():
            found[connection.topic].append((when, reader.deserialize(data, connection.msgtype)))
    assert {topic: len(rows) for topic, rows in found.items()} == {
        "/observation/joints": COUNT, "/observation/depth": COUNT, "/observation/rgb": COUNT, "/observation/position": COUNT,
        "/observation/rotation": COUNT, "/observation/velocity": COUNT, "/observation/joint_velocities": COUNT,
        "/observation/odometry": COUNT, "/observation/odometry/pose": COUNT, "/pose": COUNT,
        "/command/wanted": COUNT, "/command/sent": COUNT - 1, "/diagnostics": 2,
    }  # fmt: skip
    k = 7
    when, joints = found["/observation/joints"][k]
    assert joints.name == ["a", "b"]
    np.testing.assert_array_equal(joints.position, seen(k)["joints"])
    started = recording.header["started"]
    expected = 100.0 + 0.02 * k - 0.001 + started["unix_s"] - started["monotonic_s"]
    assert when / 1e9 == pytest.approx(expected, abs=1e-6)
    depth = found["/observation/depth"][k][1]
    assert (depth.encoding, depth.height, depth.width) == ("32FC1", 6, 8)
    np.testing.assert_array_equal(depth.data.view(np.float32).reshape(6, 8), seen(k)["depth"])
    np.testing.assert_array_equal(found["/observation/rgb"][k][1].data.reshape(5, 4, 3), seen(k)["rgb"])
    q = found["/pose"][k][1].pose.orientation
    np.testing.assert_allclose([q.x, q.y, q.z, q.w], to_xyzw(from_rotvec([0, 0, 0.1 * k])), atol=1e-6)
    moving = found["/observation/velocity"][k][1]
    assert (moving.header.frame_id, moving.twist.linear.x, moving.twist.linear.y, moving.twist.linear.z) == ("world", 1, k, 3)
    assert found["/observation/joint_velocities"][k][1].velocity.tolist() == [k, 0.5]
    flat = found["/observation/odometry/pose"][k][1].pose
    assert (flat.position.x, flat.position.y) == (k, 1)
    assert 2 * np.arctan2(flat.orientation.z, flat.orientation.w) == pytest.approx(0.2)
    assert found["/diagnostics"][1][1].status[0].message == "hold; why not"
    assert found["/diagnostics"][1][1].status[0].level in (2, b"\x02")


def test_mcaps_own_reader_reads_it_too(recording, tmp_path):
    reader = pytest.importorskip("mcap.reader")
    decoder = pytest.importorskip("mcap_ros2.decoder")
    path = bags.write(recording, tmp_path / "bag")
    with open(next(path.glob("*.mcap")), "rb") as file:
        rows = list(reader.make_reader(file, decoder_factories=[decoder.DecoderFactory()]).iter_decoded_messages())
    joints = [message for _, channel, _, message in rows if channel.topic == "/observation/joints"]
    assert [tuple(m.position) for m in joints] == [tuple(seen(k)["joints"].astype(float)) for k in range(COUNT)]
    assert sum(channel.topic == "/command/sent" for _, channel, _, _ in rows) == COUNT - 1


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        (Field("twist", (2,), unit="m/s, rad/s", names=("v", "w")), bags.TWIST),
        (Field("setpoint", (4,), unit="m/s, m/s, m/s, rad/s", names=("x", "y", "z", "yaw_rate")), bags.TWIST),
        (Field("rate", (3,), unit="rad/s", names=("x", "y", "z")), bags.TWIST),
        (Field("rates", (4,), unit="rad/s, rad/s, rad/s, 1", names=("x", "y", "z", "thrust")), bags.NUMBERS),
        (Field("goal", (3,), unit="m", names=("x", "y", "z")), bags.NUMBERS),
        (Field("drive", (2,), unit="rad, m/s^2", names=("steering", "acceleration")), bags.NUMBERS),
        (Field("wheels", (2,), unit="m/s", names=("left", "right")), bags.JOINTS),
        (Field("battery", (1,), unit="V"), bags.NUMBERS),
        (Field("tile", (3, 3), unit="1"), bags.NUMBERS),
    ],
)
def test_fields_become_the_message_that_says_most(field, kind):
    assert bags.kind_of(field) == kind
    value = np.arange(1, 1 + np.prod(field.shape)).reshape(field.shape)
    check(kind, bags.message_of(field, value, {"sec": 0, "nanosec": 0}))


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_bag_becomes_arrays_on_a_clock_of_their_own(recording, tmp_path, storage):
    path = bags.write(recording, tmp_path / "bag", storage)
    columns = {
        "joints": Column("/observation/joints", "position", 0.1), "depth": Column("/observation/depth", "data", 0.1),
        "position": Column("/pose", "pose.position.x, pose.position.y, pose.position.z", 0.1),
        "targets": Column("/command/sent", "position", 0.1),
    }  # fmt: skip
    fields = tuple(INTERFACE.field(name) for name in ("joints", "depth", "position"))
    (found,) = bags.read(path, Interface(fields, INTERFACE.action, 0.02), columns)
    assert {name: value.shape[1:] for name, value in found.items()} == {
        "observation.joints": (2,), "observation.depth": (6, 8), "observation.position": (3,), "action": (2,),
    }  # fmt: skip
    assert len(found["action"]) == COUNT
    for k in range(COUNT):
        np.testing.assert_array_equal(found["observation.joints"][k], seen(k)["joints"])
        np.testing.assert_array_equal(found["observation.depth"][k], seen(k)["depth"])
        assert found["action"][k].tolist() == [0.5 * (k - (k == 3)), 1.0]  # nothing left in 3: the one before holds
    (half,) = bags.read(path, Interface(fields, INTERFACE.action, 0.04), columns)
    np.testing.assert_array_equal(half["observation.joints"], found["observation.joints"][::2])


STAMP = {"sec": 0, "nanosec": 0}
ARM = Interface(
    (Field("joints", (2,), unit="rad", names=("a", "b")), Field("goal", (1,))),
    Field("targets", (2,), unit="rad", names=("a", "b")),
    0.1,
)
COLUMNS = {
    "joints": Column("/joint_states", "position", 0.15), "goal": Column("/goal", "data", np.inf),
    "targets": Column("/targets", "position", 0.25),
}  # fmt: skip


def arm(number, moved=0.0):
    """Joints that a bag of others has in another order, and more of them."""
    return {
        "header": {"stamp": STAMP, "frame_id": ""}, "name": ["gripper", "b", "a"], "position": [9.0, number + moved, number],
        "velocity": [], "effort": [],
    }  # fmt: skip


def others():
    """Time [s], topic, kind, message: joints at 20 Hz but for a pause, targets 30 ms after every second one, a goal said once."""
    yield 0.0, "/goal", "std_msgs/msg/Float64", {"data": 7.0}
    for k in range(60):
        if not 30 <= k < 40:
            yield 0.05 * k, "/joint_states", bags.JOINTS, arm(k)
        if k % 2 == 0:
            yield 0.05 * k + 0.03, "/targets", bags.JOINTS, arm(k, 0.5)


def by_mcap(path):
    """With MCAP's own writer, without rosbag2's metadata."""
    from mcap_ros2.writer import Writer

    with open(path / "others.mcap", "wb") as file, Writer(file) as writer:
        schemas = {}
        for when, topic, kind, message in others():
            if kind not in schemas:
                schemas[kind] = writer.register_msgdef(kind, definition(kind))
            at = int((1.7e9 + when) * 1e9)
            writer.write_message(topic=topic, schema=schemas[kind], message=message, log_time=at, publish_time=at)
    return path / "others.mcap"


def by_ros_1(path):
    """With rosbags' writer for bags of ROS 1, and its definitions."""
    from rosbags.rosbag1 import Writer

    known, connections = store("ROS1_NOETIC"), {}
    with Writer(path / "others.bag") as writer:
        for when, topic, kind, message in others():
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=known)
            data = known.serialize_ros1(theirs(known, kind, message), kind)
            writer.write(connections[topic], int((1.7e9 + when) * 1e9), bytes(data))
    return path / "others.bag"


def theirs(known, kind, message):
    if kind == "std_msgs/msg/Float64":
        return known.types[kind](**message)
    header = known.types["std_msgs/msg/Header"](0, known.types["builtin_interfaces/msg/Time"](0, 0), "")
    rows = {name: np.array(message[name], float) for name in ("position", "velocity", "effort")}
    return known.types[kind](header=header, name=message["name"], **rows)


@pytest.mark.parametrize("write", [by_mcap, by_ros_1])
def test_bags_of_others_become_episodes_without_holes(write, tmp_path):
    if write is by_mcap:
        pytest.importorskip("mcap_ros2.writer")
    one, two = bags.read(write(tmp_path), ARM, COLUMNS)
    first, second = np.arange(0, 31, 2), np.arange(40, 60, 2)  # steps begin with the first target, 30 ms after the joints
    np.testing.assert_array_equal(one["observation.joints"][:, 0], [*first[:-1], 29])
    np.testing.assert_array_equal(two["observation.joints"][:, 0], second)
    for found, expected in ((one, first), (two, second)):
        np.testing.assert_array_equal(found["observation.joints"][:, 1], found["observation.joints"][:, 0])
        np.testing.assert_array_equal(found["action"], np.stack([expected, expected + 0.5], axis=1))
        assert (found["observation.goal"] == 7.0).all()
        assert found["action"].dtype == np.float32


def test_an_action_is_the_first_within_its_step(tmp_path, monkeypatch):
    series = {"/joint_states": [(0.1 * k, arm(k)) for k in range(5)], "/targets": [(0.02 * k, arm(k)) for k in range(20)]}
    series["/goal"] = [(0.0, {"data": 1.0})]
    monkeypatch.setattr(bags, "messages", lambda path, topic: ((round(1e9 * t), message) for t, message in series[topic]))
    (found,) = bags.read("", ARM, COLUMNS)
    assert found["action"][:, 0].tolist() == [0, 5, 10, 15, 19]  # the last holds
    series["/targets"] = [(0.1 * k + 0.07, arm(k)) for k in range(5)]
    (found,) = bags.read("", ARM, COLUMNS)
    assert found["action"][:, 0].tolist() == [0, 1, 2, 3, 4]
    assert found["observation.joints"][:, 0].tolist() == [0, 1, 2, 3, 4]
    series["/targets"] = []
    with pytest.raises(DatasetError, match="no message of '/targets'"):
        bags.read("", ARM, COLUMNS)
    series["/targets"] = [(50.0, arm(0))]
    with pytest.raises(DatasetError, match="nowhere all topics"):
        bags.read("", ARM, COLUMNS)


@pytest.mark.parametrize(
    ("encoding", "data", "expected"),
    [
        ("16UC1", np.array([[1000, 0], [65535, 1]], "<u2"), [[1.0, 0.0], [65.535, 0.001]]),
        ("32FC1", np.array([[1.5, np.nan], [0.0, 3.0]], "<f4"), [[1.5, np.nan], [0.0, 3.0]]),
        ("bgr8", np.arange(12).reshape(2, 2, 3).astype("u1"), [[[2, 1, 0], [5, 4, 3]], [[8, 7, 6], [11, 10, 9]]]),
        ("mono8", np.array([[1, 2], [3, 4]], "u1"), [[[1] * 3, [2] * 3], [[3] * 3, [4] * 3]]),
    ],
)
def test_pictures_are_understood_by_their_encoding(encoding, data, expected):
    pad = np.zeros((2, 3), np.uint8)  # rows may be longer than their pixels
    raw = np.concatenate([data.reshape(2, -1).view(np.uint8), pad], axis=1)
    message = {"height": 2, "width": 2, "encoding": encoding, "is_bigendian": 0, "step": raw.shape[1], "data": raw.ravel()}
    np.testing.assert_allclose(bags._pick(message, "data", ()), expected, rtol=1e-6)
    with pytest.raises(MessageError, match="accepted"):
        bags._pick({**message, "encoding": "yuv422"}, "data", ())


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_damaged_bags_are_errors_in_a_line(recording, tmp_path, storage):
    path = bags.write(recording, tmp_path / "bag", storage)
    file = next(each for each in path.iterdir() if each.suffix in (".mcap", ".db3"))
    data, rng, refused = file.read_bytes(), np.random.default_rng(0), []
    one = Interface((INTERFACE.field("joints"),), INTERFACE.action, 0.02)
    columns = {"joints": Column("/observation/joints", "position", 1.0), "targets": Column("/command/sent", "position", 1.0)}
    for number in range(60):
        spoiled = bytearray(data[: int(rng.integers(len(data)))] if number % 3 == 0 else data)
        for _ in range(100 if number % 3 == 1 else 1):
            if spoiled:
                spoiled[int(rng.integers(len(spoiled)))] = int(rng.integers(256))
        file.write_bytes(spoiled)
        try:
            bags.read(path, one, columns)
        except (DatasetError, InterfaceError) as error:
            refused.append(str(error))
    assert len(refused) > 20
    assert not any("\n" in text for text in refused)


def test_what_cannot_be_is_an_error(recording, tmp_path):
    path = bags.write(recording, tmp_path / "bag")
    with pytest.raises(DatasetError, match="already"):
        bags.write(recording, path)
    with pytest.raises(DatasetError, match="accepted"):
        bags.write(recording, tmp_path / "other", "floppy")
    one = Interface((INTERFACE.field("joints"),), INTERFACE.action, 0.02)
    sent = {"targets": Column("/command/sent", "position", 1.0)}
    with pytest.raises(DatasetError, match=r"it has .*/observation/joints"):
        bags.read(path, one, {**sent, "joints": Column("/nosuch", "position", 1.0)})
    with pytest.raises(InterfaceError, match="does not give it"):
        bags.read(path, one, {**sent, "joints": Column("/observation/joints", "velocity", 1.0)})
    with pytest.raises(InterfaceError, match="does not give it"):
        bags.read(path, one, {**sent, "joints": Column("/observation/joints", "nosuch", 1.0)})
    (tmp_path / "empty").mkdir()
    for wrong in ("empty", "nosuch"):
        with pytest.raises(DatasetError, match="no readable bag"):
            bags.read(tmp_path / wrong, one, {**sent, "joints": Column("/observation/joints", "position", 1.0)})


def test_recordings_and_bags_become_episodes_to_learn_from(recording, tmp_path):
    pytest.importorskip("pyarrow")
    from robot.data.episodes import EpisodeDataset
    from robot.data.windows import Windows
    from robot.examples.convert_recording import main

    main([f"recording={tmp_path / 'run'}", f"output={tmp_path / 'flown'}"])
    dataset = EpisodeDataset(tmp_path / "flown")
    assert dataset.interface == INTERFACE
    assert list(dataset.lengths) == [3, COUNT - 4]  # where nothing left an episode ends
    np.testing.assert_array_equal(dataset.episode(1).observation["depth"][5], seen(9)["depth"])
    assert dataset.episode(1).arrays["action"][5].tolist() == [4.5, 1.0]
    main([f"recording={tmp_path / 'run'}", f"output={tmp_path / 'bag'}", "to=mcap"])
    joints = {"path": "position", "shape": [2], "unit": "rad", "names": ["a", "b"], "max_age": 0.1}
    columns = {
        "dt": 0.02,
        "action": {"name": "targets", "topic": "/command/sent", **joints},
        "observation": [{"name": "joints", "topic": "/observation/joints", **joints}],
    }
    (tmp_path / "columns.yaml").write_text(json.dumps(columns))
    main([f"bag={tmp_path / 'bag'}", f"columns={tmp_path / 'columns.yaml'}", f"output={tmp_path / 'driven'}"])
    driven = EpisodeDataset(tmp_path / "driven")
    windows = Windows(driven, 2, 4)
    assert len(windows) == COUNT
    batch = windows.gather(np.array([0, 10, COUNT - 1]))
    at = [[0, 0], [9, 10], [COUNT - 2, COUNT - 1]]
    expected = [[seen(k)["joints"] for k in row] for row in at]
    np.testing.assert_array_equal(batch["joints"], expected)
    np.testing.assert_array_equal(batch["action"][1], [[0.5 * k, 1.0] for k in range(10, 14)])
    assert batch["valid"].tolist() == [[True] * 4, [True] * 4, [True, False, False, False]]
    with pytest.raises(DatasetError, match="columns"):
        main([f"bag={tmp_path / 'bag'}", f"columns={tmp_path / 'nosuch.yaml'}", f"output={tmp_path / 'x'}"])
