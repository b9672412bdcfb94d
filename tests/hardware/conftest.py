"""A robot of two joints and a policy, both in this process and in manual time."""

from types import SimpleNamespace

import numpy as np
import pytest

from hardware.controller import Chunks, ChunksConfig
from hardware.drivers.base import Driver, Reading
from hardware.guard import Guard
from hardware.limits import Channel, Family, Fence, Limits, Range, Safe, Tilt
from hardware.runtime import Runtime
from hardware.thinker import Thought
from robot.core.clock import ManualClock
from robot.core.errors import DriverError
from robot.core.interface import Field, Interface

DT = 0.01
OBSERVATION = (
    Field("joints", (2,), "float32", "rad"),
    Field("position", (3,), "float32", "m"),
    Field("attitude", (4,), "float32", "1"),
)
COMMAND = Field("targets", (2,), "float32", "rad", names=("shoulder", "elbow"))
HERE = {"position": np.zeros(3, np.float32), "attitude": np.array([1, 0, 0, 0], np.float32)}


def limits(**changes):
    channels = [Channel(name, "rad", -1.0, 1.0, 2.0, 40.0, float("inf")) for name in COMMAND.names]
    known = {
        "family": Family.joints, "safe": Safe.hold, "dt": DT, "command_age": 0.05, "observation_age": 0.02, "frozen": 0.1,
        "trembling": ["joints"], "channels": channels, "measured": [Range("joints", -1.2, 1.2)],
        "fence": Fence("position", [-1.0] * 3, [1.0] * 3), "tilt": Tilt("attitude", 0.5), "collision": None,
    }  # fmt: skip
    if changes.get("frozen") == float("inf"):
        known["trembling"] = []
    return Limits(**{**known, **changes})


class Joints(Driver):
    """Goes where it is sent, and trembles as real encoders do."""

    def __init__(self, clock):
        self.observation, self.command, self.dt, self.clock = OBSERVATION, COMMAND, DT, clock
        self.joints, self.sent, self.stops, self.silent, self.broken, self.change = np.zeros(2), [], 0, False, None, {}
        self.lag = 0.0

    def open(self):
        pass

    def close(self):
        pass

    def read(self):
        if self.silent:
            return None
        trembling = self.joints + 1e-5 * len(self.sent) + 1e-5 * np.sin(1e3 * self.clock.now())
        observation = {"joints": trembling.astype(np.float32), **HERE, **self.change}
        return Reading(observation, self.clock.now() - self.lag, self.joints.copy())

    def write(self, command):
        if self.broken is not None:
            raise self.broken
        self.joints = np.array(command)
        self.sent.append(self.joints)
        return self.joints

    def stop(self):
        self.stops += 1


class Mind:
    """A policy that always wants the same, `delay` late."""

    def __init__(self, clock, steps=1):
        self.clock, self.alive, self.delay, self.asked = clock, True, 0.0, []
        self.wants = np.tile([0.5, -0.5], (steps, 1))
        self.spec = SimpleNamespace(interface=Interface(OBSERVATION, COMMAND, DT), steps=steps)

    def ask(self, observation, stamp, episode):
        self.asked.append((stamp, episode))
        self.due = self.clock.now() + self.delay

    def answer(self):
        if not self.asked or not self.alive or self.clock.now() < self.due or getattr(self, "said", None) == self.asked[-1]:
            return None
        self.said = self.asked[-1]
        return Thought(self.wants, self.said[0])


@pytest.fixture
def robot():
    """Everything, armed on demand: robot.runtime, .driver, .mind, .guard, .clock."""

    def make(config=None, steps=1, **changes):
        clock = ManualClock(10.0)
        driver, mind, guard = Joints(clock), Mind(clock, steps), Guard(limits(**changes), Interface(OBSERVATION, COMMAND, DT))
        controller = Chunks(config or ChunksConfig(0, False, 0.0, 0.0, 0.0), DT, steps, DT)
        runtime = Runtime(driver, guard, mind, controller, clock)
        return SimpleNamespace(runtime=runtime, driver=driver, mind=mind, guard=guard, clock=clock, controller=controller)

    return make


def failure(text):
    return DriverError(text)
