"""A generator's whole sampler in one evaluation: a network that learns where each noise ends (Luhman and Luhman, 2021).

The held generator decides everything by its noise, so noise and chunk are pairs to regress; nothing is averaged, unlike in a
regression of demonstrations. The student begins as the teacher taking one long step along its own field.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from policies.generator import Generator, Scene
from policies.held import hold
from policies.policy import Memory, Observation
from robot.core.config import build
from robot.core.errors import ConfigError, NotSupportedError
from robot.core.interface import Interface


@dataclass
class OneStepConfig:
    base: Any
    """The generator that teaches: a run folder, a policy's name, or a mapping (see policies/held.py)."""
    denoiser: dict[str, Any] | None
    """Another network to learn, from nothing: a node with `_target_`, built with horizon, action_size and condition_size; null
    learns on from the teacher's own weights."""


class OneStep(Generator):
    REST = 0.1
    """Weight of an action that is not executed beside one that is."""

    BEND = 0.02
    """Where the loss turns from a square to a distance, in the policy's units."""

    def __init__(self, config: OneStepConfig, interface: Interface, env: Any = None) -> None:
        super().__init__(interface)
        self.config, self.base = config, hold(config.base, "policy.base", interface, env)
        self.take_after(self.base)
        if self.base.noise_shape() != (self.chunk, self.action_size):
            raise ConfigError(f"policy.base: {type(self.base).__name__} draws more than one noise a chunk; distil what it holds")
        if config.denoiser is None:
            self.student = copy.deepcopy(self.base).requires_grad_(True)
            self._need_field()
        else:
            self.denoiser = build(
                config.denoiser, "policy.denoiser",
                horizon=self.chunk, action_size=self.action_size, condition_size=self.condition_size,
            )  # fmt: skip

    def _need_field(self) -> None:
        try:
            self.student.times()
        except NotSupportedError as error:
            who = type(self.base).__name__
            raise ConfigError(
                f"policy.base: {who} follows no field of which to take one step ({error}); name a policy.denoiser"
            ) from error

    def train(self, mode: bool = True) -> "OneStep":
        super().train(mode)
        self.base.eval()
        return self

    def initial_memory(self, batch: int) -> Memory:
        return self.base.initial_memory(batch)

    def prepare(self, observation: Observation, memory: Memory) -> tuple[dict[str, Tensor], Memory]:
        return self.base.prepare(observation, memory)

    def encode(self, inputs: dict[str, Tensor]) -> Scene:
        return self.base.encode(inputs)

    def flow_to(self, noise: Tensor, scene: Scene) -> Tensor:
        if self.config.denoiser is not None:
            return self.denoiser(noise, noise.new_ones(noise.shape[0]), scene.condition)
        x, t = self.student.start(noise), float(self.student.times()[0])
        return x - t * self.student.velocity(x, noise.new_full((noise.shape[0],), t), scene)

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Distance from the teacher's chunk for the same noise; of recorded frames only what is seen counts.

        Pseudo-Huber of each action (Song and Dhariwal, 2023, section 3.3): squares would serve the few noises whose end jumps
        from one way of pushing to another, where no network is right, and blur all others. Actions past the `execute`-th
        weigh `self.REST`: wrappers may look at them, nobody carries them out.
        """
        scene = self.encode(batch)
        noise = torch.randn(scene.condition.shape[0], *self.noise_shape())
        with torch.no_grad():
            target = self.base.flow_to(noise, scene)
        square = (self.flow_to(noise, scene) - target).square().mean(2)
        gap = ((square + self.BEND**2).sqrt() - self.BEND).mean(0)
        weight = torch.where(torch.arange(self.chunk) < self.execute, 1.0, self.REST)
        executed = square[:, : self.execute]
        return {
            "loss": (weight * gap).sum() / weight.sum(),
            "executed": executed.mean().detach(),
            "typical": executed.median().sqrt().detach(),
        }
