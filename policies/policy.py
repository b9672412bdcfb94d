"""What every policy is: an nn.Module that turns observations into actions, with noise and memory as explicit arguments."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from robot.core.errors import NotSupportedError
from robot.core.interface import Interface

Observation = Mapping[str, Tensor]
Memory = dict[str, Tensor]


@dataclass
class Plan:
    """What a policy decided, and what it considered.

    Attributes:
        actions: (B, Ta, *action shape), to be executed in order, one a control period.
        memory: the memory after this observation, each (B, …).
        candidates: (B, n, *action shape), or None where the policy considers only one.
        values: (B, n), higher is better, or None.
        aside: what a learner keeps of the decision beside its actions, each (B, …).
    """

    actions: Tensor
    memory: Memory
    candidates: Tensor | None = None
    values: Tensor | None = None
    aside: dict[str, Tensor] = field(default_factory=dict)


class Policy(nn.Module):
    """Built from an Interface. Subclasses write `plan`; those that learn also write `loss`."""

    alone = True
    """Whether it decides for a single world; false for many specialists side by side."""

    def __init__(self, interface: Interface) -> None:
        super().__init__()
        self.interface = interface

    def initial_memory(self, batch: int) -> Memory:
        """Memory at the start of an episode, each (batch, …); empty for a policy that remembers nothing."""
        return {}

    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the standard normal noise that one world's plan consumes; () for a deterministic policy."""
        return ()

    def prepare(self, observation: Observation, memory: Memory) -> tuple[dict[str, Tensor], Memory]:
        """The half of a decision that has no parameters: inputs of the network, and the next memory.

        Whoever trains may store the inputs instead of the observations that led to them.
        """
        return dict(observation), memory

    def decide(self, inputs: dict[str, Tensor], memory: Memory, noise: Tensor | None = None) -> Plan:
        """The plan from prepared inputs; `memory` is the next memory, as `prepare` gave it."""
        raise self._cannot("decide")

    def plan(self, observation: Observation, memory: Memory, noise: Tensor | None = None) -> Plan:
        """Decide; the same observation, memory and noise (B, *noise_shape) give the same plan."""
        return self.decide(*self.prepare(observation, memory), noise)

    def act(self, observation: Observation, memory: Memory, noise: Tensor | None = None) -> tuple[Tensor, Memory]:
        """actions (B, Ta, *action shape) and the next memory."""
        with torch.no_grad():
            plan = self.plan(observation, memory, noise)
        return plan.actions, plan.memory

    def sample(self, observation: Observation, n: int, noise: Tensor | None = None) -> Tensor:
        """n candidate actions a world, (B, n, *action shape)."""
        raise self._cannot("sample")

    def score(self, observation: Observation, candidates: Tensor) -> Tensor:
        """Values (B, n) of candidates (B, n, *action shape), higher is better."""
        raise self._cannot("score")

    def loss(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Scalar losses by name; the entry `loss` is what the trainer minimises."""
        raise self._cannot("loss")

    def export(self) -> nn.Module:
        """A module from named tensors, noise and memory to actions and memory, for ONNX."""
        raise self._cannot("export")

    def _cannot(self, what: str) -> NotSupportedError:
        return NotSupportedError(f"{type(self).__name__} does not offer `{what}`")
