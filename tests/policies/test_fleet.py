"""Stacked specialists are so many RAPTOR policies side by side."""

import pytest
import torch

import sim.gym
from policies.fleet import Fleet, FleetConfig
from policies.raptor import Raptor, RaptorConfig
from robot.core.config import build
from robot.core.errors import ConfigError
from sim.envs.quadrotor import Quadrotor


@pytest.fixture
def env() -> Quadrotor:
    return build(sim.gym.config("quadrotor", num_envs=6, threads=1), "env")


def fleet(env: Quadrotor, size: int) -> Fleet:
    torch.manual_seed(0)
    made = Fleet(FleetConfig(size, 8, 24), env.interface)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.4)
    return made


def single(team: Fleet, k: int) -> Raptor:
    """Specialist k as a policy of its own."""
    one = Raptor(RaptorConfig(8, 24, True), team.interface)
    with torch.no_grad():
        for mine, theirs in zip(one.weights(), team.weights(), strict=True):
            mine.copy_(theirs[k : k + 1])
        one.first.copy_(team.first[k])
    return one


def test_each_specialist_flies_its_own_worlds_as_it_would_alone(env: Quadrotor) -> None:
    team, seen = fleet(env, 3), torch.randn(5, 6, 22)
    commands, after = team.follow(seen, torch.zeros(6, 3), {"hidden": torch.zeros(6, 24)})
    for k in range(3):
        one, memory = single(team, k), torch.zeros(2, 24)
        for t in range(5):
            command, memory = one.command(seen[t, 2 * k : 2 * k + 2], memory)
            torch.testing.assert_close(commands[t, 2 * k : 2 * k + 2], command, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(after["hidden"][2 * k : 2 * k + 2], memory, rtol=1e-5, atol=1e-5)


def test_plans_in_a_row_are_one_long_flight(env: Quadrotor) -> None:
    team, memory, seen, given = fleet(env, 2), {"hidden": torch.zeros(6, 24)}, [], []
    observation, _ = env.reset(seed=1)
    for _ in range(4):
        plan = team.plan(observation, memory)
        seen.append(torch.cat([observation[name].flatten(1) for name in env.interface.names], 1))
        given.append(plan.actions[:, 0])
        memory = plan.memory
        observation, *_ = env.step(plan.actions[:, 0].detach())
    commands, after = team.follow(torch.stack(seen), torch.zeros(6, 3), {"hidden": torch.zeros(6, 24)})
    torch.testing.assert_close(commands.clamp(-1, 1), torch.stack(given))
    torch.testing.assert_close(after["hidden"], memory["hidden"])


def test_some_of_a_fleet_in_another_order(env: Quadrotor) -> None:
    team, seen = fleet(env, 3), torch.randn(2, 6, 22)
    some = team.choose(torch.tensor([2, 0]))
    commands, _ = some.follow(seen, torch.zeros(6, 3), {"hidden": torch.zeros(6, 24)})
    expected, _ = single(team, 2).command(seen[0, :3], torch.zeros(3, 24))
    torch.testing.assert_close(commands[0, :3], expected)


def test_worlds_must_be_shared_equally(env: Quadrotor) -> None:
    with pytest.raises(ConfigError, match=r"6 worlds cannot be shared equally by 4 specialists"):
        fleet(env, 4).follow(torch.zeros(1, 6, 22), torch.zeros(6, 3), {"hidden": torch.zeros(6, 24)})
    with pytest.raises(ConfigError, match=r"policy.size=0"):
        fleet(env, 0)
