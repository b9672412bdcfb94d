"""The validation world: the same episodes as `navigation`, and physics that is felt."""

from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from robot.core.config import build
from robot.core.errors import ConfigError
from robot.core.paths import CONFIGS

SMALL = ("env.num_envs=2", "env.families=[hall]", "env.robots=[wheeled]", "env.threads=2", "env.max_distance=6.0")


def make(name: str = "navigation_mujoco", *overrides: str) -> Any:
    with initialize_config_dir(str(CONFIGS), version_base=None):
        node = compose("evaluate", overrides=[f"env={name}", *SMALL, *overrides]).env
    return build(node, "env")


def drive(env: Any, periods: int, seed: int = 5) -> dict[str, torch.Tensor]:
    """The observation after some periods of the expert's paths."""
    observation, _ = env.reset(seed=seed)
    for _ in range(periods):
        observation, *_ = env.step(torch.from_numpy(env.expert_action()))
    return observation


@pytest.fixture(scope="module")
def env() -> Any:
    env = make()
    yield env
    env.close()


def test_same_interface_and_same_episodes_as_navigation(env: Any) -> None:
    ideal = make("navigation")
    assert env.interface == ideal.interface
    expected, _ = ideal.reset(seed=5)
    found, _ = env.reset(seed=5)
    for name in expected:
        assert torch.equal(found[name], expected[name]), name
    assert np.array_equal(env.goal, ideal.goal)
    assert np.array_equal(env.geodesic, ideal.geodesic)


def test_expert_arrives_on_wheels(env: Any) -> None:
    env.reset(seed=5)
    results: dict[int, dict[str, float]] = {}
    for _ in range(60):
        *_, info = env.step(torch.from_numpy(env.expert_action()))
        for i in torch.nonzero(info["done"]).flatten().tolist():
            results.setdefault(i, {name: float(value[i]) for name, value in info["final_info"].items()})
        if len(results) == 2:
            break
    assert [results[i]["success"] for i in range(2)] == [1.0, 1.0]
    assert all(row["spl"] > 0.9 for row in results.values())
    assert sum(env.base(i).restarts for i in range(2)) == 0


def test_driving_straight_into_the_world_ends_in_contact(env: Any) -> None:
    env.reset(seed=5)
    ahead = torch.zeros(2, env.config.horizon, 3)
    ahead[..., 0] = 0.16
    ended = np.zeros(2, bool)
    for _ in range(60):
        _, _, terminated, truncated, info = env.step(ahead)
        ended |= info["done"].numpy()
        assert not truncated.any()
        if terminated.any():
            assert (info["terms"]["collision"][terminated] + info["terms"]["success"][terminated]).abs().min() == 1
        if ended.all():
            return
    pytest.fail("nothing in the way for 24 s")


def test_same_seed_same_numbers_whatever_the_batch_and_threads() -> None:
    two = drive(make(), 5)
    one = drive(make("navigation_mujoco", "env.num_envs=1", "env.threads=1"), 5)
    again = drive(make(), 5)
    for name in two:
        assert torch.equal(two[name], again[name]), name
        assert torch.equal(two[name][:1], one[name]), name


def test_wheel_odometry_drifts_a_little_and_true_odometry_does_not() -> None:
    from sim.navigation import motion

    for wheels, bound in (("true", 0.05), ("false", 1e-6)):
        env = make("navigation_mujoco", f"env.wheel_odometry={wheels}", "env.physics.friction=0.3")
        drive(env, 6)
        gap = env.odometry - motion.to_frame(env.pose, env.start)
        assert np.abs(gap).max() < bound
        assert wheels == "false" or np.abs(gap).max() > 1e-4
        assert (env.travelled > 0.1).all()


def test_physics_is_drawn_for_each_episode_and_leaves_the_episode_alone(env: Any) -> None:
    varied = make("navigation_mujoco", "env.physics_spread=0.5", "env.payload_range=10")
    varied.reset(seed=5)
    env.reset(seed=5)
    assert np.array_equal(varied.pose, env.pose)
    friction = [varied.base(i).model.geom("tread_left").friction[0] for i in range(2)]
    assert friction == pytest.approx(varied.params["friction"].tolist())
    assert len(set(friction)) == 2
    assert all(0.4 <= value <= 1.2 for value in friction)
    assert sum(varied.base(0).model.body_mass) > 20.0


def test_depth_of_mujoco_agrees_with_the_caster(env: Any) -> None:
    rays = make("navigation_mujoco", "env.depth=mujoco")
    a, b = drive(env, 0)["depth"], drive(rays, 0)["depth"]
    seen = (a > 0) & (b > 0)
    assert seen.float().mean() > 0.3
    assert (a[seen] - b[seen]).abs().median() < 0.005
    assert ((a > 0) != (b > 0)).float().mean() < 0.05


def test_walkers_are_bodies() -> None:
    env = make("navigation_mujoco", "env.crowd=high")
    env.reset(seed=5)
    present = env.crowd.discs[0, :, 2] > 0
    env.step(torch.zeros(2, env.config.horizon, 3))
    data = env.base(0).synchronise()
    assert present.any()
    assert data.mocap_pos[present, 2].min() > 0
    env.step(torch.zeros(2, env.config.horizon, 3))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("env.robots=[humanoid]", "wheeled"),
        ("env.randomize=0.2", "randomize"),
        ("env.physics_spread=1.5", "physics_spread"),
        ("env.physics.friction=-1", "friction"),
        ("env.depth=lidar", "depth"),
    ],
)
def test_bad_configs_are_refused_by_name(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make("navigation_mujoco", override).reset(seed=0)
