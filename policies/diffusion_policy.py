"""Diffusion Policy (Chi et al., 2023) and its kin: a chunk of actions drawn by diffusion, rectified flow or regression.

Actions are relative to where the robot is, and features replace raw coordinates: facts that a small network need not learn.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from policies.generative import Generative, GenerativeConfig
from policies.generator import Generator, Scene
from policies.policy import Memory, Observation
from robot.core.config import build
from robot.core.errors import ConfigError
from robot.core.interface import Interface


@dataclass
class DiffusionPolicyConfig:
    chunk: int
    """Actions predicted at once (Tp)."""
    execute: int
    """Actions executed before the next decision (Ta)."""
    history: int
    """Frames of features that a decision sees (To)."""
    features: dict[str, Any]
    """What a frame of observations becomes: a node with `_target_`, without parameters to learn."""
    denoiser: dict[str, Any]
    """The network: a node with `_target_`, built with horizon, action_size and condition_size."""
    anchor: str | None
    """Observation field that actions are relative to, its first elements; null for absolute actions."""
    offset: list[float]
    """What absolute actions are relative to, in their unit; zeros beside an anchor."""
    scale: list[float]
    """Spread of the actions around that, in their unit, one an element."""
    temperature: float
    """Factor on the noise that a chunk is drawn from: below 1 samples crowd around the modes."""
    generative: GenerativeConfig
    """How chunks are drawn from noise."""


class DiffusionPolicy(Generator):
    offset: Tensor

    def __init__(self, config: DiffusionPolicyConfig, interface: Interface) -> None:
        super().__init__(interface)
        self.config, self.chunk, self.execute = config, config.chunk, config.execute
        size = self.action_size
        if not 1 <= config.execute <= config.chunk or config.history < 1:
            raise ConfigError(
                f"policy.execute={config.execute} must be between 1 and policy.chunk={config.chunk}, history at least 1"
            )
        if len(config.scale) != size or len(config.offset) != size or min(config.scale) <= 0:
            raise ConfigError(
                f"policy.scale={config.scale} and policy.offset={config.offset} need one value for each of the {size} elements "
                f"of action '{interface.action.name}', scales positive"
            )
        if config.anchor is not None and interface.field(config.anchor).shape[-1] < size:
            raise ConfigError(f"policy.anchor: '{config.anchor}' has fewer elements than the action, {size}")
        self.features = build(config.features, "policy.features", interface=interface)
        self.register_buffer("scale", torch.tensor(config.scale), persistent=False)
        self.register_buffer("offset", torch.tensor(config.offset), persistent=False)
        self.generative = Generative.of(config.generative)
        self.condition_size = config.history * self.features.size
        self.denoiser = build(
            config.denoiser, "policy.denoiser",
            horizon=config.chunk, action_size=size, condition_size=self.condition_size,
        )  # fmt: skip

    def initial_memory(self, batch: int) -> Memory:
        if self.config.history == 1:
            return {}
        return {"frames": torch.zeros(batch, self.config.history - 1, self.features.size), "begun": torch.zeros(batch, 1)}

    def noise_shape(self) -> tuple[int, ...]:
        """(chunk, A); (draws, chunk, A) for a stochastic diffusion."""
        draws = self.generative.draws
        return (self.chunk, self.action_size) if draws == 1 else (draws, self.chunk, self.action_size)

    def prepare(self, observation: Observation, memory: Memory) -> tuple[dict[str, Tensor], Memory]:
        """`condition` (B, history * C) and `anchor` (B, A); before an episode's start the first frame is repeated."""
        frame = self.features(observation)
        anchor = self.offset.expand(frame.shape[0], -1)
        if self.config.anchor is not None:
            anchor = anchor + observation[self.config.anchor][:, : self.action_size]
        inputs = {"condition": frame, "anchor": anchor}
        if self.config.history == 1:
            return inputs, {}
        begun = memory["begun"][:, :, None] > 0.5
        past = torch.where(begun, memory["frames"], frame[:, None])
        frames = torch.cat([past, frame[:, None]], dim=1)
        inputs["condition"] = frames.flatten(1)
        return inputs, {"frames": frames[:, 1:], "begun": torch.ones_like(memory["begun"])}

    def encode(self, inputs: dict[str, Tensor]) -> Scene:
        return Scene(inputs["condition"], inputs["anchor"][:, None])

    def denoise(self, x: Tensor, t: Tensor, scene: Scene) -> Tensor:
        """What the network says at x (N, chunk, A) and time t (N,), in the generator's own terms."""
        return self.denoiser(x, t, scene.condition)

    def velocity(self, x: Tensor, t: Tensor, scene: Scene) -> Tensor:
        return self.generative.velocity(lambda x, t: self.denoise(x, t, scene), x, t)

    def times(self) -> Tensor:
        return self.generative.flow_times(self.config.generative.sample_steps)

    def flow_to(self, noise: Tensor, scene: Scene) -> Tensor:
        return self.generative.sample(lambda x, t: self.denoise(x, t, scene), self.config.temperature * noise)

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Denoising loss.

        Args:
            batch: prepared inputs, `action` (B, chunk, A) in its own unit, and `valid` (B, chunk), 0 beyond an episode's end.
        """
        scene = self.encode(batch)
        clean = self.scaled(batch["action"].flatten(2), scene)
        t = self.generative.times(len(clean)).to(clean)
        x, target = self.generative.corrupt(clean, torch.randn_like(clean), t)
        error = F.mse_loss(self.denoise(x, t, scene), target, reduction="none").mean(2)
        return {"loss": (error * batch["valid"]).sum() / batch["valid"].sum().clamp_min(1)}
