"""The cascade against closed forms, and in the air."""

from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

import sim.gym
from policies import cascade
from policies.cascade import Cascade
from robot.core.config import build
from robot.core.errors import ConfigError
from robot.core.paths import CONFIGS
from sim.envs.quadrotor import Quadrotor
from sim.quadrotor import vehicle
from sim.quadrotor.dynamics import GRAVITY


def config() -> DictConfig:
    with initialize_config_dir(str(CONFIGS), version_base=None):
        return compose("train", ["policy=cascade"]).policy


def make(count: int = 16, **keys: Any) -> tuple[Quadrotor, Cascade]:
    env = build(sim.gym.config("quadrotor", num_envs=count, threads=1, **keys), "env")
    return env, build(config(), "policy", interface=env.interface, env=env)


CALM = {"position": 0.0, "angle": 0.0, "velocity": 0.0, "rate": 0.0, "guidance": 0.0}


def settled(env: Quadrotor, policy: Cascade) -> dict[str, torch.Tensor]:
    """Memory of a vehicle whose motors hover."""
    memory = policy.initial_memory(env.num_envs)
    memory["motors"] = vehicle.hover_speed(env.nominal)[:, None].expand(-1, 4).clone()
    return memory


def test_at_rest_it_commands_what_carries_the_weight() -> None:
    env, policy = make(start=CALM, vehicles={"force": 0.0})
    observation, _ = env.reset(seed=0)
    action, _ = policy.act(observation, settled(env, policy))
    hover = 2 * vehicle.hover_speed(env.params) - 1
    torch.testing.assert_close(action[:, 0], hover[:, None].expand(-1, 4), rtol=1e-4, atol=1e-4)


def test_the_mixer_is_the_inverse_of_the_rotors() -> None:
    env, _ = make(vehicle="x500")
    env.reset(seed=0)
    force = float(env.params["mass"][0]) * GRAVITY
    torque = torch.tensor([[0.05, -0.08, 0.01]]).expand(16, 3)
    thrusts = cascade.mix(env.params, torch.full((16,), force), torque)[0].numpy()
    arms, directions = env.params["rotor_positions"][0].numpy(), env.params["rotor_directions"][0].numpy()
    moments = np.cross(arms, directions) + env.params["torque_constants"][0].numpy()[:, None] * directions
    assert thrusts @ directions[:, 2] == pytest.approx(force, rel=1e-4)
    np.testing.assert_allclose(thrusts @ moments, torque[0].numpy(), atol=1e-4)
    speeds = cascade.invert(env.params, torch.from_numpy(thrusts)[None])[0].numpy()
    c = env.params["thrust_coefficients"][0].numpy()
    np.testing.assert_allclose(c[:, 0] + c[:, 1] * speeds + c[:, 2] * speeds**2, thrusts, rtol=1e-4)


def test_out_of_reach_the_torque_comes_first_and_every_rotor_stays_in_its_range() -> None:
    env, _ = make()
    env.reset(seed=0)
    most = cascade.authority(env.params)
    torque = env.params["inertia"] * most * torch.tensor([0.5, 0.0, 0.0])
    for force in (0.0, 100.0):
        thrusts = cascade.mix(env.params, torch.full((16,), force), torque)
        low, high = cascade.bounds(env.params)
        assert bool(((thrusts >= low - 1e-5) & (thrusts <= high + 1e-4 * high)).all())
        given = (cascade.mixer(env.params) @ thrusts[..., None])[:, 1, 0]
        torch.testing.assert_close(given, torque[:, 0], rtol=1e-3, atol=1e-6)
    excessive = env.params["inertia"] * most * 100
    assert bool(torch.isfinite(cascade.mix(env.params, torch.ones(16), excessive)).all())


def test_motors_are_led_and_believed_as_they_move() -> None:
    env, _ = make(2, vehicle="crazyflie")
    env.reset(seed=0)
    env.state[:, 13:17] = 0.5
    command, believed = cascade.lead(env.params, torch.full((2, 4), 0.5), torch.tensor([[0.6], [0.4]]).expand(2, 4), 0.03, 0.01)
    assert float(command[0, 0]) > 0.6
    assert float(command[1, 0]) < 0.4
    after = env.advance(env.state, 2 * command - 1)
    torch.testing.assert_close(after[:, 13:17], believed, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("axis", "sign"), [(0, 1.0), (0, -1.0), (1, 1.0), (1, -1.0)])
def test_it_leans_towards_the_goal(axis: int, sign: float) -> None:
    env, policy = make(1, start=CALM, vehicle="crazyflie")
    observation, _ = env.reset(seed=0)
    observation["position"][0, axis] = sign
    env.state[:, 13:17] = vehicle.hover_speed(env.nominal)
    action, _ = policy.act(observation, settled(env, policy))
    turned = env.advance(env.state, action[:, 0])
    rate = turned[0, 10:13]
    expected = (
        -sign if axis == 0 else sign
    )  # towards -x the nose rises, a negative turn about y; towards -y a positive one about x
    assert float(rate[1 - axis] * expected) > 0.01


def test_it_rights_every_vehicle_and_comes_back() -> None:
    env, policy = make(64, start={"angle": 1.0, "guidance": 0.0}, limits={"terminate": False}, vehicles={"force": 0.0})
    observation, _ = env.reset(seed=4)
    memory = policy.initial_memory(64)
    for _ in range(498):
        action, memory = policy.act(observation, memory)
        observation, *_ = env.step(action[:, 0])
    error = env.errors(env.state, env.steps)[0].norm(dim=1)
    assert float((error < 0.15).float().mean()) > 0.95
    assert float(error.median()) < 0.01


def test_it_does_not_know_what_happens_on_the_way() -> None:
    env, policy = make(event={"time": [0.01, 0.01], "payload": 0.5}, vehicle="x500", limits={"terminate": False})
    observation, _ = env.reset(seed=0)
    memory = policy.initial_memory(16)
    for _ in range(3):
        action, memory = policy.act(observation, memory)
        observation, *_ = env.step(action[:, 0])
    assert float(env.params["mass"][0]) == pytest.approx(1.5 * float(env.nominal["mass"][0]))


def test_it_flies_quadrotors_only_and_all_of_them() -> None:
    env, policy = make()
    with pytest.raises(ConfigError, match=r"flies env=quadrotor and nothing else"):
        build(config(), "policy", interface=env.interface, env=object())
    observation, _ = env.reset(seed=0)
    with pytest.raises(ConfigError, match=r"3 observations of 16 vehicles"):
        policy.plan({name: value[:3] for name, value in observation.items()}, policy.initial_memory(3))
