"""Many RAPTOR-sized policies at once, a specialist for each vehicle: the teachers that a student is distilled from.

World i of B belongs to specialist i // (B / size). Weights are stacked, so that all of them learn in one pass.
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policies.policy import Memory, Observation, Plan, Policy
from policies.raptor import Raptor, RaptorConfig
from robot.core.errors import ConfigError
from robot.core.interface import Interface


@dataclass
class FleetConfig:
    size: int
    """Specialists."""
    width: int
    """Width of the input layer of each."""
    hidden: int
    """Width of the GRU of each."""


class Fleet(Policy):
    alone = False

    def __init__(self, config: FleetConfig, interface: Interface) -> None:
        super().__init__(interface)
        if config.size < 1:
            raise ConfigError(f"policy.size={config.size}: a fleet has at least one specialist")
        self.config, n, w, h = config, config.size, config.width, config.hidden
        one = Raptor(RaptorConfig(w, h, True), interface)
        inputs, outputs = one.embed.in_features, one.head.out_features
        draw = lambda fan, *shape: nn.Parameter(torch.empty(n, *shape).uniform_(-1 / math.sqrt(fan), 1 / math.sqrt(fan)))  # noqa: E731
        self.embed, self.embed_bias = draw(inputs, w, inputs), draw(inputs, w)
        self.inner, self.inner_bias = draw(h, 3 * h, w), draw(h, 3 * h)
        self.outer, self.outer_bias = draw(h, 3 * h, h), draw(h, 3 * h)
        self.head, self.head_bias = (
            nn.Parameter(torch.empty(n, outputs, h).uniform_(-0.01, 0.01)),
            nn.Parameter(torch.zeros(n, outputs)),
        )
        self.first = nn.Parameter(torch.zeros(n, h))

    def initial_memory(self, batch: int) -> Memory:
        return {"hidden": torch.zeros(batch, self.config.hidden)}

    def weights(self) -> tuple[Tensor, ...]:
        """Matrices and biases of embed, GRU input, GRU state and head, each (size, …)."""
        return (
            self.embed, self.embed_bias, self.inner, self.inner_bias, self.outer, self.outer_bias, self.head, self.head_bias,
        )  # fmt: skip

    def firsts(self) -> Tensor:
        """The first states, (size, H)."""
        return self.first

    def prepare(self, observation: Observation, memory: Memory) -> tuple[dict[str, Tensor], Memory]:
        parts = [observation[name].flatten(1) for name in self.interface.names]
        return {"state": torch.cat(parts, dim=1)}, memory

    def decide(self, inputs: dict[str, Tensor], memory: Memory, noise: Tensor | None = None) -> Plan:
        state = inputs["state"]
        commands, memory = self.follow(state[None], torch.zeros(len(state), 3), memory)
        return Plan(commands.clamp(-1, 1)[0].unflatten(1, self.interface.action.shape)[:, None], memory)

    def follow(self, seen: Tensor, outer: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Commands (T, B, 4), not clipped, along observations (T, B, 22) whoever flew, and the memory after them.

        The pushes (B, 3) [m/s^2] are for teachers that are told; a fleet finds them out.

        Raises:
            ConfigError: B is no multiple of the fleet's size.
        """
        n, (steps, worlds) = self.config.size, seen.shape[:2]
        if worlds % n:
            raise ConfigError(f"{worlds} worlds cannot be shared equally by {n} specialists: take a multiple for env.num_envs")
        linear = lambda x, w, b: torch.baddbmm(b[:, None], x, w.mT)  # noqa: E731
        gather = lambda x: x.unflatten(1, (n, -1)).transpose(0, 1).flatten(1, 2)  # noqa: E731
        inner = linear(F.relu(linear(gather(seen), self.embed, self.embed_bias)), self.inner, self.inner_bias)
        h, states = memory["hidden"].unflatten(0, (n, -1)) + self.first[:, None], []
        for a in inner.unflatten(1, (steps, -1)).unbind(1):
            b = linear(h, self.outer, self.outer_bias)
            k = 2 * self.config.hidden
            r, z = torch.sigmoid(a[..., :k] + b[..., :k]).chunk(2, dim=2)
            h = torch.lerp(torch.tanh(torch.addcmul(a[..., k:], r, b[..., k:])), h, z)
            states.append(h)
        commands = linear(torch.cat(states, dim=1), self.head, self.head_bias)
        after = (h - self.first[:, None]).flatten(0, 1)
        return commands.unflatten(1, (steps, -1)).transpose(0, 1).flatten(1, 2), {"hidden": after}

    def choose(self, numbers: Tensor) -> "Fleet":
        """A fleet of some of these specialists, in this order."""
        chosen = Fleet(replace(self.config, size=len(numbers)), self.interface)
        chosen.load_state_dict({name: value[numbers] for name, value in self.state_dict().items()})
        return chosen
