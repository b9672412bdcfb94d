"""The compiled pass over policy, dynamics and cost against autograd step by step, and learning to fly in seconds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import sim.gym
from policies.raptor import Raptor, RaptorConfig
from robot.core.config import build
from robot.core.errors import ConfigError
from robot.learn.backprop import Backprop
from robot.learn.flight import Flight, Rules, Start, Tape, lanes, worlds
from robot.learn.trainer import Trainer, TrainerConfig
from sim.envs.quadrotor import Quadrotor
from sim.quadrotor import dynamics

COSTS = np.array([1, 0.01, 0.05, 2, 0.01, 5, 0.4, 0.3, 5, 0.3, 20, 0.5, 0.7, 0.3, 0.2], np.float32)
REACH = 0.3
STEPS = 20


@pytest.fixture
def env() -> Quadrotor:
    made = build(sim.gym.config("quadrotor_train", num_envs=64, threads=1), "env")
    made.reset(seed=0)
    return made


def policies(env: Quadrotor, count: int, width: int = 16, hidden: int = 16, recurrent: bool = True) -> list[Raptor]:
    made = []
    for seed in range(count):
        torch.manual_seed(seed)
        policy = Raptor(RaptorConfig(width, hidden, recurrent), env.interface)
        with torch.no_grad():
            policy.head.weight.normal_(0, 0.5)
            policy.first.normal_()
        made.append(policy)
    return made


def beginning(env: Quadrotor) -> Start:
    rng = torch.Generator().manual_seed(1)
    blocks = env.num_envs // 16
    env.last = 2 * torch.rand(env.num_envs, 4, generator=rng) - 1
    reference = 0.1 * torch.randn(blocks, 6, STEPS + 1, 16, generator=rng)
    return Start(lanes(env.state), lanes(env.last), reference, torch.full((blocks, 16), REACH))


def aims(env: Quadrotor) -> Tensor:
    return torch.rand(STEPS, env.num_envs, 4, generator=torch.Generator().manual_seed(2))


def by_hand(env: Quadrotor, start: Start, team: list[Raptor]) -> tuple[Tensor, Tensor]:
    """Mean cost of a step and the last states, one torch operation after the other."""
    c, at = torch.tensor(COSTS), lambda x, t: x[:, :, t].mT.flatten(0, 1)
    state, last, share = env.state, env.last, env.num_envs // len(team)
    memory = torch.zeros(env.num_envs, team[0].config.hidden)
    beyond = lambda x, limit: ((x.abs() - limit).clamp_min(0) ** 2).sum(1)  # noqa: E731
    knee = lambda square, k: k * k * (torch.sqrt(1 + square / k**2) - 1)  # noqa: E731
    total, aim = torch.zeros(()), aims(env)
    for t in range(STEPS):
        r = at(start.reference, t)
        p, v = state[:, :3] - r[:, :3], state[:, 7:10] - r[:, 3:]
        seen = torch.cat([p, dynamics.rotation(state[:, 3:7]).flatten(1), v, state[:, 10:13], last], 1)
        parts = [q.command(seen[k * share :][:share], memory[k * share :][:share]) for k, q in enumerate(team)]
        raw, memory = torch.cat([a for a, _ in parts]), torch.cat([m for _, m in parts])
        action = raw.clamp(-1, 1)
        state = env.advance(state, action)
        r = at(start.reference, t + 1)
        p, e, w = state[:, :3] - r[:, :3], state[:, 7:10] - r[:, 3:], state[:, 10:13]
        cost = c[0] * torch.sqrt((p * p).sum(1) + c[1] ** 2) + c[2] * knee((e * e).sum(1), c[3]) + c[6] * state[:, 6] ** 2
        cost = cost + c[4] * knee((w * w).sum(1), c[5]) + c[7] * torch.sqrt(((action - last) ** 2).sum(1) + 1e-4)
        cost = cost + c[8] * knee(beyond(e, c[9]), c[13]) + c[10] * knee(beyond(p, 0.8 * REACH), c[14])
        cost = cost + c[11] * ((raw - action) ** 2).sum(1) + c[12] * ((raw - aim[t]) ** 2).sum(1)
        total, last = total + cost.mean() / STEPS, action
    return total, state


@pytest.mark.parametrize(("count", "width", "hidden", "recurrent"), [(1, 16, 16, True), (4, 16, 16, True), (2, 8, 24, False)])
def test_cost_flight_and_gradients_are_those_of_autograd(
    env: Quadrotor, count: int, width: int, hidden: int, recurrent: bool
) -> None:
    team, start = policies(env, count, width, hidden, recurrent), beginning(env)
    expected, state = by_hand(env, start, team)
    expected.backward()
    exact = [{n: p.grad.clone() for n, p in q.named_parameters() if p.grad is not None} for q in team]
    for policy in team:
        policy.zero_grad()
    tape, rules = Tape(4, STEPS, width, hidden, recurrent), Rules(COSTS, env.config.dt, 1e9, 1e9)
    first = torch.cat([q.first.expand(env.num_envs // count, -1) for q in team])
    weights = [torch.cat(parts) for parts in zip(*(q.weights() for q in team), strict=True)]
    cost = Flight.apply(tape, env.work, start, rules, lambda tape: aims(env), lanes(first), *weights)
    cost.backward()
    assert float(cost.detach()) == pytest.approx(float(expected), rel=1e-5)
    torch.testing.assert_close(worlds(tape.rows[:, :17, -1]), state, rtol=1e-3, atol=1e-3)
    for policy, gradients in zip(team, exact, strict=True):
        for name, parameter in policy.named_parameters():
            assert parameter.grad is not None, name
            gap = float((parameter.grad - gradients[name]).abs().max() / gradients[name].abs().max())
            assert gap < 1e-4, name


def source(env: Quadrotor, **changes: object) -> Backprop:
    from hydra import compose, initialize_config_dir
    from omegaconf import DictConfig, OmegaConf

    from robot.core import paths

    with initialize_config_dir(str(paths.CONFIGS), version_base=None):
        node = compose("data/backprop").data
    merged = OmegaConf.merge(node, changes)
    assert isinstance(merged, DictConfig)
    return build(merged, "data", env=env)


def trainer(steps: int) -> Trainer:
    return Trainer(TrainerConfig(steps, 5e-3, 0.0, 5, 1.0, 0.9, 5, 20, 0, 0, 1))


def test_flights_become_cheaper_within_seconds(env: Quadrotor, tmp_path: Path) -> None:
    policy = policies(env, 1)[0]
    learner = source(env, shortest=30, longest=30)
    learner.open(tmp_path, 0)
    before = float(learner.loss(policy, learner.batch(0, policy))["loss"])
    trainer(120).fit(policy, source(env, shortest=30, longest=30), tmp_path, 0, quiet=True)
    learner.open(tmp_path, 0)
    after = float(learner.loss(policy, learner.batch(0, policy))["loss"])
    assert after < 0.7 * before


def test_an_interrupted_run_gives_the_same_numbers(env: Quadrotor, tmp_path: Path) -> None:
    def run(folder: Path, *lengths: int) -> dict[str, Tensor]:
        policy = policies(env, 1)[0]
        for steps in lengths:
            policy = policies(env, 1)[0]
            learner = Trainer(TrainerConfig(40, 5e-3, 0.0, 5, 1.0, 0.9, 5, 20, 0, 0, 1))
            broken = source(env, shortest=20, longest=20, round_updates=20)
            whole = broken.batch

            def stop(step: int, policy: Any, until: int = steps, given: Any = whole) -> Any:
                if step == until:
                    raise KeyboardInterrupt
                return given(step, policy)

            broken.batch = stop
            try:
                learner.fit(policy, broken, folder, 0, quiet=True)
            except KeyboardInterrupt:
                continue
        return {name: value.clone() for name, value in policy.state_dict().items()}

    whole, parts = run(tmp_path / "a", 40), run(tmp_path / "b", 27, 40)
    for name in whole:
        assert torch.equal(whole[name], parts[name]), name


def test_what_cannot_be_flown_is_refused(env: Quadrotor) -> None:
    odd = build(sim.gym.config("quadrotor_train", num_envs=20, threads=1), "env")
    with pytest.raises(ConfigError, match=r"num_envs=20.*multiple of 16"):
        source(odd)
    strict = build(sim.gym.config("quadrotor", num_envs=16, threads=1), "env")
    with pytest.raises(ConfigError, match=r"terminate=false"):
        source(strict)
    with pytest.raises(ConfigError, match=r"checkpoint_every must be a multiple of data.round_updates=200"):
        source(env).resume(50)
