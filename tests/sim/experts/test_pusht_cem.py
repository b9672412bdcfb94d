"""The demonstrator of PushT that refines ways by the cross-entropy method."""

import numpy as np
import pytest
import torch

from robot.core.config import build
from robot.core.errors import ConfigError
from sim import gym
from sim.experts.pusht_cem import PushtCem, PushtCemConfig
from sim.pusht.cem import Cem
from sim.pusht.planner import corner_distance

KEYS = {"population": 96, "elites": 8, "rounds": 4, "knots": 5, "stride": 4, "execute": 8, "spread": 40.0, "step_cost": 0.12}


def make(**keys):
    return build(gym.config("pusht", threads=1, **keys), "env")


def test_the_way_it_finds_does_what_it_says():
    env = make(num_envs=1)
    env.reset(seed=300_000)
    state, goal = env.tables.state[0].copy(), env.params["goal"][0].numpy()
    cem = Cem(96, 8, 4, 5, 4, 0.12, 0.95)
    before = corner_distance(state[4:], goal)
    knots, targets = cem.best(state, goal, None, 40.0, np.random.default_rng(0))
    assert knots.shape == (5, 2)
    np.testing.assert_allclose(targets[3::4], knots)
    for target in targets:
        env.step(torch.from_numpy(target[None]).float())
    assert corner_distance(env.tables.state[0, 4:], goal) < before - 5


def test_it_brings_the_t_home_and_says_the_same_again():
    ends = []
    for _ in range(2):
        env = make(num_envs=4)
        expert = PushtCem(PushtCemConfig(**KEYS), env)
        observation, _ = env.reset(seed=300_004)
        memory = expert.initial_memory(4)
        solved = torch.zeros(4, dtype=torch.bool)
        for k in range(150):
            noise = torch.from_numpy(np.random.default_rng(k).standard_normal((4, 2)))
            action, memory = expert.act(observation, memory, noise)
            observation, _, terminated, _, _ = env.step(action[:, 0])
            solved |= terminated
        ends.append((solved, env.tables.state.copy()))
    assert int(ends[0][0].sum()) >= 3
    np.testing.assert_array_equal(ends[0][1], ends[1][1])


@pytest.mark.parametrize(("key", "value"), [("elites", 0), ("execute", 6), ("execute", 24), ("rounds", 0)])
def test_bad_settings_are_told(key, value):
    with pytest.raises(ConfigError, match=key):
        PushtCem(PushtCemConfig(**{**KEYS, key: value}), make(num_envs=1))


def test_another_env_is_refused():
    with pytest.raises(ConfigError, match="pusht only"):
        PushtCem(PushtCemConfig(**KEYS), object())
