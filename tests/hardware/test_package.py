"""The wheel in an empty environment, without torch, flies: minutes, and a package index is needed."""

import json
import subprocess
import sys

import pytest

from robot.core.paths import ROOT

pytest.importorskip("pymavlink")


@pytest.mark.slow
def test_a_wheel_without_torch_flies_a_simulated_vehicle():
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.bench_package"], cwd=ROOT, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["without_torch"]
    assert found["rc"] == 0, found["error"]
    assert found["setpoints"] > 100
    assert found["wrong"] == 0
    assert found["mb"]["installed"] < 150
    assert found["memory_mb"] < 200
