"""The C header of RAPTOR's student: compiled, it flies as torch does."""

import shutil
from pathlib import Path

import pytest
import torch

import sim.gym
from policies import c99
from policies.raptor import Raptor, RaptorConfig
from robot.core.config import build
from robot.core.errors import NotSupportedError
from sim.envs.quadrotor import interface


@pytest.fixture
def policy() -> Raptor:
    torch.manual_seed(0)
    made = Raptor(RaptorConfig(16, 16, True), interface(0.01))
    with torch.no_grad():
        made.head.weight.normal_(0, 0.3)
        made.first.normal_()
    return made


def flight(policy: Raptor, steps: int) -> torch.Tensor:
    """What a vehicle that the policy flies observes, (T, 22)."""
    env = build(sim.gym.config("quadrotor", num_envs=1, threads=1, time_limit=60.0, limits={"terminate": False}), "env")
    observation, _ = env.reset(seed=0)
    memory, seen = policy.initial_memory(1), []
    for _ in range(steps):
        seen.append(policy.prepare(observation, memory)[0]["state"][0])
        action, memory = policy.act(observation, memory)
        observation, *_ = env.step(action[:, 0])
    return torch.stack(seen)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_compiled_it_flies_as_torch_does_for_1000_steps(policy: Raptor, tmp_path: Path) -> None:
    header = c99.export(policy, tmp_path, {"revision": "test"})
    check = c99.check(policy, header, flight(policy, 1000))
    assert check is not None
    assert check.gap < 1e-5
    assert check.size < 16 * 1024


def test_the_comment_says_what_flows(policy: Raptor) -> None:
    text = c99.source(policy, {"trained": "today"})
    for line in (
        "trained: today",
        "every 0.01 s",
        "0..2       position (x, y, z) [m], frame world",
        "18..21     last_action",
        "in [-1, 1]",
    ):
        assert " ".join(line.split()) in " ".join(text.split())
    assert "include" not in text
    assert "malloc" not in text


def test_a_policy_without_memory_is_refused(policy: Raptor, tmp_path: Path) -> None:
    control = Raptor(RaptorConfig(16, 16, False), policy.interface)
    with pytest.raises(NotSupportedError, match=r"a recurrent RAPTOR student"):
        c99.export(control, tmp_path)
