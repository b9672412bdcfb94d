"""Many small actor-critics at once, a specialist for each vehicle: teachers that learn by reinforcement.

World i of B belongs to specialist i // (B / size). Weights are stacked, so that all of them think and learn in the same few
products of matrices. Each is a perceptron without memory that is told what a student has to find out: the outer push.
"""

import math
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from policies.policy import Memory, Observation, Plan, Policy
from robot.core.errors import ConfigError
from robot.core.interface import Interface

SEEN, OUTER, MOTORS = 22, 3, 4
SCALES = (2.0, 1.0, 1.0, 0.2, 1.0, 0.5)
"""By [1/m], [1], [s/m], [s/rad], [1] and [s^2/m]: makes position, rotation, velocity, rate, last action and push of order one."""


@dataclass
class EnsembleConfig:
    size: int
    """Specialists."""
    hidden: int
    """Width of both hidden layers of each actor and each critic."""
    spread: float
    """Standard deviation of the motor commands, which reach from -1 to 1, that learning starts to explore with."""


class Ensemble(Policy):
    """Gaussian actors of which the mean is flown, and critics that see the same. All start alike, so that they can learn as one.

    Attributes:
        actor, critic: matrices and biases of three layers in turn, (size, out, in) and (size, out).
        spread: logarithm of the standard deviation of commands, (size, 4).
    """

    alone = False

    def __init__(self, config: EnsembleConfig, interface: Interface, env: Any = None) -> None:
        """`env` tells the push of its worlds while the policy is played in it; without one there is taken to be none."""
        super().__init__(interface)
        if config.size < 1 or config.hidden < 1 or config.spread <= 0:
            raise ConfigError(
                f"policy: size={config.size} and hidden={config.hidden} must be at least 1, spread={config.spread} positive"
            )
        if list(interface.names) != ["position", "rotation", "velocity", "rate", "last_action"]:
            raise ConfigError(f"an Ensemble flies what env=quadrotor shows, not {', '.join(interface.names)}")
        self.config = config
        self._env = None if env is None else weakref.ref(env)
        self.actor = nn.ParameterList(_layers(config.size, (SEEN + OUTER, config.hidden, config.hidden, MOTORS), 0.01))
        self.critic = nn.ParameterList(_layers(config.size, (SEEN + OUTER, config.hidden, config.hidden, 1), 1.0))
        self.spread = nn.Parameter(torch.full((config.size, MOTORS), math.log(config.spread)))

    def prepare(self, observation: Observation, memory: Memory) -> tuple[dict[str, Tensor], Memory]:
        seen = torch.cat([observation[name].flatten(1) for name in self.interface.names], dim=1)
        env = None if self._env is None else self._env()
        return {"state": seen, "outer": torch.zeros(len(seen), OUTER) if env is None else push(env)}, memory

    def decide(self, inputs: dict[str, Tensor], memory: Memory, noise: Tensor | None = None) -> Plan:
        commands, memory = self.follow(inputs["state"][None], inputs["outer"], memory)
        return Plan(commands.clamp(-1, 1)[0].unflatten(1, self.interface.action.shape)[:, None], memory)

    def follow(self, seen: Tensor, outer: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Mean commands (T, B, 4), not clipped, along observations (T, B, 22) under pushes (B, 3) [m/s^2]; no memory.

        Raises:
            ConfigError: B is no multiple of the number of specialists.
        """
        told = self.told(seen, outer.expand(len(seen), -1, -1))
        return self.ungroup(perceptron(self.group(told), self.actor), len(seen)), memory

    def choose(self, numbers: Tensor) -> "Ensemble":
        """An ensemble of some of these specialists, in this order."""
        chosen = Ensemble(replace(self.config, size=len(numbers)), self.interface, None if self._env is None else self._env())
        chosen.load_state_dict({name: value[numbers] for name, value in self.state_dict().items()})
        return chosen

    def told(self, seen: Tensor, outer: Tensor) -> Tensor:
        """What the perceptrons get, (..., 25), of observations (..., 22) and pushes (..., 3) [m/s^2] in the world.

        Position, velocity and push are turned into the body's frame, in which a vehicle answers alike whatever its attitude.
        """
        position, rotation, velocity, rate, last = seen.split([3, 9, 3, 3, 4], dim=-1)
        matrix = rotation.unflatten(-1, (3, 3))
        body = torch.stack([position * SCALES[0], velocity * SCALES[2], outer * SCALES[5]], dim=-2) @ matrix
        return torch.cat([body.flatten(-2), rotation * SCALES[1], rate * SCALES[3], last * SCALES[4]], dim=-1)

    def group(self, rows: Tensor) -> Tensor:
        """Rows of worlds (T, B, F), each specialist's together: (size, T * B / size, F)."""
        n, worlds = self.config.size, rows.shape[1]
        if worlds % n:
            raise ConfigError(f"{worlds} worlds cannot be shared equally by {n} specialists: take a multiple for env.num_envs")
        return rows.unflatten(1, (n, -1)).transpose(0, 1).flatten(1, 2)

    def ungroup(self, rows: Tensor, steps: int) -> Tensor:
        """The inverse of `group`: (size, T * B / size, F) to (T, B, F)."""
        return rows.unflatten(1, (steps, -1)).transpose(0, 1).flatten(1, 2)

    def parts(self) -> tuple[Tensor, ...]:
        """All weights, (size, …) each: six of the actor, six of the critic, the spread."""
        return (*self.actor, *self.critic, self.spread)


def perceptron(x: Tensor, layers: Iterable[Tensor]) -> Tensor:
    """Outputs (n, m, out) of n perceptrons with tanh units for m inputs each, (n, m, in); layers: matrix, bias, matrix, …"""
    parts = list(layers)
    for k in range(0, len(parts), 2):
        x = torch.baddbmm(parts[k + 1][:, None], torch.tanh(x) if k else x, parts[k].mT)
    return x


def push(env: Any) -> Tensor:
    """Outer force by mass of every world of a quadrotor env, (B, 3) [m/s^2]."""
    return env.params["force"] / env.params["mass"][:, None]


def _layers(n: int, widths: Sequence[int], last: float) -> list[Tensor]:
    """The same orthogonal matrices for all n, the last times `last`, and biases of zero."""
    layers = []
    for k in range(len(widths) - 1):
        matrix = torch.empty(widths[k + 1], widths[k])
        nn.init.orthogonal_(matrix, last if k == len(widths) - 2 else 5 / 3)
        layers += [matrix.expand(n, -1, -1).clone(), torch.zeros(n, widths[k + 1])]
    return layers
