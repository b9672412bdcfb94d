"""PPO of specialists side by side: its advantages, probabilities and gradients by their definitions, and learning to fly."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor

import sim.gym
from policies.ensemble import Ensemble, EnsembleConfig, perceptron, push
from robot.core import paths
from robot.core.config import build
from robot.core.errors import ConfigError
from robot.learn.ppo import PPO, Own, advantages, log_probability
from robot.learn.sources import Batch
from robot.learn.trainer import Trainer, TrainerConfig
from sim.envs.quadrotor import Quadrotor


@pytest.fixture
def env() -> Quadrotor:
    return build(sim.gym.config("quadrotor", num_envs=64, fleet=2, threads=1), "env")


def ensemble(env: Quadrotor, size: int = 2) -> Ensemble:
    torch.manual_seed(0)
    return Ensemble(EnsembleConfig(size, 32, 0.3), env.interface)


def source(env: Quadrotor, **changes: object) -> PPO:
    with initialize_config_dir(str(paths.CONFIGS), version_base=None):
        node = compose("data/ppo").data
    made = build({**node, **changes}, "data", env=env)
    made.open(Path(), 0)
    return made


def trainer(steps: int, every: int, average: float = 0.0) -> Trainer:
    return Trainer(TrainerConfig(steps, 2e-3, 0.0, 5, 1e9, average, every, every, 0, 0, 1))


def test_advantages_are_weighted_sums_of_surprises() -> None:
    rng = torch.Generator().manual_seed(0)
    steps, worlds, discount, trace = 12, 5, 0.9, 0.8
    reward, value = torch.randn(steps, worlds, generator=rng), torch.randn(steps + 1, worlds, generator=rng)
    done = torch.rand(steps, worlds, generator=rng) < 0.2
    found = advantages(reward, value, done, discount, trace)
    for world in range(worlds):
        for start in range(steps):
            expected, weight = 0.0, 1.0
            for t in range(start, steps):
                ahead = 0.0 if done[t, world] else discount * float(value[t + 1, world])
                expected += weight * (float(reward[t, world]) + ahead - float(value[t, world]))
                weight *= discount * trace
                if done[t, world]:
                    break
            assert float(found[start, world]) == pytest.approx(expected, abs=1e-5)


def test_probabilities_are_gaussian_given_what_exploration_did_before() -> None:
    rng, correlation = torch.Generator().manual_seed(0), 0.6
    error, spread = torch.randn(3, 7, 4, generator=rng), torch.randn(3, 4, generator=rng)
    normal = torch.distributions.Normal(torch.zeros(()), spread.exp()[:, None] * (1 - correlation**2) ** 0.5)
    expected = normal.log_prob(error).sum(-1)
    found = log_probability(error, spread, correlation)
    torch.testing.assert_close(found - found[:, :1], expected - expected[:, :1])
    torch.testing.assert_close(found[1:, 0] - found[:1, 0], expected[1:, 0] - expected[:1, 0])


def test_each_specialist_has_a_gradient_of_its_own() -> None:
    a, b = torch.zeros(2, 3, requires_grad=True), torch.zeros(2, 2, 2, requires_grad=True)

    def gradients(alone: float) -> tuple[Tensor, Tensor]:
        first, second = Own.apply(1.0, alone, a, b)
        slope = torch.tensor([0.1, 100.0])
        loss = (slope * first.sum(1)).sum() + (slope * second.sum((1, 2))).sum()
        slopes = torch.autograd.grad(loss, (a, b))
        return slopes[0], slopes[1]

    own, inner = gradients(1.0)
    torch.testing.assert_close(own[0], torch.full((3,), 0.1))
    assert float(own[1].square().sum() + inner[1].square().sum()) == pytest.approx(1, rel=1e-5)
    shared, _ = gradients(0.0)
    assert torch.equal(shared[0], shared[1])
    torch.testing.assert_close(shared[0], own.mean(0))
    torch.testing.assert_close(gradients(0.25)[0], 0.25 * own + 0.75 * own.mean(0))


def test_a_time_limit_keeps_what_could_still_be_earned_and_a_failure_does_not(env: Quadrotor) -> None:
    env.max_steps = 20
    policy, learner = ensemble(env), source(env, horizon=24, renew=0.0, correlation=0.0)
    rows = learner.collect(0, policy)
    assert bool(rows["late"].any())
    assert not bool((rows["late"] & rows["failed"]).any())
    assert torch.equal(rows["after"] != 0, rows["late"])
    world = int(torch.nonzero(rows["late"][19]).flatten()[-1])
    twin = build(sim.gym.config("quadrotor", num_envs=64, fleet=2, threads=1), "env")
    observation, _ = twin.reset(seed=env._seed)
    for step in range(20):
        outer = push(twin)
        torch.testing.assert_close(rows["told"][step, world], learner._told(policy, observation, outer)[world])
        observation, *_ = twin.step(rows["aim"][step].clamp(-1, 1))
    told = learner._told(policy, observation, push(twin))[world]
    value = perceptron(told[None, None], [part[world * 2 // 64][None] for part in policy.critic])
    assert float(rows["after"][19, world]) == pytest.approx(float(value.detach()), rel=1e-4)


def test_minibatches_of_an_epoch_hold_every_moment_once(env: Quadrotor) -> None:
    policy, learner = ensemble(env), source(env, horizon=8, epochs=2, minibatches=4)
    for _ in range(2):
        parts = [learner.batch(k, policy) for k in range(4)]
        assert parts[0]["told"].shape == (2, 64, 25)
        logs = torch.cat([part["log"] for part in parts], dim=1)
        torch.testing.assert_close(logs.sort(1).values, learner.rollout["log"].sort(1).values)
    advantage = learner.rollout["advantage"]
    torch.testing.assert_close(advantage.mean(1), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(advantage.std(1), torch.ones(2), atol=1e-3, rtol=0)


def flown(env: Quadrotor, policy: Ensemble, steps: int = 150) -> float:
    """Mean reward of a step, from starts of its own."""
    observation, _ = env.reset(seed=99)
    total = 0.0
    for _ in range(steps):
        inputs, _ = policy.prepare(observation, {})
        commands, _ = policy.follow(inputs["state"][None], push(env), {})
        observation, reward, *_ = env.step(commands[0].detach().clamp(-1, 1))
        total += float(reward.mean()) / steps
    return total


def test_flying_improves_within_seconds(tmp_path: Path) -> None:
    """From rest at the goal, two vehicles that nothing pushes stay up longer: from fifty periods to about twice as many."""
    start = {"vehicles.force": 0.0, "vehicles.thrust_to_weight": [2.0, 4.0], "vehicles.torque_to_inertia": [100.0, 300.0]}
    rewards = {"reward.alive": 3.0, "reward.action": 0.3}
    config = sim.gym.config("quadrotor", num_envs=256, fleet=2, threads=1)
    for key, value in {"start.guidance": 1.0, **start, **rewards}.items():
        OmegaConf.update(config, key, value)
    easy = build(config, "env")
    policy = ensemble(easy)
    before = flown(easy, policy)
    learner = source(easy, horizon=32, epochs=4, minibatches=4, together=[400, 400], correlation=0.5)
    trainer(320, 320).fit(policy, learner, tmp_path, 0, quiet=True)
    assert flown(easy, policy) > before + 0.4


def test_an_interrupted_run_gives_the_same_numbers(env: Quadrotor, tmp_path: Path) -> None:
    def run(folder: Path, *lengths: int) -> dict[str, Tensor]:
        policy = ensemble(env)
        for until in lengths:
            policy, learner = ensemble(env), source(env, horizon=8, epochs=2, minibatches=2, restart=2, together=[4, 12])
            whole = learner.batch

            def stop(step: int, policy: Ensemble, until: int = until, given: Callable[..., Batch] = whole) -> Batch:
                if step == until:
                    raise KeyboardInterrupt
                return given(step, policy)

            learner.batch = stop
            try:
                trainer(16, 8).fit(policy, learner, folder, 0, quiet=True)
            except KeyboardInterrupt:
                continue
        return policy.state_dict()

    whole, broken = run(tmp_path / "whole", 99), run(tmp_path / "broken", 11, 99)
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


def test_what_cannot_be_is_refused_in_words(env: Quadrotor, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"minibatches=3 must divide the 8 x 64 moments"):
        source(env, horizon=8, minibatches=3)
    with pytest.raises(ConfigError, match=r"must divide the 256 moments of a specialist"):
        source(env, horizon=8, minibatches=512).batch(0, ensemble(env))
    with pytest.raises(ConfigError, match=r"together=\[5, 3\]: two numbers of updates, rising"):
        source(env, together=[5, 3])
    with pytest.raises(ConfigError, match="64 worlds cannot be shared equally by 3 specialists"):
        source(env, horizon=8).batch(0, ensemble(env, 3))
    with pytest.raises(ConfigError, match="correlation at least 0 and below 1"):
        source(env, correlation=1.0)
    with pytest.raises(ConfigError, match=r"multiple of data.epochs x minibatches x restart = 16"):
        source(env, horizon=8, epochs=2, minibatches=4, restart=2).resume(8)
    with pytest.raises(ConfigError, match=r"set trainer.average=0"):
        trainer(40, 40, average=0.99).fit(ensemble(env), source(env, horizon=8), tmp_path, 0, quiet=True)
