"""A dozen numbers that must not move by accident: `make golden` renews them, and the commit says why they moved."""

from collections.abc import Callable

import sim.gym
from robot.core.config import build
from sim.env import Env
from tests.hardware.test_safety import record

Golden = Callable[[str, dict[str, float], float], None]


def test_navigation(golden: Golden) -> None:
    """Scenes, depth, tracker and odometry of two held-out episodes, six plans in."""
    env: Env = build(sim.gym.config("navigation", num_envs=2, threads=1, split="test"), "env")
    expert = build({"_target_": "sim.experts.navigation.NavigationExpert", **CROPS}, "policy", env=env)
    observation, _ = env.reset(seed=0)
    values = {f"episode{i}/depth_mean": float(observation["depth"][i].mean()) for i in range(2)}
    values |= {f"episode{i}/goal_distance": float(observation["goal"][i, :2].norm()) for i in range(2)}
    for _ in range(6):
        observation, *_ = env.step(expert.plan(observation, {}).actions[:, 0])
    for i in range(2):
        values[f"episode{i}/odometry_x"] = float(observation["odometry"][i, 0])
        values[f"episode{i}/odometry_y"] = float(observation["odometry"][i, 1])
        values[f"episode{i}/speed"] = float(observation["velocity"][i, 0])
    golden("navigation", {name: round(value, 6) for name, value in values.items()}, 1e-3)


CROPS = {"crop_cells": 64, "crop_resolution": 0.125, "crop_range": 8.0}


def test_safety(golden: Golden) -> None:
    """Commands that left for what adversaries wanted; whatever changes one of them is to be seen."""
    golden("safety", record(), 1e-6)
