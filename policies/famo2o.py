"""FamO2O (Wang et al., 2023): one network is a family of policies from cautious to greedy, another chooses one for each scene.

Offline the family learns every temperature beta, and its chooser climbs the critics. Online both learn where the chooser goes.
Weights count relative to their mean at the same beta, without which the greedy members drown the cautious ones.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from policies.critic import Gaussian
from policies.generator import Scene
from policies.iql import Iql, IqlConfig
from robot.core.config import build
from robot.core.errors import ConfigError
from robot.core.interface import Interface


@dataclass
class Famo2oConfig(IqlConfig):
    family: list[float]
    """Smallest and largest temperature; `beta` is not used."""
    entropy: float
    """Target entropy of the chooser."""
    actor_width: int
    """Of the chooser's hidden layers."""


class Famo2o(Iql):
    WAVES = 3
    """Sines, and as many cosines, that a temperature is shown as."""
    LONGEST = 10000.0
    """Of their wavelengths."""

    def __init__(self, config: Famo2oConfig, interface: Interface) -> None:
        super().__init__(config, interface)
        if len(config.family) != 2 or not 0 <= config.family[0] < config.family[1]:
            raise ConfigError(f"policy.family={config.family} must be two temperatures, the smaller first, none negative")
        self.options = config
        self.denoiser = build(
            config.denoiser, "policy.denoiser",
            horizon=self.chunk, action_size=self.action_size, condition_size=self.condition_size + 2 * self.WAVES,
        )  # fmt: skip
        self.chooser = Gaussian(self.condition_size, config.actor_width, config.critics.layers, 1)
        self.log_temperature = nn.Parameter(torch.zeros(()))

    def temperature_of(self, choice: Tensor) -> Tensor:
        """beta (B,) of the chooser's output (B, 1) in [-1, 1]."""
        low, high = self.options.family
        return low + (high - low) * (choice[:, 0] + 1) / 2

    def shown(self, beta: Tensor) -> Tensor:
        """beta (B,) as sines and cosines (B, 2 * WAVES), as positions are in Vaswani et al. (2017)."""
        phase = beta[:, None] / self.LONGEST ** (torch.arange(self.WAVES, device=beta.device) / self.WAVES)
        return torch.cat([phase.sin(), phase.cos()], dim=1)

    def member(self, scene: Scene, beta: Tensor, frozen: bool = False) -> Tensor:
        """The most likely chunk x (B, T, A) of the family's member beta (B,); with `frozen` the gradient passes to beta alone."""
        x = scene.condition.new_zeros(scene.condition.shape[0], self.chunk, self.action_size)
        inputs = (x, x.new_zeros(x.shape[0]), torch.cat([scene.condition, self.shown(beta)], dim=1))
        if not frozen:
            return self.denoiser(*inputs)
        weights = {name: value.detach() for name, value in self.denoiser.named_parameters()}
        return torch.func.functional_call(self.denoiser, weights, inputs)

    def middle(self, scene: Scene) -> Tensor:
        return self.member(scene, self.temperature_of(self.chooser.middle(scene.condition)))

    def actor(self, batch: dict[str, Tensor], scene: Scene, did: Tensor, gain: Tensor) -> dict[str, Tensor]:
        """Losses of family, chooser and its entropy. Batches of recorded episodes, which know their `return`, are offline."""
        count = gain.shape[0]
        choice, density = self.chooser(scene.condition, torch.randn(count, 1))
        low, high = self.options.family
        beta = low + (high - low) * torch.rand(count) if "return" in batch else self.temperature_of(choice).detach()
        share = self.weight(beta, gain) / self.weight(beta[:, None], gain).mean(1)
        family = (share * self.surprise(self.member(scene, beta), did)).mean()
        chunk = self.member(scene, self.temperature_of(choice), frozen=True)
        worth = self.critics(scene.condition, chunk, frozen=True).min(0).values
        chooser = (self.log_temperature.exp().detach() * density - worth / self.spread.clamp_min(1e-6)).mean()
        tuning = self.log_temperature * (-density.detach().mean() - self.options.entropy)
        return {
            "actor": family + chooser + tuning,
            "family": family.detach(),
            "chosen": self.temperature_of(choice).mean().detach(),
        }
