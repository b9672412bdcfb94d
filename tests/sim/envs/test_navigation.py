"""The navigation world: rules of an episode, tasks, and errors that say what is wrong."""

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from robot.core.config import build
from robot.core.errors import ConfigError, ObservationError, SceneError
from robot.core.paths import CONFIGS


def make(*overrides: str):
    with initialize_config_dir(str(CONFIGS), version_base=None):
        cfg = compose("evaluate", ["env.num_envs=3", "env.families=[hall]", *overrides])
    return build(cfg.env, "env")


def test_expert_succeeds_along_nearly_the_shortest_path():
    env = make()
    env.reset(seed=3)
    results = []
    while len(results) < 6:
        _, reward, terminated, _, info = env.step(torch.from_numpy(env.expert_action()))
        if "final_info" in info:
            ended = info["done"]
            results += list(zip(info["final_info"]["success"][ended], info["final_info"]["spl"][ended], strict=True))
            assert bool((reward[ended & terminated] == 1.0).all())
    assert all(success == 1 for success, _ in results)
    assert np.mean([float(spl) for _, spl in results]) > 0.9


def test_contact_ends_the_episode_as_a_failure():
    env = make("split=train")
    env.reset(seed=0)
    ahead = torch.zeros(3, *env.interface.action.shape)
    ahead[..., 0] = 0.16
    failed = torch.zeros(3, dtype=torch.bool)
    for _ in range(80):
        _, reward, terminated, _, info = env.step(ahead)
        if "final_info" in info:
            ended = info["done"] & (info["final_info"]["collision"] > 0)
            assert bool((info["final_info"]["success"][ended] == 0).all())
            assert bool(terminated[ended].all())
            assert bool((reward[ended] == -1).all())
            failed |= ended
    assert bool(failed.all())


def test_goal_is_the_true_one_without_drift_and_moves_with_it():
    env = make()
    observation, _ = env.reset(seed=1)
    offset = env.goal[:, :2] - env.pose[:, :2]
    yaw = env.pose[:, 2]
    expected = np.stack(
        [np.cos(yaw) * offset[:, 0] + np.sin(yaw) * offset[:, 1], -np.sin(yaw) * offset[:, 0] + np.cos(yaw) * offset[:, 1]], -1
    )
    np.testing.assert_allclose(observation["goal"][:, :2], expected, atol=1e-5)
    drifting = make("env.drift_deg=20.0")
    drifting.reset(seed=1)
    for _ in range(10):
        observation, *_ = drifting.step(torch.from_numpy(drifting.expert_action()))
    truth = np.hypot(*(drifting.goal - drifting.pose)[:, :2].T)
    assert np.abs(np.hypot(*observation["goal"][:, :2].T) - truth).max() > 1e-3


@pytest.mark.parametrize(("task", "given"), [("point", [1, 0]), ("explore", [0, 0]), ("image", [0, 1])])
def test_tasks_show_their_goal_and_no_other(task: str, given: list[int]):
    shares = ",".join(f"{name}:{float(name == task)}" for name in ("point", "explore", "image"))
    env = make(f"env.tasks={{{shares}}}")
    observation, _ = env.reset(seed=2)
    assert observation["goal_given"].tolist() == [given] * 3
    assert bool((observation["goal"] != 0).any()) == (task == "point")
    assert bool((observation["goal_image"] > 0).any()) == (task == "image")


def test_exploring_counts_area_and_never_ends_by_success():
    env = make("env.tasks={point:0.0,explore:1.0,image:0.0}", "env.time_limit=20.0")
    env.reset(seed=2)
    for _ in range(50):
        _, _, terminated, truncated, info = env.step(torch.from_numpy(env.expert_action()))
        assert not bool(terminated.any())
    assert bool(truncated.all())
    assert bool((info["final_info"]["area"] > 5).all())
    assert bool((info["final_info"]["success"] == 1).all())


def test_a_goal_inside_an_obstacle_is_refused():
    env = make()
    env.reset(seed=0)
    with pytest.raises(SceneError, match=r"cannot be reached by a robot of radius .* choose a free point"):
        env.set_goal(0, 0.02, 0.02, 0.0)
    with pytest.raises(SceneError, match="outside the scene"):
        env.set_goal(0, -5.0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("env.families=[castle]", "castle"),
        ("env.robots=[tank]", "wheeled"),
        ("+env.tasks.fly=1.0", "explore"),
        ("env.num_envs=0", "at least 1"),
        ("env.split=holdout", "train, test"),
    ],
)
def test_config_errors_name_what_is_accepted(override: str, words: str):
    with pytest.raises(ConfigError, match=words):
        make(override)


def test_bad_actions_are_refused():
    env = make()
    env.reset(seed=0)
    with pytest.raises(ObservationError, match=r"expected \(3, 24, 3\)"):
        env.step(torch.zeros(3, 24, 2))
    with pytest.raises(ObservationError, match="not finite"):
        env.step(torch.full((3, 24, 3), torch.nan))
    observation, _ = env.reset(seed=0)
    observation["depth"][1, 2, 3] = torch.nan
    with pytest.raises(ObservationError, match="'depth' is not finite"):
        env.interface.check(observation)
