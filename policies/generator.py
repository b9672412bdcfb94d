"""What a generative policy offers beyond acting: its condition, the field that its samples flow along, its noise.

A wrapper that composes, steers, ranks or edits (GPC, DSRL, V-GPS, EXPO) needs no more than this of the policy it holds, and
offers it again, so wrappers nest. Everything between noise and action is in scaled coordinates x: action = anchor + scale * x.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from policies.policy import Memory, Observation, Plan, Policy
from robot.core.interface import Interface


@dataclass
class Scene:
    """What a chunk is generated for, computed once for all candidates.

    Attributes:
        condition: (B, C).
        anchor: (B, 1, A), what actions are relative to, in their own unit.
    """

    condition: Tensor
    anchor: Tensor

    def repeat(self, n: int) -> "Scene":
        """Each world n times in a row, (B * n, …)."""
        return Scene(self.condition.repeat_interleave(n, 0), self.anchor.repeat_interleave(n, 0))


class Generator(Policy):
    """A policy that draws chunks of `chunk` actions from noise and executes the first `execute` of them.

    Subclasses write `encode` and `flow_to`; those whose samples follow a field also `velocity`.
    """

    chunk: int
    execute: int
    scale: Tensor
    """(A,), units of the action a unit of x."""
    condition_size: int
    """Numbers in a scene's condition."""
    exploring = False
    """Whether it tries things out, for what a learner may see in them."""

    def __init__(self, interface: Interface) -> None:
        super().__init__(interface)
        self.action_size = int(torch.Size(interface.action.shape).numel())

    def take_after(self, base: "Generator") -> None:
        """Chunks, scale and condition are those of the policy that is held."""
        self.chunk, self.execute, self.condition_size = base.chunk, base.execute, base.condition_size
        self.register_buffer("scale", base.scale.clone(), persistent=False)

    def noise_shape(self) -> tuple[int, ...]:
        return (self.chunk, self.action_size)

    def encode(self, inputs: dict[str, Tensor]) -> Scene:
        """The scene of prepared inputs."""
        raise self._cannot("encode")

    def velocity(self, x: Tensor, t: Tensor, scene: Scene) -> Tensor:
        """The rectified-flow velocity dx/dt = noise - chunk at x (N, chunk, A), time t (N,), 1 being noise; scene of N rows."""
        raise self._cannot("velocity")

    def times(self) -> Tensor:
        """Where its own sampler evaluates `velocity`: falling from 1 to 0, (steps + 1,)."""
        raise self._cannot("times")

    def start(self, noise: Tensor) -> Tensor:
        """Where its own sampler starts to follow `velocity`: x (N, chunk, A) at times()[0], from standard normal noise."""
        t = float(self.times()[0])
        return getattr(getattr(self, "config", None), "temperature", 1.0) * (t**2 + (1 - t) ** 2) ** 0.5 * noise

    def flow_to(self, noise: Tensor, scene: Scene) -> Tensor:
        """Chunks x (N, chunk, A) from standard normal noise (N, *noise_shape); scene of N rows."""
        raise self._cannot("flow_to")

    def actions(self, x: Tensor, scene: Scene) -> Tensor:
        """Actions (N, chunk, A) in their own unit, within the interface's bounds."""
        actions = scene.anchor + self.scale * x
        field = self.interface.action
        return actions if field.low is None and field.high is None else actions.clamp(field.low, field.high)

    def scaled(self, actions: Tensor, scene: Scene) -> Tensor:
        """The inverse of `actions` where no bound is touched."""
        return (actions - scene.anchor) / self.scale

    def draw(self, scene: Scene, noise: Tensor) -> Tensor:
        """Candidates x (B, n, chunk, A) from noise (B, n, *noise_shape)."""
        n = noise.shape[1]
        return self.flow_to(noise.flatten(0, 1), scene.repeat(n)).unflatten(0, (-1, n))

    def sample(self, observation: Observation, n: int, noise: Tensor | None = None) -> Tensor:
        batch = next(iter(observation.values())).shape[0]
        inputs, _ = self.prepare(observation, self.initial_memory(batch))
        scene = self.encode(inputs)
        noise = torch.randn(batch, n, *self.noise_shape()) if noise is None else noise
        x = self.draw(scene, noise)
        return self.actions(x.flatten(0, 1), scene.repeat(n)).unflatten(0, (-1, n)).unflatten(-1, self.interface.action.shape)

    def decide(self, inputs: dict[str, Tensor], memory: Memory, noise: Tensor | None = None) -> Plan:
        scene = self.encode(inputs)
        if noise is None:
            noise = torch.randn(scene.condition.shape[0], *self.noise_shape())
        return self.plan_of(self.flow_to(noise, scene), scene, memory)

    def plan_of(self, x: Tensor, scene: Scene, memory: Memory) -> Plan:
        """The plan that executes the start of chunks x (B, chunk, A)."""
        actions = self.actions(x, scene).unflatten(-1, self.interface.action.shape)
        return Plan(actions[:, : self.execute], memory)

    def export(self) -> torch.nn.Module:
        return Exported(self)


class Exported(torch.nn.Module):
    """The whole decision as one graph, from observation fields, memory and noise to actions and memory."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, observation: dict[str, Tensor], memory: Memory, noise: Tensor) -> dict[str, Tensor]:
        plan = self.policy.plan(observation, memory, noise)
        out = {"action": plan.actions}
        if plan.candidates is not None and plan.values is not None:
            out |= {"candidates": plan.candidates, "values": plan.values}
        return {**out, **plan.memory}
