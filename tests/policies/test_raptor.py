"""The student of RAPTOR: its size, its memory, its graph."""

from pathlib import Path

import pytest
import torch

from policies import onnx
from policies.onnx import OnnxConfig, OnnxPolicy
from policies.raptor import Raptor, RaptorConfig
from robot.core.errors import ConfigError
from sim.envs.quadrotor import interface


@pytest.fixture
def policy() -> Raptor:
    torch.manual_seed(0)
    made = Raptor(RaptorConfig(16, 16, True), interface(0.01))
    with torch.no_grad():
        made.head.weight.normal_(0, 0.5)
        made.first.normal_()
    return made


def test_it_has_the_papers_parameters(policy: Raptor) -> None:
    embed, gru, first, head = 22 * 16 + 16, 2 * 3 * 16 * 16 + 2 * 3 * 16, 16, 16 * 4 + 4
    assert (embed, gru, first, head) == (368, 1632, 16, 68)
    assert sum(p.numel() for p in policy.parameters()) == embed + gru + first + head == 2084


def test_memory_makes_a_difference_and_forgetting_it_none(policy: Raptor) -> None:
    observation = onnx.example(policy.interface, 3, torch.Generator().manual_seed(0))
    first = policy.plan(observation, policy.initial_memory(3))
    second = policy.plan(observation, first.memory)
    assert not torch.equal(first.actions, second.actions)
    control = Raptor(RaptorConfig(16, 16, False), policy.interface)
    control.load_state_dict(policy.state_dict())
    again = control.plan(observation, control.plan(observation, control.initial_memory(3)).memory)
    torch.testing.assert_close(again.actions, first.actions)


def test_the_graph_flies_as_torch_does_from_zero_memory(policy: Raptor, tmp_path: Path) -> None:
    file = onnx.export(policy, tmp_path)
    assert onnx.parity(policy, file) < 1e-5
    runtime = OnnxPolicy(OnnxConfig(str(file), 1))
    assert runtime.interface.compare(policy.interface) == []
    assert runtime.initial_memory(2)["hidden"].shape == (2, 16)
    assert file.stat().st_size < 40_000


def test_widths_that_do_not_fill_vectors_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"policy.hidden=20 must be multiples of 8"):
        Raptor(RaptorConfig(16, 20, True), interface(0.01))
