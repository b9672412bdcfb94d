"""A generator's whole sampler in one evaluation: a network that learns where each noise ends (Luhman and Luhman, 2021).

The held generator decides everything by its noise, so noise and chunk are pairs to regress; nothing is averaged, unlike in a
regression of demonstrations.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from policies.generator import Generator, Scene
from policies.held import hold
from policies.policy import Memory, Observation
from robot.core.config import build
from robot.core.errors import ConfigError
from robot.core.interface import Interface


@dataclass
class OneStepConfig:
    base: Any
    """The generator that teaches: a run folder, a policy's name, or a mapping (see policies/held.py)."""
    denoiser: dict[str, Any]
    """The network: a node with `_target_`, built with horizon, action_size and condition_size."""


class OneStep(Generator):
    def __init__(self, config: OneStepConfig, interface: Interface, env: Any = None) -> None:
        super().__init__(interface)
        self.config, self.base = config, hold(config.base, "policy.base", interface, env)
        self.take_after(self.base)
        if self.base.noise_shape() != (self.chunk, self.action_size):
            raise ConfigError(f"policy.base: {type(self.base).__name__} draws more than one noise a chunk; distil what it holds")
        self.denoiser = build(
            config.denoiser, "policy.denoiser",
            horizon=self.chunk, action_size=self.action_size, condition_size=self.condition_size,
        )  # fmt: skip

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
        start = torch.ones(noise.shape[0], dtype=noise.dtype, device=noise.device)
        return self.denoiser(noise, start, scene.condition)

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Squared distance from the teacher's chunk for the same noise; of recorded frames only what is seen counts."""
        scene = self.encode(batch)
        noise = torch.randn(scene.condition.shape[0], *self.noise_shape())
        with torch.no_grad():
            target = self.base.flow_to(noise, scene)
        return {"loss": F.mse_loss(self.flow_to(noise, scene), target)}
