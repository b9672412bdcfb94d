"""A policy for another robot is refused in words before anything moves; so is what is no policy."""

import dataclasses
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from hardware.estop import Estop, EstopConfig
from hardware.fit import fit
from hardware.mavlink_link import connect
from hardware.session import Session
from robot.core.errors import CheckpointError, DriverError, InterfaceError
from robot.core.interface import Field, Interface
from robot.core.paths import PRETRAINED, ROOT

onnx = pytest.importorskip("onnx")

JOINTS = ("shoulder", "elbow", "wrist")
ROBOT = Interface(
    (Field("joints", (3,), "float32", "rad", "base", -3.0, 3.0, JOINTS), Field("depth", (4, 6), "float32", "m", "camera", 0.0)),
    Field("targets", (3,), "float32", "rad", "base", -2.8, 2.8, JOINTS),
    0.02,
)


def changed(where, **fields):
    """ROBOT with a field that is otherwise."""
    if where == "targets":
        return dataclasses.replace(ROBOT, action=dataclasses.replace(ROBOT.action, **fields))
    rows = tuple(dataclasses.replace(f, **fields) if f.name == where else f for f in ROBOT.observation)
    return dataclasses.replace(ROBOT, observation=rows)


MISTAKES = {
    "a renamed joint": (changed("joints", names=("shoulder", "elbow", "hand")), "names expected .*'hand'"),
    "joints in another order": (changed("targets", names=JOINTS[::-1]), "action: names expected"),
    "degrees for radians": (changed("joints", unit="deg"), "unit expected 'deg', found 'rad'"),
    "degrees to command": (changed("targets", unit="deg"), "action: unit expected 'deg', found 'rad'"),
    "another frame": (changed("joints", frame="world"), "frame expected 'world', found 'base'"),
    "another camera": (changed("depth", shape=(8, 6)), r"shape expected \(8, 6\), found \(4, 6\)"),
    "another range": (changed("targets", high=3.1), "high expected 3.1, found 2.8"),
    "another type": (changed("depth", dtype="float64"), "dtype expected 'float64'"),
    "another rate": (dataclasses.replace(ROBOT, dt=0.03), "no multiple of the driver's 0.02 s"),
    "too quick": (dataclasses.replace(ROBOT, dt=0.01), "no multiple of the driver's 0.02 s"),
    "a sensor that is not there": (
        dataclasses.replace(ROBOT, observation=(*ROBOT.observation, Field("force", (6,)))), "observation 'force'",
    ),
    "another command": (changed("targets", name="torques"), "name expected 'torques', found 'targets'"),
    "fewer joints": (changed("targets", shape=(2,), names=JOINTS[:2]), "shape expected"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_policy_for_another_robot_is_refused_in_words(mistake):
    asked, words = MISTAKES[mistake]
    with pytest.raises(InterfaceError, match=words) as error:
        fit(asked, ROBOT)
    assert "\n" not in str(error.value)
    assert "not for this robot" in str(error.value)


def test_one_that_sees_less_and_decides_less_often_is_taken():
    fit(ROBOT, ROBOT)
    fit(Interface(ROBOT.observation[:1], ROBOT.action, 0.1), ROBOT)


def variations():
    """Every key of every field, changed in every way that its type has."""
    other = {"name": ["x"], "dtype": ["float64", "uint8"], "unit": ["deg", "m", ""], "frame": ["world", "tool", ""]}
    for where in ("joints", "depth", "targets"):
        field = next(f for f in (*ROBOT.observation, ROBOT.action) if f.name == where)
        for key, values in other.items():
            yield from (changed(where, **{key: value}) for value in values if value != getattr(field, key))
        for key in ("low", "high"):
            now = getattr(field, key)
            values = [None, 0.5] if now is None else [None, now + 0.1, -now if now else 1.0, now * 57.29577951]
            yield from (changed(where, **{key: value}) for value in values if value != now)
        names = [field.names[::-1], (), tuple(f"{name}_joint" for name in field.names)] if field.names else []
        yield from (changed(where, names=value) for value in names)
        count = field.shape[-1]
        shapes = [(*field.shape[:-1], count + 1), (1, *field.shape), field.shape[::-1] if len(field.shape) > 1 else (count - 1,)]
        yield from (changed(where, shape=value, names=()) for value in shapes)
    for dt in (0.021, 0.019, 0.005, 0.03, 1 / 60, 0.0200001):
        yield dataclasses.replace(ROBOT, dt=dt)


def test_no_change_of_the_metadata_is_overlooked():
    asked = list(variations())
    assert len(asked) >= 50
    taken = []
    for one in asked:
        try:
            fit(Interface.from_json(one.to_json()), ROBOT)
            taken.append([*one.compare(ROBOT)])
        except InterfaceError:
            continue
    assert taken == []


def deploy(*arguments):
    command = [sys.executable, "-m", "robot.deploy", "duration=1", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.fixture
def files(tmp_path):
    """Files that are no policies, by name."""
    whole = (PRETRAINED / "raptor" / "policy.onnx").read_bytes()
    foreign = onnx.load(PRETRAINED / "raptor" / "policy.onnx")
    del foreign.metadata_props[:]
    half = onnx.load(PRETRAINED / "raptor" / "policy.onnx")
    for entry in half.metadata_props:
        if entry.key == "interface":
            entry.value = json.dumps({"observation": []})
    found = {"corrupt": b"\0" * 100, "truncated": whole[: len(whole) // 2], "empty": b"", "text": b"not a policy\n"}
    found |= {"foreign": foreign.SerializeToString(), "half": half.SerializeToString()}
    for name, data in found.items():
        (tmp_path / f"{name}.onnx").write_bytes(data)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("corrupt", "no readable ONNX"), ("truncated", "no readable ONNX"), ("empty", "no readable ONNX"),
        ("text", "no readable ONNX"),
        ("foreign", "python -m robot.export"), ("half", "python -m robot.export"), ("nosuch", "python -m robot.export"),
    ],
)  # fmt: skip
def test_what_is_no_policy_is_refused_in_a_line(files, name, words):
    with pytest.raises(CheckpointError, match=words) as error:
        Session(files / f"{name}.onnx", 0)
    assert "\n" not in str(error.value)


def test_the_command_says_so_too(files, tmp_path):
    taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    taken.bind(("127.0.0.1", 0))
    connection = f"driver.connection=udpin:127.0.0.1:{taken.getsockname()[1]}"
    rows = (
        (["policy=raptor", "driver=mavlink", connection], "a port may be in use"),
        (
            ["policy=hand_gait", "driver=dynamixel", "limits=px4_quadrotor"],
            "limits do not fit the driver: channels ['front_right'",
        ),
        (["policy=raptor", "driver=dynamixel"], "not for this robot"),
        (["policy=hand_gait", "driver=dynamixel", "limits=nobody"], "robots that have limits: "),
        ([f"policy={files / 'foreign.onnx'}"], "says nothing of the robot"),
        ([f"policy={files / 'truncated.onnx'}"], "no readable ONNX"),
        (["policy=raptor", "driver=nosuch"], "accepted: "),
        (["policy=hand_gait", "driver=dynamixel", "driver.device=/dev/ttyNOBODY"], "there is no such device"),
    )
    for number, (arguments, words) in enumerate(rows):
        done = deploy(*arguments, f"output={tmp_path / str(number)}")
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
    taken.close()


def test_a_missing_right_is_named_with_what_gives_it(monkeypatch):
    def denied(*arguments, **keys):
        raise PermissionError(13, "Permission denied")

    pytest.importorskip("pymavlink.mavutil")
    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(DriverError, match=r"'/dev/input/event3' cannot be opened: Permission denied; be in its group"):
        Estop(EstopConfig("/dev/input/event3", None))
    monkeypatch.setattr("pymavlink.mavutil.mavlink_connection", denied)
    with pytest.raises(DriverError, match=r"no permission for '/dev/ttyACM0'.*usermod -aG dialout"):
        connect("/dev/ttyACM0", 115200)


def test_observations_of_a_wrong_shape_never_reach_the_graph():
    session = Session(PRETRAINED / "hand_gait", 0)
    with pytest.raises(Exception, match=r"(?i)invalid|shape|dimension"):
        session.plan({"joints": np.zeros(3, np.float32)})
