"""TD3+BC (Fujimoto and Gu, 2021): a deterministic chunk that climbs the critics, tied to what the data set did.

A chunk is one action of the critics. What ties the actor to the data is one method, `tie`; policies/prdc.py and policies/a2pr.py
write another one.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from policies.critic import Critics, CriticsConfig
from policies.diffusion_policy import DiffusionPolicy, DiffusionPolicyConfig
from policies.generative import Kind
from policies.generator import Scene
from robot.core.errors import ConfigError
from robot.core.interface import Interface


@dataclass
class Td3Config(DiffusionPolicyConfig):
    discount: float
    """Of rewards, a control period."""
    alpha: float
    """Weight of the critics' value beside the tie, in units of its mean magnitude; 0 clones behaviour."""
    smoothing: float
    """Deviation of the noise on the target actor's chunk, in units of x."""
    smoothing_clip: float
    """Largest such noise."""
    delay: int
    """Updates of the critics for each one of the actor."""
    critics: CriticsConfig
    """The ensemble."""


class Td3(DiffusionPolicy):
    age: Tensor
    """Updates so far."""

    transitions = True
    """Learns from transitions."""

    def __init__(self, config: Td3Config, interface: Interface) -> None:
        super().__init__(config, interface)
        if config.generative.kind is not Kind.regression or config.chunk != config.execute:
            raise ConfigError(
                f"policy: the critics judge one chunk that is executed whole: generative.kind=regression and chunk=execute, got "
                f"{config.generative.kind.value}, {config.chunk} and {config.execute}"
            )
        if (
            config.delay < 1
            or config.alpha < 0
            or not 0 < config.discount < 1
            or min(config.smoothing, config.smoothing_clip) < 0
        ):
            raise ConfigError(
                f"policy: delay={config.delay} must be at least 1, discount={config.discount} in (0, 1), alpha={config.alpha}, "
                f"smoothing={config.smoothing}, smoothing_clip={config.smoothing_clip} not negative"
            )
        self.settings = config
        self.critics = Critics(config.critics, self.condition_size + self.chunk * self.action_size)
        self.behind = copy.deepcopy(self.denoiser).requires_grad_(False)
        self.register_buffer("age", torch.zeros((), dtype=torch.int64))

    def proposed(self, scene: Scene, behind: bool = False) -> Tensor:
        """The actor's chunk x (B, T, A), or its slow copy's."""
        network = self.behind if behind else self.denoiser
        x = scene.condition.new_zeros(scene.condition.shape[0], self.chunk, self.action_size)
        return network(x, x.new_zeros(x.shape[0]), scene.condition)

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of critics and actor over transitions (see robot/learn/replay.py)."""
        config = self.settings
        self.critics.follow()
        with torch.no_grad():
            for slow, fast in zip(self.behind.parameters(), self.denoiser.parameters(), strict=True):
                slow.lerp_(fast, config.critics.follow)
            self.age += 1
        scene, after = self.encode(batch), self.encode({k[5:]: v for k, v in batch.items() if k.startswith("next_")})
        did = self.scaled(batch["action"].flatten(2), scene)
        values = self.critics(scene.condition, did)
        target = self.target(batch, after)
        losses = {"critic": ((values - target) ** 2).mean(), "value": values.detach().mean()}
        losses["loss"] = losses["critic"]
        for name, value in self.extra(batch, scene, after, did).items():
            losses[name] = value
            losses["loss"] = losses["loss"] + value
        if int(self.age) % config.delay == 0:
            own = self.proposed(scene)
            worth = self.critics(scene.condition, own, frozen=True).mean(0)
            losses["tie"] = self.tie(scene, did, own)
            losses["actor"] = losses["tie"] - config.alpha * worth.mean() / values.detach().abs().mean().clamp_min(1e-6)
            losses["loss"] = losses["loss"] + losses["actor"]
        return losses

    @torch.no_grad()
    def target(self, batch: dict[str, Tensor], after: Scene) -> Tensor:
        """What the critics regress to (B,): a smoothed chunk of the slow actor, judged by the slow critics (TD3, equation 14)."""
        config = self.settings
        following = self.proposed(after, behind=True)
        noise = (config.smoothing * torch.randn_like(following)).clamp(-config.smoothing_clip, config.smoothing_clip)
        return batch["reward"] + batch["discount"] * self.critics.backup(after.condition, following + noise)

    def tie(self, scene: Scene, did: Tensor, own: Tensor) -> Tensor:
        """How far the actor's chunks (B, T, A) are from what was done in the same scenes."""
        return ((own - did) ** 2).mean()

    def extra(self, batch: dict[str, Tensor], scene: Scene, after: Scene, did: Tensor) -> dict[str, Tensor]:
        """Losses of networks that a subclass has beside these."""
        return {}
