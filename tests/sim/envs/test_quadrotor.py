"""What quadrotors are asked to do, and what happens to them."""

import math
from typing import Any

import pytest
import torch

import sim.gym
from robot.core.config import build
from robot.core.errors import ConfigError, ObservationError
from sim.envs.quadrotor import Quadrotor
from sim.quadrotor import vehicle

CALM = {"position": 0.0, "angle": 0.0, "velocity": 0.0, "rate": 0.0, "rotor": 0.0}


def make(worlds: int = 32, **keys: Any) -> Quadrotor:
    return build(sim.gym.config("quadrotor", num_envs=worlds, threads=1, **keys), "env")


def hover(env: Quadrotor) -> torch.Tensor:
    return (2 * vehicle.hover_speed(env.params) - 1)[:, None].expand(-1, 4).contiguous()


def test_starts_are_as_far_and_as_tilted_as_they_may_be() -> None:
    env = make(2000, start={"guidance": 0.0})
    env.reset(seed=0)
    assert 0.45 < float(env.state[:, :3].abs().max()) <= 0.5
    tilt = 2 * torch.acos(env.state[:, 3].clamp(-1, 1))
    assert 0.95 < float(tilt.max()) <= 1.0 + 1e-5
    assert 0.45 < float(env.state[:, 13:].max()) <= 0.5
    wild = make(2000, start={"wild": 0.5})
    wild.reset(seed=0)
    angle = 2 * torch.acos(wild.state[:, 3].abs().clamp(0, 1))
    assert 0.1 < float((angle > 1.01).float().mean()) < 0.5
    assert float(wild.state[:, 10:13].abs().max()) > 5


def test_the_reference_is_what_is_observed_against() -> None:
    env = make(start=CALM, reference={"task": "figure_eight"})
    observation, _ = env.reset(seed=0)
    torch.testing.assert_close(observation["position"], torch.zeros(32, 3))
    torch.testing.assert_close(observation["velocity"], torch.zeros(32, 3))
    for time in (0.0, 0.7, 2.0, 5.5):
        where, speed = env.reference.at(torch.full((32,), time))
        later, _ = env.reference.at(torch.full((32,), time + 1e-3))
        torch.testing.assert_close((later - where) / 1e-3, speed, atol=1e-2, rtol=1e-2)
    turn = 2 * math.pi / 5.5
    torch.testing.assert_close(
        env.reference.at(torch.full((32,), 1.0))[0][0], torch.tensor([math.sin(turn), math.sin(2 * turn) / 2, 0.0])
    )


def test_random_references_differ_and_stay_in_their_box() -> None:
    env = make(reference={"task": "random", "size": [2.0, 1.0, 0.5]})
    env.reset(seed=0)
    paths = torch.stack([env.reference.at(torch.full((32,), 0.1 * k))[0] for k in range(100)])
    assert bool((paths.abs().amax((0, 1)) <= torch.tensor([1.0, 0.5, 0.25]) + 1e-6).all())
    assert not torch.allclose(paths[:, 0], paths[:, 1])


def test_a_push_a_payload_and_a_weak_motor_happen_once_at_their_time() -> None:
    calm = {"vehicle": "crazyflie", "vehicles": {"force": 0.0}, "start": CALM, "limits": {"terminate": False}}
    env, still = make(8, **calm, event={"time": [0.05, 0.05], "push": 1.5, "payload": 0.3, "loss": 0.2}), make(8, **calm)
    env.reset(seed=0)
    still.reset(seed=0)
    mass = env.params["mass"].clone()
    for step in range(10):
        env.step(hover(still))
        still.step(hover(still))
        gap = (env.state[:, 7:10] - still.state[:, 7:10]).norm(dim=1)
        assert bool((gap < 1e-4).all()) == (step < 5), step
        if step == 5:
            torch.testing.assert_close(gap, torch.full((8,), 1.5), atol=0.1, rtol=0)
    torch.testing.assert_close(env.params["mass"], 1.3 * mass)
    weak = env.params["thrust_coefficients"][..., 2] / still.params["thrust_coefficients"][..., 2]
    torch.testing.assert_close(weak.sort(dim=1).values, torch.tensor([[0.8, 1.0, 1.0, 1.0]]).expand(8, 4))


def test_latency_delays_a_command_by_as_many_periods() -> None:
    env = make(4, latency=3, start=CALM, vehicle="x500")
    env.reset(seed=0)
    speeds = []
    for _ in range(6):
        env.step(torch.ones(4, 4))
        speeds.append(float(env.state[0, 13]))
    assert speeds[0] > 0.05, "before the first command, the middle of the range is asked for"
    still = make(4, start=CALM, vehicle="x500")
    still.reset(seed=0)
    for _ in range(3):
        still.step(torch.zeros(4, 4))
    torch.testing.assert_close(torch.tensor(speeds[2]), still.state[0, 13])
    assert speeds[3] - speeds[2] > 1.5 * (speeds[2] - speeds[1])


def test_noise_is_of_its_size_and_only_in_what_is_seen() -> None:
    env, clean = make(500, noise={"position": 0.02, "rate": 0.1}), make(500)
    noisy, exact = env.reset(seed=0)[0], clean.reset(seed=0)[0]
    assert float((noisy["position"] - exact["position"]).std()) == pytest.approx(0.02, rel=0.1)
    assert float((noisy["rate"] - exact["rate"]).std()) == pytest.approx(0.1, rel=0.1)
    assert torch.equal(noisy["velocity"], exact["velocity"])
    assert torch.equal(env.state, clean.state)


def test_the_ground_carries() -> None:
    env = make(4, ground=-0.2, start=CALM, limits={"terminate": False}, time_limit=10.0)
    env.reset(seed=0)
    for _ in range(300):
        env.step(-torch.ones(4, 4))
    assert float(env.state[:, 2].min()) == pytest.approx(-0.2)
    assert float(env.state[:, 7:10].abs().max()) < 0.2


def test_leaving_the_limits_ends_an_episode_and_costs() -> None:
    env = make(16, start=CALM, vehicle="x500")
    env.reset(seed=0)
    for _ in range(200):
        _, reward, terminated, _, info = env.step(torch.ones(16, 4))
        if bool(terminated.any()):
            break
    assert bool(terminated.all())
    assert float(reward.max()) < -90
    assert float(info["final_info"]["success"].max()) == 0


def test_the_table_is_flown_in_turn() -> None:
    env = make(vehicle="table")
    env.reset(seed=0)
    names = vehicle.names()
    assert env.labels["vehicle"] == names
    masses = torch.stack([vehicle.load(name)["mass"][0] for name in names])
    torch.testing.assert_close(env.params["mass"], masses[torch.arange(32) % len(names)])


def test_a_fleet_keeps_its_vehicles_and_changes_its_forces() -> None:
    env = make(8, fleet=4, fleet_seed=3)
    env.reset(seed=0)
    mass, force = env.params["mass"].clone(), env.params["force"].clone()
    assert mass.unique(return_counts=True)[1].tolist() == [2] * 4
    env.reset(seed=1)
    assert torch.equal(env.params["mass"], mass)
    assert not torch.equal(env.params["force"], force)
    larger = make(8, fleet=8, fleet_seed=3)
    larger.reset(seed=0)
    assert torch.equal(larger.params["mass"][:4], mass[::2])
    env.assign(torch.full((8,), 2))
    env.reset(seed=2)
    assert env.params["mass"].unique().tolist() == mass[4:5].tolist()
    env.assign(None)
    env.reset(seed=2)
    assert len(env.params["mass"].unique()) == 8
    with pytest.raises(ConfigError, match=r"vehicles 0 to 3, not 0 to 4"):
        env.assign(torch.arange(5).repeat(2)[:8])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"fleet": -1}, r"fleet=-1"),
        ({"fleet": 2, "vehicle": "x500"}, r"only with env.vehicle=sampled"),
        ({"vehicle": "dragonfly"}, r"no 'dragonfly'; there are sampled, table, .*crazyflie"),
        ({"event": {"loss": 1.0}}, r"loss=1.0 must be in \[0, 1\)"),
        ({"dt": 0.0}, r"dt positive"),
    ],
)
def test_what_cannot_be_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**keys)


def test_a_command_that_is_not_finite_is_refused() -> None:
    env = make(2)
    env.reset(seed=0)
    with pytest.raises(ObservationError, match="action 'motors' is not finite"):
        env.step(torch.full((2, 4), float("nan")))
