"""Frames of observations as features of about unit size: geometry that is known and so need not be learnt."""

from dataclasses import dataclass

import torch
from torch import Tensor

from policies.policy import Observation
from robot.core.errors import ConfigError
from robot.core.interface import Interface


@dataclass
class PlanarPushConfig:
    middle: float
    """Coordinate of the table's middle [px], which is also the scale of positions."""
    speed: float
    """Scale of velocities [px/s], 0 to leave them out."""
    near_position: float
    """Error of position at which the finer reading saturates [px]."""
    near_angle: float
    """The same for the angle [rad]."""


class PlanarPush:
    """For a disc that pushes a block in the plane: fields agent, agent_velocity, block and goal of env `pusht`."""

    def __init__(self, config: PlanarPushConfig, interface: Interface) -> None:
        self.config = config
        _need(interface, ["agent", "block", "goal", *(["agent_velocity"] if config.speed else [])])
        self.size = 17 + 2 * bool(config.speed)

    def __call__(self, observation: Observation) -> Tensor:
        """(B, size): where things are, the agent seen from the block, the goal seen from the block, finely where it is near."""
        config, agent, block, goal = self.config, observation["agent"], observation["block"], observation["goal"]
        turn = goal[:, 2:] - block[:, 2:]
        error = goal[:, :2] - block[:, :2]
        angle = torch.atan2(turn.sin(), turn.cos())
        parts = [
            (agent - config.middle) / config.middle, (block[:, :2] - config.middle) / config.middle,
            block[:, 2:].cos(), block[:, 2:].sin(),
            _seen(agent - block[:, :2], block[:, 2:]) / 100.0, _seen(error, block[:, 2:]) / 100.0,
            turn.cos(), turn.sin(), torch.tanh(error / config.near_position), torch.tanh(angle / config.near_angle),
            _seen(agent - goal[:, :2], goal[:, 2:]) / 100.0,
        ]  # fmt: skip
        if config.speed:
            parts.append(observation["agent_velocity"] / config.speed)
        return torch.cat(parts, dim=1)


@dataclass
class FlatConfig:
    scale: dict[str, float]
    """Fields used, in this order, each with the size of its values."""
    offset: dict[str, list[float]]
    """What is subtracted first from a field, one value or one an element; fields not named have none."""
    differences: list[list[str]]
    """Pairs of fields whose difference, first minus second, is a feature too, with the scale of the first."""
    finer: float
    """Differences are also given as tanh of themselves so many times larger; 0 for not."""


class Flat:
    """Any fields of numbers, flattened."""

    def __init__(self, config: FlatConfig, interface: Interface) -> None:
        self.config = config
        _need(interface, [*config.scale, *(name for pair in config.differences for name in pair)])
        size = {name: int(torch.Size(interface.field(name).shape).numel()) for name in interface.names}
        self.size = sum(size[name] for name in config.scale)
        self.size += sum(size[pair[0]] for pair in config.differences) * (2 if config.finer else 1)

    def __call__(self, observation: Observation) -> Tensor:
        """(B, size)."""
        config, parts = self.config, []
        for name, scale in config.scale.items():
            value = observation[name].flatten(1)
            if name in config.offset:
                value = value - value.new_tensor(config.offset[name])
            parts.append(value / scale)
        for first, second in config.differences:
            value = (observation[first] - observation[second]).flatten(1) / config.scale.get(first, 1.0)
            parts += [value, torch.tanh(config.finer * value)] if config.finer else [value]
        return torch.cat(parts, dim=1)


def _need(interface: Interface, names: list[str]) -> None:
    missing = [name for name in names if name not in interface.names]
    if missing:
        raise ConfigError(f"policy.features: no observation {missing}; the env observes {list(interface.names)}")


def _seen(vector: Tensor, angle: Tensor) -> Tensor:
    """Vectors (B, 2) of frame w in a frame turned by angle (B, 1)."""
    c, s = angle.cos(), angle.sin()
    return torch.cat([c * vector[:, :1] + s * vector[:, 1:], -s * vector[:, :1] + c * vector[:, 1:]], dim=1)
