"""The table of vehicles, the distribution they are sampled from, and what is refused."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from robot.core.config import typed
from robot.core.errors import ConfigError
from robot.core.paths import CONFIGS
from sim.quadrotor import vehicle
from sim.quadrotor.vehicle import Distribution, DistributionConfig, VehicleConfig


@pytest.fixture(scope="module")
def distribution() -> Distribution:
    node = OmegaConf.load(CONFIGS / "env" / "quadrotor.yaml").vehicles
    return Distribution(typed(DistributionConfig, node, "vehicles"))


def crazyflie(**changes: Any) -> VehicleConfig:
    return replace(typed(VehicleConfig, OmegaConf.load(CONFIGS / "vehicle" / "crazyflie.yaml"), "vehicle"), **changes)


def test_the_table_spans_the_real_vehicles() -> None:
    masses = [float(vehicle.load(name)["mass"]) for name in vehicle.names()]
    assert min(masses) < 0.033
    assert max(masses) >= 2.4
    assert len(masses) >= 8


def test_samples_have_what_was_drawn(distribution: Distribution) -> None:
    draws = torch.rand(4000, Distribution.DRAWS, generator=torch.Generator().manual_seed(0))
    fleet = distribution.sample(draws)
    vehicle.check(fleet, "sampled")
    weight = vehicle.thrust_to_weight(fleet)
    torch.testing.assert_close(weight, 1.5 + 3.5 * draws[:, 0], rtol=1e-4, atol=1e-4)
    root = fleet["mass"] ** (1 / 3)
    assert float(root.mean()) == pytest.approx((0.02 ** (1 / 3) + 5 ** (1 / 3)) / 2, rel=0.02)
    thrust = fleet["thrust_coefficients"][:, 0].sum(-1)
    arm = fleet["rotor_positions"][:, 0, 0] * 2**0.5
    torch.testing.assert_close(thrust * arm / fleet["inertia"][:, 0], 40 + 1160 * draws[:, 3], rtol=1e-3, atol=1e-2)
    share = fleet["force"].norm(dim=1) / (fleet["mass"] * 9.81 * (weight - 1))
    assert 0 < float(share.median()) < 0.3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mass": -0.03}, "mass -0.03 must be positive"),
        ({"mass": 0.2}, "thrust-to-weight ratio 0.22"),
        ({"mass": float("nan")}, "mass is not finite"),
        ({"rotor_positions": [[1, 1, 0]] * 3}, r"rotor_positions is \(3, 3\), a quadrotor needs numbers of shape \(4, 3\)"),
        ({"rotor_positions": [[1, 1, 0], [1, 1], [1, 1, 0], [1, 1, 0]]}, "uneven rows"),
        ({"rotor_directions": [[0, 0, 2]] * 4}, "unit vectors"),
        ({"inertia": [1e-5, 0.0, 1e-5]}, "inertia 0 must be positive"),
        ({"rise": 0.0}, "rise 0 must be positive"),
        ({"drag": [-0.1, 0.0, 0.0]}, "drag -0.1 must not be negative"),
    ],
)
def test_a_vehicle_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        vehicle.tensors(crazyflie(**changes), "vehicle test")


def test_an_unknown_vehicle_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no vehicle 'dragonfly'; there are .*crazyflie"):
        vehicle.load("dragonfly")


def test_a_range_the_wrong_way_round_is_refused(distribution: Distribution) -> None:
    with pytest.raises(ConfigError, match=r"vehicles.mass: \[5.0, 0.02\]"):
        Distribution(replace(distribution.config, mass=[5.0, 0.02]))
    with pytest.raises(ConfigError, match="cannot fly"):
        Distribution(replace(distribution.config, thrust_to_weight=[0.9, 2.0]))
