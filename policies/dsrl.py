"""DSRL (Wagenmaker et al., 2025): steer a frozen generator by choosing the noise that it draws from.

The actor gives the noise of the whole chunk, not one vector repeated along it. `na` learns the value of actions and tells a
second critic what noise they come from (noise aliasing), so recorded episodes may be learnt from; `sac` learns the value of
noise itself. Beyond the paper, `through` needs no critic of noise: our generators can be differentiated.
"""

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from policies.critic import Critics, CriticsConfig, Gaussian
from policies.generator import Generator, Scene
from policies.held import hold
from policies.policy import Memory, Observation, Plan
from robot.core.errors import ConfigError
from robot.core.interface import Interface

Batch = dict[str, Tensor]


class Variant(Enum):
    """What the actor is told by: a critic of noise that imitates the critic of actions, a critic of noise that learns from
    rewards, or the critic of actions itself, whose gradient then passes through the generator."""

    na = "na"
    sac = "sac"
    through = "through"


@dataclass
class DsrlConfig:
    base: Any
    """The generator: a run folder, a policy's name, or a mapping (see policies/held.py)."""
    variant: Variant
    """na, sac or through."""
    bound: float
    """Largest magnitude of the noise that is chosen."""
    repeat: bool
    """Choose the noise of one action and repeat it along the chunk, as some public code does: a control."""
    discount: float
    """Of rewards, a control period."""
    patience: int
    """Updates for which only critics learn and the generator acts as it is: an actor that follows critics which know nothing yet
    falls below it first."""
    trust: float | None
    """Nats by which the choice may differ from the generator's own noise (Kullback-Leibler), a decision; the best of K samples
    takes log K - 1 + 1/K. Null rewards entropy instead, as soft actor-critic does."""
    entropy: float
    """Target entropy of the actor where `trust` is null, a dimension of the noise."""
    temperature: float
    """Weight of the divergence, or of the entropy, at the start of training."""
    tuned: bool
    """Whether that weight is tuned to its target."""
    entropy_backup: bool
    """Whether values count the entropy to come."""
    actor_width: int
    """Of the actor's hidden layers."""
    critics: CriticsConfig
    """The ensemble."""


class Dsrl(Generator):
    age: Tensor
    """Updates so far."""

    transitions = True
    """Learns from transitions."""

    def __init__(self, config: DsrlConfig, interface: Interface, env: Any = None) -> None:
        super().__init__(interface)
        if config.bound <= 0 or config.temperature <= 0 or not 0 < config.discount < 1:
            raise ConfigError(
                f"policy: bound={config.bound} and temperature={config.temperature} must be positive, "
                f"discount={config.discount} in (0, 1)"
            )
        self.config, self.base = config, hold(config.base, "policy.base", interface, env)
        self.take_after(self.base)
        full = int(torch.Size(self.base.noise_shape()).numel())
        self.latent = self.action_size if config.repeat else full
        if config.repeat and full % self.latent:
            raise ConfigError(f"policy.repeat: the noise of the base, {self.base.noise_shape()}, is no row of actions")
        critics = config.critics
        self.actor = Gaussian(self.condition_size, config.actor_width, critics.layers, self.latent, -math.log(config.bound))
        chunk = self.execute * self.action_size
        self.critics = Critics(critics, self.condition_size + (self.latent if config.variant is Variant.sac else chunk))
        if config.variant is Variant.na:
            self.noise_critics = Critics(critics, self.condition_size + self.latent)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(config.temperature)), requires_grad=config.tuned)
        self.register_buffer("age", torch.zeros((), dtype=torch.int64))

    def train(self, mode: bool = True) -> "Dsrl":
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
        """What the actor draws its choice from while it explores; afterwards it is ignored."""
        return (self.latent,)

    def flow_to(self, noise: Tensor, scene: Scene) -> Tensor:
        return self.steered(self.choose(noise, scene), scene)

    def choose(self, noise: Tensor, scene: Scene) -> Tensor:
        """The latent (B, D), the noise chosen, over its bound."""
        chosen = self.actor(scene.condition, noise)[0] if self.exploring else self.actor.middle(scene.condition)
        return torch.where(self.age < self.config.patience, (noise / self.config.bound).clamp(-1, 1), chosen)

    def steered(self, latent: Tensor, scene: Scene) -> Tensor:
        """Chunks x (B, T, A) that latents (B, D) in [-1, 1] lead to."""
        noise = self.config.bound * latent
        shape = self.base.noise_shape()
        if self.config.repeat:
            noise = noise.repeat(1, int(torch.Size(shape).numel()) // self.latent)
        return self.base.flow_to(noise.unflatten(1, shape), scene)

    def decide(self, inputs: dict[str, Tensor], memory: Memory, noise: Tensor | None = None) -> Plan:
        scene = self.encode(inputs)
        noise = torch.randn(scene.condition.shape[0], *self.noise_shape()) if noise is None else noise
        latent = self.choose(noise, scene)
        plan = self.plan_of(self.steered(latent, scene), scene, memory)
        if self.config.variant is Variant.sac:
            plan.aside = {"latent": latent}
        return plan

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of critics, actor and temperature over transitions (see robot/learn/replay.py).

        Raises:
            ConfigError: variant=sac is given transitions that do not say what noise was chosen.
        """
        if self.config.variant is Variant.sac and "latent" not in batch:
            raise ConfigError(
                "policy.variant=sac learns from noise of its own choice, which recorded episodes do not say; "
                "leave them out, data.demonstrations=null data.share=0.0, or choose na or through"
            )
        self.critics.follow()
        scene, after = self.encode(batch), self.encode({k[5:]: v for k, v in batch.items() if k.startswith("next_")})
        variant = self.config.variant
        temperature = self.log_temperature.exp().detach()
        with torch.no_grad():
            drawn = torch.randn(len(batch["reward"]), self.latent)
            latent, density = self.actor(after.condition, drawn)
            if int(self.age) < self.config.patience:
                latent, density = (drawn / self.config.bound).clamp(-1, 1), torch.zeros_like(density)
            self.age += 1
            tried = self.steered(latent, after)[:, : self.execute] if variant is not Variant.sac else latent
            following = self.critics.backup(after.condition, tried)
            if self.config.entropy_backup:
                following = following - temperature * density
            target = batch["reward"] + batch["discount"] * following
        done = self.scaled(batch["action"].flatten(2), scene) if variant is not Variant.sac else batch["latent"]
        values = self.critics(scene.condition, done)
        losses = {"critic": ((values - target) ** 2).mean(), "value": values.detach().mean()}
        if variant is Variant.na:
            losses["alias"] = self._alias(scene)
        latent, density = self.actor(scene.condition, torch.randn(len(target), self.latent))
        judge = self.noise_critics if variant is Variant.na else self.critics
        judged = self.steered(latent, scene)[:, : self.execute] if variant is Variant.through else latent
        worth = judge(scene.condition, judged, frozen=True).min(0).values
        trust, late = self.config.trust, float(int(self.age) > self.config.patience)
        price = density if trust is None else self.divergence(latent, density)
        losses["actor"] = late * (temperature * price - worth).mean()
        losses["divergence" if trust is not None else "density"] = mean = price.detach().mean()
        losses["temperature"] = temperature
        tuning = self.log_temperature * ((-self.config.entropy * self.latent if trust is None else trust) - mean)
        losses["loss"] = losses["critic"] + losses["actor"] + late * tuning + losses.get("alias", torch.zeros(()))
        return losses

    def divergence(self, latent: Tensor, density: Tensor) -> Tensor:
        """By how much likelier than in the generator's normal noise latents (B, D) of log density (B,) are, in nats (B,)."""
        bound = self.config.bound
        normal = 0.5 * (bound * latent).square().sum(1) + self.latent * 0.5 * math.log(2 * math.pi)
        return density - self.latent * math.log(bound) + normal

    def _alias(self, scene: Scene) -> Tensor:
        """What the noise critics miss of the values of the actions that noise leads to; noise is drawn as the generator's is."""
        with torch.no_grad():
            latent = (torch.randn(len(scene.condition), self.latent) / self.config.bound).clamp(-1, 1)
            values = self.critics(scene.condition, self.steered(latent, scene)[:, : self.execute])
        return ((self.noise_critics(scene.condition, latent) - values) ** 2).mean()
