"""What a quadrotor is: named tensors, a table of real vehicles, and the distribution of RAPTOR (arXiv 2509.11481).

Rotors are numbered front right, back right, back left, front left; the first turns so that its drag torque is along -z.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor

from robot.core.config import typed
from robot.core.errors import ConfigError
from robot.core.paths import CONFIGS
from sim.quadrotor.dynamics import GRAVITY, Params

SIGNS = (-1.0, 1.0, -1.0, 1.0)
"""Sign of the torque along its own axis that each rotor's drag puts on the body."""


@dataclass
class VehicleConfig:
    mass: float
    """Take-off mass [kg]."""
    inertia: list[float]
    """Principal moments of inertia about x forward, y left, z up [kg m^2]."""
    rotor_positions: list[Any]
    """Four hubs from the centre of mass [m]: front right, back right, back left, front left."""
    rotor_directions: list[Any]
    """Four unit vectors that the rotors push the body along."""
    thrust_coefficients: list[float]
    """c0, c1, c2 of the thrust of one rotor c0 + c1 m + c2 m^2 [N] at the speed m in [0, 1]."""
    torque_constant: float
    """Drag torque of a rotor by its thrust [m]."""
    rise: float
    """Time constant of a motor that speeds up [s]."""
    fall: float
    """Time constant of a motor that slows down [s]."""
    drag: list[float]
    """Drag force by air speed along the body's axes [N s/m]."""


def names() -> list[str]:
    """The vehicles that have a yaml."""
    return sorted(file.stem for file in (CONFIGS / "vehicle").glob("*.yaml"))


def load(name: str) -> Params:
    """The vehicle of configs/vehicle/<name>.yaml as tensors with a batch of one."""
    file = CONFIGS / "vehicle" / f"{name}.yaml"
    if not file.exists():
        raise ConfigError(f"no vehicle '{name}'; there are {', '.join(names())}")
    return tensors(typed(VehicleConfig, OmegaConf.load(file), f"vehicle {name}"), f"vehicle {name}")


def tensors(vehicle: VehicleConfig, where: str) -> Params:
    """A checked vehicle as tensors (1, …), in still air and free of outer forces."""
    for key, length in (("rotor_positions", 4), ("rotor_directions", 4), ("inertia", 3), ("thrust_coefficients", 3), ("drag", 3)):
        shape = (length, 3) if key.startswith("rotor") else (length,)
        found = np.shape(getattr(vehicle, key)) if _even(getattr(vehicle, key)) else "uneven rows"
        if found != shape:
            raise ConfigError(f"{where}: {key} is {found}, a quadrotor needs numbers of shape {shape}")
    one = lambda value: torch.tensor(value, dtype=torch.float32)[None]  # noqa: E731
    params = {
        "mass": one(vehicle.mass),
        "inertia": one(vehicle.inertia),
        "rotor_positions": one(vehicle.rotor_positions),
        "rotor_directions": one(vehicle.rotor_directions),
        "thrust_coefficients": one([vehicle.thrust_coefficients] * 4),
        "torque_constants": vehicle.torque_constant * one(SIGNS),
        "rise": one([vehicle.rise] * 4),
        "fall": one([vehicle.fall] * 4),
        "drag": one(vehicle.drag),
        **{name: torch.zeros(1, 3) for name in ("force", "torque", "wind")},
    }
    check(params, where)
    return params


def _even(rows: list[Any]) -> bool:
    """Whether nested lists make an array of numbers."""
    return len({np.shape(row) for row in rows}) == 1 and all(isinstance(v, int | float) for v in np.ravel(rows).tolist())


def check(params: Params, where: str) -> None:
    """Raise a ConfigError that names what is wrong with vehicles."""
    for name, value in params.items():
        if not bool(torch.isfinite(value).all()):
            raise ConfigError(f"{where}: {name} is not finite")
    for name in ("mass", "inertia", "rise", "fall"):
        if float(params[name].min()) <= 0:
            raise ConfigError(f"{where}: {name} {float(params[name].min()):g} must be positive")
    if float(params["drag"].min()) < 0:
        raise ConfigError(f"{where}: drag {float(params['drag'].min()):g} must not be negative")
    length = params["rotor_directions"].norm(dim=-1)
    if float((length - 1).abs().max()) > 1e-3:
        raise ConfigError(f"{where}: rotor_directions must be unit vectors, one has length {float(length.flatten()[0]):g}")
    weight = float(thrust_to_weight(params).min())
    if weight <= 1:
        raise ConfigError(f"{where}: thrust-to-weight ratio {weight:.2f}; at or below 1 it cannot fly")


def thrust_to_weight(params: Params) -> Tensor:
    """Largest upward thrust by weight, (B,)."""
    lift = (params["thrust_coefficients"].sum(-1) * params["rotor_directions"][..., 2]).sum(-1)
    return lift / (params["mass"] * GRAVITY)


def hover_speed(params: Params) -> Tensor:
    """Rotor speed in [0, 1] at which four equal upright rotors carry the weight, (B,)."""
    c0, c1, c2 = params["thrust_coefficients"][:, 0].unbind(-1)
    rest = c0 - params["mass"] * GRAVITY / 4
    quadratic = (-c1 + torch.sqrt((c1 * c1 - 4 * c2 * rest).clamp_min(0))) / (2 * c2).clamp_min(1e-9)
    return torch.where(
        c2.abs() > 1e-6, torch.where(c2 > 0, quadratic, -2 * rest / (c1 + (c1 * c1 - 4 * c2 * rest).sqrt())), -rest / c1
    )


def arm_length(params: Params) -> Tensor:
    """Distance of the farthest rotor from the centre of mass [m], (B,)."""
    return params["rotor_positions"].norm(dim=-1).amax(-1)


@dataclass
class DistributionConfig:
    base: str
    """Vehicle that samples are scaled from."""
    thrust_to_weight: list[float]
    """Uniform range."""
    mass: list[float]
    """Range [kg]; uniform in its cube root, that is in size."""
    torque_to_inertia: list[float]
    """Uniform range of the largest roll acceleration [rad/s^2]."""
    size_mean: float
    """Mean of the relative deviation of size from that of equal density."""
    size_std: float
    """Its standard deviation; a deviation g scales by 1 + g, or by 1 / (1 - g) below zero."""
    torque_constant: list[float]
    """Uniform range [m]."""
    rise: list[float]
    """Uniform range [s]."""
    fall: list[float]
    """Uniform range [s]."""
    force: float
    """Largest standard deviation of the outer force, as a share of surplus thrust; 0.3 in the paper, 0 for none."""
    skew: float
    """1 draws as above; more makes low torque-to-inertia, that is vehicles that turn slowly, more frequent."""


class Distribution:
    """Samples vehicles; the paper's values as its code has them (facts of l2f's sampler, not the paper's rounder text)."""

    DRAWS = 12
    """Numbers in (0, 1) that one vehicle takes."""
    FORCE = 8
    """The first of them that belongs to the outer force, which changes from flight to flight."""

    def __init__(self, config: DistributionConfig) -> None:
        self.config, self.base = config, load(config.base)
        for name in ("thrust_to_weight", "mass", "torque_to_inertia", "torque_constant", "rise", "fall"):
            low, high = getattr(config, name)
            if not 0 < low <= high:
                raise ConfigError(f"vehicles.{name}: [{low}, {high}] must be positive and rising")
        if config.thrust_to_weight[0] <= 1:
            raise ConfigError(f"vehicles.thrust_to_weight: {config.thrust_to_weight[0]} is no more than 1: it cannot fly")

    def sample(self, draws: Tensor) -> Params:
        """Vehicles (N, …) with a constant outer force each, from independent uniform draws (N, 12) in (0, 1)."""
        config, base, n = self.config, self.base, len(draws)
        span = lambda k, low, high: low + (high - low) * draws[:, k]  # noqa: E731
        weight = span(0, *config.thrust_to_weight)
        mass = span(1, *(value ** (1 / 3) for value in config.mass)) ** 3
        deviation = config.size_mean + config.size_std * normal(draws[:, 2])
        factor = torch.where(deviation < 0, 1 / (1 - deviation), 1 + deviation)
        size = (mass / base["mass"]) ** (1 / 3) * factor
        low, high = config.torque_to_inertia
        agility = low + (high - low) * draws[:, 3] ** config.skew
        arm = base["rotor_positions"][0, 0, 0].abs() * math.sqrt(2)
        inertia_x = weight * mass * GRAVITY / 4 * arm * size / agility
        spread = config.force * (weight - 1).clamp_min(0) * draws[:, 4] * weight * mass / 3
        shape = lambda name: base[name].expand(n, *base[name].shape[1:]).clone()  # noqa: E731
        thrust = shape("thrust_coefficients") * (weight / thrust_to_weight(base) * mass / base["mass"])[:, None, None]
        return {
            "mass": mass,
            "inertia": base["inertia"] / base["inertia"][:, :1] * inertia_x[:, None],
            "rotor_positions": base["rotor_positions"] * size[:, None, None],
            "rotor_directions": shape("rotor_directions"),
            "thrust_coefficients": thrust,
            "torque_constants": torch.sign(base["torque_constants"]) * span(5, *config.torque_constant)[:, None],
            "rise": span(6, *config.rise)[:, None].repeat(1, 4),
            "fall": span(7, *config.fall)[:, None].repeat(1, 4),
            "drag": shape("drag"),
            "force": normal(draws[:, 8:11]) * spread[:, None],
            "torque": torch.zeros(n, 3),
            "wind": torch.zeros(n, 3),
        }


def normal(u: Tensor) -> Tensor:
    """Standard normal numbers from uniform ones in (0, 1)."""
    return math.sqrt(2) * torch.erfinv(2 * u.clamp(1e-6, 1 - 1e-6) - 1)


def stack(vehicles: list[Params]) -> Params:
    """One batch of several."""
    return {name: torch.cat([vehicle[name] for vehicle in vehicles]) for name in vehicles[0]}


def select(params: Params, index: Any) -> Params:
    """The vehicles of an index."""
    return {name: value[index] for name, value in params.items()}
