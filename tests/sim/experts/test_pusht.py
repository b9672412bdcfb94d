"""The demonstrator of PushT."""

import numpy as np
import pytest
import torch

from robot.core.config import build
from robot.core.errors import ConfigError
from robot.learn.evaluator import Evaluator, EvaluatorConfig
from sim import gym
from sim.experts.pusht import PushtExpert, PushtExpertConfig
from sim.pusht.geometry import BAR, RADIUS, STEM
from sim.pusht.planner import Planner, contacts, primitive

ALL = PushtExpertConfig(25.0, [], 0.12, 1.0, 0.3)


def make(**keys):
    return build(gym.config("pusht", threads=1, **keys), "env")


def test_it_solves_the_standard_starts():
    env = make(num_envs=8)
    report = Evaluator(EvaluatorConfig(8, 100_000, 0, 0, None)).run(PushtExpert(ALL, env), env, quiet=True)
    assert report.columns["success"].mean() == 1.0
    assert report.columns["time"].mean() < 20


def test_equal_starts_are_pushed_in_many_ways():
    env = make(num_envs=8)
    expert = PushtExpert(ALL, env)
    env.reset(seed=100_000)
    for i in range(8):
        env.tables.place(i, (100.0, 100.0), (250.0, 300.0, 1.0))
    noise = torch.linspace(-2, 2, 8)[:, None]
    memory = expert.plan({}, expert.initial_memory(8), noise).memory
    assert len({tuple(memory["targets"][i].flatten().tolist()) for i in range(8)}) > 1
    again = expert.plan({}, expert.initial_memory(8), noise).memory
    assert torch.equal(memory["targets"], again["targets"])


def gap(points):
    """Distances of points (K, 2) in the frame of the T from it."""
    x, y = points.T
    boxes = []
    for box in (BAR, STEM):
        boxes.append(
            np.hypot(np.maximum.reduce([box[0] - x, 0 * x, x - box[1]]), np.maximum.reduce([box[2] - y, 0 * y, y - box[3]]))
        )
    return np.minimum(*boxes)


def test_the_way_to_a_contact_touches_nothing():
    points = contacts(25.0)
    points = points[gap(points[:, :2] + 21 * points[:, 2:4]) > RADIUS + 2]  # not in the corner between bar and stem
    targets = np.zeros((60, 2))
    pose = np.array([256.0, 256.0, 0.7])
    c, s = np.cos(pose[2]), np.sin(pose[2])
    assert len(points) >= 15
    for point in points:
        count = primitive(np.array([60.0, 256.0]), pose, point, 1.0, targets)
        assert count > 4
        local = (targets[: count - 4] - pose[:2]) @ np.array([[c, -s], [s, c]])
        assert gap(local).min() > RADIUS
        np.testing.assert_allclose(local[-1], point[:2] + 21 * point[2:4], atol=1e-6)


def test_a_style_pushes_its_edges_only():
    assert set(Planner(25.0, [3, 4, 5], 0.12, 0.95).points[:, 4]) == {3, 4, 5}


def test_wrong_keys_and_other_envs_are_refused():
    with pytest.raises(ConfigError, match="edges"):
        PushtExpert(PushtExpertConfig(25.0, [9], 0.12, 1.0, 0.3), make(num_envs=1))
    with pytest.raises(ConfigError, match="pusht"):
        PushtExpert(ALL, object())
