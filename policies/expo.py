"""EXPO (Dong et al., 2025): a frozen generator proposes chunks, a small policy edits each, the critics pick the best of all.

The pick is the policy: it acts, and it is what a backup looks ahead to. Edits may leave what the generator ever draws.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from policies.critic import Critics, CriticsConfig, Gaussian
from policies.generator import Generator, Scene
from policies.held import hold
from policies.policy import Memory, Observation, Plan
from robot.core.errors import ConfigError
from robot.core.interface import Interface


@dataclass
class ExpoConfig:
    base: Any
    """The generator: a run folder, a policy's name, or a mapping (see policies/held.py)."""
    samples: int
    """Chunks proposed at each decision (N), each of them also edited."""
    edit: float
    """Largest change of an element of a chunk, in units of x; 0 for no edits, a control."""
    best: bool
    """Whether a backup takes the best of all, as acting does; false takes one of them, a control."""
    discount: float
    """Of rewards, a control period."""
    pessimism: float
    """Standard deviations of the ensemble that are subtracted from its mean."""
    patience: int
    """Updates for which only critics learn and the generator acts as it is."""
    entropy: float
    """Target entropy of the edits, a dimension."""
    temperature: float
    """Weight of the entropy at the start of training."""
    tuned: bool
    """Whether that weight is tuned to the target entropy."""
    actor_width: int
    """Of the edit policy's hidden layers."""
    critics: CriticsConfig
    """The ensemble."""


class Expo(Generator):
    age: Tensor
    """Updates so far."""

    transitions = True
    """Learns from transitions."""

    def __init__(self, config: ExpoConfig, interface: Interface, env: Any = None) -> None:
        super().__init__(interface)
        if config.samples < 1 or config.edit < 0 or config.temperature <= 0 or not 0 < config.discount < 1:
            raise ConfigError(
                f"policy: samples={config.samples} must be at least 1, edit={config.edit} not negative, "
                f"temperature={config.temperature} positive, discount={config.discount} in (0, 1)"
            )
        self.config, self.base = config, hold(config.base, "policy.base", interface, env)
        self.take_after(self.base)
        self.size = self.execute * self.action_size
        critics = config.critics
        self.critics = Critics(critics, self.condition_size + self.size)
        self.editor = Gaussian(self.condition_size + self.size, config.actor_width, critics.layers, self.size, start=-1.5)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(config.temperature)), requires_grad=config.tuned)
        self.register_buffer("age", torch.zeros((), dtype=torch.int64))

    def train(self, mode: bool = True) -> "Expo":
        super().train(mode)
        self.base.eval()
        return self

    def initial_memory(self, batch: int) -> Memory:
        return self.base.initial_memory(batch)

    def prepare(self, observation: Observation, memory: Memory) -> tuple[dict[str, Tensor], Memory]:
        return self.base.prepare(observation, memory)

    def encode(self, inputs: dict[str, Tensor]) -> Scene:
        return self.base.encode(inputs)

    def noise_shape(self) -> tuple[int, ...]:
        """For each sample the base's noise and the edit's."""
        return (self.config.samples, int(torch.Size(self.base.noise_shape()).numel()) + self.size)

    def flow_to(self, noise: Tensor, scene: Scene) -> Tensor:
        candidates = self.proposed(noise, scene)
        best = self.cautious(candidates, scene).argmax(1)
        return self._taken(candidates, torch.where(self.age < self.config.patience, 0, best))

    def cautious(self, candidates: Tensor, scene: Scene) -> Tensor:
        """Ensemble mean less `pessimism` deviations (B, n) of candidates x (B, n, T, A)."""
        rows = scene.condition.repeat_interleave(candidates.shape[1], 0), candidates.flatten(0, 1)[:, : self.execute]
        return self._cautious(self.critics(*rows)).unflatten(0, candidates.shape[:2])

    def _cautious(self, values: Tensor) -> Tensor:
        return values.mean(0) - self.config.pessimism * values.std(0, unbiased=False)

    def _taken(self, candidates: Tensor, index: Tensor) -> Tensor:
        """The candidate (B, T, A) of each row's index (B,)."""
        return torch.gather(candidates, 1, index[:, None, None, None].expand(-1, 1, *candidates.shape[2:]))[:, 0]

    def proposed(self, noise: Tensor, scene: Scene) -> Tensor:
        """Candidates x (B, 2 N, T, A), the edited ones last; (B, N, T, A) without edits."""
        own = self.base.draw(scene, noise[..., : -self.size].unflatten(-1, self.base.noise_shape()))
        if not self.config.edit:
            return own
        inputs = torch.cat([scene.condition.repeat_interleave(own.shape[1], 0), self._part(own.flatten(0, 1))], dim=1)
        if self.exploring or self.training:
            change, _ = self.editor(inputs, noise[..., -self.size :].flatten(0, 1))
        else:
            change = self.editor.middle(inputs)
        return torch.cat([own, self._edited(own.flatten(0, 1), change).unflatten(0, own.shape[:2])], dim=1)

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of critics, edits and temperature over transitions (see robot/learn/replay.py)."""
        self.critics.follow()
        scene, after = self.encode(batch), self.encode({k[5:]: v for k, v in batch.items() if k.startswith("next_")})
        count = len(batch["reward"])
        with torch.no_grad():
            target = batch["reward"] + batch["discount"] * self._ahead(after)
            self.age += 1
            drawn = self.base.flow_to(torch.randn(count, *self.base.noise_shape()), scene)
        values = self.critics(scene.condition, self.scaled(batch["action"].flatten(2), scene))
        losses = {"critic": ((values - target) ** 2).mean(), "value": values.detach().mean()}
        losses["loss"] = losses["critic"]
        if self.config.edit:
            temperature = self.log_temperature.exp().detach()
            inputs = torch.cat([scene.condition, self._part(drawn)], dim=1)
            change, density = self.editor(inputs, torch.randn(count, self.size))
            edited = self._edited(drawn, change)[:, : self.execute]
            worth = self._cautious(self.critics(scene.condition, edited, frozen=True))
            late = float(int(self.age) > self.config.patience)
            losses["edit"] = late * (temperature * density - worth).mean()
            losses["entropy"], losses["temperature"] = -density.detach().mean(), temperature
            tuning = self.log_temperature * (losses["entropy"] / self.size - self.config.entropy)
            losses["loss"] = losses["loss"] + losses["edit"] + late * tuning
        return losses

    def _ahead(self, scene: Scene) -> Tensor:
        """The value (B,) of what the policy would do in a scene: it picks, the targets judge."""
        count = scene.condition.shape[0]
        if int(self.age) < self.config.patience:
            chosen = self.base.flow_to(torch.randn(count, *self.base.noise_shape()), scene)
        elif self.config.best:
            chosen = self.flow_to(torch.randn(count, *self.noise_shape()), scene)
        else:
            chosen = self.proposed(torch.randn(count, *self.noise_shape()), scene)[:, -1]
        return self.critics.backup(scene.condition, chosen[:, : self.execute])

    def _part(self, x: Tensor) -> Tensor:
        return x[:, : self.execute].flatten(1)

    def _edited(self, x: Tensor, change: Tensor) -> Tensor:
        """Chunks x (N, T, A) whose executed part is changed by `change` (N, execute * A) in [-1, 1]."""
        change = self.config.edit * change.unflatten(1, (self.execute, self.action_size))
        return torch.cat([x[:, : self.execute] + change, x[:, self.execute :]], dim=1)

    def decide(self, inputs: dict[str, Tensor], memory: Memory, noise: Tensor | None = None) -> Plan:
        scene = self.encode(inputs)
        noise = torch.randn(scene.condition.shape[0], *self.noise_shape()) if noise is None else noise
        return self.plan_of(self.flow_to(noise, scene), scene, memory)

    def score(self, observation: Observation, candidates: Tensor) -> Tensor:
        inputs, _ = self.prepare(observation, self.initial_memory(candidates.shape[0]))
        scene, n = self.encode(inputs), candidates.shape[1]
        x = self.scaled(candidates.flatten(3).flatten(0, 1), scene.repeat(n)).unflatten(0, (-1, n))
        return self.cautious(x, scene)
