"""The gymnasium adapters, on a toy env of a counter and a noise."""

import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from torch import Tensor

import sim.gym
from robot.core import paths
from robot.core.errors import ConfigError
from robot.core.interface import Field, Interface
from sim.env import Env


@dataclass
class CounterConfig:
    num_envs: int
    """Worlds in the batch."""
    goal: float
    """Ends at this sum of actions."""
    inner: dict[str, float]
    """Nested values."""


class Counter(Env):
    def __init__(self, config: CounterConfig) -> None:
        fields = (Field("total", (2,), low=-100, high=100), Field("steps", (1,), low=0, high=100))
        super().__init__(Interface(fields, Field("push", (2,), low=-1, high=1), 0.1), config.num_envs, max_steps=5)
        self.goal = config.goal
        self.total = torch.zeros(config.num_envs, 2)

    def _reset(self, ids: Tensor) -> None:
        for i in ids.tolist():
            self.total[i] = torch.as_tensor(self.rng(i).normal(size=2), dtype=torch.float32).clip(-50, 50)

    def _apply(self, action: Tensor) -> None:
        self.total += action

    def _observe(self) -> dict[str, Tensor]:
        return {"total": self.total, "steps": self.steps[:, None].float()}  # aliases its state: the adapter must copy

    def _reward(self) -> dict[str, Tensor]:
        return {"total": self.total.sum(1), "alive": torch.ones(self.num_envs)}

    def _terminated(self) -> Tensor:
        return self.total.sum(1) > self.goal


@pytest.fixture(autouse=True)
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module = types.ModuleType("toy_counter")
    module.Counter = Counter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "toy_counter", module)
    (tmp_path / "env").mkdir()
    yaml = "_target_: toy_counter.Counter\nnum_envs: 7\ngoal: 20.0\ninner: {a: 1.0, b: 2.0}\n"
    (tmp_path / "env" / "counter.yaml").write_text(yaml)
    monkeypatch.setattr(paths, "CONFIGS", tmp_path)
    sim.gym.register()
    yield
    gymnasium.registry.pop("tiller/counter-v0")


def test_env_checker_passes() -> None:
    with pytest.warns(UserWarning, match="different from the unwrapped") as caught:
        check_env(gymnasium.make("tiller/counter-v0"), skip_render_check=True)
    assert len(caught) == 1, [str(w.message) for w in caught]


def test_single_env_has_no_batch_and_ends_with_the_last_observation() -> None:
    env = gymnasium.make("tiller/counter-v0")
    obs, _ = env.reset(seed=1)
    assert {name: (value.shape, value.dtype) for name, value in obs.items()} == {
        "total": ((2,), np.float32),
        "steps": ((1,), np.float32),
    }
    start = obs["total"].copy()
    push = np.array([0.5, 0.25], np.float32)
    for k in range(1, 6):
        obs, reward, terminated, truncated, info = env.step(push)
        np.testing.assert_allclose(obs["total"], start + k * push, rtol=1e-6)
        assert isinstance(reward, float)
        assert info["terms"]["alive"] == 1.0
        assert (terminated, truncated) == (False, k == 5)
    assert "metrics" in info


def test_goal_terminates_and_does_not_truncate() -> None:
    env = gymnasium.make("tiller/counter-v0", goal=-1e3)
    env.reset(seed=1)
    _, _, terminated, truncated, _ = env.step(np.zeros(2, np.float32))
    assert (terminated, truncated) == (True, False)


def test_resets_go_on_to_the_next_episode_and_skip_none() -> None:
    env = gymnasium.make("tiller/counter-v0").unwrapped
    starts = [env.reset(seed=3)[0]["total"], env.reset()[0]["total"]]
    for _ in range(5):
        env.step(np.zeros(2, np.float32))
    starts.append(env.reset()[0]["total"])
    vector = gymnasium.make_vec("tiller/counter-v0", num_envs=3)
    np.testing.assert_array_equal(np.stack(starts), vector.reset(seed=3)[0]["total"])


def test_vector_env_is_numpy_and_hands_out_copies() -> None:
    env = gymnasium.make_vec("tiller/counter-v0", num_envs=3)
    obs, _ = env.reset(seed=0)
    before = obs["total"].copy()
    for _ in range(5):
        new, reward, terminated, truncated, info = env.step(np.full((3, 2), 0.1, np.float32))
    np.testing.assert_array_equal(obs["total"], before)
    assert env.observation_space.contains(new)
    assert reward.shape == terminated.shape == (3,)
    assert truncated.all()
    assert info["_final_obs"].all()
    np.testing.assert_allclose(info["final_obs"]["total"], before + 0.5, rtol=1e-5)
    assert not np.allclose(new["total"], info["final_obs"]["total"])


def test_keyword_arguments_are_config_keys() -> None:
    env = sim.gym.config("counter", goal=3, inner={"b": 5.0})
    assert (env.goal, env.inner) == (3, {"a": 1.0, "b": 5.0})
    with pytest.raises(ConfigError, match=r"'gaol'.*goal"):
        gymnasium.make("tiller/counter-v0", gaol=3)


def test_a_run_that_was_never_seeded_is_random() -> None:
    draws = [gymnasium.make("tiller/counter-v0").reset()[0]["total"].tolist() for _ in range(2)]
    assert draws[0] != draws[1]
