"""IQL (Kostrikov et al., 2022): values by expectiles of recorded transitions, and an actor cloned with weights of its advantage.

Nothing outside the data is ever asked of the critics. A chunk is one action. Advantages count in units of their own deviation, so
that a temperature means the same for rewards of any size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from policies.critic import Critics, CriticsConfig, Ensemble
from policies.diffusion_policy import DiffusionPolicy, DiffusionPolicyConfig
from policies.generative import Kind
from policies.generator import Scene
from robot.core.errors import ConfigError
from robot.core.interface import Interface


@dataclass
class IqlConfig(DiffusionPolicyConfig):
    discount: float
    """Of rewards, a control period."""
    expectile: float
    """Of the critics' values that a state is worth; 0.5 is their mean, towards 1 their largest."""
    beta: float
    """How greedy the actor is: weights are exp(beta * advantage / its deviation); 0 clones behaviour."""
    critics: CriticsConfig
    """The ensemble."""


class Iql(DiffusionPolicy):
    spread: Tensor
    """Running deviation of the advantage."""

    transitions = True
    """Learns from transitions."""
    LARGEST = 100.0
    """Weight of a sample, at most."""
    SLOW = 0.01
    """Share of a batch in the running deviation."""

    def __init__(self, config: IqlConfig, interface: Interface) -> None:
        super().__init__(config, interface)
        if config.generative.kind is not Kind.regression or config.chunk != config.execute:
            raise ConfigError(
                f"policy: the critics judge one chunk that is executed whole: generative.kind=regression and chunk=execute, got "
                f"{config.generative.kind.value}, {config.chunk} and {config.execute}"
            )
        if not (0 < config.expectile < 1 and 0 < config.discount < 1) or config.beta < 0:
            raise ConfigError(
                f"policy: expectile={config.expectile}, discount={config.discount} in (0, 1), beta={config.beta} not negative"
            )
        self.settings = config
        critics = config.critics
        self.critics = Critics(critics, self.condition_size + self.chunk * self.action_size)
        self.value = Ensemble(1, self.condition_size, critics.width, critics.layers, 1)
        self.deviation = nn.Parameter(torch.full((self.chunk, self.action_size), -1.0))
        self.register_buffer("spread", torch.zeros(()))

    def middle(self, scene: Scene) -> Tensor:
        """The most likely chunk x (B, T, A)."""
        x = scene.condition.new_zeros(scene.condition.shape[0], self.chunk, self.action_size)
        return self.denoiser(x, x.new_zeros(x.shape[0]), scene.condition)

    def flow_to(self, noise: Tensor, scene: Scene) -> Tensor:
        middle = self.middle(scene)
        return middle + self._width() * noise if self.exploring else middle

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of critics, value and actor over transitions (see robot/learn/replay.py)."""
        self.critics.follow()
        scene, after = self.encode(batch), self.encode({k[5:]: v for k, v in batch.items() if k.startswith("next_")})
        did = self.scaled(batch["action"].flatten(2), scene)
        with torch.no_grad():
            target = batch["reward"] + batch["discount"] * self.value(after.condition)[0, :, 0]
            worth = self.critics.backup(scene.condition, did)
        gain = worth - self.value(scene.condition)[0, :, 0]
        values = self.critics(scene.condition, did)
        losses = {"critic": ((values - target) ** 2).mean(), "value": values.detach().mean()}
        losses["state"] = (torch.where(gain > 0, self.settings.expectile, 1 - self.settings.expectile) * gain**2).mean()
        gain = self._in_deviations(gain.detach())
        losses.update(self.actor(batch, scene, did, gain))
        losses["loss"] = losses["critic"] + losses["state"] + losses["actor"]
        return losses

    def actor(self, batch: dict[str, Tensor], scene: Scene, did: Tensor, gain: Tensor) -> dict[str, Tensor]:
        """The loss `actor`, and what is worth a line in the log; gain (B,) in deviations."""
        return {"actor": (self.weight(self.settings.beta, gain) * self.surprise(self.middle(scene), did)).mean()}

    def weight(self, beta: Tensor | float, gain: Tensor) -> Tensor:
        """exp(beta * gain) (B,), bounded."""
        return (beta * gain).exp().clamp_max(self.LARGEST)

    def surprise(self, middle: Tensor, did: Tensor) -> Tensor:
        """-log pi (B,) of chunks x (B, T, A), without its constant, a dimension."""
        width = self._width()
        return (0.5 * ((did - middle) / width) ** 2 + width.log()).mean((1, 2))

    def _width(self) -> Tensor:
        return self.deviation.clamp(-3.0, 0.5).exp()

    @torch.no_grad()
    def _in_deviations(self, gain: Tensor) -> Tensor:
        now = gain.std(unbiased=False) if gain.shape[0] > 1 else gain.abs().mean()
        if self.training:
            self.spread.copy_(torch.where(self.spread > 0, self.spread.lerp(now, self.SLOW), now))
        return gain / self.spread.clamp_min(1e-6) if bool(self.spread > 0) else gain / now.clamp_min(1e-6)
