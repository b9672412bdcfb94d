"""The demonstrator of the arm."""

from typing import Any

import numpy as np
import pytest
import torch

from robot.core.config import build
from robot.core.errors import ConfigError
from robot.data.episodes import DatasetWriter, EpisodeDataset
from robot.learn.collector import Collector
from robot.learn.evaluator import Evaluator, EvaluatorConfig
from sim import gym
from sim.experts.arm import ArmExpert, ArmExpertConfig, Style


def make(name: str, num_envs: int, **keys: Any) -> Any:
    return build(gym.config(name, num_envs=num_envs, threads=1, **keys), "env")


def expert(env: Any, style: Style = Style.direct, noise: float = 0.0) -> ArmExpert:
    return ArmExpert(ArmExpertConfig(style, 0.4, 2.0, noise), env)


@pytest.mark.parametrize("style", list(Style))
@pytest.mark.parametrize(("name", "longest"), [("arm_lift", 3.0), ("arm_can", 6.0)])
def test_it_solves_the_tasks(name: str, longest: float, style: Style) -> None:
    env = make(name, 8)
    columns = Evaluator(EvaluatorConfig(8, 17, 0, 0, None)).run(expert(env, style), env, quiet=True).columns
    assert columns["success"].mean() == 1.0
    assert columns["dropped"].max() == 0.0
    assert columns["time"].max() < longest


@pytest.mark.parametrize("name", ["arm_lift", "arm_can"])
def test_it_recovers_from_disturbances(name: str) -> None:
    env = make(name, 8, disturbance=0.005)
    columns = Evaluator(EvaluatorConfig(8, 18, 0, 0, None)).run(expert(env), env, quiet=True).columns
    assert columns["success"].mean() >= 0.875


def test_it_tries_again_when_the_object_is_taken_away() -> None:
    env = make("arm_lift", 1, hold=0.5)
    actor = expert(env)
    observation, _ = env.reset(seed=0)
    memory, phases, taken = actor.initial_memory(1), [], False
    for _ in range(60):
        actions, memory = actor.act(observation, memory)
        phases.append(int(memory["phase"]))
        if phases[-1] == 3 and not taken:
            taken, made = True, env.worlds[0]
            made.data.qpos[made._place : made._place + 3] = 0.5, 0.0, 0.021
        observation, _, terminated, _, _ = env.step(actions[:, 0])
        if terminated.any():
            break
    assert phases.count(3) > 1
    assert 0 in phases[phases.index(3) :]
    assert terminated.all()


def test_the_styles_differ() -> None:
    """The high one comes from further up, and grasps the other pair of faces."""
    height, heading = {}, {}
    for style in Style:
        env = make("arm_lift", 4)
        actor = expert(env, style)
        observation, _ = env.reset(seed=3)
        memory, heading[style], height[style] = actor.initial_memory(4), torch.zeros(4), torch.zeros(4)
        for _ in range(15):
            actions, memory = actor.act(observation, memory)
            descends = (memory["phase"] == 1) & (memory["count"] == 0)
            height[style] = torch.where(descends, observation["hand_position"][:, 2], height[style])
            heading[style] = torch.where(descends, memory["yaw"], heading[style])
            observation, *_ = env.step(actions[:, 0])
    turn = (heading[Style.direct] - heading[Style.high]).abs()
    assert turn.tolist() == pytest.approx([np.pi / 2] * 4, abs=0.01)
    assert (height[Style.high] > height[Style.direct] + 0.05).all()


def test_it_reads_observations_alone_and_each_world_by_itself() -> None:
    env = make("arm_can", 4)
    actor, other = expert(env), expert(make("arm_can", 1))
    observation, _ = env.reset(seed=5)
    memory, alone = actor.initial_memory(4), other.initial_memory(1)
    for _ in range(20):
        actions, memory = actor.act(observation, memory)
        single, alone = other.act({name: value[2:3] for name, value in observation.items()}, alone)
        assert torch.equal(actions[2:3], single)
        observation, *_ = env.step(actions[:, 0])


def test_noise_is_an_argument() -> None:
    env = make("arm_lift", 2)
    observation, _ = env.reset(seed=0)
    actor = expert(env, noise=0.01)
    assert actor.noise_shape() == (3,)
    assert expert(env).noise_shape() == ()
    clean, _ = actor.act(observation, actor.initial_memory(2))
    noisy, _ = actor.act(observation, actor.initial_memory(2), torch.full((2, 3), 0.5))
    low, high = np.array(env.config.workspace.low), np.array(env.config.workspace.high)
    np.testing.assert_allclose((noisy - clean)[:, 0, :3].numpy(), np.broadcast_to(2 * 0.005 / (high - low), (2, 3)), atol=1e-5)
    assert torch.equal(noisy[..., 3:], clean[..., 3:])


def test_its_episodes_become_a_dataset(tmp_path: Any) -> None:
    env = make("arm_lift", 2)
    with DatasetWriter(tmp_path / "data", env.interface, {"task": "arm_lift"}, 10) as writer:
        Collector(env, expert(env), False).run(writer, 3, 0)
    dataset = EpisodeDataset(tmp_path / "data")
    assert len(dataset) == 3
    assert dataset.headers["success"].mean() == 1.0


@pytest.mark.parametrize(("speed", "noise"), [(0.0, 0.0), (0.4, -1.0)])
def test_bad_configs_are_refused(speed: float, noise: float) -> None:
    with pytest.raises(ConfigError, match="must be positive"):
        ArmExpert(ArmExpertConfig(Style.direct, speed, 2.0, noise), make("arm_lift", 1))


def test_other_envs_are_refused() -> None:
    with pytest.raises(ConfigError, match="arm_lift and env=arm_can only"):
        ArmExpert(ArmExpertConfig(Style.direct, 0.4, 2.0, 0.0), build(gym.config("pusht", num_envs=1, threads=1), "env"))
