"""The committed policies run where only numpy and onnxruntime are installed, and carry their Interface."""

import subprocess
import sys

import pytest

from policies.onnx import OnnxConfig, OnnxPolicy
from robot.core.paths import PRETRAINED
from sim.navigation.config import ROBOT

SCRIPT = """
import json, sys
for name in ("torch", "gymnasium", "numba", "scipy", "diffusers"):
    sys.modules[name] = None
import numpy as np, onnxruntime as ort
from robot.core.interface import Interface
session = ort.InferenceSession(sys.argv[1])
meta = session.get_modelmeta().custom_metadata_map
interface = Interface.from_json(meta["interface"])
feed = {f.name: np.full((1, *f.shape), 0.5, np.float32) for f in interface.observation}
feed |= {name: np.zeros((1, *shape), np.float32) for name, shape in json.loads(meta["memory"]).items()}
feed["noise"] = np.random.default_rng(0).standard_normal((1, *json.loads(meta["noise"]))).astype(np.float32)
given = {entry.name for entry in session.get_inputs()}
names = [entry.name for entry in session.get_outputs()]
out = dict(zip(names, session.run(None, {k: v for k, v in feed.items() if k in given})))
action = out["action"]
assert action.shape == (1, action.shape[1], *interface.action.shape) and np.isfinite(action).all()
if "candidates" in out:
    assert np.array_equal(action[0, 0], out["candidates"][0, out["values"].argmax(1)[0]])
"""


@pytest.mark.parametrize("folder", sorted(PRETRAINED.glob("*/policy.onnx")), ids=lambda file: file.parent.name)
def test_runs_without_torch(folder):
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(folder)], capture_output=True, text=True, cwd=PRETRAINED.parents[1])
    assert done.returncode == 0, done.stderr
    assert (folder.parent / "README.md").exists(), "a pretrained policy needs its card"


@pytest.mark.parametrize("folder", sorted(PRETRAINED.glob("*/policy.onnx")), ids=lambda file: file.parent.name)
def test_tells_nothing_of_the_machine_it_was_made_on(folder):
    content = folder.read_bytes()
    assert not [word for word in (b"site-packages", b'File "', b"/home/", b".py") if word in content]


def test_the_student_of_raptor_is_there_with_its_header():
    policy = OnnxPolicy(OnnxConfig(str(PRETRAINED / "raptor"), 1))
    assert policy.memory_shapes == {"hidden": [16]}
    assert policy.interface.dt == 0.01
    assert "raptor_step" in (PRETRAINED / "raptor" / "raptor.h").read_text()


def test_the_small_navdp_is_there_and_knows_robots():
    policy = OnnxPolicy(OnnxConfig(str(PRETRAINED / "navdp"), 1))
    assert policy.interface.field("robot").names == ROBOT
    assert policy.interface.action.shape == (24, 3)
