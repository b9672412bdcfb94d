"""RAPTOR (arXiv 2509.11481): one tiny recurrent policy for any quadrotor; what it flies it finds out in its memory.

Linear 22 to 16 with ReLU, a GRU of 16 whose first state is learned, Linear 16 to 4: 2,084 parameters (section 3 of the paper).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policies.policy import Memory, Observation, Plan, Policy
from robot.core.errors import ConfigError
from robot.core.interface import Interface


@dataclass
class RaptorConfig:
    width: int
    """Width of the input layer."""
    hidden: int
    """Width of the GRU."""
    recurrent: bool
    """Whether the memory is kept; false forgets it at every step, the control that cannot adapt."""


class Raptor(Policy):
    """Its memory is the GRU's state beyond the learned first one, so that it is zero at the start of a flight."""

    def __init__(self, config: RaptorConfig, interface: Interface) -> None:
        super().__init__(interface)
        if config.width % 8 or config.hidden % 8 or config.width < 8 or config.hidden < 8:
            raise ConfigError(f"policy.width={config.width} and policy.hidden={config.hidden} must be multiples of 8")
        self.config = config
        size = sum(torch.Size(field.shape).numel() for field in interface.observation)
        self.embed = nn.Linear(size, config.width)
        self.gru = nn.GRUCell(config.width, config.hidden)
        self.first = nn.Parameter(torch.zeros(config.hidden))
        self.head = nn.Linear(config.hidden, torch.Size(interface.action.shape).numel())
        nn.init.uniform_(self.head.weight, -0.01, 0.01)
        nn.init.zeros_(self.head.bias)

    def initial_memory(self, batch: int) -> Memory:
        return {"hidden": torch.zeros(batch, self.config.hidden)}

    def prepare(self, observation: Observation, memory: Memory) -> tuple[dict[str, Tensor], Memory]:
        parts = [observation[name].flatten(1) for name in self.interface.names]
        return {"state": torch.cat(parts, dim=1)}, memory

    def decide(self, inputs: dict[str, Tensor], memory: Memory, noise: Tensor | None = None) -> Plan:
        command, after = self.command(inputs["state"], memory["hidden"])
        return Plan(command.clamp(-1, 1).unflatten(1, self.interface.action.shape)[:, None], {"hidden": after})

    def command(self, state: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Motor commands (B, 4) before they are clipped, from observations (B, 22), and the next memory (B, H)."""
        after = self.gru(F.relu(self.embed(state)), hidden + self.first)
        kept = after - self.first if self.config.recurrent else torch.zeros_like(after)
        return self.head(after), kept

    def weights(self) -> tuple[Tensor, ...]:
        """Matrices and biases of embed, GRU input, GRU state and head, as of a fleet of one: each (1, …)."""
        gru = self.gru
        parts = (self.embed.weight, self.embed.bias, gru.weight_ih, gru.bias_ih, gru.weight_hh, gru.bias_hh)
        return tuple(part[None] for part in (*parts, self.head.weight, self.head.bias))

    def firsts(self) -> Tensor:
        """The first state, (1, H)."""
        return self.first[None]

    def export(self) -> nn.Module:
        return Exported(self)


class Exported(nn.Module):
    """One step as a graph: observation fields and memory to motor commands and memory."""

    def __init__(self, policy: Raptor) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, observation: dict[str, Tensor], memory: Memory, noise: Tensor) -> dict[str, Tensor]:
        plan = self.policy.plan(observation, memory)
        return {"action": plan.actions, **plan.memory}
