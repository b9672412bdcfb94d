"""What every policy promises, for every yaml of configs/policy."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from policies.policy import Memory, Policy
from robot.core.config import build
from robot.core.errors import NotSupportedError
from robot.learn import checkpoint

Observation = dict[str, Tensor]


def noise_for(policy: Any, batch: int, seed: int = 0) -> Tensor:
    return torch.randn(batch, *policy.noise_shape(), generator=torch.Generator().manual_seed(seed))


def drive(policy: Any, observations: list[Observation]) -> list[tuple[Tensor, Memory]]:
    """Actions and memories along a few observations."""
    memory = policy.initial_memory(4)
    results = []
    for k, observation in enumerate(observations):
        actions, memory = policy.act(observation, memory, noise_for(policy, 4, k))
        results.append((actions, memory))
    return results


def row(tensors: dict[str, Tensor], i: int) -> dict[str, Tensor]:
    return {name: value[i : i + 1] for name, value in tensors.items()}


def test_actions_are_what_the_interface_says(subject: SimpleNamespace) -> None:
    field = subject.env.interface.action
    assert not subject.env.interface.compare(subject.policy.interface)
    memory = subject.policy.initial_memory(4)
    actions, after = subject.policy.act(subject.observation[-1], memory, noise_for(subject.policy, 4))
    assert actions.ndim == 2 + len(field.shape)
    assert tuple(actions.shape) == (4, actions.shape[1], *field.shape)
    assert actions.dtype == torch.float32
    assert torch.isfinite(actions).all()
    assert {n: (v.shape, v.dtype) for n, v in after.items()} == {n: (v.shape, v.dtype) for n, v in memory.items()}
    assert all(len(value) == 4 for value in memory.values())


def test_same_observation_noise_and_memory_give_the_same(policy: Policy, subject: SimpleNamespace) -> None:
    for (a, memory), (b, other) in zip(*(drive(policy, subject.observation) for _ in range(2)), strict=True):
        assert torch.equal(a, b)
        assert all(torch.equal(memory[name], other[name]) for name in memory)


def test_what_goes_in_is_not_changed(policy: Policy, subject: SimpleNamespace) -> None:
    memory = drive(policy, subject.observation)[-1][1]
    observation = subject.observation[0]
    before = [{name: value.clone() for name, value in given.items()} for given in (memory, observation)]
    _, after = policy.act(observation, memory, noise_for(policy, 4))
    for given, copy in zip((memory, observation), before, strict=True):
        assert all(torch.equal(given[name], copy[name]) for name in copy)
    for value in after.values():
        value.zero_()
    assert all(torch.equal(memory[name], before[0][name]) for name in memory)


def test_no_world_depends_on_the_batch(policy: Policy, subject: SimpleNamespace) -> None:
    if not policy.alone:
        pytest.skip(f"{type(policy).__name__} decides for whole batches")
    together = drive(policy, subject.observation)
    for i in range(4):
        memory = policy.initial_memory(1)
        for k, observation in enumerate(subject.observation):
            actions, memory = policy.act(row(observation, i), memory, noise_for(policy, 4, k)[i : i + 1])
            torch.testing.assert_close(actions, together[k][0][i : i + 1], rtol=1e-4, atol=1e-4)


def test_a_gradient_step_lowers_the_loss(policy: Policy, subject: SimpleNamespace, tmp_path: Path) -> None:
    if type(policy).loss is Policy.loss:
        pytest.skip(f"{type(policy).__name__} does not learn")
    if getattr(policy, "transitions", False):
        pytest.skip("an actor's loss falls while its critics hold still, which one step of both does not show")
    source = build(subject.source, "data", env=subject.env)
    source.open(tmp_path, 0)
    batch = source.batch(0, policy)
    policy.train()
    before = {name: value.clone() for name, value in policy.state_dict().items()}

    def loss() -> Tensor:
        torch.manual_seed(1)
        return policy.loss(batch)["loss"]

    start = loss()
    parameters = [p for p in policy.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(start, parameters, allow_unused=True)
    square = sum(float((g**2).sum()) for g in gradients if g is not None)
    assert 0 < square < float("inf")
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:  # a step whose linear model promises to lower the loss by 1 %
                parameter -= 0.01 * start.detach() / square * gradient
        assert loss() < start
    policy.load_state_dict(before)


def test_checkpoints_bring_the_policy_back(policy: Policy, subject: SimpleNamespace, tmp_path: Path) -> None:
    if subject.wraps or "path" in subject.node or not list(policy.parameters()):
        pytest.skip(f"{type(policy).__name__} has no weights of its own")
    OmegaConf.save(OmegaConf.create({"policy": subject.node}), tmp_path / "config.yaml")
    optimizer = torch.optim.AdamW(policy.parameters())
    checkpoint.save(tmp_path, 1, policy, dict(policy.state_dict()), optimizer)
    loaded, _ = checkpoint.load_policy(tmp_path, env=subject.env)
    for (a, _), (b, _) in zip(drive(policy, subject.observation), drive(loaded, subject.observation), strict=True):
        assert torch.equal(a, b)


def onnx_gap(policy: Policy, subject: SimpleNamespace, folder: Path) -> float:
    """Largest difference between onnxruntime and torch."""
    from policies import onnx

    if "path" in subject.node:
        pytest.skip("what was saved is exported under its own name")
    try:
        file = onnx.export(policy, folder)
    except NotSupportedError as error:
        pytest.skip(str(error))
    return onnx.parity(policy, file)


def is_large(policy: Policy) -> bool:
    """Whether its graph has parts whose size no config key changes, such as a ViT, so that export takes a minute."""
    return sum(parameter.numel() for parameter in policy.parameters()) > 2_000_000


def test_onnx_agrees_with_torch(policy: Policy, subject: SimpleNamespace, tmp_path: Path) -> None:
    if is_large(policy):
        pytest.skip("a large graph: pytest -m slow")
    assert onnx_gap(policy, subject, tmp_path) < 1e-4


@pytest.mark.slow
def test_large_onnx_agrees_with_torch(policy: Policy, subject: SimpleNamespace, tmp_path: Path) -> None:
    if not is_large(policy):
        pytest.skip("a small graph: tested in the default run")
    assert onnx_gap(policy, subject, tmp_path) < 1e-4
