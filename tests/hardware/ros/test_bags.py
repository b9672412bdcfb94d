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
from robot.core.errors import DatasetError, InterfaceError
from robot.core.interface import Field, Interface
from robot.core.rotation import from_rotvec, to_matrix, to_xyzw

INTERFACE = Interface(
    (
        Field("joints", (2,), "float32", "rad", names=("a", "b")),
        Field("depth", (6, 8), "float32", "m", "camera"),
        Field("rgb", (5, 4, 3), "uint8", "1", "camera"),
        Field("position", (3,), "float32", "m", "world", names=("x", "y", "z")),
        Field("rotation", (3, 3), "float32", "1", "world from body"),
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
        "rotation": to_matrix(from_rotvec([0, 0, 0.1 * k])).astype(np.float32),
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
        "/observation/rotation": COUNT, "/pose": COUNT, "/command/wanted": COUNT, "/command/sent": COUNT - 1, "/diagnostics": 2,
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


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_bag_becomes_arrays_on_a_clock_of_their_own(recording, tmp_path, storage):
    path = bags.write(recording, tmp_path / "bag", storage)
    columns = {
        "joints": Column("/observation/joints", "position"), "depth": Column("/observation/depth", "data"),
        "position": Column("/pose", "pose.position.x, pose.position.y, pose.position.z"),
        "targets": Column("/command/sent", "position"),
    }  # fmt: skip
    fields = tuple(INTERFACE.field(name) for name in ("joints", "depth", "position"))
    found = bags.read(path, Interface(fields, INTERFACE.action, 0.02), columns)
    assert {name: value.shape[1:] for name, value in found.items()} == {
        "observation.joints": (2,), "observation.depth": (6, 8), "observation.position": (3,), "action": (2,),
    }  # fmt: skip
    count = len(found["action"])
    assert COUNT - 2 <= count <= COUNT
    for k in (0, 10, count - 1):
        np.testing.assert_array_equal(found["observation.joints"][k], seen(k)["joints"])
        np.testing.assert_array_equal(found["observation.depth"][k], seen(k)["depth"])
    assert found["action"][3].tolist() == found["action"][2].tolist()  # nothing left then: the last one holds
    half = bags.read(path, Interface(fields, INTERFACE.action, 0.04), columns)
    np.testing.assert_array_equal(half["observation.joints"], found["observation.joints"][::2])


def test_what_cannot_be_is_an_error(recording, tmp_path):
    path = bags.write(recording, tmp_path / "bag")
    with pytest.raises(DatasetError, match="already"):
        bags.write(recording, path)
    with pytest.raises(DatasetError, match="accepted"):
        bags.write(recording, tmp_path / "other", "floppy")
    one = Interface((INTERFACE.field("joints"),), INTERFACE.action, 0.02)
    sent = {"targets": Column("/command/sent", "position")}
    with pytest.raises(DatasetError, match=r"it has .*/observation/joints"):
        bags.read(path, one, {**sent, "joints": Column("/nosuch", "position")})
    with pytest.raises(InterfaceError, match="does not give it"):
        bags.read(path, one, {**sent, "joints": Column("/observation/joints", "velocity")})
    with pytest.raises(InterfaceError, match="does not give it"):
        bags.read(path, one, {**sent, "joints": Column("/observation/joints", "nosuch")})
    (tmp_path / "empty").mkdir()
    for wrong in ("empty", "nosuch"):
        with pytest.raises(DatasetError, match="no readable bag"):
            bags.read(tmp_path / wrong, one, {**sent, "joints": Column("/observation/joints", "position")})


def test_recordings_and_bags_become_episodes_to_learn_from(recording, tmp_path):
    pytest.importorskip("pyarrow")
    from robot.data.episodes import EpisodeDataset
    from robot.examples.convert_recording import main

    main([f"recording={tmp_path / 'run'}", f"output={tmp_path / 'flown'}"])
    dataset = EpisodeDataset(tmp_path / "flown")
    assert dataset.interface == INTERFACE
    assert len(dataset.episode(0)) == COUNT - 1  # the period in which nothing left is none
    np.testing.assert_array_equal(dataset.episode(0).observation["depth"][5], seen(6)["depth"])
    main([f"recording={tmp_path / 'run'}", f"output={tmp_path / 'bag'}", "to=mcap"])
    columns = {
        "dt": 0.02,
        "action": {"name": "targets", "topic": "/command/sent", "path": "position", "shape": [2], "unit": "rad"},
        "observation": [{"name": "joints", "topic": "/observation/joints", "path": "position", "shape": [2], "unit": "rad"}],
    }
    (tmp_path / "columns.yaml").write_text(json.dumps(columns))
    main([f"bag={tmp_path / 'bag'}", f"columns={tmp_path / 'columns.yaml'}", f"output={tmp_path / 'driven'}"])
    driven = EpisodeDataset(tmp_path / "driven")
    assert len(driven.episode(0)) >= COUNT - 2
    with pytest.raises(DatasetError, match="columns"):
        main([f"bag={tmp_path / 'bag'}", f"columns={tmp_path / 'nosuch.yaml'}", f"output={tmp_path / 'x'}"])
