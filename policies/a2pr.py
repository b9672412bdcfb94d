"""A2PR (Liu et al., 2024): the actor is tied to the better of what was done and what a generator of good actions proposes.

The generator is a conditional variational autoencoder that learns only from transitions of positive advantage; where neither is
better than the state's value, nothing ties the actor.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from policies.critic import Ensemble
from policies.generator import Scene
from policies.td3 import Td3, Td3Config
from robot.core.errors import ConfigError
from robot.core.interface import Interface


@dataclass
class A2prConfig(Td3Config):
    latent: int
    """Numbers of the generator's latent."""
    weight: float
    """Of the generator's loss."""
    divergence: float
    """Weight of the latent's divergence from a standard normal."""


class A2pr(Td3):
    CLIP = 0.5
    """Largest latent that proposals are decoded from (BCQ, appendix B)."""

    def __init__(self, config: A2prConfig, interface: Interface) -> None:
        super().__init__(config, interface)
        if config.latent < 1 or min(config.weight, config.divergence) < 0:
            raise ConfigError(
                f"policy: latent={config.latent} must be at least 1, weight={config.weight} and divergence={config.divergence} "
                "not negative"
            )
        self.options = config
        size, width, layers = self.chunk * self.action_size, config.critics.width, config.critics.layers
        self.value = Ensemble(1, self.condition_size, width, layers, 1)
        self.encoder = Ensemble(1, self.condition_size + size, width, layers, 2 * config.latent)
        self.decoder = Ensemble(1, self.condition_size + config.latent, width, layers, size)

    def extra(self, batch: dict[str, Tensor], scene: Scene, after: Scene, did: Tensor) -> dict[str, Tensor]:
        """Losses of the state's value and of the generator."""
        value = self.value(scene.condition)[0, :, 0]
        with torch.no_grad():
            target = torch.minimum(self.critics(scene.condition, self.proposed(scene)).min(0).values, self.target(batch, after))
            good = (self.critics(scene.condition, did).mean(0) > value).float()
        mean, spread = self.encoder(torch.cat([scene.condition, did.flatten(1)], dim=1))[0].split(self.options.latent, dim=-1)
        spread = spread.clamp(-4.0, 2.0)
        decoded = self.decoded(scene, mean + spread.exp() * torch.randn_like(mean))
        missed = ((decoded - did) ** 2).mean((1, 2))
        divergence = (0.5 * (mean**2 + (2 * spread).exp() - 1) - spread).mean(1)
        model = (good * (missed + self.options.divergence * divergence)).sum() / good.sum().clamp_min(1.0)
        return {"state": ((value - target) ** 2).mean(), "model": self.options.weight * model}

    def decoded(self, scene: Scene, latent: Tensor) -> Tensor:
        """Chunks x (B, T, A) of latents (B, L)."""
        return self.decoder(torch.cat([scene.condition, latent], dim=1))[0].unflatten(1, (self.chunk, self.action_size))

    def tie(self, scene: Scene, did: Tensor, own: Tensor) -> Tensor:
        with torch.no_grad():
            latent = torch.randn(scene.condition.shape[0], self.options.latent).clamp(-self.CLIP, self.CLIP)
            proposal = self.decoded(scene, latent)
            value = self.value(scene.condition)[0, :, 0]
            gains = [self.critics(scene.condition, x).mean(0) - value for x in (proposal, did)]
            better = torch.where((gains[0] >= gains[1])[:, None, None], proposal, did)
            counts = (torch.maximum(*gains) > 0).float()
        return (counts * ((own - better) ** 2).mean((1, 2))).mean()
