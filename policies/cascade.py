"""A cascade of classical controllers that knows its vehicle: position, velocity, attitude, body rates, motors.

The attitude loop is geometric (Lee, Leok and McClamroch, CDC 2010) with the tilt corrected before the yaw (Brescianini and
D'Andrea, 2013); it asks for no more angular acceleration than the motors give, brakes in time, and the mixer gives up yaw
first and lift second. Motor lag is known and led against. A strong baseline: it is told what RAPTOR has to find out.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from policies.policy import Memory, Observation, Plan, Policy
from robot.core.errors import ConfigError
from robot.core.interface import Interface

GRAVITY = 9.81
Params = dict[str, Tensor]


@dataclass
class CascadeConfig:
    attitude: float
    """Bandwidth of the attitude loop by the inverse of the slower motor time constant, after lead."""
    authority: float
    """Largest share of the angular acceleration that the motors can give which the attitude loop asks for."""
    separation: float
    """Bandwidth of the attitude loop by that of the position loop."""
    fastest: float
    """Largest bandwidth of the position loop [rad/s]."""
    damping: float
    """Damping ratio of the position loop."""
    integral: float
    """Gain of the integral by the cube of the position loop's bandwidth."""
    speed: float
    """Largest speed along an axis that is asked for, relative to the reference [m/s]."""
    tilt: float
    """Largest tilt that is asked for [rad]."""
    lead: float
    """Time constant that motors are led to [s]."""


class Cascade(Policy):
    """Memory: integral (B, 3) [m s], motors (B, 4) the rotor speeds as it believes them to be."""

    alone = False

    def __init__(self, config: CascadeConfig, interface: Interface, env: Any) -> None:
        super().__init__(interface)
        if "thrust_coefficients" not in getattr(env, "nominal", {}):
            raise ConfigError("policy=cascade reads the vehicle's parameters: it flies env=quadrotor and nothing else")
        self.config, self.env = config, env

    def initial_memory(self, batch: int) -> Memory:
        return {"integral": torch.zeros(batch, 3), "motors": torch.full((batch, 4), 0.25)}

    def prepare(self, observation: Observation, memory: Memory) -> tuple[dict[str, Tensor], Memory]:
        return {name: observation[name] for name in self.interface.names}, memory

    def decide(self, inputs: dict[str, Tensor], memory: Memory, noise: Tensor | None = None) -> Plan:
        """Raises ConfigError where the batch is not the env's: the vehicles are read from there."""
        params, config, dt = self.env.nominal, self.config, self.interface.dt
        if len(inputs["position"]) != len(params["mass"]):
            raise ConfigError(f"{len(inputs['position'])} observations of {len(params['mass'])} vehicles: cascade needs all")
        limit, force = authority(params), lift(params)
        lag = torch.maximum(params["rise"].amax(1), params["fall"].amax(1)).clamp_max(0.15)
        quick = lag.clamp_max(config.lead) + 0.25 * (lag - config.lead).clamp_min(0)
        tilt = torch.minimum(config.attitude / quick, (2 * config.authority * limit[:, :2].amin(1)).sqrt())
        slow = (tilt / config.separation).clamp_max(config.fastest)[:, None]
        wanted = self._accelerate(inputs, memory["integral"], slow, force / params["mass"])
        level = inputs["rotation"][:, :, 2]
        angular = self._turn(inputs, wanted, tilt[:, None], limit)
        thrust = params["mass"] * (wanted * level).sum(1)
        torque = params["inertia"] * angular
        torque = torque + torch.linalg.cross(inputs["rate"], params["inertia"] * inputs["rate"])
        speeds = invert(params, mix(params, thrust, torque))
        command, motors = lead(params, memory["motors"], speeds, config.lead, dt)
        near = (inputs["position"].norm(dim=1, keepdim=True) < 1.0).float()
        integral = (memory["integral"] + near * inputs["position"] * dt).clamp(-2, 2)
        action = (2 * command - 1).clamp(-1, 1)
        return Plan(action[:, None], {"integral": integral, "motors": motors})

    def _accelerate(self, inputs: dict[str, Tensor], integral: Tensor, slow: Tensor, most: Tensor) -> Tensor:
        """Specific force (B, 3) that the position loop asks for [m/s^2], in reach of tilt and thrust."""
        config = self.config
        speed = (-slow / (2 * config.damping) * inputs["position"]).clamp(-config.speed, config.speed)
        pull = 2 * config.damping * slow * (speed - inputs["velocity"]) - config.integral * slow**3 * integral
        up = (pull[:, 2:] + GRAVITY).clamp_min(0.3 * GRAVITY).minimum(0.95 * most[:, None])
        flat = pull[:, :2]
        room = torch.minimum(math.tan(config.tilt) * up, (0.95 * most[:, None] ** 2 - up**2).clamp_min(0.01).sqrt())
        return torch.cat([flat * (room / flat.norm(dim=1, keepdim=True).clamp_min(1e-6)).clamp_max(1), up], dim=1)

    def _turn(self, inputs: dict[str, Tensor], wanted: Tensor, quick: Tensor, limit: Tensor) -> Tensor:
        """Angular acceleration (B, 3) [rad/s^2] that takes the body's z axis to `wanted` and the yaw to zero."""
        matrix, rate = inputs["rotation"], inputs["rate"]
        goal = wanted / wanted.norm(dim=1, keepdim=True)
        body = (matrix.mT @ goal[..., None])[..., 0]
        flat = torch.stack([-body[:, 1], body[:, 0]], dim=1)
        length = flat.norm(dim=1, keepdim=True)
        angle = torch.atan2(length, body[:, 2:])
        axis = torch.where(length > 1e-6, flat / length.clamp_min(1e-6), torch.tensor([1.0, 0.0]))
        heading = -torch.atan2(matrix[:, 1, 0], matrix[:, 0, 0])[:, None]
        error = torch.cat([angle * axis, heading * matrix[:, 2:, 2].clamp_min(0)], dim=1)
        gain = torch.cat([quick, quick, (quick / 3).minimum((limit[:, 2:]).sqrt())], dim=1)
        brake = (2 * 0.5 * limit * error.abs()).sqrt()
        aim = torch.sign(error) * torch.minimum(gain / 2 * error.abs(), brake)
        return (2 * gain * (aim - rate)).maximum(-limit).minimum(limit)


def mixer(params: Params) -> Tensor:
    """(B, 4, 4) from the thrusts of the rotors to lift and body torques."""
    directions = params["rotor_directions"]
    arms = torch.linalg.cross(params["rotor_positions"], directions)
    torque = arms + params["torque_constants"][..., None] * directions
    return torch.cat([directions[..., 2:].mT, torque.mT], dim=1)


def bounds(params: Params) -> tuple[Tensor, Tensor]:
    """Smallest and largest thrust of each rotor, (B, 4) each [N]."""
    return params["thrust_coefficients"][..., 0], params["thrust_coefficients"].sum(-1)


def lift(params: Params) -> Tensor:
    """Largest upward thrust, (B,) [N]."""
    return (bounds(params)[1] * params["rotor_directions"][..., 2]).sum(1)


def authority(params: Params) -> Tensor:
    """Largest angular acceleration about each axis with half of the thrust range, (B, 3) [rad/s^2]."""
    low, high = bounds(params)
    return (mixer(params)[:, 1:].abs() * (high - low)[:, None]).sum(2) / 2 / params["inertia"]


def mix(params: Params, thrust: Tensor, torque: Tensor) -> Tensor:
    """Thrusts of the rotors (B, 4) for lift (B,) and torque (B, 3): out of reach, yaw gives way first, lift second."""
    inverse = torch.linalg.inv(mixer(params))
    low, high = bounds(params)
    roll = (inverse[:, :, 1:3] @ torque[:, :2, None])[..., 0]
    roll = roll * ((high - low).amin(1) / (roll.amax(1) - roll.amin(1)).clamp_min(1e-9)).clamp_max(1)[:, None]
    column = inverse[:, :, 0]
    least, most = ((low - roll) / column).amax(1), ((high - roll) / column).amin(1)
    base = roll + column * thrust.clamp_min(0).maximum(least).minimum(most)[:, None]
    yaw = inverse[:, :, 3] * torque[:, 2:]
    room = torch.where(yaw > 0, high - base, base - low).clamp_min(0)
    share = (room / yaw.abs().clamp_min(1e-9)).amin(1).clamp_max(1)
    return base + share[:, None] * yaw


def invert(params: Params, thrusts: Tensor) -> Tensor:
    """Rotor speeds (B, 4) in [0, 1] that give thrusts (B, 4) [N]."""
    c0, c1, c2 = params["thrust_coefficients"].unbind(-1)
    rest = thrusts - c0
    root = (c1 * c1 + 4 * c2 * rest).clamp_min(0).sqrt()
    return (2 * rest / (c1 + root).clamp_min(1e-9)).clamp(0, 1)


def lead(params: Params, motors: Tensor, speeds: Tensor, constant: float, dt: float) -> tuple[Tensor, Tensor]:
    """Set-points (B, 4) that take the rotors to `speeds` as if their time constant were `constant`, and where they will be."""
    lag = torch.where(speeds > motors, params["rise"], params["fall"])
    command = (motors + (speeds - motors) * (lag / constant).clamp_min(1)).clamp(0, 1)
    lag = torch.where(command > motors, params["rise"], params["fall"])
    return command, motors + (command - motors) * (1 - torch.exp(-dt / lag))
