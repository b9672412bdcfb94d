"""Where a quadrotor starts, what it is to follow, and what happens to it on the way. Every number comes from draws in (0, 1)."""

import math
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from sim.quadrotor.dynamics import STATE, Params
from sim.quadrotor.vehicle import arm_length, normal


class Task(Enum):
    hold = "hold"
    figure_eight = "figure_eight"
    lissajous = "lissajous"
    random = "random"


@dataclass
class StartConfig:
    position: float
    """Largest offset from the reference along each axis [m]."""
    position_arms: float
    """Further offset, in arm lengths of the vehicle."""
    angle: float
    """Largest tilt about a random axis [rad]."""
    velocity: float
    """Largest speed along each axis [m/s]."""
    rate: float
    """Largest body rate about each axis [rad/s]."""
    rotor: float
    """Largest rotor speed, in [0, 1]."""
    guidance: float
    """Share of episodes that start upright at rest on the reference."""
    wild: float
    """Share of episodes that start in any attitude, tumbling and thrown."""
    wild_velocity: float
    """Largest speed along each axis of these [m/s]."""
    wild_rate: float
    """Largest body rate about each axis of these [rad/s]."""

    DRAWS = 20


def start(config: StartConfig, params: Params, draws: Tensor) -> Tensor:
    """States (N, 17) relative to the reference, from draws (N, 20): uniform in a box, tilted about a uniform axis."""
    n = len(draws)
    signed = 2 * draws - 1
    guided = (draws[:, 0] < config.guidance)[:, None]
    reach = config.position + config.position_arms * arm_length(params)
    axis = normal(draws[:, 4:7])
    axis = axis / axis.norm(dim=1, keepdim=True).clamp_min(1e-6)
    wild = (draws[:, 18] > 1 - config.wild)[:, None]
    severity = draws[:, 19:20]
    half = torch.where(wild, math.pi, config.angle) * draws[:, 7:8] / 2
    state = torch.zeros(n, STATE)
    state[:, 0:3] = signed[:, 1:4] * reach[:, None]
    state[:, 3:4], state[:, 4:7] = torch.cos(half), torch.sin(half) * axis
    state[:, 7:10] = torch.where(wild, config.wild_velocity * severity, config.velocity) * signed[:, 8:11]
    state[:, 10:13] = torch.where(wild, config.wild_rate * severity, config.rate) * signed[:, 11:14]
    upright = torch.zeros(STATE)
    upright[3] = 1
    state = torch.where(guided, upright, state)
    state[:, 13:17] = config.rotor * draws[:, 14:18]
    return state


@dataclass
class ReferenceConfig:
    task: Task
    """hold: stay at the origin; figure_eight: in a plane; lissajous: in space; random: a smooth path, another each time."""
    period: list[float]
    """Range of the time of one round [s]."""
    size: list[float]
    """Extent along x, y, z [m]."""
    moving: float
    """Share of episodes whose reference moves; in the others it stays."""

    DRAWS = 25


class Reference:
    """A path as a sum of three sines an axis: amplitudes, frequencies and phases (B, 3, 3)."""

    def __init__(self, worlds: int) -> None:
        self.amplitude = torch.zeros(worlds, 3, 3)
        self.omega = torch.ones(worlds, 3, 3)
        self.phase = torch.zeros(worlds, 3, 3)

    def begin(self, ids: Tensor, config: ReferenceConfig, draws: Tensor) -> None:
        """New paths for the worlds `ids` (K,), from draws (K, 25)."""
        half = torch.tensor(config.size)[:, None] / 2
        low, high = config.period
        base = (2 * math.pi / (low + (high - low) * draws[:, :1]))[..., None]
        amplitude, omega, phase = torch.zeros(len(ids), 3, 3), base.expand(-1, 3, 3).clone(), torch.zeros(len(ids), 3, 3)
        if config.task in (Task.figure_eight, Task.lissajous):
            amplitude[:, :, 0] = half[:, 0]
            omega[:, 1, 0] *= 2
            if config.task is Task.lissajous:
                omega[:, 2, 0] *= 3
                phase[:, :, 0] = 2 * math.pi * draws[:, 1:4]
        elif config.task is Task.random:
            share = draws[:, 6:15].unflatten(1, (3, 3)) + 0.1
            amplitude = half * share / share.sum(-1, keepdim=True)
            omega = omega * (0.5 + 1.5 * torch.roll(draws, 3, 1)[:, 6:15].unflatten(1, (3, 3)))
            phase = 2 * math.pi * draws[:, 15:24].unflatten(1, (3, 3))
        amplitude = amplitude * (draws[:, 24] < config.moving)[:, None, None]
        for name, value in (("amplitude", amplitude), ("omega", omega), ("phase", phase)):
            getattr(self, name)[ids] = value

    def at(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """Position [m] and velocity [m/s] (B, 3) at times (B,) [s] after the start."""
        angle = self.omega * time[:, None, None] + self.phase
        return (self.amplitude * torch.sin(angle)).sum(-1), (self.amplitude * self.omega * torch.cos(angle)).sum(-1)


@dataclass
class EventConfig:
    time: list[float]
    """Range of the time it happens at, once an episode [s]."""
    push: float
    """Velocity that a push in a random direction gives [m/s]."""
    payload: float
    """Mass taken up at the centre, by the vehicle's own."""
    loss: float
    """Share of thrust that one random motor loses."""
    propeller: float
    """Thrust and drag torque of all rotors change by up to this share."""

    DRAWS = 8


def happen(config: EventConfig, params: Params, ids: Tensor, draws: Tensor) -> Tensor:
    """Change the vehicles `ids` (K,) as the event says, from draws (K, 8); returns what is added to velocities, (K, 3)."""
    direction = normal(draws[:, 1:4])
    direction = direction / direction.norm(dim=1, keepdim=True).clamp_min(1e-6)
    params["mass"][ids] *= 1 + config.payload
    rotor = (4 * draws[:, 4]).long().clamp_max(3)
    factor = torch.ones(len(ids), 4)
    factor[torch.arange(len(ids)), rotor] -= config.loss
    change = 1 + config.propeller * (2 * draws[:, 5:6] - 1)
    params["thrust_coefficients"][ids] *= (factor * change)[..., None]
    params["torque_constants"][ids] *= 1 + config.propeller * (2 * draws[:, 6:7] - 1)
    return config.push * direction
