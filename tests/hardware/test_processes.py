"""What must work between processes: a policy that is killed or frozen, a servo loop that is killed or frozen, a recording."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hardware.block import Block
from hardware.drivers.base import Reading
from hardware.guard import Mode
from hardware.recorder import EVENTS, ROWS, Recorder, load
from hardware.session import Session
from hardware.thinker import Thinker
from hardware.watchdog import Watchdog
from robot.core.errors import CheckpointError, DatasetError
from robot.core.interface import Field, Interface
from robot.core.paths import PRETRAINED, ROOT

RAPTOR = PRETRAINED / "raptor"


def observation():
    return {
        "position": np.zeros(3),
        "rotation": np.eye(3),
        "velocity": np.zeros(3),
        "rate": np.zeros(3),
        "last_action": np.zeros(4),
    }


def wait(what, seconds=10.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.001)
    raise AssertionError("waited in vain")


@pytest.fixture(scope="module")
def thinker():
    made = Thinker(RAPTOR, 0)
    yield made
    made.close()


def test_another_process_thinks_the_same(thinker):
    session = Session(RAPTOR, 0)
    for episode in (1, 2):
        session.reset()
        for k in range(3):
            seen = {name: (value + 0.01 * k).astype(np.float32) for name, value in observation().items()}
            thinker.ask(seen, 10.0 * episode + k, episode)
            thought = wait(thinker.answer)
            assert thought.stamp == 10.0 * episode + k
            np.testing.assert_array_equal(thought.actions, session.plan(seen))


def test_a_policy_that_is_killed_or_frozen_is_noticed():
    made = Thinker(RAPTOR, 0)
    made.ask(observation(), 1.0, 1)
    wait(made.answer)
    os.kill(made.process.pid, signal.SIGSTOP)
    made.ask(observation(), 2.0, 1)
    time.sleep(0.05)
    assert made.alive
    assert made.answer() is None
    os.kill(made.process.pid, signal.SIGKILL)
    wait(lambda: not made.alive)
    made.ask(observation(), 3.0, 1)  # nobody is there to take it, and that is no error
    made.close()


def test_a_policy_ends_with_the_one_who_asks():
    script = (
        "import sys, time\nfrom hardware.thinker import Thinker\n"
        f"t = Thinker({str(RAPTOR)!r}, 0)\nprint(t.process.pid, flush=True)\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    wait(lambda: not Path(f"/proc/{child}/exe").exists())


@pytest.mark.parametrize("content", [None, b"", b"this is no ONNX file"])
def test_a_file_that_is_no_policy_is_an_error_in_a_line(tmp_path, content):
    file = tmp_path / "policy.onnx"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"policy\.onnx") as error:
        Thinker(file, 0)
    assert "\n" not in str(error.value)


def test_a_record_that_is_being_written_is_no_record():
    block = Block({"a": ((3,), "float32")})
    other = Block({"a": ((3,), "float32")}, os.dup(block.fd))
    assert other.read() is None
    block.write({"a": np.arange(3)}, 1.5)
    arrays, stamp, number = other.read()
    assert (arrays["a"].tolist(), stamp, number) == ([0.0, 1.0, 2.0], 1.5, 1)
    assert other.read(number) is None
    block.write({"a": np.ones(3)}, 2.5)
    block.memory[30] ^= 1  # torn
    assert other.read(number) is None
    block.close()
    other.close()


def watched(tmp_path, script):
    """A process with a watchdog of 50 ms whose will is to write the time to a file."""
    file = tmp_path / "will"
    program = (
        "import os, signal, time\nfrom hardware.watchdog import Watchdog\n"
        f"dog = Watchdog(lambda: open({str(file)!r}, 'w').write(str(time.monotonic())), 0.05)\n"
        f"for k in range(20):\n    dog.beat()\n    time.sleep(0.005)\n{script}\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    return process, file


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_watchdog_acts_when_the_servo_loop_is_gone(tmp_path, number):
    process, file = watched(tmp_path, "print('up', flush=True)\nwhile True:\n    dog.beat()\n    time.sleep(0.005)")
    process.stdout.readline()
    time.sleep(0.1)
    assert not file.exists()
    os.kill(process.pid, number)
    start = time.monotonic()
    wait(lambda: file.exists() and file.read_text())
    assert float(file.read_text()) - start < 1.0  # 50 ms; the machine of the test may be busy
    process.kill()
    process.wait()


def test_the_watchdog_leaves_a_run_alone_that_ends_in_order(tmp_path):
    process, file = watched(tmp_path, "dog.close()")
    assert process.wait() == 0
    time.sleep(0.1)
    assert not file.exists()


def test_the_watchdog_waits_while_the_robot_is_armed_but_notices_a_death(tmp_path):
    file = tmp_path / "will"
    dog = Watchdog(lambda: file.write_text("done"), 0.05)
    for _ in range(2):
        dog.beat()
        dog.pause()
        time.sleep(0.3)
        assert dog.alive
    dog.beat()
    end = time.monotonic() + 10
    while not file.exists() and time.monotonic() < end:  # silence counts again
        time.sleep(0.01)
    assert file.exists()
    other = Watchdog(lambda: (tmp_path / "other").write_text("done"), 0.05)
    other.pause()
    os.close(other._pipe)  # as the system does for a process that has been killed
    end = time.monotonic() + 10
    while not (tmp_path / "other").exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert (tmp_path / "other").exists()


def test_the_watchdog_knows_that_it_has_acted():
    dog = Watchdog(lambda: None, 0.02)
    assert dog.alive
    dog.beat()
    wait(lambda: not dog.alive)
    dog.beat()
    dog.close()


INTERFACE = Interface((Field("joints", (2,)), Field("image", (2, 3), "uint8")), Field("targets", (2,), names=("a", "b")), 0.01)


def test_recordings_come_back(tmp_path):
    recorder = Recorder(tmp_path / "run", INTERFACE, {"robot": "toy"})
    seen = {"joints": np.float32([1, 2]), "image": np.arange(6, dtype=np.uint8).reshape(2, 3)}
    for k in range(3):
        wanted = [np.array([0.1, 0.2]), None, np.zeros(5)][k]
        recorder.period(1.0 + k, Reading(seen, 0.9 + k, np.zeros(2)), 1, Mode.running, wanted, None if k == 1 else np.ones(2))
    recorder.event(2.0, Mode.hold, ("why",))
    recorder.close()
    with open(tmp_path / "run" / ROWS, "ab") as file:
        file.write(b"cut off")
    found = load(tmp_path / "run")
    assert found.interface == INTERFACE
    assert found.header["robot"] == "toy"
    assert found.events == [{"time": 2.0, "mode": "hold", "reasons": ["why"]}]
    assert found.rows["time"].tolist() == [1.0, 2.0, 3.0]
    np.testing.assert_array_equal(found.rows["wanted"], [[0.1, 0.2], [np.nan] * 2, [np.nan] * 2])
    np.testing.assert_array_equal(found.rows["sent"], [[1, 1], [np.nan] * 2, [1, 1]])
    np.testing.assert_array_equal(found.rows["observation.image"][2], seen["image"])
    with pytest.raises(DatasetError, match="already"):
        Recorder(tmp_path / "run", INTERFACE, {})
    with pytest.raises(DatasetError, match="no recording"):
        load(tmp_path)


def deploy(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "robot.deploy", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_a_policy_flies_a_simulated_quadrotor_in_real_time(tmp_path):
    done = deploy("policy=raptor", "duration=2", f"output={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    found = load(tmp_path / "run")
    modes = [json.loads(line)["mode"] for line in (tmp_path / "run" / EVENTS).read_text().splitlines()]
    assert modes[:2] == ["armed", "running"]
    assert len(found.rows) > 100
    assert np.isfinite(found.rows["sent"][5:]).all() or "hold" in modes  # a busy machine may miss periods, and then it says so


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["policy=straight"], "robot.export"),
        (["policy=diffusion_policy"], "not for this robot"),
        (["policy=raptor", "driver=sim_quadcopter"], "accepted: "),
        (["policy=raptor", "driver.robot=nobody"], "robots that have limits"),
        (["policy=raptor", "driver=sim_pusht"], "not for this robot"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(arguments, words, tmp_path):
    done = deploy(*arguments, "duration=1", f"output={tmp_path / 'run'}")
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_robots_half_imports_no_torch():
    script = (
        "import sys, pkgutil, importlib, hardware\n"
        "for m in pkgutil.walk_packages(hardware.__path__, 'hardware.'): importlib.import_module(m.name)\n"
        "heavy = ('torch', 'gymnasium', 'numba', 'scipy', 'sim', 'policies')\n"
        "sys.exit(', '.join(n for n in heavy if n in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
