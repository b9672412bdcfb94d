"""A servo loop that is killed or frozen while its robot drives: the device's word on when it noticed, and that it stands."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest

from hardware.deployment import load
from robot.core.interface import Interface
from robot.core.paths import ROOT

onnx = pytest.importorskip("onnx")
PATIENCE = 60.0
"""A busy machine may take so long [s]."""
TIMEOUT = 0.5
"""Of the devices, which a busy machine shall not exhaust while all is well [s]."""


def policy(folder, driver, observation, action):
    """An exported policy that wants the same whatever it sees, without our exporter: what a file has to say is all it says."""
    from omegaconf import OmegaConf

    from robot.core.config import build

    node = OmegaConf.load(ROOT / "configs" / "driver" / f"{driver}.yaml")
    offered = build(node, "driver").interface
    seen = offered.field(observation)
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    constants = [
        helper.make_tensor("nothing", kind, [*seen.shape, len(action)], np.zeros((*seen.shape, len(action))).ravel()),
        helper.make_tensor("wanted", kind, [1, 1, len(action)], action),
    ]
    nodes = [
        helper.make_node("MatMul", [observation, "nothing"], ["zero"]),
        helper.make_node("Add", ["zero", "wanted"], ["action"]),
    ]
    inputs = [helper.make_tensor_value_info(observation, kind, ["batch", *seen.shape])]
    outputs = [helper.make_tensor_value_info("action", kind, ["batch", 1, len(action)])]
    graph = helper.make_graph(nodes, "ahead", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    interface = Interface((seen,), offered.action, offered.dt)
    told = {"interface": interface.to_json(), "memory": "{}", "noise": "[0]"}
    for key, value in told.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    folder.mkdir()
    onnx.save(model, folder / "policy.onnx")
    return folder


def patient(folder, robot):
    """The robot's limits, but for the patience with a machine that other tests share."""
    told = (ROOT / "hardware" / "robots" / robot / "limits.yaml").read_text()
    path = folder / "patient.yaml"
    path.write_text(re.sub(r"^(command_age|observation_age|frozen): [\d.]+", r"\1: 5.0", told, flags=re.MULTILINE))
    load(path)
    return path


@contextmanager
def started(*command):
    process = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def signalled(number, folder, module, key, *arguments):
    """What the device says after the servo loop got a signal; `key` is the driver's for where the device is."""
    with started(f"hardware.fakes.{module}", f"timeout={TIMEOUT}") as device:
        ready, where = device.stdout.readline().split()
        assert ready == "ready"
        told = [f"driver={module}", f"driver.{key}={where}", *arguments, f"output={folder / 'run'}", "watchdog=5.0"]
        with started("robot.deploy", *told) as loop:
            events, end = folder / "run" / "events.jsonl", time.monotonic() + PATIENCE
            while not (events.exists() and "running" in events.read_text()):
                assert loop.poll() is None
                assert time.monotonic() < end
                time.sleep(0.02)
            time.sleep(1.0)
            assert '"hold"' not in events.read_text()
            os.kill(loop.pid, number)
            moment = time.monotonic()
            time.sleep(2.5)
        device.send_signal(signal.SIGTERM)
        seen = json.loads(device.communicate(timeout=PATIENCE)[0].splitlines()[-1])
    assert seen["not_finite"] == seen["out_of_range"] == seen["refused"] == 0
    assert seen["commands"] > 10
    assert number == signal.SIGTERM or seen["last_command"] <= moment + 0.1  # no ghost goes on commanding
    return seen, {what: when - seen["last_command"] for when, what in seen["events"]}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
def test_a_base_notices_by_itself_and_stands(tmp_path, number):
    ahead = policy(tmp_path / "policy", "base_serial", "velocity", [0.6, 0.2])
    told = [f"policy={ahead}", f"limits={patient(tmp_path, 'differential_base')}"]
    seen, events = signalled(number, tmp_path, "base_serial", "device", *told)
    assert seen["velocity"] == [0.0, 0.0]
    assert seen["pose"][0] > 0.1
    assert seen["damaged"] == 0
    if number == signal.SIGTERM:  # in order: told to stand, and switched off
        assert "commands stopped" not in events
        assert events["enabled False"] <= events["stands"]
        return
    assert TIMEOUT <= events["commands stopped"] < events["stands"]
    assert events["commands stopped"] < TIMEOUT + 1.5


def test_a_car_notices_by_itself_and_stands(tmp_path):
    pytest.importorskip("can")
    pytest.importorskip("cantools")
    ahead = policy(tmp_path / "policy", "can_vehicle", "speed", [0.1, 1.0])

    told = [f"policy={ahead}", f"limits={patient(tmp_path, 'car')}"]
    seen, events = signalled(signal.SIGKILL, tmp_path, "can_vehicle", "connection", *told)
    assert (seen["speed"], seen["mode"]) == (0.0, "manual")
    assert seen["pose"][0] > 0.1
    assert seen["pose"][2] > 0.0  # to the left
    assert seen["bad_checksum"] == seen["bad_counter"] == 0
    assert events["driving: asked to"] < 0
    assert TIMEOUT <= events["stopping: commands stopped"] < events["manual: stands"]
    assert events["stopping: commands stopped"] < TIMEOUT + 1.5
