"""Actor-critics side by side: each is the perceptron that its weights say, flies its own worlds, and is told the push."""

import copy

import pytest
import torch
from torch import Tensor, nn

import sim.gym
from policies.ensemble import Ensemble, EnsembleConfig, perceptron
from robot.core.config import build
from robot.core.errors import ConfigError
from robot.core.interface import Interface
from sim.envs.quadrotor import Quadrotor, interface


def ensemble(size: int, env: Quadrotor | None = None) -> Ensemble:
    torch.manual_seed(0)
    made = Ensemble(EnsembleConfig(size, 16, 0.3), interface(0.01), env)
    with torch.no_grad():
        for part in made.parts():
            part.add_(torch.randn(part.shape) / 4)
    return made


def observations(steps: int, worlds: int) -> Tensor:
    """Random ones (T, B, 22) with true rotations."""
    rows = torch.randn(steps, worlds, 22, generator=torch.Generator().manual_seed(1))
    rows[..., 3:12] = torch.linalg.qr(rows[..., 3:12].unflatten(-1, (3, 3)))[0].flatten(-2)
    return rows


def alone(layers: list[Tensor], k: int) -> nn.Sequential:
    """Specialist k as a network of torch's own layers."""
    made: list[nn.Module] = []
    for matrix, bias in zip(layers[::2], layers[1::2], strict=True):
        linear = nn.Linear(matrix.shape[2], matrix.shape[1])
        linear.load_state_dict({"weight": matrix[k], "bias": bias[k]})
        made += [linear, nn.Tanh()]
    return nn.Sequential(*made[:-1])


def test_stacked_perceptrons_are_those_of_torch_one_by_one() -> None:
    policy, seen, outer = ensemble(3), observations(5, 12), torch.randn(12, 3)
    commands, memory = policy.follow(seen, outer, {})
    told = policy.told(seen, outer.expand(5, -1, -1))
    for world in range(12):
        expected = alone(list(policy.actor), world // 4)(told[:, world])
        torch.testing.assert_close(commands[:, world], expected)
    values = policy.ungroup(perceptron(policy.group(told), list(policy.critic)), 5)
    torch.testing.assert_close(values[:, 11], alone(list(policy.critic), 2)(told[:, 11]))
    assert memory == {}
    assert torch.equal(policy.ungroup(policy.group(seen), 5), seen)


def test_all_start_alike_and_are_then_their_own() -> None:
    policy = Ensemble(EnsembleConfig(2, 16, 0.3), interface(0.01))
    assert all(torch.equal(part[0], part[1]) for part in policy.parts())
    seen = observations(1, 4)
    before, _ = policy.follow(seen, torch.zeros(4, 3), {})
    assert float(before.detach().abs().max()) < 0.2, "first commands are near the middle of the range"
    with torch.no_grad():
        policy.actor[4][1] += 1
    after, _ = policy.follow(seen, torch.zeros(4, 3), {})
    assert torch.equal(after[:, :2], before[:, :2])
    assert float((after - before).detach()[:, 2:].abs().min()) > 0


def test_some_of_them_are_as_before() -> None:
    policy, seen, outer = ensemble(3), observations(2, 6), torch.randn(6, 3)
    whole, _ = policy.follow(seen, outer, {})
    some, _ = policy.choose(torch.tensor([2, 0])).follow(seen[:, [4, 5, 0, 1]], outer[[4, 5, 0, 1]], {})
    torch.testing.assert_close(some, whole[:, [4, 5, 0, 1]])


def test_what_is_told_does_not_change_with_the_heading_but_for_the_rotation_itself() -> None:
    policy, seen, outer = ensemble(1), observations(1, 6)[0], torch.randn(6, 3)
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    turned = seen.clone()
    turned[:, 0:3], turned[:, 12:15] = seen[:, 0:3] @ turn.T, seen[:, 12:15] @ turn.T
    turned[:, 3:12] = (turn @ seen[:, 3:12].unflatten(1, (3, 3))).flatten(1)
    a, b = policy.told(seen, outer), policy.told(turned, outer @ turn.T)
    torch.testing.assert_close(a[:, :9], b[:, :9])
    torch.testing.assert_close(a[:, 18:], b[:, 18:])
    assert not torch.allclose(a[:, 9:18], b[:, 9:18])


def test_the_push_is_read_from_the_env_it_is_played_in() -> None:
    env = build(sim.gym.config("quadrotor", num_envs=4, threads=1), "env")
    told, blind = ensemble(2, env), ensemble(2)
    observation, _ = env.reset(seed=0)
    inputs, _ = told.prepare(observation, {})
    torch.testing.assert_close(inputs["outer"], env.params["force"] / env.params["mass"][:, None])
    assert float(inputs["outer"].abs().min(1).values.max()) > 0
    assert not torch.equal(told.plan(observation, {}).actions, blind.plan(observation, {}).actions)
    assert torch.equal(copy.deepcopy(told).plan(observation, {}).actions, told.plan(observation, {}).actions)
    env.params["force"].zero_()
    assert torch.equal(told.plan(observation, {}).actions, blind.plan(observation, {}).actions)


def test_what_cannot_be_is_refused_in_words() -> None:
    with pytest.raises(ConfigError, match=r"5 worlds cannot be shared equally by 2 specialists"):
        ensemble(2).follow(observations(1, 5), torch.zeros(5, 3), {})
    with pytest.raises(ConfigError, match=r"size=0 and hidden=16 must be at least 1"):
        Ensemble(EnsembleConfig(0, 16, 0.3), interface(0.01))
    plain = interface(0.01)
    with pytest.raises(ConfigError, match=r"flies what env=quadrotor shows, not position"):
        Ensemble(EnsembleConfig(1, 16, 0.3), Interface(plain.observation[:1], plain.action, 0.01))
