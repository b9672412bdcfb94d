"""RAPTOR (arXiv 2509.11481): one tiny recurrent policy for any quadrotor; what it flies it finds out in its memory.

Linear 22 to 16 with ReLU, a GRU of 16 whose first state is learned, Linear 16 to 4: 2,084 parameters (section 3 of the paper).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policies.policy import Memory, Observation, Plan, Policy
from robot.core.interface import Interface


@dataclass
class RaptorConfig:
    width: int
    """Width of the input layer."""
    hidden: int
    """Width of the GRU; 0 puts a linear layer with ReLU in its place, a policy without memory."""
    layers: int
    """GRUs on top of each other."""


class Raptor(Policy):
    def __init__(self, config: RaptorConfig, interface: Interface) -> None:
        super().__init__(interface)
        self.config = config
        size = sum(torch.Size(field.shape).numel() for field in interface.observation)
        out = torch.Size(interface.action.shape).numel()
        self.embed = nn.Linear(size, config.width)
        hidden = config.hidden
        if hidden:
            widths = [config.width] + [hidden] * (config.layers - 1)
            self.cells = nn.ModuleList(nn.GRUCell(width, hidden) for width in widths)
            self.first = nn.Parameter(torch.zeros(config.layers, hidden))
        else:
            self.middle = nn.Linear(config.width, config.width)
        self.head = nn.Linear(hidden or config.width, out)
        nn.init.uniform_(self.head.weight, -0.01, 0.01)
        nn.init.zeros_(self.head.bias)

    def initial_memory(self, batch: int) -> Memory:
        if not self.config.hidden:
            return {}
        return {"hidden": self.first.expand(batch, *self.first.shape)}

    def prepare(self, observation: Observation, memory: Memory) -> tuple[dict[str, Tensor], Memory]:
        parts = [observation[name].flatten(1) for name in self.interface.names]
        return {"state": torch.cat(parts, dim=1)}, memory

    def decide(self, inputs: dict[str, Tensor], memory: Memory, noise: Tensor | None = None) -> Plan:
        action, after = self.command(inputs["state"], memory)
        return Plan(action.clamp(-1, 1).unflatten(1, self.interface.action.shape)[:, None], after)

    def command(self, state: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Motor commands (B, 4) before they are clipped, from observations (B, 22), and the next memory."""
        x = F.relu(self.embed(state))
        if not self.config.hidden:
            return self.head(F.relu(self.middle(x))), memory
        states = []
        for k, cell in enumerate(self.cells):
            x = cell(x, memory["hidden"][:, k])
            states.append(x)
        return self.head(x), {"hidden": torch.stack(states, dim=1)}
