"""Generators of trajectories from noise: diffusion, rectified flow, and regression as the degenerate case.

All three are driven by one network `denoise(x_t, t, condition)`; they differ in how `x_t` is made, in what the network is
asked for, and in how samples are drawn. Trajectories are (N, T, A), already scaled to about unit size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(x_t (N, T, A), t (N,) in [0, 1], 1 = pure noise) to the network's output (N, T, A)."""


class Kind(Enum):
    diffusion = "diffusion"
    flow = "flow"
    regression = "regression"


@dataclass
class GenerativeConfig:
    kind: Kind
    """diffusion (DDPM, epsilon prediction), flow (rectified flow, velocity prediction) or regression (no noise)."""
    train_steps: int
    """Noise levels of the diffusion in training; flow uses a continuum."""
    sample_steps: int
    """Network evaluations a sample; fewer than train_steps means DDIM for diffusion."""
    clip: float
    """Bound on the magnitude of scaled trajectories in diffusion sampling."""


class Generative(nn.Module):
    """Base and factory: `Generative.of(config)` gives the configured kind."""

    def __init__(self, config: GenerativeConfig) -> None:
        super().__init__()
        self.config = config

    @staticmethod
    def of(config: GenerativeConfig) -> "Generative":
        return {Kind.diffusion: Diffusion, Kind.flow: Flow, Kind.regression: Regression}[config.kind](config)

    def corrupt(self, clean: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The corrupted trajectory at time t (N,) and the target of the network."""
        raise NotImplementedError

    def recover(self, x: Tensor, output: Tensor, t: Tensor) -> Tensor:
        """The clean trajectory that the network's output at (x, t) implies."""
        raise NotImplementedError

    def times(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Random training times (count,)."""
        return torch.rand(count, generator=generator)

    def sample(self, denoise: Denoise, noise: Tensor) -> Tensor:
        """Draw trajectories from standard normal noise (N, T, A), deterministically."""
        raise NotImplementedError


class Flow(Generative):
    """Rectified flow (Liu et al., 2022): x_t = (1 - t) x_0 + t z, the network gives dx/dt = z - x_0, Euler integration."""

    def corrupt(self, clean, noise, t):
        t = t[:, None, None]
        return (1 - t) * clean + t * noise, noise - clean

    def recover(self, x, output, t):
        return x - t[:, None, None] * output

    def sample(self, denoise, noise):
        x, steps = noise, self.config.sample_steps
        for k in range(steps):
            t = torch.full((x.shape[0],), 1.0 - k / steps, dtype=x.dtype, device=x.device)
            x = x - denoise(x, t) / steps
        return x


class Regression(Generative):
    """The conditional mean by one evaluation on a zero trajectory: what diffusion is compared with."""

    def corrupt(self, clean, noise, t):
        return torch.zeros_like(clean), clean

    def recover(self, x, output, t):
        return output

    def times(self, count, generator=None):
        return torch.zeros(count)

    def sample(self, denoise, noise):
        return denoise(torch.zeros_like(noise), torch.zeros(noise.shape[0], dtype=noise.dtype, device=noise.device))


class Diffusion(Generative):
    """DDPM with a squared-cosine schedule and epsilon prediction; sampled by DDIM (eta = 0), so noise in decides all.

    The schedule is diffusers' DDIMScheduler's; the unrolled update below is tested against its `step`.
    """

    def __init__(self, config: GenerativeConfig) -> None:
        super().__init__(config)
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler

        self.scheduler = DDIMScheduler(
            config.train_steps, beta_schedule="squaredcos_cap_v2", clip_sample_range=config.clip, timestep_spacing="trailing"
        )
        self.register_buffer("alphas", self.scheduler.alphas_cumprod.clone(), persistent=False)
        self.scheduler.set_timesteps(config.sample_steps)
        self.schedule = [int(t) for t in self.scheduler.timesteps]

    def times(self, count, generator=None):
        steps = self.config.train_steps
        return torch.randint(steps, (count,), generator=generator).float() / steps

    def _alpha(self, t: Tensor) -> Tensor:
        index = (t * self.config.train_steps).round().long().clamp(0, self.config.train_steps - 1)
        return self.alphas[index][:, None, None]

    def corrupt(self, clean, noise, t):
        alpha = self._alpha(t)
        return alpha.sqrt() * clean + (1 - alpha).sqrt() * noise, noise

    def recover(self, x, output, t):
        alpha = self._alpha(t)
        return (x - (1 - alpha).sqrt() * output) / alpha.sqrt()

    def sample(self, denoise, noise):
        x, clip = noise, self.config.clip
        for k, step in enumerate(self.schedule):
            t = torch.full((x.shape[0],), step / self.config.train_steps, dtype=x.dtype, device=x.device)
            alpha = float(self.alphas[step])
            clean = ((x - (1 - alpha) ** 0.5 * denoise(x, t)) / alpha**0.5).clamp(-clip, clip)
            after = float(self.alphas[self.schedule[k + 1]]) if k + 1 < len(self.schedule) else 1.0
            direction = (x - alpha**0.5 * clean) / max((1 - alpha) ** 0.5, 1e-6)
            x = after**0.5 * clean + (1 - after) ** 0.5 * direction
        return x
